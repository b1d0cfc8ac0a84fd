//! Fetches the missing events of a log individually, in batches that the network can carry, and stores only those that
//! were requested.

use std::sync::Arc;

use thrum_core::{
    Event, RangeSet,
    compare::{LogOf, Wanted},
    exchange::{Applied, Batch},
    limits,
};

use super::{
    Reconcile,
    difference::{End, Reconciliation, Turn, unknown},
};
use crate::{
    answers::Missing,
    blocking::blocking,
    environment::lock,
    error::{PeerError, Violation, Waste},
    intake,
    protocol::wire::{About, Asked, Call, Reply, Served},
};

/// Result of one `sync.fetch`.
struct Brought {
    events: Vec<Event>,
    applied: Applied,
    /// Number of events that were not requested.
    others: usize,
    /// Number of requested events that were not stored, because they were purged here or have the id of another event.
    kept_out: usize,
}

impl Reconciliation<'_> {
    /// Fetches missing events of a log by origin sequence.
    pub(super) async fn fetch_numbers(
        &mut self,
        of: &LogOf,
        mut wanted_here: RangeSet,
        missing: &mut Missing,
        fruitless: &mut u32,
    ) -> Result<(), End> {
        let mut unserved = wanted_here.clone();
        while !wanted_here.is_empty() && *fruitless < limits::MAX_FRUITLESS {
            let asked = wanted_here.first(limits::MAX_TOLD_RUNS).lowest_numbers(*self.most as u64);
            let wanted = asked.clone();
            let is_wanted = move |event: &Event| wanted.contains(event.seq);
            let brought = match self.fetch(of, Wanted::Numbers(asked), is_wanted).await {
                Err(End::Lost(_)) if self.fewer() => continue,
                brought => brought?,
            };
            let served = brought.events.iter().map(|event| event.seq).collect();
            wanted_here.subtract(&served);
            unserved.subtract(&served);
            if brought.events.is_empty() {
                // An event that the peer does not serve, or that is invalid, must not block those after it.
                wanted_here.subtract(&wanted_here.lowest().into_iter().collect());
            }
            self.count(missing, &brought, fruitless)?;
        }
        if let Some(lowest) = unserved.lowest() {
            let held = self.numbers(of, lowest - 1).await?;
            missing.came = missing.came.saturating_add(unserved.count() - unknown(&unserved, &held).count());
        }
        Ok(())
    }

    /// Fetches missing events of a log by id.
    pub(super) async fn fetch_ids(
        &mut self,
        of: &LogOf,
        mut wanted_here: Vec<String>,
        missing: &mut Missing,
        fruitless: &mut u32,
    ) -> Result<(), End> {
        while !wanted_here.is_empty() && *fruitless < limits::MAX_FRUITLESS {
            let asked = at_once(&wanted_here, *self.most);
            let wanted = asked.clone();
            let is_wanted = move |event: &Event| wanted.contains(&event.id);
            let brought = match self.fetch(of, Wanted::Ids(asked), is_wanted).await {
                Err(End::Lost(_)) if self.fewer() => continue,
                brought => brought?,
            };
            wanted_here.retain(|id| !brought.events.iter().any(|event| event.id == *id));
            if brought.events.is_empty() {
                wanted_here.remove(0);
            }
            self.count(missing, &brought, fruitless)?;
        }
        Ok(())
    }

    /// Requests events, and stores those that were requested.
    async fn fetch(
        &mut self,
        of: &LogOf,
        wanted: Wanted,
        is_wanted: impl Fn(&Event) -> bool + Send + 'static,
    ) -> Result<Brought, End> {
        let call = Call::About(About { of: of.clone(), asked: Asked::Events(wanted) });
        let within = if *self.most == 1 { limits::SLOW_PULL } else { limits::PULL };
        let Reply::Pulled(pulled) = self.ask(call, within).await? else { return Err(Violation::OtherMethod.into()) };
        if pulled.events.len() > limits::MAX_BATCH_EVENTS {
            return Err(Violation::LargeFetch(pulled.events.len()).into());
        }
        let (reconcile, turn, peer, of) =
            (Arc::clone(&self.reconcile), Arc::clone(&self.turn), self.peer.daemon_id.clone(), of.clone());
        blocking(move || Ok(reconcile.store(&turn, &peer, &of, pulled.events, is_wanted)))
            .await
            .map_err(PeerError::Internal)
            .flatten()
            .map_err(End::All)
    }

    /// Reduces the batch size after a reply that was too large for the network. Returns `false` if it was already
    /// minimal.
    fn fewer(&mut self) -> bool {
        let can_be_fewer = *self.most > 1;
        *self.most = (*self.most / limits::REPAIR_LESS).max(1);
        can_be_fewer
    }

    /// Counts the result of a reply. Ends the reconciliation with a peer that wastes resources.
    fn count(&mut self, missing: &mut Missing, brought: &Brought, fruitless: &mut u32) -> Result<(), End> {
        let Brought { events, applied, others, kept_out } = brought;
        missing.fetched += applied.applied as u64;
        missing.came = missing.came.saturating_add((applied.skipped - applied.collided) as u64);
        if events.is_empty() {
            *fruitless += 1;
        }
        let note = if applied.rejected > 0 {
            Some("it serves events that are malformed or badly signed; they were refused")
        } else if *others > 0 {
            Some("it serves other events than those asked for; they were not taken")
        } else if events.is_empty() {
            Some("it does not serve all that it says to hold")
        } else if *kept_out > 0 {
            Some("some that it serves were purged here, or have the id of another event")
        } else {
            None
        };
        missing.note = missing.note.take().or_else(|| note.map(str::to_owned));
        self.purges += u32::from(applied.purged);
        if self.purges >= limits::PURGES_AT_ONCE {
            return Err(End::All(Waste::Purges.into()));
        }
        self.bad += u32::from(applied.rejected > applied.applied);
        if self.bad >= limits::MAX_FRUITLESS {
            return Err(End::All(Waste::Rejected.into()));
        }
        Ok(())
    }
}

impl Reconcile {
    /// Stores the requested events of a reply, unless the peer was removed meanwhile or is over its quota. A removal
    /// waits for this.
    fn store(
        &self,
        turn: &Turn,
        peer: &str,
        of: &LogOf,
        served: Vec<Served>,
        is_wanted: impl Fn(&Event) -> bool,
    ) -> Result<Brought, PeerError> {
        let batch = intake::batch(peer, "", 0, &served, &*self.env.log).map_err(PeerError::Log)?;
        let is_its = |event: &Event| event.origin == of.origin && event.log == of.log && is_wanted(event);
        let (events, others): (Vec<Event>, Vec<Event>) = batch.events.into_iter().partition(is_its);
        let _whole = lock(&turn.storing);
        if self.env.auth().registry.get(peer).is_none() {
            return Err(PeerError::NoPeer);
        }
        if let Some(over) = self.env.log.over_quota(&[peer]).map_err(PeerError::Log)? {
            return Err(PeerError::OverQuota(over));
        }
        let batch = Batch { events: events.clone(), rejected: batch.rejected, ..batch };
        let applied = self.env.log.apply(batch).map_err(PeerError::Log)?;
        let mut kept_out = 0;
        if applied.skipped > 0 {
            let held = self.env.log.holds(&events.iter().collect::<Vec<_>>()).map_err(PeerError::Log)?;
            kept_out = held.into_iter().filter(|is_held| !is_held).count();
        }
        Ok(Brought { events, applied, others: others.len(), kept_out })
    }
}

/// Returns the first ids, at most `most` and as many as fit into one request. A peer may choose long ids.
fn at_once(ids: &[String], most: usize) -> Vec<String> {
    // Leaves room for the rest of the request. Escaping may turn one byte of an id into six.
    let mut room = limits::MAX_PEER_REQUEST_BYTES / 2;
    let fits = |id: &&String| {
        let bytes = serde_json::Value::from(id.as_str()).to_string().len() + 1;
        let fits = bytes <= room;
        room = room.saturating_sub(bytes);
        fits
    };
    ids.iter().take(most.min(limits::MAX_TOLD_IDS)).take_while(fits).cloned().collect()
}
