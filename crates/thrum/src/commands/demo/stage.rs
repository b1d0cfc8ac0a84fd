//! Repositories in a temporary directory, with daemons of their own and nothing of the user's surroundings: HOME, git's
//! settings and THRUM_ variables stay outside.
//!
//! They must be gone afterwards, however it ends: success, failure, Ctrl-C, `kill -9`. No handler in this process could
//! promise the last, so another process does it: the [janitor], which waits until its standard input ends.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

use anstream::ColorChoice;
use thrum_core::{ErrorKind, Fault};
use thrum_daemon::paths::Repo;

use crate::{client::Client, client::cannot_connect, commands::demo::janitor};

/// The temporary directory, while it is there.
pub(crate) struct Stage {
    dir: PathBuf,
    /// The process group of all commands, so that none outlives the stage.
    group: i32,
    janitor: Child,
    janitor_hears: Option<ChildStdin>,
}

/// One repository of a stage.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) name: &'static str,
    pub(crate) dir: PathBuf,
    home: PathBuf,
    group: i32,
}

impl Stage {
    /// Makes the directory, named after `what`.
    pub(crate) fn open(what: &str) -> Result<Self, Fault> {
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

    /// Makes a git repository `name`. Without git it is a plain directory, which will do.
    pub(crate) fn repository(&self, name: &'static str) -> Result<Place, Fault> {
        let place = Place { name, dir: self.dir.join(name), home: self.dir.join("home"), group: self.group };
        fs::create_dir_all(&place.dir).and_then(|()| fs::create_dir_all(&place.home)).map_err(failed("make a repository"))?;
        let _ = place.environment(&mut Command::new("git")).args(["init", "--quiet"]).current_dir(&place.dir).output();
        Ok(place)
    }

    /// The temporary directory.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Leaves everything as it is, with the daemons running, and says where.
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

impl Place {
    /// This program with `args` in this repository.
    pub(crate) fn command(&self, args: &[&str]) -> Result<Command, Fault> {
        let mut command = Command::new(env::current_exe().map_err(failed("find this program"))?);
        self.environment(&mut command).args(args).current_dir(&self.dir).stdin(Stdio::null()).process_group(self.group);
        Ok(command)
    }

    /// Runs this program with `args` in this repository, and fails if it fails.
    pub(crate) fn run(&self, args: &[&str]) -> Result<Output, Fault> {
        let output = self.command(args)?.output().map_err(failed("run thrum"))?;
        succeeded(args, output)
    }

    /// A connection to the daemon of this repository.
    pub(crate) fn client(&self) -> Result<Client, Fault> {
        let socket = self.repo()?.socket();
        Client::connect(&socket).map_err(|error| cannot_connect(&socket, &error))
    }

    pub(crate) fn repo(&self) -> Result<Repo, Fault> {
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
            // Both daemons run on one machine; this is what tells them apart to people.
            .env("THRUM_TS_HOSTNAME", self.name);
        if anstream::AutoStream::choice(&io::stdout()) != ColorChoice::Never {
            command.env("CLICOLOR_FORCE", "1");
        }
        command
    }
}

/// The output of a child that ended well; else what it said.
pub(crate) fn succeeded(args: &[&str], output: Output) -> Result<Output, Fault> {
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Fault::new(ErrorKind::Failed, format!("`thrum {}` ended with {}: {}", args.join(" "), output.status, said.trim())))
}

/// Turns an I/O error into a fault that says what could not be done.
pub(crate) fn failed(what: &str) -> impl Fn(io::Error) -> Fault {
    move |error| Fault::new(ErrorKind::Failed, format!("cannot {what}: {error}"))
}

/// The repositories below a stage's directory.
pub(crate) fn repositories(dir: &Path) -> Vec<Repo> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| Repo::discover(&entry.path()).ok().filter(|repo| repo.root() == entry.path())).collect()
}
