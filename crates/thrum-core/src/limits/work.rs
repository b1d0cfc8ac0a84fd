//! Bounds on what agents publish about their work: contexts, claims of files, collisions and git state.

use std::time::Duration;

/// Most files in one list of a work context. Every daemon stores every context, and the team view reads one for each
/// agent. An agent that touches more files is rewriting everything, which the first ones already show.
pub const MAX_CONTEXT_FILES: usize = 300;

/// Most unmerged commits in a work context, for the same reason as [`MAX_CONTEXT_FILES`].
pub const MAX_CONTEXT_COMMITS: usize = 50;

/// Largest work context as JSON, in bytes. At the usual path length of 60 bytes, the lists of files and 50 commits of
/// few files take about half of it. Commits with many files exceed it, and their lists are shortened. The team view
/// reads one context per agent.
pub const MAX_CONTEXT_BYTES: usize = 256 << 10;

/// Most work contexts in one update: one per open session of the agent. Our own updates carry one.
pub const MAX_CONTEXTS: usize = 16;

/// Deepest nesting inside a commit or file change of a work context: a commit is an object that contains a list. One
/// more level is spare.
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

/// Most claims examined for one answer, in the order of the expiry that their events state, latest first. Examining
/// this many takes a hundredth of a second.
pub const MAX_CLAIMS_LOOKED_AT: usize = 10_000;

/// Longest time between changes of one file by two agents that count as a collision, which is reported to both agents.
/// Shorter than a turn of an agent, which takes a few minutes. So changes of earlier turns, which the agent or its user
/// has seen, are rarely reported, and neither are changes within one turn that lie further apart.
pub const COLLISION: Duration = Duration::from_secs(60);

/// How far a file's modification time may lag behind the clock at the moment of the write. Linux takes it from a clock
/// that advances in steps of 1 to 10 ms.
pub const FILE_TIME_STEP: Duration = Duration::from_millis(10);

/// Least time between two collision notices about the same file for the same pair of agents.
pub const COLLISION_AGAIN: Duration = Duration::from_secs(60 * 60);

/// Most collisions recorded or reported at once. Two agents with that many collisions are rewriting the same tree, and
/// further reports would tell them nothing new.
pub const MAX_COLLISIONS: usize = 200;

/// Least time between two reads of one worktree's git state. Reading a large worktree takes a tenth of a second.
pub const GIT_PAUSE: Duration = Duration::from_secs(2);

/// After a read of its git state, a worktree is not read again for this many times the duration of the read.
pub const GIT_SHARE: u32 = 10;

/// Largest notes of an agent, and largest preamble, in bytes. They are read as a whole into a context window: about
/// 64,000 tokens.
pub const MAX_NOTES_BYTES: usize = 256 << 10;
