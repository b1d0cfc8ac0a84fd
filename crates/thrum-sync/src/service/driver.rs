//! Drives one peer's replicator: turns what happens into inputs, and its actions into I/O.

use std::{
    collections::VecDeque,
    future::pending,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use thrum_core::{
    Fault,
    exchange::{Applied, Batch, Checkpoint, Commit},
    limits,
    quota::OverQuota,
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use super::{Inner, Repaired, heal, link::Link, listener::changed, lock, path};
use crate::{
    Now, intake,
    registry::Peer,
    replicator::{Action, Input, Replicator, State, Status},
    server::Desk,
    transport::{Condition, Path},
};

/// The handle to a running driver.
pub(super) struct Driver {
    signals: Arc<Signals>,
    status: watch::Receiver<Status>,
    path: watch::Receiver<Option<Path>>,
    repaired: watch::Receiver<Option<Repaired>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    healing: JoinHandle<()>,
}

/// Who speaks first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// We do.
    Dial,
    /// The peer, which is about to store the token that we are giving it; or we do a second later.
    WaitForCall,
}

/// What others have to say to a driver. One slot per kind: however many come, the driver reads the sum.
#[derive(Default)]
pub(super) struct Signals {
    slots: Mutex<Slots>,
    set: Notify,
    /// The peer says that something of its is missing here.
    differs: Arc<Notify>,
}

#[derive(Default)]
struct Slots {
    notified: Option<u64>,
    called: bool,
    acknowledged: Option<u64>,
    force: Option<u64>,
    compare: Option<u64>,
    reachable: bool,
    moved: bool,
}

impl Signals {
    pub(super) fn notified(&self, latest: u64) {
        self.put(|slots| slots.notified = slots.notified.max(Some(latest)));
    }

    pub(super) fn called(&self) {
        self.put(|slots| slots.called = true);
    }

    /// The peer has another address now.
    pub(super) fn moved(&self) {
        self.put(|slots| slots.moved = true);
    }

    /// The peer can be asked now, whatever the last attempts came to.
    pub(super) fn reachable(&self) {
        self.put(|slots| slots.reachable = true);
    }

    pub(super) fn acknowledged(&self, upto: u64) {
        self.put(|slots| slots.acknowledged = Some(upto));
    }

    pub(super) fn force(&self, ticket: u64) {
        self.put(|slots| slots.force = slots.force.max(Some(ticket)));
    }

    pub(super) fn differs(&self) {
        self.differs.notify_one();
    }

    pub(super) fn compare(&self, ticket: u64) {
        self.put(|slots| slots.compare = slots.compare.max(Some(ticket)));
    }

    fn put(&self, set: impl FnOnce(&mut Slots)) {
        set(&mut lock(&self.slots));
        self.set.notify_one();
    }

    fn take(&self) -> impl Iterator<Item = Input> + use<> {
        let slots = std::mem::take(&mut *lock(&self.slots));
        [
            slots.acknowledged.map(Input::Acknowledged),
            slots.called.then_some(Input::Authenticated),
            slots.reachable.then_some(Input::NetworkUp),
            slots.moved.then_some(Input::Moved),
            slots.notified.map(|latest| Input::Notified { latest }),
            slots.force.map(Input::Force),
            slots.compare.map(Input::Compare),
        ]
        .into_iter()
        .flatten()
    }
}

impl Driver {
    pub(super) fn start(inner: &Arc<Inner>, peer: Peer, first: First) -> Self {
        let signals = Arc::new(Signals::default());
        let stop = inner.stop.child_token();
        let machine = Replicator::new(&peer.daemon_id, None, inner.clock.now());
        let (tell, status) = watch::channel(machine.status().clone());
        let run = Run { inner: Arc::clone(inner), peer, first, signals: Arc::clone(&signals), tell, stop: stop.clone() };
        let (show, path) = watch::channel(None);
        inner.tasks.spawn(path::follow(Arc::clone(inner), run.peer.daemon_id.clone(), status.clone(), show, stop.clone()));
        let (tell, repaired) = watch::channel(None);
        let (id, hinted) = (run.peer.daemon_id.clone(), Arc::clone(&signals.differs));
        let healing = inner.tasks.spawn(heal::follow(Arc::clone(inner), id, status.clone(), hinted, tell, stop.clone()));
        let task = inner.tasks.spawn(run.run());
        Self { signals, status, path, repaired, stop, task, healing }
    }

    pub(super) fn signals(&self) -> Arc<Signals> {
        Arc::clone(&self.signals)
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// How packets travelled to the peer when that was last looked at; `None` while it is not connected.
    pub(super) fn path(&self) -> Option<Path> {
        self.path.borrow().clone()
    }

    /// What was missing when the peer last held other events than we for some rounds.
    pub(super) fn repaired(&self) -> Option<Repaired> {
        self.repaired.borrow().clone()
    }

    /// Stops and waits until nothing of it runs any more, the batch that is being stored included.
    pub(super) async fn end(self) {
        self.stop.cancel();
        let _ = tokio::join!(self.task, self.healing);
    }

    /// Stops without waiting. The task stays the tracker's.
    pub(super) fn abandon(self) {
        self.stop.cancel();
    }
}

struct Run {
    inner: Arc<Inner>,
    peer: Peer,
    first: First,
    signals: Arc<Signals>,
    tell: watch::Sender<Status>,
    stop: CancellationToken,
}

/// A batch on its way to the disk.
type Storing = JoinHandle<Result<(Applied, Option<OverQuota>), Fault>>;

/// A look at what is kept of the peer.
type Looking = JoinHandle<Result<Option<OverQuota>, Fault>>;

impl Run {
    async fn run(self) {
        let inner = &self.inner;
        let Some(checkpoint) = self.checkpoint().await else { return };
        let mut ambient = (inner.ambients)();
        let now = inner.clock.now();
        let mut machine = Replicator::new(&self.peer.daemon_id, checkpoint, now).every(inner.round, now);
        if self.first == First::WaitForCall {
            machine.wait_for_call(inner.clock.now());
        }
        let mut commits = inner.commits.clone();
        let mut condition = self.peer.kind().and_then(|kind| inner.transport(kind)).map(|transport| transport.condition());
        let mut link: Option<Link> = None;
        let mut storing: Option<Storing> = None;
        let mut ends = 0;
        let mut looking: Option<Looking> = Some(self.look());
        let mut look_again = pin!(tokio::time::sleep(Duration::ZERO));
        // It is read only once it is known that it may be.
        let unknown = Input::Quota(looked(&mut looking).await);
        let mut inputs = VecDeque::from([unknown, self.news(&mut commits)]);
        loop {
            while let Some(input) = inputs.pop_front() {
                for action in machine.step(input, inner.clock.now(), &mut *ambient) {
                    match action {
                        Action::Dial => {
                            // As it is now: its address or its node may have become others.
                            let peer = inner.desk().registry.get(&self.peer.daemon_id).cloned();
                            link = peer.map(|peer| Link::open(Arc::clone(inner), peer));
                        }
                        Action::Send { id, call } => {
                            if let Some(link) = &link {
                                link.send(id, call);
                            }
                        }
                        Action::Close => link = None,
                        Action::Apply { log, checkpoint, checkpoint_event, events } => {
                            let (store, peer) = (Arc::clone(&inner.log), self.peer.daemon_id.clone());
                            storing = Some(tokio::task::spawn_blocking(move || {
                                let batch = intake::batch(&peer, &log, checkpoint, events, &*store)?;
                                let applied = store.apply(Batch { checkpoint_event, ..batch })?;
                                // A look that fails says nothing; the next batch is followed by another one.
                                let over = if applied.applied > 0 { store.over_quota(&peer).unwrap_or_default() } else { None };
                                Ok((applied, over))
                            }));
                        }
                        Action::NoteWelcome => self.note(false).await,
                        Action::NoteRemoved => self.note(true).await,
                    }
                }
            }
            match machine.status().state {
                State::Unreachable => inner.ways.reached(&self.peer.daemon_id, false),
                State::Connected => inner.ways.reached(&self.peer.daemon_id, true),
                State::Connecting | State::RemovedUs | State::OverQuota => {}
            }
            if machine.status().ends != ends {
                ends = machine.status().ends;
                self.heard();
            }
            self.tell.send_if_modified(|shown| {
                let changed = shown != machine.status();
                if changed {
                    shown.clone_from(machine.status());
                }
                changed
            });
            let wake = inner.clock.instant(machine.wait_until());
            tokio::select! {
                () = self.stop.cancelled() => break,
                event = next_event(&mut link) => {
                    let has_failed = matches!(event, Input::ConnectFailed(_));
                    inputs.push_back(event);
                    // It came while we dialled.
                    if has_failed && inner.ways.has_lent(&self.peer.daemon_id) {
                        inputs.push_back(Input::NetworkUp);
                    }
                }
                stored = finished(&mut storing) => {
                    inputs.extend(stored);
                    look_again.as_mut().reset(tokio::time::Instant::now() + limits::QUOTA_LOOK);
                }
                over = looked(&mut looking), if looking.is_some() => {
                    inputs.push_back(Input::Quota(over));
                    look_again.as_mut().reset(tokio::time::Instant::now() + limits::QUOTA_LOOK);
                }
                // Somebody may have raised the quota, or made room.
                () = &mut look_again, if machine.status().over_quota.is_some() && looking.is_none() => looking = Some(self.look()),
                changed = commits.changed() => match changed {
                    Ok(()) => inputs.push_back(self.news(&mut commits)),
                    // The log is gone, and so will we be.
                    Err(_) => break,
                },
                // Also when it stayed up with another address.
                () = up(&mut condition) => inputs.push_back(Input::Moved),
                () = self.signals.set.notified() => inputs.extend(self.signals.take()),
                () = sleep_until(wake) => inputs.push_back(Input::Timer),
            }
        }
        drop(link);
        if let Some(storing) = storing {
            let _ = storing.await;
        }
    }

    fn look(&self) -> Looking {
        let (log, id) = (Arc::clone(&self.inner.log), self.peer.daemon_id.clone());
        tokio::task::spawn_blocking(move || log.over_quota(&id))
    }

    /// What there is to announce: nothing that the peer itself brought.
    fn news(&self, commits: &mut watch::Receiver<Commit>) -> Input {
        Input::Commit(commits.borrow_and_update().latest_not_from(&self.peer.daemon_id))
    }

    /// Where the peer was read up to. A disk that does not say is asked again, and the trouble shown.
    async fn checkpoint(&self) -> Option<Option<Checkpoint>> {
        let mut pause = limits::BACKOFF_FIRST;
        loop {
            let (log, id) = (Arc::clone(&self.inner.log), self.peer.daemon_id.clone());
            match super::blocking(move || log.checkpoint(&id)).await {
                Ok(checkpoint) => return Some(checkpoint),
                Err(fault) => {
                    tracing::error!("cannot read how far {} was read: {fault}", self.peer.name);
                    self.tell.send_modify(|status| status.last_error = Some(fault.message));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(limits::BACKOFF_LAST),
            }
        }
    }

    /// On disk when it returns, so that the status shown afterwards says what a restart would find.
    async fn note(&self, removed: bool) {
        let noted = self.desk(move |desk, id, _| if removed { desk.registry.removed_us(id) } else { desk.registry.token_worked(id) });
        // Panics are logged by the runtime, and what was to be noted is noted the next time.
        let _ = noted.await;
    }

    /// Reaches the disk once per round, and nobody waits for it.
    fn heard(&self) {
        drop(self.desk(|desk, id, now| desk.registry.heard(id, now)));
    }

    /// Changes the registry on the blocking pool.
    fn desk(&self, change: impl FnOnce(&mut Desk, &str, Now) -> Result<(), Fault> + Send + 'static) -> JoinHandle<()> {
        let (shared, id) = (Arc::clone(&self.inner), self.peer.daemon_id.clone());
        let stopped = self.stop.clone();
        self.inner.tasks.spawn_blocking(move || {
            let now = shared.clock.now();
            let mut desk = shared.desk();
            // A peer that was replaced meanwhile is not this one.
            if !stopped.is_cancelled()
                && let Err(fault) = change(&mut desk, &id, now)
            {
                tracing::warn!("{fault}");
            }
        })
    }
}

/// Waits until the network has come up anew.
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

/// What became of the batch, and whether the peer is over its quota by it.
async fn finished(storing: &mut Option<Storing>) -> Vec<Input> {
    let Some(task) = storing else { return pending().await };
    let result = task.await;
    *storing = None;
    match result {
        // First the quota, so that nothing is pulled in between.
        Ok(Ok((applied, over))) => over.map(|over| Input::Quota(Some(over))).into_iter().chain([Input::Applied(applied)]).collect(),
        Ok(Err(fault)) => vec![Input::ApplyFailed(fault.message)],
        Err(error) => vec![Input::ApplyFailed(error.to_string())],
    }
}

/// What a look found. One that failed says nothing, and the peer is read: the next batch is followed by another look.
async fn looked(looking: &mut Option<Looking>) -> Option<OverQuota> {
    let Some(task) = looking else { return pending().await };
    let result = task.await;
    *looking = None;
    result.ok().and_then(Result::ok).flatten()
}

/// Waits until a driver's status satisfies `done`; `false` if it does not within `within`, or the driver ended.
pub(super) async fn reached(status: &mut watch::Receiver<Status>, within: Duration, done: impl FnMut(&Status) -> bool) -> bool {
    matches!(tokio::time::timeout(within, status.wait_for(done)).await, Ok(Ok(_)))
}
