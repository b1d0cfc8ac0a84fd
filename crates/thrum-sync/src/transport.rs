//! Transports carry bytes between peers.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod local;
pub mod memory;
pub mod port_owner;

use std::{fmt, future::Future, io, net::IpAddr, pin::Pin, time::Duration};

use serde::{Deserialize, Serialize};
use thrum_core::{Error, ErrorKind, limits, name};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// A boxed future, as returned by trait objects.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A bidirectional byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection.
pub type Conn = Box<dyn Stream>;

/// A kind of transport. Its name is the one in `peers.json` and in Go Thrum since v0.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Loopback: this machine only.
    Local,
    /// A tailnet.
    Tailnet,
}

impl Kind {
    /// Returns the name as stored and displayed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Tailnet => "tailscale",
        }
    }

    /// Parses the name that [`as_str`](Self::as_str) returns. `None` for an unknown kind.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Local, Self::Tailnet].into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the kind of an address: loopback is local, all others belong to the tailnet.
    pub fn of_address(address: &str) -> Self {
        if is_loopback(address) { Self::Local } else { Self::Tailnet }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Returns `true` if `host:port` is on loopback. Does not resolve names, except `localhost`.
pub(crate) fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Normalizes an address of the local transport for dialling and storing: always 127.0.0.1, which is also the meaning
/// of `localhost`.
///
/// All addresses of 127.0.0.0/8 and ::1 lead to this machine, but to different listeners. A legacy peer does not prove
/// its identity, so a program that listens on one of these addresses could relay a pairing and all later traffic to the
/// daemon at 127.0.0.1.
///
/// # Errors
/// `Invalid` for any other address of this machine, and for an address that is not on this machine.
pub(crate) fn local_address(address: &str) -> Result<String, Error> {
    let shown = name::printable(address);
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "127.0.0.1" | "localhost" => Ok(format!("127.0.0.1:{port}")),
        _ if is_loopback(address) => {
            Err(Error::new(ErrorKind::Invalid, format!("{shown} is another address of this machine than 127.0.0.1"))
                .hint("Daemons of one machine reach each other at 127.0.0.1 only, so that no program in between can pass for one."))
        }
        _ => {
            Err(Error::new(ErrorKind::Invalid, format!("{shown} is not on this machine"))
                .hint("The local transport reaches 127.0.0.1 only."))
        }
    }
}

/// Returns `true` for an address from the ranges that tailnets assign to their nodes.
pub(crate) fn is_of_tailnet(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]),
        IpAddr::V6(ip) => ip.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
}

/// Returns `true` if this is a `host:port` that can be dialled, displayed and stored: printable, of at most
/// [`limits::MAX_FOREIGN_ID_BYTES`], with a port from 1 to 65535.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((host, port)) = split_address(text) else { return false };
    let host_is_plain = !host.is_empty() && host.chars().all(|c| name::is_printable(c) && !c.is_whitespace());
    host_is_plain && text.len() <= limits::MAX_FOREIGN_ID_BYTES && port > 0
}

/// Splits `host:port`. Returns the host without brackets, and the port; `None` without a valid port.
pub fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']), port.parse().ok()?))
}

/// Formats `host:port`, with brackets around an IPv6 address.
pub(crate) fn with_port(host: &str, port: impl fmt::Display) -> String {
    let host = host.trim_matches(['[', ']']);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The other end of an accepted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The caller's address, `host:port`.
    pub address: String,
    /// The kind of transport.
    pub kind: Kind,
    /// The caller's node; `None` on loopback, where callers cannot be told apart, and if the tailnet does not know the
    /// caller.
    pub node: Option<Node>,
}

impl Caller {
    /// Returns the id of the caller's node.
    pub fn node_id(&self) -> Option<&str> {
        self.node.as_ref().map(|node| node.id.as_str())
    }
}

/// A machine as known to a tailnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Id that is stable across renames and restarts.
    pub id: String,
    /// Display name.
    #[serde(default)]
    pub name: String,
    /// The owner of the node, or its tags; empty if unknown.
    #[serde(default)]
    pub user: String,
}

impl fmt::Display for Node {
    /// Formats as `laptop (ann@example.com)` for display. Both texts come from others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { &self.id } else { &self.name };
        f.write_str(&name::printable(name))?;
        if self.user.is_empty() { Ok(()) } else { write!(f, " ({})", name::printable(&self.user)) }
    }
}

/// Another node on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The node.
    pub node: Node,
    /// The node's full name on the network, `laptop.tail1234.ts.net`; empty if the node has none. The first label is
    /// not unique: nodes shared from other tailnets may have the same.
    pub full_name: String,
    /// The node's current address, IPv4 if it has one; without a port.
    pub host: String,
    /// Whether the network considers the node online.
    pub online: bool,
}

/// The route of packets to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The relay on the route; `None` for a direct route.
    pub relay: Option<String>,
    /// Round-trip time, as measured by the network.
    pub round_trip: Duration,
}

/// Whether a transport can be used now, as reported by the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The transport is not enabled.
    Off,
    /// The transport is starting. The text names the action that the user must take ("visit …"); empty if none.
    Starting(String),
    /// The transport works.
    Up,
    /// The transport failed; the error has cause and remedy. The transport recovers by itself once the cause is fixed.
    Down(Error),
}

impl Condition {
    /// Returns why dialling and listening are impossible now; `None` while the transport works.
    pub fn error(&self) -> Option<Error> {
        match self {
            Self::Up => None,
            Self::Off => Some(Error::new(ErrorKind::Unavailable, "the tailnet is not enabled").hint(
                "Set THRUM_TS_ENABLED=true in .env and run `thrum daemon restart`, or join an address of the tailnet.",
            )),
            Self::Starting(what) if what.is_empty() => {
                Some(Error::new(ErrorKind::TryAgain, "the tailnet is starting").hint(WAIT))
            }
            Self::Starting(what) => Some(Error::new(ErrorKind::TryAgain, what.clone()).hint(WAIT)),
            Self::Down(error) => Some(error.clone()),
        }
    }
}

const WAIT: &str = "`thrum status` says when it is up.";

/// A means to reach peers and be reached by them.
pub trait Transport: Send + Sync + 'static {
    /// Returns the kind. A daemon has at most one transport of each kind.
    fn kind(&self) -> Kind;

    /// Subscribes to the transport's condition. After a change to [`Condition::Up`], failed listens and dials should be
    /// retried, and node addresses may have changed. The condition of loopback never changes.
    fn condition(&self) -> watch::Receiver<Condition> {
        watch::channel(Condition::Up).1
    }

    /// Returns the node that currently has an address (`host:port` or `host`): a token sent to the address would go to
    /// this node. `None` if the transport knows no nodes, as on loopback.
    ///
    /// # Errors
    /// `Invalid` for a malformed address, `NotFound` if no node has the address; otherwise why the network cannot be
    /// queried.
    fn node_at<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Node>, Error>> {
        let _ = address;
        Box::pin(async { Ok(None) })
    }

    /// Returns our own node on this network, as seen by others. `None` if the transport knows no nodes, as on loopback.
    ///
    /// # Errors
    /// Why the network is down or cannot be queried.
    fn own_node(&self) -> Pending<'_, Result<Option<Node>, Error>> {
        Box::pin(async { Ok(None) })
    }

    /// Returns the other nodes with their current addresses; empty if the transport knows no nodes.
    ///
    /// # Errors
    /// Why the network cannot be queried.
    fn neighbours(&self) -> Pending<'_, Result<Vec<Neighbour>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Measures the route of packets to an address. `None` for our own address, and if the transport has no routes, as
    /// on loopback. The caller must bound the time.
    ///
    /// # Errors
    /// `Invalid` for a malformed address, `NotFound` if no node has the address, `Unavailable` if the node does not
    /// answer; otherwise why the network cannot be queried.
    fn path<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Path>, Error>> {
        let _ = address;
        Box::pin(async { Ok(None) })
    }

    /// Opens a listener on `port`, unless the transport's configuration fixes another. With `None`, the transport
    /// chooses a port, which the caller stores for later starts.
    ///
    /// # Errors
    /// `Unavailable` if the port is taken; otherwise why the network is down. A retry may help.
    fn listen(&self, port: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Error>>;

    /// Connects to an address. The caller must bound the time.
    ///
    /// # Errors
    /// `Invalid` for an address outside of this transport, `NotFound` or `Unavailable` if no node of its network has
    /// the address, `Unavailable` if nothing answers there; otherwise why the network is down.
    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Conn, Error>>;
}

/// An open listener; closed when dropped.
pub trait Listener: Send {
    /// Returns the address at which others reach the listener, `host:port`.
    fn address(&self) -> String;

    /// Returns the port, to be stored for later starts.
    fn port(&self) -> u16;

    /// Waits for the next caller. An error concerns only that caller, unless it repeats.
    /// [`io::ErrorKind::NotConnected`] means that the listener has ended, for example because the network went away or
    /// assigned another address to this machine; open a new one.
    fn accept(&mut self) -> Pending<'_, io::Result<(Conn, Caller)>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_into_host_and_port_and_put_together_again() {
        for (address, host, port) in [
            ("127.0.0.1:9100", "127.0.0.1", 9100),
            ("[fd7a::1]:1", "fd7a::1", 1),
            ("laptop.one.ts.net:80", "laptop.one.ts.net", 80),
        ] {
            assert_eq!(split_address(address), Some((host, port)));
            assert_eq!(with_port(host, port), address);
        }
        for no_address in ["", "laptop", "laptop:", "laptop:x", "laptop:70000", "[fd7a::1]"] {
            assert_eq!(split_address(no_address), None, "{no_address}");
            assert!(!is_address(no_address), "{no_address}");
        }
        assert!(!is_address("[]:1") && !is_address(":1") && !is_address("laptop:0"));
    }
}
