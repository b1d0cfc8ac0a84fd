//! The state of a disk: its files, its count of steps and the planned failure.

use std::collections::BTreeMap;

use crate::{Failure, inode::Inode, names::Names, random::Random};

/// A call that changes something, by the kinds that failures distinguish.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Create,
    Write,
    Sync,
    Resize,
    Delete,
}

struct Plan {
    at: u64,
    failure: Failure,
    once: bool,
}

pub(crate) struct State {
    random: Random,
    pub(crate) names: Names,
    inodes: BTreeMap<u64, Inode>,
    /// The last number assigned to a file or a handle.
    last: u64,
    /// Number of crashes and restores so far. Handles that were opened in an earlier life fail.
    pub(crate) life: u64,
    dead: bool,
    steps: u64,
    failed: u64,
    plan: Option<Plan>,
}

impl State {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            names: Names::default(),
            inodes: BTreeMap::new(),
            last: 0,
            life: 0,
            dead: false,
            steps: 0,
            failed: 0,
            plan: None,
        }
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Returns `true` if a handle of that life still works.
    pub(crate) fn serves(&self, life: u64) -> bool {
        self.life == life && !self.dead
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead
    }

    pub(crate) fn plan(&mut self, at: u64, failure: Failure, once: bool) {
        self.plan = Some(Plan { at, failure, once });
    }

    pub(crate) fn mend(&mut self) {
        self.plan = None;
    }

    /// Returns `true` if the disk currently refuses all writes. Does not count a step.
    pub(crate) fn is_read_only(&self) -> bool {
        self.plan
            .as_ref()
            .is_some_and(|plan| plan.failure == Failure::ReadOnly && !plan.once && self.steps + 1 >= plan.at)
    }

    /// Counts a call, and returns how it has to fail, if at all.
    pub(crate) fn step(&mut self, step: Step) -> Option<Failure> {
        self.steps += 1;
        let plan = self.plan.as_ref()?;
        let concerned = match plan.failure {
            Failure::Crash | Failure::TornWrite | Failure::IoError => true,
            Failure::Full => matches!(step, Step::Create | Step::Write),
            // A sync on a read-only file system has nothing to write.
            Failure::ReadOnly => step != Step::Sync,
        };
        if self.steps < plan.at || !concerned {
            return None;
        }
        let failure = plan.failure;
        self.failed += 1;
        if plan.once {
            self.plan = None;
        }
        self.dead |= matches!(failure, Failure::Crash | Failure::TornWrite);
        Some(failure)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    pub(crate) fn create(&mut self, name: Option<&str>) -> u64 {
        let number = self.number();
        self.inodes.insert(number, Inode::default());
        if let Some(name) = name {
            self.names.add(name, number);
        }
        number
    }

    /// Returns a file that is open or has a name.
    ///
    /// # Panics
    /// If there is no such file. Files are kept as long as they are open or named.
    pub(crate) fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes.get_mut(&number).expect("files that are open or named are kept")
    }

    pub(crate) fn sync(&mut self, number: u64) {
        self.inode(number).sync();
        self.names.sync_file(number);
    }

    /// Fails a sync: a random part of the pending changes becomes durable, and the rest is lost.
    pub(crate) fn lose(&mut self, number: u64) {
        if let Some(inode) = self.inodes.get_mut(&number) {
            inode.lose(&mut self.random);
        }
    }

    pub(crate) fn crash(&mut self) {
        self.names.crash(&mut self.random);
        for inode in self.inodes.values_mut() {
            inode.lose(&mut self.random);
        }
        self.begin_life();
    }

    fn begin_life(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.forget();
        }
        self.sweep();
        self.life += 1;
        self.dead = false;
        self.plan = None;
    }

    /// Removes files that are neither open nor reachable by a name.
    pub(crate) fn sweep(&mut self) {
        let names = &self.names;
        self.inodes.retain(|number, inode| inode.opens > 0 || names.knows(*number));
    }

    pub(crate) fn image(&self) -> BTreeMap<String, Vec<u8>> {
        self.names.all().map(|(name, number)| (name.to_owned(), self.inodes[&number].content().to_owned())).collect()
    }

    pub(crate) fn restore(&mut self, image: &BTreeMap<String, Vec<u8>>) {
        self.names = Names::default();
        self.inodes.clear();
        for (name, content) in image {
            let number = self.number();
            self.inodes.insert(number, Inode::durable(content.clone()));
            self.names.add(name, number);
            self.names.sync(name);
        }
        self.begin_life();
    }

    pub(crate) fn remove(&mut self, name: &str) {
        for name in [name.to_owned(), format!("{name}-wal"), format!("{name}-journal")] {
            self.names.delete(&name);
            self.names.sync(&name);
        }
        self.sweep();
    }
}
