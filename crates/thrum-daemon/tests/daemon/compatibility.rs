//! Keeps `docs/compatibility.md` true: its tables are generated from the tables here, which are checked against a
//! daemon.
//!
//! After a change: `UPDATE_DOCS=1 cargo test -p thrum-daemon --test daemon compatibility::`

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;

use crate::{
    differences::DIFFERENCES,
    harness::{Start, World, keep_port},
};

/// A method of Go Thrum v0.6.3 and its state here.
pub struct Method {
    pub name: &'static str,
    pub state: State,
    /// Information for callers.
    pub note: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Answers in Go's format.
    Served,
    /// Answers with an error that gives the reason.
    Refused,
}

const fn served(name: &'static str, note: &'static str) -> Method {
    Method { name, state: State::Served, note }
}

const fn refused(name: &'static str, note: &'static str) -> Method {
    Method { name, state: State::Refused, note }
}

const LOCAL_DELETION: &str = "It would delete other agents' messages on one machine, and every peer would keep them. `message.delete` takes one's own \
                              back, `purge.execute` removes what is old everywhere.";
const CUSTOM_GROUPS: &str =
    "The groups are `everyone` and one for each role. Custom groups of Go peers pass through untouched.";
const SUBSCRIPTIONS: &str =
    "In Go Thrum they are stored and nothing is ever delivered. `message.wait` and `events.watch` do.";
const TELEGRAM: &str = "A bridge can be a program of its own.";
const GO_SCOPES: &str = "`scopes` and `refs` are shown with the session, here and at peers; in Go Thrum nothing reads them. `intent` and `work_context` (the \
                         worktree as git has it) may be given.";

pub const GOS_METHODS: [Method; 56] = [
    served("health", ""),
    served("agent.register", "`hostname` and `worktree` may be given."),
    served("agent.list", ""),
    served("agent.whoami", ""),
    served("agent.listContext", "A `file` matches a whole path, or everything in a directory."),
    served("agent.delete", "The registration, sessions and contexts go; messages stay, for they are others' mail."),
    served(
        "agent.cleanup",
        "Proposed is only who lives here, was not heard of for long, and has an identity in no worktree. Without `force` nothing is deleted.",
    ),
    served("team.list", ""),
    served("session.start", GO_SCOPES),
    served("session.end", ""),
    served("session.list", ""),
    served(
        "session.heartbeat",
        "Scopes and refs are shown with the session. `work_context`, which the caller collected from git, may be given; the answer does not wait for git.",
    ),
    served("session.setIntent", "Peers hear at once, not only at the end of the session."),
    served("session.setTask", "Peers hear at once, not only at the end of the session."),
    served(
        "message.send",
        "`acting_as` is refused: an agent sends in its own name. `tags` has no effect, nor `disclose`, as in Go Thrum without `acting_as`. \
         `idempotency_key` may be given. `to_parent_audience` sends an answer to whom `reply_to` went, in place of `mentions`, `scopes` and `refs`.",
    ),
    served("message.get", "`mark_read` says that the caller has now read it."),
    served(
        "message.list",
        "An agent's role is the one it registered with: `for_agent_role` and `caller_mention_role` have no effect. `mention_role` lists what \
         names that role. Deleted messages are not listed.",
    ),
    served(
        "message.outbox",
        "`message_id` asks for one message. A name that is taken on several machines is as many recipients.",
    ),
    served("message.edit", ""),
    served(
        "message.delete",
        "The author only, as for `message.edit`. Without a caller it is the agent of the worktree that the call comes from.",
    ),
    served(
        "message.markRead",
        "Marks the caller's own mail only. `all` in place of ids marks what is unread, some hundred at a time; `unread` says how many are left.",
    ),
    refused("message.archive", LOCAL_DELETION),
    refused("message.deleteByAgent", LOCAL_DELETION),
    refused("message.deleteByScope", LOCAL_DELETION),
    refused("group.create", CUSTOM_GROUPS),
    refused("group.delete", CUSTOM_GROUPS),
    refused("group.member.add", CUSTOM_GROUPS),
    refused("group.member.remove", CUSTOM_GROUPS),
    served("group.list", "The built-in groups."),
    served("group.info", "The built-in groups."),
    served(
        "group.members",
        "The built-in groups; `expand` names the agents, those of other machines by `@name@machine`.",
    ),
    refused("subscribe", SUBSCRIPTIONS),
    refused("unsubscribe", SUBSCRIPTIONS),
    refused("subscriptions.list", SUBSCRIPTIONS),
    served("context.save", ""),
    served("context.show", ""),
    served("context.clear", ""),
    served("context.preamble.show", ""),
    served("context.preamble.save", ""),
    served("sync.force", "Waits up to 8 s for the peers; Go Thrum's only starts git."),
    served("sync.status", "About peers; Go Thrum's is about git."),
    served(
        "peer.start_pairing",
        "`auth_key` has no effect. The session ends with the connection that began it. `transport` says how it is reached: `tailnet` \
(switched on by it), `local`, or without it the tailnet where that is on.",
    ),
    served(
        "peer.wait_pairing",
        "No session and a time-out are errors, as Go Thrum's really are. With `attempts_seen` it also returns at a further wrong code, as \
`waiting`.",
    ),
    served(
        "peer.join",
        "Takes a name of the tailnet, too; an address of a tailnet switches it on. The code is sent, as to Go Thrum, only with `plain`.",
    ),
    served("peer.list", ""),
    served("peer.status", ""),
    served("peer.remove", "An unknown `daemon_id` is an error, not a success."),
    served("tsync.force", ""),
    served("tsync.peers.list", "As `peer.list`."),
    refused("tsync.peers.add", "It would add a peer without a token."),
    served(
        "purge.execute",
        "An instant in the future is refused. Nothing of ours is on a git branch, so the last two counts are 0. `goes_on` is there and true where some of it is not gone yet after 40 seconds.",
    ),
    served("user.identify", ""),
    refused("user.register", "On the socket Go Thrum refuses it, too."),
    refused("telegram.configure", TELEGRAM),
    refused("telegram.status", TELEGRAM),
    refused("telegram.pair", TELEGRAM),
];

#[test]
fn every_method_of_go_thrum_is_served_or_refused_as_the_table_says() {
    let world = World::new();
    let repo = world.repo("g1");
    keep_port(&repo);
    let daemon = Start::of(&repo).run();
    for Method { name, state, .. } in GOS_METHODS {
        assert!(thrum_daemon::METHODS.contains(&name), "{name} is not there");
        // One connection per call, as Go's commands have: pairings and streams end with their connection.
        let answer = daemon.client().call(name, json!({}));
        let kind = answer.as_ref().err().map(|error| &error["data"]["kind"]);
        let is_refused = kind.is_some_and(|kind| kind == "refused");
        assert_eq!(is_refused, state == State::Refused, "{name}: {answer:?}");
        if let Err(error) = answer {
            assert!(error["code"] == -32000 && error["data"]["retryable"].is_boolean(), "{name}: {error}");
            assert!(!is_refused || error["data"]["hint"].is_string(), "{name} names the way: {error}");
        }
    }
}

#[test]
fn docs_compatibility_md_lists_the_methods_and_the_differences() {
    let mut methods = "| method | | |\n|---|---|---|\n".to_owned();
    for Method { name, state, note } in GOS_METHODS {
        let state = if state == State::Served { "served" } else { "refused" };
        methods += &format!("| `{name}` | {state} | {note} |\n");
    }
    let gos: BTreeSet<_> = GOS_METHODS.iter().map(|method| method.name).collect();
    let ours: Vec<_> =
        thrum_daemon::METHODS.iter().filter(|name| !gos.contains(*name)).map(|name| format!("`{name}`")).collect();
    let added = format!("Not in Go Thrum: {}.\n", ours.join(", "));

    let mut differences = "| method | where | how | why |\n|---|---|---|---|\n".to_owned();
    for row in DIFFERENCES {
        let method = if row.method.contains(' ') { row.method.to_owned() } else { format!("`{}`", row.method) };
        let places: Vec<_> = row.places.iter().map(|place| format!("`{place}`")).collect();
        differences +=
            &format!("| {method} | {} | {} | {} |\n", places.join(", "), row.how.replace("``", "empty"), row.why);
    }
    section("methods", &(methods + "\n" + &added));
    section("differences", &differences);
}

/// Checks that the document has this text between its marks of `name`. With `UPDATE_DOCS` set, writes the text there.
#[track_caller]
fn section(name: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let page = fs::read_to_string(&path).unwrap();
    let (begin, end) = (format!("<!-- {name} -->\n\n"), format!("\n<!-- end of {name} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (then, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{now}{end}{after}")).unwrap();
        return;
    }
    for (line, (then, now)) in then.lines().zip(now.lines()).enumerate() {
        assert_eq!(
            then,
            now,
            "line {} of {name}; if it is meant: UPDATE_DOCS=1 cargo test -p thrum-daemon --test daemon",
            line + 1
        );
    }
    assert_eq!(then.lines().count(), now.lines().count(), "lines of {name}");
}
