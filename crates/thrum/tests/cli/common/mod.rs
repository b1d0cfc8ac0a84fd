//! Repositories for tests. Each command runs in a clean environment (own HOME and time zone, no system-wide git
//! settings, no THRUM_ variables), and no daemon outlives its test.

pub(crate) mod docs;
pub(crate) mod go;
pub(crate) mod go_branch;
pub(crate) mod plain;
mod terminal;

use std::{
    ffi::OsString,
    fs::{self, TryLockError},
    io::{self, BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
};

use serde_json::{Value, json};
use tempfile::TempDir;
pub(crate) use terminal::OnTerminal;

/// The agent programs that `thrum setup` knows.
pub(crate) const AGENT_PROGRAMS: [&str; 10] =
    ["claude", "codex", "copilot", "qwen", "gemini", "cursor", "droid", "opencode", "kimi", "antigravity"];

/// A temporary directory with a repository, whose daemons are killed on drop.
pub(crate) struct TestRepo {
    _dir: TempDir,
    home: PathBuf,
    root: PathBuf,
    /// Command prefix that runs a command on the repository's machine. Empty for the local machine.
    machine: Vec<OsString>,
    /// Variables that are set in the environment of every command.
    variables: Vec<(&'static str, OsString)>,
}

/// The exit code and output of a command that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestRepo {
    /// Creates a git repository in a directory called `name`, without `.thrum`.
    pub(crate) fn git(name: &str) -> Self {
        let repo = Self::plain(name);
        repo.git_done(&["init", "-q", "-b", "main"]);
        repo
    }

    /// Creates a plain directory called `name`, without git.
    pub(crate) fn plain(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("thrum-test-").tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        let (home, root) = (top.join("home"), top.join(name));
        fs::create_dir_all(home.join("run")).unwrap();
        fs::create_dir(&root).unwrap();
        Self { _dir: dir, home, root, machine: Vec::new(), variables: Vec::new() }
    }

    /// Places the repository on another machine: the program runs as an argument of the command `machine`.
    #[allow(dead_code, reason = "the tests on a tailnet have several machines")]
    pub(crate) fn on(mut self, machine: Vec<OsString>) -> Self {
        self.machine = machine;
        self
    }

    /// Sets a variable in the environment of every later command.
    pub(crate) fn with_variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.set_variable(name, value);
        self
    }

    /// Sets a variable in the environment of every command from now on.
    pub(crate) fn set_variable(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.into()));
    }

    /// Creates a git repository with a registered agent and a running daemon.
    pub(crate) fn with_agent(name: &str, agent: &str) -> Self {
        let repo = Self::git(name);
        repo.agent(agent, "implementer");
        repo
    }

    /// Like [`with_agent`](Self::with_agent), with a peer port that no other test uses.
    pub(crate) fn with_agent_and_port(name: &str, agent: &str) -> Self {
        let port = free_port();
        let repo = Self::git(name);
        repo.thrum(&["init", "--no-start"]).ok();
        let var = repo.path(".thrum/var");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&var).unwrap();
        fs::write(var.join("peers.json"), json!({"local": {"port": port}}).to_string()).unwrap();
        fs::set_permissions(var.join("peers.json"), fs::Permissions::from_mode(0o600)).unwrap();
        repo.agent(agent, "implementer");
        repo
    }

    /// Creates a git repository with the agents `bob` and `ann`. Only `bob` belongs to this worktree: `ann` has no
    /// identity file here, and writes to `bob`.
    pub(crate) fn with_reader_and_writer() -> Self {
        let repo = Self::with_agent("repo", "bob");
        repo.agent("ann", "implementer");
        fs::remove_file(repo.path(".thrum/identities/ann.json")).unwrap();
        repo
    }

    /// Sends a message of `ann` to `bob`, and returns its id.
    pub(crate) fn write_to_bob(&self, text: &str) -> String {
        message_id(&self.json(&["send", text, "--to", "@bob", "--as", "ann"]))
    }

    /// Returns the number of unread messages of an agent.
    pub(crate) fn unread(&self, agent: &str) -> u64 {
        self.json(&["inbox", "--unread", "--as", agent])["total"].as_u64().unwrap()
    }

    /// Returns the bodies of an agent's messages, sorted.
    pub(crate) fn inbox_contents(&self, agent: &str) -> Vec<String> {
        let listing = self.json(&["inbox", "--as", agent, "--limit", "100"]);
        let mut contents: Vec<_> = contents(&listing).into_iter().map(str::to_owned).collect();
        contents.sort_unstable();
        contents
    }

    /// Returns the largest amount of memory that the daemon has used so far, in kB; `None` if no daemon runs.
    pub(crate) fn daemon_peak_kb(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon_pid()?)).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?.parse().ok()
    }

    /// Registers an agent with a role. Each agent gets its own module, `m-NAME`.
    pub(crate) fn agent(&self, name: &str, role: &str) {
        self.thrum(&["quickstart", "--name", name, "--role", role, "--module", &format!("m-{name}")]).ok();
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The temporary directory that contains the repository. It is deleted with the repository.
    pub(crate) fn above(&self) -> &Path {
        self.root.parent().unwrap()
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    /// Runs git in the repository and asserts that it succeeds.
    pub(crate) fn git_done(&self, args: &[&str]) {
        let ran: Ran = self.in_surroundings(&mut Command::new("git")).args(args).output().unwrap().into();
        ran.ok();
    }

    /// Runs git in the repository, asserts that it succeeds and returns its standard output.
    pub(crate) fn git_says(&self, args: &[&str]) -> String {
        let ran: Ran = self.in_surroundings(&mut Command::new("git")).args(args).output().unwrap().into();
        ran.ok().stdout
    }

    /// A command that runs the program here, for the test to modify before it starts.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.there(env!("CARGO_BIN_EXE_thrum"));
        self.in_surroundings(&mut command).args(args);
        command
    }

    /// A command for `program` on the repository's machine and, if that is another one, in the repository's directory.
    pub(crate) fn there(&self, program: &str) -> Command {
        let Some((through, args)) = self.machine.split_first() else { return Command::new(program) };
        let mut command = Command::new(through);
        command.args(args).arg("env").arg("-C").arg(&self.root).arg(program);
        command
    }

    /// Sets a command's environment and working directory to those of the repository, and its standard input to empty.
    pub(crate) fn in_surroundings<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        self.environment(command).current_dir(&self.root).stdin(Stdio::null())
    }

    /// Runs the program and waits for it to exit.
    pub(crate) fn thrum(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs the program with `input` on its standard input.
    pub(crate) fn thrum_with_input(&self, input: &[u8], args: &[&str]) -> Ran {
        let mut child =
            self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Writing fails if the program exited with an error before it read its input.
        let _ = stdin.write_all(input);
        drop(stdin);
        child.wait_with_output().unwrap().into()
    }

    /// Runs the program with `--json`, asserts that it succeeds and returns the value it printed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        self.thrum(&[args, &["--json"]].concat()).ok().json()
    }

    /// Starts the program without waiting for it to exit.
    pub(crate) fn begin(&self, args: &[&str]) -> Begun {
        let mut child = self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Begun { child: Some(child), stdout }
    }

    /// Runs the program on a terminal of this many columns. Returns its exit code and everything it sent to the screen.
    pub(crate) fn on_terminal(&self, columns: u16, args: &[&str]) -> (i32, String) {
        OnTerminal::start(self.command(args), columns).end()
    }

    /// Starts the program on a terminal, where it may prompt.
    pub(crate) fn asks(&self, args: &[&str]) -> OnTerminal {
        OnTerminal::start(self.command(args), 100)
    }

    /// Connects to the daemon's socket.
    pub(crate) fn connect(&self) -> Rpc {
        self.try_connect().unwrap()
    }

    /// Like [`connect`](Self::connect), for a daemon that may have ended.
    pub(crate) fn try_connect(&self) -> io::Result<Rpc> {
        let stream = UnixStream::connect(self.path(".thrum/var/thrum.sock"))?;
        Ok(Rpc { stream: BufReader::new(stream) })
    }

    /// The process id in the daemon's pid file, if there is one.
    pub(crate) fn daemon_pid(&self) -> Option<u32> {
        pid_in(&self.path(".thrum/var/thrum.pid"))
    }

    /// Kills the daemon with SIGKILL.
    pub(crate) fn kill_daemon(&self) {
        self.kill_daemon_in(&self.path(".thrum/var"));
    }

    /// Kills the daemon only if its lock is held. The lock proves that the pid file is current: the system soon reuses
    /// process ids.
    fn kill_daemon_in(&self, var: &Path) {
        let Ok(lock) = fs::File::open(var.join("thrum.lock")) else { return };
        if let (Err(TryLockError::WouldBlock), Some(pid)) = (lock.try_lock_shared(), pid_in(&var.join("thrum.pid"))) {
            let _ = self.there("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
            // The process has ended once the system has released its lock.
            let _ = lock.lock_shared();
        }
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("XDG_DATA_HOME", self.home.join("data"))
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .env("TZ", "UTC")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", "Test")
            .env("GIT_AUTHOR_EMAIL", "test@localhost")
            .env("GIT_COMMITTER_NAME", "Test")
            .env("GIT_COMMITTER_EMAIL", "test@localhost")
            .env("THRUM_TS_HOSTNAME", self.root.file_name().unwrap())
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
    }
}

impl Drop for TestRepo {
    /// Kills the daemon of this repository, and those of repositories below and beside it.
    fn drop(&mut self) {
        let mut dirs = vec![(self.above().to_owned(), 0)];
        while let Some((dir, depth)) = dirs.pop() {
            self.kill_daemon_in(&dir.join(".thrum/var"));
            let below = fs::read_dir(&dir)
                .into_iter()
                .flatten()
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            dirs.extend(below.filter(|_| depth < 3).map(|entry| (entry.path(), depth + 1)));
        }
    }
}

/// Returns a port that no other test uses. If tests shared a port, another test's daemon could take it while this one
/// restarts, and this one would wait until the port is free, as designed.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    // Below the ports that the system assigns by itself; each run of the tests starts at another number.
    let next =
        || u16::try_from(10_000 + (std::process::id() * 37 + TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000).unwrap();
    std::iter::repeat_with(next).find(free).unwrap()
}

fn pid_in(file: &Path) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    serde_json::from_str::<Value>(&text).ok()?["pid"].as_u64()?.try_into().ok()
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("what the program prints is UTF-8");
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Ran {
    /// Asserts that the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that the command ended with `code` and that its standard error contains `words`.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &str) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.says(words)
    }

    /// Asserts that standard error contains `words`.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no '{words}' in: {}", self.stderr);
        self
    }

    /// Asserts that standard error is empty.
    #[track_caller]
    pub(crate) fn says_nothing(self) -> Self {
        assert_eq!(self.stderr, "");
        self
    }

    /// Parses standard output, which must be one line of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "one line: {}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// A program that runs in the background. It is killed on drop.
pub(crate) struct Begun {
    child: Option<Child>,
    stdout: BufReader<ChildStdout>,
}

impl Begun {
    /// Reads the next line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads the next line of standard error.
    pub(crate) fn talk(&mut self) -> String {
        let mut line = String::new();
        let stderr = self.child.as_mut().unwrap().stderr.as_mut().unwrap();
        let mut byte = [0];
        while io::Read::read(stderr, &mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        line
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits for the program to exit. The returned output leaves out what [`line`](Self::line) has already read.
    pub(crate) fn end(mut self) -> Ran {
        let mut stdout = String::new();
        io::Read::read_to_string(&mut self.stdout, &mut stdout).unwrap();
        let output = self.child.take().unwrap().wait_with_output().unwrap();
        Ran { stdout, ..Ran::from(output) }
    }

    /// Closes the read end of the program's standard output, and waits for it to exit.
    pub(crate) fn stops_reading(mut self) -> Ran {
        let child = self.child.take().unwrap();
        drop(self);
        child.wait_with_output().unwrap().into()
    }

    pub(crate) fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A connection to the daemon's socket.
pub(crate) struct Rpc {
    stream: BufReader<UnixStream>,
}

impl Rpc {
    /// Calls a method, asserts that the daemon reports no error and returns the result. `None` if the connection breaks
    /// before the reply.
    pub(crate) fn attempt(&mut self, method: &str, params: &Value) -> Option<Value> {
        let mut answer = self.answer(method, params)?;
        assert!(answer["error"].is_null(), "{method}: {answer}");
        Some(answer["result"].take())
    }

    /// Calls a method and returns the whole reply, result or error. `None` if the connection breaks before it.
    pub(crate) fn answer(&mut self, method: &str, params: &Value) -> Option<Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        writeln!(self.stream.get_mut(), "{request}").ok()?;
        let mut line = String::new();
        if self.stream.read_line(&mut line).ok()? == 0 || !line.ends_with('\n') {
            return None;
        }
        serde_json::from_str(&line).unwrap()
    }

    /// Reads the parameters of the next notification, after `events.watch`.
    pub(crate) fn notification(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["params"].take()
    }

    /// Returns the result of a call that must succeed.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.attempt(method, params).expect("the daemon answers")
    }
}

/// Pairs two repositories with a code, as people do. Repositories without a port of their own share the port range of
/// the local transport.
pub(crate) fn pair(inviting: &TestRepo, joining: &TestRepo) {
    peer_joins(inviting.begin(&["peer", "add", "--via", "local", "--json"]), joining);
}

/// Joins the daemon for which `adding`, a running `peer add --json`, shows a code.
pub(crate) fn peer_joins(mut adding: Begun, joining: &TestRepo) {
    let line = adding.line();
    let Ok(shown) = serde_json::from_str::<Value>(&line) else { panic!("{line}{:?}", adding.end()) };
    let (code, address) = (shown["code"].as_str().unwrap(), shown["address"].as_str().unwrap());
    joining.thrum_with_input(format!("{code}\n").as_bytes(), &["peer", "join", address]).ok();
    adding.end().ok();
}

/// Returns two paired repositories with the agents `ann` and `bob`.
pub(crate) fn paired() -> (TestRepo, TestRepo) {
    let (left, right) = (TestRepo::with_agent_and_port("left", "ann"), TestRepo::with_agent_and_port("right", "bob"));
    pair(&left, &right);
    (left, right)
}

/// Returns the id of the message that a command has sent.
pub(crate) fn message_id(sent: &Value) -> String {
    sent["message_id"].as_str().unwrap().to_owned()
}

/// Returns the bodies of the messages in a listing.
pub(crate) fn contents(listing: &Value) -> Vec<&str> {
    listing["messages"].as_array().unwrap().iter().map(|message| message["body"]["content"].as_str().unwrap()).collect()
}

/// Writes directly to standard error that something cannot be tested here, because the test harness hides the captured
/// output of a test that passes. In CI nothing may be skipped.
pub(crate) fn skip(what: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} cannot be tried, and CI skips nothing: {why}");
    let _ = writeln!(io::stderr(), "skipped: {what}: {why}");
}

/// Returns a pairing code that differs from `code`.
pub(crate) fn wrong(code: &str) -> String {
    format!("{:04}", (code.parse::<u16>().unwrap() + 1) % 10_000)
}

/// Takes the place of the daemon of `repo`: replies to each request with `answer`, and closes the connection where
/// `answer` returns `None`. The thread returns the requests once it has received `requests` of them.
pub(crate) fn instead_of_daemon(
    repo: &TestRepo,
    requests: usize,
    mut answer: impl FnMut(&Value) -> Option<Value> + Send + 'static,
) -> JoinHandle<Vec<Value>> {
    repo.thrum(&["daemon", "stop"]).ok();
    let socket = UnixListener::bind(repo.path(".thrum/var/thrum.sock")).unwrap();
    thread::spawn(move || {
        let mut heard = Vec::new();
        while heard.len() < requests {
            let (stream, _) = socket.accept().unwrap();
            for line in BufReader::new(&stream).lines() {
                let Ok(line) = line else { break };
                let request: Value = serde_json::from_str(&line).unwrap();
                let answered = answer(&request);
                heard.push(request);
                match answered {
                    Some(answer) => writeln!(&stream, "{answer}").unwrap(),
                    None => break,
                }
            }
        }
        heard
    })
}
