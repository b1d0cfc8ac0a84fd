//! One client: its requests are answered in the order they came.
//!
//! A prompt call is given [`limits::LOCAL_CALL`]; what it stores it stores, whether or not the client stays. A long one
//! (a wait, a pairing, a round of all peers) sets its own bound and is given up as soon as its client is gone or the daemon
//! stops. Clients may send requests ahead; they are read when their turn comes, so the socket's buffer is the queue.

use std::{future::Future, io, sync::Arc, time::Duration};

use serde_json::value::RawValue;
use thrum_core::{ErrorKind, Fault, limits};
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
    lines::{Line, Lines},
};
use crate::shutdown::Shutdown;

/// How often a client that closed only its writing half is looked at: the system does not tell when the other half follows.
const HALF_CLOSED_CHECK: Duration = Duration::from_secs(1);

/// Most bytes of a result: the longest line less the envelope around the result.
const MOST: usize = limits::MAX_LINE_BYTES - (64 << 10);

/// What clients can ask for.
pub(crate) trait Service: Send + Sync + 'static {
    /// How a method is bounded; `None` if there is no such method.
    fn pace(&self, method: &str) -> Option<Pace>;

    /// Carries out a call. Dropping the future gives the call up.
    fn call(&self, method: &str, params: &Params, kept: &mut Kept) -> impl Future<Output = Result<Outcome, Fault>> + Send;
}

/// How a method is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Answered within [`limits::LOCAL_CALL`].
    Prompt,
    /// Waits for something, within a bound of its own.
    Long,
}

/// What a call comes to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The result.
    Answer(Box<RawValue>),
    /// The result, and after it the connection carries these lines and nothing else, until the sender is dropped.
    Stream(Box<RawValue>, mpsc::Receiver<String>),
}

/// What belongs to one connection: the process that made it, and whatever lives as long as it does.
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

    /// The process that connected, by its id. `None` where the kernel does not give it.
    pub(crate) fn process(&self) -> Option<i32> {
        self.process
    }
}

/// Serves one client until it leaves, is idle for too long, sends what cannot be a request, or the daemon stops.
pub(crate) async fn serve<S: Service>(stream: UnixStream, service: Arc<S>, shutdown: Shutdown) {
    let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
    let (reader, writer) = stream.into_split();
    let kept = Kept { process, guards: Vec::new() };
    let mut connection = Connection { lines: Lines::new(reader), writer, service, shutdown, kept };
    // A client that is gone needs no word about it.
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
                Line::Text(line) => match envelope::read(&line) {
                    Ok(call) => self.answer(call).await?,
                    Err(answer) => self.write(&answer).await?,
                },
                Line::TooLong => {
                    let fault = Fault::new(ErrorKind::Invalid, format!("a request has more than {} bytes", limits::MAX_LINE_BYTES));
                    return self.write(&envelope::failure(&fault, None)).await;
                }
                Line::End => return Ok(()),
            }
        }
    }

    async fn answer(&mut self, call: Call) -> io::Result<()> {
        let id = call.id.as_deref();
        let outcome = match self.service.pace(&call.method) {
            None => return self.write(&envelope::answer(Err(&RpcError::unknown_method(&call.method)), id)).await,
            Some(Pace::Prompt) => self.prompt(&call).await,
            Some(Pace::Long) => match self.long(&call).await {
                Some(outcome) => outcome,
                None => return Err(io::ErrorKind::ConnectionReset.into()),
            },
        };
        match outcome {
            Ok(Outcome::Answer(result)) if result.get().len() > MOST => {
                // No list is meant to come to it. A client that reads lines would take a longer one for a broken connection.
                let text = format!("the answer to {} has {} bytes, more than a line may have", call.method, result.get().len());
                let fault = Fault::new(ErrorKind::Failed, text).hint("Ask for less: fewer entries, or one at a time.");
                self.write(&envelope::failure(&fault, id)).await
            }
            Ok(Outcome::Answer(result)) => self.write(&envelope::answer(Ok(&result), id)).await,
            Ok(Outcome::Stream(result, lines)) => {
                self.write(&envelope::answer(Ok(&result), id)).await?;
                self.stream(lines).await
            }
            Err(fault) => self.write(&envelope::failure(&fault, id)).await,
        }
    }

    async fn prompt(&mut self, call: &Call) -> Result<Outcome, Fault> {
        timeout(limits::LOCAL_CALL, self.service.call(&call.method, &call.params, &mut self.kept)).await.unwrap_or_else(|_| {
            let seconds = limits::LOCAL_CALL.as_secs();
            Err(Fault::new(ErrorKind::TryAgain, format!("{} took longer than {seconds} s; it may still be carried out", call.method))
                .hint("Look whether it was, then try again."))
        })
    }

    /// `None` if the client left meanwhile.
    async fn long(&mut self, call: &Call) -> Option<Result<Outcome, Fault>> {
        tokio::select! {
            biased;
            outcome = self.service.call(&call.method, &call.params, &mut self.kept) => Some(outcome),
            () = gone(&mut self.lines) => None,
            () = self.shutdown.stopping() => Some(Err(Fault::new(ErrorKind::TryAgain, "the daemon is stopping"))),
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

/// Resolves when the client has closed the connection. One that only said that it will send no more still reads.
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
