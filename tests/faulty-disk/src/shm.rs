//! The memory that the users of a write-ahead log share, and its locks. It is lost at a crash, as what it stands for (a file
//! that is never synced) is made anew by SQLite after one.

use std::{
    cell::UnsafeCell,
    ffi::c_void,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// SQLite's locks on the shared memory.
const SLOTS: usize = 8;

/// Words of a region: SQLite maps 32 KiB at a time.
const WORDS: usize = 32 * 1024 / size_of::<u64>();

/// The memory, while any of its users is there.
#[derive(Default)]
pub(crate) struct Shm {
    regions: Mutex<Vec<Region>>,
    /// Per lock the number of those who share it, or -1.
    slots: Mutex<[i32; SLOTS]>,
}

/// A piece of memory that stays where it is.
struct Region(Box<[UnsafeCell<u64>]>);

// SAFETY: nobody here ever looks into the memory; SQLite does, under the locks and barriers that it brings for it.
unsafe impl Send for Region {}
// SAFETY: the same.
unsafe impl Sync for Region {}

/// The locks that one user holds, a bit for each.
#[derive(Default)]
pub(crate) struct Held {
    shared: u8,
    exclusive: u8,
}

impl Shm {
    /// Bytes of a region.
    pub(crate) const REGION: usize = WORDS * size_of::<u64>();

    /// Where region `index` is; it is made if it is not there and `extend`, zeroed. Valid as long as `self`.
    pub(crate) fn region(&self, index: usize, extend: bool) -> Option<*mut c_void> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        while extend && regions.len() <= index {
            regions.push(Region((0..WORDS).map(|_| UnsafeCell::new(0)).collect()));
        }
        regions.get(index).map(|Region(words)| UnsafeCell::raw_get(words.as_ptr()).cast())
    }

    /// Takes locks, all or none; whether it could.
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

    /// Gives up everything that a user holds.
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
