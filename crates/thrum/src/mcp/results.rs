//! The results of tools: the same facts as structured content and as text, because some clients show only one of them.
//!
//! Each of the two is limited to [`ROOM`] bytes, measured as JSON, the form in which both are sent: clients cut long
//! results in the middle, or do not show them at all. Mail that does not fit stays unread for the next call.

use serde_json::{Value, json};
use thrum_core::{Error, json as measured};

use super::turn::Turn;
use crate::{context::Context, text::clipped};

/// Maximum size of the structured content of a result, and of its text, in bytes each: together 32 KiB.
pub(super) const ROOM: usize = 16 * 1024;

/// The share of [`ROOM`] for messages; the rest is for the other fields.
pub(super) const OF_MESSAGES: usize = ROOM - 1024;

/// Maximum size of one text in structured content, such as a path or an intent, in bytes. Messages have their own
/// limit.
const OF_TEXT: usize = 1024;

/// Maximum size of an error in bytes.
const OF_ERROR: usize = 4 * 1024;

/// The share of [`OF_ERROR`] for the hint.
const OF_HINT: usize = 1024;

/// The last line of the text of a result that does not contain everything.
const MORE: &str = "There is more than an answer has room for; the commands in a shell show all.\n";

/// The result of a call.
#[derive(Debug)]
pub(super) struct CallResult {
    pub(super) structured: Value,
    pub(super) text: String,
    /// The mail in the result, which is marked as read once the client has it.
    pub(super) read: Option<Reading>,
}

impl CallResult {
    pub(super) fn new(structured: Value, text: String) -> Self {
        Self { structured, text, read: None }
    }

    /// Cuts what does not fit, and adds a note about it. Messages are never cut here: one that is not shown must stay
    /// unread, so the page decides which ones fit.
    pub(super) fn bounded(mut self) -> Self {
        let mut has_more = self.structured["more"] == true;
        for (name, value) in self.structured.as_object_mut().into_iter().flatten() {
            if !matches!(name.as_str(), "message" | "messages") {
                shorten_texts(value);
            }
        }
        has_more |= shorten_lists(&mut self.structured);
        if has_more || measured::text_size(&self.text) > ROOM {
            let kept = measured::prefix(&self.text, ROOM - measured::text_size(MORE));
            if kept.len() < self.text.len() {
                has_more = true;
                self.text.truncate(kept.rfind('\n').map_or(0, |end| end + 1));
            }
            self.text.push_str(MORE);
        }
        if has_more {
            self.structured["more"] = true.into();
        }
        self
    }
}

/// Cuts each text in this value to [`OF_TEXT`].
fn shorten_texts(value: &mut Value) {
    match value {
        Value::String(text) if measured::text_size(text) > OF_TEXT => *text = clipped(text, OF_TEXT),
        Value::Array(values) => values.iter_mut().for_each(shorten_texts),
        Value::Object(fields) => fields.values_mut().for_each(shorten_texts),
        _ => {}
    }
}

/// Removes entries from the ends of the longest lists until everything fits. Returns `true` if any entry was removed.
fn shorten_lists(structured: &mut Value) -> bool {
    let mut size = measured::size(structured) + r#","more":true"#.len();
    let mut lists: Vec<(&mut Vec<Value>, usize)> = Vec::new();
    for (_, value) in structured.as_object_mut().into_iter().flatten().filter(|(name, _)| *name != "messages") {
        let bytes = measured::size(value);
        lists.extend(value.as_array_mut().map(|list| (list, bytes)));
    }
    let mut is_cut = false;
    while size > ROOM {
        let longest = lists.iter_mut().max_by_key(|(_, bytes)| *bytes);
        let Some((bytes, entry)) = longest.and_then(|(list, bytes)| Some((bytes, list.pop()?))) else { break };
        // The comma before the entry is not subtracted, so `size` is never below the actual size.
        let freed = measured::size(&entry);
        size -= freed;
        *bytes -= freed;
        is_cut = true;
    }
    is_cut
}

/// The text of an error, with its hint.
pub(super) fn error_text(error: &Error) -> String {
    match error.hint.as_deref() {
        Some(hint) => format!("{}\n{}", clipped(&error.message, OF_ERROR - OF_HINT - 2), clipped(hint, OF_HINT)),
        None => clipped_error(&error.message),
    }
}

/// The text of a protocol error.
pub(super) fn clipped_error(message: &str) -> String {
    clipped(message, OF_ERROR)
}

/// The mail that a result shows.
pub(super) struct Reading {
    context: Context,
    agent: String,
    message_ids: Vec<String>,
    /// Held until the mail is marked, so that no other call returns it as well.
    _turn: Option<Turn>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading")
            .field("agent", &self.agent)
            .field("message_ids", &self.message_ids)
            .finish_non_exhaustive()
    }
}

impl Reading {
    /// The given messages, read by `agent` in this turn; `None` if there are none.
    pub(super) fn of(agent: &str, message_ids: Vec<String>, turn: Option<Turn>, cx: &Context) -> Option<Self> {
        let context = Context::of_call(cx.global().clone(), Default::default());
        (!message_ids.is_empty()).then(|| Self { context, agent: agent.to_owned(), message_ids, _turn: turn })
    }

    /// Marks the messages as read.
    ///
    /// # Errors
    /// Returns the daemon's error; the messages stay unread then.
    pub(super) fn mark(&self) -> Result<(), Error> {
        let params = json!({"message_ids": self.message_ids, "caller_agent_id": self.agent});
        self.context.repeat::<Value>("message.markRead", &params).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that both forms of an outcome fit, and report that there is more.
    #[track_caller]
    fn check_cut(structured: Value, text: &str) -> CallResult {
        let outcome = CallResult::new(structured, text.to_owned()).bounded();
        let sizes = (measured::size(&outcome.structured), measured::text_size(&outcome.text));
        assert!(sizes.0 <= ROOM && sizes.1 <= ROOM, "{sizes:?}");
        assert_eq!((&outcome.structured["more"], outcome.text.ends_with(MORE)), (&true.into(), true));
        outcome
    }

    #[test]
    fn lists_are_shortened_the_longest_first_until_they_have_room() {
        for list in ["agents", "claims", "collisions", "peers", "recipients", "newest_unread", "warnings"] {
            let entries: Vec<Value> =
                (0..70).map(|number| json!({"number": number, "path": "\u{1}".repeat(3900)})).collect();
            let text = "a line of an entry\n".repeat(2000);
            let outcome = check_cut(json!({list: entries, "count": 70, "short": [1, 2]}), &text);
            let left = outcome.structured[list].as_array().unwrap();
            assert!(left.len() > 10 && left[0]["number"] == 0, "{list}: {} entries", left.len());
            assert!(left[0]["path"].as_str().unwrap().ends_with('…'));
            assert_eq!((&outcome.structured["count"], &outcome.structured["short"]), (&70.into(), &json!([1, 2])));
        }
        check_cut(json!({"agents": [], "more": true}), "");
        check_cut(json!({"agents": vec!["x".repeat(900); 40]}), &"\u{1}".repeat(ROOM));
    }

    #[test]
    fn results_that_fit_are_unchanged_and_messages_are_never_cut() {
        let small = json!({"agents": ["x".repeat(1000)], "path": "y".repeat(1000)});
        let outcome = CallResult::new(small.clone(), "one\n".to_owned()).bounded();
        assert_eq!((outcome.structured, outcome.text.as_str()), (small, "one\n"));
        let mail =
            json!({"messages": [{"content": "x".repeat(OF_MESSAGES)}], "message": {"content": "x".repeat(2000)}});
        assert_eq!(CallResult::new(mail.clone(), String::new()).bounded().structured["messages"], mail["messages"]);
        assert_eq!(CallResult::new(mail.clone(), String::new()).bounded().structured["message"], mail["message"]);
    }

    #[test]
    fn an_error_has_at_most_4_kib_and_keeps_its_hint() {
        let error = Error::new(thrum_core::ErrorKind::Invalid, "\u{1b}".repeat(500_000)).hint("Do this.");
        let text = error_text(&error);
        assert!(measured::text_size(&text) <= OF_ERROR && text.ends_with("…\nDo this."), "{text}");
        assert!(measured::text_size(&error_text(&error.hint("x".repeat(500_000)))) <= OF_ERROR);
    }
}
