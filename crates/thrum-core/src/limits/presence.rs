//! Bounds on the presence of agents, on exchanges between two agents, and on turns that mail starts.

use std::time::Duration;

/// Silence (no call, no waiting) after which an agent of this daemon no longer counts as active, even if its session
/// was not ended. Builds, tests and long reasoning of an active agent take less time.
pub const AGENT_SILENT: Duration = Duration::from_secs(60 * 60);

/// Silence after which an agent of another daemon no longer counts as active. Longer than [`AGENT_SILENT`], because
/// this daemon sees only the events that such an agent writes, not its waiting and reading.
pub const REMOTE_AGENT_SILENT: Duration = Duration::from_secs(24 * 60 * 60);

/// How far the stored time of an agent's last sign of life may lag behind the one in memory, which a crash of the
/// daemon loses.
pub const PRESENCE_KEPT: Duration = Duration::from_secs(60);

/// How long a change of an agent's presence must last before it is published to other daemons. A turn that ends and a
/// waiter that starts right after it count as one change.
pub const PRESENCE_SETTLES: Duration = Duration::from_millis(250);

/// Least time between two presence events about one agent: a few hundred events of 400 bytes in a working day.
pub const PRESENCE_EVERY: Duration = Duration::from_secs(5);

/// How long a daemon waits after its start for waiters to reconnect, before it publishes that their agents cannot be
/// woken any more. A waiter retries every 5 seconds.
pub const PRESENCE_RETURNS: Duration = Duration::from_secs(15);

/// How often the daemon looks for program sessions that are silent.
pub const PRESENCE_LOOK: Duration = Duration::from_secs(60);

/// Most program sessions kept for one agent; beyond this the one heard from longest ago is dropped. A handful is
/// typical. Also the most recipients for which it is recorded that one agent's mail to them is held.
pub const MAX_PROGRAM_SESSIONS: usize = 64;

/// Most agents in each table in memory: signs of life, program sessions, held mail, and worktrees to be read. A full
/// table drops entries that can be restored or are idle, or records no further agents.
pub const MAX_PRESENT: usize = 4096;

/// Default number of days without a sign of life after which an agent is proposed for clean-up. Go Thrum's command uses
/// the same number.
pub const ABANDONED_DAYS: u32 = 30;

/// Most sessions in one answer. An agent starts one per day or per hour, and people do not read further back.
pub const MAX_LISTED_SESSIONS: usize = 1_000;

/// Default for the number of messages that two agents may exchange without a user's prompt or a changed file. A review
/// with several rounds takes ten.
pub const EXCHANGE: u64 = 30;

/// Most messages examined, newest first, of all agents with one name, to count those addressed to one other agent.
pub const EXCHANGE_ROWS: usize = 1000;

/// Most recipients of a message that counts as part of an exchange between two agents ([`EXCHANGE`]). A message to more
/// agents is not part of a loop between two.
pub const EXCHANGE_AGENTS: usize = 8;

/// Most turns that mail may start in an idle session within [`WAKES_WITHIN`], for programs where such a turn costs as
/// much as a prompt. Two agents that answer each other at once would cause hundreds; a user who sees ten looks into
/// them.
pub const MAX_WAKES: usize = 10;

/// Period in which [`MAX_WAKES`] applies.
pub const WAKES_WITHIN: Duration = Duration::from_secs(3600);
