//! Determines the agent that a command acts for. A hook without `--as` uses these rules only until an agent is recorded
//! for its session.
//!
//! Users of agent mailboxes complain most about a wrong sender, so there is no guessing. The sources are, in this
//! order: `--as`, the agent of the program's session that runs this command (`hook::Caller`), `THRUM_NAME`, the only
//! identity of this worktree. If there are several identities instead, the error lists them. Identities are files in
//! the worktree's own `.thrum/identities`, in version 3 of Go Thrum's format, so that both programs can share a
//! worktree.
//!
//! A name that was set for another worktree does not count here. A variable outlives the directory it was set for, so
//! it is refused if this worktree has agents and the variable names none of them (Go Thrum v0.6.3 sends in the
//! variable's name; v0.10.3 lets the worktree win). The only identity is refused if its file was copied from a worktree
//! of the same daemon that still has it: two agents would share one identity.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_core::{Error, ErrorKind, limits, name};
use thrum_daemon::{paths::Repo, sandbox};

use crate::new_file;

/// An agent's identity file. Unknown keys are preserved, except within `agent`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdentityFile {
    #[serde(default)]
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) repo_id: String,
    pub(crate) agent: AgentPart,
    #[serde(default)]
    pub(crate) worktree: String,
    /// The worktree's path, which distinguishes a copied file from the original. This key is ours; Go Thrum keeps only
    /// the last part of the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worktree_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) intent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    #[serde(default)]
    pub(crate) updated_at: String,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// The agent in an identity file. Go Thrum writes these keys with capitals and reads them in either case; so do we.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AgentPart {
    #[serde(default, alias = "kind")]
    pub(crate) kind: String,
    #[serde(default, alias = "name")]
    pub(crate) name: String,
    #[serde(default, alias = "role")]
    pub(crate) role: String,
    #[serde(default, alias = "module")]
    pub(crate) module: String,
    #[serde(default, alias = "display")]
    pub(crate) display: String,
}

/// The version of the identity files that we write.
const VERSION: u32 = 3;

/// The agent that a command acts for.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The agent's name, which is its id.
    pub(crate) name: String,
    /// What decided: `flag`, `session`, `environment` or `file`.
    pub(crate) source: &'static str,
    /// The agent's identity file in this worktree, if it has one.
    pub(crate) file: Option<(PathBuf, IdentityFile)>,
}

impl Identity {
    /// The agent's role, if this worktree knows it.
    pub(crate) fn role(&self) -> Option<&str> {
        self.file.as_ref().map(|(_, file)| file.agent.role.as_str()).filter(|role| !role.is_empty())
    }
}

/// Decides which agent a command acts for: `flag` (`--as`), else `session`, else `env` (`THRUM_NAME`), else the only
/// identity in `dir`.
///
/// # Errors
/// `invalid` if the given name is not a valid name, if `dir` has agents and the variable names none of them, if no name
/// is given and `dir` has several agents, or if a file is not a valid identity; `refused` for a copied identity;
/// `not_found` if no name is given and `dir` has no agent; `failed` if `dir` or a file cannot be read.
pub(crate) fn resolve(
    flag: Option<&str>,
    session: Option<&str>,
    env: Option<&str>,
    dir: &Path,
) -> Result<Identity, Error> {
    if let Some(name) = flag {
        return by_name(name, dir);
    }
    if let Some(name) = session {
        return Ok(Identity { source: "session", ..by_name(name, dir)? });
    }
    let mut names = candidates(dir)?;
    if let Some(name) = env {
        let who = by_name(name, dir).map_err(|error| match error.hint {
            Some(_) => error,
            None => error.hint("The name comes from the variable THRUM_NAME."),
        })?;
        if who.file.is_none() && !names.is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "the variable THRUM_NAME names {}, which has no identity in this worktree; it has: {}",
                    who.name,
                    names.join(", ")
                ),
            )
            .hint(format!("unset THRUM_NAME, or name the agent you mean: --as {}", names[0])));
        }
        return Ok(Identity { source: "environment", ..who });
    }
    match names.len() {
        1 => {
            let name = names.remove(0);
            let file = read(dir, &name)?;
            if let Some((path, file)) = &file {
                check_place(path, file)?;
            }
            Ok(Identity { name, source: "file", file })
        }
        0 => Err(Error::new(ErrorKind::NotFound, "no agent is registered in this worktree")
            .hint("thrum quickstart --name NAME --role ROLE --module MODULE")),
        _ => Err(Error::new(ErrorKind::Invalid, format!("this worktree has several agents: {}", names.join(", ")))
            .hint(format!("Say which one you are: --as {}, or the variable THRUM_NAME.", names[0]))),
    }
}

/// Returns the agent of this name, with its identity file in `dir` if there is one.
///
/// # Errors
/// `invalid` if the name is not a valid name, or if its file is not a valid identity; `failed` if the file cannot be
/// read.
pub(crate) fn by_name(name: &str, dir: &Path) -> Result<Identity, Error> {
    let name = name.strip_prefix('@').unwrap_or(name);
    // Check the name before it becomes part of a path.
    name::check_agent(name).map_err(|error| {
        let lower = name.to_lowercase();
        let meant = candidates(dir).is_ok_and(|names| names.contains(&lower));
        if meant { error.hint(format!("Did you mean {lower}? Names are lower case.")) } else { error }
    })?;
    Ok(Identity { name: name.to_owned(), source: "flag", file: read(dir, name)? })
}

/// Rejects an identity that was copied from a worktree which still has it, if both worktrees share a daemon. The
/// identity of a moved worktree is valid, and so is one in a copy of the whole repository, which has its own daemon or
/// will get one.
fn check_place(path: &Path, file: &IdentityFile) -> Result<(), Error> {
    let (Some(written_for), Some(here)) = (file.worktree_path.as_deref().map(Path::new), path.ancestors().nth(3))
    else {
        return Ok(());
    };
    let original = written_for.join(".thrum/identities").join(path.file_name().unwrap_or_default());
    if here == written_for || !original.exists() {
        return Ok(());
    }
    let shared = match (Repo::discover(here), Repo::discover(written_for)) {
        (Ok(here), Ok(there)) => here.root() != there.root() && here.thrum_dir() == there.thrum_dir(),
        _ => false,
    };
    if !shared {
        return Ok(());
    }
    let name = &file.agent.name;
    Err(Error::new(
        ErrorKind::Refused,
        format!("{} was copied: {name} is at work in {}", path.display(), written_for.display()),
    )
    .hint(format!(
        "Remove the file and be another agent here (thrum quickstart --name …), or say --as {name} if you are {name}."
    )))
}

/// The names of the identities in `dir`, sorted. Files whose names are not valid agent names are skipped.
pub(crate) fn candidates(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", dir, &error)),
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned))
        .filter(|name| name::check_agent(name).is_ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Reads the identity file of the agent `name`, which must be a valid name; `None` if there is no file.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Option<(PathBuf, IdentityFile)>, Error> {
    let path = dir.join(format!("{name}.json"));
    let text = match plain_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", &path, &error)),
    };
    let unreadable = |why: String| {
        Error::new(ErrorKind::Invalid, format!("{} is no identity: {why}", path.display()))
            .hint(format!("rm {} && thrum quickstart --name {name}", quoted(&path)))
    };
    let file: IdentityFile = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    // A file copied under another name would let this agent act as the one that the file names.
    if !file.agent.name.is_empty() && file.agent.name != name {
        return Err(unreadable(format!("it names another agent, '{}'", file.agent.name)));
    }
    Ok(Some((path, file)))
}

/// Reads a regular file no longer than an identity may be. Links are not followed: they may lead out of the repository.
fn plain_text(path: &Path) -> io::Result<String> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let refuse = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let about = file.metadata()?;
    if !about.is_file() {
        return refuse("it is no file");
    }
    if about.len() > limits::MAX_SMALL_FILE_BYTES {
        return refuse("it is too long for an identity");
    }
    let mut text = String::new();
    file.take(limits::MAX_SMALL_FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes the identity file of the agent `file.agent.name`.
pub(crate) fn write(dir: &Path, mut file: IdentityFile) -> Result<PathBuf, Error> {
    name::check_agent(&file.agent.name)?;
    file.version = VERSION;
    let path = dir.join(format!("{}.json", file.agent.name));
    let replace = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if fs::symlink_metadata(dir)?.is_symlink() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is a symbolic link", dir.display())));
        }
        new_file::replace(&path, 0o600, &format!("{}\n", serde_json::to_string_pretty(&file)?))
    };
    replace().map_err(|error| io_error("write", &path, &error))?;
    Ok(path)
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

fn io_error(what: &str, path: &Path, cause: &io::Error) -> Error {
    let error = Error::new(ErrorKind::Failed, format!("cannot {what} {}: {cause}", path.display()));
    sandbox::hint(cause).map_or(error.clone(), |hint| error.hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> IdentityFile {
        let agent =
            AgentPart { kind: "agent".into(), name: name.into(), role: "implementer".into(), ..AgentPart::default() };
        IdentityFile { agent, ..IdentityFile::default() }
    }

    #[test]
    fn the_flag_beats_the_environment_beats_the_only_identity() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), file("only")).unwrap();
        let who = |flag, env| resolve(flag, None, env, dir.path()).map(|who| (who.name, who.source)).unwrap();
        assert_eq!(who(None, None), ("only".into(), "file"));
        write(dir.path(), file("env")).unwrap();
        assert_eq!(who(Some("@flag"), Some("env")), ("flag".into(), "flag"));
        assert_eq!(who(None, Some("env")), ("env".into(), "environment"));
    }

    #[test]
    fn a_variable_that_was_set_for_another_place_does_not_decide_here() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            resolve(None, None, Some("far"), dir.path()).unwrap().name,
            "far",
            "where nobody lives, there is nobody to mistake"
        );
        write(dir.path(), file("only")).unwrap();
        let error = resolve(None, None, Some("far"), dir.path()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.message.contains("far") && error.message.contains("only"), "{error}");
        assert_eq!(
            resolve(Some("far"), None, Some("far"), dir.path()).unwrap().source,
            "flag",
            "what is said now counts"
        );
    }

    #[test]
    fn a_copied_identity_is_refused_and_a_moved_one_is_not() {
        let top = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(top.path()).unwrap();
        let at = |name: &str| top.join(name).join(".thrum/identities");
        for name in ["one", "two", "three"] {
            fs::create_dir(top.join(name)).unwrap();
        }
        let one = Repo::create(&top.join("one"), None).unwrap();
        Repo::create(&top.join("two"), Some(one.thrum_dir())).unwrap();
        Repo::create(&top.join("three"), None).unwrap();
        write(&at("one"), IdentityFile { worktree_path: Some(top.join("one").display().to_string()), ..file("ann") })
            .unwrap();
        assert_eq!(resolve(None, None, None, &at("one")).unwrap().name, "ann");
        for copy in ["two", "three"] {
            fs::copy(at("one").join("ann.json"), at(copy).join("ann.json")).unwrap();
        }
        assert_eq!(resolve(None, None, None, &at("two")).unwrap_err().kind, ErrorKind::Refused);
        assert_eq!(resolve(None, None, None, &at("three")).unwrap().name, "ann", "another mailbox");
        fs::remove_file(at("one").join("ann.json")).unwrap();
        assert_eq!(resolve(None, None, None, &at("two")).unwrap().name, "ann", "moved: the only one there is");
    }

    #[test]
    fn one_of_several_identities_is_never_guessed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(resolve(None, None, None, dir.path()).unwrap_err().kind, ErrorKind::NotFound);
        write(dir.path(), file("b")).unwrap();
        write(dir.path(), file("a")).unwrap();
        let error = resolve(None, None, None, dir.path()).unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::Invalid, "this worktree has several agents: a, b")
        );
        assert_eq!(resolve(Some("b"), None, None, dir.path()).unwrap().role(), Some("implementer"));
    }

    #[test]
    fn c35_a_name_becomes_part_of_a_path_only_after_it_was_checked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("identities")).unwrap();
        write(dir.path(), file("secret")).unwrap();
        let long = "x".repeat(300);
        for name in ["../secret", "..", "a/b", "Upper", "", "everyone", "-rf\n", &long] {
            assert_eq!(
                resolve(Some(name), None, None, &dir.path().join("identities")).unwrap_err().kind,
                ErrorKind::Invalid,
                "{name}"
            );
            assert!(write(dir.path(), file(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn go_thrums_files_are_read_in_either_case_and_unknown_keys_survive() {
        let dir = tempfile::tempdir().unwrap();
        for (name, role) in [
            ("upper", r#""Kind":"agent","Name":"upper","Role":"r""#),
            ("lower", r#""kind":"agent","name":"lower","role":"r""#),
        ] {
            let text = format!(
                r#"{{"version":3,"repo_id":"r_1","agent":{{{role}}},"worktree":"w","listener":{{"a":1}},"updated_at":"x"}}"#
            );
            fs::write(dir.path().join(format!("{name}.json")), text).unwrap();
            let (path, file) = read(dir.path(), name).unwrap().unwrap();
            assert_eq!((file.agent.name.as_str(), file.agent.role.as_str()), (name, "r"));
            write(dir.path(), file).unwrap();
            let written: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            assert_eq!((&written["agent"]["Role"], &written["listener"]["a"]), (&"r".into(), &1.into()));
        }
    }

    #[test]
    fn a_file_that_names_another_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), file("alice")).unwrap();
        fs::rename(path, dir.path().join("bob.json")).unwrap();
        assert!(resolve(None, None, None, dir.path()).unwrap_err().message.contains("another agent, 'alice'"));
    }
}
