//! Sync through a git remote: when exchanges are made, whom this daemon trusts there, and what is shown of it. What an
//! exchange does is `thrum-git`'s.

mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use thrum_core::{Ambient, DaemonKey, Error, ErrorKind, Timestamp, heads::Difference, name};
use thrum_git::{Exchange, Exposure, Me, Remote, Report, Repository, Schedule, SeenState, Stop, Trust, limits};
use thrum_sync::{
    Log, Peers,
    blocking::blocking,
    peers::{Compared, Verdict},
};
use tokio::sync::{Notify, watch};

use crate::{ambient::System, config::Config, hold::Hold, paths::Repo, shutdown::Shutdown, storage::Storage};
pub(crate) use state::fingerprint;
use state::{Known, State};

/// Sync through a git remote.
#[derive(Clone)]
pub(crate) struct GitSync(Arc<Shared>);

struct Shared {
    repo: Repo,
    me: Me,
    storage: Arc<Storage>,
    peers: Peers,
    hold: Hold,
    is_local_only: bool,
    state: Mutex<State>,
    /// Why the state could not be read. It is not overwritten then, because it says who is not trusted.
    broken: Option<Error>,
    shutdown: Shutdown,
    shown: watch::Sender<Shown>,
    /// Wakes the task: the state has changed, or an exchange is requested.
    wake: Notify,
    is_requested: Mutex<bool>,
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

/// The answer to `git.status`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct GitStatus {
    /// `off`, `starting`, `ok` or `failing`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<String>,
    encrypted: bool,
    /// The fingerprint of this daemon, for those who are to trust it.
    own_fingerprint: String,
    /// Seconds between two exchanges without news.
    interval: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exchange_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_published_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_exchange_at: Option<Timestamp>,
    events_stored: u64,
    events_published: u64,
    /// The daemons whose events are stored, and those that cannot be read.
    daemons: Vec<GitDaemon>,
    /// The daemons that want in.
    waiting: Vec<Waiting>,
}

/// The daemons that are reached through git.
#[derive(Clone, Debug, Default)]
pub(crate) struct GitReach {
    /// The ids of trusted ones.
    pub(crate) trusted: BTreeSet<String>,
    /// The ids of those that a person does not trust.
    pub(crate) distrusted: BTreeSet<String>,
    /// Whether the last exchange failed.
    pub(crate) is_failing: bool,
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

/// A daemon on the remote.
#[derive(Clone, Debug, Serialize)]
struct GitDaemon {
    name: String,
    daemon_id: String,
    fingerprint: String,
    /// `trusted`, `distrusted`, `unusable`, `over_quota` or `absent`.
    state: &'static str,
    /// Why, if it is unusable or over its quota, or which segments are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    published_at: Option<Timestamp>,
    /// Events that it has and that are missing here, as far as its version vector says.
    missing_here: u64,
    /// Events that are here and missing at it.
    missing_there: u64,
    /// Events that it still publishes although they were purged here.
    purged: u64,
}

/// A daemon that nobody has trusted or distrusted yet.
#[derive(Clone, Debug, Serialize)]
struct Waiting {
    name: String,
    daemon_id: String,
    fingerprint: String,
    first_seen: Timestamp,
}

/// What starts sync through git.
pub(crate) struct Parts {
    pub(crate) repo: Repo,
    pub(crate) key: DaemonKey,
    pub(crate) name: String,
    pub(crate) storage: Arc<Storage>,
    pub(crate) peers: Peers,
    pub(crate) hold: Hold,
    pub(crate) is_local_only: bool,
}

impl GitSync {
    /// Starts the task, which exchanges events while sync through git is on.
    pub(crate) fn start(parts: Parts, shutdown: &Shutdown) -> Self {
        let Parts { repo, key, name, storage, peers, hold, is_local_only } = parts;
        let (state, broken) = match State::load(&repo) {
            Ok(state) => (state, None),
            Err(error) => {
                tracing::error!(%error, "sync through git is off");
                (State::default(), Some(error))
            }
        };
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
            is_local_only,
            state: Mutex::new(state),
            broken,
            shutdown: shutdown.clone(),
            shown: watch::Sender::default(),
            wake: Notify::new(),
            is_requested: Mutex::new(false),
            stop: Stop::default(),
        });
        shutdown.spawn(run(Arc::clone(&shared), shutdown.clone()));
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
        if shared.is_local_only {
            return Err(Error::new(ErrorKind::Refused, "daemon.local_only keeps this daemon on this machine")
                .hint("thrum config set daemon.local_only false"));
        }
        self.0.hold.check()?;
        if remote.as_deref().is_some_and(has_password) {
            let what =
                "a URL with a password would be kept and shown: use the name of a remote, or a credential helper";
            return Err(Error::new(ErrorKind::Invalid, what).hint("git remote -v"));
        }
        // What is encrypted stays so until it is switched off.
        let encrypts = encrypts || self.0.state().encrypts;
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
            if !encrypts {
                check_exposure(&shared, &remote)?;
            }
            Ok(remote)
        })
        .await?;
        to.change(move |state| {
            (state.remote, state.encrypts) = (Some(remote), encrypts);
            Ok(())
        })
        .await?;
        // Even if nobody waits for this call any more.
        self.0.wake.notify_one();
        self.force().await.map_err(|error| match error.hint {
            None => error.hint("It stays on and is tried again: thrum sync git status. Or: thrum sync git off"),
            Some(_) => error,
        })?;
        Ok(self.status())
    }

    /// Switches sync through git off. What was published stays on the remote.
    ///
    /// # Errors
    /// The state cannot be written.
    pub(crate) async fn switch_off(&self) -> Result<GitStatus, Error> {
        self.0
            .change(|state| {
                (state.remote, state.encrypts) = (None, false);
                Ok(())
            })
            .await?;
        self.0.wake.notify_one();
        Ok(self.status())
    }

    /// Trusts, or distrusts, a daemon that was seen on the remote, named by its name, fingerprint or id; then makes an
    /// exchange if it is on.
    ///
    /// # Errors
    /// `not_found` if no daemon or more than one is meant; the state cannot be written.
    pub(crate) async fn decide(&self, name: &str, is_trusted: bool) -> Result<GitStatus, Error> {
        let is_known = self.0.state().find(name).is_ok();
        if !is_known && self.is_on() {
            self.force().await?;
        }
        let name = name.to_owned();
        self.0
            .change(move |state| {
                let id = state.find(&name)?;
                if let Some(known) = state.known.get_mut(&id) {
                    known.is_trusted = Some(is_trusted);
                }
                Ok(())
            })
            .await?;
        if self.is_on() {
            self.force().await?;
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
        // An exchange that is running has begun before what is to be covered.
        let begun = shown.borrow_and_update().begun;
        *self.0.is_requested.lock().unwrap_or_else(PoisonError::into_inner) = true;
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

    /// Makes an exchange now. Returns what came of it.
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

    /// Makes an exchange, and compares this daemon's version vector with those of the trusted daemons on the remote
    /// that are no peers. Empty while sync through git is off.
    pub(crate) async fn verify(&self) -> Vec<Compared> {
        let Some(remote) = self.0.state().remote.clone() else { return Vec::new() };
        if !self.is_on() {
            return Vec::new();
        }
        let exchanged = tokio::time::timeout(thrum_core::limits::VERIFY, self.force()).await;
        let late = || Err(Error::new(ErrorKind::TryAgain, "the remote did not answer in time"));
        if let Err(error) = exchanged.unwrap_or_else(|_| late()) {
            let (name, error) = (format!("git remote {remote}"), Some(error.message));
            let status = Verdict::Unreachable;
            return vec![Compared {
                name,
                daemon_id: String::new(),
                status,
                differences: Vec::new(),
                missing: Vec::new(),
                error,
            }];
        }
        let shown = self.0.shown.borrow().clone();
        let own = shown.report.heads.unwrap_or_default();
        let peers = self.0.peers.list();
        let others = shown.report.daemons.into_iter().filter(|(id, _)| !peers.iter().any(|peer| peer.daemon_id == *id));
        let distrusted = self.reach().distrusted;
        let compared = others.filter_map(|(daemon_id, seen)| {
            let mut differences = own.differences(&seen.heads?);
            // What others hold of a daemon that is not trusted here stays there.
            differences.retain(|one| !distrusted.contains(&one.origin) || missing_there(one) > 0);
            let is_missing_here = differences.iter().any(|one| missing_here(one) > 0);
            let (status, error) = if differences.is_empty() {
                (Verdict::Equal, None)
            } else if is_missing_here {
                (Verdict::Differs, Some("it has events that it does not publish, or that cannot be read".to_owned()))
            } else {
                (Verdict::Waiting, Some("it takes the rest with its next exchange, or purges it then".to_owned()))
            };
            Some(Compared { name: seen.name, daemon_id, status, differences, missing: Vec::new(), error })
        });
        compared.collect()
    }

    /// The daemons that are reached through git, as of the last exchange, which may have been before a restart; empty
    /// while sync through git is off.
    pub(crate) fn reach(&self) -> GitReach {
        if !self.is_on() {
            return GitReach::default();
        }
        let state = self.0.state();
        let of = |wanted: fn(&Known) -> bool| {
            state.known.iter().filter(move |(_, known)| wanted(known)).map(|(id, _)| id.clone())
        };
        GitReach {
            trusted: of(|known| known.was_trusted && known.is_trusted != Some(false)).collect(),
            distrusted: of(|known| known.is_trusted == Some(false)).collect(),
            is_failing: self.0.shown.borrow().last_error.is_some(),
        }
    }

    /// The names of daemons whose events were stored once, by id, also while sync through git is off.
    pub(crate) fn names(&self) -> BTreeMap<String, String> {
        let state = self.0.state();
        let stored = state.known.iter().filter(|(_, known)| known.was_trusted);
        stored.map(|(id, known)| (id.clone(), known.name.clone())).collect()
    }

    /// Returns `true` if sync through git is on.
    pub(crate) fn is_on(&self) -> bool {
        !self.0.is_local_only && self.0.state().remote.is_some()
    }

    /// What is known of sync through git.
    pub(crate) fn status(&self) -> GitStatus {
        let state = self.0.state().clone();
        let shown = self.0.shown.borrow().clone();
        let is_on = self.is_on();
        let own = shown.report.heads.clone().unwrap_or_default();
        let daemons = shown.report.daemons.iter().filter(|(_, seen)| is_on && seen.state != SeenState::Waiting);
        let daemons = daemons.map(|(id, seen)| {
            let differences = seen.heads.as_ref().map(|heads| own.differences(heads)).unwrap_or_default();
            let (word, reason) = word(&seen.state);
            let bad = seen.bad_segments.as_ref().map(|(count, last)| format!("{count} segments are not used: {last}"));
            GitDaemon {
                name: seen.name.clone(),
                daemon_id: id.clone(),
                fingerprint: fingerprint(id),
                state: word,
                reason: reason.or(bad),
                published_at: seen.at,
                missing_here: differences.iter().map(missing_here).fold(0, u64::saturating_add),
                missing_there: differences.iter().map(missing_there).fold(0, u64::saturating_add),
                purged: seen.purged,
            }
        });
        let absent = state.known.iter().filter(|(id, known)| {
            let is_trusted = known.was_trusted && known.is_trusted != Some(false);
            is_on && is_trusted && shown.report.heads.is_some() && !shown.report.daemons.contains_key(*id)
        });
        let absent = absent.map(|(id, known)| GitDaemon {
            name: known.name.clone(),
            daemon_id: id.clone(),
            fingerprint: fingerprint(id),
            state: "absent",
            reason: Some("it is no longer on the remote, or uses another git.ref_prefix".to_owned()),
            published_at: None,
            missing_here: 0,
            missing_there: 0,
            purged: 0,
        });
        let daemons = daemons.chain(absent).collect();
        let waiting = state.known.iter().filter(|(id, _)| {
            is_on && shown.report.daemons.get(*id).is_some_and(|seen| seen.state == SeenState::Waiting)
        });
        let waiting = waiting.map(|(id, known)| Waiting {
            name: known.name.clone(),
            daemon_id: id.clone(),
            fingerprint: fingerprint(id),
            first_seen: known.first_seen,
        });
        GitStatus {
            state: match (is_on, &shown.last_error, state.exchanged_at) {
                (false, ..) => "off",
                (true, Some(_), _) => "failing",
                (true, None, Some(_)) => "ok",
                (true, None, None) => "starting",
            },
            encrypted: state.encrypts,
            own_fingerprint: fingerprint(&self.0.me.daemon_id),
            interval: shown.interval.unwrap_or(limits::INTERVAL).as_secs(),
            last_exchange_at: state.exchanged_at,
            last_published_at: state.published_at,
            last_error: shown.last_error.as_ref().filter(|_| is_on).map(|error| error.message.clone()),
            next_exchange_at: shown.next.filter(|_| is_on),
            events_stored: shown.applied,
            events_published: shown.published,
            daemons,
            waiting: waiting.collect(),
            remote: state.remote.filter(|_| is_on),
        }
    }
}

/// How many events of a log are missing here, and were not purged here.
const fn missing_here(one: &Difference) -> u64 {
    one.there.saturating_sub(one.here.saturating_add(one.purged_here))
}

/// How many events of a log are missing there, and were not purged there.
const fn missing_there(one: &Difference) -> u64 {
    one.here.saturating_sub(one.there.saturating_add(one.purged_there))
}

/// The word for a state, and the reason for it.
fn word(state: &SeenState) -> (&'static str, Option<String>) {
    match state {
        SeenState::Waiting => ("waiting", None),
        SeenState::Distrusted => ("distrusted", None),
        SeenState::Trusted => ("trusted", None),
        SeenState::Unusable(why) => ("unusable", Some(why.to_string())),
        SeenState::OverQuota(over) => ("over_quota", Some(over.to_string())),
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
            *state = next;
            Ok(())
        })
        .await
    }

    /// The directory of our repository.
    fn dir(&self) -> PathBuf {
        self.repo.var().join("git")
    }

    /// Whose events are stored: paired daemons, and those that a person has trusted.
    fn trust(&self, state: &State) -> Trust {
        let paired = self.peers.list().into_iter().map(|peer| (peer.daemon_id, peer.name));
        let decided = |wanted: bool| state.known.iter().filter(move |(_, known)| known.is_trusted == Some(wanted));
        let trusted = decided(true).map(|(id, known)| (id.clone(), known.name.clone()));
        let distrusted: BTreeSet<String> = decided(false).map(|(id, _)| id.clone()).collect();
        let may_be_trusted = |id: &String| thrum_core::DaemonId::parse(id).is_some() && !distrusted.contains(id);
        Trust {
            trusted: paired.chain(trusted).filter(|(id, _)| may_be_trusted(id)).collect(),
            numbers: state.known.iter().map(|(id, known)| (id.clone(), known.number)).collect(),
            distrusted,
            encrypts: state.encrypts,
        }
    }

    /// Notes what an exchange has seen.
    fn note(&self, report: &Report) -> Result<(), Error> {
        let mut state = self.state();
        let mut next = state.clone();
        for (id, seen) in &report.daemons {
            if !seen.name.is_empty() {
                let known = next.known.entry(id.clone()).or_insert_with(|| Known {
                    name: String::new(),
                    first_seen: System.now(),
                    is_trusted: None,
                    number: 0,
                    was_trusted: false,
                });
                known.name.clone_from(&seen.name);
                known.number = known.number.max(seen.number);
                known.was_trusted |= seen.state == SeenState::Trusted;
            }
        }
        let now = Some(System.now());
        next.exchanged_at = now;
        if report.published.is_some() {
            next.published_at = now;
        }
        next.save(&self.repo)?;
        *state = next;
        Ok(())
    }
}

/// Returns `true` for a URL with a password in it.
fn has_password(remote: &str) -> bool {
    let authority = remote.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    authority.and_then(|authority| authority.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'))
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

/// Refuses a remote that everybody can read.
fn check_exposure(shared: &Shared, remote: &str) -> Result<(), Error> {
    open_repository(shared, remote)?;
    let top = shared.repo.main_root();
    let addresses = thrum_git::addresses(top, remote, &shared.stop)?;
    match thrum_git::exposure(&shared.dir(), top, &addresses, &shared.stop)? {
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
fn open_repository(shared: &Shared, remote: &str) -> Result<Repository, Error> {
    let place = Remote { name: remote.to_owned(), prefix: Config::current(&shared.repo).git_prefix() };
    Ok(Repository::open(&shared.dir(), shared.repo.main_root(), place, shared.stop.clone())?)
}

/// What one configuration of the exchange needs.
struct Running {
    remote: String,
    prefix: String,
    /// Where the remote was when it was configured.
    addresses: Vec<String>,
    exchange: Exchange,
    checked: Option<Instant>,
}

async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let began = Instant::now();
    let mut schedule = Schedule::new(limits::INTERVAL);
    let mut commits = shared.storage.commits();
    let mut running: Option<Running> = None;
    let mut seen = published_from(&commits.borrow_and_update(), &shared);
    loop {
        if shared.is_local_only || shared.state().remote.is_none() {
            running = None;
            schedule = Schedule::new(limits::INTERVAL);
            *shared.is_requested.lock().unwrap_or_else(PoisonError::into_inner) = false;
            // Who waits for an exchange need not wait any longer, and what was seen on the remote is past.
            shared.shown.send_modify(|shown| {
                let begun = shown.begun + 1;
                let (applied, published) = (shown.applied, shown.published);
                *shown = Shown { begun, ended: begun, applied, published, ..Shown::default() };
            });
            tokio::select! {
                () = shared.wake.notified() => continue,
                () = shutdown.stopping() => return,
            }
        }
        if std::mem::take(&mut *shared.is_requested.lock().unwrap_or_else(PoisonError::into_inner)) {
            schedule.request();
        }
        let latest = published_from(&commits.borrow_and_update(), &shared);
        if latest > seen {
            seen = latest;
            schedule.wrote(began.elapsed());
            let next = System.now().plus(schedule.due().saturating_sub(began.elapsed()));
            shared.shown.send_modify(|shown| shown.next = Some(next));
        }
        let wait = schedule.due().saturating_sub(began.elapsed());
        if !wait.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = shared.wake.notified() => {}
                changed = commits.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = shutdown.stopping() => return,
            }
            continue;
        }
        schedule.begin();
        shared.shown.send_modify(|shown| shown.begun += 1);
        let repo = shared.repo.clone();
        if let Ok(interval) = blocking(move || Ok(Config::current(&repo).git_interval())).await {
            schedule.set_interval(interval);
            shared.shown.send_modify(|shown| shown.interval = Some(interval));
        }
        let (work, ready) = (Arc::clone(&shared), running.take());
        let outcome = blocking(move || Ok(exchange(&work, ready))).await;
        let result = match outcome {
            Ok((ready, result)) => {
                running = ready;
                result
            }
            Err(error) => Err(error),
        };
        schedule.end(result.is_ok(), began.elapsed());
        let next = System.now().plus(schedule.due().saturating_sub(began.elapsed()));
        show(&shared, result, next);
    }
}

/// The highest sequence of the events that are to be published soon: our own, and those of peers.
fn published_from(commit: &thrum_core::exchange::Commit, shared: &Shared) -> u64 {
    let peers = shared.peers.list();
    let is_published = |source: &str| source.is_empty() || peers.iter().any(|peer| peer.daemon_id == source);
    commit.by_source.iter().filter(|(source, _)| is_published(source)).map(|(_, latest)| *latest).max().unwrap_or(0)
}

/// Makes one exchange. Blocks on git and on the log.
fn exchange(shared: &Arc<Shared>, ready: Option<Running>) -> (Option<Running>, Result<Report, Error>) {
    let state = shared.state().clone();
    let Some(remote) = state.remote.clone() else {
        return (None, Err(Error::new(ErrorKind::Unavailable, "sync through git was switched off")));
    };
    let result = (|| {
        shared.hold.check()?;
        let prefix = Config::current(&shared.repo).git_prefix();
        let addresses = thrum_git::addresses(shared.repo.main_root(), &remote, &shared.stop)?;
        let is_same =
            |running: &Running| running.remote == remote && running.prefix == prefix && running.addresses == addresses;
        let mut running = match ready.filter(is_same) {
            Some(running) => running,
            None => {
                let repository = open_repository(shared, &remote)?;
                Repository::remove_locks(&shared.dir())?;
                let log = Arc::clone(&shared.storage) as Arc<dyn Log>;
                let exchange = Exchange::new(repository, log, shared.me.clone(), Box::new(System));
                Running { remote: remote.clone(), prefix, addresses, exchange, checked: None }
            }
        };
        if !state.encrypts && running.checked.is_none_or(|checked| checked.elapsed() > limits::EXPOSURE) {
            check_exposure(shared, &remote)?;
            running.checked = Some(Instant::now());
        }
        let report = running.exchange.run(&shared.trust(&state))?;
        shared.note(&report)?;
        Ok::<_, Error>((running, report))
    })();
    match result {
        Ok((running, report)) => (Some(running), Ok(report)),
        Err(error) => (None, Err(error)),
    }
}

/// Shows the result of an exchange.
fn show(shared: &Shared, result: Result<Report, Error>, next: Timestamp) {
    shared.shown.send_modify(|shown| {
        shown.ended = shown.begun;
        shown.next = Some(next);
        match result {
            Ok(report) => {
                if shown.last_error.take().is_some() {
                    tracing::info!("sync through git works again");
                }
                shown.applied += report.applied.applied as u64;
                if let Some(published) = report.published {
                    shown.published += published.events;
                }
                let (stored, published) = (report.applied.applied, report.published.map_or(0, |it| it.events));
                if stored > 0 || published > 0 {
                    tracing::info!(stored, published, "exchanged events through git");
                }
                shown.report = report;
            }
            Err(error) => {
                let is_news = shown.last_error.as_ref().is_none_or(|last| last.message != error.message);
                if is_news && shared.state().remote.is_some() {
                    tracing::warn!(%error, "sync through git failed");
                }
                shown.last_error = Some(error);
            }
        }
    });
}
