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

/// Asks the remote for its `HEAD` without credentials. `dir` is our repository, `top` the user's.
///
/// # Errors
/// Git cannot be run, or the remote does not answer.
pub fn exposure(dir: &Path, top: &Path, remote: &str, stop: &Stop) -> Result<Exposure, GitError> {
    let configured = process::asked(top, &["remote", "get-url", remote], stop)?;
    let url = configured.as_deref().map_or(remote, str::trim);
    let url = match anonymous_url(url) {
        Ok(url) => url,
        Err(exposure) => return Ok(exposure),
    };
    let settings: Vec<Setting> =
        process::settings(top, stop)?.into_iter().filter(|(name, _)| proves_nothing(name)).collect();
    // Reading a remote that asks for a password fails, since none is known. `HEAD` need not exist.
    let output =
        Git::new(dir, top, settings, stop.clone()).anonymous(&["ls-remote", "--exit-code", "--", &url.text, "HEAD"])?;
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
fn anonymous_url(url: &str) -> Result<Url, Exposure> {
    if let Some((helper, _)) = url.split_once("::").filter(|(helper, _)| !helper.contains(['/', '['])) {
        return Err(Exposure::Unknown(format!("a remote of the helper {helper} cannot be asked without credentials")));
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return match url.split_once(':') {
            // The short form of ssh: no slash before the colon.
            Some((host, path)) if !host.contains('/') => Ok(guessed(host, path)),
            _ => Err(Exposure::Private),
        };
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "http" | "https" => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            Ok(Url { text: format!("{scheme}://{host}/{path}"), is_guessed: false })
        }
        "git" => Ok(Url { text: url.to_owned(), is_guessed: false }),
        "ssh" | "git+ssh" | "ssh+git" => {
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let is_bracketed = host.starts_with('[');
            let host = if is_bracketed { host } else { host.split_once(':').map_or(host, |(host, _)| host) };
            Ok(guessed(host, path))
        }
        "file" => Err(Exposure::Private),
        _ => Err(Exposure::Unknown(format!("a remote of the kind {scheme}:// cannot be asked without credentials"))),
    }
}

fn guessed(host: &str, path: &str) -> Url {
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    Url { text: format!("https://{host}/{}", path.trim_start_matches('/')), is_guessed: true }
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
        let asks = |url: &str| anonymous_url(url).map(|url| (url.text, url.is_guessed));
        let same = |url: &str| Ok((url.to_owned(), false));
        let guess = |url: &str| Ok((url.to_owned(), true));
        assert_eq!(asks("https://ann:secret@example.com/a/b.git"), same("https://example.com/a/b.git"));
        assert_eq!(asks("http://127.0.0.1:8080/a.git"), same("http://127.0.0.1:8080/a.git"));
        assert_eq!(asks("git://example.com/a.git"), same("git://example.com/a.git"));
        assert_eq!(asks("git@example.com:a/b.git"), guess("https://example.com/a/b.git"));
        assert_eq!(asks("example.com:/a/b.git"), guess("https://example.com/a/b.git"));
        assert_eq!(asks("ssh://git@example.com:2222/a/b.git"), guess("https://example.com/a/b.git"));
        assert_eq!(asks("ssh://git@[::1]/a.git"), guess("https://[::1]/a.git"));
        for local in ["/srv/a.git", "../a.git", "./with:colon.git", "file:///srv/a.git"] {
            assert_eq!(asks(local), Err(Exposure::Private), "{local}");
        }
        for other in ["helper::address", "s3://bucket/a.git"] {
            assert!(matches!(asks(other), Err(Exposure::Unknown(_))), "{other}");
        }
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
