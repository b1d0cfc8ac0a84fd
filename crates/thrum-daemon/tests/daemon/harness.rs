//! Real daemons in a hermetic environment: this test binary runs itself once more for each daemon.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use thrum_daemon::{RunOptions, paths::Repo};

/// Upper bound for every operation here. A hanging daemon costs a test this long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Environment variable: the repository whose daemon this process becomes.
const DAEMON_OF: &str = "DAEMON_OF";

/// Environment variable: the socket that this process calls as another user.
const STRANGER_AT: &str = "STRANGER_AT";

/// Does nothing in a test run. With [`DAEMON_OF`] it is a daemon, and never returns.
#[test]
fn a_process_may_be_a_daemon() {
    let Some(root) = env::var_os(DAEMON_OF) else { return };
    let mut options = RunOptions::new(Repo::discover(Path::new(&root)).unwrap());
    options.moved = env::var_os("MOVED").is_some();
    options.new_identity = env::var_os("NEW_IDENTITY").is_some();
    options.foreground = true;
    std::process::exit(match thrum_daemon::run(options) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("Hint: {}", error.hint.unwrap_or_default());
            error.kind.exit_code().into()
        }
    });
}

/// Environment variables: the socket that this process calls, and the line that it sends.
const CALLER_AT: &str = "CALLER_AT";
const CALLS: &str = "CALLS";

/// Does nothing in a test run. With [`CALLER_AT`] it prints the daemon's answer.
#[test]
fn a_process_may_be_a_caller() {
    let Some(path) = env::var_os(CALLER_AT) else { return };
    let mut stream = UnixStream::connect(path).unwrap();
    writeln!(stream, "{}", env::var(CALLS).unwrap()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    eprintln!("{answer}");
    std::process::exit(0);
}

/// Returns a daemon's answer to a process that runs in `dir` with these variables.
pub fn call_from(
    repo: &Repo,
    dir: &Path,
    variables: &[(&str, &str)],
    method: &str,
    params: &Value,
) -> Result<Value, Value> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let mut command = itself("harness::a_process_may_be_a_caller", CALLER_AT, &repo.socket());
    command.current_dir(dir).envs(variables.iter().copied()).env(CALLS, request.to_string());
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stderr).unwrap();
    if answer["error"].is_null() { Ok(answer["result"].clone()) } else { Err(answer["error"].clone()) }
}

/// Does nothing in a test run. With [`STRANGER_AT`] it prints the daemon's answer to `health`.
#[test]
fn a_process_may_be_a_stranger() {
    let Some(path) = env::var_os(STRANGER_AT) else { return };
    let mut stream = UnixStream::connect(path).unwrap();
    let _ = stream.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"health\",\"id\":1}\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    eprintln!("{answer}");
    std::process::exit(0);
}

fn itself(test: &str, variable: &str, value: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env_clear()
        .env(variable, value)
        .env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A directory for repositories.
pub struct World {
    _guard: tempfile::TempDir,
    pub dir: PathBuf,
}

impl World {
    pub fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let dir = fs::canonicalize(guard.path()).unwrap();
        Self { _guard: guard, dir }
    }

    pub fn repo(&self, name: &str) -> Repo {
        let root = self.dir.join(name);
        fs::create_dir_all(&root).unwrap();
        Repo::create(&root, None).unwrap()
    }
}

/// Gives the daemon of `repo` a port for peers that no other test uses. Otherwise another test's daemon could take the
/// port of a daemon that is down for a moment. That daemon would then wait for its port, as it should.
pub fn keep_port(repo: &Repo) {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    // Below the range that the system assigns by itself, and different in each run of the tests.
    let next =
        || u16::try_from(10_000 + (std::process::id() * 37 + TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000).unwrap();
    let port = std::iter::repeat_with(next).find(free).unwrap();
    fs::write(repo.peers_file(), json!({"local": {"port": port}}).to_string()).unwrap();
    fs::set_permissions(repo.peers_file(), fs::Permissions::from_mode(0o600)).unwrap();
}

/// Options for starting a daemon.
pub struct Start {
    command: Command,
    repo: Repo,
}

impl Start {
    pub fn of(repo: &Repo) -> Self {
        Self { command: itself("harness::a_process_may_be_a_daemon", DAEMON_OF, repo.root()), repo: repo.clone() }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts the daemon with the umask that its user may have set.
    pub fn umask(mut self, mask: u32) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(format!("umask {mask:03o} && exec \"$0\" \"$@\""))
            .arg(self.command.get_program())
            .args(self.command.get_args());
        shell.env_clear().envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        self.command = shell;
        self
    }

    pub fn run_by(mut self, uid: u32) -> Self {
        self.command.uid(uid).gid(uid);
        self
    }

    /// Starts the daemon and waits until it reports that it runs.
    pub fn run(mut self) -> Daemon {
        let mut child = self.command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(" started: ") {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "the daemon did not start: {said}");
        }
        Daemon { child, log, repo: self.repo }
    }

    /// Starts the daemon, which must refuse to run. Returns its exit code and its output.
    pub fn refused(mut self) -> (i32, String) {
        let child = self.command.spawn().unwrap();
        let pid = Pid::from_child(&child);
        let (ended, hears) = channel::<()>();
        // A daemon that starts after all would never end by itself.
        let watch = thread::spawn(move || {
            if hears.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                let _ = kill_process(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output().unwrap();
        drop(ended);
        watch.join().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap_or_else(|| panic!("it did not refuse: {said}")), said)
    }
}

/// A running daemon, killed when dropped.
pub struct Daemon {
    child: Child,
    log: BufReader<ChildStderr>,
    pub repo: Repo,
}

impl Daemon {
    pub fn start(repo: &Repo) -> Self {
        Start::of(repo).run()
    }

    /// Starts the daemon of a new repository with the agents `alice` and `bob`.
    pub fn with_two_agents(world: &World) -> Self {
        let daemon = Self::start(&world.repo("r"));
        daemon.agent("alice", "planner");
        daemon.agent("bob", "builder");
        daemon
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.repo)
    }

    /// Makes one call on its own connection.
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.client().ok(method, params)
    }

    /// Registers an agent that lives here.
    pub fn agent(&self, name: &str, role: &str) {
        self.call("agent.register", json!({"name": name, "role": role, "module": name}));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops the daemon and waits for its end.
    pub fn stop(self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().0, Some(0));
    }

    /// Waits for the daemon's end. Returns the exit code, `None` if it was killed, and the rest of its log.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a daemon.
pub struct Client {
    stream: BufReader<UnixStream>,
    id: u64,
}

impl Client {
    pub fn connect(repo: &Repo) -> Self {
        let stream = UnixStream::connect(repo.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream: BufReader::new(stream), id: 0 }
    }

    pub fn send_line(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    pub fn request(&mut self, method: &str, params: Value) {
        self.id += 1;
        self.send_line(&json!({"jsonrpc": "2.0", "method": method, "params": params, "id": self.id}).to_string());
    }

    /// Reads the next line; null at the end of the stream.
    pub fn line(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        if line.is_empty() { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }

    /// Makes a call; returns the result or the error.
    pub fn call(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.request(method, params);
        self.answer()
    }

    /// Reads the answer to the last request; returns the result or the error.
    pub fn answer(&mut self) -> Result<Value, Value> {
        let mut answer = self.line();
        assert_eq!(answer["id"], self.id, "{answer}");
        if answer.get("error").is_some() { Err(answer["error"].take()) } else { Ok(answer["result"].take()) }
    }

    /// Makes a call; returns the result if the daemon lives long enough to give one.
    pub fn attempt(&mut self, method: &str, params: Value) -> Option<Value> {
        let request = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 0}).to_string();
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).ok()?;
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        serde_json::from_str::<Value>(&line).ok()?.get("result").cloned()
    }

    /// Sends a request to wait for an agent's mail, without reading the answer. Returns `true` if the request could be
    /// sent.
    pub fn attempt_to_wait(&mut self, agent: &str) -> bool {
        let params = json!({"caller_agent_id": agent, "timeout_ms": 600_000});
        let request = json!({"jsonrpc": "2.0", "method": "message.wait", "params": params, "id": 0}).to_string();
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes()).is_ok()
    }

    pub fn ok(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    pub fn error(&mut self, method: &str, params: Value) -> Value {
        self.call(method, params).expect_err(method)
    }
}

/// Returns a daemon's answer to a process of another user.
pub fn stranger(socket: &Path, uid: u32) -> String {
    let mut command = itself("harness::a_process_may_be_a_stranger", STRANGER_AT, socket);
    let output = command.uid(uid).gid(uid).spawn().unwrap().wait_with_output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
