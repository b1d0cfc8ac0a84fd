//! Errors of an exchange with a peer.
//!
//! The parts of this crate pass these errors on as values. They become words only where a user reads them: in a peer's
//! status, in a log line, or in an answer of the daemon.

use std::time::Duration;

use thrum_core::{Error, Retry, name::printable, quota::OverQuota, words::count};

use crate::{clock::go_duration, conn::NoLine, protocol::wire::BadReply};

/// Why an exchange with a peer failed. The text is one line for a status, and includes a hint where there is one.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// No connection was opened: the peer cannot or must not be dialled, does not answer, or its network is down.
    #[error("{}", in_one_line(.0))]
    Unreachable(Error),
    /// The daemon at the peer's address did not prove that it is the peer. No secret was sent.
    #[error(transparent)]
    Unproven(#[from] Unproven),
    /// The time for a step has passed.
    #[error(transparent)]
    Timeout(#[from] Timeout),
    /// The connection ended.
    #[error("{0}")]
    Lost(NoLine),
    /// The task that owns the connection ended.
    #[error("the connection ended")]
    Closed,
    /// The connection that the peer had lent to us ended.
    #[error("the connection that it lent ended")]
    LoanEnded,
    /// A reply exceeds the maximum line length, and the connection is unusable.
    #[error("an answer that is too long")]
    TooLong,
    /// The reply is an error, or not a reply.
    #[error(transparent)]
    Reply(#[from] BadReply),
    /// The reply is well-formed, but not allowed.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The peer wastes our resources.
    #[error(transparent)]
    Waste(#[from] Waste),
    /// The peer does not accept our token, usually because its user removed us.
    #[error("it does not know us any more: unauthorized")]
    Removed,
    /// Our user removed the peer meanwhile.
    #[error("it is no peer any more")]
    NoPeer,
    /// The peer was paired over a kind of transport that does not exist here.
    #[error("it is on no network of ours")]
    NoNetwork,
    /// No more inbound connections are admitted.
    #[error("too many peers are connected")]
    TooManyConnections,
    /// The peer is over its quota here.
    #[error("{0}")]
    OverQuota(OverQuota),
    /// What the peer sent could not be stored.
    #[error("cannot store what it sent: {0}")]
    Store(Error),
    /// Our own log could not be read or written.
    #[error("{0}")]
    Log(Error),
    /// A task of this daemon failed.
    #[error("{0}")]
    Internal(Error),
}

impl PeerError {
    /// Returns `Useful` if another attempt is worth while once the peer calls us, because the call proves that the peer
    /// is up. After any other error, the peer would answer the same again, or the cause lies here.
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unreachable(_)
            | Self::Unproven(_)
            | Self::Timeout(_)
            | Self::Lost(_)
            | Self::Closed
            | Self::LoanEnded
            | Self::Internal(_)
            | Self::Removed => Retry::Useful,
            Self::TooLong
            | Self::Reply(_)
            | Self::Violation(_)
            | Self::Waste(_)
            | Self::NoPeer
            | Self::NoNetwork
            | Self::TooManyConnections
            | Self::OverQuota(_)
            | Self::Store(_)
            | Self::Log(_) => Retry::Useless,
        }
    }

    /// Returns `true` if the peer itself has answered, so that it can be reached.
    pub const fn is_answer(&self) -> bool {
        match self {
            Self::TooLong | Self::Reply(_) | Self::Violation(_) | Self::Waste(_) | Self::Removed => true,
            Self::Unreachable(_)
            | Self::Unproven(_)
            | Self::Timeout(_)
            | Self::Lost(_)
            | Self::Closed
            | Self::LoanEnded
            | Self::NoPeer
            | Self::NoNetwork
            | Self::TooManyConnections
            | Self::OverQuota(_)
            | Self::Store(_)
            | Self::Log(_)
            | Self::Internal(_) => false,
        }
    }
}

impl From<NoLine> for PeerError {
    fn from(end: NoLine) -> Self {
        match end {
            NoLine::TooLong(_) => Self::TooLong,
            NoLine::Closed | NoLine::Cut | NoLine::Idle(_) | NoLine::Slow(_) | NoLine::Unsolicited | NoLine::Io(_) => {
                Self::Lost(end)
            }
        }
    }
}

/// A failure to prove that the daemon at a peer's address is the peer.
#[derive(Debug, thiserror::Error)]
#[error(
    "the daemon at {address} does not prove to be {peer}: {cause}; nothing was sent{}",
    hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
)]
pub struct Unproven {
    /// The peer's address, printable.
    pub address: String,
    /// The name of the peer that was expected.
    pub peer: String,
    /// The error that ended the proof.
    pub cause: Box<PeerError>,
    /// Another possible cause and its remedy.
    pub hint: Option<&'static str>,
}

/// A step that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Timeout {
    /// No connection was opened.
    #[error("no connection within {}", go_duration(*.0))]
    Connect(Duration),
    /// No complete reply arrived.
    #[error("no answer within {}", go_duration(*.0))]
    Reply(Duration),
    /// A reconciliation did not reach its end.
    #[error("there was no time to look at all of it")]
    Reconciliation,
}

/// Why a reply is refused: it comes from another daemon than expected, belongs to another method, or would lose events,
/// repeat forever or cost too much.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Another daemon answers, with this id.
    #[error("another daemon answers there: {}", printable(.0))]
    OtherDaemon(String),
    /// The daemon introduces itself with this id instead of the expected one.
    #[error("it says that it is {}", printable(.0))]
    OtherIdentity(String),
    /// The handshake that encrypts the connection is malformed, or was not made with the key of the expected daemon.
    #[error("it does not have that daemon's key")]
    Handshake,
    /// The signature over our challenge is wrong.
    #[error("its signature is wrong")]
    Signature,
    /// The reply belongs to another method.
    #[error("a reply to another method")]
    OtherMethod,
    /// The peer's log ends before our checkpoint in it.
    #[error("checkpoint regression: its log ends at {latest} but we have read it up to {read}")]
    LogShrank {
        /// The last sequence of the peer's log.
        latest: u64,
        /// Our checkpoint.
        read: u64,
    },
    /// The reply to a pull does not name the log.
    #[error("a pull without log_id from a peer that has one")]
    NoLogId,
    /// The reply to a pull contains references, and none were requested.
    #[error("it sent ids in place of the events that it was asked for")]
    Reference,
    /// The reply to a pull is empty, but announces more.
    #[error("it says that there is more and sends nothing")]
    EmptyBatch,
    /// The reply to a pull contains more events than requested.
    #[error("it sent {}, and was asked for {max} at most", count(*sent as u64, "event"))]
    LargeBatch {
        /// Number of events in the reply.
        sent: usize,
        /// Number of events requested.
        max: usize,
    },
    /// The reply to a fetch contains more events than any request may ask for.
    #[error("it sent {0} events at once")]
    LargeFetch(usize),
    /// The sequences do not increase.
    #[error("it sent sequence {sequence} after {previous}")]
    Sequence {
        /// The sequence of an event.
        sequence: i64,
        /// The sequence of the event before it.
        previous: u64,
    },
    /// The next checkpoint is below the current one.
    #[error("checkpoint regression: peer sent next_seq={next} but current is {current}")]
    Regression {
        /// The next checkpoint, as sent.
        next: i64,
        /// The current checkpoint.
        current: u64,
    },
    /// The next checkpoint is the current one, although there were events.
    #[error("it sent events up to {highest} and says to go on after {current} again")]
    StandsStill {
        /// The highest sequence served.
        highest: u64,
        /// The current checkpoint.
        current: u64,
    },
    /// A legacy peer's next checkpoint lies before the events that it served.
    #[error("it says to go on before the first event it sent")]
    BeforeFirst,
    /// A reply exceeds the maximum line length, in bytes.
    #[error("an answer of more than {0} bytes")]
    LongLine(usize),
    /// A reply with a single event of a legacy peer is too long even to be skipped, or does not show which event it
    /// contains.
    #[error("one event in an answer of more than {0} bytes, or one that does not say which event it is")]
    LongEvent(usize),
    /// A comparison by id descends further than any log requires.
    #[error("it cuts its events into ever smaller parts")]
    TooDeep,
    /// A reconciliation takes more than this number of requests.
    #[error("there is more to compare than {0} questions find out at once")]
    TooManyCalls(u32),
}

/// Behaviour for which a peer is throttled, or not asked further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Waste {
    /// Too many purges.
    #[error("it sends one purge after the other")]
    Purges,
    /// Too many purges; the peer is read once per this interval.
    #[error("it sends one purge after the other: it is read every {}", go_duration(*.0))]
    ThrottledPurges(Duration),
    /// More rejected or colliding events than new ones.
    #[error("most of what it sends must be rejected")]
    Rejected,
    /// Too many events that are already here.
    #[error("it sends again and again what is here already")]
    Repeated,
    /// Batches that are much smaller than requested.
    #[error("it sends much smaller batches than it could")]
    SmallBatches,
    /// Announcements without new events.
    #[error("it announces again and again what it does not have")]
    EmptyAnnouncements,
}

/// Formats an error and its hint as the one line that fits into a status.
fn in_one_line(error: &Error) -> String {
    match &error.hint {
        Some(hint) => format!("{} ({})", error.message, hint.trim_end_matches('.')),
        None => error.message.clone(),
    }
}
