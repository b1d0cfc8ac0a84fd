//! Simulated machines: namespaces with a host name, a network cable and a `tailscaled` with a kernel device.
//!
//! All processes of a machine live in its own process namespace, whose first process ends when the test process ends in
//! any way. No process, interface or mount therefore outlives the test, and this computer's own network is not touched.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

use crate::{
    net::{AUTH_KEY, Helper, Tailnet},
    tools::Tools,
    waiting::{ANSWER, tail, until},
};

/// Script of the first process of a machine: prints its process id, mounts its own /run, and waits until its input
/// ends.
const FIRST: &str = r#"
read pid rest </proc/self/stat
mount -t proc proc /proc && mount -t tmpfs tmpfs /run && mkdir /run/tailscale && hostname "$1" && ip link set lo up || exit 1
echo "$pid"
cat >/dev/null
:"#;

/// The namespaces of one machine.
pub(crate) struct Space {
    child: Child,
    /// Process id of the machine's first process, as seen from outside.
    first: String,
}

impl Space {
    pub(crate) fn new(hostname: &str) -> Self {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "--uts",
                "--mount",
                "--ipc",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                FIRST,
                "sh",
                hostname,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty(), "a machine could not be made");
        Self { child, first: first.trim().to_owned() }
    }

    /// Command prefix that runs a command on this machine.
    pub(crate) fn enter(&self) -> Vec<OsString> {
        ["nsenter", "-t", &self.first, "-n", "-u", "-m", "-i", "-p"].map(Into::into).to_vec()
    }

    /// A command on this machine.
    fn command(&self, program: impl Into<OsString>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(&self.enter()[1..]).arg(program.into()).stdin(Stdio::null());
        command
    }

    /// A command in this machine's network only, which still sees the processes of this computer.
    fn command_seen_from_here(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.first, "-n"]).arg(program);
        command
    }

    #[track_caller]
    pub(crate) fn done(&self, program: impl Into<OsString>, args: &[&str]) -> Output {
        let mut command = self.command(program);
        let output = command.args(args).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Several machines, a network between them and a tailnet. The hosts are dropped first.
pub(crate) struct Lab {
    pub(crate) hosts: Vec<Host>,
    pub(crate) tailnet: Tailnet,
    lan: Helper,
    _hub: Space,
}

/// A machine with Tailscale.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) space: Space,
    tailscale: PathBuf,
    tailscaled: PathBuf,
    url: String,
    /// Directory outside the machine with the state and log of `tailscaled`, and the key.
    dir: TempDir,
    /// The running `tailscaled`, and its process id on the machine.
    running: Option<(Child, String)>,
}

const NETWORK: &str = "10.99.0";

impl Lab {
    /// Creates machines with these names and starts Tailscale on them. Every second one runs the newest version.
    pub(crate) fn new(tools: &Tools, names: &[&str]) -> Self {
        let hub = Space::new("hub");
        let mut command = hub.command_seen_from_here(&tools.tailnet);
        command.arg("-lan");
        let mut lan = Helper::start(command);
        plug_in(&mut lan, &hub, "hub", 1);
        let mut command = hub.command_seen_from_here(&tools.tailnet);
        command.arg("-address").arg(format!("{NETWORK}.1"));
        let tailnet = Tailnet::start(command);
        let host = |(number, name): (usize, &&str)| {
            let space = Space::new(name);
            plug_in(&mut lan, &space, name, number + 2);
            let dir = tempfile::Builder::new().prefix("thrum-host-").tempdir().unwrap();
            std::fs::write(dir.path().join("key"), AUTH_KEY).unwrap();
            let newer = tools.newer();
            let Tools { tailscale, tailscaled, .. } = if number % 2 == 0 { tools } else { &newer };
            let (tailscale, tailscaled) = (tailscale.clone(), tailscaled.clone());
            let mut host = Host {
                name: (*name).to_owned(),
                space,
                tailscale,
                tailscaled,
                url: tailnet.url().to_owned(),
                dir,
                running: None,
            };
            host.start_tailscaled();
            host.up();
            host
        };
        let hosts = names.iter().enumerate().map(host).collect();
        Self { hosts, tailnet, lan, _hub: hub }
    }

    /// Adds a machine without Tailscale to the local network.
    pub(crate) fn bare(&mut self, name: &str) -> Space {
        let space = Space::new(name);
        plug_in(&mut self.lan, &space, name, self.hosts.len() + 2);
        space
    }

    /// Sends a command to the simulated local network (see tests/tailnet/lan.go).
    #[track_caller]
    pub(crate) fn line(&mut self, command: &str) {
        self.lan.ask(command);
    }
}

fn plug_in(lan: &mut Helper, space: &Space, name: &str, number: usize) {
    lan.ask(&format!("attach {name} {}", space.first));
    space.done("ip", &["address", "add", &format!("{NETWORK}.{number}/24"), "dev", "eth0"]);
    space.done("ip", &["link", "set", "eth0", "up"]);
    if number > 1 {
        // The default route leads nowhere. Without one, Tailscale considers the machine offline.
        space.done("ip", &["route", "add", "default", "via", &format!("{NETWORK}.1")]);
    }
}

impl Host {
    /// Starts `tailscaled` with the socket at its usual path, and waits until it answers.
    pub(crate) fn start_tailscaled(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut child = self
            .space
            .command("sh")
            .args(["-c", r#"echo $$; exec "$0" --statedir "$1" --port 41641 --no-logs-no-support >&2"#])
            .arg(&self.tailscaled)
            .arg(self.dir.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        self.running = Some((child, pid.trim().to_owned()));
        until("tailscaled answers", ANSWER, || {
            let tried = self.tailscale(&["status", "--json"]);
            if tried.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&tried.stderr).into_owned()) }
        });
    }

    /// Kills `tailscaled` without warning, like a crash.
    pub(crate) fn kill_tailscaled(&mut self) {
        let (mut child, pid) = self.running.take().unwrap();
        self.space.done("kill", &["-9", &pid]);
        child.wait().unwrap();
    }

    /// Registers the machine, or reconnects it.
    pub(crate) fn up(&self) {
        let key = format!("file:{}", self.dir.path().join("key").display());
        let options = [
            "--auth-key",
            &key,
            "--hostname",
            &self.name,
            "--accept-dns=false",
            "--netfilter-mode=off",
            "--timeout=30s",
        ];
        let done = self.tailscale(&[&["up", "--login-server", &self.url][..], &options[..]].concat());
        assert!(done.status.success(), "tailscale up: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// Command prefix that runs `tailscale` on the machine.
    pub(crate) fn tailscale_command(&self) -> Vec<OsString> {
        [self.space.enter(), vec![self.tailscale.clone().into()]].concat()
    }

    /// Runs `tailscale` on the machine.
    pub(crate) fn tailscale(&self, args: &[&str]) -> Output {
        self.space.command(&self.tailscale).args(args).output().unwrap()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}", tail(&format!("tailscaled on {}", self.name), &self.dir.path().join("log")));
        }
        if let Some((mut child, _)) = self.running.take() {
            let _ = self.space.child.kill();
            let _ = child.wait();
        }
    }
}
