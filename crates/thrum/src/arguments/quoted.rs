//! Checks that the command lines in our texts are valid, and that the options in our string literals exist. Our texts
//! are the string literals of the source (hints, errors, notes) and the documents, which contain the help.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::{Command, CommandFactory, error::ErrorKind};

use super::prepare;
use crate::cli::Cli;

/// Options in our texts that are not Thrum's: those of other programs.
const OPTIONS_OF_OTHERS: &[&str] = &["--cached", "--force-reauth", "--operator"];

/// Words after `thrum` that do not make it a command line: the text means the program itself, or is not for users.
const NO_COMMANDS: &[&str] = &["outside", "reads", "run", "that", "variable"];

/// Command lines that are shown because they fail.
const MEANT_TO_FAIL: &[&str] = &["thrum send --oops --json"];

#[test]
fn every_command_line_in_our_texts_is_accepted_by_the_parser() {
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for (place, text) in texts() {
        for (line, is_whole) in command_lines(&text) {
            looked_at += 1;
            if let Err(why) = check(&line, is_whole) {
                wrong.push(format!("{place}: {line}\n    {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(looked_at > 600, "only {looked_at} command lines: are they found?");
}

#[test]
fn every_option_in_a_hint_belongs_to_a_command() {
    let mut known = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
    collect_options(&Cli::command(), &mut known);
    let mut wrong = BTreeSet::new();
    let mut looked_at = 0;
    for (place, text) in source_texts() {
        // A literal of a single word is an argument for git or a similar program.
        for word in text.split([' ', '\n', '`', '(']).filter(|word| word.starts_with("--") && text.contains(' ')) {
            let name: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            looked_at += 1;
            if name.len() > 2 && !known.contains(&name) && !OPTIONS_OF_OTHERS.contains(&name.as_str()) {
                wrong.insert(format!("{place}: {name} in {text:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
    assert!(looked_at > 50, "only {looked_at} options: are they found?");
}

#[test]
fn a_command_that_does_not_exist_is_detected() {
    for (line, is_whole) in [
        ("thrum deamon restart", true),
        ("thrum daemon rerun", true),
        ("thrum inbox --newest", true),
        ("thrum inbox --newest and so on", false),
        ("thrum status now", true),
    ] {
        assert!(check(line, is_whole).is_err(), "{line}");
    }
    for (line, is_whole) in
        [("thrum daemon", true), ("thrum send hello --to @NAME", true), ("thrum peer add in one, and the other", false)]
    {
        assert_eq!(check(line, is_whole), Ok(()), "{line}");
    }
    let found = command_lines("Run `thrum wait --all`, or: thrum daemon stop && thrum init; a thrum daemon restart");
    let lines: Vec<_> = found.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(lines, ["thrum wait --all", "thrum daemon stop", "thrum init", "thrum daemon restart"]);
}

/// Checks one command line. Unless `is_whole`, `line` may continue with the rest of a sentence, so only the command's
/// name and the options are checked.
fn check(line: &str, is_whole: bool) -> Result<(), String> {
    let words = words(line);
    let root = Cli::command();
    let mut at = &root;
    let mut args = words.iter().skip(1).peekable();
    while let Some(name) = args.next_if(|word| at.has_subcommands() && !word.starts_with('-')) {
        if name.contains(['{', '<', '…']) || name.chars().all(|c| c.is_ascii_uppercase()) || name == "help" {
            return Ok(());
        }
        match at.find_subcommand(name) {
            Some(command) => at = command,
            // `thrum peer` in the middle of a sentence is a mention of all its commands.
            None if !is_whole && at.get_name() != root.get_name() => return Ok(()),
            // The command takes arguments of its own instead of a subcommand.
            None if at.is_args_conflicts_with_subcommands_set() => break,
            None => return Err(format!("no command `{name}`")),
        }
    }
    for word in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
        let name: String = word.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        if super::find(at, &name).is_none()
            && super::find(&root, &name).is_none()
            && !["--help", "--version"].contains(&name.as_str())
        {
            return Err(format!("no option {name}"));
        }
    }
    if !is_whole {
        return Ok(());
    }
    let parsed = prepare(words.iter().map(Into::into), &root).map_err(|error| error.to_string())?;
    match Cli::command().try_get_matches_from(parsed.all) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            ErrorKind::UnknownArgument
            | ErrorKind::InvalidSubcommand
            | ErrorKind::TooManyValues
            | ErrorKind::ArgumentConflict => Err(error.to_string()),
            // An argument is left out, or a placeholder such as NAME stands for a value.
            _ => Ok(()),
        },
    }
}

/// Splits a command line into words at unquoted spaces and line breaks.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut is_open = false;
    for c in line.chars() {
        match (quote, c) {
            (None, '\'' | '"') => (quote, is_open) = (Some(c), true),
            (Some(open), c) if open == c => quote = None,
            (None, ' ' | '\n') => {
                if is_open || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                is_open = false;
            }
            (_, c) => word.push(c),
        }
    }
    if is_open || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Finds the command lines in a text, each with `true` if its end is certain.
fn command_lines(text: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].find("thrum ") {
        let begin = at + next;
        at = begin + "thrum ".len();
        let before = text[..begin].chars().next_back();
        // Skip the name of the package in `cargo test -p thrum --test cli`.
        if text[..begin].ends_with("-p ") {
            continue;
        }
        // Skip `thrum` as the end of another word, such as `Go-thrum`, `/usr/bin/thrum` or `.thrum`.
        if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '@' | ':')) {
            continue;
        }
        let rest = &text[begin..];
        let is_quoted = before == Some('`');
        // On its first line, a hint may be a sentence that begins with `thrum`.
        let is_line = begin > 0
            && text[..begin].rsplit('\n').next().is_some_and(|line| line.trim().is_empty() || line.trim() == "$");
        let end = match is_quoted {
            true => rest.find('`').unwrap_or(rest.len()),
            false => {
                ["\n", "`", "; ", " && ", " | ", " || ", " > ", " < ", " 2>", " #", ". ", ", ", ": ", ")", " (", "  "]
                    .iter()
                    .filter_map(|end| rest.find(end))
                    .min()
                    .unwrap_or(rest.len())
            }
        };
        let mut line = &rest[..end];
        for end in [" && ", " | ", "; ", " > ", " < ", " 2>", " #"] {
            line = line.split(end).next().unwrap_or_default();
        }
        let line = line.trim_end_matches([' ', '.', ',', ';', ':', '&', '\\']);
        let first = line.split(' ').nth(1).unwrap_or_default();
        if first.is_empty()
            || NO_COMMANDS.contains(&first)
            || MEANT_TO_FAIL.contains(&line)
            || !first.starts_with(|c: char| c.is_ascii_lowercase() || c == '-')
        {
            continue;
        }
        found.push((line.to_owned(), is_quoted || is_line || text.len() == line.len()));
    }
    found
}

/// The string literals of the source, and the documents, including the help.
fn texts() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let pages = fs::read_dir(root.join("docs")).expect("lists").map(|entry| entry.expect("an entry").path());
    let pages = pages
        .chain([root.join("README.md"), root.join("ARCHITECTURE.md")])
        .filter(|path| path.extension().is_some_and(|it| it == "md"));
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    source_texts()
        .into_iter()
        .chain(pages.map(|path| (name(&path), fs::read_to_string(&path).expect("reads"))))
        .collect()
}

/// The string literals of all crates, except those of tests.
fn source_texts() -> Vec<(String, String)> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for entry in fs::read_dir(&crates).expect("lists") {
        collect_files(&entry.expect("an entry").path().join("src"), &mut files);
    }
    files.sort_unstable();
    let of = |path: &PathBuf| {
        let place = path.strip_prefix(&crates).unwrap_or(path).display().to_string();
        let source = fs::read_to_string(path).expect("reads");
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        literals(&source).into_iter().map(move |literal| (place.clone(), literal)).collect::<Vec<_>>()
    };
    let is_test =
        |path: &Path| ["tests.rs", "quoted.rs", "conformance.rs", "plugins.rs"].iter().any(|name| path.ends_with(name));
    files.iter().filter(|path| !is_test(path)).flat_map(of).collect()
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn collect_options(command: &Command, known: &mut BTreeSet<String>) {
    known.extend(
        command
            .get_arguments()
            .flat_map(|arg| arg.get_long_and_visible_aliases().unwrap_or_default())
            .map(|long| format!("--{long}")),
    );
    command.get_subcommands().for_each(|command| collect_options(command, known));
}

/// The string literals of Rust source, except those of the form `r"…"`.
fn literals(source: &str) -> Vec<String> {
    let (mut found, mut chars) = (Vec::new(), source.chars().peekable());
    let mut before = '\n';
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => while chars.next_if(|c| *c != '\n').is_some() {},
            // A character literal, which may be a quote. A lifetime has no second apostrophe.
            '\'' => {
                let mut ahead = chars.clone();
                match (ahead.next(), ahead.next()) {
                    (Some('\\'), _) => {
                        chars.nth(1);
                        while chars.next_if(|c| *c != '\'').is_some() {}
                        chars.next();
                    }
                    (Some(_), Some('\'')) => drop(chars.nth(1)),
                    _ => {}
                }
            }
            '"' if before == 'r' => while chars.next_if(|c| *c != '"').is_some() {},
            '"' => {
                let mut literal = String::new();
                while let Some(c) = chars.next() {
                    match c {
                        '"' => break,
                        '\\' => match chars.next() {
                            Some('n') => literal.push('\n'),
                            Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                            other => literal.extend(other),
                        },
                        c => literal.push(c),
                    }
                }
                found.push(literal);
            }
            _ => {}
        }
        before = c;
    }
    found
}
