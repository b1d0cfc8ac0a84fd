//! The answers of a `tailscaled`, limited to the fields used here. New versions add keys freely, and empty fields are
//! omitted.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use thrum_core::{SetDigest, limits::MAX_FOREIGN_ID_BYTES};
use thrum_sync::transport::Node;

/// Reads `null` as the default value: Go writes `null` for an empty list or map.
fn null_as_empty<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The answer to `GET /localapi/v0/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    /// The version of `tailscaled`.
    pub version: String,
    /// Whether the node has a kernel device. Without one, its addresses cannot be bound and its connections come from
    /// loopback.
    #[serde(rename = "TUN")]
    pub tun: bool,
    /// `NoState`, `NeedsLogin`, `NeedsMachineAuth`, `Stopped`, `Starting`, `Running`, `InUseOtherUser`.
    pub backend_state: String,
    /// Whether the node was ever registered.
    pub have_node_key: bool,
    /// The URL at which a user logs the node in; empty unless `tailscaled` waits for a login.
    #[serde(rename = "AuthURL")]
    pub auth_url: String,
    /// The node's addresses; empty before it is registered.
    #[serde(rename = "TailscaleIPs", deserialize_with = "null_as_empty")]
    pub addresses: Vec<IpAddr>,
    /// The node itself.
    #[serde(rename = "Self", deserialize_with = "null_as_empty")]
    pub me: PeerNode,
    /// Current problems, in sentences.
    #[serde(deserialize_with = "null_as_empty")]
    pub health: Vec<String>,
    /// The tailnet's domain, without a trailing dot.
    #[serde(rename = "MagicDNSSuffix")]
    pub domain: String,
    /// The other nodes by key; empty if they were not requested.
    #[serde(rename = "Peer", deserialize_with = "null_as_empty")]
    pub peers: BTreeMap<String, PeerNode>,
    /// Users by id.
    #[serde(rename = "User", deserialize_with = "null_as_empty")]
    pub users: BTreeMap<String, User>,
}

/// A node in a status.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PeerNode {
    /// Stable id of the node.
    #[serde(rename = "ID")]
    pub id: String,
    /// `nodekey:…`; changes when the node logs in again.
    pub public_key: String,
    /// The machine's own name for itself.
    pub host_name: String,
    /// The node's name on the tailnet, with a trailing dot; may be empty.
    #[serde(rename = "DNSName")]
    pub dns_name: String,
    /// The owner, if the node has no tags.
    #[serde(rename = "UserID")]
    pub user_id: i64,
    /// The node's addresses.
    #[serde(rename = "TailscaleIPs", deserialize_with = "null_as_empty")]
    pub addresses: Vec<IpAddr>,
    /// The node's tags. A node with tags belongs to no user.
    #[serde(deserialize_with = "null_as_empty")]
    pub tags: Vec<String>,
    /// The node's home relay.
    pub relay: String,
    /// Whether the control server currently sees the node as online.
    pub online: bool,
    /// When the node's key expires, in RFC 3339; `None` if it never does.
    pub key_expiry: Option<String>,
    /// Whether the node's key has expired.
    pub expired: bool,
    /// Whether the node belongs to another tailnet and is listed only because a node of ours is shared with its user.
    /// Such a node cannot be dialled.
    pub sharee_node: bool,
}

/// A user of the tailnet.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct User {
    /// `alice@example.com`.
    pub login_name: String,
}

impl NodeStatus {
    /// Converts a node of this status to a [`Node`].
    pub fn node(&self, of: &PeerNode) -> Node {
        let user = self.users.get(&of.user_id.to_string()).map_or("", |user| &user.login_name);
        node(&of.id, &of.public_key, &[&of.dns_name, &of.host_name], user, &of.tags)
    }
}

/// The answer to `GET /localapi/v0/whois`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WhoIs {
    node: WhoIsNode,
    user_profile: User,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct WhoIsNode {
    #[serde(rename = "StableID")]
    stable_id: String,
    key: String,
    name: String,
    computed_name: String,
    #[serde(deserialize_with = "null_as_empty")]
    addresses: Vec<String>,
    #[serde(deserialize_with = "null_as_empty")]
    tags: Vec<String>,
}

impl WhoIs {
    /// Converts this node to a [`Node`].
    pub fn node(&self) -> Node {
        let WhoIsNode { stable_id, key, name, computed_name, tags, .. } = &self.node;
        node(stable_id, key, &[name, computed_name], &self.user_profile.login_name, tags)
    }

    /// The node's address; the IPv4 one if there is one.
    pub fn address(&self) -> Option<IpAddr> {
        let mut all: Vec<IpAddr> = self
            .node
            .addresses
            .iter()
            .filter_map(|prefix| prefix.split('/').next().and_then(|ip| ip.parse().ok()))
            .collect();
        all.sort_by_key(IpAddr::is_ipv6);
        all.first().copied()
    }
}

/// Builds a node whose fields have at most [`MAX_FOREIGN_ID_BYTES`], because peers store them and read no more. Longer
/// names and joined tags are cut.
fn node(stable_id: &str, key: &str, names: &[&String], login: &str, tags: &[String]) -> Node {
    let name = names.iter().find(|name| !name.is_empty()).map_or("", |name| first_label(name));
    let id = if stable_id.is_empty() { key } else { stable_id };
    let user = if tags.is_empty() { login.to_owned() } else { tags.join(",") };
    Node {
        // A cut id could be another node's, so a long id is replaced by its hash.
        id: if id.len() > MAX_FOREIGN_ID_BYTES { SetDigest::of(id.as_bytes()).to_string() } else { id.to_owned() },
        name: cut(name).to_owned(),
        user: cut(&user).to_owned(),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FOREIGN_ID_BYTES)]
}

/// The first label of a domain name: `laptop` of `laptop.tail1234.ts.net.`.
pub fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The answer to `POST /localapi/v0/ping`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Pong {
    /// The reason for a failure; empty if the node answered.
    pub err: String,
    /// Round-trip time in seconds; 0 if the node did not answer.
    pub latency_seconds: f64,
    /// The relay that the packets went through; empty if none.
    #[serde(rename = "DERPRegionCode")]
    pub relay: String,
    /// Another node that relayed the packets; empty if none.
    pub peer_relay: String,
}

/// The answer to `GET /localapi/v0/prefs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Prefs {
    /// The control server; empty if none was chosen yet.
    #[serde(rename = "ControlURL")]
    pub control_url: String,
}

/// One line of `watch-ipn-bus`, limited to two fields. The status, requested after every line, contains the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Notice {
    /// The reason why the control server refused the node, in the server's own words; `None` if the line names none.
    pub err_message: Option<String>,
    /// The new state, as a number; `None` if the line names none.
    pub state: Option<i64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_control_calls_a_node_fits_where_it_is_stored() {
        let tags: Vec<String> = (0..100).map(|n| format!("tag:ü-{n}")).collect();
        let whois = |id: &str| {
            let whois = serde_json::json!({"Node": {"StableID": id, "Name": "é".repeat(300), "Tags": tags}});
            serde_json::from_value::<WhoIs>(whois).unwrap().node()
        };
        let long = "n".repeat(MAX_FOREIGN_ID_BYTES + 1);
        let (one, other) = (whois(&long), whois(&format!("{long}x")));
        assert_ne!(one.id, other.id, "an id stays one node's");
        for text in [&one.id, &one.name, &one.user] {
            assert!((60..=MAX_FOREIGN_ID_BYTES).contains(&text.len()), "{text}");
        }
        assert!(one.user.starts_with("tag:ü-0,tag:ü-1,"));
        assert_eq!(whois("n1").id, "n1");
    }
}
