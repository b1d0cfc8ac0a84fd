//! Repositories in a temporary directory, each with its own daemon, isolated from the user's environment: HOME, git's
//! settings and THRUM_ variables.
//!
//! Daemons and directory must be gone afterwards, however the program ends: success, failure, Ctrl-C, `kill -9`. No
//! handler in this process can cover the last, so another process cleans up: the [janitor], which waits until its
//! standard input ends.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

use anstream::ColorChoice;
use thrum_core::{Error, ErrorKind};
use thrum_daemon::paths::Repo;

use crate::{
    client::Client,
    client::cannot_connect,
    commands::demo::{failed, janitor},
    render,
};

/// Indentation of the output of a command of the demo.
pub(crate) const INDENT: &str = "    ";

/// The temporary directory, which the janitor removes on drop, unless it is [kept](Stage::keep).
pub(crate) struct Stage {
    dir: PathBuf,
    /// The process group of all commands, so that no command outlives the stage.
    group: i32,
    janitor: Child,
    janitor_hears: Option<ChildStdin>,
}

/// One repository of a stage.
#[derive(Clone, Debug)]
pub(crate) struct StagedRepo {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    /// The build of thrum that is used here.
    program: PathBuf,
    home: PathBuf,
    group: i32,
}

impl Stage {
    /// Makes the directory, with `what` in its name, and starts its janitor.
    pub(crate) fn open(what: &str) -> Result<Self, Error> {
        let make = || -> io::Result<Self> {
            let dir = tempfile::Builder::new().prefix(&format!("thrum-{what}-")).tempdir()?;
            fs::write(dir.path().join(janitor::MARKER), "made by thrum, removed by thrum\n")?;
            let mut janitor = Command::new(env::current_exe()?)
                .arg("janitor")
                .arg(dir.path())
                .env_remove("THRUM_HOME")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()?;
            let janitor_hears = janitor.stdin.take();
            let mut group = String::new();
            if let Some(says) = janitor.stdout.take() {
                BufReader::new(says).read_line(&mut group)?;
            }
            let group = group.trim().parse().map_err(|_| io::Error::other("the janitor did not start"))?;
            Ok(Self { dir: dir.keep(), group, janitor, janitor_hears })
        };
        make().map_err(failed("make a temporary directory"))
    }

    /// Makes a git repository `name`. Without git it is a plain directory, which is sufficient.
    pub(crate) fn repository(&self, name: &'static str) -> Result<StagedRepo, Error> {
        self.repository_with(name, &this_program()?)
    }

    /// Makes a git repository `name` in which another build of thrum is used.
    pub(crate) fn repository_with(&self, name: &'static str, program: &Path) -> Result<StagedRepo, Error> {
        let (dir, home) = (self.dir.join(name), self.dir.join("home"));
        let place = StagedRepo { name, dir, home, program: program.to_owned(), group: self.group };
        fs::create_dir_all(&place.dir)
            .and_then(|()| fs::create_dir_all(&place.home))
            .map_err(failed("make a repository"))?;
        let _ = place.environment(&mut Command::new("git")).args(["init", "--quiet"]).current_dir(&place.dir).output();
        Ok(place)
    }

    /// The temporary directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Leaves everything in place, with the daemons running, and returns the directory.
    pub(crate) fn keep(mut self) -> PathBuf {
        if let Some(mut hears) = self.janitor_hears.take() {
            let _ = hears.write_all(janitor::KEEP);
        }
        self.dir.clone()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.janitor_hears = None;
        let _ = self.janitor.wait();
    }
}

impl StagedRepo {
    /// Returns a command that runs the program with `args` in this repository.
    pub(crate) fn command(&self, args: &[&str]) -> Result<Command, Error> {
        let mut command = Command::new(&self.program);
        self.environment(&mut command).args(args).current_dir(&self.dir).stdin(Stdio::null()).process_group(self.group);
        Ok(command)
    }

    /// Runs the program with `args` in this repository. Fails if the program fails.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Output, Error> {
        let output = self.command(args)?.output().map_err(failed("run thrum"))?;
        succeeded("thrum", args, output)
    }

    /// Runs git with `args` in this repository. Fails if git fails.
    pub(crate) fn git(&self, args: &[&str]) -> Result<(), Error> {
        let mut command = Command::new("git");
        self.environment(&mut command).args(args).current_dir(&self.dir).stdin(Stdio::null());
        succeeded("git", args, command.output().map_err(failed("run git"))?).map(drop)
    }

    /// A connection to the daemon of this repository.
    pub(crate) fn client(&self) -> Result<Client, Error> {
        let socket = self.repo()?.socket();
        Client::connect(&socket).map_err(|error| cannot_connect(&socket, &error))
    }

    pub(crate) fn repo(&self) -> Result<Repo, Error> {
        Repo::discover(&self.dir)
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env_clear();
        for name in ["PATH", "TERM", "LANG", "LC_ALL", "TZ", "TMPDIR", "NO_COLOR"] {
            if let Some(value) = env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("HOME", &self.home)
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            // All daemons of the stage run on one machine, so give each a name of its own.
            .env("THRUM_TS_HOSTNAME", self.name);
        if anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never {
            command.env("CLICOLOR_FORCE", "1");
            // The output of commands is shown indented.
            let columns = render::columns(&io::stdout()).unwrap_or(80).saturating_sub(INDENT.len());
            command.env("COLUMNS", columns.to_string());
        }
        command
    }
}

/// The path of the program that is running.
pub(crate) fn this_program() -> Result<PathBuf, Error> {
    env::current_exe().map_err(failed("find this program"))
}

/// Returns the output of a run of `program` that succeeded; otherwise an error with the child's standard error.
pub(crate) fn succeeded(program: &str, args: &[&str], output: Output) -> Result<Output, Error> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(
        ErrorKind::Failed,
        format!("`{program} {}` ended with {}: {}", args.join(" "), output.status, said.trim()),
    ))
}
