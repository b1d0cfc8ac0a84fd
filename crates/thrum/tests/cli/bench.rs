use serde_json::Value;

use crate::common::{TestRepo, paired};

fn figure<'a>(figures: &'a Value, what: &str) -> &'a Value {
    let found = figures.as_array().unwrap().iter().find(|figure| figure["what"].as_str().unwrap().starts_with(what));
    found.unwrap_or_else(|| panic!("no figure '{what}' in {figures}"))
}

#[test]
fn every_figure_is_measured_and_compared_with_two_other_daemons() {
    let (left, right) = paired();
    let sockets =
        format!("{},{}", left.path(".thrum/var/thrum.sock").display(), right.path(".thrum/var/thrum.sock").display());
    let figures = left.json(&["bench", "--messages", "200", "--events", "300", "--against", &sockets]);
    for what in [
        "daemon start",
        "message.send, 1 writer",
        "thrum send",
        "thrum inbox",
        "thrum status",
        "thrum prime",
        "sent on one daemon",
        "limit: one durable write",
        "limit: a round trip",
    ] {
        assert!(figure(&figures, what)["p50_ms"].as_f64().unwrap() > 0.0, "{what}: {figures}");
    }
    for what in ["message.send, 8 writers", "message.send, 50 writers", "catch-up", "limit: SQLite"] {
        assert!(figure(&figures, what)["per_second"].as_f64().unwrap() > 0.0, "{what}: {figures}");
    }
    assert!(figure(&figures, "on disk")["bytes"].as_u64().unwrap() > 200, "{figures}");
    for how in ["one by one", "catch-up"] {
        let wire = figure(&figures, &format!("TCP payload between daemons per message of 300 bytes, {how}"));
        let number = |of: &str| wire[of].as_f64().unwrap();
        // The letters of the text alone take more than half of its length, however they are encoded.
        assert!(number("bytes_there") > 150.0 && number("bytes_back") > 0.0, "{wire}");
        assert!((number("bytes") - number("bytes_there") - number("bytes_back")).abs() <= 1.0, "{wire}");
    }
    for what in [
        "message.send, 1 writer",
        "message.get",
        "message.list",
        "message.send, 50 writers",
        "sent on one, found on the other",
    ] {
        assert!(figure(&figures, &format!("compared: {what}"))["ratio"].as_f64().unwrap() > 0.0, "{what}: {figures}");
    }
    // The data that the comparison wrote stays; all other data of the benchmark is gone.
    let team = left.json(&["team", "--all"]);
    let names: Vec<_> =
        team["members"].as_array().unwrap().iter().map(|member| member["agent_id"].as_str().unwrap()).collect();
    assert!(names.contains(&"bench") && !names.contains(&"bea"), "{names:?}");
}

#[test]
fn another_build_is_measured_in_turn_and_each_number_becomes_a_ratio() {
    let repo = TestRepo::git("repo");
    let program = env!("CARGO_BIN_EXE_thrum");
    let figures =
        repo.json(&["bench", "--messages", "100", "--events", "100", "--against-binary", program, "--rounds", "2"]);
    for what in [
        "message.send, 1 writer, p50",
        "message.send, 50 writers, daemon's processor time",
        "message.send, 50 writers",
        "thrum inbox, p50",
        "on disk, per message",
        "catch-up",
        "memory, peak of the daemon that caught up",
        "sent on one daemon, readable on the other, p50",
        "TCP payload between daemons per message of 300 bytes, one by one",
        "TCP payload between daemons per message of 300 bytes, catch-up",
        "limit: SQLite",
    ] {
        if !cfg!(target_os = "linux") && (what.contains("memory") || what.contains("processor")) {
            continue;
        }
        let figure = figure(&figures, what);
        assert_eq!((figure["this"].as_array().unwrap().len(), figure["other"].as_array().unwrap().len()), (2, 2));
        let ratio = |of: &str| figure[of].as_f64().unwrap();
        assert!(ratio("lowest_ratio") > 0.0 && ratio("lowest_ratio") <= ratio("ratio"), "{figure}");
        assert!(ratio("ratio") <= ratio("highest_ratio"), "{figure}");
    }
    repo.thrum(&["bench", "--against-binary", "not-there"]).fails(3, "cannot find the other build not-there");
    repo.thrum(&["bench", "--against-binary", "/bin/false"]).fails(2, "is not a build of thrum");
    repo.thrum(&["bench", "--rounds", "2"]).fails(2, "--against-binary");
}

#[test]
fn daemons_to_compare_with_must_be_two_and_answer() {
    let repo = TestRepo::with_agent("repo", "ann");
    let socket = repo.path(".thrum/var/thrum.sock").display().to_string();
    repo.thrum(&["bench", "--against", &socket]).fails(2, "two sockets");
    let ran = repo.thrum(&["bench", "--against", &format!("{socket},{socket}.not")]).fails(69, "thrum.sock.not");
    assert!(!ran.stderr.contains("Measuring"), "it is noticed before the work: {}", ran.stderr);
}

#[test]
fn the_size_and_latency_of_texts_for_agents_are_measured() {
    let repo = TestRepo::git("repo");
    let figures = repo.json(&["bench", "--agents", "--messages", "100"]);
    for what in [
        "tools/list",
        "instructions",
        "briefing",
        "mail with a prompt",
        "check_messages, 10 messages, as text",
        "text that wakes",
    ] {
        let figure = figure(&figures, what);
        let (bytes, tokens) = (figure["bytes"].as_u64().unwrap(), figure["tokens_estimated"].as_u64().unwrap());
        assert!(bytes > 100 && tokens == bytes.div_ceil(4), "{what}: {figures}");
    }
    for what in [
        "hook prompt without news",
        "hook stop without news",
        "tools/call send_message",
        "tools/call check_messages",
        "sent on one daemon, the waiter's text printed on the other",
        "hook prompt, no daemon",
    ] {
        assert!(figure(&figures, what)["p50_ms"].as_f64().unwrap() > 0.0, "{what}: {figures}");
    }
    if cfg!(target_os = "linux") {
        assert!(figure(&figures, "thrum mcp serve, memory")["bytes"].as_u64().unwrap() > 0, "{figures}");
    }
    repo.thrum(&["bench", "--agents", "--abuse"]).fails(2, "cannot be used with");
}
