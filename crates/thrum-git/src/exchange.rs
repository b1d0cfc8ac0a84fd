//! One exchange with the remote: fetch, store what is missing here, publish what is missing there.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use serde::Deserialize;
use thrum_core::{
    Ambient, Error, Head, Heads, RangeSet, Timestamp,
    compare::{Listing, LogOf, Wanted},
    exchange::{Applied, Row},
    key, name,
    quota::OverQuota,
};
use thrum_sync::{Log, intake, protocol::wire::Served};
use zeroize::Zeroizing;

use crate::{
    GitError, limits,
    manifest::{self, Bundle, Index, Manifest, Segment, Unusable, Vouched},
    plan::{self, Changed, Events},
    repository::{INDEX, MANIFEST, Pushed, Repository},
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
    /// Its X25519 secret, which opens what others encrypted for it.
    pub exchange_secret: Zeroizing<[u8; 32]>,
}

/// Whose events are stored.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// The daemons that are trusted, with their names: those that a person trusted, and peers.
    pub trusted: BTreeMap<String, String>,
    /// The daemons that a person does not trust, whoever vouches for them.
    pub distrusted: BTreeSet<String>,
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
}

/// Another daemon on the remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name, escaped for display; empty if its manifest cannot be read.
    pub name: String,
    /// When it published, by its clock.
    pub at: Option<Timestamp>,
    /// Its version vector, if it is trusted.
    pub heads: Option<Heads>,
    /// Whether its events are stored.
    pub state: SeenState,
    /// Segments that are not used, with the reason of the last one.
    pub bad_segments: Option<(usize, String)>,
    /// Number of events that it publishes although they were purged here. Known for logs with origin sequences.
    pub purged: u64,
}

/// Whether the events of a daemon are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeenState {
    /// Nobody has trusted it yet.
    #[default]
    Waiting,
    /// A person does not trust it.
    Distrusted,
    /// They are.
    Trusted,
    /// Its manifest or index is not usable.
    Unusable(Unusable),
    /// Too much of what it publishes is kept here already.
    OverQuota(OverQuota),
}

/// What was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Number of events in new segments, also those that are published again.
    pub events: u64,
    /// Bytes of new segments.
    pub bytes: u64,
}

/// Exchanges events of a log with a remote.
pub struct Exchange {
    repository: Repository,
    log: Arc<dyn Log>,
    me: Me,
    /// The segments that were read to their ends, by blob.
    read_segments: HashSet<String>,
    /// The ids of the events in segments without origin sequences, by blob.
    ids: BTreeMap<String, BTreeSet<String>>,
    /// What is held of each log, as of the last look.
    held: BTreeMap<LogOf, Held>,
    own: Option<Own>,
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
}

/// What is held of a log with origin sequences.
#[derive(Clone, Debug)]
struct Held {
    /// The head of the log at that time.
    head: Option<Head>,
    held: RangeSet,
    purged: RangeSet,
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
    pub fn new(repository: Repository, log: Arc<dyn Log>, me: Me, ambient: Box<dyn Ambient + Send>) -> Self {
        Self {
            repository,
            log,
            me,
            read_segments: HashSet::new(),
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
        self.repository.fetch()?;
        let mut tips = self.repository.tips()?;
        let own_there = tips.remove(&self.me.daemon_id);
        tips.retain(|id, _| thrum_core::DaemonId::parse(id).is_some());
        let mut report = Report::default();
        let read = self.read_tips(&tips, trust, &mut report)?;
        for (id, one) in &read {
            self.take(id, one, &mut report)?;
        }
        report.published = self.publish(&read, trust, own_there.as_deref())?;
        if report.applied != Applied::default() || report.published.is_some() {
            self.repository.collect_garbage()?;
        }
        report.heads = Some(self.log.heads()?);
        Ok(report)
    }

    /// Reads the manifests of all daemons, and the indexes of those that are trusted.
    fn read_tips(
        &self,
        tips: &BTreeMap<String, String>,
        trust: &Trust,
        report: &mut Report,
    ) -> Result<BTreeMap<String, Read>, GitError> {
        let tips: Vec<(&String, &String)> = tips.iter().take(limits::MAX_DAEMONS).collect();
        let files = |name: &str| tips.iter().map(|(_, tip)| format!("{tip}:{name}")).collect::<Vec<_>>();
        let manifests = self.repository.blobs(&files(MANIFEST), limits::MAX_MANIFEST_BYTES)?;
        let mut read = BTreeMap::new();
        for ((id, tip), bytes) in tips.into_iter().zip(manifests) {
            let manifest = bytes.ok_or(Unusable::Missing(MANIFEST)).and_then(|bytes| Manifest::read(&bytes, id));
            let seen = report.daemons.entry(id.clone()).or_default();
            match manifest {
                Ok(manifest) => {
                    (seen.name, seen.at) = (name::printable(&manifest.name), Some(manifest.at));
                    read.insert(id.clone(), Read { tip: tip.clone(), manifest, key: None, index: None });
                }
                Err(why) => seen.state = SeenState::Unusable(why),
            }
        }
        for id in &trust.distrusted {
            if let Some(seen) = report.daemons.get_mut(id) {
                seen.state = SeenState::Distrusted;
            }
        }
        // Those that are trusted here, and those that one of them vouches for.
        let mut open: Vec<String> = trust.trusted.keys().cloned().collect();
        let mut trusted: BTreeSet<String> = trust.trusted.keys().chain(&trust.distrusted).cloned().collect();
        while let Some(id) = open.pop() {
            let (Some(seen), Some(one)) = (report.daemons.get_mut(&id), read.get_mut(&id)) else { continue };
            if trust.distrusted.contains(&id) {
                continue;
            }
            match self.read_index(one) {
                Ok(Ok(index)) => {
                    seen.state = SeenState::Trusted;
                    seen.heads = Some(index.heads.clone());
                    let vouched = index.trusts.iter().map(|vouched| vouched.daemon_id.clone());
                    open.extend(vouched.filter(|vouched| trusted.insert(vouched.clone())));
                    one.index = Some(index);
                }
                Ok(Err(why)) => seen.state = SeenState::Unusable(why),
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    /// Reads the index of a manifest, and the key of what it lists.
    fn read_index(&self, one: &mut Read) -> Result<Result<Index, Unusable>, GitError> {
        if !one.manifest.recipients.is_empty() {
            let sealed = one.manifest.recipients.get(&self.me.daemon_id);
            one.key = sealed.and_then(|sealed| Key::open(sealed, &self.me.exchange_secret));
            if one.key.is_none() {
                return Ok(Err(Unusable::NotForUs));
            }
        }
        let index = self.repository.blobs(&[format!("{}:{INDEX}", one.tip)], limits::MAX_INDEX_BYTES)?.pop().flatten();
        Ok(index.ok_or(Unusable::Missing(INDEX)).and_then(|bytes| Index::read(bytes, &one.manifest, one.key.as_ref())))
    }

    /// Stores the events that a daemon publishes and that are missing here.
    fn take(&mut self, id: &str, read: &Read, report: &mut Report) -> Result<(), GitError> {
        let (Some(index), Some(seen)) = (&read.index, report.daemons.get_mut(id)) else { return Ok(()) };
        let heads = self.log.heads()?;
        for segment in index.segments() {
            let of = plan::log_of(segment);
            if !segment.numbers.is_empty() {
                let Held { held, purged, .. } = self.held(&of, &heads)?;
                let missing = segment.numbers.clone().without(held);
                seen.purged += segment.numbers.count() - segment.numbers.clone().without(purged).count();
                if missing.without(purged).is_empty() {
                    continue;
                }
            }
            if self.read_segments.contains(&segment.blob) {
                continue;
            }
            if let Some(over) = self.log.over_quota(id)? {
                seen.state = SeenState::OverQuota(over);
                break;
            }
            let bytes = self.repository.blobs(std::slice::from_ref(&segment.blob), limits::MAX_SEGMENT_BYTES)?.pop();
            let Some(events) = bytes.flatten().and_then(|bytes| segment::decode(bytes, read.key.as_ref())) else {
                let (count, _) = seen.bad_segments.take().unwrap_or_default();
                let what =
                    format!("{}, {} bytes, cannot be read", &segment.blob[..segment.blob.len().min(12)], segment.bytes);
                seen.bad_segments = Some((count + 1, what));
                continue;
            };
            for part in events.chunks(limits::EVENTS_AT_ONCE) {
                let applied = self.log.apply(intake::batch(id, "", 0, part, &*self.log)?)?;
                report.applied.applied += applied.applied;
                report.applied.skipped += applied.skipped;
                report.applied.rejected += applied.rejected;
                report.applied.collided += applied.collided;
            }
            // The set of what is held has grown.
            self.held.remove(&of);
            self.read_segments.insert(segment.blob.clone());
        }
        Ok(())
    }

    /// Publishes what the remote does not have of this daemon's log.
    fn publish(
        &mut self,
        others: &BTreeMap<String, Read>,
        trust: &Trust,
        there: Option<&str>,
    ) -> Result<Option<Published>, GitError> {
        let mut own = match self.own.take() {
            Some(own) => own,
            None => self.load_own(there)?,
        };
        let heads = self.log.heads()?;
        let vouched = |(id, name): (&String, &String)| Vouched { daemon_id: id.clone(), name: name.clone() };
        let trusts: Vec<Vouched> = trust.trusted.iter().map(vouched).collect();
        let readers = self.readers(trust, others);
        let tip = self.repository.own_tip()?;
        let is_there = tip.is_some() && tip.as_deref() == there;
        let reads_the_same = readers.iter().eq(own.recipients.keys());
        let is_current = heads == own.index.heads
            && trusts == own.index.trusts
            && own.name == self.me.name
            && reads_the_same
            && is_there;
        if is_current {
            self.own = Some(own);
            return Ok(None);
        }
        // Who could read and may not any more would read what follows with the key that it has.
        if own.key.is_some() != trust.encrypts || own.recipients.keys().any(|id| !readers.contains(id)) {
            let key = trust.encrypts.then(|| Key::generate(&mut *self.ambient));
            own = Own { number: own.number, key, ..Own::default() };
        }
        let changed = self.changed(&own.index, &heads, others)?;
        let ids: BTreeMap<String, BTreeSet<String>> = self.ids_of(own.index.segments(), own.key.as_ref())?;
        let events_of = |segment: &Segment| match ids.get(&segment.blob) {
            Some(ids) => Events::Ids(ids.clone()),
            None => Events::Numbers(segment.numbers.clone()),
        };
        let plan = plan::plan(&own.index, &changed, &events_of);
        let mut published = Published::default();
        let mut bundles = plan.keep;
        if !plan.regroup.is_empty() {
            let parents: Vec<String> = plan.regroup.iter().map(|bundle| bundle.commit.clone()).collect();
            let segments = plan.regroup.into_iter().flat_map(|bundle| bundle.segments).collect();
            bundles.push(self.bundle(segments, &parents)?);
        }
        if !plan.write.is_empty() {
            let mut segments = Vec::new();
            for (of, events) in &plan.write {
                segments.extend(self.write(of, events, own.key.as_ref())?);
            }
            published.events = segments.iter().map(|segment| segment.events).sum();
            published.bytes = segments.iter().map(|segment| segment.bytes).sum();
            if !segments.is_empty() {
                bundles.push(self.bundle(segments, &[])?);
            }
        }
        let mut recipients = BTreeMap::new();
        if let Some(key) = &own.key {
            for id in &readers {
                let known = own.recipients.get(id).cloned();
                recipients
                    .extend(known.or_else(|| key.seal_for(id, &mut *self.ambient)).map(|sealed| (id.clone(), sealed)));
            }
        }
        let next = Own {
            number: own.number + 1,
            index: Index { heads, trusts, bundles },
            name: self.me.name.clone(),
            key: own.key,
            recipients,
        };
        let tip = self.write_tip(&next)?;
        // Kept before the push, whose outcome may stay unknown.
        self.repository.set_own_tip(&tip)?;
        match self.repository.push(&self.me.daemon_id, &tip, there)? {
            Pushed::Set => {
                self.own = Some(next);
                Ok(Some(published))
            }
            Pushed::LostLease => Err(GitError::LostLease),
        }
    }

    /// The daemons that may read what is published, if it is encrypted: this one, and all that it trusts.
    fn readers(&self, trust: &Trust, others: &BTreeMap<String, Read>) -> BTreeSet<String> {
        if !trust.encrypts {
            return BTreeSet::new();
        }
        let vouched = others.iter().filter(|(_, one)| one.index.is_some()).map(|(id, _)| id);
        let trusted = trust.trusted.keys().chain(vouched).filter(|id| !trust.distrusted.contains(*id));
        trusted.chain([&self.me.daemon_id]).filter(|id| key::exchange_public(id).is_some()).cloned().collect()
    }

    /// Reads what this daemon published last, from its own tip, or from the remote's if the own one is lost.
    fn load_own(&self, there: Option<&str>) -> Result<Own, GitError> {
        let mut best = Own::default();
        for tip in self.repository.own_tip()?.iter().map(String::as_str).chain(there) {
            let manifest = self.repository.blobs(&[format!("{tip}:{MANIFEST}")], limits::MAX_MANIFEST_BYTES)?.pop();
            let manifest = manifest.flatten().and_then(|bytes| Manifest::read(&bytes, &self.me.daemon_id).ok());
            let Some(manifest) = manifest.filter(|manifest| manifest.number > best.number) else { continue };
            let mut one = Read { tip: tip.to_owned(), manifest, key: None, index: None };
            let Ok(index) = self.read_index(&mut one)? else { continue };
            let Manifest { number, name, recipients, .. } = one.manifest;
            best = Own { number, index, name, key: one.key, recipients };
        }
        Ok(best)
    }

    /// The logs whose heads differ from those of the index, with what is held of them and what others publish.
    fn changed(
        &mut self,
        index: &Index,
        heads: &Heads,
        others: &BTreeMap<String, Read>,
    ) -> Result<BTreeMap<LogOf, Changed>, GitError> {
        let mut changed = BTreeMap::new();
        for head in heads.iter() {
            if index.heads.get(&head.origin, &head.log) == Some(head) {
                continue;
            }
            let of = LogOf { origin: head.origin.clone(), log: head.log.clone() };
            let held = if of.log.is_empty() {
                Events::Ids(self.listed(&of)?)
            } else {
                Events::Numbers(self.held(&of, heads)?.held.clone())
            };
            let mut elsewhere = Events::none(&of);
            // A daemon publishes its own events even if others do.
            let is_own = of.origin == self.me.daemon_id;
            for one in others.values().filter(|_| !is_own) {
                let segments = || {
                    let all = one.index.iter().flat_map(Index::segments);
                    all.filter(|segment| plan::log_of(segment) == of)
                };
                let ids = self.ids_of(segments(), one.key.as_ref())?;
                for segment in segments() {
                    match ids.get(&segment.blob) {
                        Some(ids) => elsewhere.extend(&Events::Ids(ids.clone())),
                        None => elsewhere.extend(&Events::Numbers(segment.numbers.clone())),
                    }
                }
            }
            changed.insert(of, Changed { held, elsewhere });
        }
        Ok(changed)
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
                let bytes =
                    self.repository.blobs(std::slice::from_ref(&segment.blob), limits::MAX_SEGMENT_BYTES)?.pop();
                let events = bytes.flatten().and_then(|bytes| segment::decode(bytes, key)).unwrap_or_default();
                self.ids.insert(segment.blob.clone(), events.iter().filter_map(id_of).collect());
            }
            found.insert(segment.blob.clone(), self.ids[&segment.blob].clone());
        }
        Ok(found)
    }

    /// Which events of a log are held, and which were purged. `heads` is the version vector.
    fn held(&mut self, of: &LogOf, heads: &Heads) -> Result<&Held, Error> {
        let head = heads.get(&of.origin, &of.log).cloned();
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

    /// Writes events of a log into segments. Events that are not held any more are left out.
    fn write(&mut self, of: &LogOf, events: &Events, key: Option<&Key>) -> Result<Vec<Segment>, GitError> {
        let (mut segments, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut left = events.clone();
        while !left.is_empty() {
            let wanted = match &left {
                Events::Numbers(numbers) => Wanted::Numbers(numbers.lowest_numbers(limits::EVENTS_AT_ONCE as u64)),
                Events::Ids(ids) => Wanted::Ids(ids.iter().take(limits::EVENTS_AT_ONCE).cloned().collect()),
            };
            let page = self.log.requested(of, &wanted)?;
            // A page that was cut off by its size is continued; what was asked for and not served otherwise is gone.
            let got = events_of(of, &page.rows);
            if page.more && !got.is_empty() {
                left.subtract(&got);
            } else {
                match wanted {
                    Wanted::Numbers(numbers) => left.subtract(&Events::Numbers(numbers)),
                    Wanted::Ids(ids) => left.subtract(&Events::Ids(ids.into_iter().collect())),
                }
            }
            for row in page.rows {
                bytes += row.body.len();
                rows.push(row);
                if bytes >= limits::SEGMENT_BYTES {
                    segments.push(self.segment(of, &rows, key)?);
                    (rows, bytes) = (Vec::new(), 0);
                }
            }
        }
        if !rows.is_empty() {
            segments.push(self.segment(of, &rows, key)?);
        }
        Ok(segments)
    }

    fn segment(&mut self, of: &LogOf, rows: &[Row], key: Option<&Key>) -> Result<Segment, GitError> {
        let bytes = segment::encode(rows.iter().map(|row| row.body.as_str()), key, &mut *self.ambient);
        let numbers = match events_of(of, rows) {
            Events::Numbers(numbers) => numbers,
            Events::Ids(_) => RangeSet::default(),
        };
        Ok(Segment {
            blob: self.repository.write_blob(&bytes)?,
            bytes: bytes.len() as u64,
            origin: of.origin.clone(),
            log: of.log.clone(),
            events: rows.len() as u64,
            numbers,
        })
    }

    fn bundle(&self, segments: Vec<Segment>, parents: &[String]) -> Result<Bundle, GitError> {
        let names: Vec<String> = (0..segments.len()).map(|n| format!("{n:06}")).collect();
        let files: Vec<(&str, &str)> =
            names.iter().map(String::as_str).zip(segments.iter().map(|segment| segment.blob.as_str())).collect();
        Ok(Bundle { commit: self.repository.write_commit(&files, parents)?, segments })
    }

    fn write_tip(&mut self, own: &Own) -> Result<String, GitError> {
        let index = own.index.encode(own.key.as_ref(), &mut *self.ambient);
        let manifest = Manifest {
            format: manifest::FORMAT,
            daemon_id: self.me.daemon_id.clone(),
            name: self.me.name.clone(),
            number: own.number,
            at: self.ambient.now(),
            index: manifest::digest(&index),
            recipients: own.recipients.clone(),
        };
        let manifest = self.repository.write_blob(&manifest.encode(|text| (self.me.sign)(text)))?;
        let index = self.repository.write_blob(&index)?;
        let parents: Vec<String> = own.index.bundles.iter().map(|bundle| bundle.commit.clone()).collect();
        self.repository.write_commit(&[(INDEX, &index), (MANIFEST, &manifest)], &parents)
    }
}

/// The events of rows of one log.
fn events_of(of: &LogOf, rows: &[Row]) -> Events {
    #[derive(Deserialize)]
    struct Numbered {
        #[serde(default)]
        origin_seq: u64,
    }
    if of.log.is_empty() {
        return Events::Ids(rows.iter().map(|row| row.id.clone()).collect());
    }
    let number = |row: &Row| serde_json::from_str::<Numbered>(&row.body).map_or(0, |numbered| numbered.origin_seq);
    Events::Numbers(rows.iter().map(number).filter(|number| *number > 0).collect())
}

/// The id of a served event.
fn id_of(served: &Served) -> Option<String> {
    #[derive(Deserialize)]
    struct Id {
        event_id: String,
    }
    serde_json::from_str::<Id>(&served.event_json).ok().map(|Id { event_id }| event_id)
}
