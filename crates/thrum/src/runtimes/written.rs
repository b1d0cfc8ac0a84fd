//! Reads our entries as they are now in the files of a program, to report what the program will run.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use serde_json::Value;
use thrum_core::Error;

use super::{
    document::{self, Comment},
    installed,
    places::{counterpart, read, read_in, resolve, shown, variant},
    plan::{self, Plan, RefusedFile},
    runtime,
    table::Target,
};
use crate::hook::host::{Event, Host};

/// The setup state of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    No,
    /// Files in which something that `setup` writes is missing or outdated, or that cannot be edited.
    Partly(Vec<String>),
    Yes,
}

/// A hook that runs `thrum hook`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) event: Event,
    pub(crate) file: String,
    /// The command: a program with its arguments, or the shell with a command line.
    pub(crate) words: Vec<String>,
    /// The timeout after which the program ends the hook; `None` if the file sets none.
    pub(crate) limit: Option<Duration>,
}

/// A program and the entries that its files contain for Thrum.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) host: Host,
    /// The name shown to users.
    pub(crate) name: &'static str,
    /// The path of the installed executable; `None` if the program is not in `PATH`.
    pub(crate) program: Option<PathBuf>,
    pub(crate) state: State,
    /// The files that `setup` leaves alone, each with the reason.
    pub(crate) refused: Vec<RefusedFile>,
    pub(crate) hooks: Vec<Hook>,
    /// The file that lists the MCP server `thrum`, and the server's command with its arguments.
    pub(crate) server: Option<(String, Vec<String>)>,
    pub(crate) wakes: Option<&'static str>,
    pub(crate) asked: Option<&'static [&'static str]>,
    pub(crate) left: &'static [&'static str],
}

/// Reads the entries for a program in the worktree at `top`. Files that cannot be read count as empty.
///
/// # Errors
/// Those of [`plan::to_write`].
pub(crate) fn written(top: &Path, host: Host) -> Result<Written, Error> {
    let runtime = runtime(host);
    let (mut hooks, mut server, mut blocks, mut has_hooks) = (Vec::<Hook>::new(), None, 0, false);
    for Target { file, parts } in (runtime.targets)() {
        let file = variant(top, file);
        let dir = read_in(top, file);
        let text_of = |file| resolve(&dir, file).and_then(|path| read(&path)).ok().flatten().unwrap_or_default();
        let texts: Vec<(String, String)> = [Some(file), counterpart(file)]
            .into_iter()
            .flatten()
            .map(|file| (shown(top, &dir, file), text_of(file)))
            .collect();
        for (part, (shown, text)) in parts.iter().flat_map(|part| texts.iter().map(move |text| (part, text))) {
            let entries = document::found(text, part).unwrap_or_default();
            match part {
                // Lists of permissions and of plugins contain strings.
                document::Part::Element(_, Value::String(_)) => blocks += entries.len(),
                document::Part::Block(Comment::Slashes, _) => {
                    has_hooks = true;
                    hooks.extend(entries.iter().flat_map(|_| hooks_of_plugin(shown, host)));
                }
                document::Part::Element(..) | document::Part::Hooks(..) => {
                    has_hooks = true;
                    for hook in entries.iter().flat_map(|entry| hooks_in(entry, shown, host)) {
                        if !hooks.contains(&hook) {
                            hooks.push(hook);
                        }
                    }
                }
                document::Part::Member(..) | document::Part::Table(..) => {
                    server = server.or_else(|| entries.first().map(command_of).map(|words| (shown.clone(), words)));
                }
                _ => blocks += entries.len(),
            }
        }
    }
    // Several programs share the files of MCP servers and instructions, so only hooks show that this program is set up.
    let Plan { changes, refused, .. } = plan::to_write(top, &[host], true)?;
    // A refused file may contain the hooks, so the other parts count as well.
    let has_hooks = has_hooks && refused.is_empty();
    let is_there = !hooks.is_empty() || (!has_hooks && (server.is_some() || blocks > 0));
    let lacking: Vec<String> = changes
        .into_iter()
        .map(|change| change.file)
        .chain(refused.iter().map(|refused| refused.file.clone()))
        .collect();
    let state = match (is_there, lacking.is_empty()) {
        (false, _) => State::No,
        (true, true) => State::Yes,
        (true, false) => State::Partly(lacking),
    };
    Ok(Written {
        host,
        name: runtime.name,
        program: installed(runtime.programs),
        state,
        refused,
        hooks,
        server: server.filter(|(_, words)| !words.is_empty()),
        wakes: runtime.wakes,
        asked: runtime.asked,
        left: runtime.left,
    })
}

/// Returns a command and its arguments as words. Some programs keep both in one list.
fn command_of(entry: &Value) -> Vec<String> {
    let words = |value: &Value| -> Vec<String> {
        match value {
            Value::String(word) => vec![word.clone()],
            Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    [words(&entry["command"]), words(&entry["args"])].concat()
}

/// Returns the hooks that our opencode plugin runs. The plugin runs them itself, so no settings list them.
fn hooks_of_plugin(file: &str, host: Host) -> impl Iterator<Item = Hook> {
    Event::value_variants().iter().map(move |event| {
        let words = ["thrum".to_owned(), "hook".to_owned(), event.name(), "--host".to_owned(), host.name()];
        Hook { event: *event, file: file.to_owned(), words: words.into(), limit: None }
    })
}

/// Returns our hooks in an entry, at any depth of nesting.
fn hooks_in(entry: &Value, file: &str, host: Host) -> Vec<Hook> {
    match entry {
        Value::Array(entries) => entries.iter().flat_map(|entry| hooks_in(entry, file, host)).collect(),
        Value::Object(fields) => {
            let line = ["command", "bash"].into_iter().find_map(|key| fields.get(key)?.as_str());
            let Some(line) = line else {
                return fields.values().flat_map(|entry| hooks_in(entry, file, host)).collect();
            };
            let words = if fields.contains_key("args") {
                command_of(entry)
            } else {
                vec!["sh".into(), "-c".into(), line.to_owned()]
            };
            let said = words.join(" ");
            let Some(event) = document::events(&said).find_map(|event| Event::from_str(event, false).ok()) else {
                return Vec::new();
            };
            let number = |key: &str| fields.get(key).and_then(Value::as_u64);
            let unit = match host {
                Host::Gemini => 1,
                Host::Claude
                | Host::Codex
                | Host::Copilot
                | Host::Qwen
                | Host::Cursor
                | Host::Droid
                | Host::Kimi
                | Host::Antigravity
                | Host::Opencode => 1000,
            };
            let limit = number("timeout").map(|limit| limit.saturating_mul(unit));
            let limit =
                limit.or(number("timeoutSec").map(|limit| limit.saturating_mul(1000))).map(Duration::from_millis);
            vec![Hook { event, file: file.to_owned(), words, limit }]
        }
        _ => Vec::new(),
    }
}
