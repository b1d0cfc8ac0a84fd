//! Programs of a test tailnet, in Go, built once into the target directory.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::common::skip;

/// Paths of the programs.
pub(crate) struct Tools {
    /// Coordination server, relay and STUN server, and the local network between namespaces.
    pub(crate) tailnet: PathBuf,
    pub(crate) tailscaled: PathBuf,
    pub(crate) tailscale: PathBuf,
    newer: PathBuf,
}

impl Tools {
    /// The same programs with the newest `tailscaled`. In every scenario with several machines, some run this version
    /// and some the other.
    pub(crate) fn newer(&self) -> Self {
        let Self { tailnet, newer, .. } = self;
        Self {
            tailnet: tailnet.clone(),
            tailscaled: newer.join("tailscaled"),
            tailscale: newer.join("tailscale"),
            newer: newer.clone(),
        }
    }
}

/// Returns the programs, or `None` with one line of output if they cannot be built, in which case the test returns.
/// With `CI=true` that is a failure, because nothing is skipped.
pub(crate) fn tools() -> Option<&'static Tools> {
    static TOOLS: OnceLock<Option<Tools>> = OnceLock::new();
    TOOLS.get_or_init(|| build().map_err(|why| skip("tailnet tests", &why)).ok()).as_ref()
}

/// Like [`tools`], but also requires namespaces: root on Linux.
pub(crate) fn tools_with_namespaces() -> Option<&'static Tools> {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    let possible = || {
        let tried =
            Command::new("unshare").args(["--net", "--uts", "--mount", "--pid", "--fork", "ip", "link"]).output();
        let why = match tried {
            Ok(output) if output.status.success() => match Path::new("/dev/net/tun").exists() {
                true => return true,
                false => "there is no /dev/net/tun".to_owned(),
            },
            Ok(output) => format!("they need root and iproute2 ({})", last_line(&output.stderr)),
            Err(error) => format!("they need unshare: {error}"),
        };
        skip("tests with several machines", &why);
        false
    };
    tools().filter(|_| *POSSIBLE.get_or_init(possible))
}

fn build() -> Result<Tools, String> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tailnet/build");
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tailnet");
    let output = Command::new(build).arg(&dir).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(last_line(&output.stderr));
    }
    Ok(Tools {
        tailnet: dir.join("tailnet"),
        tailscaled: dir.join("tailscaled"),
        tailscale: dir.join("tailscale"),
        newer: dir.join("newer"),
    })
}

fn last_line(text: &[u8]) -> String {
    String::from_utf8_lossy(text).trim_end().lines().last().unwrap_or_default().to_owned()
}
