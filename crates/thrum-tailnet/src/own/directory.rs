//! The state directory of the daemon's own node: private, locked, and cleared of a `tailscaled` that an earlier daemon
//! left behind.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read},
    net::{Ipv4Addr, UdpSocket},
    os::unix::{
        ffi::OsStringExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use thrum_core::{SetDigest, limits};
use thrum_sync::held_dir::HeldDir;
use tokio::{
    net::UnixStream,
    time::{Instant, sleep, timeout},
};

use crate::{Config, State, state::Verdict};

const LOCK_FILE: &str = "thrum.lock";
const PID_FILE: &str = "tailscaled.pid";

/// Contains the last UDP port of the `tailscaled` in this directory.
const PORT_FILE: &str = "tailscaled.port";

/// The first port that can be bound without privileges.
const UNPRIVILEGED: u16 = 1024;

/// The state directory, locked while this value lives.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    socket: PathBuf,
    held: HeldDir,
    lock: File,
}

impl Directory {
    /// Creates the directory if it is missing, restricts it to its owner, and locks it.
    pub(crate) async fn open(config: &Config) -> Result<Self, Verdict> {
        let (path, runtime_dir) = (config.state_dir.clone(), config.runtime_dir.clone());
        tokio::task::spawn_blocking(move || Self::open_now(&path, &runtime_dir))
            .await
            .unwrap_or_else(|error| Err(unusable(format!("an internal task failed: {error}"))))
    }

    fn open_now(path: &Path, runtime_dir: &Path) -> Result<Self, Verdict> {
        let failed =
            |error: io::Error| unusable(format!("the state directory {} cannot be used: {error}", path.display()));
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        }
        private(path).map_err(failed)?;
        // Relative paths and symbolic links would not be recognised on the command line of an orphan.
        let path = &fs::canonicalize(path).map_err(failed)?;
        let lock = lock(path).map_err(failed)?.ok_or_else(|| {
            Verdict::new(
                State::StateDir,
                format!("another daemon uses the state directory {}", path.display()),
                "Give each repository its own THRUM_TS_STATE_DIR, or remove the setting.",
            )
        })?;
        let mut socket = path.join("sock");
        if socket.as_os_str().len() > limits::MAX_SOCKET_PATH_BYTES {
            private(runtime_dir).map_err(failed)?;
            let hash = SetDigest::of(path.as_os_str().as_encoded_bytes()).to_string();
            socket = runtime_dir.join(format!("{}.ts", &hash[..16]));
        }
        let held = HeldDir::open(path).map_err(failed)?;
        Ok(Self { path: path.clone(), socket, held, lock })
    }

    /// Returns `true` if the lock still excludes other daemons from the directory at this path. Otherwise a
    /// `tailscaled` that runs on this path may be another daemon's, and ours must not write there any more.
    pub(crate) fn is_in_place(&self) -> bool {
        let identity = |about: fs::Metadata| (about.dev(), about.ino());
        let locked = self.lock.metadata().map(identity);
        self.held.is_in_place() && fs::symlink_metadata(self.path.join(LOCK_FILE)).map(identity).ok() == locked.ok()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The socket path for the `tailscaled` of this directory.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    fn pid_file(&self) -> PathBuf {
        self.path.join(PID_FILE)
    }

    /// Stores the process id, for a later daemon that must end the process.
    pub(crate) fn remember_process(&self, pid: u32) {
        // Without the file, an orphan is still found by its socket.
        if let Err(error) = self.held.replace(Path::new(PID_FILE), pid.to_string().as_bytes()) {
            tracing::warn!(path = %self.pid_file().display(), %error, "tailnet: cannot write a file");
        }
    }

    /// Removes the stored process id after the process has ended.
    pub(crate) fn forget_process(&self) {
        let _ = self.held.remove(Path::new(PID_FILE));
    }

    /// The UDP port for the `tailscaled` of this directory: the previous one if it is free, otherwise another. 0, which
    /// lets `tailscaled` choose, if no port can be bound.
    ///
    /// Other nodes keep sending to the previous port as long as they trust it (6.5 s after they last heard the node
    /// there). On another port, `tailscaled` would not receive their answer to its handshake, and would repeat the
    /// handshake only after 5 s.
    pub(crate) fn udp_port(&self) -> u16 {
        let is_free = |port: &u16| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
        let last = read_small(&self.path.join(PORT_FILE)).and_then(|text| text.trim().parse::<u16>().ok());
        if let Some(last) = last.filter(|port| *port >= UNPRIVILEGED).filter(is_free) {
            return last;
        }
        let any = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| socket.local_addr());
        let port = any.map_or(0, |address| address.port());
        if let Err(error) = self.held.replace(Path::new(PORT_FILE), port.to_string().as_bytes()) {
            tracing::warn!(path = %self.path.join(PORT_FILE).display(), %error, "tailnet: cannot write a file");
        }
        port
    }

    /// Ends a `tailscaled` that an earlier daemon left on this directory. Because we hold the lock, no running daemon
    /// uses that process.
    pub(crate) async fn end_orphan(&self) {
        let noted = read_small(&self.pid_file()).and_then(|text| text.trim().parse::<i32>().ok());
        for pid in [noted, self.listener().await].into_iter().flatten() {
            let Some(process) = Pid::from_raw(pid) else { continue };
            if !self.is_ours(process).await {
                continue;
            }
            tracing::info!(pid, "tailnet: ending the tailscaled that an earlier daemon left");
            let _ = rustix::process::kill_process(process, Signal::TERM);
            if !self.gone_within(process, limits::TAILSCALED_STOP).await {
                let _ = rustix::process::kill_process(process, Signal::KILL);
                self.gone_within(process, limits::TAILSCALED_STOP).await;
            }
        }
        self.forget_process();
    }

    /// The process that listens on the socket, as reported by the operating system.
    async fn listener(&self) -> Option<i32> {
        let stream = timeout(limits::SOCKET_PROBE, UnixStream::connect(&self.socket)).await.ok()?.ok()?;
        stream.peer_cred().ok()?.pid()
    }

    async fn gone_within(&self, process: Pid, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while self.is_ours(process).await {
            if Instant::now() >= until {
                return false;
            }
            sleep(limits::TAILSCALED_LOOK).await;
        }
        true
    }

    /// Returns `true` if this process is a `tailscaled` that runs on this directory. Needed because process ids are
    /// reused.
    async fn is_ours(&self, process: Pid) -> bool {
        let Some(arguments) = command_line(process).await else { return false };
        is_tailscaled_on(&arguments, &self.path)
    }
}

/// Returns `true` if these are the arguments of a `tailscaled` that we started with its state in this directory.
fn is_tailscaled_on(arguments: &[OsString], state_dir: &Path) -> bool {
    let is_option = |text: &OsString| text.as_encoded_bytes().starts_with(b"-");
    // For a script, the interpreter precedes the program.
    let program =
        arguments.iter().take_while(|text| !is_option(text)).last().and_then(|text| Path::new(text).file_name());
    let is_tailscaled = program.is_some_and(|name| name.to_string_lossy().contains("tailscaled"));
    is_tailscaled && arguments.windows(2).any(|pair| pair[0] == "--statedir" && Path::new(&pair[1]) == state_dir)
}

/// The arguments of a process; `None` if the process has ended or cannot be examined.
async fn command_line(process: Pid) -> Option<Vec<OsString>> {
    let pid = process.as_raw_nonzero();
    if cfg!(target_os = "linux") {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // A zombie, which has ended but was not waited for, has an empty command line.
        let arguments = bytes.strip_suffix(b"\0").unwrap_or(&bytes).split(|byte| *byte == 0);
        (!bytes.is_empty()).then(|| arguments.map(|text| OsString::from_vec(text.to_owned())).collect())
    } else {
        let mut ps = tokio::process::Command::new("ps");
        ps.args(["-ww", "-o", "command=", "-p", &pid.to_string()]).kill_on_drop(true);
        let output = timeout(limits::LOCALAPI_CALL, ps.output()).await.ok()?.ok()?;
        output.status.success().then(|| split_at_options(String::from_utf8_lossy(&output.stdout).trim_end()))
    }
}

/// Splits a line of `ps` into the program, and each option with its value. `ps` separates arguments by spaces and does
/// not escape spaces within them.
fn split_at_options(line: &str) -> Vec<OsString> {
    let mut parts = line.split(" --");
    let program = parts.next().unwrap_or_default().to_owned();
    let options = parts.flat_map(|part| {
        let (name, value) = part.split_once(' ').unzip();
        [Some(format!("--{}", name.unwrap_or(part))), value.map(str::to_owned)]
    });
    [Some(program)].into_iter().chain(options).flatten().map(OsString::from).collect()
}

/// Returns `true` if a node was registered with this state: `tailscaled` has stored a profile.
pub(crate) fn is_registered(state_dir: &Path) -> bool {
    let state =
        read_small(&state_dir.join("tailscaled.state")).and_then(|text| serde_json::from_str::<Value>(&text).ok());
    state.is_some_and(|state| {
        state.get("_current-profile").and_then(Value::as_str).is_some_and(|profile| !profile.is_empty())
    })
}

fn read_small(path: &Path) -> Option<String> {
    let file = OpenOptions::new().read(true).custom_flags(no_links()).open(path).ok()?;
    let mut text = String::new();
    file.take(limits::MAX_STATE_FILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

/// Creates a directory that only its owner may enter, or restricts an existing one. Refuses a link and another user's
/// directory.
fn private(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let about = fs::symlink_metadata(path)?;
    if !about.is_dir() {
        return Err(io::Error::other("it is no directory of its own"));
    }
    if about.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if about.mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Locks the directory; `None` if another process holds the lock.
fn lock(directory: &Path) -> io::Result<Option<File>> {
    let path = directory.join(LOCK_FILE);
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(no_links()).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn no_links() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

fn unusable(sentence: String) -> Verdict {
    Verdict::new(
        State::StateDir,
        sentence,
        "Set THRUM_TS_STATE_DIR to a directory that this user owns, or remove the setting.",
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn open(path: &Path, runtime: &Path) -> Result<Directory, State> {
        Directory::open_now(path, runtime).map_err(|verdict| verdict.state)
    }

    #[test]
    fn only_its_owner_enters_it_and_one_daemon_uses_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("var/tsnet");
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let first = open(&path, dir.path()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(open(&path, dir.path()).unwrap_err(), State::StateDir);
        drop(first);
        open(&path, dir.path()).expect("free again");
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(open(&link, dir.path()).unwrap_err(), State::StateDir);
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(open(&dir.path().join("file"), dir.path()).unwrap_err(), State::StateDir);
        assert_eq!(open(&dir.path().join("file/below"), dir.path()).unwrap_err(), State::StateDir);
    }

    #[test]
    fn a_node_keeps_its_port_until_another_program_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tsnet");
        let port = open(&path, dir.path()).unwrap().udp_port();
        assert!(port >= UNPRIVILEGED);
        let again = open(&path, dir.path()).unwrap();
        assert_eq!(again.udp_port(), port);
        let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let other = again.udp_port();
        drop(taken);
        assert!(other != port && other >= UNPRIVILEGED);
        assert_eq!(again.udp_port(), other, "and keeps that");
        for bad in ["", "0", "22", "65536", "x"] {
            fs::write(path.join(PORT_FILE), bad).unwrap();
            assert!(again.udp_port() >= UNPRIVILEGED, "{bad}");
        }
    }

    #[test]
    fn a_path_too_long_for_a_socket_gets_a_short_one_in_a_private_directory() {
        let dir = tempfile::tempdir().unwrap();
        let runtime = dir.path().join("run");
        let directory = open(&dir.path().join("x".repeat(120)), &runtime).unwrap();
        assert!(
            directory.socket().starts_with(&runtime)
                && directory.socket().as_os_str().len() <= limits::MAX_SOCKET_PATH_BYTES
        );
        assert_eq!(fs::metadata(&runtime).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_process_is_ours_by_its_program_and_its_exact_state_directory() {
        let ours = |line: &str| is_tailscaled_on(&split_at_options(line), Path::new("/r/my ts"));
        for line in [
            "/usr/sbin/tailscaled --tun=userspace-networking --statedir /r/my ts --socket /r/my ts/sock --port 0 --no-logs-no-support",
            "/opt/my tools/tailscaled-1.98 --statedir /r/my ts/ --socket s",
            "/bin/sh /opt/tailscaled --statedir /r/my ts",
        ] {
            assert!(ours(line), "{line}");
        }
        for line in [
            "",
            "tailscaled",
            "tailscaled --statedir",
            "tailscaled --statedir /r/my ts-b --socket /r/my ts/sock",
            "tailscaled --statedir /r --socket /r/my ts",
            "tail -f /r/my ts/tailscaled.log1.txt",
            "tail --statedir /r/my ts tailscaled",
            "/r/tailscaled/tail --statedir /r/my ts",
        ] {
            assert!(!ours(line), "{line}");
        }
    }

    #[test]
    fn a_node_is_registered_once_its_state_has_a_profile() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("tailscaled.state");
        assert!(!is_registered(dir.path()));
        for (text, registered) in [
            ("", false),
            ("[]", false),
            (r#"{"_machinekey": "cHJpdmtleTo="}"#, false),
            (r#"{"_machinekey": "cHJpdmtleTo=", "_current-profile": ""}"#, false),
            (r#"{"_current-profile": "cHJvZmlsZS0yMDRh", "_machinekey": "cHJpdmtleTo="}"#, true),
        ] {
            fs::write(&state, text).unwrap();
            assert_eq!(is_registered(dir.path()), registered, "{text}");
        }
    }
}
