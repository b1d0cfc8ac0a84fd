//! Tests of the tailnet transport against a fake `tailscaled`: a LocalAPI with recorded answers, and a process that is
//! a script.

#![expect(clippy::unwrap_used, reason = "clippy knows tests by their attribute, and not what they share")]

mod fake;
mod host;
mod own;
mod suite;

use std::{path::Path, sync::Arc, time::Duration};

use thrum_core::{Ambient, Timestamp};
use thrum_tailnet::{Config, Mode, State, Status, Tailnet};
use tokio::time::timeout;

/// A clock that stands still, and a random source that makes every pause as short as possible.
struct Still;

impl Ambient for Still {
    fn now(&mut self) -> Timestamp {
        Timestamp::parse("2026-11-23T13:00:00Z").unwrap()
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(0);
    }
}

fn config(mode: Mode, dir: &Path) -> Config {
    Config {
        enabled: true,
        mode,
        hostname: "one".to_owned(),
        auth_key: None,
        control_url: Some("http://127.0.0.1:9".to_owned()),
        state_dir: dir.join("tsnet"),
        port: None,
        host_socket: dir.join("host.sock"),
        tailscaled: Some(dir.join("tailscaled")),
        log_file: dir.join("tailscaled.log"),
        runtime_dir: dir.join("run"),
        ambients: Arc::new(|| Box::new(Still)),
    }
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), work).await.unwrap_or_else(|_| panic!("{what}: not soon"))
}

/// Waits until the status satisfies a condition.
async fn when(tailnet: &Tailnet, what: impl Fn(&Status) -> bool) -> Status {
    let mut status = tailnet.status();
    let reached = timeout(Duration::from_secs(20), status.wait_for(|status| what(status)))
        .await
        .map(|status| status.unwrap().clone());
    reached.unwrap_or_else(|_| panic!("it stands otherwise: {:?}", tailnet.status().borrow()))
}

async fn until(tailnet: &Tailnet, state: State) -> Status {
    when(tailnet, |status| status.state == state).await
}
