//! The task that makes the exchanges: when one is due, what it needs, and what it leaves in the state.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use thrum_core::{Ambient, Error, ErrorKind, Timestamp};
use thrum_git::{Exchange, Report, Repository, Schedule, SeenState, Trust, limits};
use thrum_sync::{Log, blocking::blocking};

use super::{
    Shared, Shown, check_exposure,
    former::{self, Attempt},
    history, open_repository,
    places::Place,
    state::{Known, State},
};
use crate::{ambient::System, config::Config, shutdown::Shutdown};

/// What one configuration of the exchange needs.
struct Running {
    remote: String,
    prefix: String,
    /// Where the remote was when it was configured.
    addresses: Vec<String>,
    exchange: Exchange,
    checked: Option<Instant>,
}

/// Exchanges events with the remote when it is due, until the daemon stops.
pub(super) async fn run(shared: Arc<Shared>, shutdown: Shutdown) {
    let began = Instant::now();
    let mut schedule = Schedule::new(limits::INTERVAL);
    let mut commits = shared.storage.commits();
    let mut running: Option<Running> = None;
    let mut seen = published_from(&commits.borrow_and_update(), &shared);
    loop {
        if shared.kept_here.is_some() || shared.state().remote.is_none() {
            running = None;
            schedule = Schedule::new(limits::INTERVAL);
            shared.is_requested.store(false, Ordering::SeqCst);
            // Let callers that wait for an exchange return, and hide what the last exchange has shown.
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
        if shared.is_requested.swap(false, Ordering::SeqCst) {
            schedule.request();
        }
        let latest = published_from(&commits.borrow_and_update(), &shared);
        if latest > seen {
            seen = latest;
            schedule.wrote(began.elapsed());
            let next = next_exchange(&schedule, began);
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
        let is_requested = schedule.is_requested();
        schedule.begin();
        shared.shown.send_modify(|shown| shown.begun += 1);
        let repo = shared.repo.clone();
        if let Ok(interval) = blocking(move || Ok(Config::current(&repo).git_interval())).await {
            schedule.set_interval(interval);
            shared.shown.send_modify(|shown| shown.interval = Some(interval));
        }
        let (work, ready) = (Arc::clone(&shared), running.take());
        let outcome = blocking(move || Ok(exchange(&work, ready, is_requested))).await;
        let result = match outcome {
            Ok((ready, result)) => {
                running = ready;
                result
            }
            Err(error) => Err(error),
        };
        schedule.end(result.is_ok(), began.elapsed());
        if result.as_ref().is_ok_and(|report| report.purge_goes_on) {
            // What the purge removes leaves the remote soon.
            schedule.wrote(began.elapsed());
        }
        show(&shared, result, next_exchange(&schedule, began));
    }
}

/// When the next exchange is due, for a schedule whose clock started at `began`.
fn next_exchange(schedule: &Schedule, began: Instant) -> Timestamp {
    System.now().plus(schedule.due().saturating_sub(began.elapsed()))
}

/// The highest sequence of the events that are to be published soon: our own, and those of peers.
fn published_from(commit: &thrum_core::exchange::Commit, shared: &Shared) -> u64 {
    let peers = shared.peers.list();
    let is_published = |source: &str| source.is_empty() || peers.iter().any(|peer| peer.daemon_id == source);
    commit.by_source.iter().filter(|(source, _)| is_published(source)).map(|(_, latest)| *latest).max().unwrap_or(0)
}

/// Makes one exchange. Blocks on git and on the log.
fn exchange(
    shared: &Arc<Shared>,
    ready: Option<Running>,
    is_requested: bool,
) -> (Option<Running>, Result<Report, Error>) {
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
                let repository = open_repository(shared, &remote, prefix.clone())?;
                Repository::remove_locks(&shared.dir())?;
                let log = Arc::clone(&shared.storage) as Arc<dyn Log>;
                let exchange = Exchange::new(Box::new(repository), log, shared.me.clone(), Box::new(System));
                Running { remote: remote.clone(), prefix, addresses, exchange, checked: None }
            }
        };
        if !state.encrypts && running.checked.is_none_or(|checked| checked.elapsed() > limits::EXPOSURE) {
            check_exposure(shared, &remote, &running.addresses)?;
            running.checked = Some(Instant::now());
        }
        let report = running.exchange.run(&shared.trust(&state))?;
        shared.note(&report, Place::new(&remote, &running.addresses, &running.prefix))?;
        former::remove(shared, if is_requested { Attempt::Now } else { Attempt::WhenDue })?;
        Ok::<_, Error>((running, report))
    })();
    match result {
        Ok((running, report)) => {
            shared.history().succeeded(System.now(), &report, &shared.hold);
            (Some(running), Ok(report))
        }
        Err(error) => {
            // The end of the daemon, or of sync through git, also ends an exchange.
            if !shared.stop.is_set() && shared.state().remote.is_some() {
                shared.history().failed(System.now(), &error, &shared.hold);
            }
            (None, Err(error))
        }
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

impl Shared {
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
            vouched: state.vouched.clone(),
            distrusted,
            encrypts: state.encrypts,
        }
    }

    /// Notes what an exchange has seen, and the place where this daemon publishes.
    fn note(&self, report: &Report, place: Place) -> Result<(), Error> {
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
                    is_waiting: false,
                    is_gone: false,
                });
                known.name.clone_from(&seen.name);
                known.number = known.number.max(seen.number);
                known.was_trusted |= seen.state == SeenState::Trusted;
                known.is_waiting = seen.state == SeenState::Waiting;
            }
        }
        for (id, known) in &mut next.known {
            known.is_gone = known.counts_as_trusted() && !report.daemons.contains_key(id);
        }
        next.vouched.extend(report.vouched.clone());
        let known = &next.known;
        next.vouched.retain(|id, vouched| known.contains_key(id) && !vouched.is_empty());
        next.places.publishes_at(place);
        let now = Some(System.now());
        next.exchanged_at = now;
        if report.published.is_some() {
            next.published_at = now;
        }
        next.save(&self.repo)?;
        let changes = history::changes(&state, &next);
        *state = next;
        drop(state);
        self.history().add(System.now(), changes, &self.hold);
        Ok(())
    }
}
