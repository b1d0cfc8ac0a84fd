//! Lines over a connection: bounded in length and in time, nothing else.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf, split},
    time::timeout,
};

use crate::transport::Conn;

/// Why there is no line. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum NoLine {
    /// The other side closed between two lines.
    #[error("the connection was closed")]
    Closed,
    /// The other side closed in the middle of a line.
    #[error("the connection was closed in the middle of a line")]
    Cut,
    /// No byte came in time.
    #[error("silence for {0:?}")]
    Idle(Duration),
    /// A line began and did not end in time.
    #[error("a line that did not end within {0:?}")]
    Slow(Duration),
    /// The line is longer than allowed; the rest was not read.
    #[error("a line of more than {0} bytes")]
    TooLong(usize),
    /// The network.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The reading half: one line at a time.
pub struct Lines<R> {
    reader: BufReader<R>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads lines from `reader`.
    pub fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader) }
    }

    /// The next line without its end. Waits `idle` for its first byte and `line` for the rest; holds at most `limit` bytes.
    ///
    /// # Errors
    /// [`NoLine`]. Not to be called again then, nor after being cancelled.
    pub async fn next(&mut self, limit: usize, idle: Duration, line: Duration) -> Result<Vec<u8>, NoLine> {
        if timeout(idle, self.reader.fill_buf()).await.map_err(|_| NoLine::Idle(idle))??.is_empty() {
            return Err(NoLine::Closed);
        }
        timeout(line, self.rest(limit)).await.unwrap_or(Err(NoLine::Slow(line)))
    }

    /// Waits until the other side closes or says something that nobody asked for. May be cancelled.
    pub async fn unasked(&mut self) -> NoLine {
        match self.reader.fill_buf().await {
            Ok([]) => NoLine::Closed,
            Ok(_) => NoLine::Io(io::Error::new(io::ErrorKind::InvalidData, "it spoke without being asked")),
            Err(error) => NoLine::Io(error),
        }
    }

    async fn rest(&mut self, limit: usize) -> Result<Vec<u8>, NoLine> {
        let mut text = Vec::new();
        loop {
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
                return Ok(text);
            }
        }
    }
}

/// Writes one line and its end within `within`.
///
/// # Errors
/// `TimedOut`, or the network's. The connection is of no use afterwards.
pub async fn write_line<W: AsyncWrite + Unpin>(writer: &mut W, line: &str, within: Duration) -> io::Result<()> {
    let write = async {
        // One write, so that one packet carries a short line.
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    timeout(within, write).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "writing took too long")))
}

/// Both halves of a connection.
pub fn halves(conn: Conn) -> (Lines<ReadHalf<Conn>>, WriteHalf<Conn>) {
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

    /// C18: the reader is endless; only a bound in the reader ends this test.
    #[tokio::test]
    async fn a_line_without_end_is_given_up_at_the_limit() {
        let endless = tokio::io::repeat(b'x');
        assert!(matches!(Lines::new(endless).next(1 << 20, LONG, LONG).await, Err(NoLine::TooLong(_))));
    }

    /// C17
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
}
