//! The `tailscaled` process: its arguments, its environment, its log and its termination.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{Pid, Signal};
use thrum_core::{bounds, limits};
use thrum_sync::held_dir::{HeldDir, with_suffix};
use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, Command},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::directory::Directory;
use crate::Config;

/// The environment variables passed on to the process: those needed to run a program and to reach the network, none
/// that configure `tailscaled` itself.
const ENVIRONMENT: [&str; 13] = [
    "PATH",
    "TMPDIR",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A running `tailscaled`. Killed when dropped; [`stop`](Self::stop) first asks it to exit.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    copying: Option<JoinHandle<()>>,
    last_line: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the process on a directory. A task in `tasks` copies its output to the log file and ends with the
    /// process.
    pub(crate) fn start(
        binary: &Path,
        directory: &Directory,
        config: &Config,
        log: LogPlace,
        tasks: &TaskTracker,
    ) -> io::Result<Self> {
        let mut command = Command::new(binary);
        command
            .arg("--tun=userspace-networking")
            .arg("--statedir")
            .arg(directory.path())
            .arg("--socket")
            .arg(directory.socket())
            .args(["--port", &directory.udp_port().to_string(), "--no-logs-no-support"])
            .env_clear()
            .envs(ENVIRONMENT.iter().filter_map(|name| Some((*name, env::var_os(name)?))))
            // Otherwise the process would write small files to the user's home.
            .env("HOME", directory.path())
            .env("TS_LOGS_DIR", directory.path())
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn()?;
        if let Some(pid) = child.id() {
            directory.remember_process(pid);
            tracing::info!(program = %binary.display(), pid, "tailnet: started tailscaled");
        }
        let last_line = Arc::default();
        let copying =
            child.stderr.take().map(|stderr| tasks.spawn(copy(stderr, config.clone(), log, Arc::clone(&last_line))));
        Ok(Self { child, copying, last_line })
    }

    /// Waits for the process to end; returns how it ended, in words. Unless a signal ended it, this includes the last
    /// line of its log.
    pub(crate) async fn ended(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return error.to_string(),
        };
        if let Some(copying) = &mut self.copying {
            // The last output may still be in the pipe.
            let _ = timeout(limits::SOCKET_PROBE, copying).await;
        }
        let line = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.is_empty() || status.code().is_none() { status.to_string() } else { format!("{status}: {line}") }
    }

    /// Ends the process: asks it to exit, and kills it after [`limits::TAILSCALED_STOP`].
    pub(crate) async fn stop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
            if timeout(limits::TAILSCALED_STOP, self.child.wait()).await.is_ok() {
                return;
            }
            tracing::warn!("tailnet: tailscaled does not end, killing it");
        }
        let _ = self.child.kill().await;
    }
}

/// Copies the output of the process to the log until the process ends. Works line by line, because an auth key that the
/// control server repeats must be removed.
async fn copy(mut from: ChildStderr, config: Config, place: LogPlace, last_line: Arc<Mutex<String>>) {
    let mut log = Log::open(place);
    // Large enough to contain a whole key that begins within the kept part of a long line.
    let most = limits::MAX_TAILSCALED_LINE_BYTES + config.auth_key.as_ref().map_or(0, |key| key.reveal().len());
    let mut buffer = vec![0; limits::MAX_TAILSCALED_LINE_BYTES];
    let mut line = Vec::new();
    let mut finish = |line: &mut Vec<u8>| {
        let mut text = config.without_key(&String::from_utf8_lossy(line));
        bounds::truncate(&mut text, limits::MAX_TAILSCALED_LINE_BYTES);
        let text = text.trim_end();
        log.write(format!("{text}\n").as_bytes());
        text.trim().clone_into(&mut last_line.lock().unwrap_or_else(PoisonError::into_inner));
        line.clear();
    };
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        for part in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(&part[..part.len().min(most.saturating_sub(line.len()))]);
            if part.ends_with(b"\n") {
                finish(&mut line);
            }
        }
    }
    if !line.is_empty() {
        finish(&mut line);
    }
}

/// A log file that is started anew at [`limits::TAILSCALED_LOG_BYTES`]; the previous one is kept as `.1`. Write errors
/// are ignored.
#[derive(Debug)]
struct Log {
    place: LogPlace,
    file: Option<fs::File>,
    size: u64,
}

/// The directory of the log, held open since the transport started, and the log's file name. `None` if the directory
/// could not be opened.
pub(crate) type LogPlace = Option<(HeldDir, PathBuf)>;

impl Log {
    fn open(place: LogPlace) -> Self {
        let file = place.as_ref().and_then(|(directory, name)| {
            let shown = directory.path().join(name);
            directory
                .append(name)
                .inspect_err(|error| tracing::warn!(path = %shown.display(), %error, "tailnet: cannot write the log of tailscaled"))
                .ok()
        });
        let size = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |about| about.len());
        Self { place, file, size }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.size > 0
            && self.size + bytes.len() as u64 > limits::TAILSCALED_LOG_BYTES
            && let Some((directory, name)) = &self.place
            && directory.rename(name, &with_suffix(name, ".1")).is_ok()
        {
            *self = Self::open(self.place.take());
        }
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_ok()
        {
            self.size += bytes.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tailscaled.log");
        let mut log = Log::open(HeldDir::of(&path).ok());
        let block = vec![b'x'; 1 << 19];
        for _ in 0..12 {
            log.write(&block);
        }
        let total: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(total <= 2 * limits::TAILSCALED_LOG_BYTES, "{total}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
