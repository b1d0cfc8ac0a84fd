//! Strangers on the tailnet: they get no data from our daemons, and their attempts are reported.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    common::{Ran, wrong},
    machine::{Machine, join},
    net::{AUTH_KEY, Tailnet},
    spaces::Host,
    tools::Tools,
    waiting::{ANSWER, until},
};

/// A tailnet node without Thrum.
pub(crate) struct Node {
    /// Command prefix that runs `tailscale` for this node.
    tailscale: Vec<std::ffi::OsString>,
    _running: Option<Running>,
}

struct Running {
    child: Child,
    _dir: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// Starts a node in user space on this computer.
    pub(crate) fn on_loopback(tools: &Tools, tailnet: &Tailnet, name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("thrum-node-").tempdir().unwrap();
        let socket = dir.path().join("sock");
        fs::write(dir.path().join("key"), AUTH_KEY).unwrap();
        let child = Command::new(&tools.tailscaled)
            .args(["--tun=userspace-networking", "--port", "0", "--no-logs-no-support", "--statedir"])
            .arg(dir.path())
            .arg("--socket")
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let tailscale = vec![tools.tailscale.clone().into(), "--socket".into(), socket.clone().into()];
        let key = format!("file:{}", dir.path().join("key").display());
        let node = Self { tailscale, _running: Some(Running { child, _dir: dir }) };
        until("the node answers", ANSWER, || socket.exists().then_some(()).ok_or_else(String::new));
        let options = ["--auth-key", &key, "--hostname", name, "--accept-dns=false", "--timeout=30s"];
        let up = node.command(&[&["up", "--login-server", tailnet.url()][..], &options].concat()).output().unwrap();
        assert!(up.status.success(), "{up:?}");
        node
    }

    /// The node of a machine that runs its own `tailscaled`.
    pub(crate) fn own(tools: &Tools, of: &Machine) -> Self {
        let socket = of.repo.path(".thrum/var/tsnet/sock");
        Self { tailscale: vec![tools.tailscale.clone().into(), "--socket".into(), socket.into()], _running: None }
    }

    /// The node of a host with Tailscale.
    pub(crate) fn of(host: &Host) -> Self {
        Self { tailscale: host.tailscale_command(), _running: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.tailscale[0]);
        command.args(&self.tailscale[1..]).args(args).stdin(Stdio::null());
        command
    }

    /// Sends a line to a tailnet address, and returns the first line of the reply, empty if the connection just ends.
    fn say(&self, address: &str, line: &str) -> String {
        let (ip, port) = address.rsplit_once(':').unwrap();
        let mut nc = self.command(&["nc", ip, port]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let _ = nc.stdin.as_mut().unwrap().write_all(line.as_bytes());
        let answer = first_line(nc.stdout.take().unwrap());
        let _ = nc.kill();
        let _ = nc.wait();
        answer
    }
}

/// Reads the first line, empty if the connection ends before it.
pub(crate) fn first_line(from: impl Read) -> String {
    let mut line = String::new();
    let _ = BufReader::new(from).read_line(&mut line);
    line
}

/// A request for all events.
pub(crate) fn pull(token: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": "sync.pull", "params": {"after_sequence": 0, "max_batch": 1000, "token": token}})
        .to_string()
        + "\n"
}

/// The token of a machine's only peer, as a thief of its file would have it.
pub(crate) fn token(machine: &Machine) -> String {
    let file: Value = serde_json::from_slice(&fs::read(machine.repo.path(".thrum/var/peers.json")).unwrap()).unwrap();
    file["peers"][0]["token"].as_str().unwrap().to_owned()
}

/// Asserts that the token with which `right` calls `left` is useless without the key: from the node of a thief, and
/// also from the node of `right` itself.
pub(crate) fn is_refused_with_a_stolen_token(
    thief: &Node,
    called: &str,
    owner: &Node,
    left: &Machine,
    right: &Machine,
) {
    let stolen = pull(&token(left));
    let is_refused = |node: &Node| {
        let answer = node.say(&left.address(), &stolen);
        assert!(answer.contains("prove that you are it") && !answer.contains("events"), "{answer}");
    };
    is_refused(thief);
    // The real peer is served as before, and both sides show the attempt.
    for (machine, name) in [(left, &right.name()), (right, &left.name())] {
        until("the attempt is shown", ANSWER, || {
            let peer = machine.peer(name);
            if peer.to_string().contains(called) { Ok(()) } else { Err(peer.to_string()) }
        });
    }
    // This attempt comes last, because each side reports only one such node a minute.
    is_refused(owner);
}

/// Lets `eve` guess the code of `victim` on the tailnet. Each refusal states how many attempts are left; after three,
/// even the right code is refused, and the victim's command names eve's node. `other` still joins with the right code.
pub(crate) fn tries_codes(eve: &Machine, victim: &Machine, other: impl FnOnce(&str) -> Ran) {
    eve.is("running");
    let mut adding = victim.repo.begin(&["peer", "add", "--via", "tailnet", "--json"]);
    let shown: Value = serde_json::from_str(&adding.line()).unwrap();
    let (code, address) = (shown["code"].as_str().unwrap(), shown["address"].as_str().unwrap());
    assert_eq!(eve.who_waits(), [victim.name()], "it is found without an address");
    for left in ["2 attempts remaining", "1 attempt remaining", "0 attempts remaining"] {
        join(eve, address, &wrong(code)).fails(4, left);
    }
    assert_ne!(join(eve, address, code).code, 0, "the right code comes too late");
    other(code).ok();
    adding.end().ok().says(&eve.name());
    assert_eq!(victim.peer(&eve.name()), Value::Null);
}
