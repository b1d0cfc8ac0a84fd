//! Reads and writes lines over a connection, with bounds on length and time, and switches a connection to encryption.

use std::{io, time::Duration};

use thrum_core::limits;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf, split},
    time::timeout,
};

use crate::{
    encrypted::{Encrypted, Keys},
    transport::Conn,
};

/// Why a line could not be read. The connection is unusable afterwards.
#[derive(Debug, thiserror::Error)]
pub enum NoLine {
    /// The other side closed the connection between two lines.
    #[error("the connection was closed")]
    Closed,
    /// The other side closed the connection in the middle of a line.
    #[error("the connection was closed in the middle of a line")]
    Cut,
    /// No byte arrived in time.
    #[error("silence for {0:?}")]
    Idle(Duration),
    /// A line began but did not end in time.
    #[error("a line that did not end within {0:?}")]
    Slow(Duration),
    /// The line exceeds the limit. The rest was not read.
    #[error("a line of more than {0} bytes")]
    TooLong(usize),
    /// The other side sent something without a request.
    #[error("it spoke without being asked")]
    Unsolicited,
    /// The network failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The reading half of a connection: one line at a time.
pub struct Lines<R> {
    reader: BufReader<R>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads lines from `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader) }
    }

    /// Reads the next line, without its end. Waits `idle` for its first byte and `line` for the rest; a line of more
    /// than `limit` bytes is an error.
    ///
    /// # Errors
    /// [`NoLine`]. Must not be called again after an error or a cancellation.
    pub async fn next(&mut self, limit: usize, idle: Duration, line: Duration) -> Result<Vec<u8>, NoLine> {
        self.next_within(limit, idle, line, usize::MAX).await
    }

    /// Reads a line that may be long and slow: like [`next`](Self::next), but `line` bounds the time for each `step`
    /// bytes.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn next_slow(
        &mut self,
        limit: usize,
        idle: Duration,
        line: Duration,
        step: usize,
    ) -> Result<Vec<u8>, NoLine> {
        self.next_within(limit, idle, line, step).await
    }

    /// Reads a line that may exceed `limit`. Returns its first `limit` bytes and its total length. The rest is
    /// discarded. A line that has not ended after more than `most` bytes is an error, and `line` is the time for each
    /// `step` bytes.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn next_cut(
        &mut self,
        limit: usize,
        most: usize,
        idle: Duration,
        line: Duration,
        step: usize,
    ) -> Result<(Vec<u8>, usize), NoLine> {
        self.begins(idle).await?;
        let (mut text, mut length) = (Vec::new(), 0);
        loop {
            let mut part = Vec::new();
            let ended =
                timeout(line, self.more(&mut part, usize::MAX, step)).await.unwrap_or(Err(NoLine::Slow(line)))?;
            length += part.len();
            part.truncate(limit - text.len());
            text.append(&mut part);
            if ended {
                return Ok((text, length));
            }
            if length > most {
                return Err(NoLine::TooLong(most));
            }
        }
    }

    async fn next_within(
        &mut self,
        limit: usize,
        idle: Duration,
        within: Duration,
        step: usize,
    ) -> Result<Vec<u8>, NoLine> {
        self.begins(idle).await?;
        let mut text = Vec::new();
        loop {
            let enough = text.len().saturating_add(step);
            let ended =
                timeout(within, self.more(&mut text, limit, enough)).await.unwrap_or(Err(NoLine::Slow(within)))?;
            if ended {
                return Ok(text);
            }
        }
    }

    /// Fills `bytes` from the connection, within `within`.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn exactly(&mut self, bytes: &mut [u8], within: Duration) -> Result<(), NoLine> {
        timeout(within, self.reader.read_exact(bytes)).await.map_err(|_| NoLine::Slow(within))??;
        Ok(())
    }

    /// Waits at most `within` for the first byte of the next line, without consuming it.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn begins(&mut self, within: Duration) -> Result<(), NoLine> {
        if timeout(within, self.reader.fill_buf()).await.map_err(|_| NoLine::Idle(within))??.is_empty() {
            return Err(NoLine::Closed);
        }
        Ok(())
    }

    /// Waits until the other side closes, or sends an unsolicited byte. Cancel-safe.
    pub async fn unsolicited(&mut self) -> NoLine {
        match self.reader.fill_buf().await {
            Ok([]) => NoLine::Closed,
            Ok(_) => NoLine::Unsolicited,
            Err(error) => NoLine::Io(error),
        }
    }

    /// Reads until the line ends or has `enough` bytes. Returns `true` if the line has ended.
    async fn more(&mut self, text: &mut Vec<u8>, limit: usize, enough: usize) -> Result<bool, NoLine> {
        while text.len() < enough {
            let bytes = self.reader.fill_buf().await?;
            if bytes.is_empty() {
                return Err(NoLine::Cut);
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(bytes.len());
            if text.len() + taken > limit {
                return Err(NoLine::TooLong(limit));
            }
            text.extend_from_slice(&bytes[..taken]);
            let consumed = taken + usize::from(end.is_some());
            self.reader.consume(consumed);
            if end.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Writes one line and its end. Each [`limits::SLOW_BYTES`] must be written within `within`.
///
/// # Errors
/// `TimedOut`, or those of the network. The connection is unusable afterwards.
pub async fn write_line<W: AsyncWrite + Unpin>(writer: &mut W, line: &str, within: Duration) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::TimedOut, "writing took too long");
    // The line and its end in one buffer, so that a short line fits into one packet.
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    for part in bytes.chunks(limits::SLOW_BYTES) {
        timeout(within, writer.write_all(part)).await.map_err(|_| too_long())??;
    }
    timeout(within, writer.flush()).await.map_err(|_| too_long())?
}

/// Encrypts a connection whose handshake is complete.
///
/// # Errors
/// [`NoLine::Unsolicited`] if the other side has already sent more than its message of the handshake.
pub fn encrypt((lines, writer): Halves, keys: Keys) -> Result<Halves, NoLine> {
    if !lines.reader.buffer().is_empty() {
        return Err(NoLine::Unsolicited);
    }
    let conn = lines.reader.into_inner().unsplit(writer);
    Ok(halves(Box::new(Encrypted::new(conn, keys))))
}

/// Both halves of a connection. Bytes read ahead stay in the first half.
pub type Halves = (Lines<ReadHalf<Conn>>, WriteHalf<Conn>);

/// Splits a connection into its halves.
pub fn halves(conn: Conn) -> Halves {
    let (reader, writer) = split(conn);
    (Lines::new(reader), writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(10);

    #[tokio::test]
    async fn lines_come_one_by_one_however_they_were_cut() {
        let mut lines = Lines::new(&b"one\n\ntwo\r\nrest"[..]);
        assert_eq!(lines.next(10, LONG, LONG).await.unwrap(), b"one");
        assert_eq!(lines.next(10, LONG, LONG).await.unwrap(), b"");
        assert_eq!(lines.next(10, LONG, LONG).await.unwrap(), b"two\r");
        assert!(matches!(lines.next(10, LONG, LONG).await, Err(NoLine::Cut)));
        assert!(matches!(Lines::new(&b""[..]).next(10, LONG, LONG).await, Err(NoLine::Closed)));
    }

    #[tokio::test]
    async fn the_limit_is_exact() {
        assert!(Lines::new(&b"12345\n"[..]).next(5, LONG, LONG).await.is_ok());
        assert!(matches!(Lines::new(&b"123456\n"[..]).next(5, LONG, LONG).await, Err(NoLine::TooLong(5))));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_can_be_read_past() {
        for step in [1, 3, 100] {
            let mut lines = Lines::new(
                &b"123456789
next
and a third"[..],
            );
            assert_eq!(lines.next_cut(4, 9, LONG, LONG, step).await.unwrap(), (b"1234".to_vec(), 9));
            assert_eq!(lines.next_cut(4, 9, LONG, LONG, step).await.unwrap(), (b"next".to_vec(), 4));
            assert!(matches!(lines.next_cut(4, 9, LONG, LONG, step).await, Err(NoLine::TooLong(9) | NoLine::Cut)));
        }
        let endless = tokio::io::repeat(b'x');
        assert!(matches!(Lines::new(endless).next_cut(4, 1 << 20, LONG, LONG, 1000).await, Err(NoLine::TooLong(_))));
    }

    /// Hostile input (C18 in docs/security.md): the input is endless; only the limit of the line ends this test.
    #[tokio::test]
    async fn a_line_without_end_is_given_up_at_the_limit() {
        let endless = tokio::io::repeat(b'x');
        assert!(matches!(Lines::new(endless).next(1 << 20, LONG, LONG).await, Err(NoLine::TooLong(_))));
    }

    /// Hostile timing (C17 in docs/security.md): silence, and a line that is sent or read too slowly.
    #[tokio::test(start_paused = true)]
    async fn silence_and_a_line_byte_by_byte_both_end() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let mut lines = Lines::new(theirs);
        assert!(matches!(lines.next(10, SHORT, LONG).await, Err(NoLine::Idle(_))));
        ours.write_all(b"x").await.unwrap();
        assert!(matches!(lines.next(10, LONG, SHORT).await, Err(NoLine::Slow(_))));
        let full = write_line(&mut ours, &"y".repeat(1000), SHORT).await;
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::TimedOut, "a reader that does not read");
    }

    /// C17 in docs/security.md: a line at the minimum rate is read, however long it takes. A slower line is not.
    #[tokio::test(start_paused = true)]
    async fn a_long_line_may_take_as_long_as_it_makes_progress() {
        let text = "z".repeat(100 * 1000);
        for (pause, through) in [(9, true), (11, false)] {
            let (mut ours, theirs) = tokio::io::duplex(1 << 20);
            let mut lines = Lines::new(theirs);
            let written = async {
                for part in format!("{text}\n").as_bytes().chunks(1000) {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                    if ours.write_all(part).await.is_err() {
                        return;
                    }
                }
            };
            // The minimum rate is a thousand bytes per ten milliseconds.
            let (read, ()) = tokio::join!(
                async {
                    let read = lines.next_slow(1 << 20, LONG, SHORT * 10, 10_000).await;
                    drop(lines);
                    read
                },
                written
            );
            match read {
                Ok(line) => assert!(through && line == text.as_bytes()),
                Err(NoLine::Slow(_)) => assert!(!through),
                Err(other) => panic!("{other}"),
            }
        }
    }

    /// C17 in docs/security.md: writing has a minimum rate, too.
    #[tokio::test(start_paused = true)]
    async fn a_long_line_is_written_as_long_as_it_is_read() {
        for (pause, through) in [(400, true), (1100, false)] {
            let (mut ours, mut theirs) = tokio::io::duplex(1 << 10);
            let read = async {
                let mut part = vec![0; limits::SLOW_BYTES / 100];
                while theirs.read_exact(&mut part).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
            };
            let line = "y".repeat(limits::SLOW_BYTES * 4);
            // Each read takes a hundredth of a step, so that a step takes 40 s or 110 s. The limit is 60 s.
            let write = async {
                let written = write_line(&mut ours, &line, Duration::from_secs(60)).await;
                drop(ours);
                written
            };
            let (written, ()) = tokio::join!(write, read);
            assert_eq!(written.is_ok(), through, "{written:?}");
        }
    }
}
