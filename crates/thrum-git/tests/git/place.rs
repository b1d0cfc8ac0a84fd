//! A git remote, clones of a project, and a daemon in each: a store and its exchange with the remote.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use tempfile::TempDir;
use thrum_core::{
    Ambient, DaemonKey, Error, Event, Heads, SetDigest, Timestamp,
    compare::{Listing, LogOf, Numbers, Wanted},
    event::{Candidate, admit},
    exchange::{Applied, Batch, Checkpoint, Holder, LongEvents, Page, Prerequisites, Row, Troubles},
    limits,
    quota::{Amounts, OverQuota},
};
use thrum_git::{Exchange, Exposure, GitError, Me, Remote, Report, Repository, Stop, Trust};
use thrum_store::{
    OpenOptions, Store, StoreError, Tx,
    ops::{Register, Send},
};
use thrum_sync::Log;

/// A clock that the test advances, and random numbers that repeat in every run. Clones share the clock.
#[derive(Clone)]
pub struct World {
    pub nanos: Arc<AtomicI64>,
    pub seed: u64,
}

impl Ambient for World {
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = self.seed.to_be_bytes()[0];
        }
    }
}

/// The log of a daemon, with the methods that an exchange needs.
pub struct StoreLog {
    store: Mutex<Store>,
    pub quota: Mutex<Amounts>,
    /// Whether work that a batch causes, such as a purge, is left for later.
    is_slow: AtomicBool,
}

impl StoreLog {
    fn read<T>(&self, question: impl FnOnce(&Store) -> Result<T, StoreError>) -> Result<T, Error> {
        question(&self.store.lock().unwrap()).map_err(Error::from)
    }

    /// Stores events as if a peer had brought them.
    pub fn apply_from(&self, peer: &str, events: &[Event]) {
        let batch = Batch {
            peer: peer.into(),
            log: String::new(),
            checkpoint: 0,
            checkpoint_event: String::new(),
            events: events.to_vec(),
            rejected: Vec::new(),
        };
        self.apply(batch).unwrap();
    }

    pub fn write<T>(&self, job: impl FnOnce(&mut Tx<'_>) -> Result<T, StoreError>) -> T {
        self.store.lock().unwrap().write(job).unwrap()
    }
}

impl Log for StoreLog {
    fn heads(&self) -> Result<Heads, Error> {
        self.read(Store::heads)
    }
    fn numbers(&self, of: &LogOf, after: u64, most: usize) -> Result<Numbers, Error> {
        self.read(|store| store.reader().numbers(of, after, most))
    }
    fn listing(&self, of: &LogOf, after: &str, upto: &str, most: usize) -> Result<Listing, Error> {
        self.read(|store| store.reader().listing(of, after, upto, most))
    }
    fn requested(&self, of: &LogOf, wanted: &Wanted) -> Result<Page, Error> {
        self.read(|store| store.reader().requested(of, wanted, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES))
    }
    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Error> {
        self.read(|store| events.iter().map(|event| store.reader().holds(&event.id, &event.body)).collect())
    }
    fn apply(&self, batch: Batch) -> Result<Applied, Error> {
        let mut store = self.store.lock().unwrap();
        if self.is_slow.load(Ordering::Relaxed) {
            return Ok(store.transact(|tx| tx.apply(&batch))?);
        }
        Ok(store.apply(batch)?)
    }
    fn over_quota(&self, peers: &[&str]) -> Result<Option<OverQuota>, Error> {
        let kept = self.read(|store| store.reader().usage(peers))?;
        Ok(kept.beyond(&self.quota.lock().unwrap()))
    }
    fn purge_goes_on(&self) -> Result<bool, Error> {
        self.read(|store| store.reader().purge_goes_on())
    }

    // For peers.
    fn id(&self) -> Arc<str> {
        unreachable!()
    }
    fn latest(&self) -> u64 {
        unreachable!()
    }
    fn page(&self, _: u64, _: usize, _: usize) -> Result<Page, Error> {
        unreachable!()
    }
    fn page_for(&self, _: Holder<'_>, _: u64, _: usize, _: usize) -> Result<Page, Error> {
        unreachable!()
    }
    fn long_events(&self, _: usize, _: fn(&str) -> bool) -> Result<LongEvents, Error> {
        unreachable!()
    }
    fn prerequisites(&self, _: &[Row], _: &dyn Fn(&Row) -> bool) -> Result<Vec<Prerequisites>, Error> {
        unreachable!()
    }
    fn counted(&self) -> Result<Heads, Error> {
        unreachable!()
    }
    fn recount(&self) -> Result<bool, Error> {
        unreachable!()
    }
    fn stretch(&self, _: &LogOf, _: &str, _: &str) -> Result<(u64, SetDigest), Error> {
        unreachable!()
    }
    fn projection(&self) -> Result<SetDigest, Error> {
        unreachable!()
    }
    fn purge_waits(&self) -> Result<bool, Error> {
        unreachable!()
    }
    fn checkpoint(&self, _: &str) -> Result<Option<Checkpoint>, Error> {
        unreachable!()
    }
    fn holds_references(&self, _: &[(&str, &str)]) -> Result<bool, Error> {
        unreachable!()
    }
    fn acknowledged(&self, _: &str, _: u64, _: Timestamp) {
        unreachable!()
    }
    fn forget(&self, _: &str) -> Result<(), Error> {
        unreachable!()
    }
    fn backlog(&self, _: &str, _: u64) -> Result<u64, Error> {
        unreachable!()
    }
    fn troubles(&self, _: &str) -> Result<Troubles, Error> {
        unreachable!()
    }
}

/// Runs `git` in a directory, for which it must succeed. Returns what it prints.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.com", "-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A bare remote with one commit, and directories for clones.
pub struct Place {
    pub dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self::of_kind(&[])
    }

    /// Creates the remote with further options of `git init`.
    pub fn of_kind(options: &[&str]) -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let init = [&["init", "--quiet"], options].concat();
        git(dir.path(), &[&init[..], &["--bare", "remote.git"]].concat());
        git(dir.path(), &[&init[..], &["first"]].concat());
        let place = Self { dir };
        let first = place.path("first");
        git(&first, &["remote", "add", "origin", &place.remote().to_string_lossy()]);
        std::fs::write(first.join("README"), "a project\n").unwrap();
        git(&first, &["add", "README"]);
        git(&first, &["commit", "--quiet", "-m", "begin"]);
        git(&first, &["push", "--quiet", "origin", "HEAD:main"]);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn remote(&self) -> PathBuf {
        self.path("remote.git")
    }

    /// Clones the project, and starts a daemon with one agent there, named after the clone.
    pub fn daemon(&self, name: &str) -> Daemon {
        git(self.dir.path(), &["clone", "--quiet", "remote.git", name]);
        Daemon::start(&self.path(name), name)
    }

    /// The refs of all daemons on the remote.
    pub fn refs(&self) -> Vec<String> {
        let listed = git(&self.remote(), &["for-each-ref", "--format=%(refname)", "refs/thrum"]);
        listed.lines().map(str::to_owned).collect()
    }

    /// All bytes of the blobs that a daemon's ref leads to.
    pub fn reachable(&self, id: &str) -> Vec<u8> {
        let objects = git(&self.remote(), &["rev-list", "--objects", &format!("refs/thrum/{id}")]);
        let mut bytes = Vec::new();
        for line in objects.lines() {
            let id = line.split(' ').next().unwrap();
            if git(&self.remote(), &["cat-file", "-t", id]) == "blob" {
                let blob =
                    Command::new("git").args(["cat-file", "blob", id]).current_dir(self.remote()).output().unwrap();
                bytes.extend(zstd::stream::decode_all(&blob.stdout[..]).unwrap_or(blob.stdout));
            }
        }
        bytes
    }
}

/// Two daemons that trust each other.
pub fn pair(place: &Place) -> (Daemon, Daemon) {
    let (mut ann, mut ben) = (place.daemon("ann"), place.daemon("ben"));
    ann.trust(&ben);
    ben.trust(&ann);
    (ann, ben)
}

/// Lets daemons exchange until nothing is published any more.
pub fn settle(daemons: &mut [&mut Daemon]) {
    for _ in 0..10 {
        let published = daemons.iter_mut().map(|daemon| daemon.run().published).filter(Option::is_some).count();
        if published == 0 {
            return;
        }
    }
    panic!("they publish without end");
}

/// All files below a directory, with their contents.
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
    }
    found.sort();
    found
}

/// Writes a shell script with these lines, which can be run.
pub fn script(path: &Path, lines: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{lines}\n")).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

/// Says on standard error that something cannot be tried here: the test harness hides the captured output of a test
/// that passes. In CI nothing may be skipped.
pub fn skip(what: &str, why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} cannot be tried, and CI skips nothing: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

/// Runs a test of this program again, at the end of a command. Returns its output and its exit code, 0 if the test was
/// run and passed.
pub fn run_again(test: &str, command: &mut Command) -> (String, Option<i32>) {
    let output = command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() || said.contains("1 passed"), "no test {test}: {said}");
    (said, output.status.code())
}

/// A daemon in a clone.
pub struct Daemon {
    pub name: String,
    pub id: String,
    pub top: PathBuf,
    pub key: DaemonKey,
    pub log: Arc<StoreLog>,
    pub exchange: Exchange,
    pub trust: Trust,
    nanos: Arc<AtomicI64>,
}

impl Daemon {
    /// Starts a daemon in a new clone with a key that exists already, and an empty database.
    pub fn with_key(place: &Place, name: &str, key: DaemonKey) -> Self {
        git(place.dir.path(), &["clone", "--quiet", "remote.git", name]);
        Self::of(&place.path(name), name, Some(key))
    }

    /// Starts a daemon in a copy of another one's directory, with its key and its database.
    pub fn copy_of(other: &Self, top: &Path) -> Self {
        let copied = Command::new("cp").arg("-a").arg(&other.top).arg(top).status().unwrap();
        assert!(copied.success());
        Self { trust: other.trust.clone(), ..Self::of(top, &other.name, Some(other.key.clone())) }
    }

    pub fn start(top: &Path, name: &str) -> Self {
        Self::of(top, name, None)
    }

    fn of(top: &Path, name: &str, key: Option<DaemonKey>) -> Self {
        let seed = name.bytes().fold(7, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let nanos = Arc::new(AtomicI64::new(1_774_717_513_000_000_000));
        let mut world = World { nanos: Arc::clone(&nanos), seed };
        let key = key.unwrap_or_else(|| DaemonKey::generate(&mut world));
        let var = top.join(".thrum/var");
        std::fs::create_dir_all(&var).unwrap();
        let store =
            Store::open(&var.join("messages.db"), OpenOptions::new(key.clone(), None), Box::new(world)).unwrap();
        let unlimited = Amounts { bytes: u64::MAX, agents: u64::MAX, origins: u64::MAX, parked: u64::MAX };
        let log = Arc::new(StoreLog {
            store: Mutex::new(store),
            quota: Mutex::new(unlimited),
            is_slow: AtomicBool::default(),
        });
        let agent = Register { name: name.into(), role: "coder".into(), module: name.into(), ..Register::default() };
        log.write(|tx| tx.register(agent));
        let exchange = exchange(top, name, &key, &log, &nanos);
        Self {
            name: name.into(),
            id: key.id().to_string(),
            top: top.into(),
            key,
            log,
            exchange,
            trust: Trust::default(),
            nanos,
        }
    }

    /// Changes settings of the clone, and begins to exchange anew.
    pub fn set(&mut self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            git(&self.top, &["config", "--replace-all", name, value]);
        }
        self.restart();
    }

    /// Our repository beside the clone.
    pub fn repository(&self) -> PathBuf {
        self.top.join(".thrum/var/git")
    }

    /// Makes an exchange that must fail. Returns its error.
    #[track_caller]
    pub fn fails(&mut self) -> String {
        self.try_run().unwrap_err().to_string()
    }

    /// Returns who can read the remote `origin`.
    pub fn exposure(&self) -> Exposure {
        let addresses = thrum_git::addresses(&self.top, "origin", &Stop::default()).unwrap();
        thrum_git::exposure(&self.repository(), &self.top, &addresses, &Stop::default()).unwrap()
    }

    /// Begins to exchange anew, as after a restart.
    pub fn restart(&mut self) {
        self.exchange = exchange(&self.top, &self.name, &self.key, &self.log, &self.nanos);
    }

    pub fn world(&self) -> World {
        World { nanos: Arc::clone(&self.nanos), seed: 5 }
    }

    pub fn me(&self) -> Me {
        me(&self.name, &self.key)
    }

    pub fn trust(&mut self, other: &Self) {
        self.trust.trusted.insert(other.id.clone(), other.name.clone());
    }

    pub fn run(&mut self) -> Report {
        self.try_run().unwrap()
    }

    /// Begins to exchange anew, with a bound on what a fetch may bring.
    pub fn restart_with(&mut self, most_per_fetch: u64) {
        let repository = repository(&self.top).with_most_per_fetch(most_per_fetch);
        let log = Arc::clone(&self.log) as Arc<dyn Log>;
        self.exchange = Exchange::new(Box::new(repository), log, self.me(), Box::new(self.world()));
    }

    pub fn try_run(&mut self) -> Result<Report, GitError> {
        self.exchange.run(&self.trust)
    }

    /// Sends a message to everyone. Returns its id.
    pub fn say(&self, content: &str) -> String {
        let message = Send { from: self.name.clone(), content: content.into(), ..Send::default() };
        self.log.write(|tx| tx.send(message)).message_id
    }

    /// Claims a file, by an event that a purge keeps.
    pub fn claim(&self, path: &str, seconds: u64) {
        self.log.write(|tx| tx.claim(&self.name, &[path.into()], std::time::Duration::from_secs(seconds)));
    }

    pub fn has_message(&self, id: &str) -> bool {
        self.log.read(|store| store.reader().message(id, None)).unwrap().is_some()
    }

    /// All events of the log.
    pub fn events(&self) -> Vec<Event> {
        let rows = self.log.read(|store| store.reader().page(0, 10_000, usize::MAX)).unwrap().rows;
        let read = |row: &Row| Candidate::read(&row.body, &[]).unwrap();
        admit(rows.iter().map(read).collect()).0
    }

    pub fn heads(&self) -> Heads {
        self.log.heads().unwrap()
    }

    /// Purges everything that was written so far.
    pub fn purge_everything(&self) {
        self.nanos.fetch_add(10_000_000_000, Ordering::Relaxed);
        let now = Timestamp::from_nanos(self.nanos.load(Ordering::Relaxed));
        self.log.store.lock().unwrap().purge(now).unwrap();
    }

    /// Lets the next purge that comes from others wait for `finish_purge`.
    pub fn purge_slowly(&self) {
        self.log.is_slow.store(true, Ordering::Relaxed);
        self.log.store.lock().unwrap().set_piece(2);
    }

    pub fn finish_purge(&self) {
        self.log.is_slow.store(false, Ordering::Relaxed);
        while self.log.store.lock().unwrap().work_off().unwrap() {}
    }

    /// Sets the clock forward, or back.
    pub fn change_clock(&self, seconds: i64) {
        self.nanos.fetch_add(seconds * 1_000_000_000, Ordering::Relaxed);
    }

    /// Advances the clock to that of another daemon.
    pub fn keep_time_with(&self, other: &Self) {
        self.nanos.store(other.nanos.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn exchange(top: &Path, name: &str, key: &DaemonKey, log: &Arc<StoreLog>, nanos: &Arc<AtomicI64>) -> Exchange {
    let world = World { nanos: Arc::clone(nanos), seed: 99 };
    Exchange::new(Box::new(repository(top)), Arc::clone(log) as Arc<dyn Log>, me(name, key), Box::new(world))
}

/// The repository of the daemon in a clone.
pub fn repository(top: &Path) -> Repository {
    let remote = Remote { name: "origin".into(), prefix: "refs/thrum/".into() };
    Repository::open(&top.join(".thrum/var/git"), top, remote, Stop::default()).unwrap()
}

fn me(name: &str, key: &DaemonKey) -> Me {
    let signing = key.clone();
    Me {
        daemon_id: key.id().to_string(),
        name: name.into(),
        sign: Arc::new(move |text| signing.sign_manifest(text)),
        exchange_secret: key.exchange_secret(),
    }
}
