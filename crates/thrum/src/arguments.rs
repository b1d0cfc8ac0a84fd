//! Prepares the command line for the parser: texts that begin with a dash, and options and commands of Go Thrum.
//!
//! **A leading dash does not make an option.** An argument is an option if it is `--` and a name, or one dash, a letter
//! and anything without spaces. A `=` and any value may follow (`--json`, `--to=bob`, `-n5`). Everything else that
//! begins with a dash is a text: `- done: login`, `--all green`, `-> see below`, `-5 degrees`. A text that looks like
//! an option (`-done`) needs `--` before it, or `--intent=-done` for the value of an option. So most texts need no
//! quoting beyond the shell's, and a mistyped `--jsn` is still an unknown option.
//!
//! The parser accepts such texts only after `--` or `=`, so this module moves them there.
//!
//! **Retired options** are listed in [`retired`]: an option of Go Thrum that this program does not have is replaced,
//! dropped with a note, or refused with a hint at its replacement.

#[cfg(test)]
mod quoted;
mod retired;

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};
use retired::Instead;
use thrum_core::{Error, ErrorKind};

/// The arguments as the parser accepts them, and notes for the user about those that were dropped.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Arguments {
    pub(crate) all: Vec<OsString>,
    pub(crate) notes: Vec<String>,
}

/// Prepares the arguments of this process, the program's name first, for the command `root`.
///
/// # Errors
/// `invalid` for a retired command, and for a retired option that is neither replaced nor dropped, with what to use
/// instead.
pub(crate) fn prepare(args: impl IntoIterator<Item = OsString>, root: &Command) -> Result<Arguments, Error> {
    let mut walk = Walk {
        root,
        at: root,
        path: Vec::new(),
        front: Vec::new(),
        words: Vec::new(),
        needs_separator: false,
        notes: Vec::new(),
    };
    let mut args = args.into_iter();
    walk.front.extend(args.next());
    let mut only_words = false;
    while let Some(arg) = args.next() {
        if only_words {
            walk.words.push(arg);
        } else if arg == "--" {
            (only_words, walk.needs_separator) = (true, true);
        } else if is_option(&arg) {
            walk.option(arg, &mut args)?;
        } else {
            walk.word(arg)?;
        }
    }
    Ok(walk.end())
}

struct Walk<'a> {
    root: &'a Command,
    /// The command named so far.
    at: &'a Command,
    path: Vec<&'a str>,
    /// The program, the words that name the command, and all options.
    front: Vec<OsString>,
    /// Arguments after the command's name that belong to no option.
    words: Vec<OsString>,
    /// `true` if one of the words begins with a dash, or if `--` was given.
    needs_separator: bool,
    notes: Vec<String>,
}

impl Walk<'_> {
    fn option(&mut self, arg: OsString, rest: &mut impl Iterator<Item = OsString>) -> Result<(), Error> {
        let shown = arg.to_string_lossy().into_owned();
        let (name, has_value) = shown.split_once('=').map_or((shown.as_str(), false), |(name, _)| (name, true));
        if matches!(name, "--help" | "-h" | "--version" | "-V") {
            self.front.push(arg);
            return Ok(());
        }
        let known = find(self.at, name).or_else(|| find(self.root, name));
        let Some(known) = known else {
            let Some((takes_value, instead)) = retired::option(&self.path, name) else {
                self.front.push(arg);
                return Ok(());
            };
            if takes_value && !has_value {
                rest.next();
            }
            return self.replace(name, instead);
        };
        if has_value || !takes_value(known) || is_cluster(&shown) {
            self.front.push(arg);
        } else {
            match rest.next() {
                Some(value) if begins_with_dash(&value) && !is_option(&value) => {
                    let mut whole = arg;
                    whole.push("=");
                    whole.push(value);
                    self.front.push(whole);
                }
                value => self.front.extend([arg].into_iter().chain(value)),
            }
        }
        Ok(())
    }

    fn replace(&mut self, name: &str, instead: Instead) -> Result<(), Error> {
        match instead {
            Instead::StandardInput => self.words.push("-".into()),
            Instead::Nothing(why) => self.notes.push(format!("{name} is ignored: {why}")),
            Instead::Use(what) => {
                return Err(Error::new(ErrorKind::Invalid, format!("{name} is an option of Go Thrum")).hint(what));
            }
        }
        Ok(())
    }

    fn word(&mut self, arg: OsString) -> Result<(), Error> {
        let name = arg.to_string_lossy().into_owned();
        if self.words.is_empty() {
            if let Some(command) = self.at.find_subcommand(&name) {
                (self.at, self.path) = (command, [&self.path[..], &[command.get_name()]].concat());
                self.front.push(arg);
                return Ok(());
            }
            if let Some(what) = retired::command(&self.path, &name) {
                let whole = [&self.path[..], &[&name]].concat().join(" ");
                return Err(
                    Error::new(ErrorKind::Invalid, format!("`thrum {whole}` is a command of Go Thrum")).hint(what)
                );
            }
        }
        self.needs_separator |= begins_with_dash(&arg);
        self.words.push(arg);
        Ok(())
    }

    fn end(self) -> Arguments {
        let Self { mut front, words, needs_separator, notes, .. } = self;
        if needs_separator {
            front.push("--".into());
        }
        front.extend(words);
        Arguments { all: front, notes }
    }
}

/// Returns `true` if the argument begins with a dash. A lone `-` is standard input and does not count.
fn begins_with_dash(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-") && arg != "-"
}

/// Returns `true` if the parser should take the argument for an option, known or not.
fn is_option(arg: &OsStr) -> bool {
    let bytes = arg.as_encoded_bytes();
    let name = bytes.split(|byte| *byte == b'=').next().unwrap_or_default();
    match name {
        [b'-', b'-', first, rest @ ..] => {
            first.is_ascii_alphabetic()
                && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        }
        [b'-', first, rest @ ..] => first.is_ascii_alphabetic() && !rest.iter().any(u8::is_ascii_whitespace),
        _ => false,
    }
}

/// Returns `true` if a single-dash argument has more than one letter: further options, or a value.
fn is_cluster(arg: &str) -> bool {
    !arg.starts_with("--") && arg.len() > 2
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

/// Finds an option by its name, given with its dashes. Of several letters after one dash, the first counts.
fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let long = name.strip_prefix("--");
    let short = name.strip_prefix('-').and_then(|letters| letters.chars().next());
    let matches = |arg: &&Arg| match long {
        Some(long) => {
            arg.get_long() == Some(long) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&long))
        }
        None => arg.get_short() == short,
    };
    command.get_arguments().filter(|arg| !arg.is_positional()).find(matches)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    fn of(args: &[&str]) -> Result<Vec<String>, Error> {
        let all = [&["thrum"], args].concat().into_iter().map(OsString::from);
        prepare(all, &Cli::command())
            .map(|done| done.all[1..].iter().map(|arg| arg.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn texts_that_begin_with_a_dash_move_behind_the_options() {
        for (args, expected) in [
            (&["send", "- done: login", "--to", "bob"][..], &["send", "--to", "bob", "--", "- done: login"][..]),
            (&["send", "--all green", "-b", "--json"], &["send", "-b", "--json", "--", "--all green"]),
            (&["reply", "msg_1", "-> this", "--json"], &["reply", "--json", "--", "msg_1", "-> this"]),
            (&["--json", "message", "edit", "msg_1", "---"], &["--json", "message", "edit", "--", "msg_1", "---"]),
            (&["quickstart", "--intent", "- one", "--name", "x"], &["quickstart", "--intent=- one", "--name", "x"]),
            (&["wait", "--after", "-15s"], &["wait", "--after=-15s"]),
            (&["send", "-", "--to", "bob"], &["send", "--to", "bob", "-"]),
            (&["send", "--to", "bob", "--", "-done"], &["send", "--to", "bob", "--", "-done"]),
            (&["daemon", "logs", "-n", "5"], &["daemon", "logs", "-n", "5"]),
            (&["daemon", "logs", "-n5", "-f"], &["daemon", "logs", "-n5", "-f"]),
            (&["send", "a", "--format=plain", "- b"], &["send", "--format=plain", "--", "a", "- b"]),
        ] {
            assert_eq!(of(args).unwrap(), expected, "{args:?}");
        }
    }

    #[test]
    fn arguments_that_look_like_options_are_left_to_the_parser() {
        for args in [
            &["send", "--jsn", "--to", "bob"][..],
            &["send", "-done"],
            &["send", "--jsn=x y"],
            &["quickstart", "--intent", "--json"],
        ] {
            assert_eq!(of(args).unwrap(), args, "{args:?}");
        }
    }
}
