//! A log in memory, for meshes of many daemons.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use thrum_core::{
    Error, Event, Heads, SetDigest, Timestamp,
    compare::{Listing, LogOf, Numbers, Wanted},
    exchange::{
        Applied, Batch, Checkpoint, Commit, Holder, LongEvents, Page, Prerequisites, Row, Troubles, short_digest,
    },
    heads::Head,
};
use thrum_sync::Log;

/// All events of a mesh, each once and with a number, because a thousand daemons hold the same ones.
#[derive(Default)]
pub struct Pool(Mutex<BTreeMap<String, Arc<Pooled>>>);

struct Pooled {
    number: usize,
    event: Event,
    digest: SetDigest,
}

impl Pool {
    fn intern(&self, event: Event) -> Arc<Pooled> {
        let mut pool = self.0.lock().unwrap();
        let number = pool.len();
        let known = pool.entry(event.id.clone()).or_insert_with_key(|_| {
            let digest = SetDigest::of(event.body.as_bytes());
            Arc::new(Pooled { number, event: event.clone(), digest })
        });
        assert_eq!(known.event.body, event.body, "an event changed on its way");
        Arc::clone(known)
    }

    fn number(&self, id: &str) -> Option<usize> {
        self.0.lock().unwrap().get(id).map(|known| known.number)
    }
}

/// The rows of one daemon, in the order in which they were stored.
pub struct MemoryLog {
    id: Arc<str>,
    pool: Arc<Pool>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    /// With their sources. The row at index `n` has sequence `n + 1`.
    rows: Vec<(Arc<Pooled>, String)>,
    /// By number of the event.
    known: Vec<bool>,
    heads: BTreeMap<(String, String), Head>,
    by_source: BTreeMap<String, u64>,
    checkpoints: BTreeMap<String, Checkpoint>,
    /// The numbers of the events that were served since they were last taken.
    served: Vec<usize>,
}

impl Held {
    fn knows(&self, number: usize) -> bool {
        self.known.get(number) == Some(&true)
    }

    fn push(&mut self, pooled: Arc<Pooled>, source: &str) {
        let number = pooled.number;
        self.known.resize(self.known.len().max(number + 1), false);
        self.known[number] = true;
        count(&mut self.heads, &pooled);
        self.rows.push((pooled, source.to_owned()));
        self.by_source.insert(source.to_owned(), self.rows.len() as u64);
    }
}

fn count(heads: &mut BTreeMap<(String, String), Head>, pooled: &Pooled) {
    let Event { origin, log, seq, .. } = &pooled.event;
    let head = heads.entry((origin.clone(), log.clone())).or_insert_with(|| Head {
        origin: origin.clone(),
        log: log.clone(),
        ..Head::default()
    });
    head.count += 1;
    head.highest = head.highest.max(*seq);
    head.sum.add(pooled.digest);
}

impl MemoryLog {
    pub fn new(id: &str, pool: &Arc<Pool>) -> Self {
        Self { id: id.into(), pool: Arc::clone(pool), held: Mutex::default() }
    }

    /// Appends an event made here. Returns its number.
    pub fn append(&self, event: Event) -> usize {
        let pooled = self.pool.intern(event);
        let number = pooled.number;
        self.held.lock().unwrap().push(pooled, "");
        number
    }

    /// Stores a batch. Returns the numbers of the events that are new here, too.
    pub fn store(&self, batch: Batch) -> (Applied, Vec<usize>) {
        assert_eq!(batch.rejected, [], "nobody here sends what has no form");
        let (mut applied, mut fresh) = (Applied::default(), Vec::new());
        let mut held = self.held.lock().unwrap();
        for event in batch.events {
            let pooled = self.pool.intern(event);
            if held.knows(pooled.number) {
                applied.skipped += 1;
            } else {
                applied.applied += 1;
                fresh.push(pooled.number);
                held.push(pooled, &batch.peer);
            }
        }
        if batch.checkpoint > 0 {
            let checkpoint = Checkpoint { log: batch.log, sequence: batch.checkpoint, event: String::new() };
            held.checkpoints.insert(batch.peer, checkpoint);
        }
        (applied, fresh)
    }

    pub fn commit(&self) -> Commit {
        let held = self.held.lock().unwrap();
        Commit {
            log: Arc::clone(&self.id),
            latest: held.rows.len() as u64,
            by_source: Arc::new(held.by_source.clone()),
        }
    }

    /// Returns the numbers of the events that were read to be served since the last call.
    pub fn take_served(&self) -> Vec<usize> {
        std::mem::take(&mut self.held.lock().unwrap().served)
    }

    fn page_of(
        &self,
        after: u64,
        max_events: usize,
        max_bytes: usize,
        holder: Option<Holder<'_>>,
    ) -> Result<Page, Error> {
        let mut held = self.held.lock().unwrap();
        let mut page = Page::default();
        let (mut bytes, mut served) = (0, Vec::new());
        for ((pooled, source), sequence) in held.rows.iter().zip(1..).skip(usize::try_from(after).unwrap()) {
            let Event { id, kind, origin, body, .. } = &pooled.event;
            let is_reference = holder.is_some_and(|holder| holder.holds(origin, source));
            let reference = is_reference.then(|| short_digest(body));
            let body = if is_reference { "" } else { body };
            bytes += body.len();
            if page.rows.len() == max_events || (bytes > max_bytes && !page.rows.is_empty()) {
                page.more = true;
                break;
            }
            if !is_reference {
                served.push(pooled.number);
            }
            let (id, kind, origin, body) = (id.clone(), kind.clone(), origin.clone(), body.to_owned());
            page.rows.push(Row { sequence, id, kind, origin, body, reference });
        }
        held.served.extend(served);
        Ok(page)
    }
}

impl Log for MemoryLog {
    fn id(&self) -> Arc<str> {
        Arc::clone(&self.id)
    }
    fn latest(&self) -> u64 {
        self.held.lock().unwrap().rows.len() as u64
    }
    fn page(&self, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error> {
        self.page_of(after, max_events, max_bytes, None)
    }
    fn page_for(&self, holder: Holder<'_>, after: u64, max_events: usize, max_bytes: usize) -> Result<Page, Error> {
        self.page_of(after, max_events, max_bytes, Some(holder))
    }
    fn holds_references(&self, references: &[(&str, &str)]) -> Result<bool, Error> {
        let held = self.held.lock().unwrap();
        Ok(references.iter().all(|(id, _)| self.pool.number(id).is_some_and(|number| held.knows(number))))
    }
    fn heads(&self) -> Result<Heads, Error> {
        Ok(self.held.lock().unwrap().heads.values().cloned().collect())
    }
    fn counted(&self) -> Result<Heads, Error> {
        let mut heads = BTreeMap::new();
        self.held.lock().unwrap().rows.iter().for_each(|(pooled, _)| count(&mut heads, pooled));
        Ok(heads.into_values().collect())
    }
    fn checkpoint(&self, peer: &str) -> Result<Option<Checkpoint>, Error> {
        Ok(self.held.lock().unwrap().checkpoints.get(peer).cloned())
    }
    fn holds(&self, events: &[&Event]) -> Result<Vec<bool>, Error> {
        let held = self.held.lock().unwrap();
        let holds = |event: &&Event| self.pool.number(&event.id).is_some_and(|number| held.knows(number));
        Ok(events.iter().map(holds).collect())
    }
    fn apply(&self, batch: Batch) -> Result<Applied, Error> {
        Ok(self.store(batch).0)
    }
    fn acknowledged(&self, _: &str, _: u64, _: Timestamp) {}

    // For legacy peers, comparisons and display, which a mesh does not have.
    fn prerequisites(&self, _: &[Row], _: &dyn Fn(&Row) -> bool) -> Result<Vec<Prerequisites>, Error> {
        unreachable!()
    }
    fn long_events(&self, _: usize, _: fn(&str) -> bool) -> Result<LongEvents, Error> {
        unreachable!()
    }
    fn recount(&self) -> Result<bool, Error> {
        unreachable!()
    }
    fn numbers(&self, _: &LogOf, _: u64, _: usize) -> Result<Numbers, Error> {
        unreachable!()
    }
    fn listing(&self, _: &LogOf, _: &str, _: &str, _: usize) -> Result<Listing, Error> {
        unreachable!()
    }
    fn stretch(&self, _: &LogOf, _: &str, _: &str) -> Result<(u64, SetDigest), Error> {
        unreachable!()
    }
    fn requested(&self, _: &LogOf, _: &Wanted) -> Result<Page, Error> {
        unreachable!()
    }
    fn projection(&self) -> Result<SetDigest, Error> {
        unreachable!()
    }
    fn purge_goes_on(&self) -> Result<bool, Error> {
        unreachable!()
    }
    fn purge_waits(&self) -> Result<bool, Error> {
        unreachable!()
    }
    fn forget(&self, _: &str) -> Result<(), Error> {
        unreachable!()
    }
    fn backlog(&self, _: &str, _: u64) -> Result<u64, Error> {
        unreachable!()
    }
    fn troubles(&self, _: &str) -> Result<Troubles, Error> {
        unreachable!()
    }
}
