//! The query plan of each statement in the crate: it must use an index that leads to the rows, or be permitted to read
//! a whole table.
//!
//! The statements are extracted from the source, so that new ones are checked, too. Statements assembled from
//! non-constant parts are listed in [`EXPANDED`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::kit::Node;

/// Statements that may read a whole table, or all rows of one origin: part of their text, and the reason.
const MAY_READ_ALL: &[(&str, &str)] = &[
    ("FROM state", "one row"),
    ("UPDATE state", "one row"),
    ("FROM cutoffs", "one row, and one for each origin that purged and signs nothing"),
    ("FROM acknowledged", "one row per peer"),
    ("FROM forgetting", "one row per peer that was removed"),
    ("sum(times), 0) FROM rejections", "one row per peer that served rejected events"),
    ("FROM received WHERE origin = ?1", "one row per peer and origin, which quotas bound"),
    ("FROM heads", "one row per log of an origin, and all of them are wanted"),
    (
        "FROM ahead a WHERE a.at > ?1 GROUP BY",
        "events that lie ahead: none where clocks are right, and quotas bound what a peer brings",
    ),
    ("UPDATE ahead SET", "the clock was put back, which is rare"),
    ("WHERE NOT EXISTS (SELECT 1 FROM ahead", "the clock was put back, which is rare"),
    ("UPDATE sessions SET shown_at", "the clock was put back, which is rare"),
    ("FROM ahead a JOIN messages m", "the clock was put back, which is rare"),
    ("UPDATE presence SET last_seen_at = ?2", "the clock was put back, which is rare"),
    ("UPDATE checkpoints SET at = max", "the clock was put back, which is rare"),
    ("UPDATE acknowledged SET at", "the clock was put back, which is rare"),
    ("UPDATE rejected SET at", "the clock was put back, which is rare"),
    ("UPDATE rejections SET at", "the clock was put back, which is rare"),
    ("FROM purged_ahead", "what purges named: nothing where clocks are right"),
    ("FROM ahead a JOIN events e", "a purge, which is rare"),
    ("sqlite_schema", "the schema"),
    ("pragma_", "no table"),
    ("SELECT count(*) FROM ", "a total, for the status and for people"),
    ("FROM event_rows e CROSS JOIN logs l", "the log is counted anew: verify and doctor"),
    (
        "SELECT event_id, type, origin_daemon, origin_log, received_from, body FROM events",
        "a damaged database is made anew",
    ),
    (
        "SELECT sequence, type, at, target, origin_daemon, event_id FROM events",
        "what a purge would take; an index by age would cost every message",
    ),
    ("DELETE FROM logs", "a peer's events were forgotten"),
    ("DELETE FROM daemons", "a peer's events were forgotten"),
    ("UPDATE rejected SET sample", "a purge; the table is bounded"),
    ("DELETE FROM presence", "a purge"),
    ("SELECT max(at) FROM events WHERE origin_daemon = ?1", "an agent moves here, once"),
    ("SELECT agent_id FROM agents WHERE home = ?1 UNION", "an agent moves here, once"),
    (
        "SELECT home, hostname, max(registered_at) FROM agents",
        "an agent behind a peer is shown or addressed: all machines are named",
    ),
    ("SELECT agent_id, role FROM agents", "a name was not found: all are compared with it"),
    ("SELECT agent_id, home FROM agents", "the recipients of everyone"),
    ("SELECT value, total FROM audience_counts", "the roles that exist"),
    ("SELECT role, agent_id, home, first_at FROM agents", "a list of all agents"),
    ("SELECT received_from FROM events WHERE sequence > ?1", "a bounded number of rows"),
    ("FROM parked p CROSS JOIN events", "the events that are parked"),
    ("SELECT 1 FROM pending LIMIT 1", "the first row, if there is one"),
    ("SELECT 'message'", "the digest reads all"),
    ("SELECT 'revision'", "the digest reads all"),
    ("SELECT 'audience'", "the digest reads all"),
    ("SELECT 'agent'", "the digest reads all"),
    ("SELECT 'former'", "the digest reads all"),
    ("SELECT 'residence'", "the digest reads all"),
    ("SELECT 'cleanup'", "the digest reads all"),
    ("SELECT 'mailbox'", "the digest reads all"),
    ("SELECT 'receipt'", "the digest reads all"),
    ("SELECT 'session'", "the digest reads all"),
    ("SELECT 'context'", "the digest reads all"),
    ("SELECT 'claim'", "the digest reads all"),
    ("SELECT 'presence'", "the digest reads all"),
    ("SELECT 'woken'", "the digest reads all"),
    ("state, wakeable, min(since, {}), person_at FROM presences p", "one row per agent, for a list of them"),
    ("FROM program_sessions", "a daemon starts; the table is bounded"),
    ("DELETE FROM parked; DELETE FROM messages", "all is folded anew"),
];

/// Complete examples of statements with non-constant parts, by their beginning.
const EXPANDED: &[(&str, &[&str])] = &[
    (
        "SELECT 1 FROM agents a WHERE a.owner = ?1 AND {}",
        &["SELECT 1 FROM agents a WHERE a.owner = ?1 AND EXISTS (SELECT 1 FROM receipts r
           WHERE r.message_id = ?2 AND r.agent_id = a.agent_id AND r.read_at IS NOT NULL AND (r.origin = a.home
           OR EXISTS (SELECT 1 FROM former_homes f WHERE f.agent_id = a.agent_id AND f.former = r.origin AND f.home = a.home
                      AND f.until > max(r.read_at, ?3))))"],
    ),
    (
        "INSERT INTO revisions VALUES",
        &["INSERT INTO revisions VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET count = count + 1"],
    ),
    ("DELETE FROM {table} WHERE message_id", &["DELETE FROM receipts WHERE message_id = ?1", "DELETE FROM revisions WHERE message_id = ?1"]),
    (
        "INSERT INTO mailbox (owner, at, sequence, unread) SELECT ?1, m.shown_at",
        &["SELECT 1 FROM messages m JOIN agents a ON a.owner = ?1 WHERE m.sequence = ?2"],
    ),
    (
        "SELECT 1 FROM messages m WHERE m.sequence = ?2 AND {}",
        &["SELECT 1 FROM messages m WHERE m.sequence = ?2 AND EXISTS (SELECT 1 FROM audience u WHERE u.kind = 1 AND u.value = ?1
           AND u.home = '' AND u.at = m.at AND u.sequence = m.sequence)"],
    ),
    (
        "SELECT owner FROM agents WHERE agent_id = ?1 AND home = ?2 AND EXISTS (SELECT 1 FROM audience",
        &["SELECT owner FROM agents WHERE agent_id = ?1 AND home = ?2 AND EXISTS (SELECT 1 FROM audience a
           WHERE a.kind = 0 AND a.value = ?1 AND a.home = ?2 AND a.at = ?3 AND a.sequence = ?4)"],
    ),
    (
        "SELECT r.home FROM residences r WHERE r.agent_id = {agent}",
        &[
            "SELECT r.home FROM residences r WHERE r.agent_id = ?1 AND r.since <= ?2 AND r.until > ?2",
            "SELECT r.home FROM residences r WHERE r.agent_id = ?1 AND r.since > ?2 ORDER BY r.since, r.home LIMIT 1",
        ],
    ),
    (
        "SELECT owner FROM agents WHERE home = ?1 AND first_at <= ?2",
        &[
            "SELECT owner FROM agents WHERE home = ?1 AND first_at <= ?2 AND agent_id <> ?3",
            "SELECT owner FROM agents WHERE home = ?1 AND first_at <= ?2 AND agent_id <> ?3 AND role = ?4",
        ],
    ),
    (
        "SELECT sequence, event_id, type, at, origin_daemon, origin_log, origin_seq, body, target FROM events WHERE {condition}",
        &[
            "SELECT body FROM events WHERE target = ?1 AND type = 'agent.register' AND sequence <= ?2",
            "SELECT body FROM events WHERE event_id = ?1 AND sequence <= ?2",
            "SELECT body FROM events WHERE type = ?1 AND sequence <= ?2",
        ],
    ),
    (
        "SELECT sequence FROM events WHERE {condition}",
        &["SELECT sequence FROM events WHERE target = ?1 AND type IN ('message.edit', 'message.receipt') AND sequence <= ?2"],
    ),
    (
        "SELECT a.agent_id, a.home, a.kind",
        &[
            "SELECT a.role FROM agents a WHERE true AND a.agent_id = ?2 ORDER BY a.registered_at DESC",
            "SELECT max(at) FROM (SELECT at, origin FROM messages WHERE agent_id = ?1 ORDER BY at DESC, sequence DESC LIMIT 16)",
            "SELECT sequence FROM mailbox WHERE owner = ?1 ORDER BY at DESC, sequence DESC LIMIT 16",
        ],
    ),
    (
        "SELECT m.message_id, coalesce(m.thread_id",
        &[
            "SELECT e.body FROM messages m JOIN events e USING (sequence) WHERE m.message_id = ?1",
            "SELECT e.body FROM mailbox b JOIN messages m ON m.sequence = b.sequence AND m.at = b.at JOIN events e ON e.sequence = m.sequence
             WHERE b.owner = 7 AND b.unread ORDER BY b.at DESC, b.sequence DESC LIMIT 10 OFFSET 0",
            "SELECT r.thread_id FROM messages r WHERE r.reply_to = ?1 AND r.thread_id IS NOT NULL ORDER BY r.at, r.event_id LIMIT 1",
        ],
    ),
    (
        "SELECT agent_id, coalesce((SELECT f.home FROM former_homes f",
        &[
            "SELECT agent_id, coalesce((SELECT f.home FROM former_homes f WHERE f.agent_id = r.agent_id AND f.former = r.origin
               AND f.until > max(coalesce(r.read_at, r.seen_at), ?2)), r.origin), r.seen_at FROM receipts r WHERE message_id = ?1",
        ],
    ),
    (
        "SELECT coalesce(max({}), 0) FROM contexts c WHERE c.agent_id",
        &["SELECT coalesce(max(c.at), 0) FROM contexts c WHERE c.agent_id = ?1 AND c.home = ?2"],
    ),
    (
        "SELECT state, wakeable, min(since",
        &[
            "SELECT state, wakeable, min(since, at) FROM presences p WHERE agent_id = ?1 AND home = ?2",
            "SELECT shown_at FROM ahead h WHERE h.origin = ?1 AND h.at = ?2 ORDER BY h.sequence LIMIT 1",
        ],
    ),
    ("SELECT agent_id, home, state, wakeable, min(since", &["SELECT agent_id, home FROM presences p WHERE agent_id = ?1"]),
    (
        "SELECT agent_id, coalesce((SELECT f.home FROM former_homes f WHERE f.agent_id = w.agent_id",
        &["SELECT agent_id, at FROM wakes w WHERE message_id = ?1"],
    ),
    ("UPDATE sessions SET shown_at = {} WHERE", &["SELECT sequence FROM ahead WHERE origin = ?1 AND at = ?2 ORDER BY sequence LIMIT 1"]),
    ("SELECT count(*), {unread}", &["SELECT count(*), coalesce(sum(b.unread), 0) FROM mailbox b WHERE b.owner = 7"]),
    (
        "SELECT s.session_id, s.agent_id",
        &[
            "SELECT c.context FROM sessions s LEFT JOIN contexts c ON c.session_id = s.session_id AND c.agent_id = s.agent_id
             AND c.home = s.home LEFT JOIN presence p ON p.agent_id = s.agent_id WHERE s.started_at IS NOT NULL AND s.session_id = ?2",
        ],
    ),
];

/// Files whose statements concern other databases than ours.
const OTHERS: &[&str] = &["go.rs", "backup.rs"];

#[test]
fn no_statement_reads_a_whole_table_or_all_rows_of_an_origin_without_a_reason() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    node.register("bob", "tester");
    for n in 0..20 {
        node.send("ann", &["bob"], &n.to_string());
    }
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let mut slow = Vec::new();
    let mut looked_at = 0;
    for (file, statements) in statements() {
        for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            looked_at += 1;
            for step in plan(&conn, &file, statement).into_iter().filter(|step| reads_all(step)) {
                if !MAY_READ_ALL.iter().any(|(part, _)| statements.contains(part)) {
                    slow.push(format!("{file}: {step}\n    {statement}"));
                }
            }
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
    assert!(looked_at > 150, "the source has {looked_at} statements only: are they found?");
}

/// The mistake that this test guards against: between equal choices SQLite prefers the index by origin, and reads the
/// whole log of that origin.
#[test]
fn the_index_by_origin_alone_is_detected() {
    let node = Node::new(1);
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let of = |sql: &str| plan(&conn, "", sql).iter().any(|step| reads_all(step));
    assert!(of("SELECT at FROM event_rows WHERE event_id = ?1 AND log = ?2"));
    assert!(!of("SELECT at FROM event_rows WHERE event_id = ?1 AND +log = ?2"));
    assert!(of("SELECT body FROM events WHERE body = ?1"));
}

fn reads_all(step: &str) -> bool {
    let by_origin = step.contains("INDEX events_by_origin") && !step.contains("origin_seq");
    let whole =
        step.starts_with("SCAN") && !step.starts_with("SCAN CONSTANT ROW") && !step.contains("USING INDEX events_long");
    whole || by_origin || step.contains("AUTOMATIC")
}

/// The steps of a statement's query plan.
fn plan(conn: &rusqlite::Connection, file: &str, statement: &str) -> Vec<String> {
    let mut explained = conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap_or_else(|error| {
        panic!("{file}: {error}; if it is put together from parts, list it in EXPANDED:\n{statement}");
    });
    let mut rows = explained.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().expect("a step") {
        steps.push(row.get(3).expect("a text"));
    }
    steps
}

/// All statements of the crate's source, with their files.
fn statements() -> Vec<(String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&source, &mut files);
    files.sort_unstable();
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).expect("reads");
        text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()
    };
    // A statement may name a constant of another file; its own file's constant of that name comes first.
    let mut everywhere = BTreeMap::new();
    for path in &files {
        everywhere.extend(constants(&read(path)));
    }
    let mut statements = Vec::new();
    for path in files {
        let file = path.strip_prefix(&source).expect("below it").display().to_string();
        if OTHERS.contains(&file.as_str()) {
            continue;
        }
        let text = read(&path);
        let mut constants_here = everywhere.clone();
        constants_here.extend(constants(&text));
        for literal in literals(&text).into_iter().map(|(_, literal)| literal).filter(|literal| is_statement(literal)) {
            let statement = constants_here
                .iter()
                .fold(squeezed(&literal), |sql, (name, value)| sql.replace(&format!("{{{name}}}"), value));
            match EXPANDED.iter().find(|(beginning, _)| statement.contains('{') && statement.starts_with(beginning)) {
                Some((_, whole)) => statements.extend(whole.iter().map(|sql| (file.clone(), (*sql).to_owned()))),
                None => statements.push((file.clone(), statement)),
            }
        }
    }
    statements
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

pub fn is_statement(literal: &str) -> bool {
    let first = literal.split_whitespace().next().unwrap_or_default();
    matches!(first, "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "WITH" | "REPLACE")
}

pub fn squeezed(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `const NAME: &str = "…"`, with whitespace collapsed.
fn constants(text: &str) -> BTreeMap<String, String> {
    let name_before = |at: usize| {
        let before =
            text[..at].trim_end().strip_suffix('=')?.trim_end().strip_suffix("&str")?.trim_end().strip_suffix(':')?;
        let name = before.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
        before.strip_suffix(name)?.trim_end().ends_with("const").then(|| name.to_owned())
    };
    literals(text).into_iter().filter_map(|(at, literal)| Some((name_before(at)?, squeezed(&literal)))).collect()
}

/// The string literals of Rust source, with their positions.
pub fn literals(text: &str) -> Vec<(usize, String)> {
    let bytes = text.as_bytes();
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => at += text[at..].find('\n').unwrap_or(text.len() - at),
            // A character literal, which may be a quote; a lifetime has no second apostrophe.
            b'\'' if bytes.get(at + 1) == Some(&b'\\') => {
                at += 2 + text[at + 2..].find('\'').map_or(1, |end| end + 1).max(2)
            }
            b'\'' if bytes.get(at + 2) == Some(&b'\'') => at += 3,
            b'"' => {
                let begin = at;
                let mut literal = Vec::new();
                at += 1;
                while bytes[at] != b'"' {
                    if bytes[at] == b'\\' {
                        at += 1;
                        literal.push(if bytes[at] == b'\n' { b' ' } else { bytes[at] });
                    } else {
                        literal.push(bytes[at]);
                    }
                    at += 1;
                }
                at += 1;
                found.push((begin, String::from_utf8_lossy(&literal).into_owned()));
            }
            _ => at += 1,
        }
    }
    found
}

/// Any number of messages may address an agent, so the query whether one of them is for it must start from that
/// message.
#[test]
fn the_lookup_of_an_addressee_starts_from_the_message() {
    let node = Node::new(1);
    let conn = rusqlite::Connection::open(node.path()).expect("opens");
    let source =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fold/residence.rs")).expect("reads");
    let is_for = literals(&source)
        .into_iter()
        .map(|(_, text)| text)
        .find(|text| text.starts_with("(a.home IN"))
        .expect("is there");
    let is_for = is_for
        .replace("{agent}", "?1")
        .replace("{home}", "?2")
        .replace("{}", "SELECT r.home FROM residences r WHERE r.agent_id = ?1");
    let sql = format!(
        "SELECT 1 FROM audience a WHERE a.kind = 0 AND a.value = ?1 AND a.at = ?3 AND a.sequence = ?4 AND {is_for}"
    );
    let steps = plan(&conn, "", &sql);
    assert!(steps.iter().any(|step| step.contains("home=? AND at=? AND sequence=?")), "{steps:?}");
}
