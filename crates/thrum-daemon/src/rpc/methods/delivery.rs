//! How far a message got with each recipient: `stored` here, `at_home` since, `read`.
//!
//! "At home" is said on the word of that home alone: its own daemon has read our log up to the message (see
//! [`Acknowledged`](crate::acknowledged::Acknowledged)), or wrote the message itself. A relay's word does not count.

use serde::Serialize;
use thrum_core::{Machines, Stamp};
use thrum_store::query::{Mailbox, Message, Recipient};

use super::outlook::Outlook;
use crate::daemon::Daemon;

/// One recipient of a message.
#[derive(Debug, Serialize)]
pub(super) struct Delivery {
    agent_id: String,
    /// When it was stored for them.
    delivered_at: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<Stamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_at: Option<Stamp>,
    state: State,
    /// Since when it is at its home, where that is another daemon and has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_home_since: Option<Stamp>,
    /// The daemon it lives at; missing if nobody of this name is registered anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    /// What that daemon is called here.
    #[serde(skip_serializing_if = "Option::is_none")]
    home_name: Option<String>,
    /// `@name`, or `@name@machine` where that is another daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Whether that is this one: then stored is at home.
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<bool>,
    /// Why it waits, as far as that is known when it is sent.
    #[serde(flatten)]
    outlook: Option<Outlook>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Stored,
    AtHome,
    Read,
}

impl Delivery {
    /// To somebody for whom it was stored just now.
    pub(super) fn sent(mailbox: Mailbox, machines: &Machines, at: Stamp, outlook: Option<Outlook>) -> Self {
        Self { outlook, ..Self::stored(mailbox, machines, at) }
    }

    fn stored(mailbox: Mailbox, machines: &Machines, at: Stamp) -> Self {
        Self {
            home_name: Some(machines.name(&mailbox.home).into_owned()),
            address: Some(machines.address(&mailbox.agent_id, &mailbox.home)),
            local: Some(machines.is_own(&mailbox.home)),
            home: Some(mailbox.home),
            agent_id: mailbox.agent_id,
            delivered_at: at,
            seen_at: None,
            read_at: None,
            state: State::Stored,
            at_home_since: None,
            outlook: None,
        }
    }
}

/// What is known of all homes at one moment.
pub(super) struct Deliveries<'d> {
    daemon: &'d Daemon,
    machines: Machines,
}

impl<'d> Deliveries<'d> {
    /// `machines` has a name for the home of every recipient.
    pub(super) fn now(daemon: &'d Daemon, machines: Machines) -> Self {
        Self { daemon, machines }
    }

    /// What the machines are called.
    pub(super) fn machines(&self) -> &Machines {
        &self.machines
    }

    /// Every recipient of a message, in the order in which it names them.
    pub(super) fn of(&self, message: &Message) -> Vec<Delivery> {
        message.recipients.iter().map(|recipient| self.one(message, recipient)).collect()
    }

    fn one(&self, message: &Message, recipient: &Recipient) -> Delivery {
        let home = recipient.home.as_deref();
        let local = home.map(|home| home == self.daemon.id);
        let at_home_since = match home {
            Some(home) if local == Some(false) && home == message.origin => Some(message.created_at),
            Some(home) if local == Some(false) => self.daemon.storage.acknowledged.since(home, message.sequence),
            _ => None,
        };
        Delivery {
            state: match (recipient.read_at, at_home_since) {
                (Some(_), _) => State::Read,
                (None, Some(_)) => State::AtHome,
                (None, None) => State::Stored,
            },
            seen_at: recipient.seen_at,
            read_at: recipient.read_at,
            at_home_since,
            home_name: home.map(|home| self.machines.name(home).into_owned()),
            address: home.map(|home| self.machines.address(&recipient.agent_id, home)),
            home: recipient.home.clone(),
            local,
            agent_id: recipient.agent_id.clone(),
            delivered_at: message.created_at,
            outlook: None,
        }
    }
}
