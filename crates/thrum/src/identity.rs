//! Who am I: one place decides.
//!
//! The wrong sender is what users of mailboxes for agents complain about most, so there is no guessing: `--as`, else
//! `THRUM_NAME`, else the only identity of this worktree, else an error that lists the candidates. Identities are files
//! in the worktree's own `.thrum/identities`, in Go Thrum's version 3, so that both programs can share a worktree.
//!
//! What was said for another place does not count here. A variable outlives the directory it was set for, so it is refused
//! where this worktree's agents are others (Go Thrum v0.6.3 sends in the variable's name; v0.10.3 lets the worktree win).
//! A file that was copied from a worktree which still has it is refused, too: two agents would be one.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thrum_core::{ErrorKind, Fault, limits, name};
use thrum_daemon::{paths::Repo, sandbox};

/// An agent's identity file. Keys we do not know are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdentityFile {
    #[serde(default)]
    pub(crate) version: u32,
    #[serde(default)]
    pub(crate) repo_id: String,
    pub(crate) agent: AgentPart,
    #[serde(default)]
    pub(crate) worktree: String,
    /// Where the worktree is, to tell a copy from the original. Ours; Go keeps only the last part.
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

/// Go writes these keys with capitals and reads them in either case; so do we.
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

/// The version of the files that we write.
const VERSION: u32 = 3;

/// Who a command acts for.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The agent's name, which is its id.
    pub(crate) name: String,
    /// What decided: `flag`, `environment` or `file`.
    pub(crate) source: &'static str,
    /// Its file in this worktree, if it has one.
    pub(crate) file: Option<(PathBuf, IdentityFile)>,
}

impl Identity {
    /// Its role, as far as this worktree knows it.
    pub(crate) fn role(&self) -> Option<&str> {
        self.file.as_ref().map(|(_, file)| file.agent.role.as_str()).filter(|role| !role.is_empty())
    }
}

/// Decides who a command acts for: `flag` (`--as`), else `env` (`THRUM_NAME`), else the only identity in `dir`.
///
/// # Errors
/// `invalid` if the name given cannot be one, if the variable names none of the several agents of `dir`, if none is given and
/// `dir` holds several, or if a file cannot be read as an identity; `refused` for a copied one; `not_found` if none is given
/// and `dir` holds none.
pub(crate) fn resolve(flag: Option<&str>, env: Option<&str>, dir: &Path) -> Result<Identity, Fault> {
    if let Some(name) = flag {
        return named(name, dir);
    }
    let mut names = candidates(dir)?;
    if let Some(name) = env {
        let who = named(name, dir).map_err(|fault| match fault.hint {
            Some(_) => fault,
            None => fault.hint("The name comes from the variable THRUM_NAME."),
        })?;
        if who.file.is_none() && !names.is_empty() {
            return Err(Fault::new(
                ErrorKind::Invalid,
                format!("the variable THRUM_NAME says {}, who has no identity in this worktree; it has: {}", who.name, names.join(", ")),
            )
            .hint(format!("unset THRUM_NAME, or say whom you mean: --as {}", names[0])));
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
        0 => Err(Fault::new(ErrorKind::NotFound, "no agent is registered in this worktree")
            .hint("thrum quickstart --name NAME --role ROLE --module MODULE")),
        _ => Err(Fault::new(ErrorKind::Invalid, format!("this worktree has several agents: {}", names.join(", ")))
            .hint(format!("Say which one you are: --as {}, or the variable THRUM_NAME.", names[0]))),
    }
}

/// The agent of this name, as far as `dir` knows it.
///
/// # Errors
/// `invalid` if the name cannot be one, or its file cannot be read as an identity.
pub(crate) fn named(name: &str, dir: &Path) -> Result<Identity, Fault> {
    let name = name.strip_prefix('@').unwrap_or(name);
    // Before it becomes part of a path.
    name::check_agent(name).map_err(|fault| {
        let lower = name.to_lowercase();
        let meant = candidates(dir).is_ok_and(|names| names.contains(&lower));
        if meant { fault.hint(format!("Did you mean {lower}? Names are lower case.")) } else { fault }
    })?;
    Ok(Identity { name: name.to_owned(), source: "flag", file: read(dir, name)? })
}

/// Refuses an identity that was copied from a worktree which still has it, if both share a daemon. One whose worktree was
/// moved is fine, and so is one in a copy of the whole repository: that has, or will have, a daemon of its own.
fn check_place(path: &Path, file: &IdentityFile) -> Result<(), Fault> {
    let (Some(written_for), Some(here)) = (file.worktree_path.as_deref().map(Path::new), path.ancestors().nth(3)) else { return Ok(()) };
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
    Err(Fault::new(ErrorKind::Refused, format!("{} was copied: {name} is at work in {}", path.display(), written_for.display()))
        .hint(format!("Remove the file and be another agent here (thrum quickstart --name …), or say --as {name} if you are {name}.")))
}

/// The names of the identities in `dir`, sorted. Files whose names cannot be agents' are passed over.
pub(crate) fn candidates(dir: &Path) -> Result<Vec<String>, Fault> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_fault("read", dir, &error)),
    };
    let mut names: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".json").map(str::to_owned))
        .filter(|name| name::check_agent(name).is_ok())
        .collect();
    names.sort();
    Ok(names)
}

/// Reads the identity `name`, which must have been checked. `None` if there is none.
pub(crate) fn read(dir: &Path, name: &str) -> Result<Option<(PathBuf, IdentityFile)>, Fault> {
    let path = dir.join(format!("{name}.json"));
    let text = match plain_text(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_fault("read", &path, &error)),
    };
    let unreadable = |why: String| {
        Fault::new(ErrorKind::Invalid, format!("{} is no identity: {why}", path.display()))
            .hint(format!("rm {} && thrum quickstart --name {name}", quoted(&path)))
    };
    let file: IdentityFile = serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
    // A copied file would make its owner speak in another's name.
    if !file.agent.name.is_empty() && file.agent.name != name {
        return Err(unreadable(format!("it names another agent, '{}'", file.agent.name)));
    }
    Ok(Some((path, file)))
}

/// The text of a file that is one, and no longer than an identity may be. A link may lead to what is not the repository's.
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

/// Writes the identity of `file.agent.name`: beside its place, then renamed, so that nobody reads half a file.
pub(crate) fn write(dir: &Path, mut file: IdentityFile) -> Result<PathBuf, Fault> {
    name::check_agent(&file.agent.name)?;
    file.version = VERSION;
    let path = dir.join(format!("{}.json", file.agent.name));
    let beside = dir.join(format!(".{}.{}", file.agent.name, std::process::id()));
    let replace = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        if fs::symlink_metadata(dir)?.is_symlink() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is a symbolic link", dir.display())));
        }
        // What a crash left here may be a link by now.
        let _ = fs::remove_file(&beside);
        let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        serde_json::to_writer_pretty(&out, &file)?;
        out.write_all(b"\n")?;
        out.sync_all()?;
        fs::rename(&beside, &path)
    };
    replace().map_err(|error| {
        let _ = fs::remove_file(&beside);
        io_fault("write", &path, &error)
    })?;
    Ok(path)
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

fn io_fault(what: &str, path: &Path, error: &io::Error) -> Fault {
    let fault = Fault::new(ErrorKind::Failed, format!("cannot {what} {}: {error}", path.display()));
    sandbox::hint(error).map_or(fault.clone(), |hint| fault.hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> IdentityFile {
        let agent = AgentPart { kind: "agent".into(), name: name.into(), role: "implementer".into(), ..AgentPart::default() };
        IdentityFile { agent, ..IdentityFile::default() }
    }

    #[test]
    fn the_flag_beats_the_environment_beats_the_only_identity() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), file("only")).unwrap();
        let who = |flag, env| resolve(flag, env, dir.path()).map(|who| (who.name, who.source)).unwrap();
        assert_eq!(who(None, None), ("only".into(), "file"));
        write(dir.path(), file("env")).unwrap();
        assert_eq!(who(Some("@flag"), Some("env")), ("flag".into(), "flag"));
        assert_eq!(who(None, Some("env")), ("env".into(), "environment"));
    }

    #[test]
    fn a_variable_that_was_set_for_another_place_does_not_decide_here() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(resolve(None, Some("far"), dir.path()).unwrap().name, "far", "where nobody lives, there is nobody to mistake");
        write(dir.path(), file("only")).unwrap();
        let fault = resolve(None, Some("far"), dir.path()).unwrap_err();
        assert_eq!(fault.kind, ErrorKind::Invalid);
        assert!(fault.message.contains("far") && fault.message.contains("only"), "{fault}");
        assert_eq!(resolve(Some("far"), Some("far"), dir.path()).unwrap().source, "flag", "what is said now counts");
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
        write(&at("one"), IdentityFile { worktree_path: Some(top.join("one").display().to_string()), ..file("ann") }).unwrap();
        assert_eq!(resolve(None, None, &at("one")).unwrap().name, "ann");
        for copy in ["two", "three"] {
            fs::copy(at("one").join("ann.json"), at(copy).join("ann.json")).unwrap();
        }
        assert_eq!(resolve(None, None, &at("two")).unwrap_err().kind, ErrorKind::Refused);
        assert_eq!(resolve(None, None, &at("three")).unwrap().name, "ann", "another mailbox");
        fs::remove_file(at("one").join("ann.json")).unwrap();
        assert_eq!(resolve(None, None, &at("two")).unwrap().name, "ann", "moved: the only one there is");
    }

    #[test]
    fn of_several_identities_none_is_guessed() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(resolve(None, None, dir.path()).unwrap_err().kind, ErrorKind::NotFound);
        write(dir.path(), file("b")).unwrap();
        write(dir.path(), file("a")).unwrap();
        let fault = resolve(None, None, dir.path()).unwrap_err();
        assert_eq!((fault.kind, fault.message.as_str()), (ErrorKind::Invalid, "this worktree has several agents: a, b"));
        assert_eq!(resolve(Some("b"), None, dir.path()).unwrap().role(), Some("implementer"));
    }

    #[test]
    fn c35_a_name_becomes_part_of_a_path_only_after_it_was_checked() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("identities")).unwrap();
        write(dir.path(), file("secret")).unwrap();
        let long = "x".repeat(300);
        for name in ["../secret", "..", "a/b", "Upper", "", "everyone", "-rf\n", &long] {
            assert_eq!(resolve(Some(name), None, &dir.path().join("identities")).unwrap_err().kind, ErrorKind::Invalid, "{name}");
            assert!(write(dir.path(), file(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn go_thrums_files_are_read_in_either_case_and_unknown_keys_survive() {
        let dir = tempfile::tempdir().unwrap();
        for (name, role) in
            [("upper", r#""Kind":"agent","Name":"upper","Role":"r""#), ("lower", r#""kind":"agent","name":"lower","role":"r""#)]
        {
            let text =
                format!(r#"{{"version":3,"repo_id":"r_1","agent":{{{role}}},"worktree":"w","listener":{{"a":1}},"updated_at":"x"}}"#);
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
        assert!(resolve(None, None, dir.path()).unwrap_err().message.contains("another agent, 'alice'"));
    }
}
