//! The programs that run hooks: how to recognize each, and the form of its answers.
//!
//! The facts are those of `docs/agents.md`, seen with the real programs, except for Cursor and Antigravity. A program
//! may also run the hooks in another program's settings file, as Copilot CLI runs Claude Code's. The program is served
//! by its own hook, so the hook for the other program must be silent: the program would drop its answer, and the mail
//! in that answer would count as shown.

use clap::ValueEnum;
use serde_json::{Value, json};

/// A program that runs agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Host {
    Claude,
    Codex,
    Copilot,
    Qwen,
    Gemini,
    Cursor,
    Droid,
    Kimi,
    #[value(alias = "agy")]
    Antigravity,
    Opencode,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Event {
    /// A session starts, continues, or was compacted
    Start,
    /// A prompt is about to be sent to the model
    Prompt,
    /// The model has ended its turn
    Stop,
    /// The program waits for its user to answer or to grant a permission
    Notify,
    /// The session ends
    End,
    /// The context is about to be compacted
    Compact,
    /// Wait for mail beside an idle session
    Wait,
}

impl Event {
    /// The event's name as an argument of `thrum hook`.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The output of a hook, and its exit code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: u8,
}

/// The exit code that starts a turn in Claude Code with the text on standard error.
pub(super) const WAKES: u8 = 2;

impl Host {
    /// The program's name as used by `--host`.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The name of an event as most programs write it in their payloads; Gemini CLI has its own names for three.
    pub(crate) fn event_name(self, event: Event) -> &'static str {
        let (prompt, stop, compact) = match self {
            Self::Gemini => ("BeforeAgent", "AfterAgent", "PreCompress"),
            Self::Claude
            | Self::Codex
            | Self::Copilot
            | Self::Qwen
            | Self::Cursor
            | Self::Droid
            | Self::Kimi
            | Self::Antigravity
            | Self::Opencode => ("UserPromptSubmit", "Stop", "PreCompact"),
        };
        match event {
            Event::Start => "SessionStart",
            Event::Prompt => prompt,
            Event::Stop => stop,
            Event::Wait => "Stop",
            Event::Notify => "Notification",
            Event::End => "SessionEnd",
            Event::Compact => compact,
        }
    }

    /// Returns the program that sent this payload, if the payload identifies it.
    fn by_payload(payload: &Value) -> Option<Self> {
        let has = |key: &str| payload.get(key).is_some();
        match () {
            () if has("conversationId") => Some(Self::Antigravity),
            () if payload["client_type"] == "kimi_code_cli" => Some(Self::Kimi),
            () if has("cursor_version") => Some(Self::Cursor),
            () if has("sessionId") => Some(Self::Copilot),
            () if has("turn_id") => Some(Self::Codex),
            () if has("submitted_prompt") => Some(Self::Qwen),
            () => None,
        }
    }

    /// Returns the program that runs a hook without `--host`; `None` if nothing identifies it. `variable` tests for an
    /// environment variable.
    pub(crate) fn of(payload: &Value, variable: impl Fn(&str) -> bool) -> Option<Self> {
        let by_variable = [
            ("COPILOT_HOOK_DIR", Self::Copilot),
            ("QWEN_CODE_SESSION_ID", Self::Qwen),
            ("GEMINI_SESSION_ID", Self::Gemini),
            ("FACTORY_PROJECT_DIR", Self::Droid),
            ("CLAUDE_PID", Self::Claude),
        ];
        Self::by_payload(payload)
            .or_else(|| by_variable.into_iter().find_map(|(name, host)| variable(name).then_some(host)))
    }

    /// Returns the program that runs this hook if that is not `self`, whose settings contain the hook. An agent may
    /// start another program from its shell, so inherited variables prove nothing here. Copilot sets `COPILOT_HOOK_DIR`
    /// for its hooks only, and gives the hooks in Claude Code's settings a payload like Claude Code's.
    pub(crate) fn is_not(self, payload: &Value, variable: impl Fn(&str) -> bool) -> Option<Self> {
        let found = Self::by_payload(payload).or(variable("COPILOT_HOOK_DIR").then_some(Self::Copilot));
        found.filter(|found| *found != self)
    }

    /// The answer that tells the model nothing.
    pub(crate) fn silence(self) -> Answer {
        match self {
            // Antigravity accepts only JSON.
            Self::Antigravity => Answer::out(&json!({})),
            Self::Claude
            | Self::Codex
            | Self::Copilot
            | Self::Qwen
            | Self::Gemini
            | Self::Cursor
            | Self::Droid
            | Self::Kimi
            | Self::Opencode => Answer::default(),
        }
    }

    /// Returns `true` if the program passes the answer to this event on to the model.
    pub(crate) fn reads(self, event: Event) -> bool {
        let (start, prompt, compact) = match self {
            Self::Claude | Self::Codex | Self::Copilot | Self::Qwen | Self::Gemini | Self::Droid => (true, true, false),
            Self::Kimi | Self::Antigravity => (false, true, false),
            Self::Cursor => (true, false, false),
            Self::Opencode => (true, true, true),
        };
        match event {
            Event::Start => start,
            Event::Prompt => prompt,
            Event::Stop => true,
            Event::Compact => compact,
            Event::Notify | Event::End | Event::Wait => false,
        }
    }

    /// Returns `true` if the program must get the briefing again with the first prompt after a compaction. The other
    /// programs run the start hook afterwards, or get the briefing with every request.
    pub(super) fn needs_brief_after_compaction(self) -> bool {
        match self {
            Self::Copilot | Self::Gemini | Self::Kimi | Self::Antigravity => true,
            Self::Claude | Self::Codex | Self::Qwen | Self::Cursor | Self::Droid | Self::Opencode => false,
        }
    }

    /// Returns `true` if the program runs the stop hook again when a turn that the hook has continued ends.
    pub(super) fn reports_end_of_continued_turn(self) -> bool {
        match self {
            Self::Kimi => false,
            Self::Claude
            | Self::Codex
            | Self::Copilot
            | Self::Qwen
            | Self::Gemini
            | Self::Cursor
            | Self::Droid
            | Self::Antigravity
            | Self::Opencode => true,
        }
    }

    /// The answer that passes a text on to the model: as context at the start or with a prompt, or as the reason to
    /// continue at the end of a turn. `name` is the program's name for the event.
    pub(crate) fn tells(self, event: Event, name: &str, text: &str) -> Answer {
        let context = |name: &str| json!({"hookSpecificOutput": {"hookEventName": name, "additionalContext": text}});
        if event == Event::Stop {
            return match self {
                // Claude Code's soft form: the turn continues, and the text is not shown as an error.
                Self::Claude => Answer::out(&context(name)),
                Self::Codex | Self::Copilot | Self::Qwen | Self::Gemini => {
                    Answer::out(&json!({"decision": "block", "reason": text}))
                }
                Self::Droid | Self::Kimi => Answer { stderr: text.to_owned(), code: 2, ..Answer::default() },
                Self::Cursor => Answer::out(&json!({"followup_message": text})),
                Self::Antigravity => Answer::out(&json!({"decision": "continue", "reason": text})),
                Self::Opencode => Answer::out(&json!({"text": text})),
            };
        }
        match self {
            Self::Claude | Self::Codex | Self::Qwen | Self::Gemini => Answer::out(&context(name)),
            Self::Copilot => Answer::out(&json!({"additionalContext": text})),
            Self::Cursor => Answer::out(&json!({"additional_context": text})),
            Self::Droid | Self::Kimi => Answer { stdout: format!("{}\n", text.trim_end()), ..Answer::default() },
            Self::Antigravity => Answer::out(&json!({"injectSteps": [{"ephemeralMessage": text}]})),
            // The plugin that `setup` writes inserts the text.
            Self::Opencode => Answer::out(&json!({"text": text})),
        }
    }

    /// The answer of a waiter that starts a turn with a text in an idle session.
    pub(crate) fn wakes(self, text: String) -> Answer {
        match self {
            Self::Opencode => Answer::out(&json!({"text": text})),
            // The form of Claude Code. The waiter beside Codex queues the text instead of answering, and no waiter runs
            // beside the other programs.
            Self::Claude
            | Self::Codex
            | Self::Copilot
            | Self::Qwen
            | Self::Gemini
            | Self::Cursor
            | Self::Droid
            | Self::Kimi
            | Self::Antigravity => Answer { stderr: text, code: WAKES, ..Answer::default() },
        }
    }
}

impl Answer {
    fn out(value: &Value) -> Self {
        Self { stdout: format!("{value}\n"), ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payloads as sent by the programs, reduced to the keys that tell them apart.
    #[test]
    fn programs_are_distinguished_by_their_payloads() {
        let none = |_: &str| false;
        for (payload, host) in [
            (json!({"session_id": "s", "turn_id": "t", "hook_event_name": "UserPromptSubmit"}), Some(Host::Codex)),
            (json!({"sessionId": "s", "timestamp": 1, "source": "new"}), Some(Host::Copilot)),
            (json!({"session_id": "s", "prompt": "p", "submitted_prompt": "p"}), Some(Host::Qwen)),
            (json!({"conversation_id": "s", "cursor_version": "3.7"}), Some(Host::Cursor)),
            (json!({"conversationId": "s"}), Some(Host::Antigravity)),
            (json!({"session_id": "s", "client_type": "kimi_code_cli"}), Some(Host::Kimi)),
            (json!({"session_id": "s", "hook_event_name": "Stop"}), None),
        ] {
            assert_eq!(Host::of(&payload, none), host, "{payload}");
        }
        let plain = json!({"session_id": "s", "hook_event_name": "SessionStart"});
        assert_eq!(Host::of(&plain, |name| name == "CLAUDE_PID"), Some(Host::Claude));
        assert_eq!(Host::of(&plain, |name| name == "FACTORY_PROJECT_DIR"), Some(Host::Droid));
    }

    #[test]
    fn gemini_has_its_own_names_for_three_events() {
        let names = |host: Host| [Event::Prompt, Event::Stop, Event::Compact].map(|event| host.event_name(event));
        assert_eq!(names(Host::Gemini), ["BeforeAgent", "AfterAgent", "PreCompress"]);
        assert_eq!(names(Host::Claude), ["UserPromptSubmit", "Stop", "PreCompact"]);
    }

    #[test]
    fn a_program_that_another_one_has_started_is_still_itself() {
        let plain = json!({"session_id": "s", "hook_event_name": "SessionStart"});
        assert_eq!(Host::Codex.is_not(&plain, |name| name == "CLAUDE_PID"), None, "from a shell of Claude Code");
        assert_eq!(Host::Claude.is_not(&plain, |name| name == "COPILOT_PROJECT_DIR"), None, "from a shell of Copilot");
        assert_eq!(
            Host::Claude.is_not(&plain, |name| name == "COPILOT_HOOK_DIR"),
            Some(Host::Copilot),
            "it reads the other's settings"
        );
        let codex = json!({"session_id": "s", "turn_id": "t"});
        assert_eq!(
            (Host::Claude.is_not(&codex, |_| false), Host::Codex.is_not(&codex, |_| true)),
            (Some(Host::Codex), None)
        );
    }

    #[test]
    fn each_program_gets_its_own_form() {
        let told = |host: Host, event, name| host.tells(event, name, "t");
        let prompt = "{\"hookSpecificOutput\":{\"additionalContext\":\"t\",\"hookEventName\":\"UserPromptSubmit\"}}\n";
        for host in [Host::Claude, Host::Codex, Host::Qwen] {
            assert_eq!(told(host, Event::Prompt, "UserPromptSubmit").stdout, prompt, "{host:?}");
        }
        // Codex reports a Stop hook that returns context as failed.
        assert_eq!(told(Host::Codex, Event::Stop, "Stop").stdout, "{\"decision\":\"block\",\"reason\":\"t\"}\n");
        assert!(told(Host::Claude, Event::Stop, "Stop").stdout.contains("additionalContext"));
        assert_eq!(told(Host::Copilot, Event::Start, "sessionStart").stdout, "{\"additionalContext\":\"t\"}\n");
        assert_eq!(told(Host::Droid, Event::Stop, "Stop"), Answer { stderr: "t".into(), code: 2, ..Answer::default() });
        // In Gemini every exit code but 0 and 1 blocks the prompt; only Droid and Kimi get another code, which makes
        // them continue.
        for host in
            [Host::Claude, Host::Codex, Host::Copilot, Host::Qwen, Host::Gemini, Host::Cursor, Host::Antigravity]
        {
            for event in [Event::Start, Event::Prompt, Event::Stop] {
                assert_eq!((told(host, event, "E").code, host.silence().code), (0, 0), "{host:?} {event:?}");
            }
        }
        assert_eq!(Host::Antigravity.silence().stdout, "{}\n");
    }
}
