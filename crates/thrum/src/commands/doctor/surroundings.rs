//! The daemon's surroundings: the tailnet, peers and whether they can dial it, settings, identity, the disk.

use std::fs;

use serde_json::json;
use thrum_core::{Error, limits, name::printable};
use thrum_daemon::{
    config::Config,
    env::{Environment, Settings},
    lock,
    paths::Repo,
};

use super::{
    Check,
    Verdict::{Ok as Fine, Problem, Skipped, Warning},
    process::Daemon,
    store,
};
use crate::{
    answers::{self, GitStatus, Peer},
    context::Context,
    identity,
    text::{count, quote},
    time, variables,
};

/// Less free space than this, in bytes, is a warning.
const LITTLE_ROOM: u64 = 500 << 20;

/// Less free space than this, in bytes, is a problem, because a large message or a checkpoint may not fit.
const NO_ROOM: u64 = 20 << 20;

pub(super) fn checks(cx: &Context, repo: &Repo, mut daemon: Daemon) -> Vec<Check> {
    vec![
        tailnet(&daemon),
        listening(repo, &daemon),
        peers(&mut daemon),
        git(&mut daemon),
        environment(repo),
        identity(cx, repo),
        disk(repo),
    ]
}

/// Checks whether the daemon's connection to the tailnet is up, if it is enabled.
fn tailnet(daemon: &Daemon) -> Check {
    let tailnet = match daemon {
        Daemon::Answers(_, health) => &health.tailnet,
        Daemon::NotRunning => return Check::new("tailnet", Skipped, "only a running daemon knows"),
        Daemon::Silent(_) => return Check::new("tailnet", Skipped, "the daemon does not answer"),
    };
    if !tailnet.enabled {
        let text = match tailnet.why.starts_with("daemon.local_only") {
            true => format!("off; {}", tailnet.why),
            false => "off; THRUM_TS_ENABLED or tailnet.enabled switches it on".to_owned(),
        };
        return Check::new("tailnet", Fine, text);
    }
    let said = std::iter::once(tailnet.sentence())
        .chain(tailnet.warnings.iter().map(|warning| format!("Tailscale says: {warning}")));
    let evidence = said.collect::<Vec<_>>().join("; ");
    let verdict = match tailnet.state.as_str() {
        _ if tailnet.is_up() && tailnet.warnings.is_empty() => Fine,
        "starting" | "running" => Warning,
        _ => Problem,
    };
    Check { fix: tailnet.hint.clone(), ..Check::new("tailnet", verdict, evidence) }
}

/// Checks whether peers can dial this daemon.
fn listening(repo: &Repo, daemon: &Daemon) -> Check {
    match daemon {
        Daemon::Answers(..) if has_other_network(repo) => {
            let text = "the daemon has another network than this command, as where it was started in a sandbox: peers may not reach it";
            Check::new("listening", Warning, text).fix("thrum daemon restart, outside the sandbox")
        }
        Daemon::Answers(_, health) => match &health.not_listening {
            None => Check::new("listening", Fine, "nothing keeps peers from dialling this daemon"),
            Some(why) => Check { fix: why.hint.clone(), ..Check::new("listening", Problem, printable(&why.message)) },
        },
        Daemon::NotRunning => Check::new("listening", Skipped, "only a running daemon knows"),
        Daemon::Silent(_) => Check::new("listening", Skipped, "the daemon does not answer"),
    }
}

/// Returns `true` if the daemon runs in another network namespace; `false` if the system does not report it.
fn has_other_network(repo: &Repo) -> bool {
    let of = |process: String| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let daemon = lock::holder(repo).and_then(|pid| of(pid.as_raw_nonzero().to_string()));
    daemon.is_some_and(|daemon| of("self".to_owned()).is_some_and(|own| own != daemon))
}

fn peers(daemon: &mut Daemon) -> Check {
    let client = match daemon {
        Daemon::Answers(client, _) => client,
        Daemon::NotRunning => return Check::new("peers", Skipped, "only a running daemon knows"),
        Daemon::Silent(_) => return Check::new("peers", Skipped, "the daemon does not answer"),
    };
    let peers: Vec<Peer> = match client.call("peer.status", json!({})) {
        Ok(peers) => peers,
        Err(error) => return Check::new("peers", Problem, error.message),
    };
    if peers.is_empty() {
        return Check::new("peers", Fine, "there are none");
    }
    let removed = peers.iter().find(|peer| peer.state == "removed_us");
    let over =
        peers.iter().find_map(|peer| Some((printable(&peer.name), answers::over_quota(peer.exchange.over_quota?).1)));
    let faults: Vec<String> = peers.iter().filter_map(wrong).collect();
    match (removed, faults.is_empty()) {
        (_, true) => Check::new("peers", Fine, format!("{}, all reachable", count(peers.len() as u64, "peer"))),
        (Some(gone), false) => {
            Check::new("peers", Problem, faults.join("; ")).fix(format!("thrum peer remove {}", quote(&gone.name)))
        }
        (None, false) if let Some((name, key)) = over => {
            let fix = format!("thrum config set {key} NUMBER, or thrum peer remove {name} --forget");
            Check::new("peers", Warning, faults.join("; ")).fix(fix)
        }
        (None, false) => Check::new("peers", Warning, faults.join("; ")).fix("thrum peer status"),
    }
}

/// Checks sync through a git remote: that it works, that every daemon there can be read, and that nobody waits.
fn git(daemon: &mut Daemon) -> Check {
    let client = match daemon {
        Daemon::Answers(client, _) => client,
        Daemon::NotRunning => return Check::new("git", Skipped, "only a running daemon knows"),
        Daemon::Silent(_) => return Check::new("git", Skipped, "the daemon does not answer"),
    };
    let status: GitStatus = match client.call("git.status", json!({})) {
        Ok(status) => status,
        Err(error) => return Check::new("git", Problem, error.message),
    };
    let left: Vec<String> =
        status.left_behind.iter().map(|left| format!("{} is still published", printable(&left.reference))).collect();
    let Some(remote) = &status.remote else {
        return match (&status.last_error, left.is_empty()) {
            (Some(error), _) => Check::new("git", Problem, printable(error)).fix("thrum sync git on"),
            (None, true) => Check::new("git", Fine, "sync through a git remote is off"),
            (None, false) => Check::new("git", Warning, left.join("; ")).fix("thrum sync git status"),
        };
    };
    if let Some(error) = &status.last_error {
        let text = format!("exchanges through {} fail: {}", quote(remote), printable(error));
        return Check::new("git", Problem, text).fix("docs/git-sync.md lists what helps; then thrum sync force");
    }
    let unusable = status
        .daemons
        .iter()
        .filter_map(|one| Some(format!("{}: {}", quote(&one.name), printable(one.reason.as_deref()?))));
    let waiting = status.waiting.iter().map(|one| format!("{} wants in", quote(&one.name)));
    let faults: Vec<String> = unusable.chain(waiting).chain(left).collect();
    if faults.is_empty() {
        let others = count(status.daemons.len() as u64, "other daemon");
        return Check::new("git", Fine, format!("events are exchanged through {}, with {others}", quote(remote)));
    }
    Check::new("git", Warning, faults.join("; ")).fix("thrum sync git status")
}

/// Describes the problems of a peer in a sentence; `None` if there are none.
fn wrong(peer: &Peer) -> Option<String> {
    let mut faults = Vec::new();
    match peer.state.as_str() {
        "removed_us" => faults.push("has removed this daemon".to_owned()),
        "unreachable" => {
            let why =
                peer.exchange.last_error.as_deref().map(|error| format!(" ({})", printable(error))).unwrap_or_default();
            faults.push(format!("does not answer{why}"));
        }
        "stopped" => faults.push("is stopped there".to_owned()),
        "over_quota" => {
            let what = peer.exchange.over_quota.map(|over| answers::over_quota(over).0).unwrap_or_default();
            faults.push(format!("is over its quota and read no further ({what})"));
        }
        _ => {}
    }
    if peer.details.asked_over_its_connection {
        faults.push(format!(
            "cannot be dialled at {} and is asked over a connection that it opened",
            printable(&peer.address)
        ));
    }
    if peer.details.asks_over_our_connection {
        faults.push("cannot dial this daemon and asks over a connection that was opened from here".to_owned());
    }
    if let Some(offset) = peer.exchange.clock_offset_ms
        && u128::from(offset.unsigned_abs()) > limits::CLOCK_OFF.as_millis()
    {
        let far = time::brief(std::time::Duration::from_millis(offset.unsigned_abs()));
        faults.push(format!("has a clock that is {far} {}", if offset > 0 { "ahead" } else { "behind" }));
    }
    if peer.details.rejected > 0 {
        let last = peer
            .details
            .last_rejected
            .as_ref()
            .map(|last| format!(" (last: {})", printable(&last.reason)))
            .unwrap_or_default();
        faults.push(format!("served {} that were rejected{last}", count(peer.details.rejected, "event")));
    }
    if !peer.details.notes.is_empty() {
        let notes: Vec<String> = peer.details.notes.iter().map(|note| printable(note)).collect();
        faults.push(format!("({})", notes.join("; ")));
    }
    (!faults.is_empty()).then(|| format!("{} {}", quote(&peer.name), faults.join(", ")))
}

/// Checks the variables of this shell and of the two `.env` files, and `config.json`, as the daemon would read them.
fn environment(repo: &Repo) -> Check {
    let environment = Environment::load(repo, std::env::vars_os());
    let (_, wrong) = Settings::read(&environment);
    let config = Config::load(repo, &environment);
    let found: Vec<&Error> = config.warnings.iter().chain(environment.warnings()).chain(&wrong).collect();
    let mut faults: Vec<String> = found.iter().map(ToString::to_string).collect();
    let unknown = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = unknown.filter(|name| name.starts_with("THRUM_") && !variables::is_known(name));
    faults.extend(unknown.map(|name| format!("{} means nothing here", printable(&name))));
    if faults.is_empty() {
        Check::new("environment", Fine, "all settings can be read")
    } else {
        let fix = found.iter().find_map(|error| error.hint.clone());
        Check { fix, ..Check::new("environment", Warning, faults.join("; ")) }
    }
}

/// Checks the identity that commands in this worktree act with.
fn identity(cx: &Context, repo: &Repo) -> Check {
    let here = match identity::candidates(&repo.identities()) {
        Ok(names) => names,
        Err(error) => return Check::new("identity", Problem, error.message),
    };
    if let Some(error) = here.iter().find_map(|name| identity::read(&repo.identities(), name).err()) {
        let check = Check::new("identity", Problem, error.message);
        return Check { fix: error.hint, ..check };
    }
    let given = match cx.given_name() {
        Ok(given) => given,
        Err(error) => return Check { fix: error.hint, ..Check::new("identity", Problem, error.message) },
    };
    match (given, here.as_slice()) {
        (Some(name), here) if !here.iter().any(|known| known == name.trim_start_matches('@')) => {
            let text = format!(
                "THRUM_NAME or --as names @{}, which has no identity in this worktree",
                thrum_core::name::shown(&name)
            );
            Check::new("identity", Warning, text).fix("unset THRUM_NAME")
        }
        (Some(name), _) => {
            Check::new("identity", Fine, format!("@{}, from THRUM_NAME or --as", thrum_core::name::shown(&name)))
        }
        (None, [only]) => Check::new("identity", Fine, format!("@{only}, the only one of this worktree")),
        (None, []) => Check::new("identity", Fine, "no agent is registered in this worktree"),
        (None, several) => {
            let text = format!("{} share this worktree, so each has to give its name", several.join(", "));
            Check::new("identity", Warning, text).fix(format!("export THRUM_NAME={}", several[0]))
        }
    }
}

fn disk(repo: &Repo) -> Check {
    // Before the first start `var` does not exist; it will be on the same file system.
    let free = store::free(&repo.var()).or_else(|| store::free(repo.thrum_dir()));
    let Some(free) = free else { return Check::new("disk", Skipped, "the file system does not say what is free") };
    let evidence = format!("{} MB are free", free >> 20);
    let verdict = if free < NO_ROOM {
        Problem
    } else if free < LITTLE_ROOM {
        Warning
    } else {
        Fine
    };
    let check = Check::new("disk", verdict, evidence);
    if verdict == Fine { check } else { check.fix("thrum purge --before 30d") }
}
