//! Accepts connections and looks up the calling node of each.
//!
//! Several callers are looked up concurrently, so that one slow answer does not delay the others. A connection that
//! does not come from another node is closed.

use std::{io, net::SocketAddr, sync::Arc};

use thrum_core::limits;
use thrum_sync::transport::{Caller, Conn, Kind, Listener, Pending};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{
    hub::{Hub, Up},
    localapi::ApiError,
};

pub(crate) struct Open {
    pub(crate) hub: Arc<Hub>,
    pub(crate) listener: TcpListener,
    pub(crate) port: u16,
    pub(crate) node: Arc<Up>,
    pub(crate) changes: watch::Receiver<Option<Arc<Up>>>,
    pub(crate) asked: JoinSet<Result<(Conn, Caller), Stranger>>,
}

impl Listener for Open {
    fn address(&self) -> String {
        SocketAddr::new(self.node.address(), self.port).to_string()
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn accept(&mut self) -> Pending<'_, io::Result<(Conn, Caller)>> {
        Box::pin(async move {
            loop {
                let node = Arc::clone(&self.node);
                // Every branch is cancel-safe: no connection is lost.
                tokio::select! {
                    _ = self.changes.wait_for(|now| now.as_ref() != Some(&node)) => {
                        return Err(io::Error::new(io::ErrorKind::NotConnected, "the tailnet went away or gave this node another address"));
                    }
                    Some(answer) = self.asked.join_next() => match answer {
                        Ok(Ok(accepted)) => return Ok(accepted),
                        Ok(Err(stranger)) => self.hub.refused(&stranger.from.to_string(), &stranger.why),
                        Err(error) => tracing::warn!(%error, "tailnet: an internal task failed"),
                    },
                    accepted = self.listener.accept(), if self.asked.len() < limits::MAX_WHOIS => {
                        let (stream, from) = accepted?;
                        self.asked.spawn(identify(node, stream, from));
                    }
                }
            }
        })
    }
}

/// A caller that is refused.
pub(crate) struct Stranger {
    from: SocketAddr,
    why: String,
}

/// Looks up the caller of a connection. Fails if the caller is not another node, or cannot be identified.
async fn identify(node: Arc<Up>, stream: TcpStream, from: SocketAddr) -> Result<(Conn, Caller), Stranger> {
    let _ = stream.set_nodelay(true);
    let refuse = |why: &str| Err(Stranger { from, why: why.to_owned() });
    match node.api.caller(from).await {
        // A program of this machine called the node's own address. It is no daemon of ours: `dial` refuses a node's own
        // address.
        Ok(whois) if whois.address().is_some_and(|ip| node.addresses.contains(&ip)) => refuse("it is this node itself"),
        Ok(whois) => {
            // Without a kernel device, all connections come from loopback, so the address of the calling node is more
            // informative.
            let address = SocketAddr::new(whois.address().unwrap_or(from.ip()), from.port()).to_string();
            Ok((Box::new(stream) as Conn, Caller { address, kind: Kind::Tailnet, node: Some(whois.node()) }))
        }
        Err(ApiError::NotFound) => refuse("it is no node of the tailnet"),
        Err(error) => refuse(&format!("nobody can tell who it is: {error}")),
    }
}
