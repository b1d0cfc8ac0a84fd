//! Lines out of a byte stream, with a bound, and one may stop waiting at any moment without losing a byte.

use std::io;

use thrum_core::limits;
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much room is made for one read. A usual request has a few hundred bytes.
const CHUNK: usize = 8 << 10;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end.
    Text(Vec<u8>),
    /// More than [`limits::MAX_LINE_BYTES`] without an end; nothing after it can be told apart.
    TooLong,
    /// No more will come. What stood behind the last line end is lost with it, as half of a request means nothing.
    End,
}

/// Reads lines; cancelling [`next`](Self::next) or [`ended`](Self::ended) loses nothing.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// No line ends before this position.
    searched: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), searched: 0, ended: false }
    }

    /// The next line.
    pub(crate) async fn next(&mut self) -> io::Result<Line> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                return Ok(Line::Text(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > limits::MAX_LINE_BYTES {
                return Ok(Line::TooLong);
            }
            if self.ended {
                return Ok(Line::End);
            }
            self.read().await?;
        }
    }

    /// Resolves when the other side has sent its last byte, reading ahead until then; never, if it has sent so much ahead
    /// that no more is taken in before the lines are.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        while !self.ended {
            if self.buffer.len() > limits::MAX_LINE_BYTES {
                std::future::pending::<()>().await;
            }
            self.read().await?;
        }
        Ok(())
    }

    /// The stream that is read.
    pub(crate) fn source(&self) -> &R {
        &self.source
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(CHUNK);
        // Bytes are either in the buffer or not read: this is the only await.
        self.ended = self.source.read_buf(&mut self.buffer).await? == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn lines_come_whole_however_they_were_cut() {
        let (mut client, server) = duplex(64);
        let mut lines = Lines::new(server);
        client.write_all(b"one\ntw").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), Line::Text(b"one".to_vec()));
        {
            let waiting = lines.next();
            tokio::pin!(waiting);
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx))).await.is_pending());
        }
        client.write_all(b"o\r\n\nthree").await.unwrap();
        drop(client);
        lines.ended().await.unwrap();
        assert_eq!(lines.next().await.unwrap(), Line::Text(b"two\r".to_vec()));
        assert_eq!(lines.next().await.unwrap(), Line::Text(Vec::new()));
        assert_eq!(lines.next().await.unwrap(), Line::End);
        assert_eq!(lines.next().await.unwrap(), Line::End);
    }

    #[tokio::test]
    async fn c17_a_line_without_an_end_is_given_up_at_the_bound() {
        let endless = tokio::io::repeat(b'x');
        let mut lines = Lines::new(endless);
        assert_eq!(lines.next().await.unwrap(), Line::TooLong);
        assert!(lines.buffer.len() <= 2 * limits::MAX_LINE_BYTES);
    }
}
