//! The paired peers: `peers.json`, in Go Thrum's format plus fields of our own.
//!
//! The file is the registry. Each change except that of `last_sync` is written before it takes effect, so that a token
//! is never sent to a peer that a crash would make us forget. A file that cannot be read completely is an error. Go
//! Thrum starts without peers in that case, and sync stops silently. Unknown fields of the file, of `local` and of each
//! peer survive.

mod entry;
mod lives;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_core::{Error, ErrorKind, Timestamp, json, limits, name};

pub use entry::{Candidate, Moved, NodeMatch, Peer};
use lives::Lives;
pub use lives::{Seen, Sign};

use crate::{
    Now, Token,
    pairing::Protocol,
    state_file::{StateFile, misshapen},
    transport::{Kind, Node, split_address, with_port},
};

/// The paired daemons.
#[derive(Debug)]
pub struct Registry {
    file: StateFile,
    content: Content,
    /// When [`heard`](Self::heard) last wrote the file, or tried to.
    written: Duration,
    /// Whether a `last_sync` has changed since the file was last written.
    stale: bool,
    /// By peer: the latest misuse of its token here. In memory only, so that a stolen token cannot keep our disk busy.
    misuses: BTreeMap<String, TokenMisuse>,
    /// By peer: the latest misuse of our shared token, as reported by the peer.
    reported: BTreeMap<String, TokenMisuse>,
    /// By peer: when we last logged that it announces events under another daemon's id.
    misnamed: BTreeMap<String, Duration>,
    /// The processes that run with the keys of our peers, and with our own.
    lives: Lives,
}

/// Misuse of a peer's token by a caller that is not that peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenMisuse {
    /// The node of the latest caller.
    pub node: Node,
    /// Time of the latest misuse.
    pub at: Timestamp,
    /// Number of occurrences since the daemon's start.
    pub times: u64,
    /// When the misuse was last logged; `None` if never.
    #[serde(skip)]
    reported_at: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Content {
    #[serde(default)]
    local: Local,
    #[serde(default)]
    peers: Vec<Peer>,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Local {
    #[serde(default)]
    daemon_id: String,
    /// The port of the local transport; 0 until it was first opened.
    #[serde(default, skip_serializing_if = "is_zero")]
    port: u16,
    /// The port of the tailnet transport; 0 until it was first opened. Not in Go Thrum's file.
    #[serde(default, skip_serializing_if = "is_zero")]
    tailnet_port: u16,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

impl Content {
    /// Returns the wanted name, with `-2`, `-3`, … appended if another peer has it.
    fn free_name(&self, wanted: &str) -> String {
        let taken = |name: &str| self.peers.iter().any(|peer| peer.name == name);
        let names = std::iter::once(wanted.to_owned()).chain((2..).map(|n| format!("{wanted}-{n}")));
        names.into_iter().find(|name| !taken(name)).unwrap_or_else(|| wanted.to_owned())
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(port: &u16) -> bool {
    *port == 0
}

impl Registry {
    /// Reads `peers.json`, which need not exist.
    ///
    /// # Errors
    /// The file cannot be read or parsed completely, or contains a peer or a token twice. A retry does not help.
    pub fn open(path: PathBuf, daemon_id: &str) -> Result<Self, Error> {
        let file = StateFile::at(path)?;
        let mut content = match file.read()? {
            Some(text) => parse(&text).map_err(|why| file.broken(&why))?,
            None => Content::default(),
        };
        // A file with another id, not that of a key, was written by the Go Thrum that we replace. The peers in it still
        // know us by that id.
        let theirs = std::mem::replace(&mut content.local.daemon_id, daemon_id.to_owned());
        if !theirs.is_empty() && theirs != daemon_id && !thrum_core::key::is_signed_origin(&theirs) {
            content
                .peers
                .iter_mut()
                .filter(|peer| peer.as_daemon_id.is_none())
                .for_each(|peer| peer.as_daemon_id = Some(theirs.clone()));
        }
        Ok(Self {
            file,
            content,
            written: Duration::ZERO,
            stale: false,
            misuses: BTreeMap::new(),
            reported: BTreeMap::new(),
            misnamed: BTreeMap::new(),
            lives: Lives::default(),
        })
    }

    /// Returns all peers, in the order of pairing.
    pub fn peers(&self) -> &[Peer] {
        &self.content.peers
    }

    /// Finds a peer by id.
    pub fn get(&self, daemon_id: &str) -> Option<&Peer> {
        self.content.peers.iter().find(|peer| peer.daemon_id == daemon_id)
    }

    /// Finds a peer by id or name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn find(&self, id_or_name: &str) -> Result<&Peer, Error> {
        self.get(id_or_name).or_else(|| self.content.peers.iter().find(|peer| peer.name == id_or_name)).ok_or_else(
            || {
                let near = name::nearest_machine(id_or_name, self.content.peers.iter().map(|peer| peer.name.as_str()));
                let hint = near.map(|near| format!("Did you mean {}?", name::shown_machine(near)));
                Error::new(ErrorKind::NotFound, format!("peer \"{}\" not found", name::printable(id_or_name)))
                    .hint(hint.unwrap_or_else(|| "`thrum peer list` shows the paired peers.".to_owned()))
            },
        )
    }

    /// Finds the owner of a token, if the token is valid on this kind of transport. Compares all entries even after a
    /// match.
    pub fn authenticate(&self, token: &str, kind: Kind) -> Option<&Peer> {
        let mut owner = None;
        for peer in &self.content.peers {
            let matches = peer.token.as_ref().is_some_and(|known| known.matches(token));
            if matches && peer.kind() == Some(kind) {
                owner = Some(peer);
            }
        }
        owner
    }

    /// Returns the entry of a peer whose pairing has worked, and that has not removed us since. Such a peer cannot be
    /// paired again.
    pub fn working_pairing(&self, daemon_id: &str) -> Option<&Peer> {
        self.get(daemon_id).filter(|known| known.token_used && !known.removed_us)
    }

    /// Stores a new peer, durably. Appends `-2`, `-3`, … to its name if another peer has that name.
    ///
    /// # Errors
    /// `Refused` if the id is already paired, unless that pairing never worked or the peer has removed us since; or if
    /// there are too many peers. Otherwise those of the disk.
    pub fn pair(&mut self, candidate: Candidate, token: Token, at: Timestamp) -> Result<Peer, Error> {
        if let Some(known) = self.working_pairing(&candidate.daemon_id) {
            return Err(Error::new(ErrorKind::Refused, format!("already paired with {}", known.name))
                .hint(format!("Run `thrum peer remove {}` on both machines to pair anew.", known.name)));
        }
        if self.content.peers.len() >= limits::MAX_PEERS && self.get(&candidate.daemon_id).is_none() {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("there are {} peers already, the most allowed", limits::MAX_PEERS),
            ));
        }
        self.update(|content| {
            // The peer keeps the id by which it knows us, unless the PAKE has just given it our current one.
            let known = content
                .peers
                .iter()
                .find(|peer| peer.daemon_id == candidate.daemon_id && candidate.protocol == Protocol::Plain);
            let as_daemon_id = known.and_then(|peer| peer.as_daemon_id.clone());
            content.peers.retain(|peer| peer.daemon_id != candidate.daemon_id);
            let name = content.free_name(&candidate.display_name());
            let mut peer = Peer::new(candidate, name, token, at);
            peer.as_daemon_id = as_daemon_id;
            content.peers.push(peer.clone());
            peer
        })
    }

    /// Stores the peers of the Go Thrum that we replace, durably and all at once. Returns them with their names here.
    ///
    /// # Errors
    /// `Refused` if there would be more than [`limits::MAX_PEERS`]; otherwise those of the disk. In both cases no peer
    /// is stored.
    pub fn take_over(&mut self, peers: Vec<Peer>) -> Result<Vec<Peer>, Error> {
        if self.content.peers.len() + peers.len() > limits::MAX_PEERS {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("there would be more than {} peers, the most allowed", limits::MAX_PEERS),
            ));
        }
        if peers.is_empty() {
            return Ok(peers);
        }
        self.update(|content| {
            let mut taken = Vec::new();
            for mut peer in peers {
                peer.name = content.free_name(&peer.name);
                content.peers.push(peer.clone());
                taken.push(peer);
            }
            taken
        })
    }

    /// Gives a peer a name chosen by the user, durably. From then on the name no longer follows the peer's own.
    ///
    /// # Errors
    /// `Invalid` for an invalid name, `Refused` for another peer's name; otherwise those of the disk.
    pub fn rename(&mut self, daemon_id: &str, name: &str) -> Result<(), Error> {
        name::check_peer(name)?;
        if let Some(other) = self.content.peers.iter().find(|peer| peer.name == name && peer.daemon_id != daemon_id) {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("another peer is called {name}, {}", name::printable(&other.daemon_id)),
            )
            .hint("Give it another name, or rename that one first."));
        }
        self.change(
            daemon_id,
            |_| true,
            |peer| {
                name.clone_into(&mut peer.name);
                peer.named_here = true;
            },
        )
    }

    /// Returns the new name for a peer that now calls itself `own`. Returns `None` if its name here stays: the user
    /// chose that name, it already is `own` (perhaps with a number that makes it unique), or `own` cannot be used.
    pub fn follows_name(&self, daemon_id: &str, own: &str) -> Option<String> {
        let peer = self.get(daemon_id).filter(|peer| !peer.named_here && !own.is_empty())?;
        let wanted = entry::display_name(own);
        let is_numbered = |rest: &str| {
            rest.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
        };
        if peer.name.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || is_numbered(rest)) {
            return None;
        }
        Some(self.content.free_name(&wanted)).filter(|name| name::check_peer(name).is_ok())
    }

    /// Adopts a change of a peer's own name, if [`follows_name`](Self::follows_name) returns a new name. Returns that
    /// name.
    ///
    /// # Errors
    /// Those of the disk; the peer keeps its name then.
    pub fn follow_name(&mut self, daemon_id: &str, own: &str) -> Result<Option<String>, Error> {
        let Some(name) = self.follows_name(daemon_id, own) else { return Ok(None) };
        self.change(daemon_id, |_| true, |peer| name.clone_into(&mut peer.name))?;
        Ok(Some(name))
    }

    /// Removes a peer, durably. Returns the removed entry; `None` if there was none.
    ///
    /// # Errors
    /// Those of the disk; the peer stays then.
    pub fn remove(&mut self, daemon_id: &str) -> Result<Option<Peer>, Error> {
        let Some(peer) = self.get(daemon_id).cloned() else { return Ok(None) };
        self.update(|content| content.peers.retain(|peer| peer.daemon_id != daemon_id))?;
        self.misuses.remove(daemon_id);
        self.reported.remove(daemon_id);
        self.misnamed.remove(daemon_id);
        self.lives.forget(daemon_id);
        Ok(Some(peer))
    }

    /// Records that the peer's token has worked, so that a repeated pairing no longer replaces the entry, and that the
    /// peer knows us. Written once.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn token_worked(&mut self, daemon_id: &str) -> Result<(), Error> {
        self.change(
            daemon_id,
            |peer| !peer.token_used || peer.removed_us,
            |peer| (peer.token_used, peer.removed_us) = (true, false),
        )
    }

    /// Records that the peer no longer knows us. Written once.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn removed_us(&mut self, daemon_id: &str) -> Result<(), Error> {
        self.change(daemon_id, |peer| !peer.removed_us, |peer| peer.removed_us = true)
    }

    /// Records contact with the peer. Written to the file at most once per [`limits::SYNC_INTERVAL`].
    ///
    /// # Errors
    /// Those of the disk; the time is kept in memory and written with the next change.
    pub fn heard(&mut self, daemon_id: &str, now: Now) -> Result<(), Error> {
        if let Some(peer) = self.content.peers.iter_mut().find(|peer| peer.daemon_id == daemon_id) {
            peer.last_sync = Some(now.at);
            self.stale = true;
        }
        if self.stale && now.tick >= self.written + limits::SYNC_INTERVAL {
            self.written = now.tick;
            self.update(|_| ())?;
        }
        Ok(())
    }

    /// Writes the times that [`heard`](Self::heard) has held back. For a stopping daemon.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.stale { self.update(|_| ()) } else { Ok(()) }
    }

    /// Records the node from which a peer calls for the first time. If the peer has a key, it also listens there. Done
    /// once.
    ///
    /// # Errors
    /// Those of the disk; nothing is recorded then.
    pub fn learn_caller(&mut self, daemon_id: &str, node: &Node) -> Result<(), Error> {
        let place = |peer: &Peer| if peer.has_key() { peer.node.is_none() } else { peer.calls_from.is_none() };
        self.change(daemon_id, place, |peer| {
            let place = if peer.has_key() { &mut peer.node } else { &mut peer.calls_from };
            *place = Some(node.clone());
        })
    }

    /// Records the node on which a peer listens, if it was unknown, or a new name of that node. Does not change to
    /// another node.
    ///
    /// # Errors
    /// Those of the disk; nothing is recorded then.
    pub fn learn_node(&mut self, daemon_id: &str, node: &Node) -> Result<(), Error> {
        let due = |peer: &Peer| peer.node.as_ref().is_none_or(|known| known.id == node.id && known != node);
        self.change(daemon_id, due, |peer| peer.node = Some(node.clone()))
    }

    /// Records that a peer proved that it has moved to another node. A misuse from that node is forgotten.
    ///
    /// # Errors
    /// Those of the disk; the peer has not moved then.
    pub fn moved(&mut self, daemon_id: &str, to: &Node, at: Timestamp) -> Result<(), Error> {
        self.change(
            daemon_id,
            |_| true,
            |peer| {
                if let Some(from) = peer.node.replace(to.clone()) {
                    peer.moved = Some(Moved { from, to: to.clone(), at });
                }
            },
        )?;
        if self.misuses.get(daemon_id).is_some_and(|misuse| misuse.node.id == to.id) {
            self.misuses.remove(daemon_id);
        }
        Ok(())
    }

    /// Records the current address of a peer's node. Written if it changed.
    ///
    /// # Errors
    /// Those of the disk; the old address stays.
    pub fn follow(&mut self, daemon_id: &str, address: &str) -> Result<(), Error> {
        self.change(daemon_id, |peer| peer.address != address, |peer| address.clone_into(&mut peer.address))
    }

    /// Records the port on which a peer listens, as it reports itself, and the address of its node, as the network
    /// reports it. A stored host name, or address of the other IP family, is kept; only its port changes. Written if
    /// anything changed.
    ///
    /// # Errors
    /// Those of the disk; the old address stays.
    pub fn listens_at(&mut self, daemon_id: &str, calls_from: Option<IpAddr>, port: u16) -> Result<(), Error> {
        let Some(peer) = self.get(daemon_id) else { return Ok(()) };
        let Some((host, _)) = split_address(&peer.address) else { return Ok(()) };
        let known: Option<IpAddr> = host.parse().ok();
        let host = match (known, calls_from) {
            (Some(known), Some(now)) if known.is_ipv4() == now.is_ipv4() => now.to_string(),
            _ => host.to_owned(),
        };
        let (name, old, new) = (peer.name.clone(), peer.address.clone(), with_port(&host, port));
        if old == new {
            return Ok(());
        }
        self.follow(daemon_id, &new)?;
        tracing::info!(
            peer = %name,
            address = %new,
            former_address = %old,
            "[pairing] {name} listens at {} now, and not at {} any more",
            name::printable(&new),
            name::printable(&old)
        );
        Ok(())
    }

    /// Records token misuse: another caller used the peer's token.
    pub fn record_misuse(&mut self, daemon_id: &str, node: &Node, at: Timestamp) {
        record(&mut self.misuses, daemon_id, node, at);
    }

    /// Returns `true` if token misuse should be reported now, in the log and to the peer, and counts it as reported; at
    /// most once per [`limits::TOKEN_MISUSE_PAUSE`].
    pub fn misuse_is_news(&mut self, daemon_id: &str, at: Timestamp) -> bool {
        is_news(&mut self.misuses, daemon_id, at)
    }

    /// Returns the latest misuse of a peer's token.
    pub fn misuse(&self, daemon_id: &str) -> Option<&TokenMisuse> {
        self.misuses.get(daemon_id)
    }

    /// Records that a peer refused a caller that used our shared token. Returns `true` if this should be logged now.
    pub fn record_reported_misuse(&mut self, daemon_id: &str, node: &Node, at: Timestamp) -> bool {
        record(&mut self.reported, daemon_id, node, at);
        is_news(&mut self.reported, daemon_id, at)
    }

    /// Returns the latest misuse, reported by this peer, of the token that we share with it.
    pub fn reported_misuse(&self, daemon_id: &str) -> Option<&TokenMisuse> {
        self.reported.get(daemon_id)
    }

    /// Records a sign of life of a process with a peer's key. Logs once when two such processes run at the same time.
    pub fn alive(&mut self, daemon_id: &str, sign: &Sign<'_>, now: Now) {
        if self.get(daemon_id).is_none() {
            return;
        }
        if let Some((one, other)) = self.lives.alive(daemon_id, sign, now) {
            let name = self.get(daemon_id).map_or("", |peer| &peer.name);
            tracing::warn!(peer = %name, one = %one.location(), other = %other.location(), "two daemons run with the key of a peer");
        }
    }

    /// Returns the two processes that run with a peer's key at the same time, if both were seen within
    /// [`limits::SAME_KEY_RECENT`].
    pub fn both(&self, daemon_id: &str, now: Now) -> Option<(Seen, Seen)> {
        self.lives.both(daemon_id, now)
    }

    /// Returns another process that runs with the same key as process `instance`, and the time since that other process
    /// was last seen.
    pub fn other(&self, daemon_id: &str, instance: &str, now: Now) -> Option<(Seen, Duration)> {
        self.lives.other(daemon_id, instance, now)
    }

    /// Records a peer's report about our own key. Logs once when another process uses the key.
    pub fn record_other(&mut self, by: &str, other: Option<Seen>, now: Now) {
        if self.get(by).is_none() {
            return;
        }
        let location = other.as_ref().map(Seen::location);
        if self.lives.record_report(by, other, now) {
            let name = self.get(by).map_or("", |peer| &peer.name);
            tracing::warn!(
                seen_by = %name,
                location = %location.unwrap_or_default(),
                "another daemon runs with this daemon's key"
            );
        }
    }

    /// Returns other processes that run with our own key, each with the name of the peer that reports it.
    pub fn others_of_ours(&self, now: Now) -> Vec<(String, Seen)> {
        let named = |(by, seen): (String, Seen)| Some((self.get(&by)?.name.clone(), seen));
        self.lives.others_of_ours(now).into_iter().filter_map(named).collect()
    }

    /// Returns `true` if it should be logged now that a peer announces events under another daemon's id; at most once
    /// per [`limits::MISNAMED_PAUSE`].
    pub fn misnamed_is_news(&mut self, daemon_id: &str, now: Now) -> bool {
        let news = self.misnamed.get(daemon_id).is_none_or(|said| now.tick >= *said + limits::MISNAMED_PAUSE);
        if news {
            self.misnamed.insert(daemon_id.to_owned(), now.tick);
        }
        news
    }

    /// Returns the stored port of a transport; `None` if the transport was never opened.
    pub fn port(&self, kind: Kind) -> Option<u16> {
        let local = &self.content.local;
        let port = match kind {
            Kind::Local => local.port,
            Kind::Tailnet => local.tailnet_port,
        };
        Some(port).filter(|port| *port != 0)
    }

    /// Stores the port of a transport for all later starts, durably.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn keep_port(&mut self, kind: Kind, port: u16) -> Result<(), Error> {
        if self.port(kind) == Some(port) {
            return Ok(());
        }
        self.update(|content| match kind {
            Kind::Local => content.local.port = port,
            Kind::Tailnet => content.local.tailnet_port = port,
        })
    }

    fn change(
        &mut self,
        daemon_id: &str,
        due: impl Fn(&Peer) -> bool,
        change: impl Fn(&mut Peer),
    ) -> Result<(), Error> {
        if !self.get(daemon_id).is_some_and(due) {
            return Ok(());
        }
        self.update(|content| content.peers.iter_mut().filter(|peer| peer.daemon_id == daemon_id).for_each(change))
    }

    /// Applies a change to a copy, writes it, and only then makes it current.
    fn update<R>(&mut self, change: impl FnOnce(&mut Content) -> R) -> Result<R, Error> {
        let mut content = self.content.clone();
        let result = change(&mut content);
        let mut text = zeroize::Zeroizing::new(
            serde_json::to_string_pretty(&content).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?,
        );
        text.push('\n');
        self.file.write(&text)?;
        self.content = content;
        self.stale = false;
        Ok(result)
    }
}

fn record(misuses: &mut BTreeMap<String, TokenMisuse>, daemon_id: &str, node: &Node, at: Timestamp) {
    let (times, reported_at) = misuses.get(daemon_id).map_or((0, None), |before| (before.times, before.reported_at));
    misuses.insert(daemon_id.to_owned(), TokenMisuse { node: node.clone(), at, times: times + 1, reported_at });
}

fn is_news(misuses: &mut BTreeMap<String, TokenMisuse>, daemon_id: &str, at: Timestamp) -> bool {
    let Some(misuse) = misuses.get_mut(daemon_id) else { return false };
    // A time in the future means that the clock has gone back since the last report.
    let news = misuse.reported_at.is_none_or(|earlier| earlier > at || at.since(earlier) >= limits::TOKEN_MISUSE_PAUSE);
    if news {
        misuse.reported_at = Some(at);
    }
    news
}

/// Parses both of Go's formats: the object, and the bare array of v0.5.9.
fn parse(text: &str) -> Result<Content, String> {
    let text = text.trim();
    let object = if text.starts_with('[') { format!("{{\"peers\":{text}}}") } else { text.to_owned() };
    let fields = json::parse_object(&object).map_err(|error| error.to_string())?;
    let content: Content = serde_json::from_value(Value::Object(fields)).map_err(|error| misshapen(&error))?;
    for (n, peer) in content.peers.iter().enumerate() {
        peer.check()?;
        let earlier = &content.peers[..n];
        if earlier.iter().any(|other| other.daemon_id == peer.daemon_id) {
            return Err(format!("the peer {} is in it twice", name::printable(&peer.daemon_id)));
        }
        if let Some(token) = &peer.token
            && earlier.iter().filter_map(|other| other.token.as_ref()).any(|other| other.matches(token.reveal()))
        {
            return Err(format!("the token of {} is also another peer's", name::printable(&peer.name)));
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests;
