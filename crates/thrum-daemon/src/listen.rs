//! The Unix socket: removes a stale one, and creates a new one for this user only.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use thrum_core::{Error, ErrorKind, limits};
use tokio::{
    net::{UnixListener, UnixStream},
    time::{Instant, sleep},
};

use crate::{paths::Repo, private_files};

/// An open socket. When dropped, its file is removed unless another file is at that path by now.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Listening {
    /// Returns `true` if clients that connect to the path reach this socket.
    pub(crate) fn is_in_place(&self) -> bool {
        self.identity.is_some() && private_files::file_identity(&self.path) == self.identity
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.is_in_place() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the socket of `repo`. The caller holds the lock, so an existing socket file was left by a crash, or belongs to
/// a program that does not know the lock, or to a daemon whose state directory was replaced.
///
/// # Errors
/// `refused` if a program answers on the socket, or if the path belongs to something else; file system errors.
pub(crate) async fn open(repo: &Repo) -> Result<Listening, Error> {
    let path = repo.socket_to_open();
    if let Some(directory) = path.parent() {
        private_files::make_private_dir(directory)?;
    }
    // A process that the last daemon forked holds its socket until it executes its program. A socket in the runtime
    // directory may also belong to a daemon whose state was replaced and which is about to end.
    let patience = if path.starts_with(repo.var()) { limits::SOCKET_PROBE } else { limits::STATE_LOOK * 3 };
    let until = Instant::now() + patience;
    while let Err(error) = clear(&path).await {
        if Instant::now() >= until {
            return Err(error);
        }
        sleep(limits::SOCKET_PROBE / 5).await;
    }
    let listener = UnixListener::bind(&path).map_err(|error| private_files::io_error("listen on", &path, &error))?;
    let listening = Listening { listener, identity: private_files::file_identity(&path), path };
    fs::set_permissions(&listening.path, fs::Permissions::from_mode(0o600))
        .map_err(|error| private_files::io_error("protect", &listening.path, &error))?;
    Ok(listening)
}

async fn clear(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(private_files::io_error("look at", path, &error)),
        Ok(about) if !about.file_type().is_socket() => {
            return Err(
                Error::new(ErrorKind::Refused, format!("{} is no socket", path.display())).hint("Move it away.")
            );
        }
        Ok(_) => {}
    }
    let dead = match tokio::time::timeout(limits::SOCKET_PROBE, UnixStream::connect(path)).await {
        Ok(Err(error)) => matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound),
        Ok(Ok(_)) | Err(_) => false,
    };
    if !dead {
        return Err(Error::new(ErrorKind::Refused, format!("socket {} is in use by another daemon", path.display()))
            .hint("Stop that daemon first."));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(private_files::io_error("remove", path, &error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_by_a_crash_is_cleared_and_the_new_one_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path(), None).unwrap();
        drop(std::os::unix::net::UnixListener::bind(repo.socket()).unwrap());
        let listening = open(&repo).await.unwrap();
        assert_eq!(fs::metadata(repo.socket()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(repo.var()).unwrap().permissions().mode() & 0o777, 0o700);
        let error = open(&repo).await.unwrap_err();
        assert_eq!(error.message, format!("socket {} is in use by another daemon", repo.socket().display()));
        drop(listening);
        assert!(!repo.socket().exists());
    }

    /// As while a forked process still holds the socket of a daemon that has ended.
    #[tokio::test]
    async fn a_socket_that_is_closed_a_moment_later_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path(), None).unwrap();
        let old = std::os::unix::net::UnixListener::bind(repo.socket()).unwrap();
        old.set_nonblocking(true).unwrap();
        let old = UnixListener::from_std(old).unwrap();
        // The first attempt is answered, and then nothing listens any more.
        let held = async {
            let answered = old.accept().await.map(drop);
            drop(old);
            answered
        };
        let (listening, answered) = tokio::join!(open(&repo), held);
        assert!(listening.unwrap().is_in_place() && answered.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path(), None).unwrap();
        fs::write(repo.socket(), "precious").unwrap();
        assert_eq!(open(&repo).await.unwrap_err().kind, ErrorKind::Refused);
        assert_eq!(fs::read_to_string(repo.socket()).unwrap(), "precious");
    }

    #[tokio::test]
    async fn c14_a_path_too_long_for_a_socket_works_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x".repeat(120));
        fs::create_dir(&deep).unwrap();
        let repo = Repo::create(&deep, None).unwrap();
        let listening = open(&repo).await.unwrap();
        UnixStream::connect(repo.socket()).await.expect("the client comes to the same path");
        drop(listening);
    }
}
