//! Who we are paired with: `peers.json`, in the shape of Go Thrum's plus our keys.
//!
//! The file is the registry: what is here is durable, for every change is written before it counts, so that a token never
//! leaves for a peer that a crash would make us forget. A file that cannot be read whole is an error and nothing else; Go's
//! way of starting without peers then is how sync stops silently. Keys that we do not know survive at every level.

mod entry;

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_core::{ErrorKind, Fault, Stamp, json, limits, name};

pub use entry::{Moved, Origin, Peer, Stranger};

use crate::{
    Now, Token,
    pairing::Protocol,
    state_file::{StateFile, misshapen},
    transport::{Kind, Node},
};

/// The paired daemons.
#[derive(Debug)]
pub struct Registry {
    file: StateFile,
    content: Content,
    /// When `last_sync` was last written, and whether it changed since.
    written: Duration,
    stale: bool,
    /// By peer, who else used its token. In memory only: whoever has a stolen token must not keep our disk busy.
    strays: BTreeMap<String, Stray>,
    /// By peer, who used the token that we share with it, as it says.
    reported: BTreeMap<String, Stray>,
    /// Of each peer, when it was last said that it announces something under another's id.
    misnamed: BTreeMap<String, Duration>,
}

/// Somebody who used a peer's token and is not that peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stray {
    /// From where, the last time.
    pub node: Node,
    /// When that was.
    pub at: Stamp,
    /// How often it happened since the daemon's start.
    pub times: u64,
    /// When there was last a word about it.
    #[serde(skip)]
    said: Option<Stamp>,
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
    /// The port of the local transport, once it was opened.
    #[serde(default, skip_serializing_if = "is_zero")]
    port: u16,
    /// The port of the tailnet transport, once it was opened. Our key.
    #[serde(default, skip_serializing_if = "is_zero")]
    tailnet_port: u16,
    #[serde(flatten)]
    unknown: Map<String, Value>,
}

impl Content {
    /// The name wanted, with `-2`, `-3`, … if another peer has it.
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
    /// Reads `peers.json`; there need not be one.
    ///
    /// # Errors
    /// A file that cannot be read or understood whole, or that names a peer or a token twice. Retrying does not help.
    pub fn open(path: PathBuf, daemon_id: &str) -> Result<Self, Fault> {
        let file = StateFile::at(path)?;
        let mut content = match file.read()? {
            Some(text) => parse(&text).map_err(|why| file.broken(&why))?,
            None => Content::default(),
        };
        // Go Thrum's own file, found in our place: its peers go on knowing us by its id.
        let theirs = std::mem::replace(&mut content.local.daemon_id, daemon_id.to_owned());
        if !theirs.is_empty() && theirs != daemon_id && !thrum_core::key::is_signed_origin(&theirs) {
            content.peers.iter_mut().filter(|peer| peer.as_daemon_id.is_none()).for_each(|peer| peer.as_daemon_id = Some(theirs.clone()));
        }
        Ok(Self {
            file,
            content,
            written: Duration::ZERO,
            stale: false,
            strays: BTreeMap::new(),
            reported: BTreeMap::new(),
            misnamed: BTreeMap::new(),
        })
    }

    /// All peers, in the order of pairing.
    pub fn peers(&self) -> &[Peer] {
        &self.content.peers
    }

    /// The peer of this id.
    pub fn get(&self, daemon_id: &str) -> Option<&Peer> {
        self.content.peers.iter().find(|peer| peer.daemon_id == daemon_id)
    }

    /// The peer of this id or name.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn find(&self, id_or_name: &str) -> Result<&Peer, Fault> {
        self.get(id_or_name).or_else(|| self.content.peers.iter().find(|peer| peer.name == id_or_name)).ok_or_else(|| {
            Fault::new(ErrorKind::NotFound, format!("peer \"{}\" not found", name::printable(id_or_name)))
                .hint("`thrum peer list` shows the paired peers.")
        })
    }

    /// Whose token this is, if it is valid on this kind of transport. Looks at every entry whatever it finds.
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

    /// Stores a new peer, durably. Its name gets `-2`, `-3`, … if another peer has it.
    ///
    /// # Errors
    /// `Refused` for an id that is paired already, unless that pairing never worked or the peer removed us since; the disk.
    pub fn pair(&mut self, stranger: Stranger, token: Token, at: Stamp) -> Result<Peer, Fault> {
        if let Some(known) = self.get(&stranger.daemon_id).filter(|known| known.token_used && !known.removed_us) {
            return Err(Fault::new(ErrorKind::Refused, format!("already paired with {}", known.name))
                .hint(format!("Run `thrum peer remove {}` on both machines to pair anew.", known.name)));
        }
        if self.content.peers.len() >= limits::MAX_PEERS && self.get(&stranger.daemon_id).is_none() {
            return Err(Fault::new(ErrorKind::Refused, format!("there are {} peers already, the most allowed", limits::MAX_PEERS)));
        }
        self.update(|content| {
            // It goes on knowing us by the id that it knows, unless the PAKE has just told it ours.
            let known = content.peers.iter().find(|peer| peer.daemon_id == stranger.daemon_id && stranger.protocol == Protocol::Plain);
            let as_daemon_id = known.and_then(|peer| peer.as_daemon_id.clone());
            content.peers.retain(|peer| peer.daemon_id != stranger.daemon_id);
            let name = content.free_name(&stranger.display_name());
            let mut peer = Peer::new(stranger, name, token, at);
            peer.as_daemon_id = as_daemon_id;
            content.peers.push(peer.clone());
            peer
        })
    }

    /// Stores peers that another program had, durably and as a whole; returns them as they are called here. Those beyond
    /// [`limits::MAX_PEERS`] are an error, and so is the disk; nobody is stored then.
    ///
    /// # Errors
    /// `Refused`; the disk.
    pub fn take_over(&mut self, peers: Vec<Peer>) -> Result<Vec<Peer>, Fault> {
        if self.content.peers.len() + peers.len() > limits::MAX_PEERS {
            return Err(Fault::new(ErrorKind::Refused, format!("there would be more than {} peers, the most allowed", limits::MAX_PEERS)));
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

    /// Gives a peer a name of a person's choice, durably; from then on it does not follow what the peer calls itself.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be one, `Refused` for another peer's; the disk.
    pub fn rename(&mut self, daemon_id: &str, name: &str) -> Result<(), Fault> {
        name::check_peer(name)?;
        if let Some(other) = self.content.peers.iter().find(|peer| peer.name == name && peer.daemon_id != daemon_id) {
            return Err(Fault::new(ErrorKind::Refused, format!("another peer is called {name}, {}", name::printable(&other.daemon_id)))
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

    /// What a peer is to be called that now calls itself `own`; `None` if its name stays: a person gave it, or it is that one
    /// already, perhaps with the number that tells it from another peer.
    pub fn follows_name(&self, daemon_id: &str, own: &str) -> Option<String> {
        let peer = self.get(daemon_id).filter(|peer| !peer.named_here && !own.is_empty())?;
        let wanted = entry::shown(own);
        let is_numbered = |rest: &str| rest.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()));
        if peer.name.strip_prefix(&wanted).is_some_and(|rest| rest.is_empty() || is_numbered(rest)) {
            return None;
        }
        Some(self.content.free_name(&wanted)).filter(|name| name::check_peer(name).is_ok())
    }

    /// Notes that a peer calls itself something else now; returns its new name here if that follows.
    ///
    /// # Errors
    /// The disk; it keeps its name then.
    pub fn follow_name(&mut self, daemon_id: &str, own: &str) -> Result<Option<String>, Fault> {
        let Some(name) = self.follows_name(daemon_id, own) else { return Ok(None) };
        self.change(daemon_id, |_| true, |peer| name.clone_into(&mut peer.name))?;
        Ok(Some(name))
    }

    /// Removes a peer, durably; returns what it was, `None` if there was none.
    ///
    /// # Errors
    /// The disk; the peer stays then.
    pub fn remove(&mut self, daemon_id: &str) -> Result<Option<Peer>, Fault> {
        let Some(peer) = self.get(daemon_id).cloned() else { return Ok(None) };
        self.update(|content| content.peers.retain(|peer| peer.daemon_id != daemon_id))?;
        self.strays.remove(daemon_id);
        self.reported.remove(daemon_id);
        self.misnamed.remove(daemon_id);
        Ok(Some(peer))
    }

    /// Notes that the peer's token worked: a repeated pairing no longer replaces the entry. Written once.
    ///
    /// # Errors
    /// The disk.
    pub fn token_worked(&mut self, daemon_id: &str) -> Result<(), Fault> {
        self.change(daemon_id, |peer| !peer.token_used || peer.removed_us, |peer| (peer.token_used, peer.removed_us) = (true, false))
    }

    /// Notes that the peer does not know us any more. Written once.
    ///
    /// # Errors
    /// The disk.
    pub fn removed_us(&mut self, daemon_id: &str) -> Result<(), Fault> {
        self.change(daemon_id, |peer| !peer.removed_us, |peer| peer.removed_us = true)
    }

    /// Notes that the peer was heard. Reaches the file at most once per [`limits::ROUND`].
    ///
    /// # Errors
    /// The disk; the time is kept in memory and written with the next change.
    pub fn heard(&mut self, daemon_id: &str, now: Now) -> Result<(), Fault> {
        if let Some(peer) = self.content.peers.iter_mut().find(|peer| peer.daemon_id == daemon_id) {
            peer.last_sync = Some(now.at);
            self.stale = true;
        }
        if self.stale && now.tick >= self.written + limits::ROUND {
            self.written = now.tick;
            self.update(|_| ())?;
        }
        Ok(())
    }

    /// Writes what [`heard`](Self::heard) has kept back. For a stopping daemon.
    ///
    /// # Errors
    /// The disk.
    pub fn flush(&mut self) -> Result<(), Fault> {
        if self.stale { self.update(|_| ()) } else { Ok(()) }
    }

    /// Learns from which node a peer calls that has not called before: where it listens, too, if it has a key. Once.
    ///
    /// # Errors
    /// The disk; nothing is learnt then.
    pub fn learn_caller(&mut self, daemon_id: &str, node: &Node) -> Result<(), Fault> {
        let place = |peer: &Peer| if peer.has_key() { peer.node.is_none() } else { peer.calls_from.is_none() };
        self.change(daemon_id, place, |peer| {
            let place = if peer.has_key() { &mut peer.node } else { &mut peer.calls_from };
            *place = Some(node.clone());
        })
    }

    /// Learns on which node a peer listens, if that is not known, or what that node is called now. Another node is not
    /// learnt here.
    ///
    /// # Errors
    /// The disk; nothing is learnt then.
    pub fn learn_node(&mut self, daemon_id: &str, node: &Node) -> Result<(), Fault> {
        let due = |peer: &Peer| peer.node.as_ref().is_none_or(|known| known.id == node.id && known != node);
        self.change(daemon_id, due, |peer| peer.node = Some(node.clone()))
    }

    /// Notes that a peer proved that it is on another node now.
    ///
    /// # Errors
    /// The disk; it has not moved then.
    pub fn moved(&mut self, daemon_id: &str, to: &Node, at: Stamp) -> Result<(), Fault> {
        self.change(
            daemon_id,
            |_| true,
            |peer| {
                if let Some(from) = peer.node.replace(to.clone()) {
                    peer.moved = Some(Moved { from, to: to.clone(), at });
                }
            },
        )?;
        if self.strays.get(daemon_id).is_some_and(|stray| stray.node.id == to.id) {
            self.strays.remove(daemon_id);
        }
        Ok(())
    }

    /// Notes where a peer's node is reached now. Written if it changed.
    ///
    /// # Errors
    /// The disk; the old address stays.
    pub fn follow(&mut self, daemon_id: &str, address: &str) -> Result<(), Fault> {
        self.change(daemon_id, |peer| peer.address != address, |peer| address.clone_into(&mut peer.address))
    }

    /// Notes on which port a peer listens now, as it reports itself, and on which address of its node, as the network reports it. A name
    /// and an address of the other family stay as they are. Written if it changed.
    ///
    /// # Errors
    /// The disk; the old address stays.
    pub fn listens_at(&mut self, daemon_id: &str, calls_from: Option<IpAddr>, port: u16) -> Result<(), Fault> {
        let Some(peer) = self.get(daemon_id) else { return Ok(()) };
        let Some((host, _)) = peer.address.rsplit_once(':') else { return Ok(()) };
        let known: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        let host = match (known, calls_from) {
            (Some(known), Some(now)) if known.is_ipv4() == now.is_ipv4() => now.to_string(),
            _ => host.to_owned(),
        };
        let (name, old, new) = (peer.name.clone(), peer.address.clone(), crate::transport::with_port(&host, port));
        if old == new {
            return Ok(());
        }
        self.follow(daemon_id, &new)?;
        tracing::info!("[pairing] {name} listens at {} now, and not at {} any more", name::printable(&new), name::printable(&old));
        Ok(())
    }

    /// Notes that somebody else uses a peer's token.
    pub fn strayed(&mut self, daemon_id: &str, node: &Node, at: Stamp) {
        note(&mut self.strays, daemon_id, node, at);
    }

    /// Whether that is worth a word now, in the log and to the peer; once per [`limits::STRAY_PAUSE`].
    pub fn stray_is_news(&mut self, daemon_id: &str, at: Stamp) -> bool {
        is_news(&mut self.strays, daemon_id, at)
    }

    /// Who else used a peer's token last.
    pub fn stray(&self, daemon_id: &str) -> Option<&Stray> {
        self.strays.get(daemon_id)
    }

    /// Notes that a peer refused somebody who used the token that we share with it; whether it is worth a word in the log.
    pub fn strayed_there(&mut self, daemon_id: &str, node: &Node, at: Stamp) -> bool {
        note(&mut self.reported, daemon_id, node, at);
        is_news(&mut self.reported, daemon_id, at)
    }

    /// Whom a peer refused last who used the token that we share with it.
    pub fn stray_there(&self, daemon_id: &str) -> Option<&Stray> {
        self.reported.get(daemon_id)
    }

    /// Whether it is worth a word in the log now that a peer announces something under another's id; once per
    /// [`limits::MISNAMED_PAUSE`].
    pub fn misnamed_is_news(&mut self, daemon_id: &str, now: Now) -> bool {
        let news = self.misnamed.get(daemon_id).is_none_or(|said| now.tick >= *said + limits::MISNAMED_PAUSE);
        if news {
            self.misnamed.insert(daemon_id.to_owned(), now.tick);
        }
        news
    }

    /// The port that a transport keeps, if it was ever opened.
    pub fn port(&self, kind: Kind) -> Option<u16> {
        let local = &self.content.local;
        let port = match kind {
            Kind::Local => local.port,
            Kind::Tailnet => local.tailnet_port,
        };
        Some(port).filter(|port| *port != 0)
    }

    /// Keeps the port of a transport, durably, for every start from now on.
    ///
    /// # Errors
    /// The disk.
    pub fn keep_port(&mut self, kind: Kind, port: u16) -> Result<(), Fault> {
        if self.port(kind) == Some(port) {
            return Ok(());
        }
        self.update(|content| match kind {
            Kind::Local => content.local.port = port,
            Kind::Tailnet => content.local.tailnet_port = port,
        })
    }

    fn change(&mut self, daemon_id: &str, due: impl Fn(&Peer) -> bool, change: impl Fn(&mut Peer)) -> Result<(), Fault> {
        if !self.get(daemon_id).is_some_and(due) {
            return Ok(());
        }
        self.update(|content| content.peers.iter_mut().filter(|peer| peer.daemon_id == daemon_id).for_each(change))
    }

    /// Changes a copy, writes it, and only then lets it count.
    fn update<R>(&mut self, change: impl FnOnce(&mut Content) -> R) -> Result<R, Fault> {
        let mut content = self.content.clone();
        let result = change(&mut content);
        let mut text = zeroize::Zeroizing::new(
            serde_json::to_string_pretty(&content).map_err(|error| Fault::new(ErrorKind::Failed, error.to_string()))?,
        );
        text.push('\n');
        self.file.write(&text)?;
        self.content = content;
        self.stale = false;
        Ok(result)
    }
}

fn note(strays: &mut BTreeMap<String, Stray>, daemon_id: &str, node: &Node, at: Stamp) {
    let (times, said) = strays.get(daemon_id).map_or((0, None), |before| (before.times, before.said));
    strays.insert(daemon_id.to_owned(), Stray { node: node.clone(), at, times: times + 1, said });
}

fn is_news(strays: &mut BTreeMap<String, Stray>, daemon_id: &str, at: Stamp) -> bool {
    let Some(stray) = strays.get_mut(daemon_id) else { return false };
    // One that lies ahead was said before the clock went back.
    let news = stray.said.is_none_or(|said| said > at || at.since(said) >= limits::STRAY_PAUSE);
    if news {
        stray.said = Some(at);
    }
    news
}

/// Reads both of Go's forms: the object, and the bare array of v0.5.9.
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
