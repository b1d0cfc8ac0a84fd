//! Finds out what exactly of a log one side holds and the other does not, and fetches that.
//!
//! Heads say that two daemons differ, and in which log. This asks on: by number where the events of the log have numbers, by id
//! where not, or where the numbers agree and the sums do not. What is missing here and neither held nor purged is asked for by
//! name, and goes through the same intake as what a pull brings; the pull's checkpoint stays where it is. What is missing there the peer
//! is told to look for itself.
//!
//! A peer's word is not trusted: only what was asked for is stored, only if its signature holds, and a peer that claims more
//! than it serves is asked [`limits::MAX_FRUITLESS`] times and then named.

use std::sync::Arc;

use thrum_core::{
    Event, Fault, Runs, Sum,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{Applied, Batch},
    heads::Difference,
    limits,
    ranges::LAST,
};
use tokio::time::{Instant, timeout};

use super::{
    Inner, Lack, Missing, blocking,
    link::{Gone, Talk},
    reach::in_words,
};
use crate::{
    Log,
    clock::go_duration,
    intake,
    registry::Peer,
    wire::{About, Asked, Call, Reply, Served},
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

    /// Looks at the logs in which a peer differs, fetches what is missing here, and `tells` the peer if something is missing there:
    /// not where the peer has told us, or two that cannot agree would go on telling each other. One repair at a time: a second one
    /// finds out what the first has left.
    pub(super) async fn repair(self: &Arc<Self>, peer: &Peer, differences: &[Difference], tells: bool, deadline: Instant) -> Outcome {
        let mut outcome = Outcome::default();
        let deadline = deadline.min(Instant::now() + limits::REPAIR);
        let within = async {
            let _turn = self.repairing.lock().await;
            let mut repair = Repair::begin(self, peer).await?;
            for difference in differences {
                // There before it is looked at: what was found counts also where time runs out.
                let missing = Missing { origin: difference.origin.clone(), log: difference.log.clone(), ..Missing::default() };
                repair.look(outcome.missing.push_mut(missing)).await?;
            }
            if tells && outcome.missing.iter().any(|missing| !missing.there.is_nothing()) {
                repair.ask(Call::Differs).await?;
            }
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

struct Repair {
    log: Arc<dyn Log>,
    peer: String,
    talk: Talk,
    calls: u32,
}

/// What an answer to `sync.fetch` brought of what was asked for.
struct Brought {
    events: Vec<Event>,
    applied: Applied,
    /// Events that nobody asked for.
    others: usize,
}

impl Repair {
    async fn begin(inner: &Arc<Inner>, peer: &Peer) -> Result<Self, String> {
        let talk = Talk::begin(inner, peer).await.map_err(|fault| in_words(&fault))?;
        Ok(Self { log: Arc::clone(&inner.log), peer: peer.daemon_id.clone(), talk, calls: 0 })
    }

    async fn ask(&mut self, call: Call) -> Result<Reply, String> {
        self.calls += 1;
        if self.calls > limits::MAX_REPAIR_CALLS {
            return Err(format!("there is more to compare than {} questions find out at once", limits::MAX_REPAIR_CALLS));
        }
        let reply = timeout(limits::REPAIR_CALL, self.talk.ask(self.calls.into(), call)).await;
        match reply.map_err(|_| format!("no answer within {}", go_duration(limits::REPAIR_CALL)))? {
            Ok(reply) => reply.map_err(|bad| bad.to_string()),
            Err(Gone::TooLong) => Err("an answer that is too long".to_owned()),
            Err(Gone::Lost(why)) => Err(why),
        }
    }

    async fn look(&mut self, missing: &mut Missing) -> Result<(), String> {
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
    async fn by_number(&mut self, of: &LogOf, missing: &mut Missing) -> Result<(), String> {
        let about = of.clone();
        let held = ours(&self.log, move |log| log.numbers(&about, 0, usize::MAX)).await?;
        let (mut after, mut fruitless) = (0, 0);
        loop {
            let asked = Asked::Numbers(after);
            let Reply::Numbers(theirs) = self.ask(Call::About(About { of: of.clone(), asked })).await? else { return Err(other_method()) };
            let lacks = note(missing, &held, &theirs, after);
            self.fetch_numbers(of, lacks, missing, &mut fruitless).await?;
            if theirs.next == 0 || fruitless >= limits::MAX_FRUITLESS {
                return Ok(());
            }
            after = theirs.next;
        }
    }

    async fn fetch_numbers(&mut self, of: &LogOf, mut lacks: Runs, missing: &mut Missing, fruitless: &mut u32) -> Result<(), String> {
        while !lacks.is_empty() && *fruitless < limits::MAX_FRUITLESS {
            let asked = lacks.first(limits::MAX_TOLD_RUNS);
            let wanted = asked.clone();
            let is_wanted = move |event: &Event| wanted.contains(event.seq);
            let brought = self.fetch(of, Wanted::Numbers(asked), is_wanted).await?;
            lacks.subtract(&brought.events.iter().map(|event| event.seq).collect());
            if brought.events.is_empty() {
                // One that it does not serve, or that is no good, must not keep those behind it away.
                lacks.subtract(&lacks.lowest().into_iter().collect());
            }
            count(missing, &brought, fruitless);
        }
        Ok(())
    }

    /// Compares the ids in a log, in parts where they are many, and looks into those that differ.
    async fn by_id(&mut self, of: &LogOf, missing: &mut Missing) -> Result<(), String> {
        let mut stretches = vec![(String::new(), String::new(), 0)];
        let mut fruitless = 0;
        while let Some((after, upto, depth)) = stretches.pop() {
            let asked = Asked::Listing(after.clone(), upto.clone());
            let Reply::Listing(listing) = self.ask(Call::About(About { of: of.clone(), asked })).await? else { return Err(other_method()) };
            match listing {
                Listing::Ids(theirs) => {
                    let about = of.clone();
                    let Listing::Ids(held) = ours(&self.log, move |log| log.listing(&about, &after, &upto, usize::MAX)).await? else {
                        return Err("our own log does not say what it holds".to_owned());
                    };
                    let lacks = note_ids(missing, &held, &theirs);
                    self.fetch_ids(of, lacks, missing, &mut fruitless).await?;
                }
                Listing::Parts(_) if depth == limits::MAX_DEPTH => return Err("it cuts its events into ever smaller parts".to_owned()),
                Listing::Parts(parts) => {
                    let mut from = after;
                    for part in parts {
                        let (about, after, upto) = (of.clone(), from, part.upto.clone());
                        from = part.upto.clone();
                        let stretch = (after.clone(), upto.clone());
                        let held = ours(&self.log, move |log| log.stretch(&about, &after, &upto)).await?;
                        if held != (part.count, part.sum) {
                            stretches.push((stretch.0, stretch.1, depth + 1));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    async fn fetch_ids(&mut self, of: &LogOf, mut lacks: Vec<String>, missing: &mut Missing, fruitless: &mut u32) -> Result<(), String> {
        while !lacks.is_empty() && *fruitless < limits::MAX_FRUITLESS {
            let asked: Vec<String> = lacks.iter().take(limits::MAX_TOLD_IDS).cloned().collect();
            let wanted = asked.clone();
            let is_wanted = move |event: &Event| wanted.contains(&event.id);
            let brought = self.fetch(of, Wanted::Ids(asked), is_wanted).await?;
            lacks.retain(|id| !brought.events.iter().any(|event| event.id == *id));
            if brought.events.is_empty() {
                lacks.remove(0);
            }
            count(missing, &brought, fruitless);
        }
        Ok(())
    }

    /// Asks for events, and stores those that were asked for.
    async fn fetch(&mut self, of: &LogOf, wanted: Wanted, is_wanted: impl Fn(&Event) -> bool + Send + 'static) -> Result<Brought, String> {
        let call = Call::About(About { of: of.clone(), asked: Asked::Events(wanted) });
        let Reply::Pulled(pulled) = self.ask(call).await? else { return Err(other_method()) };
        if pulled.events.len() > limits::MAX_BATCH_EVENTS {
            return Err(format!("it sent {} events at once", pulled.events.len()));
        }
        let (of, peer) = (of.clone(), self.peer.clone());
        ours(&self.log, move |log| store(log, &peer, &of, pulled.events, is_wanted)).await
    }
}

/// Asks our own log.
async fn ours<T: Send + 'static>(
    log: &Arc<dyn Log>,
    question: impl FnOnce(&dyn Log) -> Result<T, Fault> + Send + 'static,
) -> Result<T, String> {
    let log = Arc::clone(log);
    blocking(move || question(&*log)).await.map_err(|fault| fault.message)
}

fn store(log: &dyn Log, peer: &str, of: &LogOf, served: Vec<Served>, is_wanted: impl Fn(&Event) -> bool) -> Result<Brought, Fault> {
    let batch = intake::batch(peer, "", 0, served, log)?;
    let is_its = |event: &Event| event.origin == of.origin && event.log == of.log && is_wanted(event);
    let (events, others): (Vec<Event>, Vec<Event>) = batch.events.into_iter().partition(is_its);
    let applied = log.apply(Batch { events: events.clone(), rejected: batch.rejected, ..batch })?;
    Ok(Brought { events, applied, others: others.len() })
}

fn count(missing: &mut Missing, brought: &Brought, fruitless: &mut u32) {
    missing.fetched += brought.applied.applied as u64;
    if brought.events.is_empty() {
        *fruitless += 1;
    }
    let note = match brought {
        Brought { applied: Applied { rejected, .. }, .. } if *rejected > 0 => {
            Some("it serves events that are malformed or badly signed; they were refused")
        }
        Brought { others: 1.., .. } => Some("it serves other events than those asked for; they were not taken"),
        Brought { events, .. } if events.is_empty() => Some("it does not serve all that it says to hold"),
        Brought { events, applied, .. } if applied.applied < events.len() => {
            Some("some that it serves were purged here, or have the id of another event")
        }
        _ => None,
    };
    missing.note = missing.note.take().or_else(|| note.map(str::to_owned));
}

/// Notes what one stretch of a log above `after` says; gives what is missing here.
fn note(missing: &mut Missing, ours: &Numbers, theirs: &Numbers, after: u64) -> Runs {
    let window = after + 1..=if theirs.next == 0 { LAST } else { theirs.next };
    let held = ours.held.within(&window);
    let lacks = theirs.held.clone().without(&held).without(&ours.purged);
    let lacks_there = held.clone().without(&theirs.held).without(&theirs.purged);
    name(&mut missing.here, &lacks);
    name(&mut missing.there, &lacks_there);
    let both = |one: &Runs, other: &Runs| one.clone().without(&one.clone().without(other));
    for (named, found) in
        [(&mut missing.purged_there, both(&held, &theirs.purged)), (&mut missing.purged_here, both(&theirs.held, &ours.purged))]
    {
        named.extend(&found);
        *named = named.first(limits::MAX_NAMED);
    }
    lacks
}

fn name(lack: &mut Lack, numbers: &Runs) {
    lack.events = lack.events.saturating_add(numbers.count());
    lack.numbers.extend(&numbers.first(limits::MAX_NAMED));
    lack.numbers = lack.numbers.first(limits::MAX_NAMED);
}

/// Notes what a stretch of ids says; gives what is missing here. Both are in order.
fn note_ids(missing: &mut Missing, ours: &[(String, Sum)], theirs: &[(String, Sum)]) -> Vec<String> {
    let find = |list: &[(String, Sum)], id: &str| list.binary_search_by(|(known, _)| known.as_str().cmp(id)).ok();
    let mut lacks = Vec::new();
    for (id, sum) in theirs {
        match find(ours, id) {
            None => lacks.push(id.clone()),
            Some(at) if ours[at].1 != *sum => missing.other_content += 1,
            Some(_) => {}
        }
    }
    let there: Vec<&String> = ours.iter().map(|(id, _)| id).filter(|id| find(theirs, id).is_none()).collect();
    missing.here.events += lacks.len() as u64;
    missing.there.events += there.len() as u64;
    let room = |ids: &[String]| limits::MAX_NAMED.saturating_sub(ids.len());
    let (here, beyond) = (room(&missing.here.ids), room(&missing.there.ids));
    missing.here.ids.extend(lacks.iter().take(here).cloned());
    missing.there.ids.extend(there.into_iter().take(beyond).cloned());
    lacks
}

fn other_method() -> String {
    "a reply to another method".to_owned()
}
