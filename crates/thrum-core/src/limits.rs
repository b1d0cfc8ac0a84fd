//! Every bound of the program, once, with its reason. Reaching one is a clear error or back-pressure, never a silent drop.

use std::time::Duration;

/// Largest message body accepted, in bytes of UTF-8. Go Thrum refuses larger ones since v0.10.6.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;

/// Largest event in canonical form. Escaping can make a body six times as long, and recipients and scopes come on top.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

/// Longest line accepted on any connection: the largest event twice over (`event_json` beside its envelope), no more.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Most bytes of an answer to a local client that is made of many messages, agents or sessions. Thirty ordinary messages have thirty
/// kilobytes; four clients at once take some copies of this each.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Most bytes of one message's text that `inbox`, `sent`, `wait` and `prime` print unless all is asked for: eight thousand tokens of
/// the reader's context window.
pub const MAX_PRINTED_BYTES: usize = 32 << 10;

/// Longest answer of an old peer that is read past: it holds one event that is longer than [`MAX_LINE_BYTES`], which is skipped.
pub const MAX_SKIPPED_LINE_BYTES: usize = 256 << 20;

/// Deepest nesting of JSON accepted; what `serde_json` refuses by itself, written down.
pub const MAX_JSON_DEPTH: usize = 128;

/// Longest id taken from another daemon. Ours have at most 55 characters; Go's at most 36.
pub const MAX_FOREIGN_ID_BYTES: usize = 256;

/// Longest name of an agent, role or module.
pub const MAX_NAME_BYTES: usize = 64;

/// Longest name of a peer, in characters; as long as a host name may be.
pub const MAX_PEER_NAME_CHARS: usize = 255;

/// Longest display name, intent, task, branch or path an agent may set, in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Most recipients, scopes or refs of one message. Thirty agents are usual, two hundred were seen.
pub const MAX_AUDIENCE: usize = 1000;

/// Most recipients of a message of which its sender hears what to expect. Nobody reads more of them.
pub const MAX_OUTLOOKS: usize = 100;

/// Messages that one request marks as read: each is an event, and together they keep the writer from others for some
/// milliseconds.
pub const MAX_READ_AT_ONCE: u64 = 200;

/// Instants kept per peer of how far it had read our log; beyond that every second one of the older half goes. A message is
/// then said to have arrived a little later than it did, never earlier.
pub const MAX_ACKNOWLEDGEMENTS: usize = 256;

/// How long such an instant may wait before it is on disk. What is lost in a crash, the peer says again when it asks next.
pub const SAVE_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(1);

/// Idempotency keys kept; the oldest go. A command repeats a send within seconds; in a minute 500 commands a second, which is
/// more than a machine can start, make fewer.
pub const MAX_IDEMPOTENCY_KEYS: i64 = 50_000;

/// Most daemons that an agent may say it lived at before. Go Thrum's id changes with the machine's name and with its version.
pub const MAX_FORMER_HOMES: usize = 16;

/// Most files in one list of a work context. Every daemon keeps each context and the team's view reads them all; an agent that
/// touches more is rewriting everything, which the first ones show.
pub const MAX_CONTEXT_FILES: usize = 300;

/// Most unmerged commits in a work context, for the same reason.
pub const MAX_CONTEXT_COMMITS: usize = 50;

/// Most bytes of one work context as JSON. The lists above at their usual lengths of 60 bytes a path come to half of it; at their
/// greatest lengths they would come to megabytes, of which the team's view shows one for every agent.
pub const MAX_CONTEXT_BYTES: usize = 256 << 10;

/// Most work contexts in one update: one for each session that an agent has open. Ours carry one.
pub const MAX_CONTEXTS: usize = 16;

/// Most members of an object inside a work context, and most changed fields of a group. Those of Go Thrum have five.
pub const MAX_GROUP_FIELDS: usize = 16;

/// Deepest nesting inside a work context: a commit is an object with a list of texts.
pub const MAX_VALUE_DEPTH: usize = 3;

/// Longest reason kept of why an event is parked or rejected: the error of a JSON reader repeats the text that it did not expect.
pub const MAX_REASON_BYTES: usize = 1024;

/// An agent of this daemon that neither called nor waited for this long is not there any more, whether or not its session was
/// ended. Builds, tests and long thoughts of an agent at work last less.
pub const AGENT_SILENT: Duration = Duration::from_secs(60 * 60);

/// The same for an agent of another daemon, of which only what it writes down is known here: not that it waits or reads.
pub const REMOTE_AGENT_SILENT: Duration = Duration::from_secs(24 * 60 * 60);

/// How old the written sign of life of an agent may be while newer ones are in memory only: what a crash of the daemon forgets.
pub const PRESENCE_KEPT: Duration = Duration::from_secs(60);

/// Most agents whose signs of life are in memory; beyond it, those written down already are forgotten.
pub const MAX_PRESENT: usize = 4096;

/// An agent is proposed for clean-up after this many days without a sign of life. Go's command uses the same.
pub const ABANDONED_DAYS: u32 = 30;

/// Most events in one batch. Go clients always ask for as many and treat larger values as this.
pub const MAX_BATCH_EVENTS: usize = 1000;

/// Most bytes of event bodies in one batch, but for a single larger event: a reply stays far below
/// [`MAX_LINE_BYTES`] and within a slow link's request deadline.
pub const MAX_BATCH_BYTES: usize = 1 << 20;

/// Most heads sent to a peer. A head may take three kilobytes of a line, and a daemon has one per life of each origin's database;
/// beyond this the peer is told none and shows that it cannot compare.
pub const MAX_HEADS: usize = 2000;

/// Most runs of numbers in one answer about a log, and in one request for events; twenty kilobytes to one hundred of a line. A log
/// with more holes is told piece by piece.
pub const MAX_TOLD_RUNS: usize = 1000;

/// Most ids in one answer about a log whose events have no numbers, and in one request for such events. Above it the answer is in
/// [`TOLD_PARTS`] parts. Each takes some hundred bytes of a line, at most two kilobytes.
pub const MAX_TOLD_IDS: usize = 500;

/// Into so many parts a log is cut that is too long to be listed: 100,000 events, of which one is missing, are compared in three
/// requests.
pub const TOLD_PARTS: u64 = 16;

/// Most runs of numbers, and most ids, that are named of what is missing in one log: what a person looks at. All are counted.
pub const MAX_NAMED: usize = 20;

/// Most runs of numbers of one log that a purge emptied or kept empty, beyond which no more are noted of events that a peer serves too
/// late: who serves them chooses their numbers. One that is not noted is asked for again, and kept out again.
pub const MAX_KEPT_OUT_RUNS: usize = 1000;

/// The same of all logs together: ten megabytes.
pub const MAX_KEPT_OUT_ROWS: usize = 100_000;

/// Most questions of one repair: 100,000 events that are missing in one piece need a hundred, and what is left is the next
/// repair's.
pub const MAX_REPAIR_CALLS: u32 = 2000;

/// Answers to `sync.fetch` of one log that bring nothing of what was asked for, until no more of that log is asked for.
pub const MAX_FRUITLESS: u32 = 3;

/// Connections that one repair may lose and make anew: so many times it asks for less until it asks for one event.
pub const MAX_REPAIR_LOSSES: u32 = 4;

/// A line that did not bring the events asked for is asked for a part of them: three times less, a thousand are one.
pub const REPAIR_LESS: usize = 10;

/// How deep the ids of a log are cut into parts; each part has a sixteenth of the events, and no log has 16^8.
pub const MAX_DEPTH: usize = 8;

/// Rows kept of rejected events, of all peers; beyond it those of who has the most go. The counters stay.
pub const MAX_REJECTED_ROWS: usize = 1000;

/// Rows kept of one peer's rejected events: the first half and the last, so that neither how it began nor how it goes on can be
/// flooded away.
pub const MAX_REJECTED_OF_PEER: usize = 100;

/// Bytes kept of a rejected event, enough to recognise it.
pub const MAX_REJECTED_SAMPLE_BYTES: usize = 1024;

/// Largest database file that is written anew after a purge; some five seconds of writing on a slow disk, in which agents wait.
/// In larger ones the purged text is overwritten where it stood, and the file stays as large as it was.
pub const MAX_REWRITTEN_BYTES: u64 = 512 << 20;

/// How far ahead of our clock a purge may lie and still be waited for as the next thing to happen. Clocks that are set are off by
/// minutes, those that nobody set by hours. One that lies further ahead waits as well, but holds up nothing until then: a peer that
/// dates one a hundred years ahead would else keep all from comparing what they hold.
pub const PURGE_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Most ids that one purge names of what claims a later time than it came. More are named by further purges.
pub const MAX_PURGED_AHEAD: usize = 1000;

/// Purges that a status lists, the last ones.
pub const LISTED_PURGES: u64 = 20;

/// Batches with a purge that a peer may have stored at once, and how long it takes until it may have another one: each looks
/// through the whole log, and a peer may send as many as it likes.
pub const PURGES_AT_ONCE: u32 = 16;

/// See [`PURGES_AT_ONCE`].
pub const PURGE_PAUSE: Duration = Duration::from_secs(10);

/// A peer most of whose events were rejected is left alone for this long: looking at a thousand signatures costs forty milliseconds.
pub const REJECTED_PAUSE: Duration = Duration::from_secs(1);

/// Events that are here already which a peer may serve at once: four readings of a log as large as we know of, as after a backup
/// was restored there. What it serves beyond that it serves for nothing, as fast as the line is.
pub const REPEATED_AT_ONCE: u64 = 2_000_000;

/// How many of them are forgotten per second; a peer that has used up its share is read once in [`REJECTED_PAUSE`].
pub const REPEATED_PER_SECOND: u64 = 1_000;

/// Batches in a row that a peer may send much smaller than batches may be for. Ours are so small only before a single large event.
pub const CRUMBS: u32 = 64;

/// Announcements in a row behind which there may be nothing. One may be behind what came by another way.
pub const EMPTY_NOTIFIES: u32 = 16;

/// Least time between two questions to a peer beyond either: ten commits or questions a second are nothing.
pub const CRUMB_PAUSE: Duration = Duration::from_millis(100);

/// Least time between two such rewritings: a peer may send as many purges as it likes.
pub const REWRITE_PAUSE: Duration = Duration::from_secs(60);

/// How often it is written down beside the database how far its log went. A copy of the database's file that is put back is known
/// for one if it ends earlier; what was written since the last note is the time in which it would not be.
pub const NOTE_LOG_END: Duration = Duration::from_secs(60);

/// Requests that may wait for the writer. More block the caller, which is the back-pressure.
pub const WRITER_QUEUE: usize = 1024;

/// Most requests in one group commit, so that the first of them does not wait for ever.
pub const MAX_GROUP_COMMIT: usize = 256;

/// Most connections on the local socket. Two hundred agents with a waiting and a working connection each.
pub const MAX_LOCAL_CONNECTIONS: usize = 512;

/// A local connection that sends nothing for this long is closed. Go's daemon uses the same.
pub const LOCAL_IDLE: Duration = Duration::from_secs(5 * 60);

/// A local request other than a long poll that takes longer is answered with "try again". Go's daemon and its command use the same.
pub const LOCAL_CALL: Duration = Duration::from_secs(10);

/// Longest time one `message.wait` may ask for.
pub const MAX_WAIT: Duration = Duration::from_secs(10 * 60);

/// Most connections accepted from peers. Fifty peers with one kept connection and some one-shot ones of Go each.
pub const MAX_PEER_CONNECTIONS: usize = 256;

/// Most connections of one peer; beyond it its oldest is closed, so that one peer never keeps the others out. A peer of ours has
/// one, and a second for a moment; Go's pulls in up to ten threads at once, beside what it announces.
pub const MAX_CONNECTIONS_OF_PEER: usize = 16;

/// Most questions of one peer whose answers are looked up or on their way at once. More wait, so that the rest of the daemon's
/// blocking threads are for others, and answers that a peer does not read take no more memory than these.
pub const MAX_SERVED_OF_PEER: usize = 4;

/// Most peer connections that have not shown a valid token yet; beyond it the oldest of the node that has the most is closed.
pub const MAX_UNAUTHENTICATED_CONNECTIONS: usize = 64;

/// A peer connection that has not shown a valid token by then is closed.
pub const UNAUTHENTICATED_DEADLINE: Duration = Duration::from_secs(10);

/// Most paired peers. Fifty are many; each costs a connection and a request per round.
pub const MAX_PEERS: usize = 200;

/// Bytes of events kept of one peer: a million messages of a kilobyte, of all daemons behind it. With its indexes and the projection the
/// database has two to three times as much.
pub const MAX_PEER_BYTES: u64 = 1 << 30;

/// Agents kept of one peer. Thirty are usual, two hundred were seen; each is a line of the team's view.
pub const MAX_PEER_AGENTS: u64 = 1_000;

/// Daemons whose events are kept of one peer. It relays those of its own peers, at most [`MAX_PEERS`], and Go Thrum's ids change with
/// names and versions.
pub const MAX_PEER_ORIGINS: u64 = 1_000;

/// Events of one peer that wait for something. Of a peer of a newer version all events of new types wait; beyond this many it is time
/// to update.
pub const MAX_PEER_PARKED: u64 = 50_000;

/// Rows of the log that one piece of forgetting a peer looks at; some ten milliseconds of the writer.
pub const FORGET_ROWS: usize = 500;

/// How often it is looked whether a peer that is over its quota still is.
pub const QUOTA_LOOK: Duration = Duration::from_secs(5);

/// Longest request accepted from a peer. Requests carry a token, a code, ids and numbers; only replies carry events.
pub const MAX_PEER_REQUEST_BYTES: usize = 64 << 10;

/// Largest `peers.json` or `pairing.json` read. Fifty peers need some 20 KB.
pub const MAX_STATE_FILE_BYTES: u64 = 4 << 20;

/// A peer connection that sends nothing for this long is closed; twenty rounds of silence mean that nobody is there.
pub const PEER_IDLE: Duration = Duration::from_secs(5 * 60);

/// Once a peer began a line, the rest must come within this time.
pub const PEER_LINE: Duration = Duration::from_secs(30);

/// Longest time a reply may take to be written to a peer, or each [`SLOW_BYTES`] of a longer one.
pub const PEER_WRITE: Duration = Duration::from_secs(30);

/// Connecting to a peer. Go's clients use the same five deadlines.
pub const DIAL: Duration = Duration::from_secs(5);

/// Attempts of that length that a person's `peer join` makes: the first packets between two machines that never met may take
/// longer to find their way, and nobody tries again by itself there.
pub const JOIN_DIALS: u32 = 3;

/// All of them.
pub const JOIN_DIAL: Duration = DIAL.saturating_mul(JOIN_DIALS);

/// One `sync.pull`, and of one for a single event each [`SLOW_BYTES`].
pub const PULL: Duration = Duration::from_secs(30);

/// What must come or go within [`PULL`] or [`PEER_WRITE`] of a line that cannot be made shorter: 8 KiB a second, which every line
/// brings over which anybody works.
pub const SLOW_BYTES: usize = 256 << 10;

/// One `sync.pull` for a single event, if it comes no faster than that: the longest line there is.
pub const SLOW_PULL: Duration = PULL.saturating_mul(64);

const _: () = assert!(64 * SLOW_BYTES == MAX_LINE_BYTES, "the longest line, step by step");

/// One `sync.notify`.
pub const NOTIFY: Duration = Duration::from_secs(10);

/// One `sync.peer_info`, and one `sync.hello`.
pub const PEER_INFO: Duration = Duration::from_secs(10);

/// Connecting to a peer and having it prove who it is, each within its own time.
pub const MEET: Duration = DIAL.saturating_add(PEER_INFO);

/// One question of whoever joins, with the code in it or about it. The other side writes its attempts and its peers to disk first.
pub const PAIR: Duration = Duration::from_secs(30);

/// The safety net: every peer is asked this often, whether or not it announced anything.
pub const ROUND: Duration = Duration::from_secs(15);

/// Shortest and longest round that may be set. What is committed is announced at once, so a shorter one finds nothing more; with a
/// longer one, a peer that is gone would not be noticed for hours.
pub const ROUNDS: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(60 * 60);

/// A peer that was asked more recently is left out of the round.
pub const RECENT: Duration = Duration::from_secs(10);

/// A peer whose clock differs by more is flagged: its mail sorts into the wrong place.
///
/// Our own clock that goes back by more was ahead before: by less it may have been put right by a few minutes, and events go on
/// where they were.
pub const CLOCK_OFF: Duration = Duration::from_secs(10 * 60);

/// How far ahead of our clock the time of an event may lie and still be believed. Clocks that the network sets differ by less than
/// a second.
pub const CLOCK_AHEAD: Duration = Duration::from_secs(2);

/// First wait after a failed connect; it doubles with each further failure.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between attempts to connect; also the pace at which a peer that removed us is asked again.
pub const BACKOFF_LAST: Duration = Duration::from_secs(5 * 60);

/// Least time between two notifies to an old peer, which opens a pull for each.
pub const LEGACY_NOTIFY_GAP: Duration = Duration::from_millis(100);

/// How far back an old peer's log is read again: it shows N+1 before N, by as long as one of its writes takes to become visible.
/// Its own calls end after 30 s; this is four times as long.
pub const LEGACY_LOOK_BACK: Duration = Duration::from_secs(120);

/// Least time between two such readings of what is known already. Less than [`ROUND`], so that every round does one.
pub const LEGACY_LOOK_GAP: Duration = Duration::from_secs(10);

/// Places kept of where we stood in an old peer's log within [`LEGACY_LOOK_BACK`]: one for each two seconds, with room to spare.
pub const LEGACY_PLACES: usize = 128;

/// Least time between two of them; the place between is forgotten.
pub const LEGACY_PLACES_APART: Duration = Duration::from_secs(2);

/// An old peer that asks for the same place for so long although it gets events cannot apply one of them. Storing a thousand
/// events takes it about twelve seconds.
pub const LEGACY_STUCK: Duration = Duration::from_secs(60);

/// So often it must have asked in that time to get events one by one. A peer that asks less often may just not have got the
/// answers.
pub const LEGACY_STUCK_ASKS: u32 = 3;

/// So often it must have asked for one event until that is skipped for it. It asks at least four times a minute; on a line that
/// loses every fifth answer, one peer in ten thousand would lose an event by it.
pub const LEGACY_REFUSED_ASKS: u32 = 6;

/// Places that are remembered of an old peer's questions. It asks in up to ten threads at once.
pub const LEGACY_ASKED_PLACES: usize = 32;

/// Events that an old peer refused and that are skipped for it; the oldest is forgotten first, which the peer has passed by then.
pub const LEGACY_SKIPPED: usize = 64;

/// Longest event that an old peer is served, as its encoder writes it. It cannot read its own journal any more after a line of
/// 1 MiB; the rest is room for what it adds and for numbers that it writes in another way.
pub const LEGACY_LINE_BYTES: usize = (1 << 20) - 1024;

/// Canonical length from which an event may be longer than [`LEGACY_LINE_BYTES`] there. An index of the database has the same number.
pub const LEGACY_LONG_BYTES: usize = 170_000;

const _: () = assert!(LEGACY_LONG_BYTES <= LEGACY_LINE_BYTES / 6, "the encoder makes six bytes of one at most");

/// Events of that length that are looked at for the status of an old peer. More are not counted.
pub const LEGACY_LONG_EVENTS: usize = 64;

/// Rows that are looked at for one question of an old peer. Where none of them can be served, the answer is empty, and the next
/// question goes on there. A hundred thousand rows take some three seconds; an old peer gives up after thirty.
pub const LEGACY_ROWS_LOOKED_AT: usize = 100_000;

/// Creations of one message, or beginnings of one session, that are looked at for an old peer. Honest daemons write one; a peer that
/// writes thousands of them costs no more than this, and what depends on them is withheld from old peers.
pub const LEGACY_CREATIONS: usize = 256;

/// How long a call of a Go daemon that is too new is shown in the status.
pub const NEWER_GO_SHOWN: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest name of an author that an old peer is served: it makes a file's name of it, which may have 255 bytes.
pub const LEGACY_AUTHOR_BYTES: usize = 200;

/// How long a pairing session waits for the other machine.
pub const PAIRING_SESSION: Duration = Duration::from_secs(5 * 60);

/// Whoever is to be joined is asked first how it pairs; it answers from memory, and an old peer that it knows no such question.
pub const PROBE_TO_JOIN: Duration = Duration::from_secs(10);

/// Wrong codes in one session, as the page of Go Thrum promises. An exchange that was begun and not ended is one.
pub const PAIRING_TRIES: u8 = 3;

/// Wrong codes per hour from one node.
pub const PAIRING_NODE_HOUR: usize = 6;

/// Wrong codes per hour in all.
pub const PAIRING_TOTAL_HOUR: usize = 10;

/// Wrong codes per day in all.
pub const PAIRING_TOTAL_DAY: usize = 30;

/// How long both sides wait for the first exchange before they report what is missing.
pub const FIRST_EXCHANGE: Duration = Duration::from_secs(5);

/// How long a pairing waits for a tailnet that is starting; less than [`LOCAL_CALL`], so that its answer still arrives.
pub const TAILNET_UP: Duration = Duration::from_secs(8);

/// Most nodes asked whether somebody waits there to be joined. A tailnet of more people than that has names for its machines.
pub const PROBED_NODES: usize = 64;

/// Most such questions at once. A node that refuses is asked on all of [`PORTS`] in two round trips, and the connections leave
/// room under the usual limit of 1,024 open files.
pub const PROBES: usize = 64;

/// Connecting for one such question, and its answer. A node that does not even refuse by then is asked on its other ports when
/// all others were.
pub const PROBE: Duration = Duration::from_secs(2);

/// All such questions; who has not answered by then is not listed.
pub const PROBE_ALL: Duration = Duration::from_secs(5);

/// One `peer ping`, everything included.
pub const PEER_PING: Duration = Duration::from_secs(10);

/// Of it, for the way of the packets: through a relay it takes a second, and what is said about it is not worth more.
pub const PATH: Duration = Duration::from_secs(5);

/// Least time between two words, in the log and to the peer, about its token being used by somebody else: who has stolen one may
/// use it all the time.
pub const STRAY_PAUSE: Duration = Duration::from_secs(60);

/// Pause between two looks at how packets travel to a connected peer. The network sends some for each.
pub const PATH_PAUSE: Duration = Duration::from_secs(60);

/// How long `sync force` waits for its pulls; less than [`LOCAL_CALL`], so that its answer still arrives.
pub const FORCE: Duration = Duration::from_secs(8);

/// Pause between two comparisons of one `sync verify`.
pub const VERIFY_PAUSE: Duration = Duration::from_millis(100);

/// For so long `sync verify` leaves a difference to the usual exchange before it asks what exactly is missing.
pub const REPAIR_AFTER: Duration = Duration::from_secs(1);

/// How long a repair may take, as long as it asks for more than one event at a time: a peer that lets us wait must not be looked at for
/// ever.
pub const REPAIR: Duration = Duration::from_secs(60);

/// One question of a repair about what there is; its answer is fifty kilobytes as a rule. For events there is [`PULL`].
pub const REPAIR_CALL: Duration = PEER_INFO;

/// Most repairs with one peer in one `sync verify`.
pub const MAX_REPAIRS: u32 = 3;

/// A connected peer is asked what it holds once in so many rounds (five minutes): one connection and one question, while the empty
/// pulls of the rounds in between say nothing about what lies below the checkpoint.
pub const ROUNDS_PER_LOOK: u32 = 20;

/// A difference is looked at so often, a round apart, before something is fetched: events on their way differ, too, but not the
/// same for three rounds.
pub const LOOKS: u32 = 3;

/// After repairs that brought nothing the pause doubles, up to so many times the usual one: more than an hour.
pub const MAX_LOOK_PAUSES: u32 = 16;

/// Least time between two repairs that a peer causes by saying that something is missing here: each reads the whole log, a second
/// for a million events.
pub const HINT_PAUSE: Duration = Duration::from_secs(10);

/// Pause after a failed `accept`, which may mean that no file descriptors are left.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long `sync verify` waits for agreement.
pub const VERIFY: Duration = Duration::from_secs(10);

/// Most sessions in one answer. An agent begins one a day or one an hour; nobody reads further back.
pub const MAX_LISTED_SESSIONS: usize = 1_000;

/// How long a stopping daemon lets requests finish.
pub const DRAIN: Duration = Duration::from_secs(5);

/// First and last port tried for the local transport, and Go's default for the tailnet.
pub const PORTS: std::ops::RangeInclusive<u16> = 9100..=9200;

/// A log file is rotated at this size.
pub const LOG_FILE_BYTES: u64 = 10 << 20;

/// Rotated log files kept beside the current one.
pub const LOG_FILES: usize = 3;

/// Most bytes read of a `.env` file. Real ones have a few hundred.
pub const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// Most bytes read of a file of ours that holds one path, one key or one process id.
pub const MAX_SMALL_FILE_BYTES: u64 = 64 << 10;

/// Longest path of a Unix socket: macOS has room for 104 bytes with the final zero, Linux for 108.
pub const MAX_SOCKET_PATH_BYTES: usize = 103;

/// How often a daemon looks whether its state directory and its socket are still at their paths. Two `stat`s each time; an agent that
/// finds no socket waits this long at most.
pub const STATE_LOOK: Duration = Duration::from_secs(1);

/// How long a command waits for a daemon that holds the lock and does not answer: it is starting, stopping, or stuck. Opening a large
/// log takes a few seconds on a slow disk.
pub const SILENT_DAEMON: Duration = Duration::from_secs(5);

/// How long a daemon that finds a socket file waits for somebody to answer on it. Go's daemon uses the same.
pub const SOCKET_PROBE: Duration = Duration::from_millis(500);

/// Longest time an answer may take to be written to a local client; one that does not read is cut off.
pub const LOCAL_WRITE: Duration = Duration::from_secs(10);

/// Largest notes of an agent, and largest preamble. They are read whole into a context window, and the largest windows of today
/// hold some four times as much.
pub const MAX_NOTES_BYTES: usize = 256 << 10;

/// One call of a `tailscaled` on this machine, but for dialling. It answers from memory, within a millisecond.
pub const LOCALAPI_CALL: Duration = Duration::from_secs(5);

/// Who is calling, asked of `tailscaled` about each connection it hands on. It takes 0.7 ms; for a caller that is nobody's,
/// `tailscaled` itself looks for a tenth of a second.
pub const WHOIS: Duration = Duration::from_secs(2);

/// Most connections about which it is being asked who is calling. More wait in the system's own queue, so that a program that
/// connects all the time costs no more than this.
pub const MAX_WHOIS: usize = 32;

/// Longest answer of a `tailscaled`. Its status has a kilobyte and a half about each node of the tailnet.
pub const MAX_LOCALAPI_BYTES: usize = 32 << 20;

/// Longest line kept of the stream in which a `tailscaled` tells what changes. Longer ones hold the whole tailnet, of which only
/// the fact that it changed matters here.
pub const MAX_LOCALAPI_NOTICE_BYTES: usize = 256 << 10;

/// How often a `tailscaled` is asked how it stands, whatever it tells by itself.
pub const TAILNET_LOOK: Duration = Duration::from_secs(30);

/// First wait before a `tailscaled` that is not there is looked for again, or the own one started again; it doubles up to
/// [`TAILNET_RETRY_LAST`].
pub const TAILNET_RETRY_FIRST: Duration = Duration::from_millis(500);

/// Longest such wait: somebody who has just started Tailscale does not wait longer for us to notice.
pub const TAILNET_RETRY_LAST: Duration = Duration::from_secs(15);

/// How long a node may be starting before it is said that the control server does not answer. Logging in takes a tenth of a
/// second on a near server and a few seconds on a far one.
pub const TAILNET_STARTING: Duration = Duration::from_secs(15);

/// How long the own `tailscaled` may take from its start until it answers on its socket; usually 50 ms.
pub const TAILSCALED_START: Duration = Duration::from_secs(10);

/// How often its socket is tried meanwhile.
pub const TAILSCALED_LOOK: Duration = Duration::from_millis(20);

/// How long the own `tailscaled` may take to end after it was asked to; then it is killed. Together with the rest of a stop this
/// stays below what service managers grant.
pub const TAILSCALED_STOP: Duration = Duration::from_secs(3);

/// The log of the own `tailscaled` begins anew at this size, with the one before beside it.
pub const TAILSCALED_LOG_BYTES: u64 = 2 << 20;

/// Longest line taken over into that log.
pub const MAX_TAILSCALED_LINE_BYTES: usize = 4 << 10;

/// Least time between two lines of our log about callers that nobody on the tailnet knows.
pub const REFUSED_CALLERS_PAUSE: Duration = Duration::from_secs(10);

/// Least time between two lines of our log about a peer that announces something under another's id.
pub const MISNAMED_PAUSE: Duration = Duration::from_secs(60);

/// How often a peer is pinged until a direct path is found; the first ones go through a relay while the nodes look for one.
pub const TAILNET_PINGS: usize = 3;
