//! Cancels a call from another thread: its connection to the daemon is closed, and it can open no new one.

use std::{
    io,
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thrum_core::{Error, ErrorKind};

/// The cancellation of a call, shared by the thread that runs the call and the one that may cancel it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    given_up: bool,
    /// The connection that the call is using.
    connection: Option<UnixStream>,
}

impl Interrupt {
    /// Cancels the call: what it waits for fails immediately, and so does every later connection.
    pub(crate) fn give_up(&self) {
        let mut state = self.state();
        state.given_up = true;
        if let Some(connection) = state.connection.take() {
            // An error means that the connection is closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Returns `true` if the call was cancelled.
    pub(crate) fn is_given_up(&self) -> bool {
        self.state().given_up
    }

    /// Registers the connection that the call uses from now on.
    ///
    /// # Errors
    /// `unavailable` after the call was cancelled; `failed` if the system has no free file descriptor.
    pub(crate) fn watch(&self, connection: &UnixStream) -> Result<(), Error> {
        let mut state = self.state();
        if state.given_up {
            return Err(Error::new(ErrorKind::Unavailable, "the call was cancelled"));
        }
        let copy = connection.try_clone();
        state.connection = Some(copy.map_err(|error: io::Error| {
            Error::new(ErrorKind::Failed, format!("cannot watch a connection: {error}"))
        })?);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, thread};

    use super::*;

    #[test]
    fn an_interrupted_call_neither_reads_nor_connects() {
        let interrupt = Interrupt::default();
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        interrupt.watch(&ours).unwrap();
        let reading = thread::spawn(move || ours.read(&mut [0]));
        interrupt.give_up();
        assert_eq!(reading.join().unwrap().unwrap(), 0);
        let (another, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(interrupt.watch(&another).unwrap_err().kind, ErrorKind::Unavailable);
    }
}
