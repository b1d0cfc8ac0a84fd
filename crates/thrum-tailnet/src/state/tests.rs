//! Tests of the states that follow from a `tailscaled`, with answers recorded from a real `tailscaled` 1.98.0 where a
//! test tailnet can cause them.

use super::*;

macro_rules! recorded {
    ($name:literal) => {
        serde_json::from_str::<NodeStatus>(include_str!(concat!("../../tests/data/", $name, ".json"))).unwrap()
    };
}

const NOW: &str = "2026-11-23T13:00:00Z";

fn seen(mode: Mode, status: &NodeStatus) -> Seen<'_> {
    Seen {
        mode,
        auto: false,
        status,
        refusal: None,
        waited: Duration::ZERO,
        now: Timestamp::parse(NOW).unwrap(),
        hostname: "a",
        has_key: true,
        control_url: "https://control.example.org",
        state_dir: Path::new("/r/.thrum/var/tsnet"),
    }
}

fn own(status: &NodeStatus) -> Verdict {
    judge(&seen(Mode::Own, status))
}

fn host(status: &NodeStatus) -> Verdict {
    judge(&seen(Mode::Host, status))
}

/// The state, its sentence and its hint.
fn words(verdict: &Verdict) -> (State, &str, &str) {
    (verdict.state, verdict.sentence.as_deref().unwrap_or_default(), verdict.hint.as_deref().unwrap_or_default())
}

#[test]
fn a_running_node_needs_no_words() {
    for verdict in [own(&recorded!("running")), host(&recorded!("running-with-peers"))] {
        assert_eq!(words(&verdict), (State::Running, "", ""));
        assert_eq!(verdict.condition(), Condition::Up);
    }
}

#[test]
fn a_name_that_was_taken_is_said_while_it_works() {
    let mut status = recorded!("running");
    status.me.dns_name = "a-1.tail.test.".into();
    let verdict = own(&status);
    assert_eq!(words(&verdict).1, "the name a is taken on the tailnet, so that this node is called a-1");
    assert_eq!((verdict.state, verdict.condition()), (State::Running, Condition::Up));
    assert!(judge(&Seen { hostname: "A", ..seen(Mode::Own, &status) }).sentence.is_some(), "names have no case");
    assert_eq!(host(&status).sentence, None, "nobody asked for a name of the machine's node");
    for other in ["a-x.tail.test.", "a-.tail.test.", "ab-1.tail.test."] {
        status.me.dns_name = other.into();
        assert_eq!(own(&status).sentence, None, "{other}");
    }
}

#[test]
fn a_fresh_node_is_starting_until_control_has_had_its_time() {
    let status = recorded!("fresh");
    assert_eq!(words(&own(&status)), (State::Starting, "this daemon's Tailscale node is starting", ""));
    let late = judge(&Seen { waited: limits::TAILNET_STARTING, ..seen(Mode::Own, &status) });
    assert_eq!(
        words(&late),
        (
            State::ControlUnreachable,
            "the tailnet's control server https://control.example.org does not answer",
            "Is the machine online, and is THRUM_TS_CONTROL_URL right? It goes on by itself."
        )
    );
    assert!(matches!(late.condition(), Condition::Down(_)));
}

#[test]
fn a_refused_key_is_named_with_controls_own_words_and_not_shown() {
    let status = recorded!("key-refused");
    let verdict = own(&status);
    assert_eq!(
        words(&verdict),
        (
            State::KeyRefused,
            "the tailnet refused the auth key: invalid authkey",
            "Make a new key in the tailnet's administration, put it into .env as THRUM_TS_AUTHKEY, then `thrum daemon restart`."
        )
    );
    // The refusal arrives on the bus before it appears in the health.
    let fresh = recorded!("fresh");
    assert_eq!(judge(&Seen { refusal: Some("key expired"), ..seen(Mode::Own, &fresh) }).state, State::KeyRefused);
    let keyless = judge(&Seen { has_key: false, ..seen(Mode::Own, &status) });
    assert_eq!(words(&keyless).0, State::NeedsLogin);
    assert!(matches!(keyless.condition(), Condition::Down(_)));
}

#[test]
fn control_that_does_not_answer_is_no_refusal() {
    for status in [recorded!("control-unreachable"), recorded!("restarted-without-control")] {
        // An earlier refusal does not count.
        let verdict = judge(&Seen { refusal: Some("invalid authkey"), ..seen(Mode::Own, &status) });
        assert_eq!(verdict.state, State::ControlUnreachable);
        assert!(verdict.sentence.unwrap().contains("connection refused"));
        let host = host(&NodeStatus { backend_state: "NoState".into(), ..status });
        assert_eq!(host.state, State::ControlUnreachable);
    }
    let busy = NodeStatus {
        health: vec![
            "You are logged out. The last login error was: node registration rate limited; will retry after 5s".into(),
        ],
        ..recorded!("fresh")
    };
    assert_eq!(own(&busy).state, State::ControlUnreachable);
    let again = NodeStatus {
        health: vec![
            "You are logged out. The last login error was: fetch control key: Get \"https://x\": context canceled"
                .into(),
        ],
        ..recorded!("fresh")
    };
    assert_eq!(own(&again).state, State::Starting, "we interrupted it ourselves");
}

#[test]
fn a_login_url_is_shown_and_the_listeners_wait() {
    let status = recorded!("login-url");
    let url = status.auth_url.clone();
    let verdict = own(&status);
    assert_eq!(
        words(&verdict),
        (
            State::NeedsLogin,
            "this daemon's Tailscale node is not logged in",
            &*format!("Visit {url} or set THRUM_TS_AUTHKEY; it goes on by itself after the visit.")
        )
    );
    assert_eq!(verdict.condition(), Condition::Starting(format!("visit {url} to log this machine in")));
    assert_eq!(verdict.login_url, Some(url.clone()));
    assert_eq!(
        words(&host(&status)),
        (State::NeedsLogin, "this machine's Tailscale is logged out", &*format!("Visit {url}."))
    );
}

#[test]
fn a_node_that_control_has_lost_is_deleted() {
    let asks = NodeStatus { have_node_key: true, ..recorded!("login-url") };
    assert_eq!(words(&own(&asks)).0, State::Deleted);
    assert!(own(&asks).login_url.is_some());
    let refused = NodeStatus { have_node_key: true, ..recorded!("key-refused") };
    assert_eq!(
        words(&own(&refused)),
        (
            State::Deleted,
            "the tailnet does not accept this daemon's node any more: invalid authkey",
            "Put a new auth key into .env as THRUM_TS_AUTHKEY, then `thrum daemon restart`; to begin as a new node, remove \
             /r/.thrum/var/tsnet first."
        )
    );
}

#[test]
fn an_expired_key_is_named_with_its_time() {
    let status = recorded!("expired");
    let verdict = own(&status);
    assert_eq!(
        words(&verdict),
        (
            State::Expired,
            "the key of this daemon's Tailscale node has expired (since 2026-11-23T12:38:26Z)",
            "Extend its key in the tailnet's administration, or put a new THRUM_TS_AUTHKEY into .env, then `thrum daemon restart`."
        )
    );
    assert_eq!(
        words(&host(&status)),
        (
            State::Expired,
            "this machine's Tailscale key has expired (since 2026-11-23T12:38:26Z)",
            "`sudo tailscale up --force-reauth` logs it in again."
        )
    );
    let url = NodeStatus { auth_url: "https://login/x".into(), ..status };
    assert_eq!(own(&url).login_url.as_deref(), Some("https://login/x"));
    let weird =
        "You are logged out. The last login error was: weird: regen=true but server says NodeKeyExpired: nodekey:1";
    let unseen = NodeStatus { have_node_key: true, health: vec![weird.into()], ..recorded!("fresh") };
    assert_eq!(own(&unseen).state, State::Expired, "told before the tailnet was seen");
}

#[test]
fn approval_is_waited_for() {
    let status = recorded!("needs-approval");
    assert_eq!(
        words(&own(&status)),
        (
            State::NeedsApproval,
            "this daemon's Tailscale node waits for an administrator of the tailnet to approve it",
            "Approve it in the administration of https://control.example.org; it goes on by itself."
        )
    );
    assert!(words(&host(&status)).2.contains("https://login.tailscale.com/admin/machines"));
    assert!(matches!(own(&status).condition(), Condition::Starting(_)));
}

#[test]
fn the_machines_tailscale_is_stopped_logged_out_or_starting() {
    let stopped = recorded!("stopped");
    assert_eq!(
        words(&host(&stopped)),
        (State::Stopped, "this machine's Tailscale is stopped", "`sudo tailscale up` starts it.")
    );
    assert_eq!(words(&own(&stopped)).2, "`thrum daemon restart` starts it.");
    let fresh = recorded!("fresh");
    assert_eq!(
        words(&host(&fresh)),
        (State::NeedsLogin, "this machine's Tailscale is logged out", "`sudo tailscale up` logs it in.")
    );
    let starting = NodeStatus { backend_state: "Starting".into(), ..fresh };
    assert_eq!(words(&host(&starting)), (State::Starting, "this machine's Tailscale is starting", ""));
    let other = NodeStatus { backend_state: "InUseOtherUser".into(), ..starting };
    assert_eq!(host(&other).state, State::InUse);
}

#[test]
fn a_tailscaled_that_cannot_be_asked_is_told_with_both_ways_out() {
    let socket = Path::new("/var/run/tailscale/tailscaled.sock");
    let gone = host_unreachable(&ApiError::NotRunning, socket, true);
    assert_eq!(
        words(&gone),
        (
            State::NotRunning,
            "Tailscale does not run on this machine (nobody answers at /var/run/tailscale/tailscaled.sock)",
            "Install or start Tailscale, then `sudo tailscale up`; or set THRUM_TS_AUTHKEY (or THRUM_TS_MODE=own, to log in by hand) for \
             a node of this daemon's own."
        )
    );
    let shut = host_unreachable(&ApiError::NotPermitted("Permission denied".into()), socket, false);
    assert_eq!(
        words(&shut),
        (
            State::NotPermitted,
            "this user may not ask this machine's Tailscale at /var/run/tailscale/tailscaled.sock: Permission denied",
            "`sudo tailscale set --operator=$USER` permits it."
        )
    );
    assert_eq!(host_unreachable(&ApiError::Timeout, socket, false).state, State::NotRunning);
}

#[test]
fn words_of_others_forge_no_lines() {
    let mut status = recorded!("key-refused");
    status.health = vec!["You are logged out. The last login error was: no\n\u{1b}[31mtailnet: running".into()];
    assert!(!own(&status).sentence.unwrap().chars().any(char::is_control));
}

#[test]
fn states_have_one_name() {
    for state in [
        State::Off,
        State::KeyRefused,
        State::ControlUnreachable,
        State::StateDir,
        State::InUse,
        State::Running,
        State::Deleted,
    ] {
        assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
    }
}
