//! Watches a `tailscaled` and publishes its state until it no longer answers.

use thrum_core::limits;
use tokio::time::{Instant, sleep_until};

use crate::{
    Config, DEFAULT_CONTROL_URL, Mode, State,
    hub::{Hub, Up},
    localapi::{ApiError, LocalApi, NodeStatus},
    login::Login,
    state::{Seen, Verdict, judge},
};

/// Watches a `tailscaled` and publishes its state; returns the error with which it stopped answering. Calls `answered`
/// after each status received.
pub(crate) async fn follow(
    hub: &Hub,
    mode: Mode,
    api: &LocalApi,
    mut login: Option<Login>,
    mut answered: impl FnMut() + Send,
) -> ApiError {
    let mut bus = match api.watch().await {
        Ok(bus) => bus,
        Err(error) => return error,
    };
    let mut refusal: Option<String> = None;
    let mut waiting_since = Instant::now();
    loop {
        let mut status = match api.status().await {
            Ok(status) => status,
            Err(error) => return error,
        };
        answered();
        for text in &mut status.health {
            *text = hub.config.without_key(text);
        }
        hub.is_handed_on_to_by((!status.tun).then_some(api));
        let running = status.backend_state == "Running";
        if running {
            (refusal, waiting_since) = (None, Instant::now());
        }
        let mut verdict = judge(&seen(&hub.config, mode, &status, refusal.as_deref(), waiting_since, hub.now()));
        if let Some(login) = &mut login {
            match login.step(&hub.config, api, &status, verdict.state).await {
                Ok(()) => {}
                Err(ApiError::Failed(words)) => {
                    let words = hub.config.without_key(&words);
                    verdict = Verdict::new(
                        State::Crashed,
                        format!("this daemon's Tailscale node does not start: {}", thrum_core::name::printable(&words)),
                        "Check THRUM_TS_HOSTNAME and THRUM_TS_CONTROL_URL; its log is beside the daemon's.",
                    );
                }
                Err(error) => return error,
            }
        }
        let (user, up) = if verdict.state == State::Running { node(api, &status).await } else { (None, None) };
        if verdict.state == State::Running && up.is_none() {
            verdict = Verdict {
                sentence: Some("the tailnet has given this node no address yet".into()),
                ..Verdict::plain(State::Starting)
            };
        }
        hub.publish(&verdict, Some((&status, user)), up);
        let slow_at = waiting_since + limits::TAILNET_STARTING;
        let next_look =
            if running || slow_at <= Instant::now() { Instant::now() + limits::TAILNET_LOOK } else { slow_at };
        let next_look = login.as_ref().and_then(Login::retry_at).map_or(next_look, |at| at.min(next_look));
        tokio::select! {
            notice = bus.next() => match notice {
                Ok(notice) => if let Some(words) = notice.err_message {
                    refusal = Some(hub.config.without_key(&words));
                },
                Err(error) => return error,
            },
            () = sleep_until(next_look) => {}
        }
    }
}

fn seen<'a>(
    config: &'a Config,
    mode: Mode,
    status: &'a NodeStatus,
    refusal: Option<&'a str>,
    waiting_since: Instant,
    now: thrum_core::Timestamp,
) -> Seen<'a> {
    Seen {
        mode,
        auto: config.mode == Mode::Auto,
        status,
        refusal,
        waited: waiting_since.elapsed(),
        now,
        hostname: &config.hostname,
        has_key: config.auth_key.is_some(),
        control_url: config.control_url.as_deref().unwrap_or(DEFAULT_CONTROL_URL),
        state_dir: &config.state_dir,
    }
}

/// Returns the owner of the running node, and the means to use the node; `None` for both if the node has no address
/// yet, and for the owner if the lookup fails.
async fn node(api: &LocalApi, status: &NodeStatus) -> (Option<String>, Option<Up>) {
    let mut addresses = status.addresses.clone();
    addresses.sort_by_key(std::net::IpAddr::is_ipv6);
    let Some(address) = addresses.first().copied() else { return (None, None) };
    let user = api.whois(address).await.ok().map(|whois| whois.node().user);
    (user, Some(Up { api: api.clone(), addresses, tun: status.tun }))
}
