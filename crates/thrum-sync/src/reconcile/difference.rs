//! Finds exactly which events of a log only one side holds, and fetches those missing here.
//!
//! Version vectors show that two daemons differ, and in which log. This module narrows that down: by origin sequence
//! for events that have one; by id for those without, or if the sequences agree but the digests differ. Events that are
//! missing here, and were not purged, are requested individually and pass through the same intake as those of a pull.
//! The checkpoint of the pull stays unchanged. If events are missing at the peer, the peer is told to compare as well,
//! unless it has just told us.
//!
//! The peer is not trusted: only requested events that the intake accepts are stored. If the peer claims to hold more
//! of a log than it serves, the log is given up after [`limits::MAX_FRUITLESS`] replies without a requested event, and
//! this is reported. As in a pull, purges and rejected events are limited. Each peer has its own turn, so that a slow
//! peer does not delay reconciliation with others.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use thrum_core::{
    Error, ErrorKind, RangeSet,
    compare::{Listing, LogOf, Numbers},
    heads::Difference,
    limits,
};
use tokio::time::{Instant, timeout};

use super::{
    Reconcile,
    missing::{record_ids, record_numbers},
};
use crate::{
    Log,
    answers::Missing,
    blocking::blocking,
    environment::lock,
    error::{PeerError, Timeout, Violation},
    outbound::Channel,
    protocol::wire::{About, Asked, Call, Reply},
    registry::Peer,
};

/// Result of a reconciliation: the missing events of each log, and why it ended early.
#[derive(Debug, Default)]
pub(super) struct ReconcileOutcome {
    pub(super) missing: Vec<Missing>,
    pub(super) error: Option<PeerError>,
}

impl ReconcileOutcome {
    pub(super) fn fetched(&self) -> u64 {
        self.missing.iter().map(|missing| missing.fetched).sum()
    }

    /// Describes why the reconciliation ended early, or the first problem in a log.
    pub(super) fn note(&self) -> Option<String> {
        let of_a_log = || self.missing.iter().find_map(|missing| missing.note.clone());
        self.error.as_ref().map(ToString::to_string).or_else(of_a_log)
    }

    /// Returns how many events the peer claims to hold that are still missing here.
    pub(super) fn still(&self) -> u64 {
        self.missing.iter().fold(0, |sum: u64, missing| sum.saturating_add(missing.still()))
    }
}

/// Serializes the reconciliations with one peer, and keeps their batch size.
pub(super) struct Turn {
    /// Locked during a reconciliation, so that missing events are fetched only once. Contains the number of events to
    /// request at once.
    most: tokio::sync::Mutex<usize>,
    /// Locked while events that the peer served are stored.
    pub(super) storing: Mutex<()>,
}

impl Turn {
    fn new() -> Self {
        Self { most: tokio::sync::Mutex::new(limits::MAX_BATCH_EVENTS), storing: Mutex::new(()) }
    }

    /// Waits until no event is being stored. Blocks.
    pub(super) fn settle(&self) {
        drop(lock(&self.storing));
    }
}

/// Why a comparison ends early, and what ends with it.
pub(super) enum End {
    /// Ends the comparison of one log. The other logs are still compared.
    Log(PeerError),
    /// Ends the comparison of one log, and the connection is unusable.
    Lost(PeerError),
    /// Ends the reconciliation.
    All(PeerError),
}

impl From<Violation> for End {
    fn from(violation: Violation) -> Self {
        Self::Log(violation.into())
    }
}

impl Reconcile {
    /// Checks that the version vector matches the events in the log, and rebuilds vector and projection if the disk
    /// lost rows. Reads the whole log.
    ///
    /// # Errors
    /// The log cannot be read or rebuilt.
    pub(super) async fn recount(&self) -> Result<(), Error> {
        let log = Arc::clone(&self.env.log);
        blocking(move || {
            if log.recount()? {
                tracing::warn!("events were missing in the log: heads and projection were rebuilt from the others");
            }
            Ok(())
        })
        .await
    }

    pub(super) fn turn(&self, peer: &str) -> Arc<Turn> {
        Arc::clone(lock(&self.turns).entry(peer.to_owned()).or_insert_with(|| Arc::new(Turn::new())))
    }

    /// Reconciles the logs in which a peer differs: fetches the events missing here, and if `tells` is set informs the
    /// peer that events are missing there. `tells` must be false if the peer has just informed us, or two daemons that
    /// cannot agree would inform each other forever. One reconciliation per peer runs at a time; a second one finds
    /// only the differences that the first has left.
    pub(super) async fn reconcile(
        self: &Arc<Self>,
        peer: &Peer,
        differences: &[Difference],
        tells: bool,
        deadline: Instant,
    ) -> ReconcileOutcome {
        let mut outcome = ReconcileOutcome::default();
        let (log, id) = (Arc::clone(&self.env.log), peer.daemon_id.clone());
        if let Ok(Some(over)) = blocking(move || log.over_quota(&[&id])).await {
            outcome.error = Some(PeerError::OverQuota(over));
            return outcome;
        }
        let turn = self.turn(&peer.daemon_id);
        // A single event over a slow network may take longer. This delays only this peer.
        let is_slow = turn.most.try_lock().is_ok_and(|most| *most == 1);
        let deadline = deadline.min(Instant::now() + if is_slow { limits::SLOW_PULL } else { limits::REPAIR });
        let within = async {
            let mut most = turn.most.lock().await;
            let mut reconciliation = Reconciliation::begin(self, peer, Arc::clone(&turn), &mut most).await?;
            for difference in differences {
                // Added before the comparison, so that partial results survive a timeout.
                let missing =
                    Missing { origin: difference.origin.clone(), log: difference.log.clone(), ..Missing::default() };
                let missing = outcome.missing.push_mut(missing);
                match reconciliation.compare_log(missing).await {
                    Ok(()) => {}
                    Err(End::Log(error) | End::Lost(error)) => {
                        missing.note = missing.note.take().or_else(|| Some(error.to_string()));
                    }
                    Err(End::All(error)) => return Err(error),
                }
            }
            if tells && outcome.missing.iter().any(|missing| !missing.there.is_empty()) {
                match reconciliation.ask(Call::Differs, limits::REPAIR_CALL).await {
                    Ok(_) => {}
                    Err(End::Log(error) | End::Lost(error) | End::All(error)) => return Err(error),
                }
            }
            // The network may be faster the next time.
            *reconciliation.most = (*reconciliation.most * 2).min(limits::MAX_BATCH_EVENTS);
            Ok(())
        };
        let ended: Result<(), PeerError> = match tokio::time::timeout_at(deadline, within).await {
            Ok(ended) => ended,
            Err(_) => Err(Timeout::Reconciliation.into()),
        };
        outcome.error = ended.err();
        outcome.missing.retain(|missing| {
            *missing != Missing { origin: missing.origin.clone(), log: missing.log.clone(), ..Missing::default() }
        });
        if outcome.fetched() > 0 {
            tracing::info!(peer = %peer.name, events = outcome.fetched(), "reconciliation: fetched missing events");
        }
        if let Some(error) = outcome.note() {
            tracing::warn!(peer = %peer.name, %error, "reconciliation: the comparison is incomplete");
        }
        outcome
    }
}

/// A reconciliation with one peer.
pub(super) struct Reconciliation<'t> {
    pub(super) reconcile: Arc<Reconcile>,
    pub(super) peer: Peer,
    pub(super) turn: Arc<Turn>,
    /// Number of events to request at once.
    pub(super) most: &'t mut usize,
    /// `None` after the connection was lost.
    channel: Option<Channel>,
    calls: u32,
    /// Number of lost connections.
    lost: u32,
    /// Number of replies that contained a purge.
    pub(super) purges: u32,
    /// Number of replies with more rejected events than new ones.
    pub(super) bad: u32,
}

impl<'t> Reconciliation<'t> {
    async fn begin(
        reconcile: &Arc<Reconcile>,
        peer: &Peer,
        turn: Arc<Turn>,
        most: &'t mut usize,
    ) -> Result<Self, PeerError> {
        let channel = Some(Channel::open(&reconcile.outbound, peer).await?);
        Ok(Self {
            reconcile: Arc::clone(reconcile),
            peer: peer.clone(),
            turn,
            most,
            channel,
            calls: 0,
            lost: 0,
            purges: 0,
            bad: 0,
        })
    }

    pub(super) async fn ask(&mut self, call: Call, within: Duration) -> Result<Reply, End> {
        self.calls += 1;
        if self.calls > limits::MAX_REPAIR_CALLS {
            return Err(End::All(Violation::TooManyCalls(limits::MAX_REPAIR_CALLS).into()));
        }
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => Channel::open(&self.reconcile.outbound, &self.peer).await.map_err(End::All)?,
        };
        let error = match timeout(within, channel.ask(self.calls.into(), call)).await {
            Ok(Ok(reply)) => {
                self.channel = Some(channel);
                return reply.map_err(|bad| End::Log(bad.into()));
            }
            Ok(Err(error)) => error,
            Err(_) => Timeout::Reply(within).into(),
        };
        self.lost += 1;
        Err(if self.lost > limits::MAX_REPAIR_LOSSES { End::All(error) } else { End::Lost(error) })
    }

    async fn compare_log(&mut self, missing: &mut Missing) -> Result<(), End> {
        let of = LogOf { origin: missing.origin.clone(), log: missing.log.clone() };
        if !of.log.is_empty() {
            self.by_number(&of, missing).await?;
        }
        if missing.here.is_empty() && missing.there.is_empty() {
            self.by_id(&of, missing).await?;
        }
        Ok(())
    }

    /// Compares the origin sequences of a log, interval by interval as the peer reports them.
    async fn by_number(&mut self, of: &LogOf, missing: &mut Missing) -> Result<(), End> {
        let (mut after, mut fruitless) = (0, 0);
        let mut known: Option<Numbers> = None;
        loop {
            let asked = Asked::Numbers(after);
            let call = Call::About(About { of: of.clone(), asked });
            let Reply::Numbers(theirs) = self.ask(call, limits::REPAIR_CALL).await? else {
                return Err(Violation::OtherMethod.into());
            };
            // Read ours after theirs, so that events that arrive in between do not count as missing.
            let held = match known.take().filter(|held| unknown(&theirs.held, held).is_empty()) {
                Some(held) => held,
                None => self.numbers(of, after).await?,
            };
            let wanted_here = record_numbers(missing, &held, &theirs, after);
            known = Some(held);
            self.fetch_numbers(of, wanted_here, missing, &mut fruitless).await?;
            if theirs.next == 0 || fruitless >= limits::MAX_FRUITLESS {
                return Ok(());
            }
            after = theirs.next;
        }
    }

    /// Returns the origin sequences above `after` that are held here, and those that were purged.
    pub(super) async fn numbers(&mut self, of: &LogOf, after: u64) -> Result<Numbers, End> {
        let about = of.clone();
        ours(&self.reconcile.env.log, move |log| log.numbers(&about, after, usize::MAX)).await
    }

    /// Compares the ids of a log. If there are many, compares parts and descends into those that differ.
    async fn by_id(&mut self, of: &LogOf, missing: &mut Missing) -> Result<(), End> {
        let mut stretches = vec![(String::new(), String::new(), 0)];
        let mut fruitless = 0;
        while fruitless < limits::MAX_FRUITLESS
            && let Some((after, upto, depth)) = stretches.pop()
        {
            let asked = Asked::Listing(after.clone(), upto.clone());
            let call = Call::About(About { of: of.clone(), asked });
            let Reply::Listing(listing) = self.ask(call, limits::REPAIR_CALL).await? else {
                return Err(Violation::OtherMethod.into());
            };
            match listing {
                Listing::Ids(theirs) => {
                    let about = of.clone();
                    let Listing::Ids(held) =
                        ours(&self.reconcile.env.log, move |log| log.listing(&about, &after, &upto, usize::MAX))
                            .await?
                    else {
                        let error = Error::new(ErrorKind::Failed, "our own log does not say what it holds");
                        return Err(End::Log(PeerError::Log(error)));
                    };
                    let wanted_here = record_ids(missing, &held, &theirs);
                    self.fetch_ids(of, wanted_here, missing, &mut fruitless).await?;
                }
                Listing::Parts(_) if depth == limits::MAX_DEPTH => {
                    return Err(Violation::TooDeep.into());
                }
                Listing::Parts(parts) => {
                    let mut from = after;
                    for part in parts {
                        let (about, after, upto) = (of.clone(), from, part.upto.clone());
                        from = part.upto.clone();
                        let stretch = (after.clone(), upto.clone());
                        let held = ours(&self.reconcile.env.log, move |log| log.stretch(&about, &after, &upto)).await?;
                        if held != (part.count, part.sum) {
                            stretches.push((stretch.0, stretch.1, depth + 1));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// Queries our own log.
async fn ours<T: Send + 'static>(
    log: &Arc<dyn Log>,
    question: impl FnOnce(&dyn Log) -> Result<T, Error> + Send + 'static,
) -> Result<T, End> {
    let log = Arc::clone(log);
    blocking(move || question(&*log)).await.map_err(|error| End::All(PeerError::Log(error)))
}

/// Returns those of `numbers` that are neither held nor purged here.
pub(super) fn unknown(numbers: &RangeSet, ours: &Numbers) -> RangeSet {
    numbers.clone().without(&ours.held).without(&ours.purged)
}
