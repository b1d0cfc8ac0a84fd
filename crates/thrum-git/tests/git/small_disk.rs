//! A disk that is full: where our repository is, and where the remote is.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    noise::noise,
    place::{Daemon, Place, git, pair, run_again, settle, skip},
};

/// Says to the test that it runs in a mount namespace of its own, and where its disk is.
const DISK: &str = "THRUM_TEST_SMALL_DISK";

/// Runs a test again, in a process that has a disk of a few megabytes. Returns that disk in this process, and `None` in
/// the first. The disk is gone when the process ends.
fn small_disk(test: &str) -> Option<PathBuf> {
    if let Some(disk) = std::env::var_os(DISK) {
        return Some(disk.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let mount = "mount -t tmpfs -o size=6m thrum-test \"$0\" || exit 99; exec \"$@\"";
    command.args(["--mount", "sh", "-c", mount]).arg(dir.path()).env(DISK, dir.path());
    let (said, code) = run_again(&format!("small_disk::{test}"), &mut command);
    match code {
        Some(0) => {}
        Some(1 | 99) => skip("a full disk", said.trim()),
        _ => panic!("{said}"),
    }
    None
}

/// Fills a disk with a file, up to so many bytes. Returns the file.
fn fill(disk: &Path, but: usize) -> PathBuf {
    let path = disk.join("filler");
    let mut file = File::create(&path).unwrap();
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    file.set_len(file.metadata().unwrap().len() - but as u64).unwrap();
    path
}

/// A daemon whose repository for the exchange is on a small disk.
fn daemon_on(disk: &Path, place: &Place, name: &str) -> Daemon {
    git(place.dir.path(), &["clone", "--quiet", "remote.git", name]);
    let var = place.path(name).join(".thrum/var");
    fs::create_dir_all(&var).unwrap();
    fs::create_dir(disk.join("git")).unwrap();
    std::os::unix::fs::symlink(disk.join("git"), var.join("git")).unwrap();
    Daemon::start(&place.path(name), name)
}

#[test]
fn our_repository_on_a_full_disk_is_an_error_in_words_and_works_again_once_there_is_room() {
    let Some(disk) =
        small_disk("our_repository_on_a_full_disk_is_an_error_in_words_and_works_again_once_there_is_room")
    else {
        return;
    };
    let place = Place::new();
    let (mut ann, mut ben) = (daemon_on(&disk, &place, "ann"), place.daemon("ben"));
    ann.trust(&ben);
    ben.trust(&ann);
    settle(&mut [&mut ann, &mut ben]);
    let mut said = Vec::new();
    let text = noise(1_200_000);
    for but in [0, 100_000, 300_000] {
        said.push(ben.say(&text[but..][..600_000]));
        ben.run();
        said.push(ann.say(&text[but + 10..][..500_000]));
        let filler = fill(&disk, but);
        for _ in 0..3 {
            let error = ann.fails();
            assert!(error.contains("No space left on device"), "{error}");
        }
        fs::remove_file(filler).unwrap();
        settle(&mut [&mut ann, &mut ben]);
        assert!(said.iter().all(|id| ann.has_message(id) && ben.has_message(id)));
        assert_eq!(ann.heads(), ben.heads());
        git(&ann.repository(), &["fsck", "--strict"]);
    }
}

#[test]
fn a_remote_on_a_full_disk_is_an_error_in_words_and_works_again_once_there_is_room() {
    let Some(disk) = small_disk("a_remote_on_a_full_disk_is_an_error_in_words_and_works_again_once_there_is_room")
    else {
        return;
    };
    let place = Place::new();
    let remote = disk.join("remote.git");
    git(place.dir.path(), &["clone", "--quiet", "--bare", "remote.git", &remote.to_string_lossy()]);
    let (mut ann, mut ben) = pair(&place);
    for daemon in [&mut ann, &mut ben] {
        daemon.set(&[("remote.origin.url", &remote.to_string_lossy())]);
    }
    settle(&mut [&mut ann, &mut ben]);
    let mut said = Vec::new();
    let text = noise(900_000);
    for but in [0, 100_000] {
        said.push(ann.say(&text[but..][..600_000]));
        let filler = fill(&disk, but);
        for _ in 0..3 {
            let error = ann.fails();
            assert!(error.contains("No space left on device"), "{error}");
        }
        ben.run();
        fs::remove_file(filler).unwrap();
        settle(&mut [&mut ann, &mut ben]);
        assert!(said.iter().all(|id| ben.has_message(id)));
        assert_eq!(ann.heads(), ben.heads());
        git(&remote, &["fsck", "--strict"]);
    }
}
