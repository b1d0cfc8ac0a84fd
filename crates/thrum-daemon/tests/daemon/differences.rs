//! The differences between our answers and Go Thrum's, with reasons. `docs/compatibility.md` shows this table.

/// Places in the answers to one method that differ in the same way for the same reason.
pub struct Difference {
    pub method: &'static str,
    pub places: &'static [&'static str],
    pub how: &'static str,
    pub why: &'static str,
}

impl Difference {
    /// Returns each place separately: method, place, and difference.
    pub fn each(&self) -> impl Iterator<Item = (String, String, String)> {
        self.places.iter().map(|place| (self.method.to_owned(), (*place).to_owned(), self.how.to_owned()))
    }
}

const HOME: &str = "An agent lives at one daemon, and a name may be taken on several machines.";
const FAR: &str = "How far the message got with each recipient: `stored` here, `at_home` at the recipient's own daemon, \
     `wake_requested`, `shown`, `read`.";
const WHOLE: &str = "A list tells of a message all that `message.get` does but what its recipients did with it.";
const STATE: &str = "How the peer stands, which Go Thrum does not tell; a peer that does not answer is visible.";
const INTERVAL: &str =
    "How often every peer is asked, which can be set; the daemon goes by what it read when it started.";
const STATED: &str = "The state is told, not a constant; both peers are down in this situation.";
const SAME_NUMBERS: &str = "One mailbox counts everywhere: these are the numbers of that agent's inbox. Go Thrum counts other messages in each place.";
const MAILBOX: &str = "Unread is what waits in that agent's mailbox. Go Thrum counts every message the agent has not marked, also its own, other \
                       people's and deleted ones, and they never become fewer.";

const EVERYONE: &str = "A message without a recipient is one for everyone. Go Thrum counts it only as a broadcast, and one to `@everyone` only as the \
                        group's.";
const REFUSED: [&str; 3] = [
    "Go `connect to 100.64.0.2:9200: dial tcp 100.64.0.2:9200: connect: connection refused`, here `nobody listens at 100.64.0.2:9200`",
    "Go `connect to 100.64.0.2:9300: dial tcp 100.64.0.2:9300: connect: connection refused`, here `nobody listens at 100.64.0.2:9300`",
    "The reason in words.",
];

const fn added(method: &'static str, places: &'static [&'static str], why: &'static str) -> Difference {
    Difference { method, places, how: "added", why }
}

const fn differs(
    method: &'static str,
    places: &'static [&'static str],
    how: &'static str,
    why: &'static str,
) -> Difference {
    Difference { method, places, how, why }
}

pub const DIFFERENCES: &[Difference] = &[
    added(
        "any error",
        &["error.data"],
        "What programs need to act on an error: its kind, the next step, whether to repeat the call.",
    ),
    differs(
        "no JSON",
        &["error.data"],
        "Go `invalid character 'o' in literal null (expecting 'u')`, here `expected ident at line 1 column 2`",
        "The words of another parser.",
    ),
    added(
        "agent.list",
        &["agents[].address", "agents[].home", "agents[].home_name", "agents[].local", "agents[].signed"],
        HOME,
    ),
    added("agent.list", &["agents[].hostname"], "Where to look for the agent."),
    added(
        "agent.list",
        &["agents[].last_seen_at"],
        "Any call is a sign of life; in Go Thrum few agents ever have one.",
    ),
    added(
        "agent.listContext",
        &["contexts[].address", "contexts[].home", "contexts[].home_name", "contexts[].local", "contexts[].signed"],
        HOME,
    ),
    added(
        "agent.listContext",
        &["contexts[].last_seen_at", "contexts[].status"],
        "Whether somebody is still there: in Go Thrum a session that nobody ended is active for ever.",
    ),
    added("agent.whoami", &["home"], HOME),
    differs("agent.whoami", &["display"], "Go ``, here `Cap Two`", "It is known, so it is told."),
    differs(
        "group.list",
        &["groups[]"],
        "`grp_01M83E352BMSHSJRSG84QH5P79` missing",
        "A custom group; those pass through and address nobody here.",
    ),
    differs(
        "group.list",
        &["groups[]"],
        "`grp_role_reviewer` added",
        "A role of an agent on another machine can be addressed, so it is listed.",
    ),
    added(
        "health",
        &["agents", "events", "messages", "parked", "rejected"],
        "How full the daemon is, and what it could not use.",
    ),
    added("health", &["daemon_id", "log_id", "pid", "repo_path"], "Which daemon answers."),
    added(
        "health",
        &["tailscale_sync"],
        "The shape that Go Thrum documents but does not serve; `tailscale` is the one it serves.",
    ),
    added("health", &["tailnet"], "Which node is used and why, how it stands, and what mends it."),
    differs("health", &["sync_state"], "Go `synced`, here `error`", STATED),
    differs(
        "health",
        &["tailscale.enabled"],
        "Go `true`, here `false`",
        "The peers in this situation are on the same machine, not on a tailnet.",
    ),
    added(
        "message.get",
        &["message.author.address", "message.author.home", "message.author.home_name", "message.author.signed"],
        HOME,
    ),
    added(
        "message.get",
        &[
            "message.recipients[].address",
            "message.recipients[].home",
            "message.recipients[].home_name",
            "message.recipients[].local",
        ],
        HOME,
    ),
    added("message.get", &["message.recipients[].state"], FAR),
    differs(
        "message.get",
        &["message.body.content"],
        "Go `to a1, edited`, here ``",
        "The text of a message that its author took back is nobody's to read; in Go Thrum `deleted` stands beside it.",
    ),
    added("message.get", &["message.is_read"], "Whether who asks has read it; false if nobody in particular asks."),
    differs(
        "message.list",
        &["messages[]"],
        "other order",
        "Newest first, always; `sort_order` `asc` turns it round. Go Thrum's inbox began with the oldest until v0.10.6.",
    ),
    added("message.list", &["messages[].audiences", "messages[].refs", "messages[].scopes"], WHOLE),
    added(
        "message.list",
        &[
            "messages[].address",
            "messages[].from_home",
            "messages[].home_name",
            "messages[].origin_daemon",
            "messages[].signed",
        ],
        HOME,
    ),
    added("message.list, `unread_for_agent`", &["messages[].audiences", "messages[].refs", "messages[].scopes"], WHOLE),
    added(
        "message.list, `unread_for_agent`",
        &[
            "messages[].address",
            "messages[].from_home",
            "messages[].home_name",
            "messages[].origin_daemon",
            "messages[].signed",
        ],
        HOME,
    ),
    differs("message.list, `unread_for_agent`", &["messages[]"], "`msg_01M83E44V08K2MQ6F7CBXV64SG` missing", MAILBOX),
    differs("message.list, `unread_for_agent`", &["messages[]"], "`msg_01M83E44TTAVA78NJN60CPZ2TE` added", MAILBOX),
    differs("message.list, `unread_for_agent`", &["total", "unread"], "Go `6`, here `3`", MAILBOX),
    differs("message.list, `unread_for_agent`", &["total_pages"], "Go `3`, here `2`", MAILBOX),
    added("message.outbox", &["messages[].refs", "messages[].scopes"], WHOLE),
    added(
        "message.outbox",
        &[
            "messages[].address",
            "messages[].from_home",
            "messages[].home_name",
            "messages[].origin_daemon",
            "messages[].signed",
        ],
        HOME,
    ),
    added(
        "message.outbox",
        &[
            "messages[].recipients[].address",
            "messages[].recipients[].home",
            "messages[].recipients[].home_name",
            "messages[].recipients[].local",
        ],
        HOME,
    ),
    added("message.outbox", &["messages[].recipients[].state"], FAR),
    added(
        "message.send",
        &["recipients[].address", "recipients[].home", "recipients[].home_name", "recipients[].local"],
        HOME,
    ),
    added("message.send", &["recipients[].state"], FAR),
    added(
        "message.send",
        &["recipients[].outlook", "recipients[].outlook_since", "recipients[].outlook_state"],
        "What can be expected: what the message waits for, or what its recipient does.",
    ),
    added("peer.list", &["result[].last_sync_at"], "`last_sync` for programs."),
    added("peer.list", &["result[].state", "result[].transport"], STATE),
    differs("peer.status", &["result[]"], "other order", "In the order of pairing; Go Thrum's order is random."),
    added("peer.status", &["result[].last_sync_at"], "`last_sync` for programs."),
    added(
        "peer.status",
        &[
            "result[].backlog_from_them",
            "result[].backlog_to_them",
            "result[].last_error",
            "result[].next_attempt",
            "result[].our_latest",
            "result[].parked",
            "result[].read_by_us",
            "result[].rejected",
            "result[].since",
            "result[].state",
            "result[].their_latest",
            "result[].transport",
        ],
        STATE,
    ),
    added("session.list", &["sessions[].current_task"], "It is known, so it is told."),
    added(
        "session.list",
        &["sessions[].address", "sessions[].home", "sessions[].home_name", "sessions[].signed"],
        HOME,
    ),
    added("sync.status", &["last_error"], STATED),
    added("sync.status", &["peers"], STATE),
    added("sync.status", &["sync_interval"], INTERVAL),
    added("sync.status", &["tailnet"], "Whether the tailnet is used."),
    differs("sync.status", &["sync_state"], "Go `synced`, here `error`", STATED),
    added(
        "team.list",
        &["members[].address", "members[].home", "members[].home_name", "members[].local", "members[].signed"],
        HOME,
    ),
    added("team.list", &["members[].home_state", "members[].home_state_since"], STATE),
    differs(
        "team.list",
        &["members[]"],
        "`ses_01M83CAPTURE00000000000001` missing",
        "Its machine does not answer, so its agent is not active, and only `include_offline` shows it.",
    ),
    differs("team.list", &["members[].status"], "Go `active`, here `offline`", "Its machine does not answer."),
    differs(
        "team.list",
        &["members[].inbox_total", "members[].inbox_unread"],
        "missing",
        "Of agents that live elsewhere. What is in their mailboxes is known at their own daemons.",
    ),
    differs("team.list", &["members[].inbox_total"], "Go `1`, here `3`", SAME_NUMBERS),
    differs("team.list", &["members[].inbox_unread"], "Go `0`, here `2`", SAME_NUMBERS),
    differs(
        "team.list",
        &["shared_messages.broadcast_total", "shared_messages.groups[].total"],
        "Go `1`, here `2`",
        EVERYONE,
    ),
    differs("tsync.force", &["results[].error"], REFUSED[0], REFUSED[2]),
    differs("tsync.force", &["results[].error"], REFUSED[1], REFUSED[2]),
    added("tsync.force", &["results[].name"], "What people call the peer."),
];
