//! The only directory of the disk: the current names of files, and the durable ones.

use std::collections::BTreeMap;

use crate::random::Random;

#[derive(Default)]
pub(crate) struct Names {
    now: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    /// Creations and deletions of names that have not been synced, in order.
    pending: Vec<(String, Option<u64>)>,
}

impl Names {
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.now.get(name).copied()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.now.iter().map(|(name, inode)| (name.as_str(), *inode))
    }

    pub(crate) fn add(&mut self, name: &str, inode: u64) {
        self.now.insert(name.to_owned(), inode);
        self.pending.push((name.to_owned(), Some(inode)));
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.now.remove(name);
        self.pending.push((name.to_owned(), None));
    }

    /// Makes the name of this file durable as it is now.
    pub(crate) fn sync_file(&mut self, inode: u64) {
        let name = self.now.iter().find(|(_, at)| **at == inode).map(|(name, _)| name.clone());
        if let Some(name) = name {
            self.sync(&name);
        }
    }

    /// Makes the current state of this name durable, whether the name exists or not.
    pub(crate) fn sync(&mut self, name: &str) {
        self.pending.retain(|(pending, _)| pending != name);
        match self.now.get(name) {
            Some(inode) => self.durable.insert(name.to_owned(), *inode),
            None => self.durable.remove(name),
        };
    }

    /// Keeps a random prefix of the unsynced changes and drops the rest: file systems keep the order of name changes.
    pub(crate) fn crash(&mut self, random: &mut Random) {
        let kept = random.up_to(self.pending.len());
        for (name, inode) in self.pending.drain(..).take(kept) {
            match inode {
                Some(inode) => self.durable.insert(name, inode),
                None => self.durable.remove(&name),
            };
        }
        self.now.clone_from(&self.durable);
    }

    /// Returns `true` if the file can be reached by a name, now or after a crash.
    pub(crate) fn knows(&self, inode: u64) -> bool {
        let pending = self.pending.iter().filter_map(|(_, inode)| inode.as_ref());
        self.now.values().chain(self.durable.values()).chain(pending).any(|at| *at == inode)
    }
}
