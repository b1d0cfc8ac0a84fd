//! Sync through a web server that wants a password.

use std::path::Path;

use thrum_git::Exposure;

use crate::{
    noise::noise,
    place::{Daemon, Place, git, pair, script, settle},
    web_server::{Fault, NAME, PASSWORD, WebServer},
};

/// Lets a daemon reach its remote through a server, with the credentials of this helper only.
fn connect(daemon: &mut Daemon, url: &str, helper: &str) {
    daemon.set(&[("remote.origin.url", url), ("credential.helper", "")]);
    if !helper.is_empty() {
        git(&daemon.top, &["config", "--add", "credential.helper", helper]);
        daemon.restart();
    }
}

/// A helper that reads a password from a file, as `git credential-store` keeps it.
fn store(dir: &Path, server: &WebServer, password: &str) -> String {
    let file = dir.join(format!("credentials-{password}"));
    let url = server.url(&format!("{NAME}:{password}@"));
    std::fs::write(&file, format!("{}\n", url.strip_suffix("/remote.git").unwrap())).unwrap();
    format!("store --file={}", file.display())
}

/// Two daemons that reach their remote through a server, with the right password.
fn connected_pair(place: &Place, server: &WebServer) -> (Daemon, Daemon) {
    let (mut ann, mut ben) = pair(place);
    for daemon in [&mut ann, &mut ben] {
        connect(daemon, &server.url(""), &store(&place.path("."), server, PASSWORD));
    }
    (ann, ben)
}

#[test]
fn two_daemons_share_mail_through_http_with_the_users_credential_helper() {
    let place = Place::new();
    let server = WebServer::start(place.dir.path());
    let (mut ann, mut ben) = connected_pair(&place, &server);
    // A helper that is a program of the user's.
    let helper = place.path("helper");
    script(&helper, &format!("[ \"$1\" = get ] && printf 'username={NAME}\\npassword={PASSWORD}\\n' || true"));
    connect(&mut ben, &server.url(""), &helper.to_string_lossy());
    let (first, second) = (ann.say("from ann"), ben.say("from ben"));
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&first) && ann.has_message(&second));
    assert_eq!(ann.heads(), ben.heads());
    assert_eq!((ann.run().published, ben.run().published), (None, None));

    // A request that is long enough for git to compress it.
    let (remote, tree) = (place.remote(), git(&place.path("first"), &["rev-parse", "HEAD^{tree}"]));
    for n in 0..30 {
        let commit = git(&remote, &["commit-tree", "-m", &n.to_string(), &tree]);
        git(&remote, &["update-ref", &format!("refs/thrum/x{n}"), &commit]);
    }
    let said = ann.say("more");
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&said));
    assert!(server.posted().iter().any(|one| one.is_compressed));
}

#[test]
fn without_the_right_password_an_exchange_fails_in_words_and_asks_nobody() {
    let place = Place::new();
    let server = WebServer::start(place.dir.path());
    let mut ann = place.daemon("ann");
    let asked = place.path("asked");
    let askpass = place.path("askpass");
    script(&askpass, &format!("touch '{}'; echo {PASSWORD}", asked.display()));
    ann.set(&[("core.askPass", &askpass.to_string_lossy())]);
    connect(&mut ann, &server.url(""), "");
    let error = ann.fails();
    assert!(error.starts_with("`git fetch` failed: could not read Username for 'http://127.0.0.1:"), "{error}");
    connect(&mut ann, &server.url(&format!("{NAME}@")), "");
    let error = ann.fails();
    // Git 2.55 would ask for another name.
    let said = ["could not read Password for 'http://ann@127.0.0.1:", "could not read Username for 'http://127.0.0.1:"];
    assert!(said.iter().any(|one| error.contains(one)), "{error}");
    connect(&mut ann, &server.url(""), &store(&place.path("."), &server, "wrong"));
    let error = ann.fails();
    assert!(error.starts_with("`git fetch` failed: Authentication failed for 'http://127.0.0.1:"), "{error}");
    assert!(!asked.exists());
    // It works once git knows the password.
    connect(&mut ann, &server.url(""), &store(&place.path("."), &server, PASSWORD));
    assert!(ann.run().published.is_some());
}

#[test]
fn a_password_in_the_url_works_and_is_in_no_error() {
    let place = Place::new();
    let server = WebServer::start(place.dir.path());
    let (mut ann, mut ben) = connected_pair(&place, &server);
    let url = server.url(&format!("{NAME}:{PASSWORD}@"));
    connect(&mut ann, &url, "");
    let said = ann.say("hello");
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&said));

    let mut errors = Vec::new();
    for service in ["git-upload-pack", "git-receive-pack"] {
        for fault in [Fault::Fails, Fault::StopsReading(1), Fault::StopsWriting(1), Fault::SaysNothing] {
            ann.say("more");
            ben.say("more");
            ben.run();
            server.fail_next(service, fault);
            errors.push(ann.fails());
        }
    }
    for other in [
        url.replace("remote.git", "missing.git"),
        url.replace(PASSWORD, "wr0ng-w0rd"),
        url.replace("http:", "https:"),
        url.replace("http:", "nothing:"),
        url.replace("127.0.0.1:", "127.0.0.1:9"),
        url.replace("http://", "/missing/http://"),
    ] {
        connect(&mut ann, &other, "");
        errors.push(ann.fails());
    }
    for error in errors {
        assert!(!error.contains(PASSWORD) && !error.contains("wr0ng-w0rd"), "{error}");
    }
}

#[test]
fn a_server_that_wants_a_password_is_private_and_one_that_lets_everybody_read_is_public() {
    let place = Place::new();
    let server = WebServer::start(place.dir.path());
    let (mut ann, mut ben) = connected_pair(&place, &server);
    connect(&mut ben, &server.url(&format!("{NAME}:{PASSWORD}@")), "");
    let header =
        format!("Authorization: Basic {}", data_encoding::BASE64.encode(format!("{NAME}:{PASSWORD}").as_bytes()));
    let mut dan = place.daemon("dan");
    connect(&mut dan, &server.url(""), "");
    dan.set(&[("http.extraHeader", &header)]);
    for daemon in [&mut ann, &mut ben, &mut dan] {
        daemon.run();
        assert_eq!(daemon.exposure(), Exposure::Private, "{} has a password, others have not", daemon.name);
    }
    server.publish();
    for daemon in [&mut ann, &mut ben, &mut dan] {
        assert_eq!(daemon.exposure(), Exposure::Public);
    }
}

#[test]
fn a_transfer_that_breaks_is_repaired_by_the_next_exchange() {
    let place = Place::new();
    let server = WebServer::start(place.dir.path());
    let (mut ann, mut ben) = connected_pair(&place, &server);
    settle(&mut [&mut ann, &mut ben]);
    let mut said = Vec::new();
    for fault in [Fault::Fails, Fault::StopsReading(100), Fault::StopsWriting(10), Fault::SaysNothing] {
        said.push(ann.say(&noise(50_000)));
        server.fail_next("git-receive-pack", fault);
        let error = ann.fails();
        assert!(error.starts_with("`git push` failed: "), "{fault:?}: {error}");
        assert!(server.has_failed());
        ann.run();
        assert_eq!(ann.run().published, None, "{fault:?}: what is there is not published again");

        let fault = if let Fault::StopsWriting(_) = fault { Fault::StopsWriting(20_000) } else { fault };
        server.fail_next("git-upload-pack", fault);
        let error = ben.fails();
        assert!(error.starts_with("`git fetch` failed: "), "{fault:?}: {error}");
        assert!(server.has_failed());
        let report = ben.run();
        assert_eq!(report.applied.applied, 1, "{fault:?}");
        assert_eq!(ann.heads(), ben.heads());
    }
    assert!(said.iter().all(|id| ben.has_message(id)));
    let mut dan = place.daemon("dan");
    dan.trust(&ann);
    dan.run();
    assert!(said.iter().all(|id| dan.has_message(id)));
}

/// Git keeps a fetch of a hundred objects or more as a pack, which it does not remove when the connection breaks.
#[test]
fn transfers_that_break_again_and_again_leave_nothing_behind() {
    let place = Place::new();
    let server = WebServer::start(place.dir.path());
    let (mut ann, mut ben) = connected_pair(&place, &server);
    let said = ben.say("hello");
    ben.run();
    let first = place.path("first");
    for (n, part) in noise(240_000).as_bytes().chunks(2_000).enumerate() {
        std::fs::write(first.join(format!("file{n}")), part).unwrap();
    }
    git(&first, &["add", "."]);
    git(&first, &["commit", "--quiet", "-m", "many objects"]);
    git(&first, &["push", "--quiet", "origin", "HEAD:refs/thrum/x"]);
    for _ in 0..3 {
        server.fail_next("git-upload-pack", Fault::StopsWriting(100_000));
        assert!(ann.fails().starts_with("`git fetch` failed: "));
        assert!(server.has_failed());
        let left = git(&ann.repository(), &["count-objects", "-v"]);
        assert!(left.contains("garbage: 0"), "{left}");
    }
    ann.run();
    assert!(ann.has_message(&said));
}

#[test]
fn a_first_push_of_several_megabytes_is_sent_in_chunks_and_repaired_when_it_breaks() {
    let place = Place::new();
    let server = WebServer::start(place.dir.path());
    let (mut ann, mut ben) = connected_pair(&place, &server);
    let text = noise(6 << 20);
    let said: Vec<String> = (0..6).map(|n| ann.say(&text[n << 20..(n + 1) << 20])).collect();
    server.fail_next("git-receive-pack", Fault::StopsReading(2 << 20));
    let error = ann.fails();
    assert!(error.starts_with("`git push` failed: "), "{error}");
    assert!(server.has_failed());
    assert!(ann.run().published.is_some());
    let posted = server.posted();
    let whole = posted.iter().rfind(|one| one.service == "git-receive-pack").unwrap();
    assert!(whole.is_chunked && whole.bytes > 2 << 20, "{posted:?}");
    ben.run();
    assert!(said.iter().all(|id| ben.has_message(id)));
}
