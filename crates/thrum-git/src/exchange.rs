//! One exchange with the remote: fetch, store what is missing here, publish what is missing there.

mod publishing;
mod reading;
mod storing;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use serde::Deserialize;
use thrum_core::{
    Ambient, Error, Head, Heads, RangeSet, Timestamp,
    compare::{Listing, LogOf},
    exchange::Applied,
    name,
    quota::OverQuota,
};
use thrum_sync::{Log, protocol::wire::Served};
use zeroize::Zeroizing;

use crate::{
    GitError, limits,
    manifest::{Index, Manifest, Segment, Unusable},
    mirror::Mirror,
    seal::Key,
    segment,
};

/// Signs a manifest with the daemon's key, as
/// [`sign_manifest`](thrum_core::DaemonKey::sign_manifest) does.
pub type Signer = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// This daemon, as it appears on the remote.
#[derive(Clone)]
pub struct Me {
    /// Its id.
    pub daemon_id: String,
    /// Its name.
    pub name: String,
    /// Signs with its key.
    pub sign: Signer,
    /// The X25519 secret key of this daemon. It decrypts segments that other daemons encrypted for this one.
    pub exchange_secret: Zeroizing<[u8; 32]>,
}

/// Whose events are stored.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The daemons that are trusted, with their names: those that a person trusted, and peers.
    pub trusted: BTreeMap<String, String>,
    /// The daemons that a person does not trust, whoever vouches for them.
    pub distrusted: BTreeSet<String>,
    /// Whom trusted daemons vouched for when their indexes were last read, by daemon. It holds while an index cannot be
    /// read, also of a daemon that is no longer on the remote: who leaves withdraws nothing.
    pub vouched: BTreeMap<String, BTreeSet<String>>,
    /// The numbers of the newest manifests that were seen. An older one was put back by somebody.
    pub numbers: BTreeMap<String, u64>,
    /// Whether what is published is encrypted, so that only trusted daemons read it.
    pub encrypts: bool,
}

/// What an exchange found and did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The version vector of this daemon, as of the end of the exchange.
    pub heads: Option<Heads>,
    /// The other daemons on the remote, by id.
    pub daemons: BTreeMap<String, Seen>,
    /// What was stored here.
    pub applied: Applied,
    /// What was published; `None` if nothing was to be published.
    pub published: Option<Published>,
    /// Whom trusted daemons vouch for, as far as their indexes were read, by daemon.
    pub vouched: BTreeMap<String, BTreeSet<String>>,
    /// Number of daemons on the remote that were not looked at, because together they publish too much.
    pub left_out: usize,
    /// Whether purged events are still being removed here, so that not everything could be published.
    pub purge_goes_on: bool,
}

/// Another daemon on the remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name, escaped for display; empty if its manifest cannot be read.
    pub name: String,
    /// When it published, by its clock.
    pub at: Option<Timestamp>,
    /// The number of its manifest; 0 if that cannot be read.
    pub number: u64,
    /// Its version vector, if it is trusted.
    pub heads: Option<Heads>,
    /// Whether its events are stored.
    pub state: SeenState,
    /// Whether what it publishes is encrypted; `None` if its manifest cannot be read.
    pub is_encrypted: Option<bool>,
    /// Segments that are not used, with the reason of the last one.
    pub bad_segments: Option<(usize, String)>,
    /// Number of events that it publishes although they were purged here. Known for logs with origin sequences.
    pub purged: u64,
}

/// Whether the events of a daemon are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeenState {
    /// Nobody has trusted or distrusted it.
    #[default]
    Waiting,
    /// A person does not trust it.
    Distrusted,
    /// Its events are stored.
    Trusted,
    /// Its manifest or index is not usable.
    Unusable(Unusable),
    /// Too much of what it publishes is kept here already.
    OverQuota(OverQuota),
}

/// What was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Number of events that were not on the remote before, or are published again after a purge.
    pub events: u64,
    /// Bytes of new segments.
    pub bytes: u64,
    /// Whether events that were purged here are no longer published.
    pub purged: bool,
}

/// Exchanges events of a log with a remote.
pub struct Exchange {
    mirror: Box<dyn Mirror>,
    log: Arc<dyn Log>,
    me: Me,
    /// The segments that were read to their ends, by blob.
    read_segments: HashSet<String>,
    /// The segments that cannot be read, or hold other events than their index says, by blob, with the reason.
    bad_segments: BTreeMap<String, String>,
    /// The ids of the events in segments without origin sequences, by blob.
    ids: BTreeMap<String, BTreeSet<String>>,
    /// What is held of each log, as of the last look.
    held: BTreeMap<LogOf, Held>,
    own: Option<Own>,
    /// The tips of others in the last exchange.
    seen: BTreeMap<String, String>,
    /// The daemons that were trusted in the last exchange.
    trusted: BTreeSet<String>,
    /// Until when only trusted daemons are looked at, because the remote had too much.
    only_trusted_until: Option<Timestamp>,
    ambient: Box<dyn Ambient + Send>,
}

/// What this daemon publishes.
#[derive(Clone, Debug, Default)]
struct Own {
    number: u64,
    index: Index,
    name: String,
    /// The key with which it is encrypted, if it is.
    key: Option<Key>,
    /// The daemons that can read it, if it is encrypted.
    recipients: BTreeMap<String, String>,
    /// The usable tips of others at that time.
    others: BTreeMap<String, String>,
}

/// What is held of a log with origin sequences.
#[derive(Clone, Debug)]
struct Held {
    /// The head of the log at that time.
    head: Option<Head>,
    held: RangeSet,
    purged: RangeSet,
}

/// What the remote holds of other daemons.
struct Others {
    /// The tips with usable manifests, by daemon.
    read: BTreeMap<String, Read>,
    /// The daemons that are trusted here, and those that one of them vouches for.
    trusted: BTreeSet<String>,
    /// For each daemon that is vouched for, the daemon that is trusted here and brought it in.
    brought_by: BTreeMap<String, String>,
    /// Whether the indexes of all trusted daemons on the remote are usable, so that whoever is not vouched for now has
    /// lost that for good.
    is_complete: bool,
}

/// A manifest and an index that belong together.
struct Read {
    tip: String,
    manifest: Manifest,
    key: Option<Key>,
    index: Option<Index>,
}

impl Exchange {
    /// Prepares exchanges.
    pub fn new(mirror: Box<dyn Mirror>, log: Arc<dyn Log>, me: Me, ambient: Box<dyn Ambient + Send>) -> Self {
        Self {
            mirror,
            seen: BTreeMap::new(),
            trusted: BTreeSet::new(),
            only_trusted_until: None,
            log,
            me,
            read_segments: HashSet::new(),
            bad_segments: BTreeMap::new(),
            ids: BTreeMap::new(),
            held: BTreeMap::new(),
            own: None,
            ambient,
        }
    }

    /// Makes one exchange.
    ///
    /// # Errors
    /// The remote cannot be reached or refuses, or the log or our repository fails. A repetition completes what was
    /// left undone. A daemon whose part cannot be used is no error: the report names it.
    pub fn run(&mut self, trust: &Trust) -> Result<Report, GitError> {
        let left_out = self.fetch(trust)?;
        let mut tips = self.mirror.tips()?;
        let own_there = tips.remove(&self.me.daemon_id);
        let own_tip = self.mirror.own_tip()?;
        if own_there.is_some() && own_there != own_tip {
            // Somebody else has published with this daemon's key, as from a copy of its directory: read what and under
            // which number, so that both are read by others.
            self.own = None;
        }
        tips.retain(|id, _| thrum_core::DaemonId::parse(id).is_some());
        let mut report = Report { left_out, ..Report::default() };
        let others = self.read_tips(&tips, trust, &mut report)?;
        for (id, one) in &others.read {
            self.take(id, one, &others, &mut report)?;
        }
        let own = match self.own.take() {
            Some(own) => own,
            None => self.take_own(own_tip.as_deref(), own_there.as_deref(), &mut report)?,
        };
        self.forget_unlisted(&others, &own);
        report.purge_goes_on = self.log.purge_goes_on()?;
        let is_there = own_tip.is_some() && own_tip == own_there;
        report.published = self.publish(own, &others, trust, (own_there.as_deref(), is_there), report.purge_goes_on)?;
        if tips != self.seen || report.published.is_some() {
            match self.mirror.collect_garbage() {
                Ok(kept) if kept > limits::MAX_KEPT_BYTES => self.look_at_trusted_only(),
                Ok(_) => {}
                // What it leaves costs room only, and the next exchange tries again.
                Err(error) => tracing::warn!(%error, "cannot collect the garbage of sync through git"),
            }
        }
        (self.seen, self.trusted) = (tips, others.trusted);
        report.heads = Some(self.log.heads()?);
        Ok(report)
    }

    /// Fetches the tips of all daemons, or only of those that are trusted if all others have too much. Returns the number
    /// of daemons that were left out.
    fn fetch(&mut self, trust: &Trust) -> Result<usize, GitError> {
        let now = self.ambient.now();
        if self.only_trusted_until.is_none_or(|until| until < now) {
            match self.mirror.fetch(None) {
                Err(GitError::TooMuch) => self.look_at_trusted_only(),
                other => return other,
            }
        }
        let vouched = self.trusted.iter().filter(|id| !trust.distrusted.contains(*id));
        let wanted = trust.trusted.keys().chain(vouched).chain([&self.me.daemon_id]).cloned().collect();
        self.mirror.fetch(Some(&wanted))
    }

    fn look_at_trusted_only(&mut self) {
        tracing::warn!("a git remote has too much: for a day, only trusted daemons are looked at");
        self.only_trusted_until = Some(self.ambient.now().plus(limits::ONLY_TRUSTED));
    }

    /// The ids of the events in those of the segments that have no origin sequences, by blob.
    fn ids_of<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a Segment>,
        key: Option<&Key>,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, GitError> {
        let mut found = BTreeMap::new();
        for segment in segments.filter(|segment| segment.numbers.is_empty()) {
            if !self.ids.contains_key(&segment.blob) {
                let bytes = self.mirror.blobs(std::slice::from_ref(&segment.blob), limits::MAX_SEGMENT_BYTES)?.pop();
                let events = bytes.flatten().and_then(|bytes| segment::decode(bytes, key)).unwrap_or_default();
                self.ids.insert(segment.blob.clone(), events.iter().filter_map(id_of).collect());
            }
            found.insert(segment.blob.clone(), self.ids[&segment.blob].clone());
        }
        Ok(found)
    }

    /// Which events of a log are held, and which were purged.
    fn held(&mut self, of: &LogOf) -> Result<&Held, Error> {
        let head = self.log.heads()?.get(&of.origin, &of.log).cloned();
        if self.held.get(of).is_none_or(|known| known.head != head) {
            let (mut held, mut purged, mut after) = (RangeSet::default(), RangeSet::default(), 0);
            loop {
                let numbers = self.log.numbers(of, after, thrum_core::limits::MAX_TOLD_RUNS)?;
                held.extend(&numbers.held);
                purged.extend(&numbers.purged);
                if numbers.next <= after {
                    break;
                }
                after = numbers.next;
            }
            self.held.insert(of.clone(), Held { head, held, purged });
        }
        Ok(&self.held[of])
    }

    /// The ids of the events that are held of a log.
    fn listed(&self, of: &LogOf) -> Result<BTreeSet<String>, Error> {
        let (mut ids, mut open) = (BTreeSet::new(), vec![(String::new(), String::new())]);
        while let Some((after, upto)) = open.pop() {
            match self.log.listing(of, &after, &upto, thrum_core::limits::MAX_TOLD_IDS)? {
                Listing::Ids(listed) => ids.extend(listed.into_iter().map(|(id, _)| id)),
                Listing::Parts(parts) => {
                    let mut after = after;
                    for part in parts {
                        open.push((std::mem::replace(&mut after, part.upto.clone()), part.upto));
                    }
                }
            }
        }
        Ok(ids)
    }
}

/// A daemon's name as it is shown: escaped and cut.
fn shown(name: &str) -> String {
    name::printable(&name.chars().take(thrum_core::limits::MAX_PEER_NAME_CHARS).collect::<String>())
}

/// The origin sequence of an event; 0 if it has none.
fn origin_seq(body: &str) -> u64 {
    #[derive(Deserialize)]
    struct Numbered {
        #[serde(default)]
        origin_seq: u64,
    }
    serde_json::from_str::<Numbered>(body).map_or(0, |numbered| numbered.origin_seq)
}

/// The id of a served event.
fn id_of(served: &Served) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        event_id: String,
    }
    serde_json::from_str::<Id>(&served.event_json).ok().map(|Id { event_id }| event_id)
}
