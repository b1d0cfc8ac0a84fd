//! Bounds on local clients, and on the files and the process of the daemon.

use std::time::Duration;

/// Most connections on the local socket: two hundred agents with one waiting and one working connection each.
pub const MAX_LOCAL_CONNECTIONS: usize = 512;

/// Number of files that a daemon may have open, if the system permits as many: its local clients, several connections
/// for each peer, and the readers of the database. A shell often permits 1,024 or, on macOS, 256, unless a program asks
/// for more.
pub const OPEN_FILES: u64 = 4096;

const _: () = assert!(OPEN_FILES > 4 * MAX_LOCAL_CONNECTIONS as u64);

/// Idle time after which a local connection is closed. Go Thrum's daemon uses the same value.
pub const LOCAL_IDLE: Duration = Duration::from_secs(5 * 60);

/// Longest time for a local request, except for long ones such as waits and imports. Afterwards the daemon answers "try
/// again". Go Thrum's daemon and command use the same value.
pub const LOCAL_CALL: Duration = Duration::from_secs(10);

/// Longest time for writing an answer to a local client, or each part of a long answer. A client that does not read is
/// disconnected.
pub const LOCAL_WRITE: Duration = Duration::from_secs(10);

/// Longest time that one `message.wait`, `message.news`, `work.wait` or `sync.verify` may take.
pub const MAX_WAIT: Duration = Duration::from_secs(10 * 60);

/// Least time between two database reads of one waiting `work.wait`, except before the last one. With a large team, one
/// read takes up to a thirtieth of this time.
pub const WAIT_LOOK: Duration = Duration::from_millis(100);

/// How long a command waits for a daemon that holds the lock but does not answer, because it is stopping or stuck. A
/// daemon that was just started gets more time.
pub const SILENT_DAEMON: Duration = Duration::from_secs(5);

/// A starting daemon that finds a socket file connects to it, to learn whether another program still listens there.
/// This limits one attempt and, for a socket in `.thrum/var`, the time for which the attempts are repeated while the
/// socket is still in use. Go Thrum's daemon waits as long.
pub const SOCKET_PROBE: Duration = Duration::from_millis(500);

/// How often a daemon checks that its state directory and its socket are still at their paths. A check of the directory
/// takes four `stat` calls. If the file of the socket is gone, the socket is opened again within this time.
pub const STATE_LOOK: Duration = Duration::from_secs(1);

/// How long a stopping daemon lets running requests finish.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Longest path of a Unix socket in bytes: macOS allows 104 with the final zero, Linux 108.
pub const MAX_SOCKET_PATH_BYTES: usize = 103;

/// Most bytes read of a `.env` file or of `config.json`. Real ones have a few hundred.
pub const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// Most bytes read of a small file, such as one that contains a path, a key or a process id.
pub const MAX_SMALL_FILE_BYTES: u64 = 64 << 10;

/// Largest state file read, such as `peers.json`, in bytes. Fifty peers take about 20 KB.
pub const MAX_STATE_FILE_BYTES: u64 = 4 << 20;

/// Largest size of a log file in bytes; it is rotated before it exceeds this.
pub const LOG_FILE_BYTES: u64 = 10 << 20;

/// Rotated log files kept beside the current one.
pub const LOG_FILES: usize = 3;
