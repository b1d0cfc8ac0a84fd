//! Keeps the tailnet out of the local listener: a node without a kernel device hands connections on to every port of loopback.

use std::{net::SocketAddr, time::Duration};

use thrum_sync::transport::{Pending, local::Guard};
use tokio::{io::Interest, net::TcpStream, time::timeout};

use crate::{Tailnet, localapi::ApiError};

impl Guard for Tailnet {
    fn admits<'a>(&'a self, stream: &'a TcpStream, from: SocketAddr) -> Pending<'a, bool> {
        Box::pin(async move {
            let Some(api) = self.0.hands_on() else { return true };
            let why = match api.caller(from).await {
                Ok(whois) => format!("it is {}, and called the port for programs of this machine", whois.node()),
                Err(ApiError::NotRunning) => return true,
                // A connection is forgotten when it ends, and what it brought can still be read then.
                Err(ApiError::NotFound) if has_ended(stream).await => "it ended before it was known who it was".to_owned(),
                Err(ApiError::NotFound) => return true,
                // The tailnet's trouble is not that of the programs here.
                Err(_) if self.0.up.borrow().is_none() => return true,
                Err(error) => format!("nobody can tell whether it is a program of this machine: {error}"),
            };
            self.0.refused(&from.to_string(), &why);
            false
        })
    }
}

/// Whether the far end has said its last, also when something it said before is still unread.
async fn has_ended(stream: &TcpStream) -> bool {
    match timeout(Duration::ZERO, stream.ready(Interest::READABLE)).await {
        Ok(Ok(ready)) => ready.is_read_closed(),
        Ok(Err(_)) => true,
        Err(_) => false,
    }
}
