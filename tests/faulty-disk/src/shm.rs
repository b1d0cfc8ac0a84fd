//! The shared memory of a write-ahead log's users, and its locks. A crash discards it: it stands for the `-shm` file,
//! which SQLite never syncs and rebuilds after a crash.

use std::{
    cell::UnsafeCell,
    ffi::c_void,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Number of SQLite's locks on the shared memory.
const SLOTS: usize = 8;

/// Number of words in a region: SQLite maps 32 KiB at a time.
const WORDS: usize = 32 * 1024 / size_of::<u64>();

/// The memory and its locks. Exists as long as one user does.
#[derive(Default)]
pub(crate) struct Shm {
    regions: Mutex<Vec<Region>>,
    /// For each lock the number of its shared holders, or -1 if it is held exclusively.
    slots: Mutex<[i32; SLOTS]>,
}

/// A piece of memory with a stable address.
struct Region(Box<[UnsafeCell<u64>]>);

// SAFETY: this crate never reads or writes the memory; SQLite does, under its own locks and barriers.
unsafe impl Send for Region {}
// SAFETY: as for `Send`.
unsafe impl Sync for Region {}

/// The locks that one user holds, one bit per lock.
#[derive(Default)]
pub(crate) struct Held {
    shared: u8,
    exclusive: u8,
}

impl Shm {
    /// Size of a region in bytes.
    pub(crate) const REGION: usize = WORDS * size_of::<u64>();

    /// Returns the address of region `index`, which stays valid as long as `self`. A missing region is created with
    /// zeroes if `extend` is set; otherwise the result is `None`.
    pub(crate) fn region(&self, index: usize, extend: bool) -> Option<*mut c_void> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        while extend && regions.len() <= index {
            regions.push(Region((0..WORDS).map(|_| UnsafeCell::new(0)).collect()));
        }
        regions.get(index).map(|Region(words)| UnsafeCell::raw_get(words.as_ptr()).cast())
    }

    /// Takes all of the locks or none of them. Returns `true` if it took them.
    pub(crate) fn lock(&self, held: &mut Held, slots: std::ops::Range<usize>, exclusive: bool) -> bool {
        let mut locks = self.locks();
        let free = slots.clone().all(|slot| match (bit(slot), exclusive) {
            (bit, true) => held.exclusive & bit != 0 || locks[slot] == 0,
            (bit, false) => held.shared & bit != 0 || locks[slot] >= 0,
        });
        if !free {
            return false;
        }
        for slot in slots {
            let mine = if exclusive { &mut held.exclusive } else { &mut held.shared };
            if *mine & bit(slot) == 0 {
                *mine |= bit(slot);
                locks[slot] += if exclusive { -1 } else { 1 };
            }
        }
        true
    }

    pub(crate) fn unlock(&self, held: &mut Held, slots: std::ops::Range<usize>) {
        let mut locks = self.locks();
        for slot in slots {
            if held.exclusive & bit(slot) != 0 {
                locks[slot] = 0;
            } else if held.shared & bit(slot) != 0 {
                locks[slot] -= 1;
            }
            held.exclusive &= !bit(slot);
            held.shared &= !bit(slot);
        }
    }

    /// Releases every lock that a user holds.
    pub(crate) fn leave(&self, held: &mut Held) {
        self.unlock(held, 0..SLOTS);
    }

    fn locks(&self) -> MutexGuard<'_, [i32; SLOTS]> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bit(slot: usize) -> u8 {
    1 << slot
}
