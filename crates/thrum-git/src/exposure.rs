//! Whether anybody can read a remote without credentials.

use std::path::Path;

use crate::{
    GitError,
    process::{self, Git, Setting, Stop},
};

/// Who can read a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Only who has credentials, or access to the file system.
    Private,
    /// Everybody.
    Public,
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// The last parts of settings that are needed to reach a host over HTTP and prove nothing to it, in lower case.
const PROVES_NOTHING: [&str; 6] = ["proxy", "sslcainfo", "sslcapath", "sslverify", "sslbackend", "version"];

/// The addresses of a remote, from which is fetched and to which is pushed, as they apply in the user's repository at
/// `top`. An address that is no name of a remote stands for itself.
///
/// # Errors
/// Git cannot be run.
pub fn addresses(top: &Path, remote: &str, stop: &Stop) -> Result<Vec<String>, GitError> {
    let mut addresses = Vec::new();
    for args in [&["remote", "get-url", "--all", remote][..], &["remote", "get-url", "--push", "--all", remote]] {
        if let Some(configured) = process::asked(top, args, stop)? {
            addresses.extend(configured.lines().map(|line| line.trim().to_owned()));
        }
    }
    if addresses.is_empty() {
        // A URL or a path, which the user's settings may change to another one.
        let changed = process::asked(top, &["ls-remote", "--get-url", "--", remote], stop)?;
        addresses.push(changed.as_deref().map_or(remote, str::trim).to_owned());
    }
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

/// Asks a remote at each of its [addresses] for its `HEAD` without credentials. `dir` is our repository, `top` the
/// user's. It is public if one of the addresses is.
///
/// # Errors
/// Git cannot be run, or the remote does not answer.
pub fn exposure(dir: &Path, top: &Path, addresses: &[String], stop: &Stop) -> Result<Exposure, GitError> {
    let mut unknown = None;
    for address in addresses {
        match exposure_at(dir, top, address, stop)? {
            Exposure::Private => {}
            Exposure::Public => return Ok(Exposure::Public),
            Exposure::Unknown(why) => unknown = Some(Exposure::Unknown(why)),
        }
    }
    Ok(unknown.unwrap_or(Exposure::Private))
}

fn exposure_at(dir: &Path, top: &Path, address: &str, stop: &Stop) -> Result<Exposure, GitError> {
    let url = match anonymous_url(address, &|host| real_host(top, host, stop)) {
        Ok(url) => url,
        Err(exposure) => return Ok(exposure),
    };
    let settings: Vec<Setting> =
        process::settings(top, stop)?.into_iter().filter(|(name, _)| proves_nothing(name)).collect();
    // Reading a remote that asks for a password fails, since none is known. `HEAD` need not exist.
    let git = Git::new(dir, top, settings, stop.clone());
    let output = match git.anonymous(&["ls-remote", "--exit-code", "--", &url.text, "HEAD"]) {
        // Nobody answers at a place that is only a guess.
        Err(GitError::Late { .. }) if url.is_guessed => return Ok(Exposure::Private),
        output => output?,
    };
    Ok(match output.status.code() {
        Some(0 | 2) => Exposure::Public,
        _ if url.is_guessed || is_refusal(&output.stderr) => Exposure::Private,
        _ => Exposure::Unknown(crate::error::reason(&output.stderr)),
    })
}

/// A URL without credentials.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    text: String,
    /// Whether the user's URL needs a key, and this one is where the same repository would be readable.
    is_guessed: bool,
}

/// The URL under which anybody could read a remote, or the answer if no host needs to be asked.
///
/// `real_host` returns the host that ssh connects to for a name.
fn anonymous_url(url: &str, real_host: &dyn Fn(&str) -> String) -> Result<Url, Exposure> {
    if let Some((helper, _)) = url.split_once("::").filter(|(helper, _)| !helper.contains(['/', '['])) {
        return Err(Exposure::Unknown(format!("a remote of the helper {helper} cannot be asked without credentials")));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        // The short form of ssh: no slash before the colon, a port in brackets.
        let (host, path) = match url.split_once("]:") {
            Some((host, path)) => (host, path),
            None => url.split_once(':').unwrap_or((url, "")),
        };
        let is_path = host.contains('/') || path.is_empty();
        return if is_path { Err(Exposure::Private) } else { Ok(guessed(host, path, real_host)) };
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "http" | "https" => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            Ok(Url { text: format!("{scheme}://{host}/{path}"), is_guessed: false })
        }
        "git" => Ok(Url { text: url.to_owned(), is_guessed: false }),
        "ssh" | "git+ssh" | "ssh+git" => Ok(guessed(authority, path, real_host)),
        "file" => Err(Exposure::Private),
        _ => Err(Exposure::Unknown(format!("a remote of the kind {scheme}:// cannot be asked without credentials"))),
    }
}

/// Where a repository that is reached by ssh would be readable by everybody. `authority` is `USER@HOST:PORT`, of which
/// only the host must be there.
fn guessed(authority: &str, path: &str, real_host: &dyn Fn(&str) -> String) -> Url {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // An IPv6 address is in brackets, which the short form also puts around a host with a port.
    let host = match host.strip_prefix('[') {
        Some(rest) if rest.matches(':').count() > 1 => rest.split(']').next().unwrap_or_default().to_owned(),
        rest => rest.unwrap_or(host).split([':', ']']).next().unwrap_or_default().to_owned(),
    };
    let host = real_host(&host);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Url { text: format!("https://{host}/{}", path.trim_start_matches('/')), is_guessed: true }
}

/// The hosts to which some services offer ssh on another port, and where their repositories are readable.
const ALTERNATIVES: [(&str, &str); 3] =
    [("ssh.github.com", "github.com"), ("altssh.gitlab.com", "gitlab.com"), ("altssh.bitbucket.org", "bitbucket.org")];

/// The host that ssh connects to for a name, which may be an alias in the user's settings; the name itself if ssh does
/// not say.
fn real_host(top: &Path, name: &str, stop: &Stop) -> String {
    let said = if name.starts_with('-') { None } else { process::ssh_settings(top, name, stop) };
    let line = said.as_deref().and_then(|said| said.lines().find_map(|line| line.strip_prefix("hostname ")));
    let host = line.unwrap_or(name).trim();
    ALTERNATIVES.iter().find(|(other, _)| *other == host).map_or(host, |(_, host)| host).to_owned()
}

fn proves_nothing(name: &str) -> bool {
    name.starts_with("http.") && name.rsplit('.').next().is_some_and(|last| PROVES_NOTHING.contains(&last))
}

/// Returns `true` if the host wants credentials, or does not show the repository without them.
fn is_refusal(stderr: &str) -> bool {
    ["could not read Username", "Authentication failed", "could not read Password", "not found", "error: 403"]
        .iter()
        .any(|one| stderr.contains(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_that_anybody_could_read_has_no_credentials() {
        let alias = |host: &str| if host == "work" { "example.com".to_owned() } else { host.to_owned() };
        let asks = |url: &str| anonymous_url(url, &alias).map(|url| (url.text, url.is_guessed));
        let same = |url: &str| Ok((url.to_owned(), false));
        let guess = |url: &str| Ok((url.to_owned(), true));
        assert_eq!(asks("https://ann:secret@example.com/a/b.git"), same("https://example.com/a/b.git"));
        assert_eq!(asks("http://127.0.0.1:8080/a.git"), same("http://127.0.0.1:8080/a.git"));
        assert_eq!(asks("git://example.com/a.git"), same("git://example.com/a.git"));
        assert_eq!(asks("git@example.com:a/b.git"), guess("https://example.com/a/b.git"));
        assert_eq!(asks("example.com:/a/b.git"), guess("https://example.com/a/b.git"));
        assert_eq!(asks("ssh://git@example.com:2222/a/b.git"), guess("https://example.com/a/b.git"));
        assert_eq!(asks("ssh://git@[::1]/a.git"), guess("https://[::1]/a.git"));
        assert_eq!(asks("ssh://git@[::1]:22/a.git"), guess("https://[::1]/a.git"));
        assert_eq!(asks("[git@example.com:22]:a.git"), guess("https://example.com/a.git"));
        assert_eq!(asks("git@work:a/b.git"), guess("https://example.com/a/b.git"));
        for local in ["/srv/a.git", "../a.git", "./with:colon.git", "file:///srv/a.git"] {
            assert_eq!(asks(local), Err(Exposure::Private), "{local}");
        }
        for other in ["helper::address", "s3://bucket/a.git"] {
            assert!(matches!(asks(other), Err(Exposure::Unknown(_))), "{other}");
        }
    }

    #[test]
    fn the_host_of_an_alias_is_that_of_the_ssh_command_of_the_repository() {
        let top = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let status = std::process::Command::new("git").args(args).current_dir(top.path()).status().unwrap();
            assert!(status.success());
        };
        std::fs::write(top.path().join("hosts"), "Host thrum-test-alias\n\tHostName ssh.github.com\n").unwrap();
        git(&["init", "--quiet"]);
        git(&["config", "core.sshCommand", "ssh -F hosts"]);
        let host = |name: &str| real_host(top.path(), name, &Stop::default());
        assert_eq!(host("thrum-test-alias"), "github.com");
        assert_eq!(host("example.com"), "example.com");
        git(&["config", "core.sshCommand", "plink"]);
        assert_eq!(host("thrum-test-alias"), "thrum-test-alias");
    }

    #[test]
    fn no_credentials_are_taken_from_the_settings() {
        for name in ["http.proxy", "http.https://example.com.sslcainfo"] {
            assert!(proves_nothing(name), "{name}");
        }
        for name in [
            "http.extraheader",
            "http.https://example.com.extraheader",
            "http.cookiefile",
            "http.sslcert",
            "credential.helper",
        ] {
            assert!(!proves_nothing(name), "{name}");
        }
    }
}
