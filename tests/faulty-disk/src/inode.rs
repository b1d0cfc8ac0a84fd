//! One file: what reads see, what is on the disk, and what is between the two.

use std::{collections::BTreeMap, sync::Weak};

use crate::{random::Random, shm::Shm};

/// What a disk writes at once, or tears. SQLite is told the same.
pub(crate) const SECTOR: usize = 4096;

/// A change that was made and not synced.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// A file, named or not.
#[derive(Default)]
pub(crate) struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Open handles.
    pub(crate) opens: usize,
    /// Who holds which of SQLite's five locks.
    pub(crate) locks: BTreeMap<u64, i32>,
    /// The memory that a write-ahead log's users share, while any of them is there.
    pub(crate) shm: Weak<Shm>,
}

impl Inode {
    /// A file that is on the disk.
    pub(crate) fn durable(content: Vec<u8>) -> Self {
        Self { now: content.clone(), durable: content, ..Self::default() }
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.now
    }

    /// Fills what it can of `buffer` and gives how much.
    pub(crate) fn read(&self, at: usize, buffer: &mut [u8]) -> usize {
        let there = self.now.get(at..).unwrap_or_default();
        let length = there.len().min(buffer.len());
        buffer[..length].copy_from_slice(&there[..length]);
        length
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        apply(&mut self.now, at, bytes);
        self.pending.push(Change::Write { at, bytes: bytes.to_owned() });
    }

    /// Writes what is on the disk for certain, although nobody synced it.
    pub(crate) fn write_through(&mut self, at: usize, bytes: &[u8]) {
        apply(&mut self.now, at, bytes);
        apply(&mut self.durable, at, bytes);
    }

    pub(crate) fn resize(&mut self, size: usize) {
        self.now.resize(size, 0);
        self.pending.push(Change::Resize(size));
    }

    /// Everything written reaches the disk, but for what an earlier sync lost.
    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { at, bytes } => apply(&mut self.durable, at, &bytes),
                Change::Resize(size) => self.durable.resize(size, 0),
            }
        }
    }

    /// Of what is not synced a part reaches the disk, and the rest never will.
    pub(crate) fn lose(&mut self, random: &mut Random) {
        let changes = std::mem::take(&mut self.pending);
        match random.up_to(3) {
            0 => {}
            1 => self.keep_beginning(changes, random),
            2 => self.keep_sectors(changes, random),
            _ => {
                self.pending = changes;
                self.sync();
            }
        }
    }

    /// After a crash reads see what is on the disk.
    pub(crate) fn forget(&mut self) {
        self.now.clone_from(&self.durable);
        self.pending.clear();
        self.locks.clear();
        self.opens = 0;
        self.shm = Weak::new();
    }

    fn keep_beginning(&mut self, mut changes: Vec<Change>, random: &mut Random) {
        changes.truncate(random.up_to(changes.len()));
        if let Some(Change::Write { bytes, .. }) = changes.last_mut() {
            bytes.truncate(random.up_to(bytes.len()));
        }
        self.pending = changes;
        self.sync();
    }

    fn keep_sectors(&mut self, changes: Vec<Change>, random: &mut Random) {
        for change in changes {
            match change {
                Change::Write { mut at, bytes } => {
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let (mut piece, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
                        let length = piece.len();
                        if random.one_in(8) {
                            piece = &piece[..random.up_to(length)];
                        }
                        if random.one_in(2) {
                            apply(&mut self.durable, at, piece);
                        }
                        (at, rest) = (at + length, after);
                    }
                }
                Change::Resize(size) if random.one_in(2) => self.durable.resize(size, 0),
                Change::Resize(_) => {}
            }
        }
    }
}

fn apply(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}
