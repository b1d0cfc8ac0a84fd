//! Serves one client: answers its requests in the order of their arrival.
//!
//! A prompt call may take [`limits::LOCAL_CALL`]; what it stores stays stored, whether or not the client waits for the
//! answer. A long call (such as a wait, a pairing or an import) has no time bound here and is dropped as soon as its
//! client is gone or the daemon stops. Clients may send several requests at once. The daemon takes each one up only
//! when its turn comes; until then it waits in the buffers of the socket and of [`Lines`].

use std::{future::Future, io, sync::Arc, time::Duration};

use serde_json::value::RawValue;
use thrum_core::{Error, ErrorKind, limits};
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::timeout,
};

use super::{
    envelope::{self, Call, Params, RpcError},
    lines::{Lines, ReadLine},
};
use crate::shutdown::Shutdown;

/// Interval for checking a client that has closed only its writing half: the system does not report when the other half
/// is closed.
const HALF_CLOSED_CHECK: Duration = Duration::from_secs(1);

/// Maximum bytes of a result: the maximum line less the envelope around the result.
const MOST: usize = limits::MAX_LINE_BYTES - (64 << 10);

/// Largest result, in bytes, that is copied into its line. The line of a larger result is written in parts.
const LARGE: usize = 64 << 10;

/// The methods that clients can call.
pub(crate) trait Service: Send + Sync + 'static {
    /// Returns the time bound of a method; `None` if the method does not exist.
    fn time_bound(&self, method: &str) -> Option<TimeBound>;

    /// Executes a call. Dropping the future abandons the call.
    fn call(&self, method: &str, params: &Params, kept: &mut Kept)
    -> impl Future<Output = Result<Reply, Error>> + Send;
}

/// The time bound of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeBound {
    /// Answered within [`limits::LOCAL_CALL`].
    Prompt,
    /// Not limited here; the method itself decides when to answer.
    Long,
}

/// The outcome of a call.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A result.
    Answer(Box<RawValue>),
    /// A result; afterwards the connection carries only these lines, until the sender is dropped.
    Stream(Box<RawValue>, mpsc::Receiver<String>),
}

/// State of one connection: the process that opened it, and guards that live as long as it does.
#[derive(Default)]
pub(crate) struct Kept {
    process: Option<i32>,
    guards: Vec<Box<dyn Send>>,
}

impl Kept {
    /// Keeps `guard` until the connection ends.
    pub(crate) fn keep(&mut self, guard: impl Send + 'static) {
        self.guards.push(Box::new(guard));
    }

    /// Returns the id of the process that connected; `None` if the kernel does not report it.
    pub(crate) fn process(&self) -> Option<i32> {
        self.process
    }
}

/// Serves one client until it disconnects, is idle for too long, sends a line beyond [`limits::MAX_LINE_BYTES`] or does
/// not read its answers, or until the daemon stops.
pub(crate) async fn serve<S: Service>(stream: UnixStream, service: Arc<S>, shutdown: Shutdown) {
    let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (reader, writer) = stream.into_split();
    let kept = Kept { process, guards: Vec::new() };
    let mut connection = Connection { lines: Lines::new(reader), writer, service, shutdown, kept };
    // A write error means that the client is gone, so the error is not reported.
    let _ = connection.run().await;
}

struct Connection<S> {
    lines: Lines<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    service: Arc<S>,
    shutdown: Shutdown,
    kept: Kept,
}

impl<S: Service> Connection<S> {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let line = tokio::select! {
                biased;
                () = self.shutdown.stopping() => return Ok(()),
                line = timeout(limits::LOCAL_IDLE, self.lines.next()) => match line {
                    Ok(line) => line?,
                    Err(_) => return Ok(()),
                },
            };
            match line {
                ReadLine::Text(line) => match envelope::read(&line) {
                    Ok(call) => self.answer(call).await?,
                    Err(answer) => self.write(&answer).await?,
                },
                ReadLine::TooLong => {
                    let error = Error::new(
                        ErrorKind::Invalid,
                        format!("a request has more than {} bytes", limits::MAX_LINE_BYTES),
                    );
                    return self.write(&envelope::failure(&error, None)).await;
                }
                ReadLine::End => return Ok(()),
            }
        }
    }

    async fn answer(&mut self, call: Call) -> io::Result<()> {
        let id = call.id.as_deref();
        let outcome = match self.service.time_bound(&call.method) {
            None => return self.write(&envelope::answer(Err(&RpcError::unknown_method(&call.method)), id)).await,
            Some(TimeBound::Prompt) => self.prompt(&call).await,
            Some(TimeBound::Long) => match self.long(&call).await {
                Some(outcome) => outcome,
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            },
        };
        match outcome {
            Ok(Reply::Answer(result)) if result.get().len() > MOST => {
                // Lists are bounded, so this should not happen. A client that reads lines would take a longer line for
                // a broken connection.
                let text = format!(
                    "the answer to {} has {} bytes, more than a line may have",
                    call.method,
                    result.get().len()
                );
                let error = Error::new(ErrorKind::Failed, text).hint("Ask for less: fewer entries, or one at a time.");
                self.write(&envelope::failure(&error, id)).await
            }
            Ok(Reply::Answer(result)) if result.get().len() > LARGE => {
                let (before, after) = envelope::around(id);
                self.write(&before).await?;
                self.write(result.get()).await?;
                self.write(&after).await
            }
            Ok(Reply::Answer(result)) => self.write(&envelope::answer(Ok(&result), id)).await,
            Ok(Reply::Stream(result, lines)) => {
                self.write(&envelope::answer(Ok(&result), id)).await?;
                self.stream(lines).await
            }
            Err(error) => self.write(&envelope::failure(&error, id)).await,
        }
    }

    async fn prompt(&mut self, call: &Call) -> Result<Reply, Error> {
        timeout(limits::LOCAL_CALL, self.service.call(&call.method, &call.params, &mut self.kept)).await.unwrap_or_else(
            |_| {
                let seconds = limits::LOCAL_CALL.as_secs();
                Err(Error::new(
                    ErrorKind::TryAgain,
                    format!("{} took longer than {seconds} s; it may still be carried out", call.method),
                )
                .hint("Look whether it was, then try again."))
            },
        )
    }

    /// Executes a long call; `None` if the client disconnects meanwhile.
    async fn long(&mut self, call: &Call) -> Option<Result<Reply, Error>> {
        tokio::select! {
            biased;
            outcome = self.service.call(&call.method, &call.params, &mut self.kept) => Some(outcome),
            () = gone(&mut self.lines) => None,
            () = self.shutdown.stopping() => Some(Err(Error::new(ErrorKind::TryAgain, "the daemon is stopping"))),
        }
    }

    async fn stream(&mut self, mut lines: mpsc::Receiver<String>) -> io::Result<()> {
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                () = gone(&mut self.lines) => None,
                () = self.shutdown.stopping() => None,
            };
            match line {
                Some(line) => self.write(&line).await?,
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            }
        }
    }

    async fn write(&mut self, line: &str) -> io::Result<()> {
        timeout(limits::LOCAL_WRITE, self.writer.write_all(line.as_bytes())).await?
    }
}

/// Resolves when the client has closed the connection. A client that has closed only its writing half can still read.
async fn gone(lines: &mut Lines<OwnedReadHalf>) {
    if lines.ended().await.is_err() {
        return;
    }
    while let Ok(ready) = lines.source().ready(Interest::WRITABLE).await
        && !ready.is_write_closed()
    {
        tokio::time::sleep(HALF_CLOSED_CHECK).await;
    }
}
