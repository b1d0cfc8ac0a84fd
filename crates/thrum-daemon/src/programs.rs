//! Tracks the state of the agents' programs (working, waiting for a person, idle, gone), and whether mail starts a turn
//! in them.
//!
//! Hooks report the state at every turn. Here a session is one of the program's own, identified by the id that the
//! program gave it. A session ends when a hook reports its end. If the session's process is known, the session also
//! ends with that process; otherwise, when there was neither a report about the session nor a call of its agent for
//! [`limits::AGENT_SILENT`].
//!
//! This daemon knows the state at once. Other daemons learn it from an `agent.presence` event.
//! [`limits::PRESENCE_SETTLES`] after a change, the event is written if the state then differs from the announced one,
//! at most once in [`limits::PRESENCE_EVERY`] per agent. A state that lasts only a moment therefore causes no event. A
//! wait that no hook makes, such as `thrum wait` in a loop, would cause such an event every minute, so it is known on
//! this daemon only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thrum_core::{Ambient, Error, Timestamp, limits, payload::PresenceState};
use thrum_store::{
    StoreError, Tx,
    query::{Presence, ProgramSession},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use crate::{ambient::System, process, shutdown::Shutdown, signs_of_life::SignsOfLife, storage::Storage};

/// The programs of the agents that live at this daemon.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    agents: Mutex<BTreeMap<String, Agent>>,
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Agent {
    sessions: BTreeMap<String, Session>,
    /// `true` if a hook has reported a session, or if a state was announced before the daemon started. An agent with
    /// neither a session nor a wait is then gone.
    has_hooks: bool,
    /// When the last session or wait ended; for an agent that only waits, when the wait began.
    since: Timestamp,
    /// When a person last gave the agent a prompt; zero if unknown. Restored from the log at the start.
    person_at: Timestamp,
    /// Waits by hooks, which can wake an idle session.
    waiters: usize,
    /// Other waits, which return to their caller as soon as there is mail.
    listeners: usize,
    /// The state last announced to other daemons; `None` if none was announced.
    announced: Option<AnnouncedState>,
    /// When a state was last announced; `None` if that was before the daemon started, or never.
    announced_at: Option<Instant>,
    /// `true` if the last announcement could not be stored, so that other daemons know an earlier state.
    is_announcement_lost: bool,
    /// After a restart of the daemon, nothing is announced before this time unless a hook reports: a waiter that lost
    /// the daemon needs a moment to come back.
    quiet_until: Option<Instant>,
}

/// The announced state: the program's state, if known; whether mail starts a turn; when a person last gave a prompt.
type AnnouncedState = (Option<PresenceState>, bool, Timestamp);

/// The effect of a hook's report.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReportEffect {
    /// The report contained nothing new, or there is no room for another agent.
    Nothing,
    /// Something changed that must be stored.
    Changed {
        /// The session's state now.
        now: ProgramSession,
        /// The process (id and start time) whose end must be watched from now on; `None` if there is no new one.
        watch: Option<(u32, u64)>,
    },
}

#[derive(Debug)]
struct Session {
    state: PresenceState,
    since: Timestamp,
    program: Option<(u32, u64)>,
    /// When a hook last reported this session; after a restart of the daemon, at first the time of the restart.
    heard: Timestamp,
}

/// Registers a wait in the name of an agent until dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    programs: Arc<Programs>,
    agent: String,
    is_hook: bool,
}

impl Agent {
    fn state(&self) -> Option<PresenceState> {
        let busiest = self.sessions.values().map(|session| session.state).max();
        busiest.or(match () {
            () if self.waiters + self.listeners > 0 => Some(PresenceState::Idle),
            () => self.has_hooks.then_some(PresenceState::Gone),
        })
    }

    fn presence(&self) -> Option<Presence> {
        let state = self.state()?;
        let of_it = self.sessions.values().filter(|session| session.state == state).map(|session| session.since);
        let wakeable = self.listeners > 0 || state == PresenceState::Idle && self.waiters > 0;
        Some(Presence {
            state: Some(state),
            wakeable,
            since: of_it.min().unwrap_or(self.since),
            person_at: self.person_at,
        })
    }

    /// Returns the state that other daemons should know, and since when it holds.
    fn to_announce(&self) -> (AnnouncedState, Timestamp) {
        let state = match () {
            () if !self.sessions.is_empty() || self.waiters > 0 => self.state(),
            () => self.has_hooks.then_some(PresenceState::Gone),
        };
        let since = self.presence().map_or(self.since, |presence| presence.since);
        ((state, state == Some(PresenceState::Idle) && self.waiters > 0, self.person_at), since)
    }

    /// Returns when the state may be announced; `None` if it has been announced.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.is_announced() {
            return None;
        }
        let spaced = self.announced_at.map(|at| at + limits::PRESENCE_EVERY);
        Some(spaced.max(self.quiet_until).unwrap_or(now))
    }

    fn is_announced(&self) -> bool {
        !self.is_announcement_lost && self.announced.unwrap_or((None, false, Timestamp::ZERO)) == self.to_announce().0
    }

    /// Returns `true` if nothing needs to be remembered beyond what the log contains.
    fn is_nothing(&self, now: Instant) -> bool {
        let was_announced_lately = self.announced_at.is_some_and(|at| now < at + limits::PRESENCE_EVERY);
        self.sessions.is_empty() && self.waiters + self.listeners == 0 && self.is_announced() && !was_announced_lately
    }
}

impl Programs {
    /// Subscribes to changes of any program's state.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Returns what the program of an agent of this daemon does; `None` if unknown.
    pub(crate) fn presence(&self, agent: &str) -> Option<Presence> {
        self.agents().get(agent).and_then(Agent::presence)
    }

    /// Records a hook's report: a session of `agent`, running in the process `program` (id and start time), is in
    /// `state`.
    pub(crate) fn report(
        &self,
        agent: &str,
        session: &str,
        state: PresenceState,
        program: Option<(u32, u64)>,
        now: Timestamp,
    ) -> ReportEffect {
        let mut agents = self.agents();
        // The session may have belonged to another agent until now.
        for (name, other) in agents.iter_mut().filter(|(name, _)| *name != agent) {
            if other.sessions.remove(session).is_some() {
                tracing::debug!(agent = %name, "a session of this agent belongs to another agent now");
                other.since = now;
            }
        }
        if !agents.contains_key(agent) && agents.len() >= limits::MAX_PRESENT {
            agents.retain(|_, agent| !agent.sessions.is_empty() || agent.waiters + agent.listeners > 0);
            if agents.len() >= limits::MAX_PRESENT {
                return ReportEffect::Nothing;
            }
        }
        let known = agents.entry(agent.to_owned()).or_default();
        (known.has_hooks, known.quiet_until) = (true, None);
        let before = known.sessions.remove(session);
        let is_same = before.as_ref().is_some_and(|before| before.state == state);
        let watched = before.as_ref().and_then(|before| before.program);
        let program = program.or(watched);
        let since = before.filter(|_| is_same).map_or(now, |before| before.since);
        if state == PresenceState::Gone {
            known.since = now;
        } else {
            if known.sessions.len() >= limits::MAX_PROGRAM_SESSIONS {
                let oldest = known.sessions.iter().min_by_key(|(_, session)| session.heard).map(|(id, _)| id.clone());
                oldest.and_then(|oldest| known.sessions.remove(&oldest));
            }
            known.sessions.insert(session.to_owned(), Session { state, since, program, heard: now });
        }
        drop(agents);
        let watch = program.filter(|_| program != watched);
        if is_same && watch.is_none() {
            return ReportEffect::Nothing;
        }
        self.changes.send_replace(());
        ReportEffect::Changed {
            now: ProgramSession { session: session.to_owned(), agent_id: agent.to_owned(), state, since, program },
            watch,
        }
    }

    /// Records that a person has given an agent a prompt.
    pub(crate) fn person_prompts(&self, agent: &str, now: Timestamp) {
        if let Some(known) = self.agents().get_mut(agent) {
            known.person_at = now;
        }
        self.changes.send_replace(());
    }

    /// Returns `true` if a session of the agent is in a turn, which means that the model is acting.
    pub(crate) fn is_in_turn(&self, agent: &str) -> bool {
        self.agents()
            .get(agent)
            .is_some_and(|agent| agent.sessions.values().any(|session| session.state == PresenceState::Working))
    }

    /// Records that a session's process has ended. Returns `false` if the agent has no such session, or if the session
    /// belongs to another process by now.
    fn has_ended(&self, agent: &str, session: &str, program: (u32, u64), now: Timestamp) -> bool {
        let mut agents = self.agents();
        let Some(known) = agents.get_mut(agent) else { return false };
        if known.sessions.get(session).is_none_or(|session| session.program != Some(program)) {
            return false;
        }
        known.sessions.remove(session);
        known.since = now;
        drop(agents);
        self.changes.send_replace(());
        true
    }

    /// Records that a program's hook or another caller waits for mail of `agent`. `None` if there is no room for
    /// another agent.
    pub(crate) fn waits(self: &Arc<Self>, agent: &str, is_hook: bool) -> Option<Waiting> {
        let mut agents = self.agents();
        if !agents.contains_key(agent) && agents.len() >= limits::MAX_PRESENT {
            return None;
        }
        let known = agents.entry(agent.to_owned()).or_default();
        if known.sessions.is_empty() && known.waiters + known.listeners == 0 {
            known.since = System.now();
        }
        if is_hook {
            known.waiters += 1;
        } else {
            known.listeners += 1;
        }
        drop(agents);
        self.changes.send_replace(());
        Some(Waiting { programs: Arc::clone(self), agent: agent.to_owned(), is_hook })
    }

    /// Forgets sessions without a known process whose hooks and agent have been silent for too long, and returns their
    /// ids. `seen` returns an agent's last sign of life.
    fn expire(&self, now: Timestamp, seen: impl Fn(&str) -> Option<Timestamp>) -> Vec<String> {
        let mut expired = Vec::new();
        for (name, agent) in self.agents().iter_mut() {
            let seen = seen(name).unwrap_or_default();
            let is_silent = |session: &Session| {
                let process_is_known = session.program.is_some();
                !process_is_known && now.since(session.heard.max(seen)) > limits::AGENT_SILENT
            };
            let gone: Vec<String> =
                agent.sessions.iter().filter(|(_, session)| is_silent(session)).map(|(id, _)| id.clone()).collect();
            for id in gone {
                agent.sessions.remove(&id);
                agent.since = now;
                expired.push(id);
            }
        }
        if !expired.is_empty() {
            self.changes.send_replace(());
        }
        expired
    }

    /// Takes the states that may be announced now, which count as announced from here on, unless
    /// [`announcements_lost`](Self::announcements_lost) follows. Also returns when the next one is due.
    fn take_due(&self, now: Instant) -> (Vec<(String, AnnouncedState, Timestamp)>, Option<Instant>) {
        let (mut due, mut next) = (Vec::new(), None);
        let mut agents = self.agents();
        for (name, agent) in agents.iter_mut() {
            match agent.due(now) {
                Some(at) if at <= now => {
                    let (announced, since) = agent.to_announce();
                    (agent.announced, agent.announced_at, agent.quiet_until) = (Some(announced), Some(now), None);
                    agent.is_announcement_lost = false;
                    due.push((name.clone(), announced, since));
                }
                Some(at) => next = Some(next.map_or(at, |next: Instant| next.min(at))),
                None => {}
            }
        }
        agents.retain(|_, agent| !agent.is_nothing(now));
        (due, next)
    }

    /// Records that the last announcements of these agents could not be stored. They are due again after the usual
    /// pause.
    fn announcements_lost(&self, names: &[String]) {
        let mut agents = self.agents();
        for name in names {
            if let Some(agent) = agents.get_mut(name) {
                agent.is_announcement_lost = true;
            }
        }
        drop(agents);
        self.changes.send_replace(());
    }

    /// Restores the state that was known when the daemon ended.
    fn adopt(&self, sessions: Vec<ProgramSession>, announced: Vec<(String, Presence)>, now: Timestamp) {
        let quiet_until = Some(Instant::now() + limits::PRESENCE_RETURNS);
        let mut agents = self.agents();
        for (name, presence) in announced {
            let agent = agents.entry(name).or_default();
            agent.announced = Some((presence.state, presence.wakeable, presence.person_at));
            agent.person_at = presence.person_at;
            (agent.has_hooks, agent.since, agent.quiet_until) = (presence.state.is_some(), presence.since, quiet_until);
        }
        for ProgramSession { session, agent_id, state, since, program } in sessions {
            let agent = agents.entry(agent_id).or_default();
            (agent.has_hooks, agent.quiet_until) = (true, quiet_until);
            agent.sessions.insert(session, Session { state, since, program, heard: now });
        }
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<String, Agent>> {
        // A panic cannot leave a half-made change behind: no step between two changes of one agent can fail.
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(agent) = self.programs.agents().get_mut(&self.agent) {
            let waits = if self.is_hook { &mut agent.waiters } else { &mut agent.listeners };
            *waits = waits.saturating_sub(1);
            if agent.sessions.is_empty() && agent.waiters + agent.listeners == 0 {
                agent.since = System.now();
            }
        }
        self.programs.changes.send_replace(());
    }
}

/// Restores the stored sessions and the announced states after a start of the daemon, and forgets the sessions whose
/// process has ended meanwhile.
///
/// # Errors
/// Database errors.
pub(crate) fn restore(
    programs: &Arc<Programs>,
    storage: &Arc<Storage>,
    shutdown: &Shutdown,
    here: &str,
) -> Result<(), Error> {
    let here = here.to_owned();
    let (sessions, announced) = storage.read_now(move |reader| {
        let own = reader.presences()?.into_iter().filter(|(agent, _)| agent.home == here);
        Ok((reader.program_sessions()?, own.map(|(agent, presence)| (agent.agent_id, presence)).collect::<Vec<_>>()))
    })?;
    let runs = |session: &ProgramSession| session.program.is_none_or(|(pid, begun)| process::begun(pid) == Some(begun));
    let (running, ended): (Vec<_>, Vec<_>) = sessions.into_iter().partition(runs);
    let ended: Vec<String> = ended.into_iter().map(|session| session.session).collect();
    if !ended.is_empty() {
        // If the writer is busy, the rows stay in the database until the next start.
        storage.write_unless_busy(move |tx| forget_rows(tx, &ended));
    }
    let to_watch = running.clone();
    programs.adopt(running, announced, System.now());
    for ProgramSession { session, agent_id, program, .. } in to_watch {
        if let Some(program) = program {
            watch(programs, storage, shutdown, agent_id, session, program);
        }
    }
    Ok(())
}

/// Removes a session as soon as its process has ended.
pub(crate) fn watch(
    programs: &Arc<Programs>,
    storage: &Arc<Storage>,
    shutdown: &Shutdown,
    agent: String,
    session: String,
    program: (u32, u64),
) {
    let (programs, storage, stop) = (Arc::clone(programs), Arc::clone(storage), shutdown.clone());
    shutdown.spawn(async move {
        tokio::select! {
            is_over = process::ended(program.0, program.1) => {
                if is_over && programs.has_ended(&agent, &session, program, System.now()) {
                    forget(&storage, vec![session]).await;
                }
            }
            () = stop.stopping() => {}
        }
    });
}

/// Removes sessions from the database in one of the next commits.
pub(crate) async fn forget(storage: &Storage, sessions: Vec<String>) {
    if !sessions.is_empty() {
        storage.write_in_background(move |tx| forget_rows(tx, &sessions)).await;
    }
}

fn forget_rows(tx: &mut Tx<'_>, sessions: &[String]) -> Result<(), StoreError> {
    sessions.iter().try_for_each(|session| tx.forget_program_session(session))
}

/// Announces changed states to the other daemons and ends silent sessions, until the daemon stops.
pub(crate) async fn follow(
    programs: Arc<Programs>,
    storage: Arc<Storage>,
    heard: Arc<SignsOfLife>,
    shutdown: Shutdown,
) {
    let mut changes = programs.changes();
    let mut look = Instant::now() + limits::PRESENCE_LOOK;
    let mut next: Option<Instant> = None;
    loop {
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    break;
                }
                sleep(limits::PRESENCE_SETTLES).await;
            }
            () = sleep_until(next.unwrap_or(look).min(look)) => {}
            () = shutdown.stopping() => break,
        }
        changes.mark_unchanged();
        if Instant::now() >= look {
            look = Instant::now() + limits::PRESENCE_LOOK;
            let now = System.now();
            forget(&storage, programs.expire(now, |agent| heard.last(agent, now))).await;
        }
        let (due, later) = programs.take_due(Instant::now());
        next = later;
        if due.is_empty() {
            continue;
        }
        let names: Vec<String> = due.iter().map(|(agent, ..)| agent.clone()).collect();
        let written = storage.write(move |tx| {
            for (agent, (state, wakeable, person_at), since) in due {
                match tx.say_presence(&agent, state, wakeable, (since, person_at)) {
                    // The agent was deleted meanwhile.
                    Err(StoreError::Refused(error)) => {
                        tracing::debug!(%error, "cannot announce the presence of an agent")
                    }
                    outcome => drop(outcome?),
                }
            }
            Ok(())
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, "cannot announce the presence of agents to the peers");
            programs.announcements_lost(&names);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::storage::kit;
    use PresenceState::{Gone, Idle, Working};

    fn at(seconds: u64) -> Timestamp {
        Timestamp::PLAUSIBLE.plus(Duration::from_secs(seconds))
    }

    fn due_announcements(programs: &Programs, now: Instant) -> Vec<AnnouncedState> {
        programs.take_due(now).0.into_iter().map(|(_, announced, _)| announced).collect()
    }

    #[tokio::test]
    async fn a_change_is_announced_once_and_the_next_one_after_a_pause() {
        let programs = Arc::new(Programs::default());
        let begin = Instant::now();
        programs.report("ann", "s1", Working, None, at(0));
        assert_eq!(
            programs.take_due(begin),
            (vec![("ann".to_owned(), (Some(Working), false, Timestamp::ZERO), at(0))], None)
        );
        assert_eq!(programs.take_due(begin), (vec![], None), "it was announced");
        assert_eq!(programs.report("ann", "s1", Working, None, at(1)), ReportEffect::Nothing);
        programs.report("ann", "s1", Idle, None, at(2));
        let waiting = programs.waits("ann", true);
        assert_eq!(programs.take_due(begin), (vec![], Some(begin + limits::PRESENCE_EVERY)));
        assert_eq!(due_announcements(&programs, begin + limits::PRESENCE_EVERY), [(Some(Idle), true, Timestamp::ZERO)]);
        drop(waiting);
        programs.report("ann", "s1", Gone, None, at(3));
        assert_eq!(
            due_announcements(&programs, begin + 2 * limits::PRESENCE_EVERY),
            [(Some(Gone), false, Timestamp::ZERO)]
        );
        assert_eq!(programs.presence("ann").and_then(|presence| presence.state), Some(Gone));
        programs.take_due(begin + 3 * limits::PRESENCE_EVERY);
        assert_eq!(programs.presence("ann"), None, "the log knows");
    }

    #[test]
    fn an_announcement_that_was_not_stored_is_made_again_after_the_pause() {
        let programs = Programs::default();
        let begin = Instant::now();
        programs.report("ann", "s1", Working, None, at(0));
        let announced = due_announcements(&programs, begin);
        let changes = programs.changes();
        programs.announcements_lost(&["ann".to_owned(), "deleted".to_owned()]);
        assert!(changes.has_changed().unwrap(), "the loop computes anew when the next announcement is due");
        let again = begin + limits::PRESENCE_EVERY;
        assert_eq!(programs.take_due(begin), (vec![], Some(again)));
        assert_eq!(due_announcements(&programs, again), announced);
        assert_eq!(programs.take_due(again), (vec![], None));
    }

    #[tokio::test]
    async fn an_ended_session_is_forgotten_even_if_the_writer_is_busy_when_it_ends() {
        let (_dir, storage) = kit::with_mail_of_dan(1);
        let stored = |session: &str| ProgramSession {
            session: session.to_owned(),
            agent_id: "ann".to_owned(),
            state: Idle,
            since: at(0),
            program: None,
        };
        let (one, two) = (stored("s1"), stored("s2"));
        storage
            .write(move |tx| tx.keep_program_session(&one).and_then(|()| tx.keep_program_session(&two)))
            .await
            .unwrap();
        let busy = kit::keep_busy(&storage).await;
        let (forgetting, ()) = tokio::join!(forget(&storage, vec!["s1".to_owned()]), async {
            tokio::task::yield_now().await;
            drop(busy);
        });
        let () = forgetting;
        storage.write(|_| Ok(())).await.unwrap();
        let left = storage.read(|reader| reader.program_sessions()).await.unwrap();
        assert_eq!(left.into_iter().map(|session| session.session).collect::<Vec<_>>(), ["s2"]);
    }

    #[test]
    fn a_session_without_a_known_process_ends_when_its_agent_is_silent() {
        let programs = Programs::default();
        programs.report("ann", "without", Working, None, at(0));
        programs.report("ben", "with", Working, Some((1, 1)), at(0));
        programs.report("cy", "calls", Working, None, at(0));
        let late = at(limits::AGENT_SILENT.as_secs() + 1);
        let expired = programs.expire(late, |agent| (agent == "cy").then_some(late));
        assert_eq!(expired, ["without"]);
        let state = |agent: &str| programs.presence(agent).and_then(|presence| presence.state);
        assert_eq!((state("ann"), state("ben"), state("cy")), (Some(Gone), Some(Working), Some(Working)));
    }

    #[test]
    fn an_agent_that_waits_now_and_then_is_idle_in_between_without_events() {
        let programs = Arc::new(Programs::default());
        let waiting = programs.waits("ann", false);
        assert_eq!(
            programs.presence("ann").map(|presence| (presence.state, presence.wakeable)),
            Some((Some(Idle), true))
        );
        assert_eq!(programs.take_due(Instant::now()), (vec![], None));
        drop(waiting);
        assert_eq!(programs.presence("ann"), None);
    }

    #[test]
    fn an_agent_with_two_waits_is_idle_since_the_first_began_until_both_have_ended() {
        let programs = Arc::new(Programs::default());
        let since = || programs.presence("ann").map(|presence| presence.since);
        let first = programs.waits("ann", true);
        let second = programs.waits("ann", false);
        let set = |at| programs.agents().get_mut("ann").unwrap().since = at;
        set(at(0));
        drop(first);
        assert_eq!(since(), Some(at(0)));
        let third = programs.waits("ann", true);
        drop(second);
        assert_eq!(since(), Some(at(0)));
        programs.agents().get_mut("ann").unwrap().has_hooks = true;
        drop(third);
        assert!(since().is_some_and(|since| since > at(0)), "gone since the last wait ended");
    }

    #[test]
    fn an_agent_that_waits_is_kept_when_there_is_no_room_for_more() {
        let programs = Arc::new(Programs::default());
        let _waiting = programs.waits("ann", false);
        for number in 1..limits::MAX_PRESENT {
            programs.report(&format!("gone-{number}"), &format!("s{number}"), Gone, None, at(0));
        }
        assert!(
            matches!(programs.report("ben", "new", Working, None, at(1)), ReportEffect::Changed { .. }),
            "those that are gone make room"
        );
        assert_eq!(programs.presence("ann").map(|presence| presence.wakeable), Some(true));
    }
}
