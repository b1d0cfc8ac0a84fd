//! Identifies the caller of a command or tool: the session of an agent program, and whether a sub-agent of that session
//! makes the call.
//!
//! A command inherits these facts as environment variables; a call of an MCP tool may carry them (Codex). In Codex
//! 0.171.0, the shell of a sub-agent has its own `CODEX_THREAD_ID` beside the `CODEX_SESSION_ID` of the session that it
//! works for, and its tool calls have both ids and a `subagent_kind`. Claude Code 2.1.332 gives a sub-agent's shell the
//! same variables as the session's own shell and sends no ids to MCP servers, so its sub-agents cannot be told apart
//! from the session.

use std::env;

use serde_json::{Map, Value};
use thrum_daemon::paths::Repo;

use super::record::Records;

/// The variables in which programs other than Codex pass a session's id to the commands that the session runs. Codex
/// has two variables, which are read separately; opencode's is set by our plugin.
const SESSIONS: [&str; 4] =
    ["CLAUDE_CODE_SESSION_ID", "COPILOT_AGENT_SESSION_ID", "QWEN_CODE_SESSION_ID", "OPENCODE_SESSION_ID"];

/// The caller, as identified by its program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The program's ids of the sessions that the call belongs to: several if one program was started from a shell of
    /// another.
    sessions: Vec<String>,
    /// `true` if a sub-agent calls. It has no mail of its own, and must not consume the session's.
    pub(crate) is_sub_agent: bool,
}

impl Caller {
    /// The caller of this process.
    pub(crate) fn of_process() -> Self {
        Self::of_variables(|name| env::var(name).ok())
    }

    fn of_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).filter(|id| !id.is_empty());
        let (session, thread) = (variable("CODEX_SESSION_ID"), variable("CODEX_THREAD_ID"));
        let is_sub_agent = session.is_some() && thread.is_some() && session != thread;
        let sessions = SESSIONS.into_iter().filter_map(variable).chain(session.or(thread)).collect();
        Self { sessions, is_sub_agent }
    }

    /// The caller of a request with this `_meta`; `None` if `_meta` does not identify it.
    pub(crate) fn of_request(meta: &Map<String, Value>) -> Option<Self> {
        let turn = &meta.get("x-codex-turn-metadata").cloned().unwrap_or_default();
        let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|id| !id.is_empty()).map(str::to_owned);
        let thread = text(meta.get("threadId")).or_else(|| text(turn.get("thread_id")))?;
        let session = text(meta.get("sessionId"))
            .or_else(|| text(turn.get("session_id")))
            .or_else(|| text(turn.get("parent_thread_id")));
        let is_sub_agent =
            turn["subagent_kind"].is_string() || session.as_ref().is_some_and(|session| *session != thread);
        Some(Self { sessions: vec![session.unwrap_or(thread)], is_sub_agent })
    }

    /// Returns the agent that is recorded for the session, by its hooks or by a registration; `None` if none is, or if
    /// the call belongs to sessions of different agents. A program may give all its sessions the environment of the
    /// first session, so the recorded agent takes precedence over `THRUM_NAME`.
    pub(crate) fn agent(&self, repo: &Repo) -> Option<String> {
        let records = Records::of(repo);
        let mut agents = self.sessions.iter().map(|id| records.read(id).agent).filter(|agent| !agent.is_empty());
        let first = agents.next()?;
        agents.all(|agent| agent == first).then_some(first)
    }

    /// Records that the session is this agent from now on. Does nothing if there are several sessions, because it is
    /// unclear which one is meant, or for a sub-agent, whose identity is not the session's.
    pub(crate) fn is_now(&self, agent: &str, repo: &Repo) {
        let ([id], false) = (self.sessions.as_slice(), self.is_sub_agent) else { return };
        let records = Records::of(repo);
        let _turn = records.turn(id);
        let mut record = records.read(id);
        if record.agent != agent {
            record.becomes(agent);
            records.write(id, &record);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sub_agents_shell_belongs_to_the_session_that_it_works_for() {
        let of = |variables: &[(&str, &str)]| {
            Caller::of_variables(|name| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        let caller = |sessions: &[&str], is_sub_agent| Caller {
            sessions: sessions.iter().map(|id| (*id).to_owned()).collect(),
            is_sub_agent,
        };
        assert_eq!(of(&[("CODEX_SESSION_ID", "s"), ("CODEX_THREAD_ID", "s")]), caller(&["s"], false));
        assert_eq!(of(&[("CODEX_SESSION_ID", "s"), ("CODEX_THREAD_ID", "t")]), caller(&["s"], true));
        assert_eq!(
            of(&[("CODEX_SESSION_ID", ""), ("CODEX_THREAD_ID", "t")]),
            caller(&["t"], false),
            "an older version"
        );
        assert_eq!(of(&[("CLAUDE_CODE_SESSION_ID", "c"), ("CODEX_THREAD_ID", "t")]), caller(&["c", "t"], false));
        assert_eq!(of(&[]), Caller::default());
    }

    /// As sent by Codex 0.171.0, without irrelevant keys.
    #[test]
    fn a_request_carries_its_session_and_whether_a_sub_agent_makes_it() {
        let of = |meta: Value| Caller::of_request(meta.as_object().unwrap());
        let main =
            json!({"threadId": "s", "sessionId": "s", "x-codex-turn-metadata": {"session_id": "s", "thread_id": "s"}});
        assert_eq!(of(main), Some(Caller { sessions: vec!["s".into()], is_sub_agent: false }));
        let turn =
            json!({"session_id": "s", "thread_id": "t", "parent_thread_id": "s", "subagent_kind": "thread_spawn"});
        let sub_agent = Some(Caller { sessions: vec!["s".into()], is_sub_agent: true });
        assert_eq!(of(json!({"threadId": "t", "sessionId": "s", "x-codex-turn-metadata": turn})), sub_agent);
        assert_eq!(
            of(json!({"threadId": "t", "x-codex-turn-metadata": {"parent_thread_id": "s", "subagent_kind": "review"}})),
            sub_agent
        );
        assert_eq!(of(json!({"threadId": "t"})), Some(Caller { sessions: vec!["t".into()], is_sub_agent: false }));
        for silent in
            [json!({}), json!({"progressToken": 1}), json!({"threadId": 7}), json!({"x-codex-turn-metadata": "text"})]
        {
            assert_eq!(of(silent.clone()), None, "{silent}");
        }
    }
}
