//! Recognises our entries in a settings file by the command that they run, regardless of what a user wrote around it.

use serde_json::Value;

/// Returns the command line of an entry: its command and arguments, in any of the programs' formats.
pub(super) fn line(entry: &Value) -> Option<String> {
    let words = |value: &Value| match value {
        Value::String(word) => vec![word.clone()],
        Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let command = ["command", "bash"].into_iter().map(|key| words(&entry[key])).find(|words| !words.is_empty())?;
    Some([command, words(&entry["args"])].concat().join(" "))
}

/// Returns all command lines in a value, at any depth.
pub(super) fn lines(value: &Value) -> Vec<String> {
    let below: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Object(fields) => Box::new(fields.values()),
        Value::Array(values) => Box::new(values.iter()),
        _ => return Vec::new(),
    };
    line(value).into_iter().chain(below.flat_map(lines)).collect()
}

/// Returns the events of our hooks that a command line runs: each `EVENT` in `thrum hook EVENT`.
pub(in crate::runtimes) fn events(line: &str) -> impl Iterator<Item = &str> {
    let words = words(line);
    (0..words.len()).filter_map(move |at| match subcommand(&words[at..]) {
        Some(["hook", options @ ..]) => after_options(options).first().copied(),
        _ => None,
    })
}

/// Returns the subcommand of `thrum` and the words after it, without the options before the subcommand. `None` if the
/// first word is another program.
fn subcommand<'a, 'w>(words: &'w [&'a str]) -> Option<&'w [&'a str]> {
    let (program, rest) = words.split_first()?;
    is_thrum(program).then(|| after_options(rest))
}

/// Skips options. Those in [`WITH_VALUE`] take the next word as well.
fn after_options<'a, 'w>(mut words: &'w [&'a str]) -> &'w [&'a str] {
    while let Some(option) = words.first().filter(|word| word.starts_with('-')) {
        let length = if WITH_VALUE.contains(option) { 2 } else { 1 };
        words = words.get(length..).unwrap_or_default();
    }
    words
}

/// Options of every command, and of `hook`, that take a value.
const WITH_VALUE: [&str; 3] = ["--as", "--repo", "--host"];

/// Returns `true` if an entry, or an entry nested in it, runs the same hook of ours as `wanted`.
pub(super) fn runs_hook_of(entry: &Value, wanted: &Value) -> bool {
    let wanted = lines(wanted);
    let mut wanted = wanted.iter().flat_map(|line| events(line));
    wanted.next().is_some_and(|wanted| lines(entry).iter().any(|line| events(line).any(|event| event == wanted)))
}

/// Returns `true` if an entry starts our MCP server.
pub(super) fn starts_server(entry: &Value) -> bool {
    let line = line(entry).unwrap_or_default();
    let words = words(&line);
    (0..words.len()).any(|at| match subcommand(&words[at..]) {
        Some(["mcp", options @ ..]) => after_options(options).first() == Some(&"serve"),
        _ => false,
    })
}

/// Returns `true` if an entry runs `thrum` with any arguments.
pub(super) fn runs_thrum(entry: &Value) -> bool {
    line(entry).is_some_and(|line| words(&line).first().is_some_and(|word| is_thrum(word)))
}

/// Returns `true` if a command line does something besides running our hook, which would be lost with the line.
/// Variable assignments, a path, a check whether `thrum` is installed, and an exit status (`|| true`, `exit 0`) do not
/// count.
pub(super) fn does_more(line: &str) -> bool {
    let line = line.replace("2>&1", "");
    line.split(['&', '|', ';', '\n']).any(|command| {
        let is_assignment = |word: &&str| {
            word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        };
        let words: Vec<&str> =
            command.split_whitespace().map(|word| word.trim_matches(['"', '\''])).skip_while(is_assignment).collect();
        let words = if let ["exec" | "env", rest @ ..] = words.as_slice() { rest } else { &words };
        let words: Vec<&str> = words.iter().copied().skip_while(is_assignment).collect();
        !match words.as_slice() {
            [] | ["true" | "false" | ":"] | ["exit", ..] => true,
            ["command", "-v", program, ..] => is_thrum(program),
            words => matches!(subcommand(words), Some(["hook", ..])),
        }
    })
}

/// Returns the words of a line without shell quotes and operators.
fn words(line: &str) -> Vec<&str> {
    line.split(|c: char| c.is_whitespace() || "\"'`();|&<>${}=".contains(c)).filter(|word| !word.is_empty()).collect()
}

fn is_thrum(program: &str) -> bool {
    program.rsplit('/').next() == Some("thrum")
}

#[test]
fn a_hook_is_recognised_whatever_stands_around_it() {
    for (line, is_hook, more) in [
        ("thrum hook stop --host claude", true, false),
        ("thrum hook stop --host claude || true", true, false),
        ("/opt/bin/thrum hook stop >/dev/null 2>&1 & exit 0", true, false),
        ("\"$HOME/bin/thrum\" hook stop", true, false),
        ("THRUM_NAME=bob  exec thrum  hook stop", true, false),
        ("env A=1 thrum hook stop", true, false),
        ("command -v thrum >/dev/null || exit 0; thrum hook stop --host gemini", true, false),
        ("make lint && thrum hook stop", true, true),
        ("thrum hook stop; make lint", true, true),
        ("sh -c 'thrum hook stop'", true, true),
        ("/opt/bin/thrum --as ann -q hook stop --host claude", true, false),
        ("thrum --as=ann hook stop && make lint", true, true),
        ("thrum --as hook inbox", false, true),
        ("thrum hook stopped", false, false),
        ("enthrum hook stop", false, true),
        ("thrum inbox", false, true),
    ] {
        assert_eq!((events(line).any(|event| event == "stop"), does_more(line)), (is_hook, more), "{line}");
    }
}

#[test]
fn a_server_is_recognised_whatever_options_it_has() {
    for (args, is_server) in [
        (serde_json::json!(["mcp", "serve"]), true),
        (serde_json::json!(["--as", "bob", "mcp", "serve"]), true),
        (serde_json::json!(["mcp", "--as", "bob", "serve", "--no-start"]), true),
        (serde_json::json!(["mcp", "serving"]), false),
        (serde_json::json!(["--as", "mcp", "serve"]), false),
    ] {
        let entry = serde_json::json!({"command": "/opt/bin/thrum", "args": args});
        assert_eq!(starts_server(&entry), is_server, "{entry}");
    }
}
