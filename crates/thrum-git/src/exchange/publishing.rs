//! Publishes what the remote does not have of this daemon's log.

use std::collections::{BTreeMap, BTreeSet};

use thrum_core::{
    Head, Heads, RangeSet, Timestamp,
    compare::{LogOf, Wanted},
    exchange::Row,
    key,
};

use super::{Exchange, Held, Others, Own, Published, Read, Trust, origin_seq};
use crate::{
    GitError, limits,
    manifest::{self, Bundle, Index, Manifest, Segment, Vouched},
    mirror::Pushed,
    plan::{self, Changed, Events, Merge, Plan},
    repository::{INDEX, MANIFEST},
    seal::Key,
    segment,
};

impl Exchange {
    /// Publishes what the remote does not have of this daemon's log beside `own`, which it published last.
    /// `there` is this daemon's tip on the remote, and `is_there` says whether that is the tip of `own`.
    ///
    /// While a purge still removes events here, what is published of other daemons' logs does not change: this daemon
    /// holds events that others have removed from their refs already.
    pub(super) fn publish(
        &mut self,
        mut own: Own,
        others: &Others,
        trust: &Trust,
        (there, is_there): (Option<&str>, bool),
        purge_goes_on: bool,
    ) -> Result<Option<Published>, GitError> {
        let readers = self.readers(&own, others, trust);
        // Who could read and may not any more would read what follows with the key that it has.
        if own.key.is_some() != trust.encrypts || own.recipients.keys().any(|id| !readers.contains(id)) {
            let key = trust.encrypts.then(|| Key::generate(&mut *self.ambient));
            own = Own { number: own.number, key, ..Own::default() };
        }
        let heads = if purge_goes_on { self.settled(&own.index.heads)? } else { self.log.heads()? };
        let vouched = |(id, name): (&String, &String)| Vouched { daemon_id: id.clone(), name: name.clone() };
        let trusts: Vec<Vouched> = trust.trusted.iter().map(vouched).collect();
        let usable = others.read.iter().filter(|(_, one)| one.index.is_some());
        let usable: BTreeMap<String, String> = match purge_goes_on {
            true => own.others.clone(),
            false => usable.map(|(id, one)| (id.clone(), one.tip.clone())).collect(),
        };
        let says_the_same = heads == own.index.heads
            && trusts == own.index.trusts
            && own.name == self.me.name
            && readers.iter().eq(own.recipients.keys())
            && own.key.is_some() == trust.encrypts
            && is_there;
        if says_the_same && usable == own.others {
            self.own = Some(own);
            return Ok(None);
        }
        let changed = self.changed(&own, &heads, others, usable != own.others)?;
        let ids: BTreeMap<String, BTreeSet<String>> = self.ids_of(own.index.segments(), own.key.as_ref())?;
        let plan = plan::plan(&own.index, &changed, &|segment| events_in(&ids, segment));
        if says_the_same && plan.write.is_empty() && plan.keep == own.index.bundles {
            self.own = Some(Own { others: usable, ..own });
            return Ok(None);
        }
        // A bundle is dropped only if some of its events were purged.
        let is_purged = plan.keep.len() < own.index.bundles.len();
        let (bundles, mut published) = self.bundles(plan, own.key.as_ref())?;
        published.purged = is_purged;
        // What was to be published may have got lost on the way.
        let lost = if is_there { None } else { Some(self.read_own(there)?.unwrap_or_default()) };
        let known: BTreeSet<&str> =
            lost.as_ref().unwrap_or(&own).index.segments().map(|segment| segment.blob.as_str()).collect();
        let all = bundles.iter().flat_map(|bundle| &bundle.segments);
        let new: Vec<&Segment> = all.filter(|segment| !known.contains(segment.blob.as_str())).collect();
        published.bytes = new.iter().map(|segment| segment.bytes).sum();
        if lost.is_some() {
            published.events = new.iter().map(|segment| segment.events).sum();
        }
        let mut recipients = BTreeMap::new();
        if let Some(key) = &own.key {
            for id in &readers {
                let known = own.recipients.get(id).cloned();
                recipients
                    .extend(known.or_else(|| key.seal_for(id, &mut *self.ambient)).map(|sealed| (id.clone(), sealed)));
            }
        }
        // By the clock, so that a daemon that has lost what it knew does not begin with a number that others have seen.
        let now = self.ambient.now().since(Timestamp::ZERO).as_secs();
        let next = Own {
            number: (own.number + 1).max(now),
            index: Index { heads, trusts, bundles },
            name: self.me.name.clone(),
            key: own.key,
            recipients,
            others: usable,
        };
        let tip = self.write_tip(&next)?;
        // Kept before the push, whose outcome may stay unknown.
        self.mirror.set_own_tip(&tip)?;
        match self.mirror.push(&self.me.daemon_id, &tip, there)? {
            Pushed::Set => {
                self.own = Some(next);
                Ok(Some(published))
            }
            Pushed::LostLease => Err(GitError::LostLease),
        }
    }

    /// The version vector without what happened to the logs of other daemons since `before`.
    fn settled(&self, before: &Heads) -> Result<Heads, GitError> {
        let is_own = |head: &&Head| head.origin == self.me.daemon_id;
        let now = self.log.heads()?;
        let mut heads = Heads::default();
        for head in now.iter().filter(is_own).chain(before.iter().filter(|head| !is_own(head))) {
            heads.insert(head.clone());
        }
        Ok(heads)
    }

    /// Writes the bundles of a plan, and merges them until few of each size are left. Returns all, and what is new.
    fn bundles(&mut self, plan: Plan, key: Option<&Key>) -> Result<(Vec<Bundle>, Published), GitError> {
        let (mut bundles, mut published) = (plan.keep, Published::default());
        if !plan.write.is_empty() {
            let mut segments = Vec::new();
            for (of, events) in &plan.write {
                segments.extend(self.write(of, events, key)?);
            }
            published.events = segments.iter().map(|segment| segment.events).sum();
            if !segments.is_empty() {
                bundles.push(self.bundle(segments, &[])?);
            }
        }
        while let Some(merge) = plan::merge(&mut bundles) {
            let merged = match merge {
                Merge::Regroup(full) => {
                    let parents: Vec<String> = full.iter().map(|bundle| bundle.commit.clone()).collect();
                    let segments = full.into_iter().flat_map(|bundle| bundle.segments).collect();
                    self.bundle(segments, &parents)?
                }
                Merge::Rewrite(small) => {
                    let ids = self.ids_of(small.iter().flat_map(|bundle| &bundle.segments), key)?;
                    let mut segments = Vec::new();
                    for (of, events) in plan::events_of(&small, &|segment| events_in(&ids, segment)) {
                        segments.extend(self.write(&of, &events, key)?);
                    }
                    self.bundle(segments, &[])?
                }
            };
            bundles.push(merged);
        }
        Ok((bundles, published))
    }

    /// The daemons that may read what is published, if it is encrypted: this one, and all that it trusts. While the index
    /// of one of these cannot be read, who could read so far stays, because it may be vouched for there.
    fn readers(&self, own: &Own, others: &Others, trust: &Trust) -> BTreeSet<String> {
        if !trust.encrypts {
            return BTreeSet::new();
        }
        let former = own.recipients.keys().filter(|id| !others.is_complete && !trust.distrusted.contains(*id));
        let readers = others.trusted.iter().chain(former).chain([&self.me.daemon_id]);
        readers.filter(|id| key::exchange_public(id).is_some()).cloned().collect()
    }

    /// Reads what this daemon published last, from its own tip, or from the remote's if the own one is lost.
    pub(super) fn load_own(&self, tip: Option<&str>, there: Option<&str>) -> Result<Own, GitError> {
        let own = self.read_own(tip)?.unwrap_or_default();
        Ok(self.read_own(there)?.filter(|there| there.number > own.number).unwrap_or(own))
    }

    /// Reads what this daemon published with a tip; `None` if it is not usable.
    fn read_own(&self, tip: Option<&str>) -> Result<Option<Own>, GitError> {
        let Some(tip) = tip else { return Ok(None) };
        let manifest = self.mirror.blobs(&[format!("{tip}:{MANIFEST}")], limits::MAX_MANIFEST_BYTES)?.pop();
        let manifest = manifest.flatten().and_then(|bytes| Manifest::read(&bytes, &self.me.daemon_id).ok());
        let Some(manifest) = manifest else { return Ok(None) };
        let mut one = Read { tip: tip.to_owned(), manifest, key: None, index: None };
        let Ok(index) = self.read_index(&mut one)? else { return Ok(None) };
        let Manifest { number, name, recipients, .. } = one.manifest;
        Ok(Some(Own { number, index, name, key: one.key, recipients, others: BTreeMap::new() }))
    }

    /// The logs whose heads differ from those of the index, with what is held of them and what others publish. With
    /// `others_changed`, also all logs of other daemons.
    fn changed(
        &mut self,
        own: &Own,
        heads: &Heads,
        others: &Others,
        others_changed: bool,
    ) -> Result<BTreeMap<LogOf, Changed>, GitError> {
        let mut by_log: BTreeMap<LogOf, Vec<(&Segment, Option<&Key>)>> = BTreeMap::new();
        for one in others.read.values() {
            for segment in one.index.iter().flat_map(Index::segments) {
                if !self.bad_segments.contains_key(&segment.blob) {
                    by_log.entry(plan::log_of(segment)).or_default().push((segment, one.key.as_ref()));
                }
            }
        }
        let mut changed = BTreeMap::new();
        for head in heads.iter() {
            let is_own = head.origin == self.me.daemon_id;
            let is_same = own.index.heads.get(&head.origin, &head.log) == Some(head);
            if is_same && (is_own || !others_changed) {
                continue;
            }
            let of = LogOf { origin: head.origin.clone(), log: head.log.clone() };
            let (held, gone) = if of.log.is_empty() {
                (Events::Ids(self.listed(&of)?), None)
            } else {
                let Held { held, purged, .. } = self.held(&of)?;
                (Events::Numbers(held.clone()), Some(Events::Numbers(purged.clone())))
            };
            let mut elsewhere = Events::none(&of);
            // A daemon publishes its own events even if others do.
            for (segment, key) in by_log.get(&of).into_iter().flatten().filter(|_| !is_own) {
                let ids = self.ids_of(std::iter::once(*segment), *key)?;
                elsewhere.extend(&events_in(&ids, segment));
            }
            changed.insert(of, Changed { held, gone, elsewhere });
        }
        Ok(changed)
    }

    /// Writes events of a log into segments. Events that are not held any more are left out.
    fn write(&mut self, of: &LogOf, events: &Events, key: Option<&Key>) -> Result<Vec<Segment>, GitError> {
        let (mut segments, mut rows, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut numbers = RangeSet::default();
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
                bytes += row.body.len() + 1;
                if !of.log.is_empty() {
                    numbers.add(origin_seq(&row.body));
                }
                rows.push(row);
                if bytes >= limits::SEGMENT_BYTES || numbers.len() >= limits::MAX_RUNS {
                    segments.push(self.segment(of, &rows, std::mem::take(&mut numbers), key)?);
                    (rows, bytes) = (Vec::new(), 0);
                }
            }
        }
        if !rows.is_empty() {
            segments.push(self.segment(of, &rows, numbers, key)?);
        }
        Ok(segments)
    }

    /// Writes rows with these origin sequences into one segment.
    fn segment(&mut self, of: &LogOf, rows: &[Row], numbers: RangeSet, key: Option<&Key>) -> Result<Segment, GitError> {
        let bytes = segment::encode(rows.iter().map(|row| row.body.as_str()), key, &mut *self.ambient);
        Ok(Segment {
            blob: self.mirror.write_blob(&bytes)?,
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
        Ok(Bundle { commit: self.mirror.write_commit(&files, parents)?, segments })
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
        let manifest = self.mirror.write_blob(&manifest.encode(|text| (self.me.sign)(text)))?;
        let index = self.mirror.write_blob(&index)?;
        let parents: Vec<String> = own.index.bundles.iter().map(|bundle| bundle.commit.clone()).collect();
        self.mirror.write_commit(&[(INDEX, &index), (MANIFEST, &manifest)], &parents)
    }
}

/// The events of a segment; `ids` are those of segments without origin sequences, by blob.
fn events_in(ids: &BTreeMap<String, BTreeSet<String>>, segment: &Segment) -> Events {
    match ids.get(&segment.blob) {
        Some(ids) => Events::Ids(ids.clone()),
        None => Events::Numbers(segment.numbers.clone()),
    }
}

/// The events of rows of one log.
fn events_of(of: &LogOf, rows: &[Row]) -> Events {
    if of.log.is_empty() {
        return Events::Ids(rows.iter().map(|row| row.id.clone()).collect());
    }
    Events::Numbers(rows.iter().map(|row| origin_seq(&row.body)).filter(|number| *number > 0).collect())
}
