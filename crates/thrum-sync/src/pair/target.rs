//! Resolves the user's input to an address to which a code may be sent.
//!
//! Whoever receives a code can pair with the daemon that displays it. Therefore a name is looked up only in the
//! tailnet, and an address must belong to a node of the tailnet or to this machine.

use std::{net::IpAddr, sync::Arc};

use thrum_core::{Error, ErrorKind, limits, name};

use super::PairingFlow;
use crate::{
    answers::Waiting,
    transport::{
        Kind, Neighbour, Node, is_address, is_loopback, is_of_tailnet, local_address, split_address, with_port,
    },
};

/// The daemon to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// `IP:PORT`
    pub(super) address: String,
    pub(super) kind: Kind,
    /// The node that has the address; `None` on loopback.
    pub(super) node: Option<Node>,
}

/// The user's input: `HOST` or `HOST:PORT`; an IPv6 address needs brackets if a port follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Typed {
    host: String,
    port: Option<u16>,
}

impl Typed {
    /// Parses the user's input.
    ///
    /// # Errors
    /// `Invalid`.
    pub(super) fn read(text: &str) -> Result<Self, Error> {
        let bad = || {
            let shown = name::printable(&text[..text.floor_char_boundary(limits::MAX_FOREIGN_ID_BYTES)]);
            Error::new(ErrorKind::Invalid, format!("'{shown}' is not an address"))
                .hint("Give HOST:PORT as `thrum peer add` shows it, or a name of the tailnet.")
        };
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let (host, port) = match text.rsplit_once(':') {
            _ if bare.parse::<IpAddr>().is_ok() => (bare, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if !is_address(&format!("{host}:{}", port.unwrap_or("1"))) || host.contains('/') {
            return Err(bad());
        }
        let port = port.map(|port| port.parse().map_err(|_| bad())).transpose()?;
        Ok(Self { host: host.trim_matches(['[', ']']).to_owned(), port })
    }

    /// Returns the kind of transport that reaches the host.
    ///
    /// # Errors
    /// `Invalid` for an address that is neither on this machine's loopback nor on a tailnet.
    pub(super) fn kind(&self) -> Result<Kind, Error> {
        let shown = name::printable(&self.host);
        match self.host.parse::<IpAddr>() {
            _ if is_loopback(&with_port(&self.host, 1)) => Ok(Kind::Local),
            Ok(ip) if !is_of_tailnet(ip) => {
                Err(Error::new(ErrorKind::Invalid, format!("{shown} is neither on this machine nor on a tailnet"))
                    .hint("Give HOST:PORT as `thrum peer add` shows it, or a name of the tailnet."))
            }
            _ => Ok(Kind::Tailnet),
        }
    }

    fn is_address_of_tailnet(&self) -> bool {
        self.host.parse().is_ok_and(is_of_tailnet)
    }
}

/// Returns `true` if the target is a tailnet address: joining it shows that the user wants a tailnet. A name does not
/// count, because it may be mistyped.
///
/// # Errors
/// `Invalid` for a malformed target, and for an address that is neither on this machine nor on a tailnet.
pub(crate) fn wants_tailnet(target: &str) -> Result<bool, Error> {
    let typed = Typed::read(target)?;
    typed.kind()?;
    Ok(typed.is_address_of_tailnet())
}

impl PairingFlow {
    /// Resolves the user's input to a daemon to join.
    ///
    /// # Errors
    /// `Invalid` or `NotFound` if the target does not exist, `Invalid` if it is not unique, `Refused` if the user's
    /// configuration forbids the kind of transport, `Unavailable` or `TryAgain` while the tailnet is not up.
    pub(super) async fn resolve(&self, typed: &Typed) -> Result<Target, Error> {
        let kind = typed.kind()?;
        self.addresses.may_use(kind)?;
        let Some(transport) = self.addresses.transport(kind) else {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} is not on this machine", name::printable(&typed.host)),
            )
            .hint("Only addresses on 127.0.0.1 can be reached without a tailnet."));
        };
        if kind == Kind::Local {
            let port = typed.port.unwrap_or(*limits::PORTS.start());
            return Ok(Target { address: local_address(&with_port(&typed.host, port))?, kind, node: None });
        }
        self.addresses.wait_until_up(kind).await?;
        let host = match typed.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_string(),
            Err(_) => find_by_name(&typed.host, transport.neighbours().await?)?,
        };
        let first = typed.port.unwrap_or(*limits::PORTS.start());
        let node = transport.node_at(&with_port(&host, first)).await.map_err(|error| match error.kind {
            ErrorKind::NotFound => nobody(&host),
            _ => error,
        })?;
        let node = node.ok_or_else(|| nobody(&host))?;
        // Replace an IPv6 address with the node's first address: the listener displays that one and includes it in its
        // proof.
        let first_address = async |of: &Node| {
            Ok::<_, Error>(transport.neighbours().await?.into_iter().find(|one| one.node.id == of.id))
        };
        let host = if host.contains(':') { first_address(&node).await?.map_or(host, |one| one.host) } else { host };
        let port = match typed.port {
            Some(port) => port,
            None => only(&self.waiting_at(Arc::clone(&transport), &host).await)?.unwrap_or(first),
        };
        Ok(Target { address: with_port(&host, port), kind, node: Some(node) })
    }
}

fn nobody(host: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no node of this tailnet has {}; nothing was sent", name::printable(host)))
        .hint(LIST)
}

const LIST: &str = "`thrum peer join` without an address lists the nodes that wait.";

/// Returns the port of the only waiting daemon, if any waits. Any daemon may claim to wait, so several are an error:
/// the code is sent to none of them.
fn only(waiting: &[Waiting]) -> Result<Option<u16>, Error> {
    match waiting {
        [] => Ok(None),
        [one] => Ok(split_address(&one.address).map(|(_, port)| port)),
        several => {
            let shown: Vec<_> =
                several.iter().map(|one| format!("{} at {}", name::printable(&one.name), one.address)).collect();
            Err(Error::new(ErrorKind::Invalid, format!("several wait there to be joined: {}", shown.join(", ")))
                .hint("Give the port of the one you mean, too: `thrum peer add` shows it."))
        }
    }
}

/// Returns the address of the node with this name. A name with a dot is a full name, which is unique. A name without a
/// dot must be the first label of exactly one node's name.
fn find_by_name(name: &str, neighbours: Vec<Neighbour>) -> Result<String, Error> {
    let wanted = name.trim_end_matches('.');
    let in_full = wanted.contains('.');
    let is_it = |one: &&Neighbour| {
        let known = if in_full || !one.full_name.is_empty() { &one.full_name } else { &one.node.name };
        let known = if in_full { known } else { known.split('.').next().unwrap_or_default() };
        known.trim_end_matches('.').eq_ignore_ascii_case(wanted)
    };
    let found: Vec<_> = neighbours.iter().filter(is_it).collect();
    let shown = name::printable(name);
    match found.as_slice() {
        [one] => Ok(one.host.clone()),
        [] => Err(Error::new(ErrorKind::NotFound, format!("the tailnet has no node \"{shown}\"")).hint(LIST)),
        several => {
            let hosts: Vec<_> =
                several.iter().map(|one| format!("{} ({})", one.host, name::printable(&one.node.user))).collect();
            Err(Error::new(ErrorKind::Invalid, format!("\"{shown}\" is more than one node: {}", hosts.join(", ")))
                .hint("Give the address or the full name of the one you mean."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> (String, Option<u16>) {
        let Typed { host, port } = Typed::read(text).unwrap();
        (host, port)
    }

    #[test]
    fn an_address_is_read_with_and_without_port() {
        assert_eq!(typed("127.0.0.1"), ("127.0.0.1".into(), None));
        assert_eq!(typed("127.0.0.1:9107"), ("127.0.0.1".into(), Some(9107)));
        assert_eq!(typed("laptop"), ("laptop".into(), None));
        assert_eq!(typed("laptop.tail1234.ts.net:9101"), ("laptop.tail1234.ts.net".into(), Some(9101)));
        assert_eq!(typed("fd7a::1"), ("fd7a::1".into(), None));
        assert_eq!(typed("[fd7a::1]"), ("fd7a::1".into(), None));
        assert_eq!(typed("[fd7a::1]:9100"), ("fd7a::1".into(), Some(9100)));
        for bad in [
            "",
            ":9100",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:70000",
            "host:x",
            "a b:1",
            "a\x1b:1",
            "http://a/",
            &"x".repeat(1000),
        ] {
            assert_eq!(Typed::read(bad).expect_err(bad).kind, ErrorKind::Invalid);
        }
    }

    #[test]
    fn a_name_resolves_to_a_node_by_full_name_or_unique_first_label() {
        let node = |name: &str, host: &str| Neighbour {
            node: Node { id: host.into(), name: name.split('.').next().unwrap().into(), user: "ann".into() },
            full_name: if name.contains('.') { name.into() } else { String::new() },
            host: host.into(),
            online: true,
        };
        let nodes = || {
            vec![node("laptop.one.ts.net", "1"), node("laptop.two.ts.net", "2"), node("Desk", "3"), node("desk-1", "4")]
        };
        assert_eq!(find_by_name("laptop.two.ts.net.", nodes()).unwrap(), "2");
        assert_eq!(find_by_name("desk", nodes()).unwrap(), "3");
        assert_eq!(
            find_by_name("desk.one.ts.net", nodes()).unwrap_err().kind,
            ErrorKind::NotFound,
            "it has no name in full"
        );
        assert_eq!(find_by_name("laptop.three.ts.net", nodes()).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(find_by_name("laptop", nodes()).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(find_by_name("desk-1.evil.example", nodes()).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(find_by_name("des", nodes()).unwrap_err().kind, ErrorKind::NotFound);
    }
}
