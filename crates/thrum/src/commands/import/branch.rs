//! Reads the files of the branch `a-sync` out of a repository's objects. Nothing is checked out, fetched or written.
//!
//! Anybody who can push may have written the branch. Therefore file names never reach a command line, links and
//! submodules are not followed, and a file is read in pieces of bounded length.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use thrum_core::{Error, ErrorKind, name::printable};
use thrum_daemon::git;

use crate::text::quote;

/// The name of the branch.
const BRANCH: &str = "a-sync";

/// The remote whose branch is read unless another one is named.
const DEFAULT_REMOTE: &str = "origin";

/// Maximum length of an entry of a tree as git lists it, in bytes: a path of 1,000, and before it the mode, the type and
/// the object. Go Thrum names files after agents.
const MOST_ENTRY: usize = 1000 + 90;

/// A version of the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tip {
    /// The full name of the ref.
    pub(super) name: String,
    /// The commit.
    pub(super) commit: String,
}

/// The versions of the branch in one repository.
#[derive(Debug)]
pub(super) struct Branch {
    top: PathBuf,
    /// The versions to read: that of the remote, and the local one unless the remote's contains it.
    pub(super) tips: Vec<Tip>,
    /// Whether there is a local branch, which means that Go Thrum ran in this repository.
    pub(super) is_local: bool,
}

/// An entry of a tree.
pub(super) struct Entry {
    /// The kind of file by its mode, such as `100644`; `120000` is a symbolic link and `160000` a submodule.
    pub(super) mode: String,
    /// The id of the content.
    pub(super) object: String,
    /// The path in the tree.
    pub(super) path: String,
}

impl Branch {
    /// Finds the branch in the repository around `top`, as fetched from `remote` and as a local branch. A remote that
    /// the user named must have it.
    ///
    /// # Errors
    /// `invalid` for a name that no remote can have; `not_found` if there is no repository or no such branch.
    pub(super) fn find(top: &Path, remote: Option<&str>) -> Result<Self, Error> {
        let name = remote.unwrap_or(DEFAULT_REMOTE);
        let (of_remote, local) = (format!("refs/remotes/{name}/{BRANCH}"), format!("refs/heads/{BRANCH}"));
        if ask(top, &["check-ref-format", &of_remote]).is_err() {
            return Err(Error::new(ErrorKind::Invalid, format!("{} cannot be a remote", quote(name))));
        }
        let refs = refs(top, &[&of_remote, &local])?;
        let tip = |name: &str| refs.iter().find(|tip| tip.name == name).cloned();
        let (fetched, own) = (tip(&of_remote), tip(&local));
        let is_local = own.is_some();
        let tips = match (fetched, own) {
            (Some(fetched), Some(own)) => {
                let is_contained = ask(top, &["merge-base", "--is-ancestor", &own.commit, &fetched.commit]).is_ok();
                if is_contained { vec![fetched] } else { vec![fetched, own] }
            }
            (Some(fetched), None) => vec![fetched],
            (None, Some(own)) if remote.is_none() => vec![own],
            (None, _) => return Err(missing(top, name, remote.is_some())),
        };
        Ok(Self { top: top.to_owned(), tips, is_local })
    }

    /// Calls `found` for each file of a version, in git's order; with `None` for an entry whose path is too long.
    ///
    /// # Errors
    /// `failed` if git cannot list them.
    pub(super) fn list(&self, tip: &Tip, mut found: impl FnMut(Option<Entry>)) -> Result<(), Error> {
        let args = ["ls-tree", "-r", "-z", "--full-tree", &tip.commit];
        let mut child = Process::start(command(&self.top, &args))?;
        let mut entry = Vec::new();
        loop {
            match record(&mut child.stdout, 0, MOST_ENTRY, &mut entry).map_err(|error| broken(&error))? {
                Record::End => break,
                Record::TooLong => found(None),
                Record::Whole => found(Some(read_entry(&String::from_utf8_lossy(&entry)).ok_or_else(unexpected)?)),
            }
        }
        child.end()
    }

    /// Starts to read contents.
    ///
    /// # Errors
    /// `failed` if git cannot be started.
    pub(super) fn objects(&self) -> Result<Objects, Error> {
        let mut command = command(&self.top, &["cat-file", "--batch"]);
        command.stdin(Stdio::piped());
        let mut process = Process::start(command)?;
        let stdin = process.child.stdin.take().ok_or_else(unexpected)?;
        Ok(Objects { stdin, process })
    }
}

/// The content of files, one after the other.
pub(super) struct Objects {
    stdin: ChildStdin,
    process: Process,
}

/// A line of a file.
pub(super) enum Line<'a> {
    /// Its bytes, without the line break.
    Whole(&'a [u8]),
    /// It is longer than permitted.
    TooLong,
}

impl Objects {
    /// Calls `found` with the number and the text of each line that is not blank. Reads at most `most` bytes of a line.
    /// Returns `false` if the repository lacks the content.
    ///
    /// # Errors
    /// Those of `found`; `failed` if git ends early.
    pub(super) fn lines(
        &mut self,
        object: &str,
        most: usize,
        mut found: impl FnMut(u64, Line<'_>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let Some(length) = self.open(object)? else { return Ok(false) };
        let mut content = (&mut self.process.stdout).take(length);
        let (mut text, mut number) = (Vec::new(), 0);
        loop {
            let read = record(&mut content, b'\n', most, &mut text).map_err(|error| broken(&error))?;
            number += 1;
            match read {
                Record::End => break,
                Record::TooLong => found(number, Line::TooLong)?,
                Record::Whole if text.trim_ascii().is_empty() => {}
                Record::Whole => found(number, Line::Whole(text.trim_ascii()))?,
            }
        }
        self.close()?;
        Ok(true)
    }

    /// Returns the whole content; `Some(None)` if it is longer than `most`, and `None` if the repository lacks it.
    ///
    /// # Errors
    /// `failed` if git ends early.
    pub(super) fn whole(&mut self, object: &str, most: u64) -> Result<Option<Option<Vec<u8>>>, Error> {
        let Some(length) = self.open(object)? else { return Ok(None) };
        let mut content = (&mut self.process.stdout).take(length);
        let mut bytes = Vec::new();
        if length <= most {
            content.read_to_end(&mut bytes).map_err(|error| broken(&error))?;
        } else {
            io::copy(&mut content, &mut io::sink()).map_err(|error| broken(&error))?;
        }
        self.close()?;
        Ok(Some((length <= most).then_some(bytes)))
    }

    /// Asks for a content, and returns its length; `None` if the repository lacks it.
    fn open(&mut self, object: &str) -> Result<Option<u64>, Error> {
        self.stdin.write_all(format!("{object}\n").as_bytes()).map_err(|error| broken(&error))?;
        let mut header = Vec::new();
        match record(&mut self.process.stdout, b'\n', MOST_ENTRY, &mut header).map_err(|error| broken(&error))? {
            Record::Whole => {}
            Record::TooLong | Record::End => return Err(unexpected()),
        }
        let header = String::from_utf8_lossy(&header);
        let words: Vec<_> = header.split(' ').collect();
        match words[..] {
            [_, "missing"] => Ok(None),
            [_, "blob", length] => length.parse().map(Some).map_err(|_| unexpected()),
            _ => Err(unexpected()),
        }
    }

    /// Reads the line break after a content.
    fn close(&mut self) -> Result<(), Error> {
        let mut end = [0];
        self.process.stdout.read_exact(&mut end).map_err(|error| broken(&error))
    }
}

/// A git process whose output is read. It is ended on drop.
struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(mut command: Command) -> Result<Self, Error> {
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| no_git(&error))?;
        let stdout = child.stdout.take().ok_or_else(unexpected)?;
        Ok(Self { child, stdout: BufReader::with_capacity(1 << 16, stdout) })
    }

    /// Waits for the end of a process whose output was read completely.
    fn end(mut self) -> Result<(), Error> {
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::new(ErrorKind::Failed, format!("git cannot read the branch: {status}"))),
            Err(error) => Err(broken(&error)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the process has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was read up to a delimiter.
enum Record {
    Whole,
    /// The record has more bytes than permitted; they were skipped.
    TooLong,
    End,
}

/// Reads up to the next delimiter or the end. Keeps at most `most` bytes.
fn record(from: &mut impl BufRead, delimiter: u8, most: usize, into: &mut Vec<u8>) -> io::Result<Record> {
    into.clear();
    let (mut any, mut too_long) = (false, false);
    loop {
        let bytes = match from.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() {
            break;
        }
        any = true;
        let end = bytes.iter().position(|byte| *byte == delimiter);
        let part = &bytes[..end.unwrap_or(bytes.len())];
        too_long |= into.len() + part.len() > most;
        if !too_long {
            into.extend_from_slice(part);
        }
        let read = end.map_or(bytes.len(), |end| end + 1);
        from.consume(read);
        if end.is_some() {
            break;
        }
    }
    Ok(match (any, too_long) {
        (false, _) => Record::End,
        (true, true) => Record::TooLong,
        (true, false) => Record::Whole,
    })
}

/// Reads an entry as `git ls-tree` prints it: the mode, the type and the object, then a tab and the path.
fn read_entry(text: &str) -> Option<Entry> {
    let (about, path) = text.split_once('\t')?;
    let [mode, _, object] = about.split(' ').collect::<Vec<_>>()[..] else { return None };
    Some(Entry { mode: mode.to_owned(), object: object.to_owned(), path: path.to_owned() })
}

/// Returns those of these refs that exist. A pattern may contain `**`.
fn refs(top: &Path, patterns: &[&str]) -> Result<Vec<Tip>, Error> {
    let args = [&["for-each-ref", "--count=100", "--format=%(objectname) %(refname)"], patterns].concat();
    let listed = ask(top, &args).map_err(|why| {
        Error::new(ErrorKind::NotFound, format!("git finds no repository in {}: {why}", top.display()))
            .hint("Name the repository in which Go Thrum was used: thrum import --git PATH")
    })?;
    let tip = |line: &str| line.split_once(' ').map(|(commit, name)| Tip { name: name.into(), commit: commit.into() });
    Ok(listed.lines().filter_map(tip).collect())
}

fn missing(top: &Path, remote: &str, is_given: bool) -> Error {
    let local = if is_given { String::new() } else { format!(", and no local branch {BRANCH}") };
    let what = format!("there is no refs/remotes/{remote}/{BRANCH} in {}{local}", top.display());
    let others: Vec<_> = refs(top, &[&format!("refs/remotes/**/{BRANCH}")])
        .unwrap_or_default()
        .iter()
        .filter_map(|tip| tip.name.strip_prefix("refs/remotes/")?.strip_suffix(&format!("/{BRANCH}")).map(quote))
        .collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(" Other remotes whose branch is here: {}.", others.join(", "))
    };
    Error::new(ErrorKind::NotFound, what).hint(format!(
        "Nothing is fetched by the import. If the remote has the branch: git fetch {remote} \
         {BRANCH}:refs/remotes/{remote}/{BRANCH}.{others}"
    ))
}

/// Runs a command with a short answer. Returns the answer, or the first line of git's complaint.
fn ask(top: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = command(top, args);
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(printable(said.lines().next().unwrap_or("git says nothing")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Prepares a git command that reads the objects as they are, without replacements.
fn command(top: &Path, args: &[&str]) -> Command {
    let mut command = git::command(top, args);
    command.env("GIT_NO_REPLACE_OBJECTS", "1");
    command
}

fn no_git(error: &io::Error) -> Error {
    Error::new(ErrorKind::Failed, format!("git cannot be started: {error}"))
}

fn broken(error: &io::Error) -> Error {
    Error::new(ErrorKind::Failed, format!("git stopped while it read the branch: {error}"))
        .hint("Whether the repository is whole: git fsck")
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Failed, "git gave an answer that is not understood, or stopped")
        .hint("Whether the repository is whole: git fsck")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_cut_at_its_delimiter_and_a_long_one_is_skipped() {
        let mut text = BufReader::with_capacity(3, "one\ntwo and more\n\nlast".as_bytes());
        let mut found = Vec::new();
        let mut bytes = Vec::new();
        loop {
            match record(&mut text, b'\n', 5, &mut bytes).unwrap() {
                Record::End => break,
                Record::TooLong => found.push("…".to_owned()),
                Record::Whole => found.push(String::from_utf8_lossy(&bytes).into_owned()),
            }
        }
        assert_eq!(found, ["one", "…", "", "last"]);
    }

    #[test]
    fn an_entry_of_a_tree_is_read_with_any_path() {
        let entry = read_entry("100644 blob 0123\tmessages/a\tb \n.jsonl").unwrap();
        assert_eq!((entry.mode.as_str(), entry.object.as_str()), ("100644", "0123"));
        assert_eq!(entry.path, "messages/a\tb \n.jsonl");
        assert!(read_entry("100644 blob").is_none() && read_entry("100644 blob 0123 x\tp").is_none());
    }
}
