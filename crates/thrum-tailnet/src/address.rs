//! Validation of tailnet addresses: `100.64.0.0/10`, `fd7a:115c:a1e0::/48`, or a name on the tailnet. Nothing else is
//! dialled, so that a peer cannot make this daemon connect to a host in the local network, or to a program of this
//! machine.

use std::net::IpAddr;

use thrum_core::{Error, ErrorKind, name};

use thrum_sync::transport::split_address;

use crate::localapi::{NodeStatus, PeerNode, first_label};

/// A node to be reached, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Parses `host` or `[v6]`.
///
/// # Errors
/// `Invalid` for a host that cannot be a node of a tailnet.
pub(crate) fn host(text: &str) -> Result<Host, Error> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let refuse = |why: &str| {
        Err(Error::new(ErrorKind::Invalid, format!("{} {why}", name::printable(text)))
            .hint("Give the name or the 100.x address of a node of your tailnet; `tailscale status` lists them."))
    };
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return if is_tailnet(ip) { Ok(Host::Ip(ip.to_canonical())) } else { refuse("is not an address of a tailnet") };
    }
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    let plain = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    // Some resolvers accept `127.1` and `0x7f000001` as addresses. No node has such a name, and names are resolved only
    // by this module.
    if !plain || name == "localhost" || name.ends_with(".localhost") {
        return refuse("is not the name of a node");
    }
    Ok(Host::Name(name))
}

/// Parses `host:port`.
///
/// # Errors
/// `Invalid` in the cases of [`host`], and if there is no port.
pub(crate) fn host_and_port(text: &str) -> Result<(Host, u16), Error> {
    let Some((name, port)) = split_address(text).filter(|(_, port)| *port > 0) else {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is not HOST:PORT", name::printable(text))));
    };
    Ok((host(name)?, port))
}

/// The host part of `host:port`, or the whole text if there is no port. An IPv6 address without a port may also have no
/// brackets.
pub(crate) fn without_port(text: &str) -> &str {
    if text.parse::<IpAddr>().is_ok() {
        return text;
    }
    text.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())).map_or(text, |(host, _)| host)
}

/// Returns `true` for an address in the ranges that a tailnet uses for its nodes.
fn is_tailnet(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            // Excludes 100.100.100.x, reserved for Tailscale's services. 100.115.92.x, reserved for Chrome OS, is not
            // excluded.
            a == 100 && (64..128).contains(&b) && !(b == 100 && c == 100)
        }
        IpAddr::V6(ip) => ip.segments()[..3] == [0xfd7a, 0x115c, 0xa1e0],
    }
}

/// Finds the node with this name: by its name on the tailnet, in full or the first label only; otherwise by its host
/// name, if that is unambiguous.
pub(crate) fn named<'a>(status: &'a NodeStatus, wanted: &str) -> Result<&'a PeerNode, Error> {
    let nodes = || status.peers.values().chain([&status.me]);
    let dns = |node: &&PeerNode| {
        let name = node.dns_name.trim_end_matches('.');
        !name.is_empty()
            && (name.eq_ignore_ascii_case(wanted)
                || (!wanted.contains('.') && first_label(name).eq_ignore_ascii_case(wanted)))
    };
    if let Some(node) = nodes().find(dns) {
        return Ok(node);
    }
    let mut same: Vec<_> = nodes().filter(|node| node.host_name.eq_ignore_ascii_case(wanted)).collect();
    match (same.pop(), same.len()) {
        (Some(node), 0) => Ok(node),
        (Some(_), _) => {
            Err(Error::new(ErrorKind::Invalid, format!("several nodes of the tailnet call themselves {wanted}"))
                .hint("Use its name on the tailnet or its 100.x address; `tailscale status` lists them."))
        }
        (None, _) => Err(Error::new(ErrorKind::NotFound, format!("no node of the tailnet is called {wanted}")).hint(
            "`tailscale status` lists the nodes; a node that others share with you may go by its 100.x address only.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A joiner that states a false address (C8 in docs/security.md).
    #[test]
    fn only_addresses_of_a_tailnet_are_taken() {
        for text in [
            "127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.63.255.255",
            "100.128.0.1",
            "100.100.100.100",
            "::1",
            "[::1]",
            "::",
            "fd00::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "localhost",
            "a.localhost",
            "LOCALHOST.",
            "",
            ".",
            "a b",
            "a/b",
            "a\n",
            "user@host",
        ] {
            assert_eq!(host(text).map_err(|error| error.kind), Err(ErrorKind::Invalid), "{text}");
        }
        for text in
            ["100.64.0.1", "100.127.255.254", "fd7a:115c:a1e0:ab12::1", "[fd7a:115c:a1e0::53]", "::ffff:100.64.0.1"]
        {
            assert!(matches!(host(text), Ok(Host::Ip(_))), "{text}");
        }
        assert_eq!(host("Laptop.Tail1.ts.net."), Ok(Host::Name("laptop.tail1.ts.net".to_owned())));
    }

    #[test]
    fn a_port_is_needed_to_dial_and_not_to_ask_who_it_is() {
        assert_eq!(host_and_port("a:9100"), Ok((Host::Name("a".into()), 9100)));
        for text in ["a", "a:", "a:0", "a:99999", "a:b", "fd7a:115c:a1e0::1"] {
            assert!(host_and_port(text).is_err(), "{text}");
        }
        for (text, host) in [
            ("a:9100", "a"),
            ("a", "a"),
            ("[fd7a:115c:a1e0::1]:1", "[fd7a:115c:a1e0::1]"),
            ("fd7a:115c:a1e0::1", "fd7a:115c:a1e0::1"),
        ] {
            assert_eq!(without_port(text), host);
        }
    }

    #[test]
    fn a_node_is_found_by_its_name_on_the_tailnet_before_what_it_calls_itself() {
        let json = r#"{"Peer": {
            "k1": {"ID": "1", "HostName": "build", "DNSName": "build.tail.test."},
            "k2": {"ID": "2", "HostName": "build", "DNSName": "build-1.tail.test."},
            "k3": {"ID": "3", "HostName": "Ann's Mac", "DNSName": ""},
            "k4": {"ID": "4", "HostName": "twin", "DNSName": "x.tail.test."},
            "k5": {"ID": "5", "HostName": "twin", "DNSName": "y.tail.test."},
            "k6": {"ID": "6", "HostName": "phone", "DNSName": "z.tail.test."}}}"#;
        let status: NodeStatus = serde_json::from_str(json).unwrap();
        let found = |name| named(&status, name).map(|node| node.id.as_str()).map_err(|error| error.kind);
        assert_eq!(found("build"), Ok("1"));
        assert_eq!(found("build-1"), Ok("2"));
        assert_eq!(found("build.tail.test"), Ok("1"));
        assert_eq!(found("phone"), Ok("6"));
        assert_eq!(found("twin"), Err(ErrorKind::Invalid));
        assert_eq!(found("build.other.test"), Err(ErrorKind::NotFound));
    }
}
