//! Reads the manifests and indexes of other daemons, and decides which of them are trusted.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use super::{Exchange, Others, Own, Read, Report, SeenState, Trust};
use crate::{
    GitError, limits,
    manifest::{Index, Manifest, Unusable},
    repository::{INDEX, MANIFEST},
    seal::Key,
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
            let mut vouched = None;
            if let Some(seen) = report.daemons.get_mut(&id) {
                let one = others.read.get_mut(&id);
                match one.map(|one| Ok::<_, GitError>((self.read_index(one)?, one))).transpose()? {
                    Some((Ok(index), one)) => {
                        seen.state = SeenState::Trusted;
                        seen.heads = Some(index.heads.clone());
                        let ids = index.trusts.iter().map(|vouched| vouched.daemon_id.clone());
                        let ids: BTreeSet<String> = ids.take(limits::MAX_DAEMONS).collect();
                        report.vouched.insert(id.clone(), ids.clone());
                        vouched = Some(ids);
                        one.index = Some(index);
                    }
                    Some((Err(why), _)) => seen.state = SeenState::Unusable(why),
                    None => {}
                }
                others.is_complete &= vouched.is_some();
            }
            let vouched = vouched.or_else(|| trust.vouched.get(&id).cloned()).unwrap_or_default();
            for vouched in vouched.into_iter().filter(is_wanted) {
                if others.trusted.len() < limits::MAX_DAEMONS && others.trusted.insert(vouched.clone()) {
                    let by = others.brought_by.get(&id).unwrap_or(&id).clone();
                    others.brought_by.insert(vouched.clone(), by);
                    open.push_back(vouched);
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

    /// Forgets what is known of segments that nobody lists any more.
    pub(super) fn forget_unlisted(&mut self, others: &Others, own: &Own) {
        let indexes = others.read.values().filter_map(|one| one.index.as_ref()).chain([&own.index]);
        let listed: HashSet<&str> = indexes.flat_map(Index::segments).map(|segment| segment.blob.as_str()).collect();
        self.read_segments.retain(|blob| listed.contains(blob.as_str()));
        self.bad_segments.retain(|blob, _| listed.contains(blob.as_str()));
        self.ids.retain(|blob, _| listed.contains(blob.as_str()));
    }
}
