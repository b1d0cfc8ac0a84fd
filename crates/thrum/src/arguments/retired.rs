//! The options and commands of Go Thrum that this program does not have, and what to use instead.

/// What happens to a retired option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// The text is read from standard input, as in Go Thrum.
    StandardInput,
    /// The option is dropped, because nothing is lost without it. The note says why.
    Nothing(&'static str),
    /// The command is refused, with a hint at what to use.
    Use(&'static str),
}

use Instead::{Nothing, StandardInput, Use};

struct Retired {
    /// The command that had the option; empty if every command had it.
    command: &'static str,
    option: &'static str,
    takes_value: bool,
    instead: Instead,
}

const fn flag(command: &'static str, option: &'static str, instead: Instead) -> Retired {
    Retired { command, option, takes_value: false, instead }
}

const fn value(command: &'static str, option: &'static str, instead: Instead) -> Retired {
    Retired { command, option, takes_value: true, instead }
}

const REGISTERED: Instead = Nothing("an agent has the role and module that it registered with (thrum register)");
const NO_RUNTIME: Instead = Nothing("no files for a runtime are written");
const NO_DRY_RUN: Instead =
    Use("Running it again changes nothing that is there; `thrum whoami` and `thrum doctor` only look.");
const BOTH: Instead = Use("thrum quickstart --name NAME --role ROLE --module MODULE sets up and registers.");

const NO_GIT_SYNC: Instead = Nothing("nothing is sent by git, so there is nothing to keep local");

const OPTIONS: [Retired; 29] = [
    flag("", "--verbose", Nothing("nothing more is known; see `thrum daemon logs`")),
    value("", "--role", REGISTERED),
    value("", "--module", REGISTERED),
    flag("send", "--stdin", StandardInput),
    flag("reply", "--stdin", StandardInput),
    flag("message edit", "--stdin", StandardInput),
    flag("context save", "--stdin", StandardInput),
    flag("context preamble", "--stdin", StandardInput),
    flag(
        "context preamble",
        "--init",
        Use("There is no preamble to begin with: thrum context preamble TEXT sets one."),
    ),
    flag("wait", "--all", Nothing("every message for you or for everyone ends the wait")),
    flag("wait", "--unread", Nothing("unread messages are what it waits for")),
    flag("init", "--force", Nothing("doing it twice is fine")),
    flag("init", "--dry-run", NO_DRY_RUN),
    value("init", "--runtime", NO_RUNTIME),
    flag("init", "--skills", NO_RUNTIME),
    value("init", "--agent-name", BOTH),
    value("init", "--agent-role", BOTH),
    value("init", "--agent-module", BOTH),
    value("quickstart", "--runtime", NO_RUNTIME),
    flag("quickstart", "--no-init", NO_RUNTIME),
    flag("quickstart", "--dry-run", NO_DRY_RUN),
    value("quickstart", "--preamble-file", Use("After it: thrum context preamble --file FILE")),
    flag("daemon start", "--local", Use("thrum config set daemon.local_only true")),
    flag("daemon restart", "--local", Use("thrum config set daemon.local_only true")),
    flag("daemon stop", "--local", NO_GIT_SYNC),
    flag("daemon status", "--local", NO_GIT_SYNC),
    value("mcp serve", "--agent-id", Use("thrum mcp serve --as NAME")),
    value("agent context", "--agent", Use("thrum agent context @NAME")),
    value("daemon logs", "--since", Use("thrum daemon logs --lines N; the file's times are in UTC.")),
];

/// The retired commands: parent command, name, and what to use instead.
const COMMANDS: [(&str, &str, &str); 17] = [
    (
        "",
        "group",
        "Write to a role (--to @ROLE), to everyone (--broadcast), or to a group that Go Thrum made (--to @GROUP); only Go Thrum changes one.",
    ),
    ("", "subscribe", "`thrum wait` wakes you for all your mail, `thrum wait --scope TYPE:VALUE` for a part of it."),
    ("", "unsubscribe", "There is nothing to undo: `thrum wait` waits for what its options say."),
    ("", "subscriptions", "There are none: `thrum wait` waits for what its options say."),
    ("", "migrate", "`thrum import DIR` takes over what Go Thrum has."),
    ("", "runtime", "Nothing is configured for a runtime: any program that runs commands can use `thrum`."),
    ("", "roles", "A role is a word that an agent registers with: thrum register --role ROLE"),
    ("", "telegram", "There is no bridge to Telegram."),
    ("context", "sync", "Notes stay in their worktree; send what others need: thrum send --body-file FILE --to @NAME"),
    ("context", "update", "thrum context save TEXT"),
    ("backup", "restore", "thrum restore FILE"),
    ("backup", "status", "`ls .thrum/backup` shows what there is."),
    ("backup", "config", "`thrum backup --dir DIR` says where to."),
    ("backup", "schedule", "Let cron run `thrum backup`."),
    ("backup", "plugin", "Let cron run `thrum backup`, and what else is to be saved."),
    ("config", "edit", "thrum config set KEY VALUE"),
    ("message", "archive", "`thrum export --jsonl --to FILE` writes the whole log."),
];

/// Looks up a retired option of the command at `path`, given with its dashes. Returns `true` if the option takes a
/// value, and what to do about it; `None` if no such option is retired.
pub(super) fn option(path: &[&str], name: &str) -> Option<(bool, Instead)> {
    let command = path.join(" ");
    let found = OPTIONS
        .iter()
        .find(|retired| retired.option == name && (retired.command.is_empty() || retired.command == command))?;
    Some((found.takes_value, found.instead))
}

/// Returns what to use instead of the retired command `name` below the command at `path`.
pub(super) fn command(path: &[&str], name: &str) -> Option<&'static str> {
    let above = path.join(" ");
    COMMANDS.iter().find(|(at, retired, _)| *at == above && *retired == name).map(|(_, _, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    /// A command or option that this program has must not be listed as retired. An option that every command of Go
    /// Thrum had is not checked, because some commands still have it.
    #[test]
    fn no_retired_option_still_exists() {
        let root = Cli::command();
        for (above, name, _) in COMMANDS {
            let at = above.split_whitespace().fold(&root, |at, word| at.find_subcommand(word).unwrap());
            assert!(at.find_subcommand(name).is_none(), "{above} {name}");
        }
        for Retired { command, option, .. } in OPTIONS.iter().filter(|retired| !retired.command.is_empty()) {
            let at = command.split_whitespace().fold(&root, |at, word| at.find_subcommand(word).unwrap());
            assert!(super::super::find(at, option).is_none(), "{command} {option}");
        }
    }
}
