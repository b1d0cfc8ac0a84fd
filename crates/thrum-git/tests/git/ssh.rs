//! Sync through an ssh server with keys, hosts and settings of its own: the home of whoever runs the tests is not used.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    inetd::Inetd,
    place::{Daemon, Place, git, pair, script, settle, skip},
};

/// An ssh server for the current user.
struct SshServer {
    dir: PathBuf,
    user: String,
    inetd: Inetd,
}

impl SshServer {
    /// Starts a server that lets in who has the key `ann`. `None` if there is none on this machine.
    fn start(place: &Place) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let Some(sshd) = dirs.map(|dir| dir.join("sshd")).find(|file| file.exists()) else {
            skip("sync through ssh", "there is no sshd: install openssh-server");
            return None;
        };
        if rustix::process::geteuid().is_root() && !Path::new("/run/sshd").exists() {
            skip("sync through ssh", "sshd of root needs the directory /run/sshd");
            return None;
        }
        let dir = place.path("ssh");
        std::fs::create_dir(&dir).unwrap();
        for (name, passphrase) in
            [("host", ""), ("other-host", ""), ("ann", ""), ("eve", ""), ("locked", "a passphrase")]
        {
            key(&dir.join(name), passphrase);
        }
        let public = |name: &str| std::fs::read_to_string(dir.join(format!("{name}.pub"))).unwrap();
        std::fs::write(dir.join("authorized_keys"), public("ann") + &public("locked")).unwrap();
        let config = dir.join("sshd_config");
        std::fs::write(
            &config,
            format!(
                "HostKey {0}/host\nAuthorizedKeysFile {0}/authorized_keys\nPidFile none\nStrictModes no\nUsePAM no\n\
                 AuthenticationMethods publickey\nPermitRootLogin prohibit-password\nAcceptEnv GIT_PROTOCOL\n\
                 SetEnv PATH={1} GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null\n",
                dir.display(),
                path.to_string_lossy(),
            ),
        )
        .unwrap();
        let inetd = Inetd::start(move || {
            let mut command = Command::new(&sshd);
            command.arg("-i").arg("-e").arg("-f").arg(&config);
            command
        });
        for (file, key) in [("known_hosts", "host"), ("other_hosts", "other-host"), ("no_hosts", "")] {
            let line = if key.is_empty() { String::new() } else { public(key) };
            let line = format!("[127.0.0.1]:{} {line}", inetd.address().port());
            std::fs::write(dir.join(file), if key.is_empty() { String::new() } else { line }).unwrap();
        }
        let user = Command::new("id").arg("-un").output().unwrap().stdout;
        let user = String::from_utf8(user).unwrap().trim().to_owned();
        Some(Self { dir, user, inetd })
    }

    /// Lets a daemon reach its remote through the server with a key and a list of known hosts.
    fn connect(&self, daemon: &mut Daemon, key: &str, known_hosts: &str) {
        let ssh = format!(
            "ssh -F /dev/null -i {0}/{key} -o IdentitiesOnly=yes -o IdentityAgent=none \
             -o UserKnownHostsFile={0}/{known_hosts} -o GlobalKnownHostsFile=/dev/null",
            self.dir.display(),
        );
        daemon.set(&[("core.sshCommand", &ssh), ("remote.origin.url", &self.url(&self.user))]);
    }

    /// The address of the place's remote.
    fn url(&self, user: &str) -> String {
        let path = self.dir.with_file_name("remote.git");
        format!("ssh://{user}@{}{}", self.inetd.address(), path.display())
    }
}

/// Generates a pair of keys.
fn key(file: &Path, passphrase: &str) {
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", passphrase, "-f"]).arg(file).status();
    assert!(made.unwrap().success());
}

#[test]
fn two_daemons_share_mail_through_ssh() {
    let place = Place::new();
    let Some(server) = SshServer::start(&place) else { return };
    let (mut ann, mut ben) = pair(&place);
    server.connect(&mut ann, "ann", "known_hosts");
    server.connect(&mut ben, "ann", "known_hosts");
    let (first, second) = (ann.say("from ann"), ben.say("from ben"));
    settle(&mut [&mut ann, &mut ben]);
    assert!(ben.has_message(&first) && ann.has_message(&second));
    assert_eq!(ann.heads(), ben.heads());
    let connections = server.inetd.connections();
    assert_eq!(ann.run().published, None);
    assert_eq!(server.inetd.connections(), connections + 1, "a fetch without news is one connection");
}

#[test]
fn a_key_that_is_refused_or_locked_is_an_error_in_words_and_nobody_is_asked() {
    let place = Place::new();
    let Some(server) = SshServer::start(&place) else { return };
    let mut ann = place.daemon("ann");
    // This ssh would ask for the passphrase through a program of the user's, if it could ask at all.
    let (asked, askpass, bin) = (place.path("asked"), place.path("askpass"), place.path("bin"));
    script(&askpass, &format!("touch '{}'; echo a passphrase", asked.display()));
    std::fs::create_dir(&bin).unwrap();
    let asking = format!("SSH_ASKPASS='{}' SSH_ASKPASS_REQUIRE=force", askpass.display());
    script(&bin.join("ssh"), &format!("{asking} exec ssh \"$@\""));
    for key in ["eve", "locked"] {
        server.connect(&mut ann, key, "known_hosts");
        let ssh = format!("{}/{}", bin.display(), git(&ann.top, &["config", "core.sshCommand"]));
        ann.set(&[("core.sshCommand", &ssh)]);
        let error = ann.fails();
        assert!(
            error.starts_with("`git fetch` failed: ") && error.contains("Permission denied (publickey"),
            "{key}: {error}"
        );
    }
    assert!(!asked.exists());
    server.connect(&mut ann, "ann", "known_hosts");
    assert!(ann.run().published.is_some());
}

#[test]
fn a_host_with_an_unknown_or_another_key_is_refused_in_words_unless_the_user_accepts_new_ones() {
    let place = Place::new();
    let Some(server) = SshServer::start(&place) else { return };
    let mut ann = place.daemon("ann");
    for known_hosts in ["no_hosts", "other_hosts"] {
        server.connect(&mut ann, "ann", known_hosts);
        let error = ann.fails();
        assert!(
            error.starts_with("`git fetch` failed: ") && error.contains("Host key verification failed"),
            "{known_hosts}: {error}"
        );
    }
    assert_eq!(std::fs::read_to_string(server.dir.join("no_hosts")).unwrap(), "");
    server.connect(&mut ann, "ann", "no_hosts");
    let ssh = git(&ann.top, &["config", "core.sshCommand"]);
    ann.set(&[("core.sshCommand", &format!("{ssh} -o StrictHostKeyChecking=accept-new"))]);
    assert!(ann.run().published.is_some());
}

#[test]
fn a_password_in_the_url_of_an_ssh_remote_is_in_no_error() {
    let place = Place::new();
    let Some(server) = SshServer::start(&place) else { return };
    let mut ann = place.daemon("ann");
    server.connect(&mut ann, "eve", "known_hosts");
    let url = server.url("ann:s3cret-w0rd");
    // Git does not find the port behind a password.
    let (host, port) = (format!("{}/", server.inetd.address()), server.inetd.address().port());
    let ssh = format!("{} -p {port}", git(&ann.top, &["config", "core.sshCommand"]));
    for url in [url.replace(&host, "127.0.0.1/"), url] {
        ann.set(&[("remote.origin.url", &url), ("core.sshCommand", &ssh)]);
        let error = ann.fails();
        assert!(error.starts_with("`git fetch` failed: ") && !error.contains("s3cret-w0rd"), "{error}");
    }
}

/// A repository on a machine without git, or of which the path is wrong.
#[test]
fn what_the_other_machine_says_is_the_reason() {
    let place = Place::new();
    let Some(server) = SshServer::start(&place) else { return };
    let mut ann = place.daemon("ann");
    server.connect(&mut ann, "ann", "known_hosts");
    let url = server.url(&server.user);
    ann.set(&[("remote.origin.url", &url.replace("remote.git", "missing.git"))]);
    let error = ann.fails();
    assert!(error.contains("missing.git' does not appear to be a git repository"), "{error}");
    let missing = place.path("no-git");
    ann.set(&[("remote.origin.url", &url), ("remote.origin.uploadpack", &missing.to_string_lossy())]);
    let error = ann.fails();
    assert!(error.contains("no-git") && error.contains("not found") || error.contains("No such file"), "{error}");
    script(&missing, "echo 'the disk is on fire' >&2; exit 1");
    let error = ann.fails();
    assert!(error.contains("the disk is on fire"), "{error}");
}
