//! Doors for `fuzz/` to the readers that the daemon keeps to itself. Not part of the program: the feature `fuzzing` alone makes them.

use std::{
    io::{Read, Write},
    net::Shutdown as Half,
    os::unix::net::UnixStream as Blocking,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use thrum_core::{Ambient, Fault, limits};
use thrum_sync::{
    Peers, PeersConfig,
    service::{Ambients, Prover},
};
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use crate::{
    ambient::System,
    bell::{self, Bell},
    config::{self, Config, Key},
    daemon::Daemon,
    disk,
    env::{Environment, Parsed, Settings},
    hold::Hold,
    identity::{Claim, Identity},
    lock,
    paths::Repo,
    presence::Presence,
    rpc::{
        connection::{self, Kept, Outcome, Pace, Service},
        envelope::Params,
    },
    shutdown::Shutdown,
    storage::Storage,
    tailnet,
};

/// What a `.env` says.
pub struct EnvFile {
    /// The variables of ours that are set, by name.
    pub values: Vec<(String, String)>,
    /// The lines that cannot be read, from 1.
    pub unreadable: Vec<usize>,
    /// All that would be said about its content.
    pub warnings: Vec<String>,
}

impl EnvFile {
    /// Whether a word is part of a variable's name, which a warning may show.
    pub fn is_a_name(&self, word: &str) -> bool {
        self.values.iter().any(|(name, _)| name.contains(word))
    }
}

/// Reads a `.env` of these bytes as the daemon does, but for what it asks of the file itself: who may read it, and whether git tracks it.
///
/// # Errors
/// It is larger than such a file may be, or no text.
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
    let values = environment.names().filter_map(|name| Some((name.to_owned(), environment.get(name)?.to_owned()))).collect();
    Ok(EnvFile { values, unreadable, warnings })
}

/// How long a call that waits is let wait.
const WAIT: Duration = Duration::from_millis(2);

/// A daemon with all its methods and no network, and a socket to it.
pub struct Socket {
    runtime: Runtime,
    service: Arc<Patience>,
    storage: Arc<Storage>,
    shutdown: Shutdown,
}

/// The daemon's methods, but none that waits for long.
struct Patience(Daemon);

impl Service for Patience {
    fn pace(&self, method: &str) -> Option<Pace> {
        self.0.pace(method)
    }

    async fn call(&self, method: &str, params: &Params, kept: &mut Kept) -> Result<Outcome, Fault> {
        let call = self.0.call(method, params, kept);
        let outcome = if self.pace(method) == Some(Pace::Long) {
            timeout(WAIT, call).await.unwrap_or_else(|_| Err(Fault::new(thrum_core::ErrorKind::TryAgain, "it waits")))
        } else {
            call.await
        };
        // A stream is over when it has begun, so that the connection comes to an end.
        outcome.map(|outcome| match outcome {
            Outcome::Answer(result) | Outcome::Stream(result, _) => Outcome::Answer(result),
        })
    }
}

impl Socket {
    /// Makes a repository in the empty directory `root` and a daemon for it.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(root: &Path) -> Result<Self, Fault> {
        let repo = Repo::create(root, None)?;
        config::set(&repo, Key::LocalOnly, Some(true.into()))?;
        let environment = Environment::default();
        let (settings, _) = Settings::read(&environment);
        let config = Config::load(&repo, &environment);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| disk::fault("start a runtime for", root, &error))?;
        let mut identity = Identity::load(&repo, Claim::None, &mut System)?;
        let hold = Hold::new(lock::acquire(&repo)?, &repo);
        let storage = Arc::new(Storage::open(&repo, &mut identity, hold.clone())?);
        let id = identity.key().id().to_string();
        let ambients: Ambients = Arc::new(|| Box::new(System) as Box<dyn Ambient>);
        let tailnet = tailnet::of(&repo, &settings, &config, "fuzz", Arc::clone(&ambients));
        let prover: Prover = Arc::new(|_, _| String::new());
        let peers = PeersConfig {
            var_dir: repo.var(),
            daemon_id: id.clone(),
            name: "fuzz".to_owned(),
            version: String::new(),
            round: limits::ROUND,
            local_only: true,
            transports: Vec::new(),
            ambients,
            prover,
        };
        let log = Arc::clone(&storage) as Arc<dyn thrum_sync::Log>;
        let peers = runtime.block_on(Peers::start(peers, log, storage.commits()))?;
        let (shutdown, bell) = (Shutdown::default(), Arc::new(Bell::default()));
        {
            let _entered = runtime.enter();
            shutdown.spawn(bell::follow(Arc::clone(&bell), Arc::clone(&storage), shutdown.clone()));
        }
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
            bell,
            presence: Presence::default(),
            peers,
            tailnet,
            shutdown: shutdown.clone(),
            hold,
        };
        Ok(Self { runtime, service: Arc::new(Patience(daemon)), storage, shutdown })
    }

    /// All that the daemon answers to a client that sends these bytes and no more.
    pub fn talk(&self, bytes: &[u8]) -> Vec<u8> {
        self.try_talk(bytes).unwrap_or_default()
    }

    fn try_talk(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let (mut client, served) = Blocking::pair()?;
        served.set_nonblocking(true)?;
        let _entered = self.runtime.enter();
        let serving = connection::serve(UnixStream::from_std(served)?, Arc::clone(&self.service), self.shutdown.clone());
        let serving = self.runtime.spawn(serving);
        let mut writer = client.try_clone()?;
        // Both at once: who does not read is not read from.
        let answers = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A daemon that hangs up reads no more.
                let _ = writer.write_all(bytes).and_then(|()| writer.shutdown(Half::Write));
            });
            let mut answers = Vec::new();
            client.read_to_end(&mut answers).map(|_| answers)
        });
        // A panic of the daemon's is one here.
        if let Err(error) = self.runtime.block_on(serving)
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        answers
    }

    /// Ends the daemon, with the threads it has.
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
