//! An open file as SQLite sees it: the functions of `sqlite3_io_methods`. SQLite passes pointers that are valid for the
//! duration of the call, and makes one call at a time per file. The state behind a file is protected by the disk's
//! mutex.

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
};

use rusqlite::ffi;

use crate::{
    Failure, Shared,
    inode::SECTOR,
    shm::{Held, Shm},
    state::Step,
};

/// The file structure that SQLite allocates: SQLite's own part, and a pointer to ours.
#[repr(C)]
pub(crate) struct File {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

/// An open file.
pub(crate) struct Handle {
    pub(crate) disk: Arc<Shared>,
    pub(crate) inode: u64,
    /// The number under which this handle holds locks.
    pub(crate) number: u64,
    pub(crate) life: u64,
    pub(crate) read_only: bool,
    /// A file name to delete when the handle is closed.
    pub(crate) transient: Option<String>,
    pub(crate) shm: Option<(Arc<Shm>, Held)>,
}

/// Returns our part of a file.
///
/// # Safety
/// `file` was opened by `open` and is not closed.
unsafe fn handle<'f>(file: *mut ffi::sqlite3_file) -> &'f mut Handle {
    // SAFETY: `open` boxed the handle, and SQLite makes one call at a time per file.
    unsafe { &mut *(*file.cast::<File>()).handle }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the file is open, and this is its last call.
    let mut handle = unsafe { Box::from_raw((*file.cast::<File>()).handle) };
    handle.leave_shm();
    let mut state = handle.disk.state();
    if state.life == handle.life {
        let inode = state.inode(handle.inode);
        inode.opens -= 1;
        inode.locks.remove(&handle.number);
        if let Some(name) = &handle.transient {
            state.names.delete(name);
        }
        state.sweep();
    }
    drop(state);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, buffer: *mut c_void, amount: c_int, offset: i64) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    // SAFETY: SQLite provides `amount` writable bytes that nothing else accesses.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), size(amount.into())) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_IOERR_READ;
    }
    let length = state.inode(handle.inode).read(size(offset), buffer);
    if length == buffer.len() {
        return ffi::SQLITE_OK;
    }
    buffer[length..].fill(0);
    ffi::SQLITE_IOERR_SHORT_READ
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, bytes: *const c_void, amount: c_int, offset: i64) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    // SAFETY: SQLite provides `amount` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), size(amount.into())) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_IOERR_WRITE;
    }
    if handle.read_only {
        return ffi::SQLITE_READONLY;
    }
    let failure = state.step(Step::Write);
    let at = size(offset);
    let part = &bytes[..state.random().up_to(bytes.len())];
    let inode = state.inode(handle.inode);
    match failure {
        None => inode.write(at, bytes),
        Some(Failure::Crash) => inode.write(at, bytes),
        Some(Failure::TornWrite) => inode.write_through(at, part),
        Some(Failure::Full | Failure::IoError) => inode.write(at, part),
        Some(Failure::ReadOnly) => {}
    }
    match failure {
        None => ffi::SQLITE_OK,
        Some(Failure::Full) => ffi::SQLITE_FULL,
        Some(Failure::ReadOnly) => ffi::SQLITE_READONLY,
        Some(_) => ffi::SQLITE_IOERR_WRITE,
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_IOERR_TRUNCATE;
    }
    let failure = state.step(Step::Resize);
    if matches!(failure, None | Some(Failure::Crash | Failure::TornWrite)) {
        state.inode(handle.inode).resize(size(length));
    }
    if failure.is_none() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_TRUNCATE }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    match state.step(Step::Sync) {
        None => {
            state.sync(handle.inode);
            return ffi::SQLITE_OK;
        }
        Some(Failure::IoError) => state.lose(handle.inode),
        Some(_) => {}
    }
    ffi::SQLITE_IOERR_FSYNC
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, length: *mut i64) -> c_int {
    // SAFETY: the file is open, and `length` points to room for the result.
    let (handle, length) = unsafe { (handle(file), &mut *length) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_IOERR_FSTAT;
    }
    *length = i64::try_from(state.inode(handle.inode).content().len()).unwrap_or(i64::MAX);
    ffi::SQLITE_OK
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_IOERR_LOCK;
    }
    let locks = &mut state.inode(handle.inode).locks;
    let held = locks.get(&handle.number).copied().unwrap_or(ffi::SQLITE_LOCK_NONE);
    if level <= held {
        return ffi::SQLITE_OK;
    }
    let others =
        locks.iter().filter(|(number, _)| **number != handle.number).map(|(_, level)| *level).max().unwrap_or(0);
    let (granted, code) = match level {
        ffi::SQLITE_LOCK_SHARED if others >= ffi::SQLITE_LOCK_PENDING => (held, ffi::SQLITE_BUSY),
        ffi::SQLITE_LOCK_SHARED => (level, ffi::SQLITE_OK),
        _ if others >= ffi::SQLITE_LOCK_RESERVED => (held, ffi::SQLITE_BUSY),
        // A pending exclusive lock keeps new readers out while the present ones finish.
        ffi::SQLITE_LOCK_EXCLUSIVE if others > ffi::SQLITE_LOCK_NONE => (ffi::SQLITE_LOCK_PENDING, ffi::SQLITE_BUSY),
        _ => (level, ffi::SQLITE_OK),
    };
    locks.insert(handle.number, granted);
    code
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_OK;
    }
    let locks = &mut state.inode(handle.inode).locks;
    if let Some(held) = locks.get_mut(&handle.number) {
        *held = level.min(*held);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, reserved: *mut c_int) -> c_int {
    // SAFETY: the file is open, and `reserved` points to room for the result.
    let (handle, reserved) = unsafe { (handle(file), &mut *reserved) };
    let mut state = handle.disk.state();
    if !state.serves(handle.life) {
        return ffi::SQLITE_IOERR_CHECKRESERVEDLOCK;
    }
    *reserved = state.inode(handle.inode).locks.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED).into();
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _operation: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    c_int::try_from(SECTOR).expect("a few thousand")
}

unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

impl Handle {
    /// Turns `file` into an open file with this handle.
    ///
    /// # Safety
    /// `file` has room for a `File`.
    pub(crate) unsafe fn put_into(self, file: *mut ffi::sqlite3_file) {
        // SAFETY: the caller guarantees the room; `close` takes the box back.
        unsafe {
            (*file.cast::<File>()).handle = Box::into_raw(Box::new(self));
            (*file).pMethods = &raw const METHODS;
        }
    }

    fn leave_shm(&mut self) {
        if let Some((shm, mut held)) = self.shm.take() {
            shm.leave(&mut held);
        }
    }

    /// The memory shared with the other users of the file. `None` if the handle no longer works.
    fn shm(&mut self) -> Option<&mut (Arc<Shm>, Held)> {
        let mut state = self.disk.state();
        if !state.serves(self.life) {
            return None;
        }
        if self.shm.is_none() {
            let inode = state.inode(self.inode);
            let shm = inode.shm.upgrade().unwrap_or_default();
            inode.shm = Arc::downgrade(&shm);
            self.shm = Some((shm, Held::default()));
        }
        drop(state);
        self.shm.as_mut()
    }
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    index: c_int,
    bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the file is open, and `out` points to room for the result.
    let (handle, out) = unsafe { (handle(file), &mut *out) };
    *out = ptr::null_mut();
    let Some((shm, _)) = handle.shm() else { return ffi::SQLITE_IOERR_SHMMAP };
    assert_eq!(size(bytes.into()), Shm::REGION, "SQLite maps regions of one size");
    // The handle keeps the memory alive until `shm_unmap` or `close`, after which SQLite does not use it.
    *out = shm.region(size(index.into()), extend != 0).unwrap_or(ptr::null_mut());
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let handle = unsafe { handle(file) };
    let Some((shm, held)) = handle.shm() else { return ffi::SQLITE_IOERR_SHMLOCK };
    let slots = size(offset.into())..size((offset + count).into());
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        shm.unlock(held, slots);
        return ffi::SQLITE_OK;
    }
    let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    if shm.lock(held, slots, exclusive) { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, _delete: c_int) -> c_int {
    // SAFETY: the file is open.
    unsafe { handle(file) }.leave_shm();
    ffi::SQLITE_OK
}

/// Converts a size or offset of SQLite, which is never negative.
pub(crate) fn size(value: i64) -> usize {
    usize::try_from(value).expect("SQLite's sizes are not negative")
}
