//! Compares documents in `docs/` with the program's output.

use std::{fs, path::PathBuf};

/// The path of a document in `docs/`.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

/// Asserts that `docs/NAME` equals `now`. With `UPDATE_DOCS` set, writes `now` to the file first.
#[track_caller]
pub(crate) fn compare(name: &str, now: &str) {
    let path = path(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, now).unwrap();
    }
    let then = fs::read_to_string(&path).unwrap_or_default();
    let differs = then
        .lines()
        .zip(now.lines())
        .position(|(then, now)| then != now)
        .unwrap_or_else(|| then.lines().count().min(now.lines().count()));
    let line = |text: &str| text.lines().nth(differs).unwrap_or("(the end)").to_owned();
    assert!(
        then == now,
        "docs/{name} is not what the program says, from line {} on:\n  docs: {}\n  now:  {}\nIf the change is meant: UPDATE_DOCS=1 cargo test -p thrum --test cli",
        differs + 1,
        line(&then),
        line(now),
    );
}

/// The commands that a help text lists, without `help`.
pub(crate) fn commands(help: &str) -> Vec<&str> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").collect()
}

/// The lines below `Examples:` in a help text.
pub(crate) fn examples(help: &str) -> Vec<&str> {
    let below = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    below.take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}
