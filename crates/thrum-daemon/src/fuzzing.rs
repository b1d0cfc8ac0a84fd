//! Exposes to `fuzz/` the parser of `.env` files, and a daemon without a network that answers on a socket. Compiled
//! only with the feature `fuzzing`; not part of the program.

use std::{
    io::{Read, Write},
    net::Shutdown as Half,
    os::unix::net::UnixStream as Blocking,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use thrum_core::{Ambient, Error, ErrorKind, limits};
use thrum_sync::{
    Peers, PeersConfig,
    peers::{Ambients, Prover},
};
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use crate::{
    ambient::System,
    config::{self, Config, Key},
    daemon::{Daemon, Live},
    env::{Environment, Parsed, Settings},
    git_sync::{self, GitSync},
    hold::Hold,
    identity::{Claim, Identity},
    large::LargeAnswers,
    lock,
    paths::Repo,
    private_files,
    rpc::{
        connection::{self, Kept, Reply, Service, TimeBound},
        envelope::Params,
    },
    shutdown::Shutdown,
    storage::Storage,
    tailnet,
    wake_registry::{self, WakeRegistry},
};

/// The content of a `.env`.
pub struct EnvFile {
    /// Thrum's variables that are set, by name.
    pub values: Vec<(String, String)>,
    /// Numbers, from 1, of the lines about Thrum's variables that cannot be read.
    pub unreadable: Vec<usize>,
    /// The warnings about the values.
    pub warnings: Vec<String>,
}

impl EnvFile {
    /// Returns `true` if `word` is part of the name of a variable that is set. Warnings may show names, but no values.
    pub fn is_in_a_name(&self, word: &str) -> bool {
        self.values.iter().any(|(name, _)| name.contains(word))
    }
}

/// Parses a `.env` with these bytes as the daemon does, but leaves out three checks: who can read the file, whether git
/// tracks it, and whether it sets a variable that no file may set.
///
/// # Errors
/// The content is larger than such a file may be, or is not text.
pub fn env_file(bytes: &[u8]) -> Result<EnvFile, String> {
    if bytes.len() as u64 > limits::MAX_ENV_FILE_BYTES {
        return Err("larger than a file may be".to_owned());
    }
    let Parsed { values, unreadable, .. } = Parsed::read(bytes.to_vec()).map_err(|line| format!("line {line}"))?;
    let mut environment = Environment::default();
    for (name, value) in values {
        environment.offer_of_file(name, value);
    }
    let (_, wrong) = Settings::read(&environment);
    let warnings = wrong.iter().map(ToString::to_string).collect();
    let values =
        environment.names().filter_map(|name| Some((name.to_owned(), environment.get(name)?.to_owned()))).collect();
    Ok(EnvFile { values, unreadable, warnings })
}

/// How long a long call may wait.
const WAIT: Duration = Duration::from_millis(2);

/// A daemon with all its methods and no network. Every [`talk`](Self::talk) is a new connection to it.
pub struct Socket {
    runtime: Runtime,
    service: Arc<Patience>,
    storage: Arc<Storage>,
    shutdown: Shutdown,
}

/// The daemon's methods, with a short time bound for long ones.
struct Patience(Daemon);

impl Service for Patience {
    fn time_bound(&self, method: &str) -> Option<TimeBound> {
        self.0.time_bound(method)
    }

    async fn call(&self, method: &str, params: &Params, kept: &mut Kept) -> Result<Reply, Error> {
        let call = self.0.call(method, params, kept);
        let outcome = if self.time_bound(method) == Some(TimeBound::Long) {
            timeout(WAIT, call).await.unwrap_or_else(|_| Err(Error::new(ErrorKind::TryAgain, "it waits")))
        } else {
            call.await
        };
        // Ends a stream right after its start, so that the connection ends.
        outcome.map(|outcome| match outcome {
            Reply::Answer(result) | Reply::Stream(result, _) => Reply::Answer(result),
        })
    }
}

impl Socket {
    /// Creates a repository in the empty directory `root`, and a daemon for it.
    ///
    /// # Errors
    /// File system errors.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let repo = Repo::create(root, None)?;
        config::set(&repo, Key::LocalOnly, Some(true.into()))?;
        let environment = Environment::default();
        let (settings, _) = Settings::read(&environment);
        let config = Config::load(&repo, &environment);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| private_files::io_error("start a runtime for", root, &error))?;
        let mut identity = Identity::load(&repo, Claim::None, &mut System)?;
        let hold = Hold::new(lock::acquire(&repo)?, &repo);
        let storage = Arc::new(Storage::open(&repo, &mut identity, hold.clone())?);
        let id = identity.key().id().to_string();
        let ambients: Ambients = Arc::new(|| Box::new(System) as Box<dyn Ambient>);
        let tailnet = tailnet::of(&repo, &settings, &config, "fuzz", Arc::clone(&ambients));
        let prover: Prover = Arc::new(|_, _| String::new());
        let kept_here = Error::new(ErrorKind::Refused, "a fuzz target keeps to this machine");
        let peers = PeersConfig {
            var_dir: repo.var(),
            daemon_id: id.clone(),
            name: "fuzz".to_owned(),
            version: String::new(),
            sync_interval: limits::SYNC_INTERVAL,
            kept_here: Some(kept_here.clone()),
            transports: Vec::new(),
            ambients,
            prover,
            exchange_secret: identity.key().exchange_secret(),
        };
        let log = Arc::clone(&storage) as Arc<dyn thrum_sync::Log>;
        let peers = runtime.block_on(Peers::start(peers, log, storage.commits()))?;
        let (shutdown, wakes) = (Shutdown::default(), Arc::new(WakeRegistry::default()));
        // Exchanges nothing, because this daemon stays on this machine.
        let parts = git_sync::Parts {
            repo: repo.clone(),
            key: identity.key().clone(),
            name: "fuzz".to_owned(),
            storage: Arc::clone(&storage),
            peers: peers.clone(),
            hold: hold.clone(),
            kept_here: Some(kept_here),
        };
        let git_sync = {
            let _entered = runtime.enter();
            shutdown.spawn(wake_registry::follow(Arc::clone(&wakes), Arc::clone(&storage), shutdown.clone()));
            GitSync::start(parts, &shutdown)
        };
        let large =
            LargeAnswers::start(1).map_err(|error| private_files::io_error("start a thread for", root, &error))?;
        let daemon = Daemon {
            forgetting: Arc::default(),
            id,
            name: "fuzz".to_owned(),
            repo,
            settings,
            config,
            variables: Vec::new(),
            warnings: Vec::new(),
            version: String::new(),
            started: Instant::now(),
            storage: Arc::clone(&storage),
            wakes,
            // The task that serves `live.git_state` by reading worktrees from git is not started, so only
            // `user.identify` runs git.
            live: Live::default(),
            peers,
            tailnet,
            git_sync,
            shutdown: shutdown.clone(),
            hold,
            large,
        };
        Ok(Self { runtime, service: Arc::new(Patience(daemon)), storage, shutdown })
    }

    /// Returns everything that the daemon answers to a client that sends exactly these bytes; an empty list if an I/O
    /// error occurs.
    pub fn talk(&self, bytes: &[u8]) -> Vec<u8> {
        self.try_talk(bytes).unwrap_or_default()
    }

    fn try_talk(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let (mut client, served) = Blocking::pair()?;
        served.set_nonblocking(true)?;
        let _entered = self.runtime.enter();
        let serving =
            connection::serve(UnixStream::from_std(served)?, Arc::clone(&self.service), self.shutdown.clone());
        let serving = self.runtime.spawn(serving);
        let mut writer = client.try_clone()?;
        // Write and read concurrently: the daemon stops reading from a client that does not read.
        let answers = std::thread::scope(|scope| {
            scope.spawn(move || {
                // An error means that the daemon has closed the connection.
                let _ = writer.write_all(bytes).and_then(|()| writer.shutdown(Half::Write));
            });
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).map(|_| answers)
        });
        // Pass on a panic of the daemon.
        if let Err(error) = self.runtime.block_on(serving)
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        answers
    }

    /// Stops the daemon and its threads.
    pub fn close(self) {
        let Self { runtime, service, storage, shutdown } = self;
        runtime.block_on(async {
            shutdown.drain(limits::DRAIN).await;
            service.0.peers.shutdown().await;
        });
        drop(service);
        drop(runtime);
        storage.close();
    }
}
