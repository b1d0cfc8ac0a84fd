//! The connection to the daemon: newline-delimited JSON-RPC 2.0 on a Unix socket, blocking, with a bound on every wait.
//!
//! A call has three outcomes: an answer, a refusal, or a broken connection ([`Lost`]), after which it is unknown
//! whether the request took effect. Callers whose requests may be repeated (a send with its idempotency key, a wait)
//! use [`Client::attempt`] and retry; all other callers get a `try_again` error.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use thrum_core::{Error, ErrorKind, Retry, limits};
use thrum_daemon::sandbox;

use crate::{answers::Health, go_daemon};

/// How long a command waits for an answer: the daemon's own limit, and a margin for the transport.
const ANSWER: Duration = limits::LOCAL_CALL.saturating_add(limits::DIAL);

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    last_id: u64,
    /// The current read timeout, as set on the socket; `None` before the first read.
    patience: Option<Duration>,
    /// When all calls end; `None` for no limit but that of each call.
    deadline: Option<Instant>,
}

/// The connection broke or timed out, or the answer was not understood; it is unknown whether the request took effect.
#[derive(Debug)]
pub(crate) struct Lost(io::Error);

impl From<Lost> for Error {
    fn from(Lost(error): Lost) -> Self {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "did not answer in time".to_owned(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                "closed the connection before it answered".to_owned()
            }
            _ => format!("cannot be understood: {error}"),
        };
        Self::new(ErrorKind::TryAgain, format!("the daemon {why}")).hint("See `thrum daemon logs`.")
    }
}

#[derive(Serialize)]
struct Request<'a, P> {
    jsonrpc: &'a str,
    id: u64,
    method: &'a str,
    params: P,
}

/// The parts of a line from the daemon that the client reads.
#[derive(Deserialize)]
struct ResponseLine {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<RpcError>,
    #[serde(default)]
    params: Option<Box<RawValue>>,
}

/// Parses a part of a line; a missing part is parsed as `null`.
fn read<T: DeserializeOwned>(held: Option<Box<RawValue>>) -> serde_json::Result<T> {
    serde_json::from_str(held.as_ref().map_or("null", |held| held.get()))
}

#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
    #[serde(default)]
    data: Value,
}

impl Client {
    /// Connects to the socket at `path`. [`nobody_listens`] determines from the error whether a daemon is running.
    pub(crate) fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_write_timeout(Some(ANSWER))?;
        Ok(Self { stream: BufReader::new(stream), last_id: 0, patience: None, deadline: None })
    }

    /// Makes all calls end at `deadline`, for a caller that does not need the answer.
    pub(crate) fn until(self, deadline: Instant) -> Self {
        Self { deadline: Some(deadline), ..self }
    }

    /// The underlying stream.
    pub(crate) fn connection(&self) -> &UnixStream {
        self.stream.get_ref()
    }

    /// Calls a method that answers immediately.
    pub(crate) fn call<T: DeserializeOwned>(&mut self, method: &str, params: impl Serialize) -> Result<T, Error> {
        self.call_within(Duration::ZERO, method, params)
    }

    /// Calls a method that may take up to `within` before it answers.
    pub(crate) fn call_within<T: DeserializeOwned>(
        &mut self,
        within: Duration,
        method: &str,
        params: impl Serialize,
    ) -> Result<T, Error> {
        self.attempt(within, method, params)?
    }

    /// Calls a method. The result distinguishes a refusal from a broken connection.
    pub(crate) fn attempt<T: DeserializeOwned>(
        &mut self,
        within: Duration,
        method: &str,
        params: impl Serialize,
    ) -> Result<Result<T, Error>, Lost> {
        let deadline = Instant::now() + within.saturating_add(ANSWER);
        let deadline = self.deadline.map_or(deadline, |limit| limit.min(deadline));
        self.last_id += 1;
        let id = self.last_id;
        let request = serde_json::to_string(&Request { jsonrpc: "2.0", id, method, params });
        let mut request = request.map_err(|error| Lost(error.into()))?;
        request.push('\n');
        let sent = self.stream.get_mut().write_all(request.as_bytes());
        // A daemon that refuses a connection sends the reason before it closes the connection, so read an answer even
        // if the write failed.
        let line = match (self.read_line(deadline), sent) {
            (Ok(line), _) => line,
            (Err(_), Err(error)) | (Err(error), Ok(())) => return Err(Lost(error)),
        };
        if let Some(error) = line.error {
            let error = to_error(method, error);
            let other_version = method != HEALTH && is_unknown_method(&error);
            return Ok(Err(if other_version { self.or_of_go(error) } else { error }));
        }
        if line.id != id {
            return Err(Lost(io::Error::new(io::ErrorKind::InvalidData, "it answered another question")));
        }
        Ok(read(line.result).map_err(|error| {
            let error =
                Error::new(ErrorKind::Failed, format!("the daemon's answer to {method} cannot be read: {error}"))
                    .hint("If it runs another version: thrum daemon restart");
            if method == HEALTH { error } else { self.or_of_go(error) }
        }))
    }

    /// Returns the error, with different advice if the running daemon is one of Go Thrum.
    fn or_of_go(&mut self, error: Error) -> Error {
        match self
            .call::<Value>(HEALTH, json!({}))
            .ok()
            .and_then(|health| serde_json::from_value::<Health>(health).ok())
        {
            Some(health) if go_daemon::answers(&health) => {
                let text = error.message.replace("it is of another version than this command", "it is one of Go Thrum");
                Error {
                    message: text,
                    ..error.hint(format!("To change over, in the main worktree: {}", go_daemon::CHANGE_OVER))
                }
            }
            _ => error,
        }
    }

    /// Waits for the next notification after `events.watch` and returns its parameters.
    pub(crate) fn next_notification<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T, Error> {
        let line = self.read_line(Instant::now() + within).map_err(Lost)?;
        read(line.params).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("a notification of the daemon cannot be read: {error}"))
        })
    }

    /// Sets the read timeout to about `left`. Small changes are skipped to save the system call: most calls of a
    /// connection use the same timeout.
    fn be_patient(&mut self, left: Duration) -> io::Result<()> {
        let near = left / 10;
        if self.patience.is_none_or(|patience| patience.abs_diff(left) > near) {
            self.stream.get_ref().set_read_timeout(Some(left))?;
            self.patience = Some(left);
        }
        Ok(())
    }

    fn read_line(&mut self, deadline: Instant) -> io::Result<ResponseLine> {
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.be_patient(left)?;
            let chunk = match self.stream.fill_buf() {
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                    continue;
                }
                chunk => chunk?,
            };
            if chunk.is_empty() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(chunk.len(), |end| end + 1);
            line.extend_from_slice(&chunk[..used]);
            self.stream.consume(used);
            if line.len() > limits::MAX_LINE_BYTES {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line has no end"));
            }
            if end.is_some() {
                return serde_json::from_slice(&line).map_err(io::Error::from);
            }
        }
    }
}

/// Returns `true` if an error of [`Client::connect`] means that no daemon is running.
pub(crate) fn nobody_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// The error for a connection that failed although a daemon may be running.
pub(crate) fn cannot_connect(path: &Path, cause: &io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Refused,
        io::ErrorKind::InvalidInput => ErrorKind::Invalid,
        _ => ErrorKind::Unavailable,
    };
    let error = Error::new(kind, format!("cannot connect to the daemon at {}: {cause}", path.display()));
    match sandbox::hint(cause) {
        Some(hint) => error.hint(hint),
        None if kind == ErrorKind::Refused => {
            error.hint("Check who owns the socket: only the user who runs the daemon may use it.")
        }
        None => error,
    }
}

/// A method that every daemon has, Go Thrum's included.
const HEALTH: &str = "health";

/// How the error for a method begins that the daemon does not know.
const UNKNOWN_METHOD: &str = "the running daemon does not know ";

/// Returns `true` if an error of a call means that the daemon does not know the method.
pub(crate) fn is_unknown_method(error: &Error) -> bool {
    error.kind == ErrorKind::Failed && error.message.starts_with(UNKNOWN_METHOD)
}

fn to_error(method: &str, answer: RpcError) -> Error {
    const METHOD_NOT_FOUND: i64 = -32601;
    if answer.code == METHOD_NOT_FOUND {
        return Error::new(
            ErrorKind::Failed,
            format!("{UNKNOWN_METHOD}{method}; it is of another version than this command"),
        )
        .hint("thrum daemon restart");
    }
    let kind = serde_json::from_value(answer.data["kind"].clone()).unwrap_or(ErrorKind::Failed);
    let mut error = Error::new(kind, answer.message);
    error.hint = answer.data["hint"].as_str().map(str::to_owned);
    if let Some(retryable) = answer.data["retryable"].as_bool() {
        error.retry = if retryable { Retry::Useful } else { Retry::Useless };
    }
    error
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// A daemon that answers every line with `answer`.
    fn daemon(answer: &'static [u8]) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(_)) = lines.next() {
                (&stream).write_all(answer).unwrap();
                if answer.is_empty() {
                    return;
                }
            }
        });
        let client = Client::connect(&path).unwrap();
        (dir, client)
    }

    #[test]
    fn an_error_of_the_daemon_keeps_its_kind_hint_and_whether_to_retry() {
        let (_dir, mut client) = daemon(
            br#"{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no","data":{"kind":"not_found","hint":"look","retryable":true}}}
"#,
        );
        let error = client.call::<Value>("x", json!({})).unwrap_err();
        let expected =
            Error { kind: ErrorKind::NotFound, message: "no".into(), hint: Some("look".into()), retry: Retry::Useful };
        assert_eq!(error, expected);
    }

    #[test]
    fn an_error_without_data_as_go_gives_it_is_a_failure() {
        let (_dir, mut client) =
            daemon(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32000,\"message\":\"no\"}}\n");
        assert_eq!(client.call::<Value>("x", json!({})).unwrap_err(), Error::new(ErrorKind::Failed, "no"));
    }

    #[test]
    fn a_method_the_daemon_does_not_know_means_another_version() {
        let (_dir, mut client) = daemon(
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601,\"message\":\"Method not found\",\"data\":\"method 'x' is not registered\"}}\n",
        );
        let error = client.call::<Value>("x", json!({})).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("thrum daemon restart"));
        assert!(is_unknown_method(&error), "{error}");
    }

    #[test]
    fn a_connection_that_breaks_before_the_answer_is_no_refusal() {
        let (_dir, mut client) = daemon(b"");
        assert!(client.attempt::<Value>(Duration::ZERO, "x", json!({})).is_err());
    }

    #[test]
    fn an_answer_that_is_no_json_or_not_ours_is_a_clear_error() {
        for answer in [b"HTTP/1.1 400 Bad Request\n".as_slice(), b"{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n"] {
            let (_dir, mut client) = daemon(answer);
            let error = client.call::<Value>("x", json!({})).unwrap_err();
            assert_eq!(error.kind, ErrorKind::TryAgain);
            assert!(error.message.contains("cannot be understood"), "{error}");
        }
    }
}
