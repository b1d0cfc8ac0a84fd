//! Sync through `git daemon`, which knows no passwords.

use std::{path::PathBuf, process::Command};

use thrum_git::Exposure;

use crate::{
    inetd::Inetd,
    place::{Place, git, pair, settle, skip},
};

#[test]
fn two_daemons_share_mail_through_git_daemon_which_everybody_can_read() {
    let place = Place::new();
    let program = PathBuf::from(git(place.dir.path(), &["--exec-path"])).join("git-daemon");
    if !program.exists() {
        return skip("sync through git://", "git daemon is not installed");
    }
    let root = place.dir.path().to_owned();
    let server = Inetd::start(move || {
        let mut command = Command::new(&program);
        command
            .args(["--inetd", "--export-all", "--enable=receive-pack"])
            .arg(format!("--base-path={}", root.display()))
            .arg(&root);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    });
    let url = format!("git://{}/remote.git", server.address());
    let (mut ann, mut ben) = pair(&place);
    for daemon in [&mut ann, &mut ben] {
        daemon.set(&[("remote.origin.url", &url)]);
    }
    let (first, second) = (ann.say("from ann"), ben.say("from ben"));
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&first) && ann.has_message(&second));
    assert_eq!(ann.heads(), ben.heads());
    assert_eq!(ann.exposure(), Exposure::Public);

    ann.set(&[("remote.origin.url", &url.replace("remote.git", "missing.git"))]);
    let error = ann.fails();
    assert!(error.contains("access denied or repository not exported: /missing.git"), "{error}");
}
