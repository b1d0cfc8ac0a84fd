//! Bounds on messages, events and the texts and lists in them.

use std::time::Duration;

/// Largest text of a message, and largest structured content, in bytes of UTF-8. Go Thrum has refused larger texts
/// since v0.10.6.
pub const MAX_CONTENT_BYTES: usize = 1 << 20;

/// Largest event in canonical form, in bytes. Escaping can make a body six times as long; recipients and scopes come in
/// addition.
pub const MAX_EVENT_BYTES: usize = 8 << 20;

/// Longest line read as a whole, in bytes: a request of a local client, the daemon's answer to it, or a peer's reply.
/// Requests of peers are shorter ([`MAX_PEER_REQUEST_BYTES`](super::MAX_PEER_REQUEST_BYTES)). If the reply of a legacy
/// peer is longer, only its beginning is kept ([`MAX_SKIPPED_LINE_BYTES`]). Twice the largest event, to leave room for
/// the envelope around `event_json`.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// Approximate size, in bytes, at which an answer that lists messages, agents or sessions is cut. Thirty ordinary
/// messages take thirty kilobytes. Bounded because up to four such answers are worked out at once, each with several
/// copies in memory.
pub const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Most messages in one page of a list of messages, as in Go Thrum. The methods return at most this many, whatever page
/// size a client requests; the commands refuse a larger number.
pub const MAX_PAGE_MESSAGES: u64 = 100;

/// Most bytes of one message's text that `inbox`, `sent`, `wait` and `prime` print: about eight thousand tokens of the
/// reader's context window. `inbox` and `wait` with `--full`, and `sent show`, print the whole text.
pub const MAX_PRINTED_BYTES: usize = 32 << 10;

/// Longest answer of a legacy peer, in bytes, that does not end the exchange. If an answer with a single event exceeds
/// [`MAX_LINE_BYTES`], only its beginning is kept, which shows which event to skip; the rest is discarded.
pub const MAX_SKIPPED_LINE_BYTES: usize = 256 << 20;

/// Depth of nesting at which JSON is refused; one level less is accepted. This is the built-in limit of `serde_json`,
/// stated explicitly.
pub const MAX_JSON_DEPTH: usize = 128;

/// Longest id accepted from another daemon, in bytes. Our ids have at most 55 characters, Go Thrum's at most 36.
pub const MAX_FOREIGN_ID_BYTES: usize = 256;

/// Longest name of an agent, role or module, in bytes.
pub const MAX_NAME_BYTES: usize = 64;

/// Longest name of a peer, in characters: the maximum length of a host name.
pub const MAX_PEER_NAME_CHARS: usize = 255;

/// Longest short text of an event, in bytes: a display name, intent, task, branch, path, reason or value of a tag.
pub const MAX_TEXT_BYTES: usize = 4096;

/// Most recipients, scopes and refs together that one request to send may name. With the members of groups, each list
/// of a message may have twice as many entries. Thirty agents are typical; two hundred have been observed.
pub const MAX_AUDIENCE: usize = 1000;

/// Number of recipients, from the first, for which the answer to a send includes an outlook (whether and when each gets
/// the message). A longer list would not be read.
pub const MAX_OUTLOOKS: usize = 100;

/// Most messages marked as read by one request to mark all. Each receipt is an event, and together they occupy the
/// writer for a few milliseconds.
pub const MAX_READ_AT_ONCE: u64 = 200;

/// Most acknowledgements kept per peer: pairs of a sequence of our log and the time at which the peer had read it.
/// Above this bound, every second entry of the older half is dropped. A message may then be reported as delivered
/// slightly too late, never too early.
pub const MAX_ACKNOWLEDGEMENTS: usize = 256;

/// How long an acknowledgement waits before it is written to disk. If it is lost in a crash, the peer's next request
/// repeats it.
pub const SAVE_ACKNOWLEDGEMENTS: Duration = Duration::from_secs(1);

/// Number of idempotency keys kept. Older ones are dropped, 256 at a time. A command repeats a send within seconds, and
/// even 500 commands per second, more than a machine can start, use fewer than this in a minute.
pub const MAX_IDEMPOTENCY_KEYS: i64 = 50_000;

/// Most former homes that an agent's registration may list. Go Thrum's daemon id changes with the machine's name and
/// with its version.
pub const MAX_FORMER_HOMES: usize = 16;

/// Most members of one commit or file change in a work context (Go Thrum writes five), and most fields that one
/// `group.update` may change.
pub const MAX_GROUP_FIELDS: usize = 16;

/// Longest stored reason why an event is parked or rejected, in bytes. The error of a JSON parser quotes its unexpected
/// input.
pub const MAX_REASON_BYTES: usize = 1024;
