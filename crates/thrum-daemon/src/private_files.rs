//! Small private files: read with a size bound, and written so that a crash leaves either the old or the new content.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use thrum_core::{Error, ErrorKind};
use thrum_sync::state_file;

use crate::sandbox;

/// Returns the device and inode of the file at a path, without following a link at its end; `None` if there is none.
pub(crate) fn file_identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// Converts an I/O error for people: `cannot WHAT PATH: why`, with the next step if the cause suggests one.
pub(crate) fn io_error(what: &str, path: &Path, error: &io::Error) -> Error {
    let shown = path.display();
    let plain = |kind| Error::new(kind, format!("cannot {what} {shown}: {error}"));
    if let Some(hint) = sandbox::hint(error) {
        return plain(ErrorKind::Refused).hint(hint);
    }
    match error.kind() {
        io::ErrorKind::NotFound => plain(ErrorKind::NotFound),
        io::ErrorKind::PermissionDenied => {
            plain(ErrorKind::Refused).hint(format!("Check who owns {shown} and whether this user may write there."))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            plain(ErrorKind::Refused).hint("The file system is mounted read-only; mount it writable.")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            plain(ErrorKind::Failed).hint("Free some space on that file system and try again.")
        }
        _ => plain(ErrorKind::Failed),
    }
}

/// Reads a file of at most `most` bytes; `None` if it does not exist. A symbolic link is refused, because private data
/// must not be read from elsewhere.
pub(crate) fn read_private(path: &Path, most: u64) -> Result<Option<Vec<u8>>, Error> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, &error)),
    };
    read_bounded(&file, path, most).map(Some)
}

/// Reads an open regular file of at most `most` bytes.
pub(crate) fn read_bounded(file: &File, path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let about = file.metadata().map_err(|error| io_error("read", path, &error))?;
    if !about.is_file() {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is no file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| io_error("read", path, &error))?;
    if bytes.len() as u64 > most {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is larger than {most} bytes", path.display())));
    }
    Ok(bytes)
}

/// Refuses symbolic links at these paths. SQLite, for example, would follow them and store all mail elsewhere.
pub(crate) fn refuse_links(paths: &[&Path]) -> Result<(), Error> {
    match paths.iter().find(|path| fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink())) {
        None => Ok(()),
        Some(link) => Err(Error::new(ErrorKind::Refused, format!("{} is a symbolic link", link.display()))
            .hint("Replace the link by the file itself.")),
    }
}

/// Replaces a file, with mode 0600; durable on return.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    state_file::replace(path, bytes).map_err(|error| io_error("write", path, &error))
}

/// Makes changes of the names in a file's directory durable.
pub(crate) fn sync_directory(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Creates a directory with the given mode unless it exists.
pub(crate) fn make_dir(path: &Path, mode: u32) -> Result<(), Error> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error("make the directory", path, &error)),
        _ => Ok(()),
    }
}

/// Creates a directory that only its owner can enter, or restricts an existing one. Refuses a link and another user's
/// directory.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), Error> {
    make_dir(path, 0o700)?;
    let about = fs::symlink_metadata(path).map_err(|error| io_error("look at", path, &error))?;
    if !about.is_dir() {
        return Err(Error::new(ErrorKind::Refused, format!("{} is no directory of its own", path.display()))
            .hint("Remove it; a link to another place is not followed."));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(Error::new(ErrorKind::Refused, format!("{} belongs to another user", path.display())));
    }
    if about.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(|error| io_error("protect", path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_private_file_is_replaced_whole_and_readable_by_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("daemon.json");
        fs::write(&path, "old").unwrap();
        fs::write(dir.path().join("daemon.json.tmp"), "half of what a cra").unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(read_private(&path, 10).unwrap().as_deref(), Some(b"new".as_slice()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn c26_the_error_for_a_full_disk_has_a_hint() {
        let full = Path::new("/dev/full");
        let error = OpenOptions::new().write(true).open(full).and_then(|mut file| file.write_all(b"x")).unwrap_err();
        let error = io_error("write", full, &error);
        assert!(error.message.starts_with("cannot write /dev/full: No space left"), "{error}");
        assert!(error.hint.unwrap().contains("space"));
    }

    #[test]
    fn only_small_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(read_private(&path, 10).unwrap(), None);
        fs::write(&path, "12345678901").unwrap();
        assert_eq!(read_private(&path, 10).unwrap_err().kind, ErrorKind::Invalid);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read_private(&link, 100).is_err());
        assert!(read_private(dir.path(), 100).is_err());
    }

    #[test]
    fn a_private_directory_is_made_private_and_a_link_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let var = dir.path().join("var");
        DirBuilder::new().mode(0o755).create(&var).unwrap();
        make_private_dir(&var).unwrap();
        assert_eq!(fs::metadata(&var).unwrap().mode() & 0o777, 0o700);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&var, &link).unwrap();
        assert_eq!(make_private_dir(&link).unwrap_err().kind, ErrorKind::Refused);
    }
}
