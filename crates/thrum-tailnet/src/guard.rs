//! Keeps nodes of the tailnet out of the local listener. A `tailscaled` without a kernel device forwards connections to
//! every loopback port, so that a node could otherwise reach the port for local programs.

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
                // `tailscaled` does not know a node's connection any more once it has ended, but its bytes can still be
                // read here.
                Err(ApiError::NotFound) if has_ended(stream).await => {
                    "it ended before it was known who it was".to_owned()
                }
                Err(ApiError::NotFound) => return true,
                // Problems of the tailnet must not lock out local programs.
                Err(_) if self.0.up.borrow().is_none() => return true,
                Err(error) => format!("nobody can tell whether it is a program of this machine: {error}"),
            };
            self.0.refused(&from.to_string(), &why);
            false
        })
    }
}

/// Returns `true` if the other end has closed its sending side, even if earlier bytes are still unread.
async fn has_ended(stream: &TcpStream) -> bool {
    match timeout(Duration::ZERO, stream.ready(Interest::READABLE)).await {
        Ok(Ok(ready)) => ready.is_read_closed(),
        Ok(Err(_)) => true,
        Err(_) => false,
    }
}
