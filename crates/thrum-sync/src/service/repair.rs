//! Finds out what exactly of a log one side holds and the other does not, and fetches that.
//!
//! Heads say that two daemons differ, and in which log. This asks on: by number where the events of the log have numbers, by id
//! where not, or where the numbers agree and the sums do not. What is missing here and neither held nor purged is asked for by
//! name, and goes through the same intake as what a pull brings; the pull's checkpoint stays where it is. What is missing there the peer
//! is told to look for itself.
//!
//! A peer's word is not trusted: only what was asked for is stored, only if its signature holds, and a peer that claims more
//! than it serves is asked [`limits::MAX_FRUITLESS`] times and then named. What it may have stored at once is bounded as in a pull: by
//! purges, and by what is rejected. Each peer has its own turn, so that one that lets us wait keeps no other from being repaired.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use thrum_core::{
    Fault, Runs,
    compare::{Listing, LogOf, Numbers},
    heads::Difference,
    limits,
};
use tokio::time::{Instant, timeout};

use super::{
    Inner, Missing, blocking,
    lacks::{note, note_ids},
    link::{Gone, Talk},
    lock,
    reach::in_words,
};
use crate::{
    Log,
    clock::go_duration,
    registry::Peer,
    wire::{About, Asked, Call, Reply},
};

/// What a repair came to: what was missing, log by log, and why it ended early.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) missing: Vec<Missing>,
    pub(super) error: Option<String>,
}

impl Outcome {
    pub(super) fn fetched(&self) -> u64 {
        self.missing.iter().map(|missing| missing.fetched).sum()
    }

    /// Events that the peer says to hold, and that are missing here still.
    pub(super) fn still(&self) -> u64 {
        self.missing.iter().fold(0, |sum: u64, missing| sum.saturating_add(missing.still()))
    }
}

/// One peer's repairs: one at a time, and what they leave for the next.
pub(super) struct Turn {
    /// Held while something missing is looked for and fetched, so that it is fetched once. How many events are asked for at once.
    most: tokio::sync::Mutex<usize>,
    /// Held while something that the peer served is stored.
    pub(super) storing: Mutex<()>,
}

impl Turn {
    fn new() -> Self {
        Self { most: tokio::sync::Mutex::new(limits::MAX_BATCH_EVENTS), storing: Mutex::new(()) }
    }

    /// Waits until nothing is being stored. Blocks.
    pub(super) fn settle(&self) {
        drop(lock(&self.storing));
    }
}

/// What ends before its time.
pub(super) enum End {
    /// The look at one log: the next log is looked at all the same.
    Log(String),
    /// The same, and the connection is of no use any more.
    Lost(String),
    /// The repair.
    All(String),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::All(fault.message)
    }
}

impl Inner {
    /// Makes sure that what is kept about the log is what the log holds: the disk may have lost rows. Reads all of it.
    ///
    /// # Errors
    /// The log cannot be read, or made anew.
    pub(super) async fn mend(&self) -> Result<(), Fault> {
        let log = Arc::clone(&self.log);
        blocking(move || {
            if log.mend()? {
                tracing::warn!("the log did not hold what was stored in it: heads and projection were made anew from what it holds");
            }
            Ok(())
        })
        .await
    }

    pub(super) fn turn(&self, peer: &str) -> Arc<Turn> {
        Arc::clone(lock(&self.turns).entry(peer.to_owned()).or_insert_with(|| Arc::new(Turn::new())))
    }

    /// Looks at the logs in which a peer differs, fetches what is missing here, and `tells` the peer if something is missing there:
    /// not where the peer has told us, or two that cannot agree would go on telling each other. One repair of a peer at a time: a
    /// second one finds out what the first has left.
    pub(super) async fn repair(self: &Arc<Self>, peer: &Peer, differences: &[Difference], tells: bool, deadline: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let (log, id) = (Arc::clone(&self.log), peer.daemon_id.clone());
        if let Ok(Some(over)) = blocking(move || log.over_quota(&id)).await {
            outcome.error = Some(over.to_string());
            return outcome;
        }
        let turn = self.turn(&peer.daemon_id);
        // One event over a slow line takes its time; the peer's own.
        let is_slow = turn.most.try_lock().is_ok_and(|most| *most == 1);
        let deadline = deadline.min(Instant::now() + if is_slow { limits::SLOW_PULL } else { limits::REPAIR });
        let within = async {
            let mut most = turn.most.lock().await;
            let mut repair = Repair::begin(self, peer, Arc::clone(&turn), &mut most).await.map_err(|fault| in_words(&fault))?;
            for difference in differences {
                // There before it is looked at: what was found counts also where time runs out.
                let missing = Missing { origin: difference.origin.clone(), log: difference.log.clone(), ..Missing::default() };
                let missing = outcome.missing.push_mut(missing);
                match repair.look(missing).await {
                    Ok(()) => {}
                    Err(End::Log(why) | End::Lost(why)) => missing.note = missing.note.take().or(Some(why)),
                    Err(End::All(why)) => return Err(why),
                }
            }
            if tells && outcome.missing.iter().any(|missing| !missing.there.is_nothing()) {
                match repair.ask(Call::Differs, limits::REPAIR_CALL).await {
                    Ok(_) => {}
                    Err(End::Log(why) | End::Lost(why) | End::All(why)) => return Err(why),
                }
            }
            // The line may be a better one the next time.
            *repair.most = (*repair.most * 2).min(limits::MAX_BATCH_EVENTS);
            Ok(())
        };
        let ended: Result<(), String> = match tokio::time::timeout_at(deadline, within).await {
            Ok(ended) => ended,
            Err(_) => Err("there was no time to look at all of it".to_owned()),
        };
        outcome.error = ended.err();
        outcome
            .missing
            .retain(|missing| *missing != Missing { origin: missing.origin.clone(), log: missing.log.clone(), ..Missing::default() });
        if outcome.fetched() > 0 {
            tracing::info!("repair: {} events that were missing here came from {}", outcome.fetched(), peer.name);
        }
        if let Some(error) = outcome.error.as_ref().or_else(|| outcome.missing.iter().find_map(|missing| missing.note.as_ref())) {
            tracing::warn!("repair: not all could be compared with {}: {error}", peer.name);
        }
        outcome
    }
}

/// A repair with one peer.
pub(super) struct Repair<'t> {
    pub(super) inner: Arc<Inner>,
    pub(super) peer: Peer,
    pub(super) turn: Arc<Turn>,
    /// Events that are asked for at once.
    pub(super) most: &'t mut usize,
    /// None once it was lost.
    talk: Option<Talk>,
    calls: u32,
    /// Connections that were lost.
    lost: u32,
    /// Answers that purged something, and those most of which was rejected.
    pub(super) purges: u32,
    pub(super) bad: u32,
}

impl<'t> Repair<'t> {
    async fn begin(inner: &Arc<Inner>, peer: &Peer, turn: Arc<Turn>, most: &'t mut usize) -> Result<Self, Fault> {
        let talk = Some(Talk::begin(inner, peer).await?);
        Ok(Self { inner: Arc::clone(inner), peer: peer.clone(), turn, most, talk, calls: 0, lost: 0, purges: 0, bad: 0 })
    }

    pub(super) async fn ask(&mut self, call: Call, within: Duration) -> Result<Reply, End> {
        self.calls += 1;
        if self.calls > limits::MAX_REPAIR_CALLS {
            return Err(End::All(format!("there is more to compare than {} questions find out at once", limits::MAX_REPAIR_CALLS)));
        }
        let mut talk = match self.talk.take() {
            Some(talk) => talk,
            None => Talk::begin(&self.inner, &self.peer).await.map_err(|fault| End::All(in_words(&fault)))?,
        };
        let why = match timeout(within, talk.ask(self.calls.into(), call)).await {
            Ok(Ok(reply)) => {
                self.talk = Some(talk);
                return reply.map_err(|bad| End::Log(bad.to_string()));
            }
            Ok(Err(Gone::TooLong)) => "an answer that is too long".to_owned(),
            Ok(Err(Gone::Lost(why))) => why,
            Err(_) => format!("no answer within {}", go_duration(within)),
        };
        self.lost += 1;
        Err(if self.lost > limits::MAX_REPAIR_LOSSES { End::All(why) } else { End::Lost(why) })
    }

    async fn look(&mut self, missing: &mut Missing) -> Result<(), End> {
        let of = LogOf { origin: missing.origin.clone(), log: missing.log.clone() };
        if !of.log.is_empty() {
            self.by_number(&of, missing).await?;
        }
        if missing.here.is_nothing() && missing.there.is_nothing() {
            self.by_id(&of, missing).await?;
        }
        Ok(())
    }

    /// Compares the places in a log, stretch by stretch as the peer tells them.
    async fn by_number(&mut self, of: &LogOf, missing: &mut Missing) -> Result<(), End> {
        let (mut after, mut fruitless) = (0, 0);
        let mut known: Option<Numbers> = None;
        loop {
            let asked = Asked::Numbers(after);
            let call = Call::About(About { of: of.clone(), asked });
            let Reply::Numbers(theirs) = self.ask(call, limits::REPAIR_CALL).await? else { return Err(other_method()) };
            // Ours after theirs: what came meanwhile is not missing.
            let held = match known.take().filter(|held| unknown(&theirs.held, held).is_empty()) {
                Some(held) => held,
                None => self.numbers(of, after).await?,
            };
            let lacks = note(missing, &held, &theirs, after);
            known = Some(held);
            self.fetch_numbers(of, lacks, missing, &mut fruitless).await?;
            if theirs.next == 0 || fruitless >= limits::MAX_FRUITLESS {
                return Ok(());
            }
            after = theirs.next;
        }
    }

    /// What we hold.
    pub(super) async fn numbers(&mut self, of: &LogOf, after: u64) -> Result<Numbers, End> {
        let about = of.clone();
        ours(&self.inner.log, move |log| log.numbers(&about, after, usize::MAX)).await
    }

    /// Compares the ids in a log, in parts where they are many, and looks into those that differ.
    async fn by_id(&mut self, of: &LogOf, missing: &mut Missing) -> Result<(), End> {
        let mut stretches = vec![(String::new(), String::new(), 0)];
        let mut fruitless = 0;
        while let Some((after, upto, depth)) = stretches.pop() {
            let asked = Asked::Listing(after.clone(), upto.clone());
            let call = Call::About(About { of: of.clone(), asked });
            let Reply::Listing(listing) = self.ask(call, limits::REPAIR_CALL).await? else { return Err(other_method()) };
            match listing {
                Listing::Ids(theirs) => {
                    let about = of.clone();
                    let Listing::Ids(held) = ours(&self.inner.log, move |log| log.listing(&about, &after, &upto, usize::MAX)).await? else {
                        return Err(End::Log("our own log does not say what it holds".to_owned()));
                    };
                    let lacks = note_ids(missing, &held, &theirs);
                    self.fetch_ids(of, lacks, missing, &mut fruitless).await?;
                }
                Listing::Parts(_) if depth == limits::MAX_DEPTH => {
                    return Err(End::Log("it cuts its events into ever smaller parts".to_owned()));
                }
                Listing::Parts(parts) => {
                    let mut from = after;
                    for part in parts {
                        let (about, after, upto) = (of.clone(), from, part.upto.clone());
                        from = part.upto.clone();
                        let stretch = (after.clone(), upto.clone());
                        let held = ours(&self.inner.log, move |log| log.stretch(&about, &after, &upto)).await?;
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

/// Asks our own log.
async fn ours<T: Send + 'static>(
    log: &Arc<dyn Log>,
    question: impl FnOnce(&dyn Log) -> Result<T, Fault> + Send + 'static,
) -> Result<T, End> {
    let log = Arc::clone(log);
    Ok(blocking(move || question(&*log)).await?)
}

/// What of these places is neither held nor purged here.
pub(super) fn unknown(places: &Runs, ours: &Numbers) -> Runs {
    places.clone().without(&ours.held).without(&ours.purged)
}

pub(super) fn other_method() -> End {
    End::Log("a reply to another method".to_owned())
}
