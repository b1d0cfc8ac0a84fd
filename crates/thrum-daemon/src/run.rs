//! From nothing to a running daemon and back, in one order and its reverse.

use std::{sync::Arc, time::Instant};

use thrum_core::{Ambient, ErrorKind, Fault, limits};
use thrum_sync::{
    Log, Peers, PeersConfig,
    service::{Ambients, Prover},
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
    backup,
    bell::{self, Bell},
    config::Config,
    daemon::{Daemon, name_towards_peers},
    env::{Effective, Environment, Settings},
    forgetting,
    hold::Hold,
    identity::{self, Claim, Identity},
    listen::{self, Listening},
    lock, logfile, origin,
    paths::Repo,
    pidfile,
    presence::Presence,
    rpc::server,
    shutdown::{Shutdown, Signals},
    storage::Storage,
    tailnet,
};

/// Threads for what waits on a disk. Reading has a handful of connections; the rest stands in a queue.
const BLOCKING_THREADS: usize = 64;

/// How a daemon is started.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// For which repository.
    pub repo: Repo,
    /// This `.thrum` was copied, and the place it came from is no longer used.
    pub moved: bool,
    /// This `.thrum` was copied, and becomes a daemon of its own.
    pub new_identity: bool,
    /// Also write the log to standard error.
    pub foreground: bool,
    /// The version of the program.
    pub version: String,
}

impl RunOptions {
    /// A daemon in the background, for a `.thrum` that was not copied.
    pub fn new(repo: Repo) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { repo, moved: false, new_identity: false, foreground: false, version }
    }
}

/// Runs the daemon until a signal asks it to end (SIGTERM, SIGINT, SIGHUP); it then stops within [`limits::DRAIN`].
///
/// It takes the process for itself: its signals, its log, its umask.
///
/// # Errors
/// `refused` if a daemon runs already, or for a copied `.thrum` of which the options say nothing; whatever keeps the key,
/// the database or the socket from being opened. Nothing is left behind then.
pub fn run(options: RunOptions) -> Result<(), Fault> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    origin::check(&options.repo)?;
    options.repo.make_var()?;
    let hold = Hold::new(lock::acquire(&options.repo)?, &options.repo);
    let _pid = pidfile::write(&options.repo, &options.repo.socket_to_open(), &System.now().to_string())?;
    logfile::init(&options.repo.log_file(), options.foreground)?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(options, &hold));
    // Nothing that is left may hold the process: it can only be waiting.
    runtime.shutdown_background();
    if let Err(fault) = &outcome {
        tracing::error!("{fault}");
    }
    outcome
}

async fn serve(options: RunOptions, hold: &Hold) -> Result<(), Fault> {
    let mut signals = Signals::catch()?;
    let RunOptions { repo, version, .. } = &options;
    backup::undo(repo)?;
    let (settings, config, variables, warnings) = settings(repo);
    let mut identity = Identity::load(repo, claim(&options)?, &mut System)?;
    let id = identity.key().id().to_string();
    let storage = Arc::new(Storage::open(repo, &mut identity, hold.clone())?);
    let mut listening = listen::open(repo).await?;
    let name = name_towards_peers(&settings, repo);
    let ambients: Ambients = Arc::new(|| Box::new(System) as Box<dyn Ambient>);
    let tailnet = tailnet::of(repo, &settings, &config, &name, Arc::clone(&ambients));
    // It comes up beside everything else, or does not; nobody waits for it here.
    tailnet.start();
    let key = identity.key().clone();
    let prover: Prover = Arc::new(move |challenge, to| key.prove(challenge, to));
    let towards_peers = PeersConfig {
        var_dir: repo.var(),
        daemon_id: id.clone(),
        name: name.clone(),
        version: version.clone(),
        round: config.sync_interval(),
        local_only: config.local_only(),
        transports: vec![Arc::new(Local::default().guarded(Arc::new(tailnet.clone()))), Arc::new(tailnet.clone())],
        ambients,
        prover,
    };
    let peers = Peers::start(towards_peers, Arc::clone(&storage) as Arc<dyn Log>, storage.commits()).await?;
    let shutdown = Shutdown::default();
    let bell = Arc::new(Bell::default());
    shutdown.spawn(identity::follow(identity, storage.commits(), shutdown.clone()));
    shutdown.spawn(acknowledged::follow(Arc::clone(&storage), shutdown.clone()));
    shutdown.spawn(bell::follow(Arc::clone(&bell), Arc::clone(&storage), shutdown.clone()));
    let wake = Arc::new(Notify::new());
    shutdown.spawn(forgetting::follow(Arc::clone(&storage), peers.clone(), id.clone(), Arc::clone(&wake), shutdown.clone()));
    tracing::info!("daemon {version} started: {id} for {}", repo.main_root().display());

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
        bell,
        presence: Presence::default(),
        peers: peers.clone(),
        forgetting: wake,
        tailnet: tailnet.clone(),
        shutdown: shutdown.clone(),
        hold: hold.clone(),
    };
    let outcome = tokio::select! {
        signal = signals.next() => {
            tracing::info!("stopping on {signal}");
            Ok(())
        }
        // A daemon that cannot store anything is none; whoever needs it starts a new one.
        () = storage.broken() => Err(Fault::new(ErrorKind::Failed, "the database can no longer be written: a defect, see above")),
        fault = serve_agents(repo, hold, &mut listening, Arc::new(daemon), &shutdown) => Err(fault),
    };

    let (left_over, ()) = tokio::join!(shutdown.drain(limits::DRAIN), peers.shutdown());
    // After those who use it. Its own node's process is gone when this returns.
    tailnet.stop().await;
    if left_over > 0 {
        tracing::warn!("{left_over} requests were cut off");
    }
    drop(peers);
    tokio::task::block_in_place(|| storage.close());
    drop(listening);
    tracing::info!("stopped");
    outcome
}

/// Serves agents as long as the state directory is in place; returns why it is not. Binds the socket anew when its file is gone.
async fn serve_agents(repo: &Repo, hold: &Hold, listening: &mut Listening, daemon: Arc<Daemon>, shutdown: &Shutdown) -> Fault {
    let room = Arc::new(Semaphore::new(limits::MAX_LOCAL_CONNECTIONS));
    let mut complained = false;
    loop {
        let accept = server::accept(&listening.listener, Arc::clone(&daemon), shutdown.clone(), &room);
        tokio::select! {
            () = accept => {}
            () = hold.lost() => {}
            () = sleep(limits::STATE_LOOK) => {}
        }
        if let Err(fault) = hold.check() {
            return fault;
        }
        if listening.is_in_place() {
            continue;
        }
        match listen::open(repo).await {
            Ok(anew) => {
                tracing::warn!("{} was gone; listening there again", repo.socket_to_open().display());
                (*listening, complained) = (anew, false);
            }
            Err(fault) if !complained => {
                tracing::error!("the socket is gone and cannot be made anew: {fault}");
                complained = true;
            }
            Err(_) => {}
        }
    }
}

fn runtime() -> Result<Runtime, Fault> {
    // As many again are busy with the log: one writes, others verify.
    let threads = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2).clamp(1, 4);
    Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("thrum")
        .enable_all()
        .build()
        .map_err(|error| Fault::new(ErrorKind::Failed, format!("cannot start the runtime: {error}")))
}

fn settings(repo: &Repo) -> (Settings, Config, Vec<Effective>, Vec<String>) {
    let environment = Environment::load(repo, std::env::vars_os());
    let (settings, wrong) = Settings::read(&environment);
    let config = Config::load(repo, &environment);
    let all = environment.warnings().iter().chain(&wrong).chain(&config.warnings);
    let warnings: Vec<String> = all.map(ToString::to_string).collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    (settings, config, environment.effective(), warnings)
}

fn claim(options: &RunOptions) -> Result<Claim, Fault> {
    match (options.moved, options.new_identity) {
        (false, false) => Ok(Claim::None),
        (true, false) => Ok(Claim::Moved),
        (false, true) => Ok(Claim::NewIdentity),
        (true, true) => Err(Fault::new(ErrorKind::Invalid, "--moved and --new-identity exclude each other")),
    }
}
