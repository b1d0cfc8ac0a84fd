//! The disk as SQLite sees it: the functions of `sqlite3_vfs` (<https://sqlite.org/vfs.html>). SQLite passes pointers
//! that are valid for the duration of the call.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    ptr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::ffi;

use crate::{
    Failure, Shared,
    file::{File, Handle, size},
    state::Step,
};

/// The registration of a disk in SQLite's list of file systems, under a unique name.
pub(crate) struct Registration {
    vfs: *mut ffi::sqlite3_vfs,
    disk: *mut Weak<Shared>,
    name: String,
    /// The C string that `vfs.zName` points to.
    _c_name: CString,
}

// SAFETY: the pointers refer to memory that the registration owns. After `new` only SQLite changes it, under a mutex of
// its own.
unsafe impl Send for Registration {}
// SAFETY: as for `Send`.
unsafe impl Sync for Registration {}

impl Registration {
    pub(crate) fn new(disk: &Weak<Shared>) -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let name = format!("faulty-{}", LAST.fetch_add(1, Ordering::Relaxed));
        let c_name = CString::new(name.as_str()).expect("has no NUL");
        let disk = Box::into_raw(Box::new(disk.clone()));
        let vfs = Box::into_raw(Box::new(ffi::sqlite3_vfs {
            iVersion: 2,
            szOsFile: c_int::try_from(size_of::<File>()).expect("a few words"),
            mxPathname: 512,
            pNext: ptr::null_mut(),
            zName: c_name.as_ptr(),
            pAppData: disk.cast(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_pathname),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(current_time),
            xGetLastError: Some(last_error),
            xCurrentTimeInt64: Some(current_time_millis),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: `vfs` is complete, and keeps its address until `drop` has unregistered it.
        let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
        assert_eq!(code, ffi::SQLITE_OK, "SQLite takes another VFS");
        Self { vfs, disk, name, _c_name: c_name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: `new` boxed both. Every open file holds a reference to the disk, so no file is open now, and a
        // connection without an open file does not call its VFS again.
        unsafe {
            ffi::sqlite3_vfs_unregister(self.vfs);
            drop(Box::from_raw(self.vfs));
            drop(Box::from_raw(self.disk));
        }
    }
}

/// Returns the disk behind a VFS, or `None` if the disk has been dropped.
///
/// # Safety
/// `vfs` was registered by this module, which holds for every pointer that its functions receive.
unsafe fn disk(vfs: *mut ffi::sqlite3_vfs) -> Option<Arc<Shared>> {
    // SAFETY: `pAppData` was set in `Registration::new` and lives as long as the registration.
    unsafe { (*(*vfs).pAppData.cast::<Weak<Shared>>()).upgrade() }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite provides room for a `File`, and does not close a file without methods.
    unsafe { (*file).pMethods = ptr::null() };
    // SAFETY: `vfs` is ours, and `name` is null or ends with NUL.
    let (disk, name) = unsafe { (disk(vfs), (!name.is_null()).then(|| text(name))) };
    let Some(disk) = disk else { return ffi::SQLITE_CANTOPEN };
    let has = |flag| flags & flag != 0;
    let mut read_only = has(ffi::SQLITE_OPEN_READONLY);
    let mut state = disk.state();
    if state.is_dead() {
        return ffi::SQLITE_CANTOPEN;
    }
    let known = name.as_deref().and_then(|name| state.names.get(name));
    let inode = match known {
        Some(_) if has(ffi::SQLITE_OPEN_EXCLUSIVE) => return ffi::SQLITE_CANTOPEN,
        Some(inode) => {
            read_only |= state.is_read_only();
            inode
        }
        None if !has(ffi::SQLITE_OPEN_CREATE) && name.is_some() => return ffi::SQLITE_CANTOPEN,
        None => match state.step(Step::Create) {
            None => state.create(name.as_deref()),
            Some(_) => return ffi::SQLITE_CANTOPEN,
        },
    };
    state.inode(inode).opens += 1;
    let (number, life) = (state.number(), state.life);
    drop(state);
    let transient = name.filter(|_| has(ffi::SQLITE_OPEN_DELETEONCLOSE));
    let handle = Handle { disk, inode, number, life, read_only, transient, shm: None };
    // SAFETY: SQLite provides room for a `File`; `out_flags` may be null.
    unsafe {
        handle.put_into(file);
        if !out_flags.is_null() {
            *out_flags =
                if read_only { flags & !ffi::SQLITE_OPEN_READWRITE | ffi::SQLITE_OPEN_READONLY } else { flags };
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_directory: c_int) -> c_int {
    // SAFETY: `vfs` is ours, and `name` ends with NUL.
    let (disk, name) = unsafe { (disk(vfs), text(name)) };
    let Some(disk) = disk else { return ffi::SQLITE_IOERR_DELETE };
    let mut state = disk.state();
    if state.is_dead() {
        return ffi::SQLITE_IOERR_DELETE;
    }
    if state.names.get(&name).is_none() {
        return ffi::SQLITE_IOERR_DELETE_NOENT;
    }
    let failure = state.step(Step::Delete);
    if matches!(failure, None | Some(Failure::Crash | Failure::TornWrite)) {
        state.names.delete(&name);
    }
    if failure.is_some() {
        return ffi::SQLITE_IOERR_DELETE;
    }
    if sync_directory != 0 {
        state.names.sync(&name);
    }
    state.sweep();
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    question: c_int,
    answer: *mut c_int,
) -> c_int {
    // SAFETY: `vfs` is ours, `name` ends with NUL, and `answer` points to room for the result.
    let (disk, name, answer) = unsafe { (disk(vfs), text(name), &mut *answer) };
    let Some(disk) = disk else { return ffi::SQLITE_IOERR_ACCESS };
    let mut state = disk.state();
    if state.is_dead() {
        return ffi::SQLITE_IOERR_ACCESS;
    }
    let length = state.names.get(&name).map(|inode| state.inode(inode).content().len());
    *answer = c_int::from(match question {
        // SQLite's own VFS for Unix does the same: an empty file counts as missing.
        ffi::SQLITE_ACCESS_EXISTS => length.is_some_and(|length| length > 0),
        ffi::SQLITE_ACCESS_READWRITE => length.is_some() && !state.is_read_only(),
        _ => length.is_some(),
    });
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: `name` ends with NUL, and `out` has room for `room` bytes.
    unsafe {
        let name = CStr::from_ptr(name).to_bytes_with_nul();
        if name.len() > size(room.into()) {
            return ffi::SQLITE_CANTOPEN;
        }
        ptr::copy_nonoverlapping(name.as_ptr().cast(), out, name.len());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(vfs: *mut ffi::sqlite3_vfs, amount: c_int, out: *mut c_char) -> c_int {
    // SAFETY: `vfs` is ours, and `out` has room for `amount` bytes.
    let (disk, out) = unsafe { (disk(vfs), std::slice::from_raw_parts_mut(out.cast::<u8>(), size(amount.into()))) };
    if let Some(disk) = disk {
        let mut state = disk.state();
        out.fill_with(|| state.random().next().to_be_bytes()[0]);
    }
    amount
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, micros: c_int) -> c_int {
    std::thread::sleep(Duration::from_micros(u64::from(micros.unsigned_abs())));
    micros
}

/// Noon of 1 January 2026 as a Julian day. The time is fixed because nothing here depends on it.
const TODAY: i32 = 2_461_042;

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: `out` points to room for the result.
    unsafe { *out = f64::from(TODAY) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_millis(_: *mut ffi::sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: `out` points to room for the result.
    unsafe { *out = i64::from(TODAY) * 86_400_000 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_: *mut ffi::sqlite3_vfs, _room: c_int, _out: *mut c_char) -> c_int {
    ffi::SQLITE_OK
}

/// Copies a C string into a `String`.
///
/// # Safety
/// `name` ends with NUL.
unsafe fn text(name: *const c_char) -> String {
    // SAFETY: guaranteed by the caller.
    unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
}
