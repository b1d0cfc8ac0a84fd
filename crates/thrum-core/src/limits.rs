//! Every bound of the program, once, with its reason. A bound that is reached causes a clear error or back-pressure,
//! never a silent drop.

use std::time::Duration;

/// Largest message body accepted, in bytes of UTF-8. Go Thrum has refused larger ones since v0.10.6.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;

/// Largest event in canonical form, in bytes. Escaping can make a body six times as long, and recipients and scopes are
/// added to it.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

/// Longest line accepted on any connection, in bytes. Twice the largest event, to leave room for the envelope around
/// `event_json`.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Largest answer to a local client that lists messages, agents or sessions, in bytes. Thirty ordinary messages take
/// thirty kilobytes. The bound exists because four concurrent clients hold several copies of their answers in memory.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Most bytes of one message's text that `inbox`, `sent`, `wait` and `prime` print unless the caller asks for the full
/// text: about eight thousand tokens of the reader's context window.
pub const MAX_PRINTED_BYTES: usize = 32 << 10;

/// Longest answer of a legacy peer that is read and discarded, in bytes. It contains one event that exceeds
/// [`MAX_LINE_BYTES`] and is skipped.
pub const MAX_SKIPPED_LINE_BYTES: usize = 256 << 20;

/// Deepest nesting of JSON accepted. This is the built-in limit of `serde_json`, stated explicitly.
pub const MAX_JSON_DEPTH: usize = 128;

/// Longest id accepted from another daemon, in bytes. Our ids have at most 55 characters, Go Thrum's at most 36.
pub const MAX_FOREIGN_ID_BYTES: usize = 256;

/// Longest name of an agent, role or module, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Longest name of a peer, in characters: the maximum length of a host name.
pub const MAX_PEER_NAME_CHARS: usize = 255;

/// Longest display name, intent, task, branch or path an agent may set, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Most recipients, scopes or refs of one message. Thirty agents are typical; two hundred have been observed.
pub const MAX_AUDIENCE: usize = 1000;

/// Most recipients for which the answer to a send includes an expectation of delivery. Longer lists would not be read.
pub const MAX_OUTLOOKS: usize = 100;

/// Most messages that one request marks as read. Each becomes an event, and together they occupy the writer for a few
/// milliseconds.
pub const MAX_READ_AT_ONCE: u64 = 200;

/// Most acknowledgements kept per peer: pairs of a sequence of our log and the time at which the peer had read it.
/// Above this bound, every second entry of the older half is dropped. A message may then be reported as delivered
/// slightly too late, never too early.
pub const MAX_ACKNOWLEDGEMENTS: usize = 256;

/// How long an acknowledgement may wait before it is written to disk. One that is lost in a crash is repeated by the
/// peer's next request.
pub const SAVE_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(1);

/// Most idempotency keys kept; the oldest are dropped first. A command repeats a send within seconds, and even 500
/// commands per second, more than a machine can start, use fewer than this in a minute.
pub const MAX_IDEMPOTENCY_KEYS: i64 = 50_000;

/// Most former homes that an agent's registration may list. Go Thrum's daemon id changes with the machine's name and
/// with its version.
pub const MAX_FORMER_HOMES: usize = 16;

/// Most files in one list of a work context. Every daemon stores every context, and the team view reads all of them. An
/// agent that touches more files is rewriting everything, which the first ones already show.
pub const MAX_CONTEXT_FILES: usize = 300;

/// Most unmerged commits in a work context, for the same reason as [`MAX_CONTEXT_FILES`].
pub const MAX_CONTEXT_COMMITS: usize = 50;

/// Largest work context as JSON, in bytes. The lists above take half of it at the usual path length of 60 bytes. At
/// their maximum lengths they would take megabytes, and the team view shows one context per agent.
pub const MAX_CONTEXT_BYTES: usize = 256 << 10;

/// Most work contexts in one update: one per open session of the agent. Our own updates carry one.
pub const MAX_CONTEXTS: usize = 16;

/// Most members of an object inside a work context, and most changed fields of a group. Go Thrum's objects have five.
pub const MAX_GROUP_FIELDS: usize = 16;

/// Deepest nesting inside a work context: a commit is an object that contains a list of strings.
pub const MAX_VALUE_DEPTH: usize = 3;

/// Most paths in one claim or release. An agent that needs more files claims their directory.
pub const MAX_CLAIM_PATHS: usize = 100;

/// Most paths that one agent may hold claims on at a time. An agent that needs more works on everything and should
/// claim `.`.
pub const MAX_CLAIMS: usize = 500;

/// Default duration of a claim. Most tasks of an agent take less time, and a claim that is never released must expire
/// soon.
pub const CLAIM: Duration = Duration::from_secs(30 * 60);

/// Longest duration of one claim, whatever its event requests. An agent that needs more time renews its claim.
pub const MAX_CLAIM: Duration = Duration::from_secs(24 * 60 * 60);

/// Most claims listed in one answer.
pub const MAX_LISTED_CLAIMS: usize = 500;

/// Most files in one claim check. The check before a commit sends several requests if the commit contains more files.
pub const MAX_CHECKED_FILES: usize = 1000;

/// Most claims examined for one answer, those that expire last first. Examining this many takes a hundredth of a
/// second.
pub const MAX_CLAIMS_LOOKED_AT: usize = 10_000;

/// Time within which changes of one file by two agents count as a collision, of which the agents are told. A turn of an
/// agent takes a few minutes, and the agent or its user has already seen what was changed in an earlier turn.
pub const COLLISION: Duration = Duration::from_secs(60);

/// How far a file's modification time may lag behind the clock at the moment of the write. Linux takes it from a clock
/// that advances in steps of 1 to 10 ms.
pub const FILE_TIME_STEP: Duration = Duration::from_millis(10);

/// Least time between two collision notices about the same file for the same pair of agents.
pub const COLLISION_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Most collisions recorded or reported at once. Two agents that rewrite the same tree have noticed each other by then.
pub const MAX_COLLISIONS: usize = 200;

/// Longest stored reason why an event is parked or rejected, in bytes. The error of a JSON parser quotes its unexpected
/// input.
pub const MAX_REASON_BYTES: usize = 1024;

/// Most pairs of peer and reason that `sync parked` lists: 200 KB if every reason has the maximum length.
pub const MAX_PARKED_GROUPS: usize = 100;

/// Silence after which an agent of this daemon counts as absent, whether or not its session was ended: no call and no
/// waiting. Builds, tests and long reasoning of an active agent take less time.
pub const AGENT_SILENT: Duration = Duration::from_secs(60 * 60);

/// Silence after which an agent of another daemon counts as absent. Longer than [`AGENT_SILENT`], because this daemon
/// sees only the events that such an agent writes, not its waiting and reading.
pub const REMOTE_AGENT_SILENT: Duration = Duration::from_secs(24 * 60 * 60);

/// Least time between two reads of one worktree's git state. Reading a large worktree takes a tenth of a second.
pub const GIT_PAUSE: Duration = Duration::from_secs(2);

/// After a read of its git state, a worktree is not read again for this many times the duration of the read.
pub const GIT_SHARE: u32 = 10;

/// How far the stored last-seen time of an agent may lag behind the one in memory: what a crash of the daemon loses.
pub const PRESENCE_KEPT: Duration = Duration::from_secs(60);

/// How long a change of an agent's presence must last before it is published to other daemons. A turn that ends and a
/// waiter that starts right after it count as one change.
pub const PRESENCE_SETTLES: Duration = Duration::from_millis(250);

/// Least time between two presence events about one agent: a few hundred events of 400 bytes in a working day.
pub const PRESENCE_EVERY: Duration = Duration::from_secs(5);

/// How long a waiter that lost the daemon may take to reconnect before its agent counts as gone. A waiter retries every
/// 5 seconds.
pub const PRESENCE_RETURNS: Duration = Duration::from_secs(15);

/// Default for the most messages that two agents may exchange without a user's prompt or a changed file. A review with
/// several rounds takes ten.
pub const EXCHANGE: u64 = 30;

/// Most messages of one agent that are examined to count those addressed to one other agent.
pub const EXCHANGE_ROWS: usize = 1000;

/// Most recipients of a message for which the exchange guard is applied. A message to more agents is not part of a loop
/// between two.
pub const EXCHANGE_AGENTS: usize = 8;

/// How often the daemon looks for silent sessions.
pub const PRESENCE_LOOK: Duration = Duration::from_secs(60);

/// Most program sessions that one agent may have at a time. A handful is typical.
pub const MAX_PROGRAM_SESSIONS: usize = 64;

/// Most agents whose presence is held in memory. Above this, agents whose presence is already stored are dropped from
/// memory.
pub const MAX_PRESENT: usize = 4096;

/// Days without a sign of life after which an agent is proposed for clean-up. Go Thrum's command uses the same number.
pub const ABANDONED_DAYS: u32 = 30;

/// Most events in one batch. Go clients always request this number and treat larger values as this one.
pub const MAX_BATCH_EVENTS: usize = 1000;

/// Most bytes of event bodies in one batch, unless a single event is larger. A reply thus stays far below
/// [`MAX_LINE_BYTES`] and fits into the request deadline on a slow link.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Most heads sent to a peer. A head may take three kilobytes of a line, and a daemon has one per log of each origin. A
/// daemon with more heads sends none and reports that it cannot be compared.
pub const MAX_HEADS: usize = 2000;

/// Most runs of origin sequences in one answer about a log, and in one request for events: twenty to one hundred
/// kilobytes of a line. A log with more gaps is described in several answers.
pub const MAX_TOLD_RUNS: usize = 1000;

/// Most ids in one answer about a log whose events have no origin sequences, and in one request for such events. A
/// longer list is answered in [`TOLD_PARTS`] parts. An id takes about a hundred bytes of a line, at most two kilobytes.
pub const MAX_TOLD_IDS: usize = 500;

/// Number of parts into which a log is divided if its ids do not fit into one answer. Two logs of 100,000 events that
/// differ in one event are compared in three requests.
pub const TOLD_PARTS: u64 = 16;

/// Most readers of one agent's mail whose cursors are kept: the agent's sessions of several weeks, and the programs
/// that read in its name.
pub const MAX_CURSORS: usize = 256;

/// Longest name of such a reader, in bytes: a session id plus a suffix that distinguishes the session's programs.
pub const MAX_READER_BYTES: usize = 256;

/// Most runs of origin sequences, and most ids, that a report on one log names as missing. All missing events are
/// counted; a person reads only this many.
pub const MAX_NAMED: usize = 20;

/// Number of recorded runs of purged origin sequences in one log above which late events add none. A late event is one
/// that a peer serves after its purge, with a sequence that the peer chooses, so their record must be bounded. An event
/// that is not recorded is requested again later, and discarded again.
pub const MAX_KEPT_OUT_RUNS: usize = 1000;

/// Number of recorded runs of purged origin sequences in all logs together above which late events add none: ten
/// megabytes.
pub const MAX_KEPT_OUT_ROWS: usize = 100_000;

/// Most requests of one reconciliation. 100,000 events that are missing in one contiguous range take a hundred; the
/// next reconciliation continues with the rest.
pub const MAX_REPAIR_CALLS: u32 = 2000;

/// Most `sync.fetch` answers for one log without any requested event before the rest of that log is given up.
pub const MAX_FRUITLESS: u32 = 3;

/// Most connections that one reconciliation may lose and reopen. Each loss reduces the request, and this many suffice
/// to reduce it to one event.
pub const MAX_REPAIR_LOSSES: u32 = 4;

/// Divisor for the number of requested events after a connection failed to deliver them. Three reductions take a
/// request from a thousand events to one.
pub const REPAIR_LESS: usize = 10;

/// Deepest division of a log's ids into parts. Each part has a sixteenth of the events, and no log has 16^8 events.
pub const MAX_DEPTH: usize = 8;

/// Most rows of rejected events kept for all peers together. Above this, rows of the peer with the most rows are
/// dropped. The counters remain exact.
pub const MAX_REJECTED_ROWS: usize = 1000;

/// Most rows of rejected events kept for one peer: its first and its latest, half each. A flood of rejections thus
/// displaces neither how the trouble began nor how it continues.
pub const MAX_REJECTED_OF_PEER: usize = 100;

/// Most bytes kept of a rejected event, enough to recognise it.
pub const MAX_REJECTED_SAMPLE_BYTES: usize = 1024;

/// Largest database file that is rewritten after a purge, in bytes. Rewriting takes about five seconds on a slow disk,
/// and agents wait meanwhile. In a larger file the purged text is overwritten in place, and the file keeps its size.
pub const MAX_REWRITTEN_BYTES: u64 = 512 << 20;

/// How long the answer to a purge waits until the purged text is removed completely; less than the command waits for
/// the answer. The rest is removed in the background.
pub const PURGE_ANSWERED: Duration = Duration::from_secs(40);

/// How far ahead of our clock a purge may lie and still block comparisons with peers until it takes effect. Adjusted
/// clocks differ by minutes, unadjusted ones by hours. A purge further ahead also waits, but blocks nothing: otherwise
/// a peer could date a purge a hundred years ahead and prevent all daemons from comparing their logs.
pub const PURGE_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Most ids listed in one purge event: messages, sessions and events that claim a time later than their arrival.
/// Further purge events list the rest.
pub const MAX_PURGED_AHEAD: usize = 1000;

/// Most recent purges that a status lists.
pub const LISTED_PURGES: u64 = 20;

/// Most batches with a purge that one peer may have stored in a burst; one more is granted every [`PURGE_PAUSE`]. Each
/// such batch scans the whole log, and a peer may send any number of them.
pub const PURGES_AT_ONCE: u32 = 16;

/// Time after which a peer may have another batch with a purge stored. See [`PURGES_AT_ONCE`].
pub const PURGE_PAUSE: Duration = Duration::from_secs(10);

/// Pause after a batch most of whose events were rejected. Verifying a thousand signatures takes forty milliseconds.
pub const REJECTED_PAUSE: Duration = Duration::from_secs(1);

/// Most already stored events that one peer may serve in a burst: four times the largest log that we know of, as after
/// a backup was restored on the peer. Beyond this the peer is throttled, because at line speed it would cost work and
/// bring nothing.
pub const REPEATED_AT_ONCE: u64 = 2_000_000;

/// Number by which a peer's count of repeated events is reduced per second. A peer that has used up
/// [`REPEATED_AT_ONCE`] is read once per [`REJECTED_PAUSE`].
pub const REPEATED_PER_SECOND: u64 = 1_000;

/// Number of consecutive small batches after which a peer is throttled: much smaller than allowed, although more events
/// follow. Our daemons send such batches only before a single large event.
pub const CRUMBS: u32 = 64;

/// Number of consecutive announcements without a new event after which a peer is throttled. A single one can be empty
/// because its events arrived from another peer.
pub const EMPTY_NOTIFIES: u32 = 16;

/// Least time between two requests to a peer that is throttled by [`CRUMBS`] or [`EMPTY_NOTIFIES`]. Ten commits or
/// requests per second cost almost nothing.
pub const CRUMB_PAUSE: Duration = Duration::from_millis(100);

/// Least time between two rewrites of the database file after purges. A peer may send any number of purges.
pub const REWRITE_PAUSE: Duration = Duration::from_secs(60);

/// How often the end of the log is noted beside the database. A restored copy of the database file is recognised
/// because it ends before the noted sequence; a copy that was made after the latest note is not recognised.
pub const NOTE_LOG_END: Duration = Duration::from_secs(60);

/// Most requests queued for the writer. A full queue blocks the caller, which is the back-pressure.
pub const WRITER_QUEUE: usize = 1024;

/// Most requests in one group commit. The bound keeps the first of them from waiting too long.
pub const MAX_GROUP_COMMIT: usize = 256;

/// Most connections on the local socket: two hundred agents with one waiting and one working connection each.
pub const MAX_LOCAL_CONNECTIONS: usize = 512;

/// Idle time after which a local connection is closed. Go Thrum's daemon uses the same value.
pub const LOCAL_IDLE: Duration = Duration::from_secs(5 * 60);

/// Longest time for a local request other than a long poll. Afterwards the daemon answers "try again". Go Thrum's
/// daemon and command use the same value.
pub const LOCAL_CALL: Duration = Duration::from_secs(10);

/// Longest time that one `message.wait` may request.
pub const MAX_WAIT: Duration = Duration::from_secs(10 * 60);

/// Least time between two database reads of one waiting `work.wait`. With a large team, one read takes up to a
/// thirtieth of this.
pub const WAIT_LOOK: Duration = Duration::from_millis(100);

/// Most connections accepted from peers: fifty peers with one persistent connection and several one-shot connections of
/// Go Thrum each.
pub const MAX_PEER_CONNECTIONS: usize = 256;

/// Most connections of one peer. Above this the peer's oldest connection is closed, so that one peer never locks out
/// the others. A peer of ours uses one, briefly two. Go Thrum pulls in up to ten threads at once and announces on
/// further connections.
pub const MAX_CONNECTIONS_OF_PEER: usize = 16;

/// Most requests of one peer that are processed or answered at once; further requests wait. The bound leaves blocking
/// threads for other peers, and limits the memory for answers that a peer does not read.
pub const MAX_SERVED_OF_PEER: usize = 4;

/// Most peer connections that have not presented a valid token yet. Above this, the oldest connection of the node with
/// the most such connections is closed.
pub const MAX_UNAUTHENTICATED_CONNECTIONS: usize = 64;

/// Time after which a peer connection without a valid token is closed.
pub const UNAUTHENTICATED_DEADLINE: Duration = Duration::from_secs(10);

/// Most paired peers. Fifty are many; each costs a connection and a request per sync interval.
pub const MAX_PEERS: usize = 200;

/// Most bytes of events kept from one peer, including events that it relays: a million messages of a kilobyte. With
/// indexes and projection, the database takes two to three times as much.
pub const MAX_PEER_BYTES: u64 = 1 << 30;

/// Most agents kept from one peer. Thirty are typical and two hundred have been observed; each takes a line of the team
/// view.
pub const MAX_PEER_AGENTS: u64 = 1_000;

/// Most origins whose events are kept from one peer. A peer relays the events of its own peers, at most [`MAX_PEERS`],
/// and Go Thrum's ids change with names and versions.
pub const MAX_PEER_ORIGINS: u64 = 1_000;

/// Most parked events kept from one peer. All events of types that only a newer version knows are parked; beyond this
/// number it is time to update.
pub const MAX_PEER_PARKED: u64 = 50_000;

/// Rows of the log examined in one step of removing a peer's events: about ten milliseconds of the writer.
pub const FORGET_ROWS: usize = 500;

/// How often the daemon checks whether a peer is still over its quota.
pub const QUOTA_LOOK: Duration = Duration::from_secs(5);

/// Longest request accepted from a peer, in bytes. Requests carry a token, a code, ids and numbers; only replies carry
/// events.
pub const MAX_PEER_REQUEST_BYTES: usize = 64 << 10;

/// Largest `peers.json` or `pairing.json` read, in bytes. Fifty peers take about 20 KB.
pub const MAX_STATE_FILE_BYTES: u64 = 4 << 20;

/// Idle time after which a peer's connection is closed. Twenty silent sync intervals mean that the peer is gone.
pub const PEER_IDLE: Duration = Duration::from_secs(5 * 60);

/// Time within which the rest of a line must arrive once a peer has begun it.
pub const PEER_LINE: Duration = Duration::from_secs(30);

/// Longest time for writing a reply to a peer, or each [`SLOW_BYTES`] of a longer reply.
pub const PEER_WRITE: Duration = Duration::from_secs(30);

/// Deadline for connecting to a peer. Go Thrum's clients use the same deadlines for connecting, [`PULL`], [`NOTIFY`],
/// [`PEER_INFO`] and [`PAIR`] (`reference/thrum-wire.md`).
pub const DIAL: Duration = Duration::from_secs(5);

/// Connection attempts of [`DIAL`] each that a user's `peer join` makes. The first packets between two machines that
/// never communicated may need longer to find a path, and nothing retries a join automatically.
pub const JOIN_DIALS: u32 = 3;

/// Deadline for all connection attempts of one join.
pub const JOIN_DIAL: Duration = DIAL.saturating_mul(JOIN_DIALS);

/// Deadline for one `sync.pull`. A pull of a single event gets this long for each [`SLOW_BYTES`].
pub const PULL: Duration = Duration::from_secs(30);

/// Silence after which a connection may be dead without having been closed.
pub const CONNECTION_QUIET: Duration = Duration::from_secs(5);

/// Deadline for the first bytes of an answer on such a connection, if the request is cheap for the peer: as long as a
/// new dial. The fresh connection then gets the full [`PULL`].
pub const ANSWER_AFTER_QUIET: Duration = DIAL;

/// Bytes that must arrive within [`PULL`], or leave within [`PEER_WRITE`], of a line that cannot be shortened: 8 KiB
/// per second, which every usable line achieves.
pub const SLOW_BYTES: usize = 256 << 10;

/// Deadline for one `sync.pull` of a single event at the minimum rate: the time for the longest possible line.
pub const SLOW_PULL: Duration = PULL.saturating_mul(64);

const _: () = assert!(64 * SLOW_BYTES == MAX_LINE_BYTES, "the longest line, step by step");

/// Deadline for one `sync.notify`.
pub const NOTIFY: Duration = Duration::from_secs(10);

/// Deadline for one `sync.peer_info` or `sync.hello`.
pub const PEER_INFO: Duration = Duration::from_secs(10);

/// Deadline for connecting to a peer and having it prove its identity: the sum of both deadlines.
pub const MEET: Duration = DIAL.saturating_add(PEER_INFO);

/// Deadline for one pairing request of the joining side, with the code or about it. The other side first writes its
/// attempts and its peers to disk.
pub const PAIR: Duration = Duration::from_secs(30);

/// Default sync interval: every peer is pulled this often, whether or not it announced anything.
pub const ROUND: Duration = Duration::from_secs(15);

/// Shortest and longest sync interval that may be configured. Commits are announced at once, so a shorter one finds
/// nothing more; with a longer one, a peer that is gone would stay unnoticed for hours.
pub const ROUNDS: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(60 * 60);

/// A peer that was pulled more recently than this is skipped in the periodic pull.
pub const RECENT: Duration = Duration::from_secs(10);

/// Clock difference above which a peer is flagged, because its mail sorts into the wrong place.
///
/// Also applies to our own clock. A step back by more than this means that the clock was ahead before. A smaller one
/// may be an ordinary correction, and event times continue from the latest one written.
pub const CLOCK_OFF: Duration = Duration::from_secs(10 * 60);

/// How far ahead of our clock an event's time may lie and still be believed. Clocks synchronised over the network
/// differ by less than a second.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(2);

/// First wait after a failed connection attempt; it doubles with each further failure.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between connection attempts. Also the interval at which a peer that removed us is contacted again.
pub const BACKOFF_LAST: Duration = Duration::from_secs(5 * 60);

/// Least time between two notifies to a legacy peer, which opens a pull for each.
pub const LEGACY_NOTIFY_GAP: Duration = Duration::from_millis(100);

/// How far back a legacy peer's log is read again. Such a log can show sequence N+1 before N, for as long as one of its
/// writes takes to become visible. The legacy peer's own calls end after 30 s; this is four times as long.
pub const LEGACY_LOOK_BACK: Duration = Duration::from_secs(120);

/// Least time between two such re-reads. Shorter than [`ROUND`], so that every sync interval includes one.
pub const LEGACY_LOOK_GAP: Duration = Duration::from_secs(10);

/// Most positions remembered of our reading of a legacy peer's log within [`LEGACY_LOOK_BACK`]: one per two seconds,
/// with room to spare.
pub const LEGACY_PLACES: usize = 128;

/// Least time between two remembered positions; positions in between are dropped.
pub const LEGACY_PLACES_APART: Duration = Duration::from_secs(2);

/// Time after which a legacy peer counts as stuck if it keeps asking for the same position although it receives events:
/// it cannot apply one of them. Storing a thousand events takes such a peer about twelve seconds.
pub const LEGACY_STUCK: Duration = Duration::from_secs(60);

/// Number of requests for the same position, over at least [`LEGACY_STUCK`], after which a legacy peer gets events one
/// by one. With fewer requests, the answers may simply have been lost.
pub const LEGACY_STUCK_ASKS: u32 = 3;

/// Number of requests for the same single event after which that event is skipped for a legacy peer. The peer asks at
/// least four times a minute. On a line that loses every fifth answer, one peer in ten thousand would lose an event
/// this way.
pub const LEGACY_REFUSED_ASKS: u32 = 6;

/// Most positions remembered from a legacy peer's requests. Such a peer asks in up to ten threads at once.
pub const LEGACY_ASKED_PLACES: usize = 32;

/// Most events remembered as refused by a legacy peer and skipped for it. The oldest is dropped first; the peer has
/// passed it by then.
pub const LEGACY_SKIPPED: usize = 64;

/// Longest event served to a legacy peer, in bytes of its own encoder's output. After a line of 1 MiB a legacy peer
/// cannot read its own journal any more. The 1 KiB left is room for fields that it adds and for numbers that it writes
/// differently.
pub const LEGACY_LINE_BYTES: usize = (1 << 20) - 1024;

/// Canonical length in bytes above which an event may exceed [`LEGACY_LINE_BYTES`] in a legacy peer's encoding. A
/// database index contains the same number.
pub const LEGACY_LONG_BYTES: usize = 170_000;

const _: () = assert!(LEGACY_LONG_BYTES <= LEGACY_LINE_BYTES / 6, "the encoder makes six bytes of one at most");

/// Most events of that length examined for the status of a legacy peer. Further ones are not counted.
pub const LEGACY_LONG_EVENTS: usize = 64;

/// Most rows examined for one request of a legacy peer. If none of them can be served, the answer is empty, and the
/// next request continues after them. A hundred thousand rows take about three seconds; a legacy peer gives up after
/// thirty.
pub const LEGACY_ROWS_LOOKED_AT: usize = 100_000;

/// Most creations of one message, or starts of one session, examined for a legacy peer. Honest daemons write one. A
/// peer that writes thousands costs no more than this, and events that depend on them are withheld from legacy peers.
pub const LEGACY_CREATIONS: usize = 256;

/// How long the status shows a call from a Go daemon that is too new.
pub const NEWER_GO_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest author name served to a legacy peer, in bytes. Such a peer uses it in a file name, which may have 255 bytes.
pub const LEGACY_AUTHOR_BYTES: usize = 200;

/// How long a pairing session waits for the other machine.
pub const PAIRING_SESSION: Duration = Duration::from_secs(5 * 60);

/// Deadline for the first request of a join, which asks how the other side pairs. Our daemon answers from memory; a
/// legacy peer answers that it does not know the method.
pub const PROBE_TO_JOIN: Duration = Duration::from_secs(10);

/// Wrong codes allowed in one pairing session, as Go Thrum's documentation promises. An exchange that was begun and not
/// finished counts as one.
pub const PAIRING_TRIES: u8 = 3;

/// Wrong codes allowed per hour from one node.
pub const PAIRING_NODE_HOUR: usize = 6;

/// Wrong codes allowed per hour from all nodes.
pub const PAIRING_TOTAL_HOUR: usize = 10;

/// Wrong codes allowed per day from all nodes.
pub const PAIRING_TOTAL_DAY: usize = 30;

/// How long both sides of a pairing wait for the first exchange before they report what is missing.
pub const FIRST_EXCHANGE: Duration = Duration::from_secs(5);

/// How long a pairing waits for a tailnet that is starting. Less than [`LOCAL_CALL`], so that the answer still arrives
/// in time.
pub const TAILNET_UP: Duration = Duration::from_secs(8);

/// Most nodes probed for a pairing session that waits for a join. In a larger tailnet, people know their machines by
/// name.
pub const PROBED_NODES: usize = 64;

/// Most concurrent probes. A node that refuses connections is probed on all of [`PORTS`] in two round trips, and the
/// connections stay below the usual limit of 1,024 open files.
pub const PROBES: usize = 64;

/// Deadline for connecting in one probe, and for its answer. A node that does not even refuse a connection within this
/// time is probed on its other ports only after all other nodes.
pub const PROBE: Duration = Duration::from_secs(2);

/// Deadline for all probes together. A node that has not answered by then is not listed.
pub const PROBE_ALL: Duration = Duration::from_secs(5);

/// Deadline for one `peer ping`, everything included.
pub const PEER_PING: Duration = Duration::from_secs(10);

/// Part of [`PEER_PING`] spent on finding the packets' path. Through a relay this takes a second, and the answer is not
/// worth more time.
pub const PATH: Duration = Duration::from_secs(5);

/// Least time between two reports, in the log and to the peer, about token misuse. A thief may use a stolen token
/// continuously.
pub const STRAY_PAUSE: Duration = Duration::from_secs(60);

/// How long the status shows that two daemons run with one key after one of them was last heard. Equal to the longest
/// wait between two attempts to reach a peer, because a daemon that still runs is heard within that time.
pub const SAME_KEY: Duration = BACKOFF_LAST;

/// Most processes remembered per daemon key. Two suffice to detect that both run; the others are processes before a
/// restart.
pub const MAX_LIVES: usize = 4;

/// Pause between two checks of the packets' path to a connected peer. The network sends several packets for each.
pub const PATH_PAUSE: Duration = Duration::from_secs(60);

/// How long `sync force` waits for its pulls. Less than [`LOCAL_CALL`], so that the answer still arrives in time.
pub const FORCE: Duration = Duration::from_secs(8);

/// Pause between two comparisons of one `sync verify`.
pub const VERIFY_PAUSE: Duration = Duration::from_millis(100);

/// How long `sync verify` leaves a difference to the normal sync before it reconciles it.
pub const REPAIR_AFTER: Duration = Duration::from_secs(1);

/// Deadline for one reconciliation, while it requests more than one event at a time. A peer that delays its answers
/// must not hold it up for ever.
pub const REPAIR: Duration = Duration::from_secs(60);

/// Deadline for one request of a reconciliation about what the peer holds. The answer usually has fifty kilobytes.
/// Requests for events have [`PULL`].
pub const REPAIR_CALL: Duration = PEER_INFO;

/// Most reconciliations with one peer in one `sync verify`.
pub const MAX_REPAIRS: u32 = 3;

/// Sync intervals between two anti-entropy checks of a connected peer (five minutes). A check costs one connection and
/// one request. The empty pulls in between say nothing about events below the checkpoint.
pub const ROUNDS_PER_LOOK: u32 = 20;

/// Consecutive checks, one sync interval apart, that must find the same difference before it is reconciled. Events in
/// transit also cause differences, but not the same one for three intervals.
pub const LOOKS: u32 = 3;

/// Largest multiple of the usual pause between anti-entropy checks: more than an hour. The pause doubles after each
/// reconciliation that brought nothing.
pub const MAX_LOOK_PAUSES: u32 = 16;

/// Least time between two reconciliations that a peer triggers by reporting that events are missing here. Each reads
/// the whole log, which takes a second for a million events.
pub const HINT_PAUSE: Duration = Duration::from_secs(10);

/// Pause after a failed `accept`, which may mean that no file descriptors are left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long `sync verify` waits for agreement.
pub const VERIFY: Duration = Duration::from_secs(10);

/// Most sessions in one answer. An agent starts one per day or per hour, and people do not read further back.
pub const MAX_LISTED_SESSIONS: usize = 1_000;

/// How long a stopping daemon lets running requests finish.
pub const DRAIN: Duration = Duration::from_secs(5);

/// First and last port tried for the local transport. The first is also Go Thrum's default for the tailnet.
pub const PORTS: std::ops::RangeInclusive<u16> = 9100..=9200;

/// Size in bytes at which a log file is rotated.
pub const LOG_FILE_BYTES: u64 = 10 << 20;

/// Rotated log files kept beside the current one.
pub const LOG_FILES: usize = 3;

/// Most bytes read of a `.env` file. Real ones have a few hundred.
pub const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// Most bytes read of one of our files that hold one path, one key or one process id.
pub const MAX_SMALL_FILE_BYTES: u64 = 64 << 10;

/// Longest path of a Unix socket in bytes: macOS allows 104 with the final zero, Linux 108.
pub const MAX_SOCKET_PATH_BYTES: usize = 103;

/// How often a daemon checks that its state directory and its socket are still at their paths. Each check takes four
/// `stat` calls. An agent that finds no socket waits at most this long.
pub const STATE_LOOK: Duration = Duration::from_secs(1);

/// How long a command waits for a daemon that holds the lock but does not answer: it is starting, stopping or stuck.
/// Opening a large log takes a few seconds on a slow disk.
pub const SILENT_DAEMON: Duration = Duration::from_secs(5);

/// How long a daemon that finds a socket file waits for an answer on it. Go Thrum's daemon uses the same value.
pub const SOCKET_PROBE: Duration = Duration::from_millis(500);

/// Longest time for writing an answer to a local client. A client that does not read it is disconnected.
pub const LOCAL_WRITE: Duration = Duration::from_secs(10);

/// Largest notes of an agent, and largest preamble, in bytes. They are read as a whole into a context window; the
/// largest windows of today hold about four times as much.
pub const MAX_NOTES_BYTES: usize = 256 << 10;

/// Deadline for one call of a `tailscaled` on this machine, except for dialling. It answers from memory, within a
/// millisecond.
pub const LOCALAPI_CALL: Duration = Duration::from_secs(5);

/// Deadline for asking `tailscaled` who is calling, once per connection that it forwards. The answer takes 0.7 ms; for
/// an unknown caller, `tailscaled` itself searches for a tenth of a second.
pub const WHOIS: Duration = Duration::from_secs(2);

/// Most connections whose callers are being looked up at once. Further connections wait in the operating system's
/// queue, so that a program that connects continuously costs no more than this.
pub const MAX_WHOIS: usize = 32;

/// Longest answer of a `tailscaled`, in bytes. Its status has about a kilobyte and a half per node of the tailnet.
pub const MAX_LOCALAPI_BYTES: usize = 32 << 20;

/// Longest line kept from the notification stream of a `tailscaled`, in bytes. Longer lines contain the whole tailnet,
/// of which only the fact that it changed matters here.
pub const MAX_LOCALAPI_NOTICE_BYTES: usize = 256 << 10;

/// How often a `tailscaled` is asked for its status, whatever its notifications report.
pub const TAILNET_LOOK: Duration = Duration::from_secs(30);

/// First wait before another attempt to find a missing `tailscaled`, or to start our own again. The wait doubles up to
/// [`TAILNET_RETRY_LAST`].
pub const TAILNET_RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longest such wait, and thus the longest time until we notice that a user has started Tailscale.
pub const TAILNET_RETRY_LAST: Duration = Duration::from_secs(15);

/// How long a node may be starting before the status reports that the control server does not answer. A login takes a
/// tenth of a second on a near server and a few seconds on a far one.
pub const TAILNET_STARTING: Duration = Duration::from_secs(15);

/// How long our own `tailscaled` may take from its start until it answers on its socket; usually 50 ms.
pub const TAILSCALED_START: Duration = Duration::from_secs(10);

/// How often the socket of our own `tailscaled` is tried while it starts.
pub const TAILSCALED_LOOK: Duration = Duration::from_millis(20);

/// How long our own `tailscaled` may take to exit after it was asked to; then it is killed. Together with the rest of a
/// stop this stays below what service managers allow.
pub const TAILSCALED_STOP: Duration = Duration::from_secs(3);

/// Size in bytes at which the log of our own `tailscaled` is started anew. The previous one is kept beside it.
pub const TAILSCALED_LOG_BYTES: u64 = 2 << 20;

/// Longest line copied into that log, in bytes.
pub const MAX_TAILSCALED_LINE_BYTES: usize = 4 << 10;

/// Least time between two log lines about callers that are unknown on the tailnet.
pub const REFUSED_CALLERS_PAUSE: Duration = Duration::from_secs(10);

/// Least time between two log lines about a peer that announces something under another peer's id.
pub const MISNAMED_PAUSE: Duration = Duration::from_secs(60);

/// How often a peer is pinged until a direct path is found. The first pings go through a relay while the nodes look for
/// one.
pub const TAILNET_PINGS: usize = 3;

/// Most turns that mail may start in an idle session within [`WAKES_WITHIN`], for programs where such a turn costs as
/// much as a prompt. Two agents that answer each other at once would cause hundreds; a user who sees ten looks into
/// them.
pub const MAX_WAKES: usize = 10;
/// Period in which [`MAX_WAKES`] applies.
pub const WAKES_WITHIN: Duration = Duration::from_secs(3600);
