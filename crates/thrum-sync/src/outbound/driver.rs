//! Drives one peer's replicator: turns events into its inputs, and its actions into I/O.

use std::{
    collections::{BTreeSet, VecDeque},
    future::pending,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use thrum_core::{
    Error, ErrorKind,
    exchange::{Applied, Batch, Checkpoint, Commit},
    limits,
    quota::OverQuota,
};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
    time::{sleep_until, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Outbound, link::Link, path};
use crate::{
    Now,
    addresses::changed,
    blocking::blocking,
    environment::lock,
    intake::{self, Taken},
    protocol::{
        AuthState,
        wire::{self, Pulled, Pushed, Served},
    },
    registry::Peer,
    replicator::{Action, Input, Replicator, ReplicatorStatus},
    transport::{Condition, Path},
};

/// The handle to a running driver.
pub(super) struct Driver {
    signals: Arc<Signals>,
    status: watch::Receiver<ReplicatorStatus>,
    path: watch::Receiver<Option<Path>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// The side that contacts the other first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum First {
    /// This daemon dials.
    Dial,
    /// The peer calls once it has stored its new token. If it does not call within a second, this daemon dials.
    WaitForCall,
}

/// Signals from other parts to a driver. There is one slot per kind, which merges all signals until the driver reads
/// it.
#[derive(Default)]
pub(crate) struct Signals {
    slots: Mutex<Slots>,
    set: Notify,
}

#[derive(Default)]
struct Slots {
    notified: Option<u64>,
    /// The first events that were sent along since the driver last read the slots.
    pushed: Option<Pushed>,
    called: bool,
    stopping: bool,
    acknowledged: Option<u64>,
    lacks: bool,
    force: Option<u64>,
    compare: Option<u64>,
    reachable: bool,
    moved: bool,
}

impl Signals {
    pub(crate) fn notified(&self, latest: u64, pushed: Option<Pushed>) {
        self.put(|slots| {
            slots.notified = slots.notified.max(Some(latest));
            slots.pushed = slots.pushed.take().or(pushed);
        });
    }

    pub(crate) fn called(&self) {
        self.put(|slots| (slots.called, slots.stopping) = (true, false));
    }

    /// Signals that the peer said that it is stopping, after any call so far.
    pub(crate) fn stopping(&self) {
        self.put(|slots| slots.stopping = true);
    }

    /// Signals that the peer's address changed.
    pub(crate) fn moved(&self) {
        self.put(|slots| slots.moved = true);
    }

    /// Signals that the peer can be reached now, regardless of the result of earlier attempts.
    pub(crate) fn reachable(&self) {
        self.put(|slots| slots.reachable = true);
    }

    pub(crate) fn acknowledged(&self, upto: u64) {
        self.put(|slots| slots.acknowledged = Some(upto));
    }

    /// Signals that the peer lacks an event that was sent as a reference.
    pub(crate) fn lacks(&self) {
        self.put(|slots| slots.lacks = true);
    }

    pub(crate) fn force(&self, ticket: u64) {
        self.put(|slots| slots.force = slots.force.max(Some(ticket)));
    }

    pub(crate) fn compare(&self, ticket: u64) {
        self.put(|slots| slots.compare = slots.compare.max(Some(ticket)));
    }

    fn put(&self, set: impl FnOnce(&mut Slots)) {
        set(&mut lock(&self.slots));
        self.set.notify_one();
    }

    fn take(&self) -> impl Iterator<Item = Input> + use<> {
        let slots = std::mem::take(&mut *lock(&self.slots));
        let pushed = slots.pushed.and_then(|pushed| read_pushed(&pushed));
        [
            slots.acknowledged.map(Input::Acknowledged),
            slots.lacks.then_some(Input::PeerLacks),
            slots.called.then_some(Input::Authenticated),
            slots.stopping.then_some(Input::Stopping),
            slots.reachable.then_some(Input::NetworkUp),
            slots.moved.then_some(Input::Moved),
            slots.notified.map(|latest| Input::Notified { latest, pushed }),
            slots.force.map(Input::Force),
            slots.compare.map(Input::Compare),
        ]
        .into_iter()
        .flatten()
    }
}

impl Driver {
    pub(super) fn start(outbound: &Arc<Outbound>, peer: Peer, first: First) -> Self {
        let env = &outbound.env;
        let signals = Arc::new(Signals::default());
        let stop = env.stop.child_token();
        let machine = Replicator::new(&peer.daemon_id, None, env.clock.now());
        let (tell, status) = watch::channel(machine.status().clone());
        let (show, path) = watch::channel(None);
        env.tasks.spawn(path::follow(Arc::clone(outbound), peer.daemon_id.clone(), status.clone(), show, stop.clone()));
        let span = tracing::info_span!("driver", peer = %peer.name);
        let run = Run {
            outbound: Arc::clone(outbound),
            peer,
            first,
            signals: Arc::clone(&signals),
            tell,
            stop: stop.clone(),
        };
        let task = env.tasks.spawn(run.run().instrument(span));
        Self { signals, status, path, stop, task }
    }

    pub(super) fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.signals)
    }

    pub(super) fn status(&self) -> watch::Receiver<ReplicatorStatus> {
        self.status.clone()
    }

    /// Returns the last measured route to the peer; `None` while disconnected, on loopback, or if unknown.
    pub(super) fn path(&self) -> Option<Path> {
        self.path.borrow().clone()
    }

    /// Stops the driver. Returns when it has ended, and no batch is being stored any more.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }

    /// Stops the driver without waiting. The tracker still owns the task.
    pub(super) fn abandon(self) {
        self.stop.cancel();
    }
}

struct Run {
    outbound: Arc<Outbound>,
    peer: Peer,
    first: First,
    signals: Arc<Signals>,
    tell: watch::Sender<ReplicatorStatus>,
    stop: CancellationToken,
}

/// A batch as the peer served it.
struct ServedBatch {
    /// The peer's log; empty for a legacy peer.
    log: String,
    checkpoint: u64,
    checkpoint_event: String,
    events: Vec<Served>,
}

/// A batch being stored.
type Storing = JoinHandle<Result<Stored, Error>>;

/// What became of a batch.
enum Stored {
    Applied {
        applied: Applied,
        over: Option<OverQuota>,
        /// Origins of events that were held already and were sent with their bodies nevertheless.
        repeated: BTreeSet<String>,
    },
    /// It refers to an event that this log lacks.
    Lacks,
    /// The batch before it was not stored, the peer is over its quota, or the driver was stopped.
    NotApplied,
}

/// A check of the peer's quota.
type QuotaCheck = JoinHandle<Result<Option<OverQuota>, Error>>;

impl Run {
    async fn run(self) {
        let (outbound, env) = (&self.outbound, &self.outbound.env);
        let Some(checkpoint) = self.checkpoint().await else { return };
        let mut ambient = env.ambient();
        let now = env.clock.now();
        let mut machine =
            Replicator::new(&self.peer.daemon_id, checkpoint, now).with_sync_interval(env.sync_interval, now);
        if self.first == First::WaitForCall {
            machine.wait_for_call(env.clock.now());
        }
        let mut commits = env.commits.clone();
        let mut condition =
            self.peer.kind().and_then(|kind| outbound.addresses.transport(kind)).map(|transport| transport.condition());
        let mut link: Option<Link> = None;
        // In the order of the peer's log.
        let mut storing: VecDeque<Storing> = VecDeque::new();
        // Receives `true` once the batch that was passed on last is stored and the next one may be stored.
        let mut is_stored: Option<oneshot::Receiver<bool>> = None;
        let mut ends = 0;
        let mut quota_check: Option<QuotaCheck> = Some(self.check_quota());
        let mut check_again = pin!(tokio::time::sleep(Duration::ZERO));
        // Read the peer only after its quota was checked.
        let unknown = Input::Quota(quota_checked(&mut quota_check).await);
        let mut inputs = VecDeque::from([unknown, self.news(&mut commits)]);
        loop {
            while let Some(input) = inputs.pop_front() {
                for action in machine.step(input, env.clock.now(), &mut *ambient) {
                    match action {
                        Action::Dial => {
                            // Use the current entry, because address or node may have changed.
                            let peer = env.peer(&self.peer.daemon_id);
                            link = peer.map(|peer| Link::open(Arc::clone(outbound), peer));
                        }
                        Action::Send { id, call } => {
                            if let Some(link) = &link {
                                link.send(id, call);
                            }
                        }
                        Action::Close => link = None,
                        Action::Apply { log, checkpoint, checkpoint_event, events } => {
                            let before = is_stored.take().filter(|_| !storing.is_empty());
                            let (tell, told) = oneshot::channel();
                            is_stored = Some(told);
                            let batch = ServedBatch { log, checkpoint, checkpoint_event, events };
                            storing.push_back(self.store(batch, before, tell));
                        }
                        Action::NoteWelcome => self.record_removal(false).await,
                        Action::NoteRemoved => self.record_removal(true).await,
                    }
                }
            }
            if let Some(is_reached) = machine.is_reached() {
                outbound.addresses.reachability.set_reached(&self.peer.daemon_id, is_reached);
                if is_reached {
                    // A connection that was lent while we dialled is not needed.
                    outbound.loans.drop_waiting(&self.peer.daemon_id);
                }
            }
            if machine.status().ends != ends {
                ends = machine.status().ends;
                self.heard();
            }
            self.tell.send_if_modified(|published| {
                let changed = published != machine.status();
                if changed {
                    published.clone_from(machine.status());
                }
                changed
            });
            let wake = env.clock.instant(machine.wait_until());
            tokio::select! {
                () = self.stop.cancelled() => break,
                event = next_event(&mut link) => {
                    let has_failed = matches!(event, Input::ConnectFailed(_));
                    inputs.push_back(event);
                    // The peer lent a connection while we dialled.
                    if has_failed && outbound.loans.is_waiting(&self.peer.daemon_id) {
                        inputs.push_back(Input::NetworkUp);
                    }
                }
                stored = finished(&mut storing) => {
                    inputs.extend(stored);
                    check_again.as_mut().reset(tokio::time::Instant::now() + limits::QUOTA_LOOK);
                }
                over = quota_checked(&mut quota_check), if quota_check.is_some() => {
                    inputs.push_back(Input::Quota(over));
                    check_again.as_mut().reset(tokio::time::Instant::now() + limits::QUOTA_LOOK);
                }
                // The quota may have been raised, or space freed.
                () = &mut check_again, if machine.status().exchange.over_quota.is_some() && quota_check.is_none() => quota_check = Some(self.check_quota()),
                changed = commits.changed() => match changed {
                    Ok(()) => inputs.push_back(self.news(&mut commits)),
                    // The log was closed, so this daemon is stopping.
                    Err(_) => break,
                },
                // The network has come up, or stayed up with changed addresses.
                () = up(&mut condition) => inputs.push_back(Input::Moved),
                () = self.signals.set.notified() => inputs.extend(self.signals.take()),
                () = sleep_until(wake) => inputs.push_back(Input::Timer),
            }
        }
        // Not if the peer was removed. Nothing depends on whether it arrives.
        if let Some(link) = link
            && env.stop.is_cancelled()
            && machine.takes_goodbye()
        {
            let _ = timeout(limits::GOODBYE, link.say_goodbye()).await;
        }
        for storing in storing {
            let _ = storing.await;
        }
    }

    /// Checks a batch, and stores it once the batch `before` it is stored. Sends to `tell` whether the next one may be
    /// stored.
    fn store(
        &self,
        served: ServedBatch,
        before: Option<oneshot::Receiver<bool>>,
        tell: oneshot::Sender<bool>,
    ) -> Storing {
        let (store, peer) = (Arc::clone(&self.outbound.env.log), self.peer.daemon_id.clone());
        let (log, from) = (Arc::clone(&store), peer.clone());
        let mut commits = self.outbound.env.commits.clone();
        let stop = self.stop.clone();
        tokio::spawn(async move {
            let served = Arc::new(served);
            let patience = tokio::time::Instant::now() + limits::REFERENCE_PATIENCE;
            let taken = loop {
                commits.mark_unchanged();
                let (served, log, peer) = (Arc::clone(&served), Arc::clone(&log), from.clone());
                let taken = blocking(move || {
                    let ServedBatch { log: log_id, checkpoint, events, .. } = &*served;
                    intake::take(&peer, log_id, *checkpoint, events, &*log)
                });
                let taken = taken.await?;
                // An event that is referred to may be on its way from another peer.
                if taken.is_some() || !matches!(timeout_at(patience, commits.changed()).await, Ok(Ok(()))) {
                    break taken;
                }
            };
            let Some(Taken { batch, referred, repeated }) = taken else { return Ok(Stored::Lacks) };
            // Takes no thread while it waits, because others need them, too.
            let may_store = match before {
                Some(before) => before.await == Ok(true),
                None => true,
            };
            if !may_store || stop.is_cancelled() {
                return Ok(Stored::NotApplied);
            }
            let stored = blocking(move || {
                let stored = store.apply(Batch { checkpoint_event: served.checkpoint_event.clone(), ..batch })?;
                let applied = Applied { referred, skipped: stored.skipped + referred, ..stored };
                // Ignore a failed check; the next batch with new events triggers another one.
                let over = if applied.applied > 0 { store.over_quota(&[&peer]).unwrap_or_default() } else { None };
                Ok((applied, over))
            });
            let (applied, over) = stored.await?;
            // Sending fails if this is the last batch: then nothing waits for it.
            let _ = tell.send(over.is_none());
            Ok(Stored::Applied { applied, over, repeated })
        })
    }

    fn check_quota(&self) -> QuotaCheck {
        let (log, id) = (Arc::clone(&self.outbound.env.log), self.peer.daemon_id.clone());
        tokio::task::spawn_blocking(move || log.over_quota(&[&id]))
    }

    /// Returns the latest commit to announce; excludes events that the peer itself sent.
    fn news(&self, commits: &mut watch::Receiver<Commit>) -> Input {
        Input::Commit(commits.borrow_and_update().latest_not_from(&self.peer.daemon_id))
    }

    /// Reads the peer's checkpoint. Reports disk errors and tries again. Returns `None` if the driver was stopped.
    async fn checkpoint(&self) -> Option<Option<Checkpoint>> {
        let mut pause = limits::BACKOFF_FIRST;
        loop {
            let (log, id) = (Arc::clone(&self.outbound.env.log), self.peer.daemon_id.clone());
            match blocking(move || log.checkpoint(&id)).await {
                Ok(checkpoint) => return Some(checkpoint),
                Err(error) => {
                    tracing::error!(peer = %self.peer.name, %error, "cannot read the checkpoint of a peer");
                    self.tell.send_modify(|status| status.exchange.last_error = Some(error.message));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(limits::BACKOFF_LAST),
            }
        }
    }

    /// Records whether the peer has removed us. Durable on return unless the disk fails, so that the status published
    /// afterwards survives a restart.
    async fn record_removal(&self, removed: bool) {
        let noted = self.auth(
            move |auth, id, _| if removed { auth.registry.removed_us(id) } else { auth.registry.token_worked(id) },
        );
        // The daemon's panic hook logs a panic, and the record is repeated the next time.
        let _ = noted.await;
    }

    /// Records contact with the peer, without waiting. Reaches the disk at most once per [`limits::SYNC_INTERVAL`].
    fn heard(&self) {
        drop(self.auth(|auth, id, now| auth.registry.heard(id, now)));
    }

    /// Changes the registry on the blocking pool.
    fn auth(
        &self,
        change: impl FnOnce(&mut AuthState, &str, Now) -> Result<(), Error> + Send + 'static,
    ) -> JoinHandle<()> {
        let (env, id) = (Arc::clone(&self.outbound.env), self.peer.daemon_id.clone());
        let stopped = self.stop.clone();
        self.outbound.env.tasks.spawn_blocking(move || {
            let now = env.clock.now();
            let mut auth = env.auth();
            // Ignore the change if this driver was stopped or replaced.
            if !stopped.is_cancelled()
                && let Err(error) = change(&mut auth, &id, now)
            {
                tracing::warn!(%error, "cannot store the state of a peer");
            }
        })
    }
}

/// Decodes events that were sent along with an announcement. `None` if they cannot be read; the pull brings them again,
/// and the error with them.
fn read_pushed(pushed: &Pushed) -> Option<(u64, Pulled)> {
    wire::read_pulled(pushed.line.as_bytes(), 0).ok().map(|pulled| (pushed.after, pulled))
}

/// Waits until the network has come up, or has stayed up with changed addresses.
async fn up(condition: &mut Option<watch::Receiver<Condition>>) {
    let Some(condition) = condition else { return pending().await };
    loop {
        changed(condition).await;
        if *condition.borrow_and_update() == Condition::Up {
            return;
        }
    }
}

async fn next_event(link: &mut Option<Link>) -> Input {
    match link {
        Some(open) => {
            let event = open.event().await;
            if matches!(event, Input::ConnectFailed(_) | Input::Disconnected(_) | Input::TooLong) {
                *link = None;
            }
            event
        }
        None => pending().await,
    }
}

/// Waits for the oldest batch being stored. Returns the input with its result, preceded by a quota input if the peer is
/// now over its quota.
async fn finished(storing: &mut VecDeque<Storing>) -> Vec<Input> {
    let Some(task) = storing.front_mut() else { return pending().await };
    let result = task.await;
    storing.pop_front();
    match result {
        // The quota comes first, so that no pull starts in between.
        Ok(Ok(Stored::Applied { applied, over, repeated })) => {
            let over = over.map(|over| Input::Quota(Some(over)));
            let repeated = Some(Input::Repeated(repeated)).filter(|_| applied.skipped > applied.referred);
            over.into_iter().chain(repeated).chain([Input::Applied(applied)]).collect()
        }
        Ok(Ok(Stored::Lacks)) => vec![Input::Lacks],
        Ok(Ok(Stored::NotApplied)) => vec![Input::NotApplied],
        Ok(Err(error)) => vec![Input::ApplyFailed(error)],
        Err(error) => vec![Input::ApplyFailed(Error::new(ErrorKind::Failed, error.to_string()))],
    }
}

/// Waits for a quota check. A failed check does not stop the peer from being read; the next batch with new events
/// triggers another one.
async fn quota_checked(quota_check: &mut Option<QuotaCheck>) -> Option<OverQuota> {
    let Some(task) = quota_check else { return pending().await };
    let result = task.await;
    *quota_check = None;
    result.ok().and_then(Result::ok).flatten()
}

/// Waits until a driver's status satisfies `done`. Returns `false` after `within`, or if the driver ended.
pub(crate) async fn reached(
    status: &mut watch::Receiver<ReplicatorStatus>,
    within: Duration,
    done: impl FnMut(&ReplicatorStatus) -> bool,
) -> bool {
    matches!(timeout(within, status.wait_for(done)).await, Ok(Ok(_)))
}
