//! Standard input and output, and what follows after an answer was written.
//!
//! A tool that returns mail marks it as read, but only after the answer was written: if the client has died or
//! cancelled the call, the mail has not been seen and must stay unread. So the call leaves the mail here, under the id
//! of its request, and the transport marks the mail after it has written the answer with that id.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rmcp::{
    RoleServer,
    model::{JsonRpcMessage, RequestId},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::async_rw::AsyncRwTransport,
};
use thrum_core::limits;
use tokio::{
    io::{Stdin, Stdout},
    sync::watch,
};

use super::{
    results::Reading,
    turn::{Turn, Turns},
};

/// The mail that is marked as read after its answer was written.
#[derive(Default)]
pub(super) struct Marking {
    turns: Turns,
    /// The pending answer with mail. There is at most one, because it holds the turn.
    expected: Mutex<Option<(RequestId, Reading)>>,
    /// Number of answers with mail that were written, including those whose mail could not be marked.
    marked: AtomicU64,
}

impl Marking {
    /// Waits until the mail of all earlier answers is marked. No other call may look for mail until the turn is
    /// dropped.
    ///
    /// Returns `None` if that takes too long: messages may then be returned twice, which is better than never.
    pub(super) fn turn(&self) -> Option<Turn> {
        self.turns.take().or_else(|| {
            // The expected answer is overdue: the library has dropped it, or the client does not read it.
            drop(self.expected().take());
            self.turns.try_take()
        })
    }

    /// The number of answers with mail that were written, including those whose mail could not be marked.
    pub(super) fn marked(&self) -> u64 {
        self.marked.load(Ordering::Acquire)
    }

    /// Registers mail to mark when the answer to this request has been written.
    pub(super) fn expect(&self, request: RequestId, reading: Reading) {
        *self.expected() = Some((request, reading));
    }

    /// Forgets the mail of an answer that will not be written: it stays unread.
    pub(super) fn forget(&self, request: &RequestId) {
        drop(self.taken(request));
    }

    fn taken(&self, request: &RequestId) -> Option<Reading> {
        self.expected().take_if(|(expected, _)| expected == request).map(|(_, reading)| reading)
    }

    fn expected(&self) -> MutexGuard<'_, Option<(RequestId, Reading)>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard input and output as a transport for the library.
pub(super) struct Transport {
    lines: AsyncRwTransport<RoleServer, Stdin, Stdout>,
    marking: Arc<Marking>,
    /// Becomes `true` at the end of standard input.
    has_ended: watch::Sender<bool>,
}

impl Transport {
    pub(super) fn new(input: Stdin, output: Stdout, marking: Arc<Marking>, has_ended: watch::Sender<bool>) -> Self {
        let lines = AsyncRwTransport::new_server(input, output).with_max_line_length(limits::MAX_LINE_BYTES);
        Self { lines, marking, has_ended }
    }
}

impl rmcp::transport::Transport<RoleServer> for Transport {
    type Error = io::Error;

    fn send(&mut self, item: TxJsonRpcMessage<RoleServer>) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let reading = match &item {
            JsonRpcMessage::Response(response) => self.marking.taken(&response.id),
            _ => None,
        };
        let marking = Arc::clone(&self.marking);
        let written = self.lines.send(item);
        async move {
            written.await?;
            if let Some(reading) = reading {
                let mark = move || {
                    // If marking fails, the mail is returned twice, which is better than never.
                    let _ = reading.mark();
                    // Count before the reading, and with it the turn, is dropped.
                    marking.marked.fetch_add(1, Ordering::Release);
                };
                let _ = tokio::task::spawn_blocking(mark).await;
            }
            Ok(())
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let message = self.lines.receive().await;
        if message.is_none() {
            self.has_ended.send_replace(true);
        }
        message
    }

    async fn close(&mut self) -> io::Result<()> {
        self.lines.close().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        context::{Context, Global},
        interrupt::Interrupt,
    };

    #[test]
    fn the_turn_of_an_answer_that_is_never_written_is_given_back() {
        let global = Global { json: false, repo: None, acting_as: None, quiet: true, no_start: true };
        let cx = Context::of_call(global, Interrupt::default());
        let marking = Marking::default();
        let shows_mail = |request| {
            let turn = marking.turns.try_take();
            assert!(turn.is_some());
            marking.expect(request, Reading::of("bob", vec!["msg_1".to_owned()], turn, &cx).unwrap());
            assert!(marking.turns.try_take().is_none(), "its mail is not marked yet");
        };
        shows_mail(RequestId::Number(1));
        marking.forget(&RequestId::Number(2));
        assert!(marking.turns.try_take().is_none(), "another request was cancelled");
        marking.forget(&RequestId::Number(1));
        shows_mail(RequestId::Number(3));
    }
}
