//! One repository on a tailnet, with its daemon and an agent.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command, thread};

use serde_json::{Value, json};

use crate::{
    common::{Ran, TestRepo, free_port, peer_joins},
    net::{AUTH_KEY, Tailnet},
    spaces::{Host, Space},
    tools::Tools,
    waiting::{ANSWER, RECOVERY, processes_of, sweep, tail, until},
};

/// A repository whose daemon is on a tailnet. Dropping it ends the daemon and the node that the daemon ran.
pub(crate) struct Machine {
    pub(crate) repo: TestRepo,
    pub(crate) agent: &'static str,
}

impl Machine {
    /// Creates a machine with its own node, on this computer.
    pub(crate) fn own(tools: &Tools, tailnet: &Tailnet, name: &str, agent: &'static str) -> Self {
        Self::set_up(own_repo(name, tools), &own_settings(tailnet, name, Some(AUTH_KEY)), agent)
    }

    /// Like [`own`](Self::own), on a port of the usual range, where `peer join` finds it by its node alone. Only one
    /// test may use such a machine, see [`free_port`].
    pub(crate) fn own_on_usual_port(tools: &Tools, tailnet: &Tailnet, name: &str, agent: &'static str) -> Self {
        let settings = own_settings(tailnet, name, Some(AUTH_KEY));
        let (without, _) = settings.split_once("THRUM_TS_PORT").unwrap();
        Self::set_up(own_repo(name, tools), without, agent)
    }

    /// Creates a machine with its own node, in the namespaces of a machine without Tailscale.
    pub(crate) fn own_in(space: &Space, tools: &Tools, tailnet: &Tailnet, name: &str, agent: &'static str) -> Self {
        Self::set_up(own_repo(name, tools).on(space.enter()), &own_settings(tailnet, name, Some(AUTH_KEY)), agent)
    }

    /// Creates a machine that uses the node of its host. The tailnet switch is its only setting.
    pub(crate) fn host(host: &Host, repository: &str, agent: &'static str) -> Self {
        let machine = Self::set_up(TestRepo::git(repository).on(host.space.enter()), "THRUM_TS_ENABLED=true\n", agent);
        assert_eq!(machine.is("running")["mode"], "host");
        machine
    }

    /// Creates a machine with this `.env`, a running daemon and an agent.
    pub(crate) fn set_up(repo: TestRepo, dotenv: &str, agent: &'static str) -> Self {
        let file = repo.path(".env");
        fs::write(&file, dotenv).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let machine = Self { repo, agent };
        machine.repo.agent(agent, "implementer");
        machine
    }

    /// The directory that contains all files of the machine.
    pub(crate) fn dir(&self) -> PathBuf {
        self.repo.above().to_owned()
    }

    /// The tailnet as `status` shows it.
    pub(crate) fn tailnet(&self) -> Value {
        self.repo.json(&["status"])["health"]["tailnet"].take()
    }

    /// Waits until `status` shows this state of the tailnet, and returns what it shows. The state `running` also
    /// requires an address.
    #[track_caller]
    pub(crate) fn is(&self, state: &str) -> Value {
        until(&format!("{} is {state}", self.agent), RECOVERY, || {
            let now = self.tailnet();
            let there = now["state"] == state && (state != "running" || now["address"].is_string());
            if there { Ok(now) } else { Err(now.to_string()) }
        })
    }

    /// Waits for the address at which a person logs the node in.
    #[track_caller]
    pub(crate) fn login_url(&self) -> String {
        until(&format!("where to log {} in", self.agent), ANSWER, || {
            let now = self.tailnet();
            now["login_url"].as_str().map(str::to_owned).ok_or_else(|| now.to_string())
        })
    }

    /// The address at which peers reach the daemon.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        self.is("running")["address"].as_str().unwrap().to_owned()
    }

    /// Waits until the daemon has an address other than `before`.
    #[track_caller]
    pub(crate) fn is_elsewhere_than(&self, before: &str) {
        until(&format!("{} is not at {before}", self.agent), RECOVERY, || {
            let now = self.tailnet();
            let address = now["address"].as_str().unwrap_or_default();
            if address.is_empty() || address == before { Err(now.to_string()) } else { Ok(()) }
        });
    }

    /// Names of the daemons that `peer join` without an address finds.
    pub(crate) fn who_waits(&self) -> Vec<String> {
        self.is("running");
        let found = self.repo.json(&["peer", "join"]);
        found["daemons"].as_array().unwrap().iter().map(|daemon| daemon["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The port of [`address`](Self::address). A machine with its own node listens on the same port of the loopback
    /// interface.
    #[track_caller]
    pub(crate) fn port(&self) -> u16 {
        self.address().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    /// The peer with this name, as `peer status` shows it.
    pub(crate) fn peer(&self, name: &str) -> Value {
        let peers = self.repo.json(&["peer", "status"]);
        peers.as_array().unwrap().iter().find(|peer| peer["name"] == name).cloned().unwrap_or(Value::Null)
    }

    /// The name by which peers know the daemon.
    pub(crate) fn name(&self) -> String {
        self.repo.json(&["status"])["health"]["tailscale_sync"]["hostname"].as_str().unwrap().to_owned()
    }

    /// Process ids of the `tailscaled` processes that the daemon runs.
    fn nodes(&self) -> Vec<u32> {
        let is_node =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "tailscaled");
        processes_of(&self.repo.path(".thrum/var")).into_iter().filter(is_node).collect()
    }

    /// Number of `tailscaled` processes that the daemon runs.
    pub(crate) fn tailscaleds(&self) -> usize {
        self.nodes().len()
    }

    /// Kills the `tailscaled` that the daemon runs.
    pub(crate) fn kill_tailscaled(&self) {
        let nodes = self.nodes();
        assert_eq!(nodes.len(), 1, "one tailscaled");
        assert!(Command::new("kill").args(["-9", &nodes[0].to_string()]).status().unwrap().success());
    }

    /// Suspends every process of the machine, like a laptop whose lid is closed.
    pub(crate) fn sleep(&self) {
        self.signal("-STOP");
    }

    /// Resumes the processes that [`sleep`](Self::sleep) has suspended.
    pub(crate) fn wake(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let all = processes_of(&self.dir());
        assert!(all.len() > 1, "the daemon and its node");
        for pid in all {
            assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
        }
    }

    pub(crate) fn start(&self) {
        self.repo.thrum(&["daemon", "start"]).ok();
    }

    pub(crate) fn stop(&self) {
        self.repo.thrum(&["daemon", "stop"]).ok();
    }
}

/// Creates a repository whose daemon runs this `tailscaled`, which only an environment variable may name. Hides a
/// Tailscale installed on this computer.
pub(crate) fn own_repo(name: &str, tools: &Tools) -> TestRepo {
    TestRepo::git(name)
        .with_variable("THRUM_TS_TAILSCALED", &tools.tailscaled)
        .with_variable("THRUM_TS_SOCKET", "/nowhere")
}

/// The `.env` of a machine with its own node, as in the documentation.
pub(crate) fn own_settings(tailnet: &Tailnet, name: &str, key: Option<&str>) -> String {
    let key = key.map(|key| format!("THRUM_TS_AUTHKEY={key}\n")).unwrap_or_default();
    format!(
        "THRUM_TS_ENABLED=true\nTHRUM_TS_HOSTNAME={name}\n{key}THRUM_TS_CONTROL_URL={}\nTHRUM_TS_MODE=own\nTHRUM_TS_PORT={}\n",
        tailnet.url(),
        free_port(),
    )
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            println!("{}", tail(&format!("daemon of {}", self.agent), &self.repo.path(".thrum/var/daemon.log")));
            println!(
                "{}",
                tail(&format!("tailscaled of {}", self.agent), &self.repo.path(".thrum/var/tailscaled.log"))
            );
        }
        // Ends the daemon, and a node that a killed daemon left running.
        sweep(&self.dir());
    }
}

/// Pairs two machines with a code, as people do.
#[track_caller]
pub(crate) fn pair(inviting: &Machine, joining: &Machine) {
    inviting.is("running");
    joining.is("running");
    peer_joins(inviting.repo.begin(&["peer", "add", "--via", "tailnet", "--json"]), &joining.repo);
}

/// Runs `peer join` with an address and a code.
pub(crate) fn join(machine: &Machine, address: &str, code: &str) -> Ran {
    machine.repo.thrum_with_input(format!("{code}\n").as_bytes(), &["peer", "join", address])
}

/// Sends messages from several concurrent writers, each of which waits for its acknowledgements. Returns the ids.
pub(crate) fn send(from: &Machine, to: &Machine, what: &str, number: usize) -> Vec<String> {
    const WRITERS: usize = 16;
    let write = |writer: usize| {
        let mut rpc = from.repo.connect();
        let mine = (writer..number).step_by(WRITERS);
        let mut send = |n| {
            let params = json!({"content": format!("{what} {n}"), "mentions": [format!("@{}", to.agent)], "caller_agent_id": from.agent});
            rpc.call("message.send", &params)["message_id"].as_str().unwrap().to_owned()
        };
        mine.map(&mut send).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS.min(number)).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    })
}

/// Waits until all of `ids` are in the mailbox of the machine's agent.
#[track_caller]
pub(crate) fn arrive(at: &Machine, ids: &[String]) {
    let mut rpc = at.repo.connect();
    for id in ids {
        until(&format!("{id} is at {}", at.agent), RECOVERY, || {
            let params = json!({"message_id": id, "caller_agent_id": at.agent, "mark_read": false});
            let got = rpc.answer("message.get", &params).expect("the daemon answers");
            if got["error"].is_null() { Ok(()) } else { Err(got.to_string()) }
        });
    }
}

/// Sends a message each way and waits for both.
#[track_caller]
pub(crate) fn talk(left: &Machine, right: &Machine, what: &str) {
    let (there, back) = (send(left, right, what, 1), send(right, left, what, 1));
    arrive(right, &there);
    arrive(left, &back);
}

/// Ends each daemon in turn with `end` and starts it again: messages sent to it meanwhile arrive, and both sides
/// communicate again.
#[track_caller]
pub(crate) fn is_missed(left: &Machine, right: &Machine, end: impl Fn(&Machine)) {
    for (gone, other) in [(left, right), (right, left)] {
        end(gone);
        let meanwhile = send(other, gone, "while you were out", 10);
        gone.start();
        arrive(gone, &meanwhile);
        talk(left, right, "back again");
    }
}

/// `moved` has a new address: both sides communicate as before, and `by` knows the new address.
#[track_caller]
pub(crate) fn is_followed(by: &Machine, moved: &Machine) {
    let (there, back) = (send(by, moved, "to the new address", 5), send(moved, by, "from the new address", 5));
    arrive(moved, &there);
    arrive(by, &back);
    let (name, address) = (moved.name(), moved.address());
    until("the new address is known", RECOVERY, || {
        let peer = by.peer(&name);
        if peer["address"] == *address { Ok(()) } else { Err(peer.to_string()) }
    });
}

/// Sends messages both ways at the same time. The recipients read them, and the senders get the receipts.
#[track_caller]
pub(crate) fn exchange(left: &Machine, right: &Machine, number: usize) {
    let (there, back) = thread::scope(|scope| {
        let there = scope.spawn(|| send(left, right, "there", number));
        let back = send(right, left, "back", number);
        (there.join().unwrap(), back)
    });
    arrive(right, &there);
    arrive(left, &back);
    for machine in [left, right] {
        machine.repo.thrum(&["message", "read", "--all"]).ok();
    }
    for (machine, other) in [(left, right), (right, left)] {
        until(&format!("{} knows that all is read", machine.agent), ANSWER, || {
            let unread = machine.repo.json(&["sent", "--unread", "--to", &format!("@{}", other.agent)])["total"].take();
            if unread == 0 { Ok(()) } else { Err(format!("{unread} unread")) }
        });
    }
    agree(&[left, right]);
}

/// Waits until each machine holds every event that its peers hold.
#[track_caller]
pub(crate) fn agree(machines: &[&Machine]) {
    for machine in machines {
        until(&format!("{} holds what its peers hold", machine.agent), RECOVERY, || {
            let verified = machine.repo.thrum(&["sync", "verify", "--json"]);
            if verified.code == 0 { Ok(()) } else { Err(format!("{verified:?}")) }
        });
    }
}
