//! Sync through a git remote, with real remotes.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    common::{TestRepo, contents, free_port, message_id, pair},
    mcp::{Client, text},
};

/// Creates an empty bare repository beside a repository.
fn bare(beside: &TestRepo) -> PathBuf {
    let remote = beside.above().join("remote.git");
    beside.git_done(&["init", "--quiet", "--bare", &remote.to_string_lossy()]);
    remote
}

/// Two repositories with the agents `ann` and `bob`, and the same remote, without any tailnet or port.
pub(crate) fn two_clones() -> (TestRepo, TestRepo, PathBuf) {
    let (left, right) = (TestRepo::with_agent_and_port("left", "ann"), TestRepo::with_agent_and_port("right", "bob"));
    let remote = bare(&left);
    for repo in [&left, &right] {
        repo.git_done(&["remote", "add", "origin", &remote.to_string_lossy()]);
    }
    (left, right, remote)
}

/// Switches sync through git on in both, and lets each trust the other.
pub(crate) fn share(left: &TestRepo, right: &TestRepo, options: &[&str]) {
    for repo in [left, right] {
        repo.thrum(&[&["sync", "git", "on"], options].concat()).ok();
    }
    left.thrum(&["sync", "git", "trust", &name_of(right)]).ok();
    right.thrum(&["sync", "git", "trust", &name_of(left)]).ok();
    left.thrum(&["sync", "force"]).ok();
}

/// The name of a repository's daemon.
pub(crate) fn name_of(repo: &TestRepo) -> String {
    repo.json(&["status"])["health"]["tailscale_sync"]["hostname"].as_str().unwrap().to_owned()
}

fn status(repo: &TestRepo) -> Value {
    repo.thrum(&["sync", "git", "status", "--json"]).json()
}

/// Runs a command that must end with this code and print these words. Returns what it prints.
#[track_caller]
pub(crate) fn shows(repo: &TestRepo, code: i32, args: &[&str], words: &str) -> String {
    let ran = repo.thrum(args);
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.stdout.contains(words), "no '{words}' in: {}", ran.stdout);
    ran.stdout
}

/// The state of the only recipient of a message.
fn delivery(repo: &TestRepo, id: &str) -> String {
    let sent = repo.json(&["sent"]);
    let message = sent["messages"].as_array().unwrap().iter().find(|message| message["message_id"] == id).unwrap();
    message["recipients"][0]["state"].as_str().unwrap().to_owned()
}

#[test]
pub(crate) fn two_clones_share_mail_receipts_team_and_verify_through_a_bare_remote() {
    let (left, right, _) = two_clones();
    share(&left, &right, &[]);
    let sent = message_id(&left.json(&["send", "through git", "--to", "@bob"]));
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    assert_eq!(contents(&right.json(&["inbox", "--unread"])), ["through git"]);
    right.thrum(&["reply", &sent, "and back"]).ok();
    right.thrum(&["sync", "force"]).ok();
    left.thrum(&["sync", "force"]).ok();
    assert_eq!(contents(&left.json(&["inbox"])), ["and back"]);
    assert_eq!(delivery(&left, &sent), "read");
    let team = left.json(&["team"]);
    assert_eq!(team["members"].as_array().unwrap().len(), 2, "{team}");

    // The reply was read on the left, which the right hears of with its next exchange.
    let verified = left.thrum(&["sync", "verify", "--json"]);
    assert_eq!((verified.code, verified.json()["status"].as_str()), (75, Some("waiting")), "{verified:?}");
    right.thrum(&["sync", "force"]).ok();
    for repo in [&left, &right] {
        let verified = repo.thrum(&["sync", "verify", "--json"]).ok().json();
        assert_eq!((&verified["status"], &verified["peers"][0]["status"]), (&"equal".into(), &"equal".into()));
    }
    let said = shows(&left, 0, &["sync", "status"], "ok through origin");
    assert!(said.contains("trusted"), "{said}");
    for args in [&["sync", "status"][..], &["status"]] {
        let said = shows(&left, 0, args, ", through git\n");
        assert!(said.contains("Last sync:") && !said.contains("never"), "{said}");
    }
    let (of_sync, of_git) = (left.json(&["sync", "status"]), status(&left));
    assert_eq!(of_sync["last_sync_at"], of_git["last_exchange_at"]);
    left.thrum(&["sync", "git", "off"]).ok();
    assert_eq!(left.json(&["sync", "status"])["last_sync_at"], Value::Null);
}

/// Creates another clone with this agent, whose daemon has this name on the remote, and switches sync through git on.
fn another_clone(remote: &Path, name: &str) -> TestRepo {
    let repo = TestRepo::git(name).with_variable("THRUM_TS_HOSTNAME", name);
    repo.agent(&format!("of-{name}"), "implementer");
    repo.git_done(&["remote", "add", "origin", &remote.to_string_lossy()]);
    repo.thrum(&["sync", "git", "on"]).ok();
    repo
}

#[test]
fn verify_names_the_origin_of_events_that_differ_and_tells_daemons_of_one_name_apart() {
    let (left, right, remote) = two_clones();
    share(&left, &right, &[]);
    let attic = another_clone(&remote, "attic");
    left.thrum(&["sync", "force"]).ok();
    left.thrum(&["sync", "git", "trust", "attic"]).ok();
    // Its events are here now, and it is no longer among those that are compared.
    left.thrum(&["sync", "git", "untrust", "attic"]).ok();
    let said = shows(&left, 75, &["sync", "verify"], "of attic (log ");
    assert!(!said.contains("d_k"), "{said}");
    let verified = left.thrum(&["sync", "verify", "--json"]).json();
    let id = attic.json(&["status"])["health"]["daemon_id"].as_str().unwrap().to_owned();
    assert_eq!(verified["names"][&id], "attic", "{verified}");

    let namesake = another_clone(&remote, &name_of(&right));
    left.thrum(&["sync", "force"]).ok();
    left.thrum(&["sync", "git", "trust", status(&namesake)["own_fingerprint"].as_str().unwrap()]).ok();
    let verified = left.thrum(&["sync", "verify", "--json"]).json();
    let names: BTreeSet<&str> =
        verified["peers"].as_array().unwrap().iter().map(|peer| peer["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{verified}");
}

/// The names in a list of daemons, in its order.
fn names_in(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect()
}

/// Ids are random, so that one of 24 orders would be right by chance.
#[test]
fn daemons_are_listed_by_name() {
    let (left, _right, remote) = two_clones();
    let names = ["desk", "attic", "cellar", "barn"];
    let _others = names.map(|name| another_clone(&remote, name));
    let sorted = ["attic", "barn", "cellar", "desk"];
    let shown = left.thrum(&["sync", "git", "on", "--json"]).ok().json();
    assert_eq!(names_in(&shown["waiting"]), sorted);
    left.thrum(&["sync", "git", "trust", "desk", "attic", "cellar", "barn"]).ok();
    assert_eq!(names_in(&status(&left)["daemons"]), sorted);
    let verified = left.thrum(&["sync", "verify", "--json"]).json();
    assert_eq!(names_in(&verified["peers"]), sorted);
}

#[test]
fn several_daemons_are_let_in_at_once_or_none_is() {
    let (left, right, remote) = two_clones();
    let others = ["attic", "barn", "barn"].map(|name| another_clone(&remote, name));
    left.thrum(&["sync", "git", "on"]).ok();
    let refused = left.thrum(&["sync", "git", "trust", "attic", "nobody", "no-one"]);
    let refused = refused.fails(3, "no daemon nobody was seen on the remote; no daemon no-one was seen");
    assert!(refused.stderr.contains("nothing is changed") && refused.stderr.contains("thrum sync git status"));
    left.thrum(&["sync", "git", "trust", "attic", "barn"]).fails(3, "2 daemons are called barn: ");
    assert_eq!(status(&left)["waiting"].as_array().unwrap().len(), 3, "nothing is changed");

    let print = status(&others[1])["own_fingerprint"].as_str().unwrap().to_owned();
    let shown = left.thrum(&["sync", "git", "trust", "attic", &print, "--json"]).ok().json();
    let states = |shown: &Value| -> Vec<String> {
        let daemons = shown["daemons"].as_array().unwrap().iter();
        daemons.map(|one| format!("{} {}", one["name"].as_str().unwrap(), one["state"].as_str().unwrap())).collect()
    };
    assert_eq!(states(&shown), ["attic trusted", "barn trusted"]);
    left.thrum(&["sync", "git", "untrust", "attic", "nobody"]).fails(3, "no daemon nobody");
    left.thrum(&["sync", "git", "untrust", "barn"]).fails(3, "thrum sync git untrust ");
    assert_eq!(states(&status(&left)), ["attic trusted", "barn trusted"]);
    let shown = left.thrum(&["sync", "git", "untrust", "attic", &print, "--json"]).ok().json();
    assert_eq!(states(&shown), ["attic distrusted", "barn distrusted"]);
    right.thrum(&["sync", "git", "trust"]).fails(2, "<NAME>");
}

#[test]
fn a_daemon_waits_until_it_is_let_in_and_can_be_shut_out() {
    let (left, right, _) = two_clones();
    left.thrum(&["sync", "git", "on"]).ok();
    right.thrum(&["sync", "git", "on"]).ok();
    left.thrum(&["send", "early", "--to", "@everyone"]).ok();
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    let shown = status(&right);
    let (waiting, own) = (&shown["waiting"][0], status(&left)["own_fingerprint"].clone());
    assert_eq!((&waiting["name"], &waiting["fingerprint"]), (&name_of(&left).into(), &own), "{shown}");
    assert!(waiting["first_seen"].is_string(), "{shown}");
    assert_eq!(right.unread("bob"), 0);
    shows(&right, 0, &["sync", "git", "status"], "wants in");

    let own = own.as_str().unwrap();
    let command = format!("thrum sync git trust {own}\n");
    let said = shows(&right, 0, &["prime"], &command);
    assert!(said.contains("wants in through git. Only your user may decide"), "{said}");
    let primed = right.json(&["prime"]);
    let expected = json!([{"name": name_of(&left), "fingerprint": own}]);
    assert_eq!(primed["sync_state"]["wants_in"], expected, "{primed}");
    let mut bob = Client::of(&right, "bob");
    let brief = bob.call("brief", json!({}));
    assert!(text(&brief).contains(&command), "{brief}");
    assert_eq!(brief["structuredContent"]["wants_in"], expected, "{brief}");
    shows(&right, 0, &["sync", "git", "trust", own], "trusted");
    assert!(!right.thrum(&["prime"]).ok().stdout.contains("wants in"));
    assert_eq!(right.json(&["prime"])["sync_state"]["wants_in"], Value::Null);
    let brief = bob.call("brief", json!({}));
    assert!(!text(&brief).contains("in through git"), "{brief}");
    assert_eq!(right.unread("bob"), 1);
    shows(&right, 0, &["sync", "git", "untrust", &name_of(&left)], "distrusted");
    left.thrum(&["send", "late", "--to", "@everyone"]).ok();
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    assert_eq!(right.unread("bob"), 1, "nothing that is published later");
    shows(&right, 0, &["send", "to somebody shut out", "--to", "@ann"], "is not trusted here");
    right.thrum(&["sync", "git", "trust", "nobody"]).fails(3, "no daemon nobody was seen");
}

#[test]
fn without_a_remote_or_with_several_the_error_says_what_to_do() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["sync", "git", "on"]).fails(3, "git remote add origin URL");
    let remote = bare(&repo);
    for name in ["one", "two"] {
        repo.git_done(&["remote", "add", name, &remote.to_string_lossy()]);
    }
    repo.thrum(&["sync", "git", "on"]).fails(3, "thrum sync git on --remote one");
    repo.thrum(&["sync", "git", "on", "--remote", "three"]).fails(3, "there is no git remote three");
    repo.thrum(&["sync", "git", "on", "--remote", "--upload-pack=x"]).fails(2, "");
    shows(&repo, 0, &["sync", "git", "on", "--remote", "two"], "ok through two");
    assert_eq!(repo.json(&["sync", "git", "off"])["state"], "off");
    assert_eq!(status(&repo)["state"], "off");

    let plain = TestRepo::plain("plain");
    plain.thrum(&["init"]).ok();
    plain.thrum(&["sync", "git", "on"]).fails(3, "no git remote");
}

#[test]
fn a_daemon_that_stays_on_this_machine_publishes_nothing() {
    let (mut left, _right, remote) = two_clones();
    left.thrum(&["sync", "git", "on"]).ok();
    left.thrum(&["config", "set", "daemon.local_only", "true"]).ok();
    left.thrum(&["daemon", "restart"]).ok();
    let before = refs(&left, &remote);
    left.thrum(&["send", "private", "--to", "@everyone"]).ok();
    left.thrum(&["sync", "force"]).ok();
    assert_eq!((refs(&left, &remote), status(&left)["state"].as_str()), (before, Some("off")));
    left.thrum(&["sync", "git", "on"]).fails(4, "thrum config set daemon.local_only false, then thrum daemon restart");

    // The file cannot switch off what the variable switches on, so the hint names the variable.
    left.thrum(&["config", "set", "daemon.local_only", "false"]).ok();
    left.set_variable("THRUM_LOCAL", "1");
    left.thrum(&["daemon", "restart"]).ok();
    let refused = left.thrum(&["sync", "git", "on"]).fails(4, "unset THRUM_LOCAL, then thrum daemon restart");
    assert!(!refused.stderr.contains("config set"), "{refused:?}");
    let refused = left.thrum(&["peer", "add", "--via", "tailnet"]).fails(4, "because THRUM_LOCAL is set");
    assert!(!refused.stderr.contains("config set"), "{refused:?}");
    let health = left.json(&["status"])["health"]["tailnet"].take();
    assert_eq!(health["hint"], "unset THRUM_LOCAL, then thrum daemon restart", "{health}");
}

/// The refs of a remote with their tips.
fn refs(repo: &TestRepo, remote: &Path) -> String {
    repo.git_says(&["ls-remote", &remote.to_string_lossy(), "refs/thrum/*"])
}

#[test]
fn a_remote_that_is_gone_is_shown_and_nothing_is_lost() {
    let (left, right, remote) = two_clones();
    share(&left, &right, &[]);
    let away = remote.with_extension("away");
    std::fs::rename(&remote, &away).unwrap();
    left.thrum(&["send", "meanwhile", "--to", "@bob"]).ok();
    shows(&left, 75, &["sync", "force"], "does not appear to be a git repository");
    shows(&left, 75, &["sync", "git", "status"], "failing through origin");
    let doctor = |verdict: &str| {
        let report = left.thrum(&["doctor", "--json"]).json();
        let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "git").unwrap().clone();
        assert_eq!(check["verdict"], verdict, "{check}");
    };
    doctor("problem");
    std::fs::rename(&away, &remote).unwrap();
    left.thrum(&["sync", "force"]).ok();
    doctor("ok");
    right.thrum(&["sync", "force"]).ok();
    assert_eq!(contents(&right.json(&["inbox"])), ["meanwhile"]);
    assert_eq!(status(&left)["state"], "ok");
}

/// A `git daemon`, which serves to everybody, until it is dropped.
struct Served(Child);

impl Served {
    fn start(repo: &TestRepo, remote: &Path) -> (Self, String) {
        let port = free_port();
        let programs = repo.git_says(&["--exec-path"]);
        let mut command = Command::new(Path::new(programs.trim()).join("git-daemon"));
        repo.in_surroundings(&mut command).args(["--export-all", "--enable=receive-pack", "--reuseaddr"]);
        command.arg("--listen=127.0.0.1").arg(format!("--port={port}"));
        command.arg(format!("--base-path={}", remote.parent().unwrap().display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let url = format!("git://127.0.0.1:{port}/remote.git");
        // Until it listens.
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        (Self(child), url)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// C32
#[test]
fn a_remote_that_everybody_can_read_is_refused_unless_what_is_published_is_encrypted() {
    let (left, right, remote) = two_clones();
    let (_served, url) = Served::start(&left, &remote);
    for repo in [&left, &right] {
        repo.git_done(&["remote", "set-url", "origin", &url]);
        repo.thrum(&["sync", "git", "on"]).fails(4, "thrum sync git on --encrypt");
    }
    assert_eq!(refs(&left, &remote), "", "nothing was pushed");
    share(&left, &right, &["--encrypt"]);
    left.thrum(&["send", "the secret word is xyzzy", "--to", "@bob"]).ok();
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    assert_eq!(contents(&right.json(&["inbox"])), ["the secret word is xyzzy"]);
    shows(&left, 0, &["sync", "git", "status"], "encrypted");
}

#[test]
fn a_daemon_that_encrypts_names_the_trusted_ones_that_publish_in_clear() {
    let (left, right, remote) = two_clones();
    share(&left, &right, &[]);
    let said = shows(&left, 0, &["sync", "git", "status"], "trusted");
    assert!(!said.contains("encrypted"), "nobody is meant to encrypt: {said}");
    assert_eq!(status(&left)["daemons"][0]["encrypted"], false);
    let _stranger = another_clone(&remote, "stranger");
    let (name, hint) = (name_of(&right), "still publishes in clear; there: thrum sync git on --encrypt");
    let warning = format!("Not encrypted: {name} {hint}\n");
    shows(&left, 0, &["sync", "git", "on", "--encrypt"], &warning);
    shows(&left, 0, &["sync", "git", "status"], &warning);

    right.thrum(&["sync", "git", "on", "--encrypt"]).ok();
    left.thrum(&["sync", "force"]).ok();
    let said = shows(&left, 0, &["sync", "git", "status"], "encrypted");
    assert!(!said.contains("in clear"), "{said}");
    assert_eq!(status(&left)["daemons"][0]["encrypted"], true);
}

/// C32
#[test]
fn a_remote_that_becomes_readable_by_everybody_gets_nothing_more() {
    let (left, _right, remote) = two_clones();
    left.thrum(&["sync", "git", "on"]).ok();
    let before = refs(&left, &remote);
    let (_served, url) = Served::start(&left, &remote);
    left.git_done(&["remote", "set-url", "origin", &url]);
    left.thrum(&["daemon", "restart"]).ok();
    left.thrum(&["send", "private", "--to", "@everyone"]).ok();
    shows(&left, 75, &["sync", "force"], "everybody can read");
    assert_eq!(refs(&left, &remote), before);
}

/// Over the tailnet or this machine, and through git: what came one way is not stored again by the other.
#[test]
fn both_ways_at_once_bring_everything_once_and_peers_are_trusted() {
    let (left, right, _) = two_clones();
    pair(&left, &right);
    for repo in [&left, &right] {
        repo.thrum(&["sync", "git", "on"]).ok();
    }
    let sent = message_id(&left.json(&["send", "both ways", "--to", "@bob"]));
    left.thrum(&["sync", "force"]).ok();
    let forced = right.json(&["sync", "force"]);
    assert_eq!(forced["git"]["error"], Value::Null, "{forced}");
    assert_eq!(contents(&right.json(&["inbox"])), ["both ways"]);
    assert_eq!(status(&right)["waiting"], Value::Array(Vec::new()), "a peer need not be let in");
    left.thrum(&["sync", "force"]).ok();
    assert_eq!(delivery(&left, &sent), "read");
    for repo in [&left, &right] {
        repo.thrum(&["sync", "verify"]).ok();
    }
}

#[test]
fn another_prefix_is_used_for_a_host_that_takes_branches_only() {
    let (left, right, remote) = two_clones();
    left.git_done(&["--git-dir", &remote.to_string_lossy(), "config", "transfer.hideRefs", "refs/thrum"]);
    left.thrum(&["sync", "git", "on"]).fails(4, "thrum config set git.ref_prefix refs/heads/thrum/");
    for repo in [&left, &right] {
        repo.thrum(&["config", "set", "git.ref_prefix", "refs/heads/thrum/"]).ok();
        for wrong in ["thrum", "refs/heads/", "refs/heads/../x/", "refs/"] {
            repo.thrum(&["config", "set", "git.ref_prefix", wrong]).fails(2, "refs/heads/thrum/");
        }
    }
    share(&left, &right, &[]);
    left.thrum(&["send", "as a branch", "--to", "@bob"]).ok();
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    assert_eq!(contents(&right.json(&["inbox"])), ["as a branch"]);
}

#[test]
fn a_git_that_is_too_old_is_said_and_nothing_is_published() {
    let bin = tempfile::tempdir().unwrap();
    let script = "#!/bin/sh\ncase \" $* \" in *\" version \"*) echo 'git version 2.25.1' ;; *) PATH=${PATH#*:} exec git \"$@\" ;; esac\n";
    let git = bin.path().join("git");
    std::fs::write(&git, script).unwrap();
    std::fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap());
    let repo = TestRepo::git("old").with_variable("PATH", &path);
    repo.agent("ann", "implementer");
    let remote = bare(&repo);
    repo.git_done(&["remote", "add", "origin", &remote.to_string_lossy()]);
    let on = repo.thrum(&["sync", "git", "on"]);
    assert!(on.code != 0 && on.stderr.contains("git 2.25 is too old") && on.stderr.contains("2.31"), "{on:?}");
    assert_eq!(refs(&repo, &remote), "");
    shows(&repo, 0, &["sync", "git", "status"], "off");
}

#[test]
fn sync_through_git_goes_on_after_a_restart() {
    let (left, right, remote) = two_clones();
    share(&left, &right, &[]);
    let away = remote.with_extension("away");
    std::fs::rename(&remote, &away).unwrap();
    for repo in [&left, &right] {
        repo.thrum(&["daemon", "restart"]).ok();
    }
    // Who is there is still known, although the remote cannot be asked.
    let sent = left.thrum(&["send", "offline", "--to", "@bob"]).ok();
    assert!(
        sent.stdout.contains("is reached through git") || sent.stderr.contains("is reached through git"),
        "{sent:?}"
    );
    assert!(status(&left)["last_published_at"].is_string());
    std::fs::rename(&away, &remote).unwrap();
    left.thrum(&["send", "after", "--to", "@bob"]).ok();
    left.thrum(&["sync", "force"]).ok();
    right.thrum(&["sync", "force"]).ok();
    let mut arrived = contents(&right.json(&["inbox"])).into_iter().map(str::to_owned).collect::<Vec<_>>();
    arrived.sort_unstable();
    assert_eq!(arrived, ["after", "offline"]);
}
