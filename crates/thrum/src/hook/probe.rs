//! Probes a hook as written in a program's settings, without a session and without changing anything.
//!
//! `thrum doctor agents` runs the commands in the settings as the program would, with [`VARIABLE`] set and a payload in
//! the form that the program was seen to send. A probed hook reads what it would normally read and answers in its
//! program's form, but records nothing: no session begins, and no mail counts as shown. If the text cannot be
//! determined, the hook writes the reason to standard error.

use serde_json::{Value, json};
use thrum_core::Error;

use super::{
    Hook, MESSAGES, OF_MESSAGE, ROOM,
    host::{Answer, Event, Host, WAKES},
};
use crate::{
    agent_text::{Brief, news},
    answers::Whoami,
    context::Context,
};

/// The variable that marks a hook as a probe.
pub(crate) const VARIABLE: &str = "THRUM_HOOK_PROBE";

/// The session id in the payloads.
const SESSION: &str = "thrum-doctor-probe";

/// A payload as the program sends it with an event, with the keys that were seen (Claude Code 2.1.332, Codex 0.171.0,
/// Copilot CLI 1.0.102, Qwen Code 0.24.4, Gemini CLI 0.61.0, Kimi Code 2.1.0, Droid 0.215.0; Cursor and Antigravity as
/// described by others).
pub(crate) fn payload(host: Host, event: Event, cwd: &str) -> Value {
    let more = match (host, event) {
        (Host::Copilot, Event::Start) => json!({"source": "new", "initialPrompt": "hello"}),
        (Host::Copilot, Event::Stop) => {
            json!({"transcriptPath": "", "stopReason": "end_turn", "stop_hook_active": false})
        }
        (Host::Copilot, Event::Compact) => json!({"trigger": "manual", "customInstructions": ""}),
        (Host::Kimi, Event::Prompt) => json!({"prompt": [{"type": "text", "text": "hello"}]}),
        (Host::Qwen, Event::Prompt) => json!({"prompt": "hello", "submitted_prompt": "hello"}),
        (_, Event::Start | Event::Wait) => json!({"source": "startup"}),
        (_, Event::Prompt) => json!({"prompt": "hello"}),
        (_, Event::Stop) => json!({"stop_hook_active": false, "last_assistant_message": "Done."}),
        (_, Event::Notify) => {
            json!({"message": "It needs your permission to use Bash", "notification_type": "permission_prompt"})
        }
        (_, Event::End) => json!({"reason": "other"}),
        (_, Event::Compact) => json!({"trigger": "manual"}),
    };
    let mut payload = match host {
        Host::Copilot => json!({"sessionId": SESSION, "timestamp": 0, "cwd": cwd}),
        Host::Antigravity => json!({"conversationId": SESSION, "workspacePaths": [cwd]}),
        Host::Cursor => {
            json!({"conversation_id": SESSION, "generation_id": "1", "cursor_version": "3.7", "workspace_roots": [cwd]})
        }
        Host::Claude | Host::Codex | Host::Qwen | Host::Gemini | Host::Droid | Host::Kimi | Host::Opencode => {
            json!({"session_id": SESSION, "transcript_path": "", "cwd": cwd, "hook_event_name": host.event_name(event)})
        }
    };
    match host {
        Host::Codex if matches!(event, Event::Start | Event::End) => {}
        Host::Codex => payload["turn_id"] = "1".into(),
        Host::Kimi => payload["client_type"] = "kimi_code_cli".into(),
        Host::Qwen | Host::Gemini => payload["timestamp"] = "2026-11-28T00:00:00Z".into(),
        Host::Claude | Host::Copilot | Host::Cursor | Host::Droid | Host::Antigravity | Host::Opencode => {}
    }
    if let (Some(payload), Value::Object(more)) = (payload.as_object_mut(), more) {
        payload.extend(more);
    }
    payload
}

/// Extracts from a hook's answer the text that the program passes on to its model; `None` for silence.
///
/// # Errors
/// Why the program does not accept the answer. The rules do not depend on those in [`Host::tells`], so that each checks
/// the other.
pub(crate) fn text_of(host: Host, event: Event, answer: &Answer) -> Result<Option<String>, String> {
    if event == Event::Wait && host != Host::Opencode {
        return match answer.code {
            0 => Ok(None),
            WAKES if !answer.stderr.is_empty() => Ok(Some(answer.stderr.clone())),
            code => Err(format!("it ended with {code}")),
        };
    }
    let by_code = event == Event::Stop && matches!(host, Host::Droid | Host::Kimi);
    match answer.code {
        0 => {}
        2 if by_code && !answer.stderr.is_empty() => return Ok(Some(answer.stderr.clone())),
        code => return Err(format!("it ended with {code}: {}", answer.stderr.trim())),
    }
    let out = answer.stdout.trim();
    if out.is_empty() {
        return if host == Host::Antigravity {
            Err("it printed nothing, and the program takes JSON only".to_owned())
        } else {
            Ok(None)
        };
    }
    if matches!(host, Host::Droid | Host::Kimi) {
        return if by_code {
            Err("it printed what the program does not read".to_owned())
        } else {
            Ok(Some(out.to_owned()))
        };
    }
    let value: Value = serde_json::from_str(out).map_err(|error| format!("its answer is no JSON: {error}"))?;
    let keys: Vec<&str> = value.as_object().ok_or("its answer is no object")?.keys().map(String::as_str).collect();
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let found = match (host, event, keys.as_slice()) {
        (_, _, []) => return Ok(None),
        (Host::Codex | Host::Copilot | Host::Qwen | Host::Gemini, Event::Stop, ["decision", "reason"])
            if value["decision"] == "block" =>
        {
            text(&value["reason"])
        }
        (Host::Antigravity, Event::Stop, ["decision", "reason"]) if value["decision"] == "continue" => {
            text(&value["reason"])
        }
        (Host::Opencode, _, ["text"]) => text(&value["text"]),
        (Host::Cursor, Event::Stop, ["followup_message"]) => text(&value["followup_message"]),
        (Host::Claude, _, ["hookSpecificOutput"])
        | (Host::Codex | Host::Qwen | Host::Gemini, Event::Start | Event::Prompt, ["hookSpecificOutput"]) => {
            let inner = &value["hookSpecificOutput"];
            if inner["hookEventName"] != host.event_name(event) {
                return Err(format!("its answer is for the event {}", inner["hookEventName"]));
            }
            text(&inner["additionalContext"])
        }
        (Host::Copilot, Event::Start | Event::Prompt, ["additionalContext"]) => text(&value["additionalContext"]),
        (Host::Cursor, Event::Start | Event::Prompt, ["additional_context"]) => text(&value["additional_context"]),
        (Host::Antigravity, Event::Start | Event::Prompt, ["injectSteps"]) => {
            text(&value["injectSteps"][0]["ephemeralMessage"])
        }
        _ => None,
    };
    found.map(Some).ok_or_else(|| format!("the program does not read an answer with {}", keys.join(", ")))
}

impl Hook {
    /// Returns the answer to a probe, with a text if the program passes one on to its model.
    pub(super) fn probed(&self, cx: &Context) -> Answer {
        let text = match self.probe_text(cx) {
            Ok(text) => text,
            Err(error) => return Answer { stderr: format!("{}\n", error.message), ..self.host.silence() },
        };
        match self.event {
            Event::Wait => self.host.wakes(text),
            event if self.host.reads(event) => self.host.tells(event, self.event_name(), &text),
            _ => self.host.silence(),
        }
    }

    /// Returns the briefing for the start of a session. For other events, returns the unread mail, or a line which says
    /// that there is none.
    fn probe_text(&self, cx: &Context) -> Result<String, Error> {
        let me = cx.identity()?.name;
        if self.event == Event::Start {
            return Ok(Brief::of(&me, cx)?.text);
        }
        cx.repeat::<Whoami>("agent.whoami", &json!({"caller_agent_id": me}))?;
        // Without a reader, no cursor moves.
        let ask = json!({
            "caller_agent_id": me, "unread": true, "keep": true, "page_size": MESSAGES, "max_content_bytes": OF_MESSAGE,
        });
        let (_, page) = news(ask, ROOM, cx)?;
        Ok(if page.ids.is_empty() { format!("No new mail for @{me}.\n") } else { page.text })
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    const EVENTS: [Event; 3] = [Event::Start, Event::Prompt, Event::Stop];

    #[test]
    fn every_answer_is_read_by_the_program_that_it_is_for() {
        for host in Host::value_variants().iter().copied() {
            for event in EVENTS {
                let told = host.tells(event, host.event_name(event), "words");
                if host.reads(event) {
                    assert_eq!(
                        text_of(host, event, &told).unwrap().as_deref().map(str::trim),
                        Some("words"),
                        "{host:?} {event:?}"
                    );
                }
                assert_eq!(text_of(host, event, &host.silence()), Ok(None), "{host:?} {event:?}");
            }
        }
    }

    #[test]
    fn an_answer_in_another_form_is_not_read() {
        let out = |text: &str| Answer { stdout: text.into(), ..Answer::default() };
        let context = r#"{"hookSpecificOutput":{"hookEventName":"Stop","additionalContext":"t"}}"#;
        assert_eq!(text_of(Host::Claude, Event::Stop, &out(context)), Ok(Some("t".into())));
        assert!(text_of(Host::Codex, Event::Stop, &out(context)).is_err(), "context from Stop makes its hook fail");
        assert!(text_of(Host::Claude, Event::Prompt, &out(context)).is_err(), "of another event it is dropped");
        assert!(text_of(Host::Copilot, Event::Prompt, &out(context)).is_err(), "it reads the top level only");
        assert!(text_of(Host::Codex, Event::Stop, &out(r#"{"decision":"block","reason":"t","more":1}"#)).is_err());
        assert!(text_of(Host::Gemini, Event::Prompt, &out("words")).is_err(), "JSON only");
        for host in [Host::Claude, Host::Gemini] {
            let failed = Answer { code: 127, stderr: "not found".into(), ..Answer::default() };
            assert!(text_of(host, Event::Prompt, &failed).unwrap_err().contains("127"));
        }
    }

    /// Without `--host`, a program is recognized by its payload, by a variable that it sets, or not at all.
    #[test]
    fn a_program_is_recognized_without_its_name() {
        for host in Host::value_variants().iter().copied() {
            let payload = payload(host, Event::Prompt, "/repo");
            let by_variable = |variable: &str| {
                assert_eq!(Host::of(&payload, |_| false), None, "{host:?} by its payload");
                Host::of(&payload, |name| name == variable)
            };
            let recognized = match host {
                Host::Antigravity | Host::Kimi | Host::Cursor | Host::Copilot | Host::Codex | Host::Qwen => {
                    Host::of(&payload, |_| false)
                }
                Host::Claude => by_variable("CLAUDE_PID"),
                Host::Gemini => by_variable("GEMINI_SESSION_ID"),
                Host::Droid => by_variable("FACTORY_PROJECT_DIR"),
                // Its plugin always gives `--host`.
                Host::Opencode => continue,
            };
            assert_eq!(recognized, Some(host));
        }
    }

    #[test]
    fn a_payload_is_taken_for_its_programs_own() {
        for host in Host::value_variants().iter().copied() {
            for event in EVENTS {
                let payload = payload(host, event, "/repo");
                assert_eq!(host.is_not(&payload, |_| false), None, "{host:?} {event:?}: {payload}");
            }
        }
    }
}
