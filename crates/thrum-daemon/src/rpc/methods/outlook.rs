//! The outlook of a recipient: whether its machine can be reached, and whether the agent is there to read a message.
//!
//! A message is stored regardless of the outlook. The outlook uses only what this daemon already knows and never waits
//! for a network.

use serde::Serialize;
use thrum_core::{
    Ambient, Machines, Timestamp, limits,
    name::{shown, shown_machine},
    payload::PresenceState,
};
use thrum_store::{
    Reader, StoreError,
    query::{Agent, Liveness, Mailbox, Presence, Session},
};
use thrum_sync::{registry::Peer, replicator::State};

use super::{presence::Doing, session};
use crate::{ambient::System, daemon::Daemon, git_sync::GitReach};

/// What to expect of a message's delivery; absent if the recipient is not known here, or if the route is free and the
/// agent is active in a program whose state is unknown.
#[derive(Debug, Serialize)]
pub(super) struct Outlook {
    /// A sentence for people.
    outlook: String,
    /// The outlook as a word for programs. If the route delays mail or leads through another peer: the state of the
    /// recipient's machine as a peer, or of the peer that relays to it (`connecting`, `unreachable`, `stopped`,
    /// `removed_us`, …); `relayed` if the relaying peer is connected; `through_git` if it is reached through git,
    /// `git_failing` if the last exchange failed, `git_absent` if it is not on the remote any more; `removed` if there
    /// is none of these. Otherwise, if known, the state of the recipient's program: `wakeable`, `busy`, `needs_you`,
    /// `idle` or `gone`. Otherwise the state of the recipient's last session: `ended`, `silent` or `no_session`.
    outlook_state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlook_since: Option<Timestamp>,
}

/// The route of mail to an agent's home.
pub(super) enum Way {
    /// The home is this daemon.
    Here,
    /// The home is a peer.
    Peer { name: String, state: State, since: Timestamp },
    /// The home is not a peer, but a peer served the agent's registration.
    Through { name: String, state: State, since: Timestamp },
    /// Neither the home nor the daemon that served the agent's registration is a peer, but one of them is a trusted
    /// daemon on the git remote. `is_failing` is whether the last exchange failed.
    Git { is_failing: bool },
    /// The home is a trusted daemon that was not on the git remote at the last exchange.
    GitAbsent,
    /// The home is a daemon on the git remote that a person does not trust.
    Distrusted,
    /// None of these.
    Removed,
}

impl Way {
    /// Determines the route. `via` is the peer that served the agent's registration.
    pub(super) fn to(
        home: &str,
        via: Option<&str>,
        here: &str,
        peers: &[(Peer, State, Timestamp)],
        git: &GitReach,
    ) -> Self {
        let found = |id: &str| {
            peers
                .iter()
                .find(|(peer, ..)| peer.daemon_id == id)
                .map(|(peer, state, since)| (peer.name.clone(), *state, *since))
        };
        if home == here {
            return Self::Here;
        }
        if let Some((name, state, since)) = found(home) {
            return Self::Peer { name, state, since };
        }
        match via.filter(|via| *via != home).and_then(found) {
            Some((name, state, since)) => Self::Through { name, state, since },
            None if git.distrusted.contains(home) => Self::Distrusted,
            None if [Some(home), via].into_iter().flatten().any(|id| git.trusted.contains(id)) => {
                Self::Git { is_failing: git.is_failing }
            }
            None if git.absent.contains(home) => Self::GitAbsent,
            None => Self::Removed,
        }
    }

    /// Returns `true` if the connection to the home is interrupted, and this may last.
    pub(super) fn is_blocked(&self) -> bool {
        match self {
            Self::Here => false,
            Self::Peer { state, .. } | Self::Through { state, .. } => state.needs_attention(),
            Self::Git { is_failing } => *is_failing,
            Self::GitAbsent | Self::Distrusted | Self::Removed => true,
        }
    }

    /// Returns the state of the route for an answer, and since when: the state of the peer, `through_git`, `git_failing`,
    /// `git_absent`, `distrusted` or `removed`. `None` if the home is this daemon, or if mail is relayed by a connected
    /// peer.
    pub(super) fn shown(self) -> (Option<String>, Option<Timestamp>) {
        match self {
            Self::Here | Self::Through { state: State::Connected, .. } => (None, None),
            Self::Git { is_failing } => (Some(if is_failing { "git_failing" } else { "through_git" }.to_owned()), None),
            Self::Peer { state, since, .. } | Self::Through { state, since, .. } => {
                (Some(standing(state, since).1), Some(since))
            }
            Self::GitAbsent => (Some("git_absent".to_owned()), None),
            Self::Distrusted => (Some("distrusted".to_owned()), None),
            Self::Removed => (Some("removed".to_owned()), None),
        }
    }

    /// Returns the outlook if the route delays mail or leads through another peer; `machine` is the name of the agent's
    /// machine.
    fn obstacle(&self, agent: &Agent, machine: &str) -> Option<Outlook> {
        let who = shown(&agent.agent_id);
        match self {
            Self::Here | Self::Peer { state: State::Connected, .. } => None,
            Self::Peer { name, state, since } => {
                let (is, state_name) = standing(*state, *since);
                Some(Outlook::new(
                    &state_name,
                    Some(*since),
                    format!("@{who}'s machine {} {is}, it waits", shown_machine(name)),
                ))
            }
            Self::Through { name, state: State::Connected, .. } => {
                let text = format!(
                    "@{who}'s machine {} is no peer of this one: {} passes it on",
                    shown_machine(machine),
                    shown_machine(name)
                );
                Some(Outlook::new("relayed", None, text))
            }
            Self::Through { name, state, since } => {
                let (is, state_name) = standing(*state, *since);
                let (machine, name) = (shown_machine(machine), shown_machine(name));
                let text = format!(
                    "@{who}'s machine {machine} is no peer of this one, and {name}, which passes mail on, {is}: it waits"
                );
                Some(Outlook::new(&state_name, Some(*since), text))
            }
            Self::Git { is_failing: false } => {
                let text = format!(
                    "@{who}'s machine {} is reached through git: it gets it with its next exchange",
                    shown_machine(machine)
                );
                Some(Outlook::new("through_git", None, text))
            }
            Self::Git { is_failing: true } => {
                let text = format!(
                    "@{who}'s machine {} is reached through git, and the last exchange failed: it waits",
                    shown_machine(machine)
                );
                Some(Outlook::new("git_failing", None, text))
            }
            Self::GitAbsent => {
                let text = format!(
                    "@{who}'s machine {} is not on the git remote any more: it waits until it is back there",
                    shown_machine(machine)
                );
                Some(Outlook::new("git_absent", None, text))
            }
            Self::Distrusted => {
                let text = format!(
                    "@{who}'s machine {} is not trusted here: nothing that it writes arrives, and it gets this only if what is published through git is not encrypted",
                    shown_machine(machine)
                );
                Some(Outlook::new("distrusted", None, text))
            }
            Self::Removed => {
                let machine = shown_machine(machine);
                let text = format!(
                    "@{who}'s machine {machine} is no peer of this one (removed, or never paired): it waits until both are paired, or share a git remote"
                );
                Some(Outlook::new("removed", None, text))
            }
        }
    }
}

/// Describes the state of a peer, as part of a sentence and as a name for programs.
fn standing(state: State, since: Timestamp) -> (String, String) {
    let name = serde_json::to_value(state).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let since = since.to_the_second();
    let is = match state {
        State::Connecting => format!("is not connected since {since}"),
        State::Stopped => format!("stopped at {since}"),
        State::RemovedUs => format!("removed this one from its peers (known since {since})"),
        _ => format!("is {} since {since}", name.replace('_', " ")),
    };
    (is, name)
}

impl Outlook {
    fn new(state: &str, since: Option<Timestamp>, outlook: String) -> Self {
        Self { outlook, outlook_state: state.to_owned(), outlook_since: since }
    }

    /// Returns the outlook for an agent whose program is in this state; `who` is the agent's address.
    fn of_program(who: &str, doing: &Doing) -> Option<Self> {
        let since = doing.since.map(|at| format!(" since {}", at.to_the_second())).unwrap_or_default();
        let (state, text) = match doing.state? {
            _ if doing.wakeable => ("wakeable", format!("{who} waits for mail: it gets it now")),
            PresenceState::Working => ("busy", format!("{who} is working{since}: it gets it when it ends its turn")),
            PresenceState::NeedsYou => {
                ("needs_you", format!("{who} waits for its person{since}: it gets it when it ends its turn"))
            }
            PresenceState::Idle => {
                ("idle", format!("{who} is idle{since} and nothing wakes it: it gets it with its next prompt"))
            }
            PresenceState::Gone => ("gone", format!("{who} is gone{since}: it waits for the next session")),
        };
        Some(Self::new(state, doing.since, text))
    }

    /// Returns the outlook for an agent with this last session; `who` is the agent's address.
    fn of_session(agent: &Agent, who: &str, session: Option<Session>, daemon: &Daemon) -> Option<Self> {
        let Some(mut session) = session else {
            // An agent that waits or makes calls is there even without a session.
            let seen =
                super::agent::seen(daemon, agent).filter(|seen| System.now().since(*seen) <= limits::AGENT_SILENT);
            let text = format!("{who} has no session: it waits for one");
            return if seen.is_some() { None } else { Some(Self::new("no_session", None, text)) };
        };
        session::refresh(daemon, &mut session);
        match session.liveness(System.now(), &daemon.id) {
            Liveness::Active => None,
            Liveness::Silent => {
                let at = session.last_seen_at;
                Some(Self::new(
                    "silent",
                    Some(at),
                    format!("{who} was last heard of at {}: it waits", at.to_the_second()),
                ))
            }
            Liveness::Ended => {
                let at = session.ended_at.unwrap_or(session.last_seen_at);
                Some(Self::new(
                    "ended",
                    Some(at),
                    format!("{who}'s session ended at {}: it waits for the next one", at.to_the_second()),
                ))
            }
        }
    }
}

/// What the store holds about one recipient.
struct RecipientRecord {
    agent: Agent,
    session: Option<Session>,
    via: Option<String>,
    presence: Option<Presence>,
}

fn load_recipient(reader: &Reader<'_>, mailbox: &Mailbox) -> Result<Option<RecipientRecord>, StoreError> {
    let Some(agent) = reader.agent(&mailbox.agent_id, &mailbox.home)? else { return Ok(None) };
    let session = reader.newest_session(&agent.agent_id, &agent.home)?;
    Ok(Some(RecipientRecord {
        presence: reader.presence(mailbox)?,
        via: reader.agent_served_by(&agent.agent_id, &agent.home)?,
        agent,
        session,
    }))
}

/// The stored records of the recipients of a message, in their order; at most [`limits::MAX_OUTLOOKS`].
pub(super) struct Recipients {
    records: Vec<Option<RecipientRecord>>,
    machines: Machines,
}

impl Recipients {
    /// Reads the recipients. `machines` names this machine and those of the peers.
    pub(super) fn load(reader: &Reader<'_>, mailboxes: &[Mailbox], mut machines: Machines) -> Result<Self, StoreError> {
        let mailboxes = &mailboxes[..mailboxes.len().min(limits::MAX_OUTLOOKS)];
        reader.name_machines(&mut machines, mailboxes.iter().map(|mailbox| mailbox.home.as_str()))?;
        let records = mailboxes.iter().map(|mailbox| load_recipient(reader, mailbox)).collect::<Result<_, _>>()?;
        Ok(Self { records, machines })
    }
}

/// Returns the outlook of each recipient, in their order.
pub(super) fn outlooks(daemon: &Daemon, Recipients { records, machines }: Recipients) -> Vec<Option<Outlook>> {
    let (peers, git) = (daemon.peers.reach(), daemon.git_sync.reach());
    let outlook = |RecipientRecord { agent, session, via, presence }: RecipientRecord| {
        let way = Way::to(&agent.home, via.as_deref(), &daemon.id, &peers, &git);
        let who = machines.address(&agent.agent_id, &agent.home);
        let seen =
            session.as_ref().map(|session| daemon.last_seen(&session.agent_id, &session.home, session.last_seen_at));
        let mailbox = Mailbox { agent_id: agent.agent_id.clone(), home: agent.home.clone() };
        let doing = Doing::of(daemon, &mailbox, presence, seen.or_else(|| super::agent::seen(daemon, &agent)));
        let obstacle = way.obstacle(&agent, &machines.name(&agent.home)).or_else(|| Outlook::of_program(&who, &doing));
        obstacle.or_else(|| Outlook::of_session(&agent, &who, session, daemon))
    };
    records.into_iter().map(|record| record.and_then(outlook)).collect()
}
