//! Reads what other daemons publish, and stores what is missing here.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::mpsc,
    thread,
};

use thrum_core::{RangeSet, exchange::Applied};
use thrum_sync::{intake, protocol::wire::Served};

use super::{Exchange, Held, Others, Read, Report, SeenState, Trust};
use crate::{
    GitError, limits,
    manifest::{Index, Manifest, Segment, Unusable},
    plan,
    repository::{INDEX, MANIFEST},
    seal::Key,
    segment,
};

impl Exchange {
    /// Reads the manifests of all daemons, and the indexes of those that are trusted.
    pub(super) fn read_tips(
        &self,
        tips: &BTreeMap<String, String>,
        trust: &Trust,
        report: &mut Report,
    ) -> Result<Others, GitError> {
        // Those that are trusted come first: anybody who may push can add others.
        let (first, rest): (Vec<_>, Vec<_>) = tips.iter().partition(|(id, _)| trust.trusted.contains_key(*id));
        let tips: Vec<(&String, &String)> = first.into_iter().chain(rest).take(limits::MAX_DAEMONS).collect();
        let mut read = BTreeMap::new();
        for some in tips.chunks(limits::MANIFESTS_AT_ONCE) {
            let files: Vec<String> = some.iter().map(|(_, tip)| format!("{tip}:{MANIFEST}")).collect();
            let manifests = self.mirror.blobs(&files, limits::MAX_MANIFEST_BYTES)?;
            for ((id, tip), bytes) in some.iter().zip(manifests) {
                let seen = report.daemons.entry((*id).clone()).or_default();
                let manifest = bytes.ok_or(Unusable::Missing(MANIFEST)).and_then(|bytes| Manifest::read(&bytes, id));
                let newest = trust.numbers.get(*id).copied().unwrap_or(0);
                match manifest {
                    Ok(manifest) if manifest.number < newest => seen.state = SeenState::Unusable(Unusable::PutBack),
                    Ok(manifest) => {
                        (seen.name, seen.at) = (super::shown(&manifest.name), Some(manifest.at));
                        seen.number = manifest.number;
                        seen.is_encrypted = Some(!manifest.recipients.is_empty());
                        read.insert((*id).clone(), Read { tip: (*tip).clone(), manifest, key: None, index: None });
                    }
                    Err(why) => seen.state = SeenState::Unusable(why),
                }
            }
        }
        for id in &trust.distrusted {
            if let Some(seen) = report.daemons.get_mut(id) {
                seen.state = SeenState::Distrusted;
            }
        }
        // Those that are trusted here, and those that one of them vouches for.
        let is_wanted = |id: &String| !trust.distrusted.contains(id);
        let mut open: VecDeque<String> = trust.trusted.keys().filter(|id| is_wanted(id)).cloned().collect();
        let trusted = open.iter().cloned().collect();
        let mut others = Others { read, trusted, brought_by: BTreeMap::new(), is_complete: true };
        while let Some(id) = open.pop_front() {
            let Some(seen) = report.daemons.get_mut(&id) else { continue };
            let index = match others.read.get_mut(&id) {
                Some(one) => self.read_index(one)?,
                None => {
                    others.is_complete = false;
                    continue;
                }
            };
            match index {
                Ok(index) => {
                    seen.state = SeenState::Trusted;
                    seen.heads = Some(index.heads.clone());
                    let vouched = index.trusts.iter().map(|vouched| &vouched.daemon_id).filter(|id| is_wanted(id));
                    for vouched in vouched {
                        if others.trusted.len() < limits::MAX_DAEMONS && others.trusted.insert(vouched.clone()) {
                            let by = others.brought_by.get(&id).unwrap_or(&id).clone();
                            others.brought_by.insert(vouched.clone(), by);
                            open.push_back(vouched.clone());
                        }
                    }
                    if let Some(one) = others.read.get_mut(&id) {
                        one.index = Some(index);
                    }
                }
                Err(why) => {
                    others.is_complete = false;
                    seen.state = SeenState::Unusable(why);
                }
            }
        }
        Ok(others)
    }

    /// Reads the index of a manifest, and the key of what it lists.
    pub(super) fn read_index(&self, one: &mut Read) -> Result<Result<Index, Unusable>, GitError> {
        if !one.manifest.recipients.is_empty() {
            let sealed = one.manifest.recipients.get(&self.me.daemon_id);
            one.key = sealed.and_then(|sealed| Key::open(sealed, &self.me.exchange_secret));
            if one.key.is_none() {
                return Ok(Err(Unusable::NotForUs));
            }
        }
        let index = self.mirror.blobs(&[format!("{}:{INDEX}", one.tip)], limits::MAX_INDEX_BYTES)?.pop().flatten();
        Ok(index.ok_or(Unusable::Missing(INDEX)).and_then(|bytes| Index::read(bytes, &one.manifest, one.key.as_ref())))
    }

    /// Stores the events that a daemon publishes and that are missing here.
    pub(super) fn take(&mut self, id: &str, read: &Read, others: &Others, report: &mut Report) -> Result<(), GitError> {
        // A daemon that is trusted here may vouch for many others, which share one quota.
        let together: Vec<&str> = match others.brought_by.get(id) {
            Some(by) => {
                let brought = others.brought_by.iter().filter(|(_, other)| *other == by);
                brought.map(|(one, _)| one.as_str()).collect()
            }
            None => vec![id],
        };
        let (Some(index), Some(seen)) = (&read.index, report.daemons.get_mut(id)) else { return Ok(()) };
        let mut bad = (0, None);
        for segment in index.segments() {
            if !segment.numbers.is_empty() {
                let Held { purged, .. } = self.held(&plan::log_of(segment))?;
                let still = segment.numbers.count() - segment.numbers.clone().without(purged).count();
                seen.purged = seen.purged.saturating_add(still);
            }
            if !self.bad_segments.contains_key(&segment.blob) && self.is_wanted(segment)? {
                if let Some(over) = self.log.over_quota(&together)? {
                    seen.state = SeenState::OverQuota(over);
                    break;
                }
                self.take_segment(id, segment, read.key.as_ref(), &mut report.applied)?;
            }
            if let Some(why) = self.bad_segments.get(&segment.blob) {
                bad = (bad.0 + 1, Some(why.clone()));
            }
        }
        seen.bad_segments = bad.1.map(|why| (bad.0, why));
        Ok(())
    }

    /// Stores the events that this daemon published and that its database has lost since.
    pub(super) fn take_own(&mut self, there: Option<&str>, report: &mut Report) -> Result<(), GitError> {
        let own = self.load_own(there)?;
        for segment in own.index.segments() {
            if self.is_wanted(segment)? && !self.bad_segments.contains_key(&segment.blob) {
                self.take_segment("", segment, own.key.as_ref(), &mut report.applied)?;
            }
        }
        self.own = Some(own);
        Ok(())
    }

    /// Returns `true` for a segment that was not read yet, and may have events that are missing here.
    fn is_wanted(&mut self, segment: &Segment) -> Result<bool, GitError> {
        if self.read_segments.contains(&segment.blob) {
            return Ok(false);
        }
        if segment.numbers.is_empty() {
            return Ok(true);
        }
        let Held { held, purged, .. } = self.held(&plan::log_of(segment))?;
        Ok(!segment.numbers.clone().without(held).without(purged).is_empty())
    }

    /// Stores the events of a segment. Notes a segment that cannot be read, or has other events than its index says.
    fn take_segment(
        &mut self,
        source: &str,
        segment: &Segment,
        key: Option<&Key>,
        sum: &mut Applied,
    ) -> Result<(), GitError> {
        let named = || format!("{}, {} bytes", &segment.blob[..12], segment.bytes);
        let bytes = self.mirror.blobs(std::slice::from_ref(&segment.blob), limits::MAX_SEGMENT_BYTES)?.pop();
        let Some(events) = bytes.flatten().and_then(|bytes| segment::decode(bytes, key)) else {
            self.bad_segments.insert(segment.blob.clone(), format!("{}, cannot be read", named()));
            return Ok(());
        };
        if !segment.numbers.is_empty() && numbers_of(&events) != segment.numbers {
            let why = format!("{}, has other events than the index says", named());
            self.bad_segments.insert(segment.blob.clone(), why);
        }
        let log = &*self.log;
        thread::scope(|scope| {
            let (ready, batches) = mpsc::sync_channel(1);
            // The signatures of the next events are checked while the last ones are stored.
            scope.spawn(move || {
                for part in events.chunks(limits::EVENTS_AT_ONCE) {
                    if ready.send(intake::batch(source, "", 0, part, log)).is_err() {
                        return;
                    }
                }
            });
            for batch in batches {
                let applied = log.apply(batch?)?;
                sum.applied += applied.applied;
                sum.skipped += applied.skipped;
                sum.rejected += applied.rejected;
                sum.collided += applied.collided;
            }
            Ok::<_, GitError>(())
        })?;
        // The set of what is held has grown.
        self.held.remove(&plan::log_of(segment));
        self.read_segments.insert(segment.blob.clone());
        Ok(())
    }

    /// Forgets what is known of segments that nobody lists any more.
    pub(super) fn forget_unlisted(&mut self, others: &Others) {
        let indexes =
            others.read.values().filter_map(|one| one.index.as_ref()).chain(self.own.iter().map(|own| &own.index));
        let listed: HashSet<&str> = indexes.flat_map(Index::segments).map(|segment| segment.blob.as_str()).collect();
        self.read_segments.retain(|blob| listed.contains(blob.as_str()));
        self.bad_segments.retain(|blob, _| listed.contains(blob.as_str()));
        self.ids.retain(|blob, _| listed.contains(blob.as_str()));
    }
}

/// The origin sequences of served events.
fn numbers_of(events: &[Served]) -> RangeSet {
    events.iter().map(|event| super::origin_seq(&event.event_json)).filter(|number| *number > 0).collect()
}
