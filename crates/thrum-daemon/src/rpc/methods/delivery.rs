//! The delivery state of a message for each recipient: `stored` here, `at_home`, `wake_requested`, `shown`, `read`.
//!
//! The recipient's home reports the last three in events: a waiter of the agent was given the message in order to wake
//! the agent; the message's text, or its beginning, was shown to the agent, whose session has continued since; the
//! agent has read the message. A state does not require the earlier ones: an agent without a waiter is not woken, and
//! mail may be read without being shown first.
//!
//! Only the home itself can report "at home": its daemon has read our log up to the message (see
//! [`Acknowledged`](crate::acknowledged::Acknowledged)), or wrote the message. A relay's word does not count.

use serde::Serialize;
use thrum_core::{Machines, Timestamp};
use thrum_store::query::{Mailbox, Message, Recipient};

use super::outlook::Outlook;
use crate::daemon::Daemon;

/// The delivery of a message to one recipient.
#[derive(Debug, Serialize)]
pub(super) struct Delivery {
    agent_id: String,
    /// When the message was written, or arrived here if it claims a later time.
    delivered_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    woken_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seen_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) read_at: Option<Timestamp>,
    state: State,
    /// Since when the message is known to be at the recipient's home, if that is another daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    at_home_since: Option<Timestamp>,
    /// The recipient's home; absent if no agent of this name is registered anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    home: Option<String>,
    /// The name of the recipient's home, as known here.
    #[serde(skip_serializing_if = "Option::is_none")]
    home_name: Option<String>,
    /// `@name`, or `@name@machine` if the home is another daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// `true` if the home is this daemon; a stored message is then at home.
    #[serde(skip_serializing_if = "Option::is_none")]
    local: Option<bool>,
    /// The outlook at the time of sending, as far as it is known.
    #[serde(flatten)]
    outlook: Option<Outlook>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Stored,
    AtHome,
    WakeRequested,
    Shown,
    Read,
}

impl Delivery {
    /// Returns the delivery of a message that was stored just now.
    pub(super) fn sent(mailbox: Mailbox, machines: &Machines, at: Timestamp, outlook: Option<Outlook>) -> Self {
        Self { outlook, ..Self::stored(mailbox, machines, at) }
    }

    fn stored(mailbox: Mailbox, machines: &Machines, at: Timestamp) -> Self {
        Self {
            home_name: Some(machines.name(&mailbox.home).into_owned()),
            address: Some(machines.address(&mailbox.agent_id, &mailbox.home)),
            local: Some(machines.is_own(&mailbox.home)),
            home: Some(mailbox.home),
            agent_id: mailbox.agent_id,
            delivered_at: at,
            woken_at: None,
            seen_at: None,
            read_at: None,
            state: State::Stored,
            at_home_since: None,
            outlook: None,
        }
    }
}

/// Builds the deliveries of messages, with the names of the machines.
pub(super) struct Deliveries<'d> {
    daemon: &'d Daemon,
    machines: Machines,
}

impl<'d> Deliveries<'d> {
    /// Returns a builder; `machines` must contain a name for the home of every recipient.
    pub(super) fn now(daemon: &'d Daemon, machines: Machines) -> Self {
        Self { daemon, machines }
    }

    /// Returns the names of the machines.
    pub(super) fn machines(&self) -> &Machines {
        &self.machines
    }

    /// Returns the deliveries of a message to all recipients, in the message's order.
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
            state: match recipient {
                Recipient { read_at: Some(_), .. } => State::Read,
                Recipient { seen_at: Some(_), .. } => State::Shown,
                Recipient { woken_at: Some(_), .. } => State::WakeRequested,
                _ if at_home_since.is_some() => State::AtHome,
                _ => State::Stored,
            },
            woken_at: recipient.woken_at,
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
