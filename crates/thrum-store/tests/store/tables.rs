//! The places that name tables: a new table is emptied by a rebuild of the projection or kept for a reason, and it is
//! part of a digest or local for a reason.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{kit::Node, plans};

/// Tables that a rebuild does not empty, and the reason.
const KEPT: &[(&[&str], &str)] = &[
    (
        &["event_rows", "logs", "daemons", "heads", "received", "ahead"],
        "the log, from which the projection is rebuilt, and what describes it",
    ),
    (&["cutoffs", "purged_ahead", "purged"], "the events that purges removed are no longer in the log"),
    (&["mailbox_counts", "audience_counts"], "triggers on the tables that they count keep them"),
    (
        &["checkpoints", "acknowledged", "rejected", "rejections", "forgetting"],
        "the exchange with each peer, which is not in the log",
    ),
    (&["state", "idempotency"], "the state of this database, and its answers to requests"),
    (
        &["presence", "program_sessions", "cursors", "collisions"],
        "observations and readers on this machine, which are not in the log",
    ),
];

/// Tables that no digest reads, and the reason.
const LOCAL: &[(&[&str], &str)] = &[
    (&["parked"], "which events wait depends on this daemon's clock"),
    (&["pending"], "work that this daemon has not done yet"),
    (&["received", "ahead"], "the peer that served an event, and this daemon's clock at its arrival"),
    (&["purged"], "the heads count purged events; the ranges differ with what a daemon kept out or forgot"),
    (&["mailbox_counts", "audience_counts"], "the tables that they count are part of a digest"),
    (&["checkpoints", "acknowledged", "rejected", "rejections", "forgetting"], "the exchange with this daemon's peers"),
    (&["state", "idempotency"], "the state of this database, and its answers to requests"),
    (&["presence", "program_sessions", "cursors", "collisions"], "observations and readers on this machine"),
];

#[test]
fn every_table_is_emptied_by_a_rebuild_or_kept_for_a_reason() {
    let statements = statements("fold/rebuild.rs");
    let single = statements.iter().flat_map(|statements| statements.split(';'));
    let emptied = single.filter_map(|statement| statement.trim().strip_prefix("DELETE FROM ")).filter(is_name);
    assert_divided(&emptied.map(str::to_owned).collect(), KEPT);
}

#[test]
fn every_table_is_part_of_a_digest_or_local_for_a_reason() {
    let statements = statements("digest.rs");
    let words = statements.iter().flat_map(|statement| statement.split(' ').zip(statement.split(' ').skip(1)));
    let read = words.filter(|(before, _)| ["FROM", "JOIN"].contains(before)).map(|(_, name)| name).filter(is_name);
    assert_divided(&read.map(str::to_owned).collect(), LOCAL);
}

/// Asserts that each table of the database is either one of the `handled` ones or in the list of exceptions.
fn assert_divided(handled: &BTreeSet<String>, exceptions: &[(&[&str], &str)]) {
    let mut all = handled.clone();
    for name in exceptions.iter().flat_map(|(names, _)| *names) {
        assert!(all.insert((*name).to_owned()), "{name} is listed twice, or handled");
    }
    let tables = tables();
    let (forgotten, unknown): (Vec<_>, Vec<_>) = (tables.difference(&all).collect(), all.difference(&tables).collect());
    assert!(tables == all, "neither handled nor listed: {forgotten:?}; no tables: {unknown:?}");
}

/// The tables of the database.
fn tables() -> BTreeSet<String> {
    let node = Node::new(1);
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let mut statement = conn.prepare(sql).expect("prepares");
    let names = statement.query_map([], |row| row.get(0)).expect("runs");
    names.collect::<Result<_, _>>().expect("names")
}

/// The SQL in a source file of the crate.
fn statements(file: &str) -> Vec<String> {
    let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(file)).expect("reads");
    let literals = plans::literals(&source).into_iter().map(|(_, literal)| plans::squeezed(&literal));
    literals.filter(|literal| plans::is_statement(literal)).collect()
}

fn is_name(word: &&str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}
