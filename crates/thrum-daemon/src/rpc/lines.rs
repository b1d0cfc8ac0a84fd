//! Reads lines from a byte stream, with a size bound. A read can be cancelled at any moment without losing a byte.

use std::io;

use thrum_core::limits;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Buffer space reserved for one read. A usual request has a few hundred bytes.
const CHUNK: usize = 8 << 10;

/// The result of reading a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReadLine {
    /// A line without its line break.
    Text(Vec<u8>),
    /// More than [`limits::MAX_LINE_BYTES`] without a line break; anything after it cannot be parsed.
    TooLong,
    /// The end of the stream. Bytes after the last line break are discarded, because half a request means nothing.
    End,
}

/// Reads lines; cancelling [`next`](Self::next) or [`ended`](Self::ended) loses nothing.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// The bytes before this position contain no line break.
    searched: usize,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), searched: 0, ended: false }
    }

    /// Returns the next line.
    pub(crate) async fn next(&mut self) -> io::Result<ReadLine> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(self.searched + at + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                return Ok(ReadLine::Text(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > limits::MAX_LINE_BYTES {
                return Ok(ReadLine::TooLong);
            }
            if self.ended {
                return Ok(ReadLine::End);
            }
            self.read().await?;
        }
    }

    /// Reads ahead until the other side has sent its last byte, and then resolves. Never resolves if the buffer fills
    /// up with unread lines first.
    pub(crate) async fn ended(&mut self) -> io::Result<()> {
        while !self.ended {
            if self.buffer.len() > limits::MAX_LINE_BYTES {
                std::future::pending::<()>().await;
            }
            self.read().await?;
        }
        Ok(())
    }

    /// Returns the underlying stream.
    pub(crate) fn source(&self) -> &R {
        &self.source
    }

    async fn read(&mut self) -> io::Result<()> {
        self.buffer.reserve(CHUNK);
        // This is the only await, so every byte is either in the buffer or not yet read.
        self.ended = self.source.read_buf(&mut self.buffer).await? == 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn lines_are_whole_however_the_stream_was_split() {
        let (mut client, server) = duplex(64);
        let mut lines = Lines::new(server);
        client.write_all(b"one\ntw").await.unwrap();
        assert_eq!(lines.next().await.unwrap(), ReadLine::Text(b"one".to_vec()));
        {
            let waiting = lines.next();
            tokio::pin!(waiting);
            assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx))).await.is_pending());
        }
        client.write_all(b"o\r\n\nthree").await.unwrap();
        drop(client);
        lines.ended().await.unwrap();
        assert_eq!(lines.next().await.unwrap(), ReadLine::Text(b"two\r".to_vec()));
        assert_eq!(lines.next().await.unwrap(), ReadLine::Text(Vec::new()));
        assert_eq!(lines.next().await.unwrap(), ReadLine::End);
        assert_eq!(lines.next().await.unwrap(), ReadLine::End);
    }

    #[tokio::test]
    async fn c17_an_endless_line_is_abandoned_at_the_bound() {
        let endless = tokio::io::repeat(b'x');
        let mut lines = Lines::new(endless);
        assert_eq!(lines.next().await.unwrap(), ReadLine::TooLong);
        assert!(lines.buffer.len() <= 2 * limits::MAX_LINE_BYTES);
    }
}
