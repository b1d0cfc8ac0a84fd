//! What a sender may expect of a recipient: whether its machine can be reached, and whether anybody is there to read.
//!
//! A message is stored whatever the answer is. Nothing here waits for a network: it is what this daemon knows already.

use serde::Serialize;
use thrum_core::{
    Ambient, Fault, Stamp, limits,
    name::{shown, shown_machine},
};
use thrum_store::{
    Reader, StoreError,
    query::{Agent, AgentFilter, Liveness, Mailbox, Session, SessionFilter},
};
use thrum_sync::{registry::Peer, replicator::State};

use super::session;
use crate::{ambient::System, daemon::Daemon};

/// Why a message waits; nothing where somebody is there to read it.
#[derive(Debug, Serialize)]
pub(super) struct Outlook {
    /// One sentence.
    outlook: String,
    /// The same for programs: the state of its machine (`connecting`, `unreachable`, `removed_us`, …), `removed` or `relayed` where
    /// that is no peer, else `ended`, `silent` or `no_session` of its session.
    outlook_state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    outlook_since: Option<Stamp>,
}

/// How mail gets to the home of an agent.
pub(super) enum Way {
    /// It is this daemon.
    Here,
    /// It is a peer.
    Peer { name: String, state: State, since: Stamp },
    /// It is no peer; what is known of it came through one.
    Through { name: String, state: State, since: Stamp },
    /// It is no peer any more.
    Removed,
}

impl Way {
    /// `via` is who served the agent's registration.
    pub(super) fn to(home: &str, via: Option<&str>, here: &str, peers: &[(Peer, State, Stamp)]) -> Self {
        let found =
            |id: &str| peers.iter().find(|(peer, ..)| peer.daemon_id == id).map(|(peer, state, since)| (peer.name.clone(), *state, *since));
        if home == here {
            return Self::Here;
        }
        if let Some((name, state, since)) = found(home) {
            return Self::Peer { name, state, since };
        }
        match via.filter(|via| *via != home).and_then(found) {
            Some((name, state, since)) => Self::Through { name, state, since },
            None => Self::Removed,
        }
    }

    /// Whether nothing gets there now, which may last.
    pub(super) fn is_blocked(&self) -> bool {
        match self {
            Self::Here => false,
            Self::Peer { state, .. } | Self::Through { state, .. } => !matches!(state, State::Connected | State::Connecting),
            Self::Removed => true,
        }
    }

    /// How the way there stands: the state of the peer, or `removed`, and since when.
    pub(super) fn shown(self) -> (Option<String>, Option<Stamp>) {
        match self {
            Self::Here | Self::Through { state: State::Connected, .. } => (None, None),
            Self::Peer { state, since, .. } | Self::Through { state, since, .. } => (Some(standing(state, since).1), Some(since)),
            Self::Removed => (Some("removed".to_owned()), None),
        }
    }

    /// What keeps mail to an agent from getting there.
    fn obstacle(&self, agent: &Agent) -> Option<Outlook> {
        let who = shown(&agent.agent_id);
        match self {
            Self::Here | Self::Peer { state: State::Connected, .. } => None,
            Self::Peer { name, state, since } => {
                let (is, state_name) = standing(*state, *since);
                Some(Outlook::new(&state_name, Some(*since), format!("@{who}'s machine {} {is}, it waits", shown_machine(name))))
            }
            Self::Through { name, state: State::Connected, .. } => {
                let text = format!("@{who}'s machine is no peer of this one: {} passes it on", shown_machine(name));
                Some(Outlook::new("relayed", None, text))
            }
            Self::Through { name, state, since } => {
                let (is, state_name) = standing(*state, *since);
                let text =
                    format!("@{who}'s machine is no peer of this one, and {}, which passes mail on, {is}: it waits", shown_machine(name));
                Some(Outlook::new(&state_name, Some(*since), text))
            }
            Self::Removed => {
                let name = if agent.hostname.is_empty() { String::new() } else { format!(" {}", shown_machine(&agent.hostname)) };
                let text =
                    format!("@{who}'s machine{name} is no peer of this one (removed, or never paired): it waits until both are paired");
                Some(Outlook::new("removed", None, text))
            }
        }
    }
}

/// How a peer stands, for a sentence and for programs.
fn standing(state: State, since: Stamp) -> (String, String) {
    let name = serde_json::to_value(state).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
    let since = since.to_the_second();
    let is = match state {
        State::Connecting => format!("is not connected since {since}"),
        State::RemovedUs => format!("removed this one from its peers (known since {since})"),
        _ => format!("is {} since {since}", name.replace('_', " ")),
    };
    (is, name)
}

impl Outlook {
    fn new(state: &str, since: Option<Stamp>, outlook: String) -> Self {
        Self { outlook, outlook_state: state.to_owned(), outlook_since: since }
    }

    /// Of an agent whose session is this one, the last.
    fn of_session(agent: &Agent, session: Option<Session>, daemon: &Daemon) -> Option<Self> {
        let who = shown(&agent.agent_id);
        let Some(mut session) = session else {
            // Who waits or calls without a session is there.
            let seen = super::agent::seen(daemon, agent).filter(|seen| System.now().since(*seen) <= limits::AGENT_SILENT);
            let text = format!("@{who} has no session: it waits for one");
            return if seen.is_some() { None } else { Some(Self::new("no_session", None, text)) };
        };
        session::refresh(daemon, &mut session);
        match session.liveness(System.now(), &daemon.id) {
            Liveness::Active => None,
            Liveness::Silent => {
                let at = session.last_seen_at;
                Some(Self::new("silent", Some(at), format!("@{who} was last heard of at {}: it waits", at.to_the_second())))
            }
            Liveness::Ended => {
                let at = session.ended_at.unwrap_or(session.last_seen_at);
                Some(Self::new("ended", Some(at), format!("@{who}'s session ended at {}: it waits for the next one", at.to_the_second())))
            }
        }
    }
}

/// What is known of a recipient.
struct Known {
    agent: Agent,
    session: Option<Session>,
    via: Option<String>,
}

fn known(reader: &Reader<'_>, mailbox: &Mailbox) -> Result<Option<Known>, StoreError> {
    let (agent_id, home) = (Some(mailbox.agent_id.clone()), Some(mailbox.home.clone()));
    let is_it = AgentFilter { agent_id: agent_id.clone(), home: home.clone(), ..AgentFilter::default() };
    let Some(agent) = reader.agents(&is_it)?.pop() else { return Ok(None) };
    let last = SessionFilter { agent_id, home, newest: Some(1), ..SessionFilter::default() };
    let session = reader.sessions(&last)?.into_iter().next();
    Ok(Some(Known { via: reader.agent_served_by(&agent.agent_id, &agent.home)?, agent, session }))
}

/// What to expect of each of these recipients, in their order; of at most [`limits::MAX_OUTLOOKS`].
pub(super) async fn outlooks(daemon: &Daemon, recipients: Vec<Mailbox>) -> Result<Vec<Option<Outlook>>, Fault> {
    let found = daemon.storage.read(move |reader| {
        recipients.iter().take(limits::MAX_OUTLOOKS).map(|mailbox| known(reader, mailbox)).collect::<Result<Vec<_>, _>>()
    });
    let found = found.await?;
    let peers = daemon.peers.reach();
    let outlook = |Known { agent, session, via }: Known| {
        let way = Way::to(&agent.home, via.as_deref(), &daemon.id, &peers);
        way.obstacle(&agent).or_else(|| Outlook::of_session(&agent, session, daemon))
    };
    Ok(found.into_iter().map(|known| known.and_then(outlook)).collect())
}
