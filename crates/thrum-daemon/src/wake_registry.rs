//! Wakes the waiting agents that a commit may concern.
//!
//! Two hundred agents may wait for mail while others write without pause. If every commit woke all of them, they would
//! use up the machine only to find no mail. So one task reads the committed events and wakes the agents that these
//! events may concern. It may wake an agent unnecessarily, but must never miss one: the woken agent asks the store,
//! which knows the exact recipients. All agents are woken for a message to a role or to everyone, and for every commit
//! while a mailbox is being filled: messages sent before an agent registered reach its mailbox without a new event.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thrum_core::{
    Payload,
    audience::Audience,
    exchange::{Page, Row},
    limits,
    payload::MessageCreate,
};
use thrum_store::Reader;
use tokio::sync::watch;

use crate::{shutdown::Shutdown, storage::Storage};

/// Wakes waiting agents by name.
#[derive(Debug, Default)]
pub(crate) struct WakeRegistry {
    waiting: Mutex<BTreeMap<String, watch::Sender<()>>>,
}

/// The agents that a page of the log may concern.
#[derive(Debug, PartialEq, Eq)]
enum Concerned {
    All,
    Agents(BTreeSet<String>),
}

impl WakeRegistry {
    /// Subscribes to commits that may contain mail for `agent`. The receiver's `changed` fails when the daemon ends.
    pub(crate) fn listen(&self, agent: &str) -> watch::Receiver<()> {
        let mut waiting = self.waiting();
        waiting.retain(|_, sender| sender.receiver_count() > 0);
        waiting.entry(agent.to_owned()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Returns `true` if a call in the name of `agent` is waiting now.
    pub(crate) fn is_heard_by(&self, agent: &str) -> bool {
        self.waiting().get(agent).is_some_and(|sender| sender.receiver_count() > 0)
    }

    fn wake(&self, concerned: &Concerned) {
        let waiting = self.waiting();
        match concerned {
            Concerned::All => waiting.values().for_each(|sender| sender.send_replace(())),
            Concerned::Agents(names) => {
                names.iter().filter_map(|name| waiting.get(name)).for_each(|sender| sender.send_replace(()))
            }
        }
    }

    fn nobody_waits(&self) -> bool {
        self.waiting().values().all(|sender| sender.receiver_count() == 0)
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<String, watch::Sender<()>>> {
        // Every change is a single call on the map.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the log and wakes agents until the daemon stops.
pub(crate) async fn follow(wakes: Arc<WakeRegistry>, storage: Arc<Storage>, shutdown: Shutdown) {
    let mut commits = storage.commits();
    let mut after = commits.borrow_and_update().latest;
    // Assume that a mailbox is being filled until the store reports otherwise.
    let mut filled = true;
    loop {
        tokio::select! {
            changed = commits.changed() => if changed.is_err() { break },
            () = shutdown.stopping() => break,
        }
        let latest = commits.borrow_and_update().latest;
        // A call that starts to wait after this point looks at everything committed so far.
        if wakes.nobody_waits() {
            filled = true;
        } else {
            let look = move |reader: &Reader<'_>| {
                Ok((reader.page(after, limits::MAX_BATCH_EVENTS, limits::MAX_BATCH_BYTES)?, reader.mailbox_fills()?))
            };
            let (all, fills) =
                storage.read(look).await.map_or((Concerned::All, true), |(page, fills)| (concerned(&page), fills));
            // Wake all agents once more after the filling has finished.
            wakes.wake(if filled || fills { &Concerned::All } else { &all });
            filled = fills;
        }
        after = latest;
    }
    // Dropping the senders tells every waiting call that the daemon ends.
    wakes.waiting().clear();
}

fn concerned(page: &Page) -> Concerned {
    // There is a lot to catch up on: wake all agents once.
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
    let no_agent = Concerned::Agents(BTreeSet::new());
    // Unreadable events are not folded.
    let Ok(payload) = Payload::read(&row.kind, &row.body) else { return no_agent };
    match payload {
        Payload::MessageCreate(message) => addressed(message),
        // An agent that registers after its mail was sent finds the mail then.
        Payload::AgentRegister(agent) => Concerned::Agents(BTreeSet::from([agent.agent_id])),
        // Events of the other types put no mail into a mailbox.
        Payload::MessageEdit(_)
        | Payload::MessageDelete(_)
        | Payload::MessageReceipt(_)
        | Payload::AgentUpdate(_)
        | Payload::AgentCleanup(_)
        | Payload::AgentPresence(_)
        | Payload::AgentWoken(_)
        | Payload::SessionStart(_)
        | Payload::SessionEnd(_)
        | Payload::PurgeExecuted(_)
        | Payload::GroupCreate(_)
        | Payload::GroupUpdate(_)
        | Payload::GroupDelete(_)
        | Payload::GroupMemberAdd(_)
        | Payload::GroupMemberRemove(_)
        | Payload::FileClaim(_)
        | Payload::FileRelease(_)
        | Payload::Unknown => no_agent,
    }
}

fn addressed(message: MessageCreate) -> Concerned {
    if message.recipients.is_empty() || !Audience::of(&message).is_agents_only() {
        Concerned::All
    } else {
        Concerned::Agents(message.recipients.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use thrum_core::payload::Tag;
    use thrum_store::{
        ops::Register,
        query::{Filter, Mailbox},
    };
    use tokio::time::timeout;

    use super::*;
    use crate::storage::kit;

    fn message(recipients: &[&str], refs: &[(&str, &str)]) -> Row {
        let payload = Payload::MessageCreate(MessageCreate {
            message_id: "msg_1".into(),
            recipients: recipients.iter().map(|&name| name.to_owned()).collect(),
            refs: refs.iter().map(|(kind, value)| Tag::new(kind, value)).collect(),
            ..MessageCreate::default()
        });
        let body = serde_json::Value::Object(payload.fields()).to_string();
        Row {
            sequence: 1,
            id: "evt_1".into(),
            kind: payload.kind().into(),
            origin: "d_x".into(),
            body,
            reference: None,
        }
    }

    fn names<const N: usize>(names: [&str; N]) -> Concerned {
        Concerned::Agents(names.map(str::to_owned).into())
    }

    #[test]
    fn a_message_wakes_the_agents_it_names_and_everyone_if_it_names_a_group() {
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
    fn only_addressed_waiters_wake_and_dropped_waiters_are_forgotten() {
        let wakes = WakeRegistry::default();
        let (alice, bob, again) = (wakes.listen("alice"), wakes.listen("bob"), wakes.listen("bob"));
        wakes.wake(&names(["bob", "nobody"]));
        let woken = [&alice, &bob, &again].map(|ear| ear.has_changed().unwrap());
        assert_eq!(woken, [false, true, true]);
        drop((bob, again));
        let carol = wakes.listen("carol");
        assert_eq!(wakes.waiting().len(), 2);
        wakes.wake(&Concerned::All);
        assert!(alice.has_changed().unwrap() && carol.has_changed().unwrap());
        drop((alice, carol));
        assert!(wakes.nobody_waits());
    }

    #[tokio::test]
    async fn a_waiter_wakes_when_the_last_piece_of_its_mailbox_arrives() {
        let all = 2 * kit::PIECE + 1;
        let (_dir, storage) = kit::with_mail_of_dan(all);
        let (wakes, shutdown) = (Arc::new(WakeRegistry::default()), Shutdown::default());
        let mailbox =
            Mailbox { agent_id: "dan".into(), home: storage.write_now(|tx| Ok(tx.home().to_owned())).unwrap() };
        let mut dan = wakes.listen("dan");
        shutdown.spawn(follow(Arc::clone(&wakes), Arc::clone(&storage), shutdown.clone()));
        // Let the task start, so that it follows the commits from now on.
        tokio::task::yield_now().await;
        let register =
            Register { name: "dan".into(), role: "reader".into(), module: "m".into(), ..Register::default() };
        let held = kit::hold_after_two_pieces(&storage, |tx| tx.register(register));
        let mut heard = async || timeout(limits::LOCAL_CALL, dan.changed()).await.expect("is rung for").unwrap();
        let found = || {
            let filter = Filter { mailbox: Some(mailbox.clone()), limit: 1, ..Filter::default() };
            storage.read_now(|reader| Ok(reader.list(&filter)?.total)).unwrap()
        };
        heard().await;
        assert_eq!(found(), 2 * kit::PIECE);
        drop(held);
        while found() < all {
            heard().await;
        }
        shutdown.drain(limits::DRAIN).await;
    }
}
