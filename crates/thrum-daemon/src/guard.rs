//! Tracks mail that is held, that is, refused to its author, because author and recipient have exchanged too many
//! messages without a person.
//!
//! The rule is in `thrum-store/src/ops/guard.rs`. It applies to messages of an agent whose hooks report that its model
//! is at work. Mail of a person who types a command, and of programs without hooks, is not held.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use thrum_core::{Timestamp, limits};
use thrum_store::query::Mailbox;

/// The held mail: by the name of the author, an agent of this daemon, and then by the name and home of the recipient.
type ByAuthor = BTreeMap<String, BTreeMap<(String, String), Held>>;

/// The mail that is held now.
#[derive(Debug, Default)]
pub(crate) struct Guard {
    held: Mutex<ByAuthor>,
}

/// Held mail from one agent to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Held {
    /// The recipient as an address: `@name`, or `@name@machine` for an agent of another daemon.
    pub(crate) to: String,
    /// The number of messages that the two agents have exchanged.
    pub(crate) messages: u64,
    /// When the mail was first held.
    pub(crate) since: Timestamp,
}

impl Guard {
    /// Records that mail is held. Returns `true` if mail to this recipient was not held before, and there is room to
    /// record it.
    pub(crate) fn hold(&self, from: &str, to: &Mailbox, held: Held) -> bool {
        let mut all = self.held();
        if !all.contains_key(from) && all.len() >= limits::MAX_PRESENT {
            return false;
        }
        let of = all.entry(from.to_owned()).or_default();
        let to = (to.agent_id.clone(), to.home.clone());
        if of.contains_key(&to) || of.len() >= limits::MAX_PROGRAM_SESSIONS {
            return false;
        }
        of.insert(to, held);
        true
    }

    /// Records that mail to this recipient was sent.
    pub(crate) fn release(&self, from: &str, to: &Mailbox) {
        if let Some(of) = self.held().get_mut(from) {
            of.remove(&(to.agent_id.clone(), to.home.clone()));
        }
    }

    /// Records that a person has given an agent of this daemon a prompt, which releases the mail from and to the agent.
    /// Mail to an agent of that name at another daemon stays held.
    pub(crate) fn person_prompts(&self, agent: &Mailbox) {
        let prompted = (agent.agent_id.clone(), agent.home.clone());
        let mut all = self.held();
        all.remove(&agent.agent_id);
        all.values_mut().for_each(|of| {
            of.remove(&prompted);
        });
    }

    /// Returns an agent's held mail.
    pub(crate) fn of(&self, from: &str) -> Vec<Held> {
        self.held().get(from).map(|of| of.values().cloned().collect()).unwrap_or_default()
    }

    fn held(&self) -> MutexGuard<'_, ByAuthor> {
        // A panic cannot leave a half-made change behind: no step of a change can fail.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_releases_the_mail_of_that_agent_only_and_not_of_its_namesake_elsewhere() {
        let guard = Guard::default();
        let at = |name: &str, home: &str| Mailbox { agent_id: name.to_owned(), home: home.to_owned() };
        let (here, there) = (at("ann", "d_here"), at("ann", "d_there"));
        let hold = |from: &str, to: &Mailbox| {
            let held = Held { to: format!("{}@{}", to.agent_id, to.home), messages: 40, since: Timestamp::ZERO };
            assert!(guard.hold(from, to, held));
        };
        hold("ben", &here);
        hold("ben", &there);
        hold("ann", &at("ben", "d_here"));
        guard.person_prompts(&here);
        let to = |from: &str| guard.of(from).into_iter().map(|held| held.to).collect::<Vec<_>>();
        assert_eq!((to("ben"), to("ann")), (vec!["ann@d_there".to_owned()], vec![]));
    }
}
