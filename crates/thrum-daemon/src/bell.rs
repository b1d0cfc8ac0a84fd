//! Who wakes up for what was committed.
//!
//! Two hundred agents may be waiting for mail while others write without pause. If every commit woke them all, they would
//! spend the machine on finding out that nothing was for them. So one task reads what was committed and rings for those it
//! may concern. It may ring once too often, never too seldom: whom a message is for, exactly, the store decides when the
//! woken one looks. A message that is for a role or for everyone, and anything that is not plain, rings for all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thrum_core::{
    Payload,
    exchange::{Page, Row},
    limits,
    payload::MessageCreate,
};
use tokio::sync::watch;

use crate::{shutdown::Shutdown, storage::Storage};

/// Rings for agents by name.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    waiting: Mutex<BTreeMap<String, watch::Sender<()>>>,
}

/// Whom a page of the log may concern.
#[derive(Debug, PartialEq, Eq)]
enum Concerned {
    All,
    Agents(BTreeSet<String>),
}

impl Bell {
    /// Hears of what is committed from now on and may be mail for `agent`. The receiver's `changed` fails when the daemon ends.
    pub(crate) fn listen(&self, agent: &str) -> watch::Receiver<()> {
        let mut waiting = self.waiting();
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.entry(agent.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Whether somebody waits in the name of `agent` now.
    pub(crate) fn is_heard_by(&self, agent: &str) -> bool {
        self.waiting().get(agent).is_some_and(|sender| sender.receiver_count() > 0)
    }

    fn ring(&self, concerned: &Concerned) {
        let waiting = self.waiting();
        match concerned {
            Concerned::All => waiting.values().for_each(|sender| sender.send_replace(())),
            Concerned::Agents(names) => names.iter().filter_map(|name| waiting.get(name)).for_each(|sender| sender.send_replace(())),
        }
    }

    fn nobody_waits(&self) -> bool {
        self.waiting().values().all(|sender| sender.receiver_count() == 0)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<()>>> {
        // Every change is one call on the map.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the log and rings, until the daemon stops.
pub(crate) async fn follow(bell: Arc<Bell>, storage: Arc<Storage>, shutdown: Shutdown) {
    let mut commits = storage.commits();
    let mut after = commits.borrow_and_update().latest;
    loop {
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { break },
            () = shutdown.stopping() => break,
        }
        let latest = commits.borrow_and_update().latest;
        // Who begins to listen now looks at all that is here by now.
        if !bell.nobody_waits() {
            let page = storage.read(move |reader| reader.page(after, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES)).await;
            bell.ring(&page.map_or(Concerned::All, |page| concerned(&page)));
        }
        after = latest;
    }
    // Whoever still waits hears that nothing more will come.
    bell.waiting().clear();
}

fn concerned(page: &Page) -> Concerned {
    // A long way to catch up: everybody looks once.
    if page.more {
        return Concerned::All;
    }
    let mut names = BTreeSet::new();
    for row in &page.rows {
        match concerned_by(row) {
            Concerned::All => return Concerned::All,
            Concerned::Agents(more) => names.extend(more),
        }
    }
    Concerned::Agents(names)
}

fn concerned_by(row: &Row) -> Concerned {
    match Payload::read(&row.kind, &row.body) {
        Ok(Payload::MessageCreate(message)) => addressed(message),
        // An agent whose registration comes after its mail finds the mail then.
        Ok(Payload::AgentRegister(agent)) => Concerned::Agents(BTreeSet::from([agent.agent_id])),
        // Nothing else puts mail into a mailbox, and what cannot be read is not folded.
        _ => Concerned::Agents(BTreeSet::new()),
    }
}

fn addressed(message: MessageCreate) -> Concerned {
    let recipients: BTreeSet<String> = message.recipients.into_iter().collect();
    let mut tags = message.scopes.iter().chain(&message.refs);
    // A mention that is no recipient may be a role, as Go Thrum has them.
    let plain = |kind: &str, value: &str| kind != "group" && (kind != "mention" || recipients.contains(value));
    if recipients.is_empty() || !tags.all(|tag| plain(&tag.kind, &tag.value)) { Concerned::All } else { Concerned::Agents(recipients) }
}

#[cfg(test)]
mod tests {
    use thrum_core::payload::Tag;

    use super::*;

    fn message(recipients: &[&str], refs: &[(&str, &str)]) -> Row {
        let payload = Payload::MessageCreate(MessageCreate {
            message_id: "msg_1".into(),
            recipients: recipients.iter().map(|&name| name.to_owned()).collect(),
            refs: refs.iter().map(|(kind, value)| Tag::new(kind, value)).collect(),
            ..MessageCreate::default()
        });
        let body = serde_json::Value::Object(payload.fields()).to_string();
        Row { sequence: 1, id: "evt_1".into(), kind: payload.kind().into(), origin: "d_x".into(), body }
    }

    fn names<const N: usize>(names: [&str; N]) -> Concerned {
        Concerned::Agents(names.map(str::to_owned).into())
    }

    #[test]
    fn a_message_rings_for_those_it_names_and_for_all_if_it_names_more_than_agents() {
        let cases = [
            (message(&["bob"], &[("mention", "bob"), ("reply_to", "msg_0")]), names(["bob"])),
            (message(&["bob", "carol"], &[("mention", "bob"), ("mention", "carol")]), names(["bob", "carol"])),
            (message(&["bob"], &[("mention", "builder")]), Concerned::All),
            (message(&["bob"], &[("group", "builder")]), Concerned::All),
            (message(&[], &[]), Concerned::All),
        ];
        for (row, expected) in cases {
            assert_eq!(concerned_by(&row), expected, "{row:?}");
        }
        let receipt = Row { kind: "message.receipt".into(), ..message(&["bob"], &[]) };
        assert_eq!(concerned_by(&receipt), names([]));
        let far_behind = Page { rows: vec![receipt], more: true };
        assert_eq!(concerned(&far_behind), Concerned::All);
    }

    #[test]
    fn only_those_concerned_wake_and_those_who_left_are_forgotten() {
        let bell = Bell::default();
        let (alice, bob, again) = (bell.listen("alice"), bell.listen("bob"), bell.listen("bob"));
        bell.ring(&names(["bob", "nobody"]));
        let woken = [&alice, &bob, &again].map(|ear| ear.has_changed().unwrap());
        assert_eq!(woken, [false, true, true]);
        drop((bob, again));
        let carol = bell.listen("carol");
        assert_eq!(bell.waiting().len(), 2);
        bell.ring(&Concerned::All);
        assert!(alice.has_changed().unwrap() && carol.has_changed().unwrap());
        drop((alice, carol));
        assert!(bell.nobody_waits());
    }
}
