//! Determines which of the agents of one name a message is for.
//!
//! Mail belongs to a name and a home. Our messages name the home of each recipient ([`homes_of`]); messages of Go Thrum
//! or of an earlier version contain only the name. Such a message goes to every daemon at which the name was registered
//! at the message's time. If there was none, it goes to the daemon at which the name was first registered afterwards,
//! because clocks differ and registrations may arrive later than mail. So an agent that takes a name elsewhere later
//! does not get the mail of the earlier agent.
//!
//! The periods of registration follow from all registrations of the name and from the last clean-up of each home, so
//! the rule is a function of the set of events. Between the first registration and the last clean-up, the name counts
//! as registered throughout. Registrations by a former home count for the home to which the agent moved (`former.rs`),
//! so its old mail stays its own. A message that names the former home goes to both homes, because its author may not
//! have known of the move.
//!
//! [`homes_of`]: thrum_core::payload::MessageCreate::homes_of

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension};
use thrum_core::{Event, Timestamp, payload::AgentRegister};

use super::{audience::AudienceKind, cleanup, former::Moved, rank::rank};
use crate::{StoreError, Tx};

/// One period in which a name was registered at a home: the home, the start and the end, in nanoseconds. The end is
/// `i64::MAX` until a clean-up.
type Residence = (String, i64, i64);

/// The time at which the agent joined, according to a registration.
pub(super) fn joined(event: &Event, body: &AgentRegister) -> Timestamp {
    body.joined_at.as_deref().and_then(Timestamp::parse).map_or(event.at, |joined| joined.min(event.at))
}

/// Stores the periods of registration of a name. Returns `true` if this may change the mailbox of an agent of this
/// name.
pub(super) fn settle(
    conn: &Connection,
    agent_id: &str,
    registrations: &[(Event, AgentRegister)],
    moved: &BTreeMap<&str, Moved>,
) -> Result<bool, StoreError> {
    let residences = residences(conn, agent_id, registrations, moved)?;
    let mut known = conn.prepare_cached("SELECT home, since, until FROM residences WHERE agent_id = ?1")?;
    let known: BTreeSet<Residence> =
        known.query_map([agent_id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?;
    if known == residences {
        return Ok(false);
    }
    conn.prepare_cached("DELETE FROM residences WHERE agent_id = ?1")?.execute([agent_id])?;
    for (home, since, until) in &residences {
        conn.prepare_cached("INSERT INTO residences VALUES (?1, ?2, ?3, ?4)")?
            .execute((agent_id, home, since, until))?;
    }
    // Residences matter only for mail without a home.
    has_mail_without_home(conn, agent_id)
}

/// Returns `true` if a message names an agent of this name without a home.
fn has_mail_without_home(conn: &Connection, agent_id: &str) -> Result<bool, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT 1 FROM audience WHERE kind = ?1 AND value = ?2 AND home = '' LIMIT 1")?;
    Ok(statement.exists((AudienceKind::Agent, agent_id))?)
}

/// Creates or extends the period in which a name was registered at a home, so that it includes the time `at`. The
/// period ends at `until`: the last clean-up, or `i64::MAX`. If that may change a mailbox of this daemon, defers the
/// agent instead. The caller must exclude agents that moved.
pub(super) fn extend(tx: &mut Tx<'_>, agent_id: &str, home: &str, at: Timestamp, until: i64) -> Result<(), StoreError> {
    let conn = tx.conn;
    if at.nanos() >= until {
        return Ok(());
    }
    let mut known =
        conn.prepare_cached("SELECT since FROM residences WHERE agent_id = ?1 AND home = ?2 AND until = ?3")?;
    let known: Option<i64> = known.query_row((agent_id, home, until), |row| row.get(0)).optional()?;
    if known.is_some_and(|since| since <= at.nanos()) {
        return Ok(());
    }
    // Mail that names no home may go to another agent now.
    let mut lives_here = conn.prepare_cached("SELECT 1 FROM agents WHERE agent_id = ?1 AND home = ?2")?;
    if has_mail_without_home(conn, agent_id)? && lives_here.exists((agent_id, tx.home()))? {
        tx.deferred.agents.insert(agent_id.to_owned());
        return Ok(());
    }
    conn.prepare_cached("DELETE FROM residences WHERE agent_id = ?1 AND home = ?2 AND until = ?3")?
        .execute((agent_id, home, until))?;
    conn.prepare_cached("INSERT INTO residences VALUES (?1, ?2, ?3, ?4)")?.execute((
        agent_id,
        home,
        at.nanos(),
        until,
    ))?;
    Ok(())
}

fn residences(
    conn: &Connection,
    agent_id: &str,
    registrations: &[(Event, AgentRegister)],
    moved: &BTreeMap<&str, Moved>,
) -> Result<BTreeSet<Residence>, StoreError> {
    /// The first registrations at one home: before its last clean-up, and after it.
    #[derive(Default)]
    struct First {
        past: Option<Timestamp>,
        present: Option<Timestamp>,
    }
    let mut homes: BTreeMap<&str, First> = BTreeMap::new();
    for (event, body) in registrations {
        let home = moved
            .get(event.origin.as_str())
            .filter(|to| event.at < to.until)
            .map_or(event.origin.as_str(), |to| &to.home);
        let cleaned_up = cleanup::cleaned_up(conn, agent_id, home)?;
        let first = homes.entry(home).or_default();
        let side =
            if cleanup::is_hidden(cleaned_up.as_ref(), rank(event)) { &mut first.past } else { &mut first.present };
        let since = joined(event, body);
        *side = Some(side.map_or(since, |first| first.min(since)));
    }
    let mut residences = BTreeSet::new();
    for (home, First { past, present }) in homes {
        let cleaned_up = cleanup::cleaned_up(conn, agent_id, home)?;
        if let Some((since, (until, _))) = past.zip(cleaned_up).filter(|(since, (until, _))| since < until) {
            residences.insert((home.to_owned(), since.nanos(), until.nanos()));
        }
        residences.extend(present.map(|since| (home.to_owned(), since.nanos(), i64::MAX)));
    }
    Ok(residences)
}

/// SQL: the homes at which the name `agent` was registered at `at`, otherwise the home at which it was first registered
/// afterwards.
pub(crate) fn homes_at(agent: &str, at: &str) -> String {
    let then =
        format!("SELECT r.home FROM residences r WHERE r.agent_id = {agent} AND r.since <= {at} AND r.until > {at}");
    let later = format!(
        "SELECT r.home FROM residences r WHERE r.agent_id = {agent} AND r.since > {at} ORDER BY r.since, r.home LIMIT 1"
    );
    format!("{then} UNION SELECT * FROM ({later}) WHERE NOT EXISTS ({then})")
}

/// SQL condition: the row `a` of `audience`, which addresses `agent`, is for the agent of that name at `home`. The
/// possible homes come first and as one list, so that an index finds the row, however many other rows address the
/// agent.
pub(crate) fn is_for(agent: &str, home: &str) -> String {
    format!(
        "(a.home IN (SELECT {home} UNION ALL SELECT '' UNION ALL
                     SELECT f.former FROM former_homes f WHERE f.agent_id = {agent} AND f.home = {home})
          AND (a.home <> '' OR {home} IN ({})))",
        homes_at(agent, "a.at")
    )
}
