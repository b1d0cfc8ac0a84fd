//! The bounds of the program, each with its reason. A bound that is reached causes a clear error or back-pressure.
//! Where entries are dropped instead, the comment of the constant says so. A bound that only one file uses may be in
//! that file.
//!
//! The constants are grouped by subject, and all of them are named `limits::NAME`. Relations that must hold between
//! constants are checked when the program is compiled, here or beside the constant.

use std::time::Duration;

mod legacy;
mod local;
mod log;
mod messages;
mod pairing;
mod peers;
mod presence;
mod replication;
mod tailnet;
mod work;

pub use legacy::*;
pub use local::*;
pub use log::*;
pub use messages::*;
pub use pairing::*;
pub use peers::*;
pub use presence::*;
pub use replication::*;
pub use tailnet::*;
pub use work::*;

/// Returns `true` if `one` is shorter than `other`.
const fn is_shorter(one: Duration, other: Duration) -> bool {
    one.as_nanos() < other.as_nanos()
}

/// Sizes of messages, events and lines.
const _: () = {
    assert!(MAX_PRINTED_BYTES <= MAX_CONTENT_BYTES);
    assert!(6 * MAX_CONTENT_BYTES < MAX_EVENT_BYTES, "escaping can make a body six times as long");
    assert!(MAX_LINE_BYTES == 2 * MAX_EVENT_BYTES, "a line holds the largest event and its envelope");
    assert!(MAX_ANSWER_BYTES < MAX_LINE_BYTES && MAX_PEER_REQUEST_BYTES < MAX_LINE_BYTES);
    assert!(MAX_BATCH_BYTES < MAX_LINE_BYTES / 2, "a batch of the usual size fits into a line although it is escaped");
    assert!(MAX_SKIPPED_LINE_BYTES > MAX_LINE_BYTES);
    assert!(MAX_CONTEXT_BYTES < MAX_EVENT_BYTES && MAX_REASON_BYTES < MAX_EVENT_BYTES);
    assert!(MAX_OUTLOOKS <= MAX_AUDIENCE && EXCHANGE_AGENTS <= MAX_AUDIENCE);
};

/// Work and presence of agents.
const _: () = {
    assert!(is_shorter(CLAIM, MAX_CLAIM));
    assert!(MAX_CLAIM_PATHS <= MAX_CLAIMS, "one claim never exceeds what an agent may hold");
    assert!(MAX_LISTED_CLAIMS <= MAX_CLAIMS_LOOKED_AT && MAX_CLAIMS <= MAX_CLAIMS_LOOKED_AT);
    assert!(is_shorter(FILE_TIME_STEP, COLLISION) && is_shorter(COLLISION, COLLISION_AGAIN));
    assert!(is_shorter(AGENT_SILENT, REMOTE_AGENT_SILENT), "less is known of agents of other daemons");
    assert!(is_shorter(PRESENCE_SETTLES, PRESENCE_EVERY));
    assert!(is_shorter(PRESENCE_KEPT, AGENT_SILENT), "a crash does not make an active agent absent");
};

/// The log and its database.
const _: () = {
    assert!(MAX_GROUP_COMMIT <= WRITER_QUEUE);
    assert!(MAX_REJECTED_OF_PEER <= MAX_REJECTED_ROWS);
    assert!(MAX_KEPT_OUT_RUNS <= MAX_KEPT_OUT_ROWS);
    assert!(is_shorter(CLOCK_AHEAD, CLOCK_OFF) && is_shorter(CLOCK_OFF, PURGE_AHEAD));
};

/// Deadlines of local calls.
const _: () = {
    assert!(is_shorter(TAILNET_UP, LOCAL_CALL) && is_shorter(FORCE, LOCAL_CALL), "the answer still arrives in time");
    assert!(is_shorter(LOCAL_CALL, LOCAL_IDLE));
    assert!(is_shorter(LOCAL_CALL, MAX_WAIT));
};

/// Replication.
const _: () = {
    assert!(
        !is_shorter(SYNC_INTERVAL, *SYNC_INTERVAL_RANGE.start())
            && !is_shorter(*SYNC_INTERVAL_RANGE.end(), SYNC_INTERVAL)
    );
    assert!(is_shorter(RECENT, SYNC_INTERVAL), "a periodic pull is not skipped because of the one before");
    assert!(PEER_IDLE.as_secs() == 20 * SYNC_INTERVAL.as_secs());
    assert!(REPAIR_LESS.pow(3) >= MAX_BATCH_EVENTS && MAX_REPAIR_LOSSES > 3, "three reductions lead to one event");
    assert!(is_shorter(BACKOFF_FIRST, BACKOFF_LAST));
    assert!(is_shorter(GOODBYE.saturating_mul(2), DRAIN), "batches may still be stored after it");
};

/// Peers and pairing.
const _: () = {
    assert!(MAX_SERVED_OF_PEER <= MAX_CONNECTIONS_OF_PEER && MAX_CONNECTIONS_OF_PEER < MAX_PEER_CONNECTIONS);
    assert!(MAX_UNAUTHENTICATED_CONNECTIONS < MAX_PEER_CONNECTIONS, "strangers leave room for peers");
    assert!(MAX_PEERS < MAX_PEER_CONNECTIONS, "every peer may keep a connection");
    assert!(MAX_PEERS as u64 <= MAX_PEER_ORIGINS, "a peer relays the events of its own peers");
    assert!(PAIRING_TRIES as usize <= PAIRING_NODE_HOUR, "one session does not lock a node out");
    assert!(PAIRING_NODE_HOUR <= PAIRING_TOTAL_HOUR && PAIRING_TOTAL_HOUR <= PAIRING_TOTAL_DAY);
    assert!(is_shorter(PATH, PEER_PING) && is_shorter(PROBE, PROBE_ALL));
    assert!(PROBES <= PROBED_NODES);
};

/// Legacy peers.
const _: () = {
    assert!(LEGACY_LONG_BYTES <= LEGACY_LINE_BYTES / 6, "the encoder makes six bytes of one at most");
    assert!(is_shorter(LEGACY_LOOK_GAP, SYNC_INTERVAL), "every sync interval includes a re-read");
    assert!(LEGACY_POSITIONS as u64 * LEGACY_POSITIONS_APART.as_secs() >= LEGACY_LOOK_BACK.as_secs());
    assert!(LEGACY_STUCK_ASKS < LEGACY_REFUSED_ASKS);
    assert!(MAX_NAME_BYTES <= LEGACY_AUTHOR_BYTES, "every agent of ours can be served");
};

/// The tailnet.
const _: () = {
    assert!(is_shorter(TAILNET_RETRY_FIRST, TAILNET_RETRY_LAST));
    assert!(is_shorter(TAILSCALED_LOOK, TAILSCALED_START));
    assert!((MAX_TAILSCALED_LINE_BYTES as u64) < TAILSCALED_LOG_BYTES);
    assert!(MAX_LOCALAPI_NOTICE_BYTES < MAX_LOCALAPI_BYTES);
};
