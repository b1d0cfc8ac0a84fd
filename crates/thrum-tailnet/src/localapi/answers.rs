//! What a `tailscaled` answers, as far as it is used here. It adds keys freely and leaves out empty ones.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use thrum_core::{Sum, limits::MAX_FOREIGN_ID_BYTES};
use thrum_sync::transport::Node;

/// Go writes `null` for an empty list or map.
fn null_as_empty<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `GET /localapi/v0/status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    /// `tailscaled`'s version.
    pub version: String,
    /// Whether it has a device of the kernel. Without, its addresses cannot be bound and its connections come from loopback.
    #[serde(rename = "TUN")]
    pub tun: bool,
    /// `NoState`, `NeedsLogin`, `NeedsMachineAuth`, `Stopped`, `Starting`, `Running`, `InUseOtherUser`.
    pub backend_state: String,
    /// Whether it was registered once.
    pub have_node_key: bool,
    /// Where a person logs it in; empty if nobody needs to.
    #[serde(rename = "AuthURL")]
    pub auth_url: String,
    /// Its addresses; none before it is registered.
    #[serde(rename = "TailscaleIPs", deserialize_with = "null_as_empty")]
    pub addresses: Vec<IpAddr>,
    /// Itself.
    #[serde(rename = "Self", deserialize_with = "null_as_empty")]
    pub me: PeerNode,
    /// What is wrong, in sentences.
    #[serde(deserialize_with = "null_as_empty")]
    pub health: Vec<String>,
    /// The tailnet's domain, without a dot at the end.
    #[serde(rename = "MagicDNSSuffix")]
    pub domain: String,
    /// The other nodes by key; empty if they were not asked for.
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
    /// Stable.
    #[serde(rename = "ID")]
    pub id: String,
    /// `nodekey:…`; changes when the node logs in anew.
    pub public_key: String,
    /// As the machine calls itself.
    pub host_name: String,
    /// As the tailnet calls it, with a dot at the end.
    #[serde(rename = "DNSName")]
    pub dns_name: String,
    /// Whose it is, if it has no tags.
    #[serde(rename = "UserID")]
    pub user_id: i64,
    /// Its addresses.
    #[serde(rename = "TailscaleIPs", deserialize_with = "null_as_empty")]
    pub addresses: Vec<IpAddr>,
    /// Its tags; a node with tags belongs to no user.
    #[serde(deserialize_with = "null_as_empty")]
    pub tags: Vec<String>,
    /// Its home relay.
    pub relay: String,
    /// Whether control has seen it just now.
    pub online: bool,
    /// RFC 3339; none if it never expires.
    pub key_expiry: Option<String>,
    /// Whether it has.
    pub expired: bool,
    /// Whether it is another tailnet's, there only because a node of ours is shared with its user. It cannot be dialled.
    pub sharee_node: bool,
}

/// A user.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct User {
    /// `alice@example.com`.
    pub login_name: String,
}

impl NodeStatus {
    /// A node of this status as peers know it.
    pub fn node(&self, of: &PeerNode) -> Node {
        let user = self.users.get(&of.user_id.to_string()).map_or("", |user| &user.login_name);
        node(&of.id, &of.public_key, &[&of.dns_name, &of.host_name], user, &of.tags)
    }
}

/// `GET /localapi/v0/whois`.
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
    /// The node as peers know it.
    pub fn node(&self) -> Node {
        let WhoIsNode { stable_id, key, name, computed_name, tags, .. } = &self.node;
        node(stable_id, key, &[name, computed_name], &self.user_profile.login_name, tags)
    }

    /// The node's address, the IPv4 one if it has one.
    pub fn address(&self) -> Option<IpAddr> {
        let mut all: Vec<IpAddr> =
            self.node.addresses.iter().filter_map(|prefix| prefix.split('/').next().and_then(|ip| ip.parse().ok())).collect();
        all.sort_by_key(IpAddr::is_ipv6);
        all.first().copied()
    }
}

/// Others store what this says, and read no more than [`MAX_FOREIGN_ID_BYTES`]: a node may have any number of tags.
fn node(stable_id: &str, key: &str, names: &[&String], login: &str, tags: &[String]) -> Node {
    let name = names.iter().find(|name| !name.is_empty()).map_or("", |name| first_label(name));
    let id = if stable_id.is_empty() { key } else { stable_id };
    let user = if tags.is_empty() { login.to_owned() } else { tags.join(",") };
    Node {
        // One that is cut could be another's.
        id: if id.len() > MAX_FOREIGN_ID_BYTES { Sum::of(id.as_bytes()).to_string() } else { id.to_owned() },
        name: cut(name).to_owned(),
        user: cut(&user).to_owned(),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_FOREIGN_ID_BYTES)]
}

/// `laptop` of `laptop.tail1234.ts.net.`.
pub fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// `POST /localapi/v0/ping`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Pong {
    /// Why not; empty if it answered.
    pub err: String,
    /// There and back.
    pub latency_seconds: f64,
    /// The relay it went through, if it did.
    #[serde(rename = "DERPRegionCode")]
    pub relay: String,
    /// Another node that relayed, if one did.
    pub peer_relay: String,
}

/// What is set, of `GET /localapi/v0/prefs`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Prefs {
    /// The control server; empty if none was chosen yet.
    #[serde(rename = "ControlURL")]
    pub control_url: String,
}

/// One line of `watch-ipn-bus`, as far as it is not in the status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Notice {
    /// What control said against us, in its own words.
    pub err_message: Option<String>,
    /// A new state, as a number.
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
