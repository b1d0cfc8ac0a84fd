//! `work.wait`: returns when an agent is idle, when no other agent has claimed a file or changed it without a commit,
//! or when a task is not the current task of another agent; at the latest when the time is over.
//!
//! The call queries at once. It queries again when something is committed, when the program of an agent here reports a
//! new state, and when something expires, such as a claim. Queries start at least [`limits::WAIT_LOOK`] apart, except
//! the last one, at the deadline.

use std::{ops::ControlFlow, time::Duration};

use serde::{Deserialize, Serialize};
use thrum_core::{
    Ambient, Error, ErrorKind, Machines, Timestamp, limits, path,
    payload::{PresenceState, WorkContext},
};
use thrum_store::{
    Reader, StoreError, ops,
    query::{Claim, Liveness, Mailbox, Presence, Session, SessionFilter},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{agent_ref::AgentRef, answer, bounded, presence::Doing, session};
use crate::{ambient::System, daemon::Daemon, rpc::connection::Reply};

/// Default time to wait.
const DEFAULT: Duration = Duration::from_secs(30);

/// Maximum number of agents still in the way in one answer.
const MOST: usize = 20;

#[derive(Deserialize)]
pub(super) struct Until {
    /// The waiting agent; its own claims, changes and tasks do not count.
    #[serde(default)]
    caller_agent_id: Option<String>,
    /// Wait until this agent neither works nor waits for its person.
    #[serde(default)]
    idle: Option<String>,
    /// Wait until no other agent has claimed this file, or anything in this directory, or changed it without a commit.
    #[serde(default)]
    file: Option<String>,
    /// Wait until this is not the current task of another agent.
    #[serde(default)]
    task: Option<String>,
    #[serde(default)]
    timeout_ms: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Waited {
    /// `free` or `timeout`.
    status: &'static str,
    /// The agents that are still in the way, at most [`MOST`].
    agents: Vec<InTheWay>,
}

#[derive(Serialize)]
struct InTheWay {
    #[serde(flatten)]
    agent: AgentRef,
    /// `working`, `needs_you`, `active` (the agent has a session, and the state of its program is unknown), `claimed`,
    /// `changed` or `task`.
    why: &'static str,
    /// The claimed file or directory, or the changed file.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// The condition to wait for.
#[derive(Clone)]
enum Wish {
    Idle(String),
    File(String),
    Task(String),
}

pub(super) async fn wait(daemon: &Daemon, params: Until) -> Result<Reply, Error> {
    let deadline = Instant::now() + bounded(params.timeout_ms.map_or(DEFAULT, Duration::from_millis))?;
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let wish = match (given(params.idle), given(params.file), given(params.task)) {
        (Some(agent), None, None) => Wish::Idle(agent),
        (None, Some(file), None) => Wish::File(path::normal(&file)?),
        (None, None, Some(task)) => Wish::Task(task),
        _ => return Err(Error::new(ErrorKind::Invalid, "invalid params: one of idle, file and task is required")),
    };
    let me = Mailbox { agent_id: given(params.caller_agent_id).unwrap_or_default(), home: daemon.id.clone() };
    let (mut commits, mut programs) = (daemon.storage.commits(), daemon.live.programs.changes());
    loop {
        // Mark the changes as seen before the query, so that a commit during the query wakes this call again.
        commits.mark_unchanged();
        programs.mark_unchanged();
        let earliest = Instant::now() + limits::WAIT_LOOK;
        let Blockers { agents, again } = find_blockers(daemon, wish.clone(), me.clone()).await?;
        if agents.is_empty() {
            return answer(&Waited { status: "free", agents });
        }
        if Instant::now() >= deadline {
            return answer(&Waited { status: "timeout", agents });
        }
        let again = again.map_or(deadline, |at| deadline.min(Instant::now() + at.since(System.now())));
        let woken = timeout_at(again, async {
            tokio::select! {
                committed = commits.changed() => committed.is_ok(),
                changed = programs.changed() => changed.is_ok(),
            }
        });
        if matches!(woken.await, Ok(false)) {
            return Err(Error::new(ErrorKind::TryAgain, "the daemon is stopping"));
        }
        sleep_until(earliest.min(deadline)).await;
    }
}

/// The agents in the way, and the next time at which that may change without a commit.
struct Blockers {
    agents: Vec<InTheWay>,
    again: Option<Timestamp>,
}

/// An agent that may be in the way according to the store.
struct Candidate {
    agent: Mailbox,
    /// The agent's open session, if there is one.
    session: Option<Session>,
    presence: Option<Presence>,
    /// The changed file among those that are waited for.
    path: Option<String>,
}

async fn find_blockers(daemon: &Daemon, wish: Wish, me: Mailbox) -> Result<Blockers, Error> {
    let (asked, now, mut machines) = (wish.clone(), System.now(), daemon.machines());
    let found = daemon.storage.read(move |reader| {
        let (candidates, claims) = candidates(reader, &asked, &me, &machines, now)?;
        let homes = candidates.iter().map(|candidate| candidate.agent.home.as_str());
        reader.name_machines(&mut machines, homes.chain(claims.iter().map(|claim| claim.home.as_str())))?;
        Ok((candidates, claims, machines))
    });
    let (candidates, claims, machines) = found.await?;
    let mut blockers = Blockers { agents: Vec::new(), again: None };
    for claim in claims {
        let agent = Mailbox { agent_id: claim.agent_id, home: claim.home };
        blockers.add(&machines, agent, "claimed", Some(claim.path), Some(claim.until));
    }
    for Candidate { agent, session, presence, path } in candidates {
        let mut session = session;
        session.iter_mut().for_each(|session| session::refresh(daemon, session));
        let active = session.as_ref().filter(|session| session.liveness(now, &daemon.id) == Liveness::Active);
        // At that time the session becomes silent, unless the agent has shown a sign of life meanwhile.
        let until = active.map(|session| session.heard_until(&daemon.id).next());
        let why = match &wish {
            Wish::Idle(_) => {
                let seen = session.as_ref().map(|session| session.last_seen_at);
                match Doing::of(daemon, &agent, presence, seen).state {
                    Some(PresenceState::Working) => Some(("working", None)),
                    Some(PresenceState::NeedsYou) => Some(("needs_you", None)),
                    None if active.is_some() => Some(("active", until)),
                    _ => None,
                }
            }
            Wish::File(_) => active.map(|_| ("changed", until)),
            Wish::Task(_) => active.map(|_| ("task", until)),
        };
        if let Some((why, until)) = why {
            blockers.add(&machines, agent, why, path, until);
        }
    }
    Ok(blockers)
}

impl Blockers {
    fn add(
        &mut self,
        machines: &Machines,
        agent: Mailbox,
        why: &'static str,
        path: Option<String>,
        until: Option<Timestamp>,
    ) {
        self.again = [self.again, until].into_iter().flatten().min();
        if self.agents.len() < MOST {
            self.agents.push(InTheWay { agent: AgentRef::of(agent, machines), why, path });
        }
    }
}

/// Returns the agents that may be in the way according to the store, and the claims that are in the way.
fn candidates(
    reader: &Reader<'_>,
    wish: &Wish,
    me: &Mailbox,
    machines: &Machines,
    now: Timestamp,
) -> Result<(Vec<Candidate>, Vec<Claim>), StoreError> {
    let mut candidates = Vec::new();
    if let Wish::Idle(name) = wish {
        ops::known(reader, name, false, machines.clone())?;
        let (agent_id, home) = ops::listed(reader, name, machines.clone())?;
        for home in home.map_or_else(|| reader.homes(&agent_id), |home| Ok(vec![home]))? {
            let agent = Mailbox { agent_id: agent_id.clone(), home };
            let session = reader.newest_open_session(&agent.agent_id, &agent.home)?.map(without_context);
            candidates.push(Candidate { session, presence: reader.presence(&agent)?, path: None, agent });
        }
        return Ok((candidates, Vec::new()));
    }
    let open = SessionFilter { open_only: true, ..SessionFilter::default() };
    reader.each_session(&open, |session| {
        let agent = Mailbox { agent_id: session.agent_id.clone(), home: session.home.clone() };
        let path = match wish {
            Wish::File(file) => {
                session.context.uncommitted_files.iter().find(|changed| path::is_within(changed, file)).cloned()
            }
            _ => None,
        };
        let is_in_the_way = match wish {
            Wish::Task(task) => session.context.current_task.as_deref() == Some(task),
            _ => path.is_some(),
        };
        if is_in_the_way && agent != *me {
            candidates.push(Candidate { agent, session: Some(without_context(session)), presence: None, path });
        }
        ControlFlow::Continue(())
    })?;
    let claims = match wish {
        Wish::File(file) => {
            reader.claims(now, |claim| !claim.is_of(&me.agent_id, &me.home) && path::overlap(&claim.path, file))?.0
        }
        _ => Vec::new(),
    };
    Ok((candidates, claims))
}

/// Removes the context, because all contexts together may be larger than memory.
fn without_context(mut session: Session) -> Session {
    session.context = WorkContext::default();
    session
}
