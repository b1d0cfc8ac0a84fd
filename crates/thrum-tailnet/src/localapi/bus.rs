//! The notification stream of a `tailscaled`.

use http_body_util::BodyExt;
use hyper::body::Incoming;
use thrum_core::limits::MAX_LOCALAPI_NOTICE_BYTES;

use super::{ApiError, answers::Notice};

/// A stream of JSON lines that lasts as long as `tailscaled` does. Dropping it closes the stream.
#[derive(Debug)]
pub struct Bus {
    body: Incoming,
    lines: Lines,
}

impl Bus {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, lines: Lines::default() }
    }

    /// Waits for the next notice. Cancel-safe.
    ///
    /// # Errors
    /// The stream has ended or broken, usually because `tailscaled` has ended.
    pub async fn next(&mut self) -> Result<Notice, ApiError> {
        loop {
            if let Some(notice) = self.lines.next() {
                return Ok(notice);
            }
            let frame =
                self.body.frame().await.ok_or(ApiError::Ended)?.map_err(|error| ApiError::Broken(error.to_string()))?;
            if let Ok(data) = frame.into_data() {
                self.lines.push(&data);
            }
        }
    }
}

/// Splits bytes into lines and parses each as a [`Notice`]. A line that is invalid or longer than
/// [`MAX_LOCALAPI_NOTICE_BYTES`] becomes an empty notice.
#[derive(Debug, Default)]
struct Lines {
    line: Vec<u8>,
    too_long: bool,
    whole: std::collections::VecDeque<Notice>,
}

impl Lines {
    fn push(&mut self, mut data: &[u8]) {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            self.keep(&data[..end]);
            // Such a line still means that something changed.
            let notice = serde_json::from_slice(&self.line).unwrap_or_default();
            self.whole.push_back(notice);
            self.line.clear();
            self.too_long = false;
            data = &data[end + 1..];
        }
        self.keep(data);
    }

    fn keep(&mut self, part: &[u8]) {
        if self.too_long || self.line.len() + part.len() > MAX_LOCALAPI_NOTICE_BYTES {
            self.too_long = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn next(&mut self) -> Option<Notice> {
        self.whole.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_however_they_are_cut_and_one_that_is_too_long_still_says_that_something_changed() {
        let mut lines = Lines::default();
        lines.push(br#"{"ErrMessage":"inv"#);
        assert_eq!(lines.next(), None);
        lines.push(b"alid authkey\",\"State\":null}\n{\"State\":6}\n{\"NetMap\":\"");
        assert_eq!(lines.next(), Some(Notice { err_message: Some("invalid authkey".into()), state: None }));
        assert_eq!(lines.next(), Some(Notice { err_message: None, state: Some(6) }));
        for _ in 0..3 {
            lines.push(&vec![b'x'; MAX_LOCALAPI_NOTICE_BYTES]);
            assert!(lines.line.len() <= MAX_LOCALAPI_NOTICE_BYTES);
        }
        lines.push(b"\"}\n{\"State\":4}\n");
        assert_eq!(lines.next(), Some(Notice::default()));
        assert_eq!(lines.next(), Some(Notice { err_message: None, state: Some(4) }));
    }
}
