//! The implementation of [`Transport`] for a tailnet.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use thrum_core::{Error, ErrorKind, Retry, limits, name};
use thrum_sync::{
    Transport,
    transport::{Condition, Conn, Kind, Listener, Neighbour, Node, Path, Pending, port_owner},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::{
    Tailnet,
    address::{self, Host},
    hub::Up,
    listener::Open,
    localapi::{ApiError, NodeStatus, PeerNode},
};

impl Transport for Tailnet {
    fn kind(&self) -> Kind {
        Kind::Tailnet
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.0.condition.subscribe()
    }

    fn node_at<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Node>, Error>> {
        Box::pin(async move {
            let node = self.up()?;
            Ok(Some(resolve(&node, address::host(address::without_port(address))?).await?.1))
        })
    }

    fn own_node(&self) -> Pending<'_, Result<Option<Node>, Error>> {
        Box::pin(async move {
            let node = self.up()?;
            let own = node.api.whois(node.address()).await.map_err(|error| unasked(&error))?;
            Ok(Some(own.node()))
        })
    }

    fn neighbours(&self) -> Pending<'_, Result<Vec<Neighbour>, Error>> {
        Box::pin(async move {
            let node = self.up()?;
            let status = node.api.status_with_peers().await.map_err(|error| unasked(&error))?;
            Ok(neighbours(&status))
        })
    }

    fn path<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Path>, Error>> {
        Box::pin(async move {
            let node = self.up()?;
            let (ip, _) = resolve(&node, address::host(address::without_port(address))?).await?;
            if node.addresses.contains(&ip) {
                return Ok(None);
            }
            let mut path = ping(&node, ip).await?;
            for _ in 1..limits::TAILNET_PINGS {
                if path.relay.is_none() {
                    break;
                }
                path = ping(&node, ip).await?;
            }
            Ok(Some(path))
        })
    }

    fn listen(&self, port: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Error>> {
        Box::pin(async move {
            let changes = self.0.up.subscribe();
            let node = self.up()?;
            // Without a kernel device the address cannot be bound; `tailscaled` forwards its connections to loopback.
            let ip = if node.tun { node.address() } else { Ipv4Addr::LOCALHOST.into() };
            let listener = bind(ip, self.0.config.port.or(port)).await?;
            let port = listener.local_addr().map_err(|error| cannot_listen(ip, None, &error))?.port();
            Ok(Box::new(Open { hub: Arc::clone(&self.0), listener, port, node, changes, asked: JoinSet::new() })
                as Box<dyn Listener>)
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Conn, Error>> {
        Box::pin(async move {
            let (host, port) = address::host_and_port(address)?;
            let node = self.up()?;
            // While dialling, an unknown node counts as temporarily unavailable: a tailnet takes a moment to learn of a
            // new node.
            let (ip, _) = resolve(&node, host).await.map_err(|error| match error.kind {
                ErrorKind::NotFound => Error { kind: ErrorKind::Unavailable, retry: Retry::Useful, ..error },
                _ => error,
            })?;
            let shown = name::printable(address);
            if node.addresses.contains(&ip) {
                return Err(Error::new(ErrorKind::Invalid, format!("{shown} is this node itself")).hint(
                    "Another repository on this machine is reached over loopback: `thrum peer add --via local` there.",
                ));
            }
            match timeout(limits::DIAL, connect(&node, SocketAddr::new(ip, port), &shown)).await {
                Ok(result) => result,
                Err(_) => Err(unanswered(&shown, &format!("no answer within {} s", limits::DIAL.as_secs()))),
            }
        })
    }
}

impl Tailnet {
    fn up(&self) -> Result<Arc<Up>, Error> {
        self.0.up.borrow().clone().ok_or_else(|| self.0.error())
    }
}

/// Resolves a host to its address and node. An address is always checked with `tailscaled`, because packets to an
/// address that no node has may be routed anywhere.
async fn resolve(node: &Up, host: Host) -> Result<(IpAddr, Node), Error> {
    match host {
        Host::Ip(ip) => match node.api.whois(ip).await {
            Ok(whois) => Ok((ip, whois.node())),
            Err(ApiError::NotFound) => {
                Err(Error::new(ErrorKind::NotFound, format!("no node of the tailnet has the address {ip}")).hint(
                    "`tailscale status` lists the nodes; one that was removed and added again has another address.",
                ))
            }
            Err(error) => Err(unasked(&error)),
        },
        Host::Name(wanted) => {
            let status = node.api.status_with_peers().await.map_err(|error| unasked(&error))?;
            let found = address::named(&status, &wanted)?;
            let ip = first_address(&found.addresses).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("the node {wanted} has no address on the tailnet"))
            })?;
            Ok((ip, status.node(found)))
        }
    }
}

async fn connect(node: &Up, target: SocketAddr, shown: &str) -> Result<Conn, Error> {
    if node.tun {
        let stream = connect_from(&node.addresses, target).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => nobody_listens(shown),
            io::ErrorKind::AddrNotAvailable => unanswered(shown, "Tailscale has just gone down"),
            _ => unanswered(shown, &error.to_string()),
        })?;
        let _ = stream.set_nodelay(true);
        return Ok(Box::new(stream));
    }
    match node.api.dial(target).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(ApiError::NotFound) => Err(Error::new(ErrorKind::Invalid, format!("{shown} is not on the tailnet"))),
        Err(ApiError::Failed(why)) if why.contains("refused") => Err(nobody_listens(shown)),
        Err(error) => Err(unanswered(shown, &error.to_string())),
    }
}

/// Connects from one of our own addresses on the tailnet. If that address is gone, this fails: the default route might
/// lead to an unrelated host, because a provider may use the same address range.
async fn connect_from(ours: &[IpAddr], target: SocketAddr) -> io::Result<TcpStream> {
    let from = ours.iter().find(|ip| ip.is_ipv4() == target.is_ipv4()).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(*from, 0))?;
    socket.connect(target).await
}

fn first_address(addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses.iter().min_by_key(|ip| ip.is_ipv6()).copied()
}

fn neighbours(status: &NodeStatus) -> Vec<Neighbour> {
    // Excludes nodes that cannot be peers: nodes that are listed only because one of ours is shared with their user,
    // which cannot be dialled, and VPN exit nodes, of which there are hundreds.
    let is_machine =
        |peer: &&PeerNode| !peer.sharee_node && !peer.tags.iter().any(|tag| tag == "tag:mullvad-exit-node");
    let mut all: Vec<Neighbour> = status
        .peers
        .values()
        .filter(is_machine)
        .filter_map(|peer| {
            let host = first_address(&peer.addresses)?.to_string();
            let full_name = peer.dns_name.trim_end_matches('.').to_owned();
            Some(Neighbour { node: status.node(peer), full_name, host, online: peer.online && !peer.expired })
        })
        .collect();
    all.sort_by(|a, b| a.node.name.cmp(&b.node.name).then_with(|| a.node.id.cmp(&b.node.id)));
    all
}

async fn ping(node: &Up, ip: IpAddr) -> Result<Path, Error> {
    let pong = node.api.ping(ip).await.map_err(|error| match error {
        ApiError::Timeout => Error::new(ErrorKind::Unavailable, format!("{ip} does not answer on the tailnet")),
        other => unasked(&other),
    })?;
    if pong.err.is_empty() {
        let relay = [pong.relay, pong.peer_relay].into_iter().find(|relay| !relay.is_empty());
        return Ok(Path { relay, round_trip: Duration::try_from_secs_f64(pong.latency_seconds).unwrap_or_default() });
    }
    let kind = if pong.err.contains("no matching peer") { ErrorKind::NotFound } else { ErrorKind::Unavailable };
    Err(Error::new(kind, format!("{ip} does not answer on the tailnet: {}", name::printable(&pong.err))))
}

/// Listens on the given port, or on the first free one of [`limits::PORTS`].
async fn bind(ip: IpAddr, port: Option<u16>) -> Result<TcpListener, Error> {
    let mut last = None;
    for candidate in port.map_or(limits::PORTS, |port| port..=port) {
        match TcpListener::bind((ip, candidate)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                let taken = error.kind() == io::ErrorKind::AddrInUse;
                last = Some(error);
                if !taken {
                    break;
                }
            }
        }
    }
    Err(cannot_listen(ip, port, &last.unwrap_or_else(|| io::Error::other("no port to try"))))
}

fn cannot_listen(ip: IpAddr, port: Option<u16>, cause: &io::Error) -> Error {
    let at = match port {
        Some(port) if cause.kind() == io::ErrorKind::AddrInUse => {
            format!("{}{}", SocketAddr::new(ip, port), port_owner::describe(port))
        }
        Some(port) => SocketAddr::new(ip, port).to_string(),
        None => format!("{ip}, ports {}-{}", limits::PORTS.start(), limits::PORTS.end()),
    };
    let error = Error::new(ErrorKind::Unavailable, format!("cannot listen on {at} for the tailnet: {cause}"));
    match (cause.kind(), port) {
        (io::ErrorKind::AddrInUse, Some(port)) => {
            error.hint(format!("Stop the program that has port {port}, or set another THRUM_TS_PORT."))
        }
        (io::ErrorKind::AddrInUse, None) => error.hint("Set THRUM_TS_PORT to a free port."),
        (io::ErrorKind::AddrNotAvailable, _) => error
            .hint("The tailscaled at THRUM_TS_SOCKET seems to run elsewhere, as outside of this container: THRUM_TS_MODE=own works there."),
        _ => error,
    }
}

fn nobody_listens(shown: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("nobody listens at {shown}"))
        .hint("Is the daemon of that machine running, with its tailnet enabled, and is the port right?")
}

fn unanswered(shown: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot reach {shown}: {}", name::printable(why))).hint(
        "`tailscale ping` shows whether the machine can be reached; the tailnet's access rules may forbid the port.",
    )
}

fn unasked(error: &ApiError) -> Error {
    Error::new(ErrorKind::Unavailable, format!("Tailscale cannot be asked: {}", name::printable(&error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A joiner that states a false address (C8 in docs/security.md).
    #[tokio::test]
    async fn a_node_with_a_device_dials_from_its_own_address_and_not_at_all_once_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        // An address from a block reserved for documentation, which no machine uses.
        for gone in [vec!["192.0.2.1".parse().unwrap()], vec!["::1".parse().unwrap()], vec![]] {
            assert_eq!(
                connect_from(&gone, target).await.unwrap_err().kind(),
                io::ErrorKind::AddrNotAvailable,
                "{gone:?}"
            );
        }
        let ours = ["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let stream = connect_from(&ours, target).await.unwrap();
        let (_, caller) = listener.accept().await.unwrap();
        assert_eq!(caller, stream.local_addr().unwrap(), "the first of all who called");
    }
}
