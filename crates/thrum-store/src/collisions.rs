//! Detects that two agents change the same file at nearly the same time, in different worktrees or on different
//! machines.
//!
//! Each agent's work context contains the files that the agent changed, with times. When a context changes, its files
//! are compared with those of all other agents with open sessions. Overlaps within [`limits::COLLISION`] are recorded
//! for the agents whose home is this daemon; each daemon notifies its own agents. A collision of the same two agents in
//! the same file is recorded and reported once per [`limits::COLLISION_AGAIN`]. Changes from before an agent's session
//! began are not attributed to it. Agents in the same worktree are not compared, because git cannot tell which of them
//! changed a file there. Files that both agents have committed with equal numbers of added and deleted lines are not
//! compared either: most likely one agent has the change from the other.
//!
//! The times are modification times by the clock of each machine. Collisions are not part of the projection or its
//! digest, and are not sent to peers.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
};

use serde::Deserialize;
use thrum_core::{Timestamp, limits, work::FileChange};

use crate::{
    Reader, StoreError, Tx,
    query::{Session, SessionFilter},
};

/// An agent of this daemon, and another agent that changed the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// The agent to be notified.
    pub agent_id: String,
    /// The other agent.
    pub other: String,
    /// The other agent's home.
    pub home: String,
    /// The path of the file, relative to the top of the worktree.
    pub path: String,
    /// When the agent to be notified last changed the file.
    pub own_at: Timestamp,
    /// When the other agent last changed the file.
    pub other_at: Timestamp,
    /// When the collision was recorded; zero if it has not been recorded yet.
    pub noted_at: Timestamp,
}

/// A file that differs from the base, in one worktree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touched {
    at: Timestamp,
    /// Numbers of added and deleted lines; `None` if the file has uncommitted changes.
    committed: Option<(u64, u64)>,
}

/// The recent changes of an agent.
struct Touching {
    agent_id: String,
    home: String,
    worktree: Option<String>,
    files: BTreeMap<String, Touched>,
}

impl Touching {
    fn of(session: &Session, now: Timestamp) -> Self {
        let context = &session.context;
        let uncommitted: BTreeSet<&str> = context.uncommitted_files.iter().map(String::as_str).collect();
        let mut files = BTreeMap::new();
        for change in &context.file_changes {
            // Contexts from other daemons may contain anything.
            let Ok(change) = FileChange::deserialize(change) else { continue };
            let at = change.last_modified.as_deref().and_then(Timestamp::parse);
            let is_new = |at: &Timestamp| {
                at.plus(limits::FILE_TIME_STEP) >= session.started_at
                    && now.since(*at) <= limits::COLLISION_AGAIN
                    && *at <= now.plus(limits::CLOCK_OFF)
            };
            let Some(at) = at.filter(is_new) else { continue };
            let committed =
                (!uncommitted.contains(change.path.as_str())).then_some((change.additions, change.deletions));
            files.insert(change.path, Touched { at, committed });
        }
        Self {
            agent_id: session.agent_id.clone(),
            home: session.home.clone(),
            worktree: context.worktree_path.clone().filter(|path| !path.is_empty()),
            files,
        }
    }

    /// Returns `true` if git sees the same files for both agents, or if both are the same agent.
    fn shares_worktree(&self, other: &Self) -> bool {
        self.home == other.home && (self.agent_id == other.agent_id || self.worktree == other.worktree)
    }

    /// The files that both agents changed at nearly the same time, with the times.
    fn meets<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a str, Timestamp, Timestamp)> {
        self.files.iter().filter_map(|(path, own)| {
            let theirs = other.files.get(path)?;
            let is_same = own.committed.is_some() && own.committed == theirs.committed;
            let apart = own.at.since(theirs.at).max(theirs.at.since(own.at));
            (!is_same && apart <= limits::COLLISION).then_some((path.as_str(), own.at, theirs.at))
        })
    }
}

/// The agents whose work contexts were updated.
pub struct Updated {
    /// The agents, with their homes.
    pub agents: Vec<(String, String)>,
    /// The sequence of the last update that was read, if there may be more.
    pub reached: Option<u64>,
}

/// Number of agents whose files are held in memory at once, while those of all others are read one by one.
const AT_ONCE: usize = 16;

impl Reader<'_> {
    /// Returns the agents whose work contexts were updated after `sequence`. Reads at most the first
    /// [`limits::MAX_BATCH_EVENTS`] updates.
    ///
    /// # Errors
    /// SQLite's.
    pub fn updated_since(&self, sequence: u64) -> Result<Updated, StoreError> {
        #[derive(Deserialize)]
        struct Update {
            agent_id: String,
        }
        let mut statement = self.conn.prepare_cached(
            "SELECT body, origin_daemon, sequence FROM events WHERE sequence > ?1 AND type = 'agent.update' ORDER BY sequence LIMIT ?2",
        )?;
        let mut rows = statement.query((sequence, limits::MAX_BATCH_EVENTS))?;
        let (mut agents, mut read, mut reached) = (BTreeSet::new(), 0, None);
        while let Some(row) = rows.next()? {
            read += 1;
            reached = Some(row.get(2)?);
            let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
            if let Ok(Update { agent_id }) = serde_json::from_str(body) {
                agents.insert((agent_id, row.get(1)?));
            }
        }
        let reached = reached.filter(|_| read == limits::MAX_BATCH_EVENTS);
        Ok(Updated { agents: agents.into_iter().collect(), reached })
    }

    /// Finds files that agents of this daemon and other agents changed at nearly the same time, where at least one of
    /// the pair is in `changed`. May stop once [`limits::MAX_COLLISIONS`] are found, and may return more than that. A
    /// collision occurs twice if both agents are in `changed`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn collisions_of(&self, changed: &[(String, String)], now: Timestamp) -> Result<Vec<Collision>, StoreError> {
        let mut found = Vec::new();
        for part in changed.chunks(AT_ONCE) {
            if found.len() >= limits::MAX_COLLISIONS {
                break;
            }
            let mut touching = Vec::new();
            for (agent_id, home) in part {
                let session = self.newest_open_session(agent_id, home)?;
                touching.extend(
                    session.map(|session| Touching::of(&session, now)).filter(|touching| !touching.files.is_empty()),
                );
            }
            if touching.is_empty() {
                continue;
            }
            let open = SessionFilter { open_only: true, ..SessionFilter::default() };
            self.each_session(&open, |session| {
                let other = Touching::of(&session, now);
                for one in touching.iter().filter(|one| !one.shares_worktree(&other)) {
                    for (path, at, other_at) in one.meets(&other) {
                        let sides = [(one, at, &other, other_at), (&other, other_at, one, at)];
                        found.extend(sides.into_iter().filter(|(own, ..)| own.home == self.home).map(
                            |(own, own_at, other, other_at)| Collision {
                                agent_id: own.agent_id.clone(),
                                other: other.agent_id.clone(),
                                home: other.home.clone(),
                                path: path.to_owned(),
                                own_at,
                                other_at,
                                noted_at: Timestamp::ZERO,
                            },
                        ));
                    }
                }
                if found.len() < limits::MAX_COLLISIONS { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
        }
        Ok(found)
    }

    /// Returns the collisions recorded within [`limits::COLLISION_AGAIN`], latest first: all of them, or only those of
    /// the agent `untold_of` about which it has not been notified. At most [`limits::MAX_COLLISIONS`].
    ///
    /// # Errors
    /// SQLite's.
    pub fn collisions(&self, now: Timestamp, untold_of: Option<&str>) -> Result<Vec<Collision>, StoreError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT agent_id, other, home, path, own_at, other_at, noted_at FROM collisions
             WHERE noted_at > ?1 AND (?2 IS NULL OR agent_id = ?2 AND NOT told) ORDER BY noted_at DESC, path, agent_id, other LIMIT ?3",
        )?;
        let rows = statement.query_map(
            (now.minus(limits::COLLISION_AGAIN).nanos(), untold_of, limits::MAX_COLLISIONS),
            |row| {
                let at = |column| row.get(column).map(Timestamp::from_nanos);
                Ok(Collision {
                    agent_id: row.get(0)?,
                    other: row.get(1)?,
                    home: row.get(2)?,
                    path: row.get(3)?,
                    own_at: at(4)?,
                    other_at: at(5)?,
                    noted_at: at(6)?,
                })
            },
        )?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Returns those of the given collisions that are to be reported: they are not recorded, or were recorded more than
    /// [`limits::COLLISION_AGAIN`] ago.
    ///
    /// # Errors
    /// SQLite's.
    pub fn new_collisions(&self, mut found: Vec<Collision>, now: Timestamp) -> Result<Vec<Collision>, StoreError> {
        if found.is_empty() {
            return Ok(found);
        }
        let known = self.collisions(now, None)?;
        let is_known = |one: &Collision| {
            known.iter().any(|known| {
                (&known.agent_id, &known.other, &known.home, &known.path)
                    == (&one.agent_id, &one.other, &one.home, &one.path)
            })
        };
        found.retain(|collision| !is_known(collision));
        Ok(found)
    }
}

impl Tx<'_> {
    /// Records those of the given collisions that are to be reported, at most [`limits::MAX_COLLISIONS`], and removes
    /// old ones.
    ///
    /// # Errors
    /// SQLite's.
    pub fn record_collisions(&mut self, found: Vec<Collision>) -> Result<(), StoreError> {
        let now = self.now();
        let found = self.reader().new_collisions(found, now)?;
        let long_ago = now.minus(limits::COLLISION_AGAIN).nanos();
        self.conn.prepare_cached("DELETE FROM collisions WHERE noted_at <= ?1")?.execute([long_ago])?;
        // Remove also those that were recorded while the clock was ahead.
        self.conn
            .prepare_cached("DELETE FROM collisions WHERE noted_at > ?1")?
            .execute([now.plus(limits::CLOCK_OFF).nanos()])?;
        for Collision { agent_id, other, home, path, own_at, other_at, .. } in
            found.into_iter().take(limits::MAX_COLLISIONS)
        {
            self.conn
                .prepare_cached("INSERT OR REPLACE INTO collisions VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)")?
                .execute((agent_id, other, home, path, own_at.nanos(), other_at.nanos(), now.nanos()))?;
        }
        Ok(())
    }

    /// Records that an agent was notified of its collisions up to the one recorded at `upto`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn collisions_told(&mut self, agent_id: &str, upto: Timestamp) -> Result<(), StoreError> {
        self.conn
            .prepare_cached("UPDATE collisions SET told = 1 WHERE agent_id = ?1 AND noted_at <= ?2 AND NOT told")?
            .execute((agent_id, upto.nanos()))?;
        Ok(())
    }
}
