//! Starts the daemon step by step, and stops it in nearly the reverse order.

use std::{sync::Arc, time::Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thrum_core::{Ambient, Error, ErrorKind, limits};
use thrum_sync::{
    Log, Peers, PeersConfig,
    peers::{Ambients, Prover},
    transport::local::Local,
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, Semaphore},
    time::sleep,
};

use crate::{
    acknowledged,
    ambient::System,
    backup, collisions,
    config::Config,
    daemon::{Daemon, Live, name_towards_peers},
    env::{Effective, Environment, Settings},
    forgetting, git_state,
    git_sync::{self, GitSync},
    hold::Hold,
    identity::{self, Claim, Identity},
    large::LargeAnswers,
    listen::{self, Listening},
    lock, logging, origin,
    paths::Repo,
    pidfile, programs,
    rpc::server,
    shutdown::{Shutdown, Signals},
    storage::Storage,
    tailnet,
    wake_registry::{self, WakeRegistry},
};

/// Maximum number of threads for blocking work: reads of the database, git, checks of signatures. A read that finds no
/// free connection to the database waits in such a thread.
const BLOCKING_THREADS: usize = 64;

/// Options for starting a daemon.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The daemon's repository.
    pub repo: Repo,
    /// This `.thrum` was moved here: the place that it was copied from is no longer used.
    pub moved: bool,
    /// This `.thrum` was copied and becomes a new daemon.
    pub new_identity: bool,
    /// Also write the lines of the log file to standard error.
    pub foreground: bool,
    /// The version of the program.
    pub version: String,
}

impl RunOptions {
    /// Returns the options for a daemon in the background whose `.thrum` was not copied.
    pub fn new(repo: Repo) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { repo, moved: false, new_identity: false, foreground: false, version }
    }
}

/// Runs the daemon until a signal asks it to end (SIGTERM, SIGINT, SIGHUP), or until the database or the state
/// directory is lost. Running requests then have [`limits::DRAIN`] to finish.
///
/// The daemon takes over the whole process: its signals, its log file, its umask.
///
/// # Errors
/// `refused` if a daemon already runs, or for a copied `.thrum` if the options do not tell what to do with it; any
/// error that keeps the key, the database or the socket from being opened; `failed` or `try_again` if the daemon loses
/// them later. After an error no lock, pid file or socket of this daemon is left.
pub fn run(options: RunOptions) -> Result<(), Error> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    origin::check(&options.repo)?;
    options.repo.make_var()?;
    let hold = Hold::new(lock::acquire(&options.repo)?, &options.repo);
    let repo = &options.repo;
    let _pid = pidfile::write(&repo.pid_file(), repo.main_root(), &repo.socket_to_open(), &System.now().to_string())?;
    let loaded = Loaded::read(repo);
    logging::init(&repo.log_file(), loaded.settings.log_format, options.foreground)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    permit_open_files();
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(options, loaded, &hold));
    // Do not wait for tasks and blocking work that have not ended in time.
    runtime.shutdown_background();
    if let Err(error) = &outcome {
        tracing::error!(%error, "the daemon has failed");
    }
    outcome
}

async fn serve(options: RunOptions, loaded: Loaded, hold: &Hold) -> Result<(), Error> {
    let mut signals = Signals::catch()?;
    let RunOptions { repo, version, .. } = &options;
    backup::undo(repo)?;
    let Loaded { settings, config, variables, warnings } = loaded;
    let mut identity = Identity::load(repo, claim(&options)?, &mut System)?;
    let id = identity.key().id().to_string();
    let storage = Arc::new(Storage::open(repo, &mut identity, hold.clone())?);
    let mut listening = listen::open(repo).await?;
    let name = name_towards_peers(&settings, repo);
    let ambients: Ambients = Arc::new(|| Box::new(System) as Box<dyn Ambient>);
    let tailnet = tailnet::of(repo, &settings, &config, &name, Arc::clone(&ambients));
    // The tailnet comes up, or fails, in the background; the start does not wait for it.
    tailnet.start();
    let key = identity.key().clone();
    let git_key = key.clone();
    let exchange_secret = key.exchange_secret();
    let prover: Prover = Arc::new(move |challenge, to| key.prove(challenge, to));
    let towards_peers = PeersConfig {
        var_dir: repo.var(),
        daemon_id: id.clone(),
        name: name.clone(),
        version: version.clone(),
        sync_interval: config.sync_interval(),
        kept_here: config.kept_here(),
        transports: vec![Arc::new(Local::default().guarded(Arc::new(tailnet.clone()))), Arc::new(tailnet.clone())],
        ambients,
        prover,
        exchange_secret,
    };
    let peers = Peers::start(towards_peers, Arc::clone(&storage) as Arc<dyn Log>, storage.commits()).await?;
    let shutdown = Shutdown::default();
    let wakes = Arc::new(WakeRegistry::default());
    shutdown.spawn(identity::follow(identity, storage.commits(), shutdown.clone()));
    shutdown.spawn(acknowledged::save::follow(Arc::clone(&storage), shutdown.clone()));
    shutdown.spawn(wake_registry::follow(Arc::clone(&wakes), Arc::clone(&storage), shutdown.clone()));
    let live = Live::default();
    let reading = git_state::follow(
        Arc::clone(&live.git_state),
        repo.clone(),
        id.clone(),
        Arc::clone(&storage),
        shutdown.clone(),
    );
    shutdown.spawn(reading);
    shutdown.spawn(collisions::follow(Arc::clone(&storage), shutdown.clone()));
    let wake = Arc::new(Notify::new());
    shutdown.spawn(forgetting::run(
        Arc::clone(&storage),
        peers.clone(),
        id.clone(),
        Arc::clone(&wake),
        shutdown.clone(),
    ));
    tracing::info!(%version, repo = %repo.main_root().display(), "daemon started: {id}");

    programs::restore(&live.programs, &storage, &shutdown, &id)?;
    let telling = programs::follow(
        Arc::clone(&live.programs),
        Arc::clone(&storage),
        Arc::clone(&live.presence),
        shutdown.clone(),
    );
    shutdown.spawn(telling);

    let git_sync = GitSync::start(
        git_sync::Parts {
            repo: repo.clone(),
            key: git_key,
            name: name.clone(),
            storage: Arc::clone(&storage),
            peers: peers.clone(),
            hold: hold.clone(),
            kept_here: config.kept_here(),
        },
        &shutdown,
    );
    let large = LargeAnswers::start(runtime_threads()).map_err(|error| {
        Error::new(ErrorKind::Failed, format!("cannot start the threads for large answers: {error}"))
    })?;
    let daemon = Daemon {
        id,
        name,
        repo: repo.clone(),
        settings,
        config,
        variables,
        warnings,
        version: version.clone(),
        started: Instant::now(),
        storage: Arc::clone(&storage),
        wakes,
        live,
        peers: peers.clone(),
        forgetting: wake,
        tailnet: tailnet.clone(),
        git_sync,
        shutdown: shutdown.clone(),
        hold: hold.clone(),
        large,
    };
    let outcome = tokio::select! {
        signal = signals.next() => {
            tracing::info!("stopping on {signal}");
            Ok(())
        }
        // A daemon that cannot store anything is useless. The next command starts a new one.
        () = storage.broken() => Err(Error::new(ErrorKind::Failed, "the database can no longer be written: a defect, see above")),
        error = serve_agents(repo, hold, &mut listening, Arc::new(daemon), &shutdown) => Err(error),
    };

    // Agents' requests may finish. A peer's batch could take longer than anybody waits, so the rest of it is refused;
    // the peer serves it again.
    storage.writer.wind_down();
    let (left_over, ()) = tokio::join!(shutdown.drain(limits::DRAIN), peers.shutdown());
    // Stop the tailnet after its users. The process of the daemon's own node has ended when this returns.
    tailnet.stop().await;
    if left_over > 0 {
        tracing::warn!(requests = left_over, "cut off requests that did not end in time");
    }
    drop(peers);
    tokio::task::block_in_place(|| storage.close());
    drop(listening);
    tracing::info!("stopped");
    outcome
}

/// Serves agents while the state directory is in place, and returns the reason when it no longer is. Binds the socket
/// again if its file is gone.
async fn serve_agents(
    repo: &Repo,
    hold: &Hold,
    listening: &mut Listening,
    daemon: Arc<Daemon>,
    shutdown: &Shutdown,
) -> Error {
    let room = Arc::new(Semaphore::new(limits::MAX_LOCAL_CONNECTIONS));
    let mut complained = false;
    loop {
        let accept = server::accept(&listening.listener, Arc::clone(&daemon), shutdown.clone(), &room);
        tokio::select! {
            () = accept => {}
            () = hold.lost() => {}
            () = sleep(limits::STATE_LOOK) => {}
        }
        if let Err(error) = hold.check() {
            return error;
        }
        if listening.is_in_place() {
            continue;
        }
        match listen::open(repo).await {
            Ok(anew) => {
                tracing::warn!(socket = %repo.socket_to_open().display(), "the socket was gone; listening there again");
                (*listening, complained) = (anew, false);
            }
            Err(error) if !complained => {
                tracing::error!(%error, "the socket is gone and cannot be created again");
                complained = true;
            }
            Err(_) => {}
        }
    }
}

/// Raises the soft limit of open files to [`limits::OPEN_FILES`], or as far as the hard limit permits. With the limit
/// of the shell, clients would be refused by the system, without a reason, before the daemon's own bound is reached.
fn permit_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(limits::OPEN_FILES, |most| most.min(limits::OPEN_FILES));
    if limit.current.is_some_and(|current| current < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit })
    {
        tracing::warn!(%error, "cannot raise the number of open files; many clients at once may be refused");
    }
}

/// Returns the number of threads that serve connections: half of the cores, from 1 to 4. The other half is for the
/// threads that write events and verify signatures.
fn runtime_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 4)
}

fn runtime() -> Result<Runtime, Error> {
    Builder::new_multi_thread()
        .worker_threads(runtime_threads())
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("thrum")
        .enable_all()
        .build()
        .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot start the runtime: {error}")))
}

/// The content of the environment, the `.env` files and `config.json`.
struct Loaded {
    settings: Settings,
    config: Config,
    variables: Vec<Effective>,
    /// The problems found in them, one sentence each.
    warnings: Vec<String>,
}

impl Loaded {
    fn read(repo: &Repo) -> Self {
        let environment = Environment::load(repo, std::env::vars_os());
        let (settings, invalid) = Settings::read(&environment);
        let config = Config::load(repo, &environment);
        let all = environment.warnings().iter().chain(&invalid).chain(&config.warnings);
        let warnings = all.map(ToString::to_string).collect();
        Self { settings, config, variables: environment.effective(), warnings }
    }
}

fn claim(options: &RunOptions) -> Result<Claim, Error> {
    match (options.moved, options.new_identity) {
        (false, false) => Ok(Claim::None),
        (true, false) => Ok(Claim::Moved),
        (false, true) => Ok(Claim::NewIdentity),
        (true, true) => Err(Error::new(ErrorKind::Invalid, "--moved and --new-identity exclude each other")),
    }
}
