//! How bytes reach a peer.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
pub mod local;
pub mod memory;
pub mod port_owner;

use std::{fmt, future::Future, io, net::IpAddr, pin::Pin, time::Duration};

use serde::{Deserialize, Serialize};
use thrum_core::{ErrorKind, Fault, limits, name};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

/// A future that can be kept in a trait object.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection.
pub type Conn = Box<dyn Stream>;

/// The kinds of transport, by the names that `peers.json` and Go Thrum since v0.7 use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Loopback: this machine only.
    Local,
    /// A tailnet.
    Tailnet,
}

impl Kind {
    /// The name as stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Tailnet => "tailscale",
        }
    }

    /// Reads [`as_str`](Self::as_str). `None` for a kind we do not have.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Local, Self::Tailnet].into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind that an address belongs to: loopback is local, the rest is the tailnet's.
    pub fn of_address(address: &str) -> Self {
        if is_loopback(address) { Self::Local } else { Self::Tailnet }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether `host:port` names this machine's loopback. Names are not looked up, but for `localhost`.
pub(crate) fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// An address of the local transport as it is dialled and stored: 127.0.0.1, which is also what `localhost` means.
///
/// Every address of 127.0.0.0/8 and ::1 leads to this machine, but to another listener. Until the channel itself is authenticated, a
/// program that listens on one of them could pass a pairing and everything after it on to the daemon at 127.0.0.1.
///
/// # Errors
/// `Invalid` for another address of this machine's, and for one that is not on this machine.
pub(crate) fn local_address(address: &str) -> Result<String, Fault> {
    let shown = name::printable(address);
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    match host {
        "127.0.0.1" | "localhost" => Ok(format!("127.0.0.1:{port}")),
        _ if is_loopback(address) => {
            Err(Fault::new(ErrorKind::Invalid, format!("{shown} is another address of this machine than 127.0.0.1"))
                .hint("Daemons of one machine reach each other at 127.0.0.1 only, so that no program in between can pass for one."))
        }
        _ => {
            Err(Fault::new(ErrorKind::Invalid, format!("{shown} is not on this machine"))
                .hint("The local transport reaches 127.0.0.1 only."))
        }
    }
}

/// Whether tailnets give out such addresses to their nodes.
pub(crate) fn is_of_tailnet(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]),
        IpAddr::V6(ip) => ip.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
}

/// Whether this is `host:port` as something that can be dialled, shown and stored: printable, with a port from 1 to 65535.
pub(crate) fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_is_plain = !host.is_empty() && host.chars().all(|c| name::is_printable(c) && !c.is_whitespace());
    host_is_plain && text.len() <= limits::MAX_FOREIGN_ID_BYTES && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `host:port`; an IPv6 address gets its brackets.
pub(crate) fn with_port(host: &str, port: impl fmt::Display) -> String {
    let host = host.trim_matches(['[', ']']);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Who is at the other end of an accepted connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where it comes from, for people.
    pub address: String,
    /// On what kind of transport.
    pub kind: Kind,
    /// The node, where the transport knows one; all callers on loopback are one node.
    pub node: Option<Node>,
}

/// A machine as a tailnet knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Stable across renames and restarts.
    pub id: String,
    /// What people call it.
    #[serde(default)]
    pub name: String,
    /// Whose it is.
    #[serde(default)]
    pub user: String,
}

impl fmt::Display for Node {
    /// For people: `laptop (ann@example.com)`. Both are others' words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.name.is_empty() { &self.id } else { &self.name };
        f.write_str(&name::printable(name))?;
        if self.user.is_empty() { Ok(()) } else { write!(f, " ({})", name::printable(&self.user)) }
    }
}

/// Another node that the network knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who it is.
    pub node: Node,
    /// Its name in full on the network, `laptop.tail1234.ts.net`; empty if it has none. Names of other tailnets, whose nodes are
    /// shared with this one, may begin alike.
    pub full_name: String,
    /// Where it is reached now, without a port.
    pub host: String,
    /// Whether the network has seen it just now.
    pub online: bool,
}

/// How packets travel to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The relay they go through; `None` when they go directly.
    pub relay: Option<String>,
    /// There and back, as the network itself measures it.
    pub round_trip: Duration,
}

/// Whether a transport can be used now, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nobody asked for it.
    Off,
    /// On its way; the text says to what it waits, if it is for a person: "visit …".
    Starting(String),
    /// It works.
    Up,
    /// It does not work: what happened, and what mends it. It recovers by itself once that is mended.
    Down(Fault),
}

impl Condition {
    /// Why nothing can be dialled or listened for now; `None` while it works.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Up => None,
            Self::Off => Some(
                Fault::new(ErrorKind::Unavailable, "the tailnet is not enabled")
                    .hint("Set THRUM_TS_ENABLED=true in .env and run `thrum daemon restart`, or join an address of the tailnet."),
            ),
            Self::Starting(what) if what.is_empty() => Some(Fault::new(ErrorKind::TryAgain, "the tailnet is starting").hint(WAIT)),
            Self::Starting(what) => Some(Fault::new(ErrorKind::TryAgain, what.clone()).hint(WAIT)),
            Self::Down(fault) => Some(fault.clone()),
        }
    }
}

const WAIT: &str = "`thrum status` says when it is up.";

/// A way to reach peers and be reached.
pub trait Transport: Send + Sync + 'static {
    /// Which kind this is; there is one transport of each.
    fn kind(&self) -> Kind;

    /// Whether it can be used, now and as it changes. Whoever failed to listen or dial tries again after a change to
    /// [`Condition::Up`], and the addresses of nodes may have changed then. Loopback never changes.
    fn condition(&self) -> watch::Receiver<Condition> {
        watch::channel(Condition::Up).1
    }

    /// The node that has an address (`host:port`, or `host`) now: the one to which a token sent there would go. `None` where
    /// the transport knows no nodes, as on loopback.
    ///
    /// # Errors
    /// `NotFound` if no node has it, `Unavailable` if the network cannot be asked.
    fn node_at<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Node>, Fault>> {
        let _ = address;
        Box::pin(async { Ok(None) })
    }

    /// The node that we are on this network, as the others see it. `None` where the transport knows no nodes, as on loopback.
    ///
    /// # Errors
    /// `Unavailable` if the network is down or cannot be asked.
    fn own_node(&self) -> Pending<'_, Result<Option<Node>, Fault>> {
        Box::pin(async { Ok(None) })
    }

    /// The other nodes, with their addresses as of now; none where the transport knows no nodes.
    ///
    /// # Errors
    /// `Unavailable` if the network cannot be asked.
    fn neighbours(&self) -> Pending<'_, Result<Vec<Neighbour>, Fault>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// How packets travel to an address, measured now. `None` where there is nothing to say about it, as on loopback. The
    /// caller bounds the time.
    ///
    /// # Errors
    /// `NotFound` if no node has it, `Unavailable` if it does not answer or the network cannot be asked.
    fn path<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Path>, Fault>> {
        let _ = address;
        Box::pin(async { Ok(None) })
    }

    /// Opens the listener at `port`, or where the transport sees fit the first time. A port once given is kept by the caller.
    ///
    /// # Errors
    /// `Unavailable` if the port is taken or the network is down; retrying may help.
    fn listen(&self, port: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Fault>>;

    /// Connects. The caller bounds the time.
    ///
    /// # Errors
    /// `Invalid` for an address that this transport cannot reach, `NotFound` if no node of its network has it, `Unavailable` if
    /// nobody answers there.
    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Conn, Fault>>;
}

/// An open listener; closed when dropped.
pub trait Listener: Send {
    /// Where others reach it, `host:port`.
    fn address(&self) -> String;

    /// The port, to be kept.
    fn port(&self) -> u16;

    /// The next caller. An error concerns that caller only, unless it repeats. [`io::ErrorKind::NotConnected`] means that the
    /// listener has ended, as when the network went away or gave this machine another address: listen anew.
    fn accept(&mut self) -> Pending<'_, io::Result<(Conn, Caller)>>;
}
