//! One file: the content that reads see, the durable content, and the unsynced changes between the two.

use std::{collections::BTreeMap, sync::Weak};

use crate::{random::Random, shm::Shm};

/// Size of a sector in bytes: the unit that a disk writes at once, or tears. SQLite gets the same value.
pub(crate) const SECTOR: usize = 4096;

/// A change that has not been synced.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// A file, with or without a name.
#[derive(Default)]
pub(crate) struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
    /// Number of open handles.
    pub(crate) opens: usize,
    /// The level of SQLite's file lock that each handle holds, by handle number.
    pub(crate) locks: BTreeMap<u64, i32>,
    /// The memory that the users of a write-ahead log share. It exists as long as one of them does.
    pub(crate) shm: Weak<Shm>,
}

impl Inode {
    /// Creates a file whose content is already durable.
    pub(crate) fn durable(content: Vec<u8>) -> Self {
        Self { now: content.clone(), durable: content, ..Self::default() }
    }

    pub(crate) fn content(&self) -> &[u8] {
        &self.now
    }

    /// Reads into `buffer` up to the end of the file, and returns the number of bytes read.
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

    /// Writes bytes that are durable at once, without a sync.
    pub(crate) fn write_through(&mut self, at: usize, bytes: &[u8]) {
        apply(&mut self.now, at, bytes);
        apply(&mut self.durable, at, bytes);
    }

    pub(crate) fn resize(&mut self, size: usize) {
        self.now.resize(size, 0);
        self.pending.push(Change::Resize(size));
    }

    /// Makes every pending change durable. What an earlier failed sync lost stays lost.
    pub(crate) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { at, bytes } => apply(&mut self.durable, at, &bytes),
                Change::Resize(size) => self.durable.resize(size, 0),
            }
        }
    }

    /// Makes a random part of the pending changes durable and drops the rest for good.
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

    /// Resets the file after a crash: reads see the durable content.
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
