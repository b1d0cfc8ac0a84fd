//! Sync through a git remote: switching it on and off, deciding whom to trust, and requesting an exchange. `task` makes
//! the exchanges and `status` shows them; the exchange itself is in the crate `thrum-git`.

mod former;
mod history;
mod places;
mod state;
mod status;
mod task;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::Serialize;
use thrum_core::{Ambient, DaemonKey, Error, ErrorKind, Timestamp, name};
use thrum_git::{Exposure, Me, Remote, Report, Repository, Stop};
use thrum_sync::{Peers, blocking::blocking};
use tokio::sync::{Notify, watch};

use crate::{ambient::System, config::Config, hold::Hold, paths::Repo, shutdown::Shutdown, storage::Storage};
use former::Attempt;
use history::{Entry, History};
use places::has_password;
use state::State;
pub(crate) use status::{GitReach, GitStatus};

/// Sync through a git remote.
#[derive(Clone)]
pub(crate) struct GitSync(Arc<Shared>);

struct Shared {
    repo: Repo,
    me: Me,
    storage: Arc<Storage>,
    peers: Peers,
    hold: Hold,
    /// The refusal of a daemon that must stay on this machine.
    kept_here: Option<Error>,
    state: Mutex<State>,
    history: Mutex<History>,
    /// Why the state could not be read. The file is not written then, so that a person's decisions in it are not lost.
    broken: Option<Error>,
    shutdown: Shutdown,
    shown: watch::Sender<Shown>,
    /// Held while it is switched on or off, by one caller after the other.
    switching: tokio::sync::Mutex<()>,
    /// Wakes the task: the state has changed, or an exchange is requested.
    wake: Notify,
    /// Whether somebody waits for an exchange that has not begun.
    is_requested: AtomicBool,
    stop: Stop,
}

/// What the last exchange showed.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// Counts the exchanges that have begun, and those that have ended.
    begun: u64,
    ended: u64,
    last_error: Option<Error>,
    /// Events that were stored here and published since the start of the daemon.
    applied: u64,
    published: u64,
    next: Option<Timestamp>,
    /// The interval of the last exchange.
    interval: Option<Duration>,
    report: Report,
}

/// The answer to `git.log`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GitLog {
    /// The newest entries, newest last.
    entries: Vec<Entry>,
    /// `true` if there are earlier ones.
    more: bool,
}

/// What came of an exchange that somebody requested.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GitForced {
    /// Events stored here.
    stored: u64,
    /// Events published.
    published: u64,
    /// Daemons that want in.
    waiting: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What starts sync through git.
pub(crate) struct Parts {
    pub(crate) repo: Repo,
    pub(crate) key: DaemonKey,
    pub(crate) name: String,
    pub(crate) storage: Arc<Storage>,
    pub(crate) peers: Peers,
    pub(crate) hold: Hold,
    /// The refusal of a daemon that must stay on this machine.
    pub(crate) kept_here: Option<Error>,
}

impl GitSync {
    /// Starts the task, which exchanges events while sync through git is on.
    pub(crate) fn start(parts: Parts, shutdown: &Shutdown) -> Self {
        let Parts { repo, key, name, storage, peers, hold, kept_here } = parts;
        let (state, broken) = match State::load(&repo) {
            Ok(state) => (state, None),
            Err(error) => {
                tracing::error!(%error, "sync through git is off");
                (State::default(), Some(error))
            }
        };
        let history = History::load(&repo);
        let me = Me {
            daemon_id: key.id().to_string(),
            name,
            exchange_secret: key.exchange_secret(),
            sign: Arc::new(move |text| key.sign_manifest(text)),
        };
        let shared = Arc::new(Shared {
            repo,
            me,
            storage,
            peers,
            hold,
            kept_here,
            state: Mutex::new(state),
            history: Mutex::new(history),
            broken,
            shutdown: shutdown.clone(),
            shown: watch::Sender::default(),
            switching: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            is_requested: AtomicBool::new(false),
            stop: Stop::default(),
        });
        shutdown.spawn(task::run(Arc::clone(&shared), shutdown.clone()));
        let (stop, stopping) = (shared.stop.clone(), shutdown.clone());
        shutdown.spawn(async move {
            stopping.stopping().await;
            stop.stop();
        });
        Self(shared)
    }

    /// Switches sync through git on, with this remote or the obvious one, and waits for the first exchange.
    ///
    /// # Errors
    /// `refused` for a daemon that must stay on this machine, and for a remote that everybody can read, unless what is
    /// published is encrypted; `not_found` without a remote; errors of git.
    pub(crate) async fn switch_on(&self, remote: Option<String>, encrypts: bool) -> Result<GitStatus, Error> {
        let shared = Arc::clone(&self.0);
        if let Some(refusal) = &shared.kept_here {
            return Err(refusal.clone());
        }
        let _turn = self.0.switching.lock().await;
        self.0.hold.check()?;
        if remote.as_deref().is_some_and(has_password) {
            let what =
                "a URL with a password would be kept and shown: use the name of a remote, or a credential helper";
            return Err(Error::new(ErrorKind::Invalid, what).hint("git remote -v"));
        }
        // Encryption ends only with `switch_off`.
        let encrypts = encrypts || self.0.state().encrypts;
        let used = self.0.state().remote.clone();
        let to = Arc::clone(&shared);
        let remote = blocking(move || {
            let top = shared.repo.main_root();
            let remote = match remote {
                Some(name) if thrum_git::is_remote(top, &name, &shared.stop)? => name,
                Some(name) => {
                    return Err(Error::new(
                        ErrorKind::NotFound,
                        format!("there is no git remote {}", name::quoted(&name)),
                    )
                    .hint("git remote -v"));
                }
                None => obvious_remote(&shared)?,
            };
            let repository = open_repository(&shared, &remote, Config::current(&shared.repo).git_prefix())?;
            if let Some(used) = used.filter(|used| *used != remote) {
                // One that works is not given up for one that cannot be reached.
                repository.reach().map_err(|error| {
                    let error = Error::from(error);
                    let what = format!("{}; {} stays in use", error.message, name::quoted(&used));
                    Error::new(error.kind, what).hint(error.hint.unwrap_or_else(|| "git remote -v".to_owned()))
                })?;
            }
            if !encrypts {
                check_exposure(&shared, &remote, &thrum_git::addresses(top, &remote, &shared.stop)?)?;
            }
            Ok(remote)
        })
        .await?;
        to.change(move |state| {
            (state.remote, state.encrypts) = (Some(remote), encrypts);
            Ok(())
        })
        .await?;
        // The exchange is made even if the caller of this function has gone.
        self.0.wake.notify_one();
        self.force().await.map_err(|error| match error.hint {
            None => error.hint("It stays on and is tried again: thrum sync git status. Or: thrum sync git off"),
            Some(hint) => {
                let what = format!("{}; it stays on and is tried again", error.message);
                Error::new(error.kind, what).hint(hint)
            }
        })?;
        Ok(self.status())
    }

    /// Switches sync through git off. With `removes`, this daemon's ref is removed from the remote; without, what was
    /// published stays there.
    ///
    /// # Errors
    /// The state cannot be written. With `removes`, also if the ref could not be removed; it is off all the same.
    pub(crate) async fn switch_off(&self, removes: bool) -> Result<GitStatus, Error> {
        let _turn = self.0.switching.lock().await;
        let mut shown = self.0.shown.subscribe();
        let begun = shown.borrow_and_update().begun;
        self.0
            .change(|state| {
                (state.remote, state.encrypts) = (None, false);
                Ok(())
            })
            .await?;
        self.0.wake.notify_one();
        if removes {
            // An exchange that is running publishes, and notes where.
            tokio::select! {
                _ = shown.wait_for(|shown| shown.ended > begun) => {}
                () = self.0.shutdown.stopping() => {
                    return Err(Error::new(ErrorKind::Unavailable, "the daemon is stopping"));
                }
            }
            self.0
                .change(|state| {
                    state.places.publishes_nowhere();
                    Ok(())
                })
                .await?;
            let shared = Arc::clone(&self.0);
            blocking(move || former::remove(&shared, Attempt::All)).await?;
            if let Some(left) = self.0.state().places.left_behind(&self.0.me.daemon_id, false).first() {
                return Err(left.error());
            }
        }
        Ok(self.status())
    }

    /// Trusts, or distrusts, daemons that were seen on the remote, named by their names, fingerprints or ids; then makes
    /// an exchange if it is on. Decides about all of them or about none.
    ///
    /// # Errors
    /// `invalid` for more than [`MOST_KNOWN`](state::MOST_KNOWN) names; `not_found` if one of them means no daemon or
    /// more than one; the state cannot be written; those of the exchange.
    pub(crate) async fn decide(&self, names: Vec<String>, is_trusted: bool) -> Result<GitStatus, Error> {
        if names.len() > state::MOST_KNOWN {
            let what = format!("{} names are more than {}", names.len(), state::MOST_KNOWN);
            return Err(Error::new(ErrorKind::Invalid, what));
        }
        let verb = if is_trusted { "trust" } else { "untrust" };
        let are_known = self.0.state().find_all(&names, verb).is_ok();
        if !are_known && self.is_on() {
            self.force().await?;
        }
        self.0
            .change(move |state| {
                for id in state.find_all(&names, verb)? {
                    if let Some(known) = state.known.get_mut(&id) {
                        known.is_trusted = Some(is_trusted);
                    }
                }
                Ok(())
            })
            .await?;
        if self.is_on() {
            let kept = "The decision is kept, and the exchange is tried again: thrum sync git status";
            self.force().await.map_err(|error| if error.hint.is_none() { error.hint(kept) } else { error })?;
        }
        Ok(self.status())
    }

    /// Makes an exchange now, and waits until it has ended. Does nothing while sync through git is off.
    ///
    /// # Errors
    /// Those of the exchange.
    pub(crate) async fn force(&self) -> Result<(), Error> {
        if !self.is_on() {
            return Ok(());
        }
        let mut shown = self.0.shown.subscribe();
        // An exchange that is running now may have read the log before the newest events: wait for the one after it.
        let begun = shown.borrow_and_update().begun;
        self.0.is_requested.store(true, Ordering::SeqCst);
        self.0.wake.notify_one();
        let result = tokio::select! {
            done = shown.wait_for(|shown| shown.ended > begun) => done.ok().map(|shown| shown.last_error.clone()),
            () = self.0.shutdown.stopping() => None,
        };
        match result {
            Some(Some(error)) => Err(error),
            Some(None) => Ok(()),
            None => Err(Error::new(ErrorKind::Unavailable, "the daemon is stopping")),
        }
    }

    /// Makes an exchange now, and returns its counts and its error.
    pub(crate) async fn forced(&self) -> GitForced {
        let before = self.0.shown.borrow().clone();
        let error = self.force().await.err().map(|error| error.message);
        let now = self.0.shown.borrow().clone();
        GitForced {
            stored: now.applied - before.applied,
            published: now.published - before.published,
            waiting: self.status().waiting.len(),
            error,
        }
    }

    /// The newest entries of the log, at most `most`.
    pub(crate) fn log(&self, most: usize) -> GitLog {
        let (entries, more) = self.0.history().newest(most);
        GitLog { entries, more }
    }

    /// Returns `true` if sync through git is on.
    pub(crate) fn is_on(&self) -> bool {
        self.0.kept_here.is_none() && self.0.state().remote.is_some()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and the file first.
    async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let shared = Arc::clone(self);
        blocking(move || {
            shared.hold.check()?;
            if let Some(broken) = &shared.broken {
                return Err(broken.clone());
            }
            let mut state = shared.state();
            let mut next = state.clone();
            change(&mut next)?;
            next.save(&shared.repo)?;
            let changes = history::changes(&state, &next);
            *state = next;
            drop(state);
            shared.history().add(System.now(), changes, &shared.hold);
            Ok(())
        })
        .await
    }

    /// The directory of our repository.
    fn dir(&self) -> PathBuf {
        self.repo.var().join("git")
    }
}

/// The remote that is meant if none is named.
fn obvious_remote(shared: &Shared) -> Result<String, Error> {
    let found = thrum_git::default_remote(shared.repo.main_root(), &shared.stop)?;
    found.map_err(|names| match &names[..] {
        [] => Error::new(ErrorKind::NotFound, "this repository has no git remote, or is not a git repository")
            .hint("git remote add origin URL"),
        names => Error::new(ErrorKind::NotFound, format!("there are several git remotes: {}", names.join(", ")))
            .hint(format!("thrum sync git on --remote {}", names[0])),
    })
}

/// Refuses a remote that everybody can read at one of its addresses. Our repository must exist.
fn check_exposure(shared: &Shared, remote: &str, addresses: &[String]) -> Result<(), Error> {
    match thrum_git::exposure(&shared.dir(), shared.repo.main_root(), addresses, &shared.stop)? {
        Exposure::Private => Ok(()),
        Exposure::Public => {
            Err(Error::new(ErrorKind::Refused, format!("everybody can read the remote {}", name::quoted(remote)))
                .hint("thrum sync git on --encrypt"))
        }
        Exposure::Unknown(why) => {
            let what = format!("it is not known whether everybody can read the remote {}: {why}", name::quoted(remote));
            Err(Error::new(ErrorKind::TryAgain, what))
        }
    }
}

/// Opens our repository, or creates it.
fn open_repository(shared: &Shared, remote: &str, prefix: String) -> Result<Repository, Error> {
    let place = Remote { name: remote.to_owned(), prefix };
    Ok(Repository::open(&shared.dir(), shared.repo.main_root(), place, shared.stop.clone())?)
}
