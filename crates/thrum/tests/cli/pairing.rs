//! Pairing: what a successful pairing guarantees, and the error for each kind of wrong code and address.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    thread,
};

use serde_json::{Value, json};

use crate::common::{Begun, TestRepo, instead_of_daemon, pair, paired, wrong};

/// Starts `peer add` once an earlier pairing session has ended. Returns the command with its code and address.
fn invite(repo: &TestRepo, more: &[&str]) -> (Begun, String, String) {
    let (adding, shown) = loop {
        let mut adding = repo.begin(&[&["peer", "add", "--via", "local", "--json"], more].concat());
        let line = adding.line();
        if line.is_empty() {
            adding.end().fails(4, "already in progress");
            continue;
        }
        break (adding, serde_json::from_str::<Value>(&line).unwrap());
    };
    let text = |key: &str| shown[key].as_str().unwrap().to_owned();
    assert_eq!(text("join"), format!("thrum peer join {}", text("address")));
    assert!(text("peercode").ends_with(&format!("{}:{}", text("address"), text("code"))), "{shown}");
    (adding, text("code"), text("address"))
}

fn join(repo: &TestRepo, address: &str, code: &str) -> crate::common::Ran {
    repo.thrum_with_input(format!("{code}\n").as_bytes(), &["peer", "join", address])
}

#[test]
fn two_repositories_are_paired_with_a_code_as_the_page_shows_it() {
    let (left, right) = (TestRepo::with_agent("my-laptop", "ann"), TestRepo::with_agent("office-server", "bob"));
    let mut adding = left.begin(&["peer", "add", "--via", "local"]);
    let first = adding.line();
    let code = first.strip_prefix("Waiting for connection... Pairing code: ").expect(&first).to_owned();
    let line = loop {
        let line = adding.line();
        if line.trim().starts_with("thrum peer join") {
            break line.trim().to_owned();
        }
    };
    // People may paste the whole line.
    let joined = join(&right, &line, &code).ok();
    assert_eq!(joined.stdout, "Paired with \"my-laptop\". Syncing started.\n");
    let added = adding.end().ok();
    let last = added.stdout.lines().last().unwrap();
    assert!(
        last.starts_with("Paired with \"office-server\" (127.0.0.1:") && last.ends_with("). Syncing started."),
        "{last}"
    );

    for (repo, name) in [(&left, "office-server"), (&right, "my-laptop")] {
        let list = repo.json(&["peer", "list"]);
        assert_eq!((list.as_array().unwrap().len(), list[0]["name"].as_str()), (1, Some(name)), "{list}");
        let piped = repo.thrum(&["peer", "list"]).ok().stdout;
        assert!(piped.contains(name) && piped.contains('Z') && !piped.contains("ago"), "{piped}");
    }
}

#[test]
fn without_the_tailnet_pairing_first_warns_that_it_reaches_this_machine_only() {
    let repo = TestRepo::with_agent("repo", "ann");
    let mut adding = repo.begin(&["peer", "add"]);
    assert!(adding.talk().contains("this machine only"));
    assert!(adding.line().contains("Pairing code: "));
}

#[test]
fn c5_a_malformed_code_is_refused_before_anything_is_sent() {
    let (left, right) = (TestRepo::with_agent("left", "ann"), TestRepo::with_agent("right", "bob"));
    let (adding, code, address) = invite(&left, &[]);
    for bad in ["42", "４２４２", "73921", "abcd", "-123", ""] {
        join(&right, &address, bad).fails(2, "four digits").says("Nothing was sent");
    }
    right.thrum(&["peer", "join", &address]).fails(2, "standard input");
    // None of the malformed codes used up an attempt.
    join(&right, &address, &wrong(&code)).fails(4, "2 attempts remaining");
    // Spaces around and between the digits are ignored.
    join(&right, &address, &format!(" {} {}\t", &code[..2], &code[2..])).ok();
    adding.end().ok();
}

/// The line that Go Thrum prints can be pasted unchanged: on the command line, on standard input, and at each prompt.
#[test]
fn the_line_that_go_thrum_prints_joins_wherever_it_is_pasted() {
    let peercode = "h1:100.64.0.3:9101:5878";
    let joined = json!({"address": "100.64.0.3:9101", "code": "5878"});
    for words in [
        vec!["--peercode", peercode],
        vec!["--peercode", peercode, "--type", "tailscale"],
        vec!["--type=local", peercode],
        vec!["100.64.0.3:9101", "58", "78"],
        vec!["thrum", "peer", "join", "100.64.0.3:9101", "58", "78"],
    ] {
        let repo = TestRepo::with_agent("repo", "ann");
        let heard = instead_of_daemon(&repo, 1, answered);
        repo.thrum(&[&["peer", "join"], words.as_slice()].concat()).ok().says("list of processes");
        assert_eq!(heard.join().unwrap()[0]["params"], joined, "{words:?}");
    }
    let line = format!("thrum peer join --type tailscale --peercode {peercode}\n");
    for words in [["peer", "join"].as_slice(), &["peer", "join", "--type", "tailscale", "--peercode", "-"]] {
        let repo = TestRepo::with_agent("repo", "ann");
        let heard = instead_of_daemon(&repo, 1, answered);
        repo.thrum_with_input(line.as_bytes(), words).ok();
        assert_eq!(heard.join().unwrap()[0]["params"], joined);
    }

    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 3, answered);
    let mut joining = repo.asks(&["peer", "join"]);
    joining.until("or another address: ");
    joining.types(&line);
    let (code, screen) = joining.end();
    assert_eq!((code, screen.contains("Enter pairing code")), (0, false), "{screen}");
    assert_eq!(heard.join().unwrap()[2]["params"], joined);

    repo.thrum(&["peer", "join", "--type", "network", "h1:192.168.0.2:9100:5878"]).fails(4, "not over a plain network");
    repo.thrum(&["peer", "join", "--type", "repair", "desk"]).fails(4, "--type repair").says("peer remove");
    repo.thrum(&["peer", "join", "h1:100.64.0.3:9101:1234567890123456"]).fails(4, "v0.7");
}

/// Replies as if one daemon were waiting, at the address that `joined` expects.
fn one_waits(request: &Value) -> Option<Value> {
    if request["method"] != "peer.waiting" {
        return answered(request);
    }
    let mut found = on_tailnet("peer.waiting")?;
    found["daemons"].as_array_mut()?.remove(0);
    replies(request, Some(found))
}

#[test]
fn a_code_without_an_address_is_for_the_only_daemon_that_waits() {
    let joined = json!({"address": "100.64.0.3:9101", "code": "7392"});
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 2, one_waits);
    repo.thrum_with_input(b"7392\n", &["peer", "join"]).ok();
    assert_eq!(heard.join().unwrap()[1]["params"], joined);
    // The user did not name the daemon that would receive the code, so `--plain` has no effect.
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 2, one_waits);
    repo.thrum_with_input(b"73 92\n", &["peer", "join", "--plain"]).ok();
    assert_eq!(heard.join().unwrap()[1]["params"], joined);

    // The code also works at the prompt for an address.
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 3, one_waits);
    let mut joining = repo.asks(&["peer", "join"]);
    joining.until("Press Enter to join it, or type another address: ");
    joining.types("7392\n");
    let (code, screen) = joining.end();
    assert_eq!((code, screen.contains("Enter pairing code")), (0, false), "{screen}");
    assert_eq!(heard.join().unwrap()[2]["params"], joined);

    // If several daemons wait, the user has to choose one, and is not asked for the code again.
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 3, answered);
    let mut joining = repo.asks(&["peer", "join"]);
    joining.until("Its number, or another address: ");
    joining.types("7392\n2\n");
    let (code, screen) = joining.end();
    assert_eq!((code, screen.contains("Enter pairing code")), (0, false), "{screen}");
    assert_eq!(heard.join().unwrap()[2]["params"], joined);
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 1, answered);
    repo.thrum_with_input(b"7392\n", &["peer", "join"])
        .fails(2, "the address is missing")
        .says("ci at 100.64.0.3:9101");
    heard.join().unwrap();
}

#[test]
fn c5_a_code_keeps_its_zeros_on_the_way_to_the_daemon() {
    let repo = TestRepo::with_agent("repo", "ann");
    let no = json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "no"}});
    let heard = instead_of_daemon(&repo, 1, move |_| Some(no.clone()));
    join(&repo, "127.0.0.1:9100", "0042").fails(1, "no");
    assert_eq!(heard.join().unwrap()[0]["params"], json!({"address": "127.0.0.1:9100", "code": "0042"}));
}

#[test]
fn three_wrong_codes_end_a_session_and_many_lock_pairing_without_showing_a_code() {
    let (left, right) = (TestRepo::with_agent("left", "ann"), TestRepo::with_agent("right", "bob"));
    let (mut tried, mut last) = (0, String::new());
    // Three wrong codes end a session; new sessions follow until the hourly budget is used up.
    let locked = loop {
        let mut adding = left.begin(&["peer", "add", "--via", "local", "--json"]);
        let line = adding.line();
        if line.is_empty() {
            break adding.end();
        }
        let shown: Value = serde_json::from_str(&line).unwrap();
        let (code, address) = (shown["code"].as_str().unwrap(), shown["address"].as_str().unwrap());
        for _ in 0..3 {
            join(&right, address, &wrong(code)).fails(4, "");
            tried += 1;
        }
        join(&right, address, code).fails(4, "");
        address.clone_into(&mut last);
        assert_ne!(adding.end().code, 0, "its session is over");
        assert!(tried < 40, "it never locks");
    };
    assert_eq!((locked.code, locked.stdout.as_str()), (4, ""), "{locked:?}");
    // Both sides report when pairing is possible again.
    assert!(locked.stderr.contains("pairing is locked until 20"), "{locked:?}");
    join(&right, &last, "0000").fails(4, "pairing from there is possible again at 20");
    assert_eq!(right.json(&["peer", "list"]), json!([]));
    assert_eq!(left.json(&["peer", "list"]), json!([]));
}

#[test]
fn a_used_or_expired_code_is_refused() {
    let (left, right, third) = (
        TestRepo::with_agent("left", "ann"),
        TestRepo::with_agent("right", "bob"),
        TestRepo::with_agent("third", "eve"),
    );
    let (adding, code, address) = invite(&left, &[]);
    join(&right, &address, &code).ok();
    let second = adding.end().ok().json();
    assert_eq!(
        (&second["status"], &second["peer_name"], &second["pairing"], &second["syncing"]),
        (&"paired".into(), &"right".into(), &"spake2-1".into(), &true.into()),
        "{second}"
    );
    assert_ne!(join(&third, &address, &code).code, 0, "used");

    let (adding, code, address) = invite(&left, &["--timeout", "1s"]);
    let ended = adding.end();
    assert!(ended.code != 0 && ended.stderr.contains("timed out"), "{ended:?}");
    assert_ne!(join(&third, &address, &code).code, 0, "expired");
    assert_eq!(left.json(&["peer", "list"]).as_array().unwrap().len(), 1);
    assert_eq!(third.json(&["peer", "list"]), json!([]));
}

#[test]
fn a_session_ends_with_the_command_that_started_it() {
    let (left, right) = (TestRepo::with_agent("left", "ann"), TestRepo::with_agent("right", "bob"));
    let (adding, old, _) = invite(&left, &[]);
    adding.kill();
    let (adding, code, address) = invite(&left, &[]);
    if old != code {
        join(&right, &address, &old).fails(4, "invalid pairing code");
    }
    join(&right, &address, &code).ok();
    adding.end().ok();
}

#[test]
fn joining_oneself_and_joining_twice_are_refused() {
    let (left, right) = paired();
    let (own, code, address) = invite(&left, &[]);
    join(&left, &address, &code).fails(4, "");
    own.kill();
    let (twice, code, address) = invite(&left, &[]);
    join(&right, &address, &code).fails(4, "already paired");
    twice.kill();
    for repo in [&left, &right] {
        assert_eq!(repo.json(&["peer", "list"]).as_array().unwrap().len(), 1);
    }
}

#[test]
fn an_address_without_a_thrum_daemon_is_a_clear_error() {
    let repo = TestRepo::with_agent("repo", "ann");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = join(&repo, &free.to_string(), "1234");
    assert!(nobody.code != 0 && nobody.stderr.contains(&free.to_string()), "{nobody:?}");

    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = web.local_addr().unwrap();
    thread::spawn(move || {
        for stream in web.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let other = join(&repo, &address.to_string(), "1234");
    assert!(other.code != 0 && !other.stderr.is_empty(), "{other:?}");
    for bad in ["", "one two", "127.0.0.1:99999", "127.0.0.1:x", "http://127.0.0.1:9100/"] {
        assert_ne!(join(&repo, bad, "1234").code, 0, "{bad}");
    }
    assert_eq!(repo.json(&["peer", "list"]), json!([]));
}

#[test]
fn the_peercode_of_go_thrum_joins_with_a_warning() {
    let (left, right) = (TestRepo::with_agent("left", "ann"), TestRepo::with_agent("right", "bob"));
    let (adding, code, address) = invite(&left, &[]);
    right.thrum(&["peer", "join", &format!("left:{address}:{code}")]).ok().says("list of processes");
    adding.end().ok();
    right.thrum(&["peer", "remove", "left"]).ok();
    left.thrum(&["peer", "remove", "right"]);
    let (adding, code, address) = invite(&left, &[]);
    let by_input = right.thrum_with_input(format!("left:{address}:{code}\n").as_bytes(), &["peer", "join"]).ok();
    assert_eq!(by_input.stderr, "", "standard input is read by nobody else");
    adding.end().ok();
}

#[test]
fn a_removed_peer_is_notified_and_both_can_pair_again() {
    let (left, right) = paired();
    left.thrum(&["peer", "remove", "right"]).ok();
    assert_eq!(left.json(&["peer", "list"]), json!([]));
    left.thrum(&["peer", "remove", "right"]).fails(3, "right");
    // The other side learns of the removal when it next makes a request, or earlier.
    right.thrum(&["sync", "force"]);
    let seen = right.json(&["peer", "status"]);
    assert!(seen == json!([]) || seen[0]["state"] == "removed_us", "{seen}");
    right.thrum(&["peer", "remove", "left"]);
    pair(&left, &right);
}

/// C2: the waiting command reports at once which address tried a wrong code.
#[test]
fn a_wrong_code_is_shown_to_the_waiting_side_at_once() {
    let (left, right) = (TestRepo::with_agent("left", "ann"), TestRepo::with_agent("right", "bob"));
    let (mut adding, code, address) = invite(&left, &[]);
    join(&right, &address, &wrong(&code)).fails(4, "2 attempts remaining");
    let said: Value = serde_json::from_str(&adding.talk()).unwrap();
    let said = said["warning"]["message"].as_str().unwrap();
    assert!(said.starts_with("wrong code from 127.0.0.1:") && said.ends_with(", which has 2 tries left"), "{said}");
    join(&right, &address, &code).ok();
    adding.end().ok();
}

/// Replies about waiting daemons on other machines, as a daemon on a tailnet would.
fn on_tailnet(method: &str) -> Option<Value> {
    let node = |name: &str| json!({"id": format!("n-{name}"), "name": name, "user": "ann@example.com"});
    let daemon = |name: &str, address: &str, at: &str| json!({"name": name, "address": address, "node": node(at), "version": "0.1.0", "transport": "tailscale"});
    match method {
        "peer.waiting" => Some(json!({
            "daemons": [daemon("desk\u{1b}[2J", "100.64.0.2:9100", "tower"), daemon("ci", "100.64.0.3:9101", "runner")],
            "asked": 64, "not_asked": 3,
        })),
        "peer.start_pairing" => Some(json!({
            "code": "7392", "address": "100.64.0.7:9100", "join": "thrum peer join 100.64.0.7:9100", "peercode": "x:100.64.0.7:9100:7392",
            "name": "x", "transport": "tailscale",
        })),
        "peer.look" => {
            Some(json!({"address": "100.64.0.3:9101", "node": node("runner"), "name": "ci", "pairing": "spake2-1"}))
        }
        "peer.join" => Some(json!({
            "status": "paired", "peer_name": "ci", "peer_address": "100.64.0.3:9101", "pairing": "spake2-1", "syncing": true,
        })),
        _ => None,
    }
}

fn replies(request: &Value, result: Option<Value>) -> Option<Value> {
    Some(json!({"jsonrpc": "2.0", "id": request["id"], "result": result?}))
}

fn answered(request: &Value) -> Option<Value> {
    replies(request, on_tailnet(request["method"].as_str().unwrap()))
}

#[test]
fn daemons_that_wait_on_the_tailnet_are_offered_at_a_terminal() {
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 3, answered);
    let mut joining = repo.asks(&["peer", "join"]);
    joining.until("Its number, or another address: ");
    joining.types("2\n");
    joining.until("Enter pairing code: ");
    joining.types("7392\n");
    let (code, screen) = joining.end();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("1  \"desk\\u{1b}[2J\" at 100.64.0.2:9100 on tower (ann@example.com)\n"), "{screen}");
    assert!(
        screen.contains("2  ci at 100.64.0.3:9101 on runner (ann@example.com)\n")
            && screen.contains("3 more nodes were not asked")
    );
    assert_eq!(heard.join().unwrap()[2]["params"], json!({"address": "100.64.0.3:9101", "code": "7392"}));
}

/// Replies as if the peer at the address were a legacy peer, to which the code itself would have to be sent.
fn old(request: &Value) -> Option<Value> {
    let node = json!({"id": "n", "name": "tower", "user": "ann@example.com"});
    let result = match request["method"].as_str().unwrap() {
        "peer.look" => json!({"address": "100.64.0.2:9100", "node": node, "pairing": "plain"}),
        _ => {
            json!({"status": "paired", "peer_name": "old", "peer_address": "100.64.0.2:9100", "pairing": "plain", "syncing": true})
        }
    };
    replies(request, Some(result))
}

/// C6: the question precedes the prompt for the code. The consent covers only the address that was looked up, even if
/// the name resolves differently a moment later.
#[test]
fn at_a_terminal_a_code_is_sent_only_after_a_yes_that_names_the_node() {
    for (said, code) in [("y\n", 0), ("\n", 4), ("n\n", 4)] {
        let repo = TestRepo::with_agent("repo", "ann");
        let heard = instead_of_daemon(&repo, if code == 0 { 2 } else { 1 }, old);
        let mut joining = repo.asks(&["peer", "join", "tower"]);
        joining.until("Send the code to tower (ann@example.com) at 100.64.0.2:9100? [y/N] ");
        joining.types(said);
        if code == 0 {
            joining.until("Enter pairing code: ");
            joining.types("7392\n");
        }
        let (exit, screen) = joining.end();
        assert_eq!(exit, code, "{screen}");
        let heard = heard.join().unwrap();
        if code == 0 {
            assert!(screen.contains("the code was sent"), "{screen}");
            assert_eq!(heard[1]["params"], json!({"address": "100.64.0.2:9100", "code": "7392", "plain": true}));
        } else {
            assert!(!screen.contains("Enter pairing code") && screen.contains("nothing was sent"), "{screen}");
        }
    }
}

/// C6: every typed code gives an attacker in between one guess, so the command stops after three, whatever number of
/// remaining attempts the peer reports.
#[test]
fn at_a_terminal_three_codes_are_asked_for_and_no_more() {
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 4, |request| match request["method"].as_str() {
        Some("peer.join") => Some(json!({
            "jsonrpc": "2.0", "id": request["id"],
            "error": {"code": -32000, "message": "invalid pairing code (2 attempts remaining)", "data": {"kind": "refused"}},
        })),
        _ => answered(request),
    });
    let mut joining = repo.asks(&["peer", "join", "ci"]);
    joining.until("Enter pairing code: ");
    joining.types("1111\n2222\n3333\n4444\n");
    let (code, screen) = joining.end();
    assert_eq!((code, screen.matches("Enter pairing code: ").count()), (4, 3), "{screen}");
    assert_eq!(heard.join().unwrap()[3]["params"]["code"], "3333");
}

/// C6, on the wire: a listener that replies like Go Thrum gets the code only with `--plain`, and otherwise nothing.
#[test]
fn without_a_terminal_a_code_is_sent_only_with_plain() {
    let repo = TestRepo::with_agent("repo", "ann");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = thread::spawn(move || {
        let mut heard = Vec::new();
        while heard.len() < 3 {
            let (stream, _) = listener.accept().unwrap();
            for line in BufReader::new(&stream).lines() {
                let request: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let id = &request["id"];
                let reply = match request["method"].as_str().unwrap() {
                    "pair.request" => {
                        json!({"result": {"status": "paired", "daemon_id": "d_go", "name": "go", "token": "5".repeat(64)}, "id": id})
                    }
                    method => {
                        json!({"error": {"code": -32601, "message": format!("method not found: {method}")}, "id": id})
                    }
                };
                writeln!(&stream, "{reply}").unwrap();
                heard.push(request);
            }
        }
        heard
    });
    let refused = join(&repo, &address, "7392").fails(4, "nothing was sent");
    assert!(refused.stderr.contains(&format!("thrum peer join --plain {address}")), "{refused:?}");
    let joined = repo.thrum_with_input(b"7392\n", &["peer", "join", "--plain", &address]).ok();
    assert!(joined.stderr.contains("the code was sent"), "{joined:?}");
    let heard = heard.join().unwrap();
    let methods: Vec<_> = heard.iter().map(|request| request["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["pair.probe", "pair.probe", "pair.request"]);
    assert_eq!(heard[2]["params"]["code"], "7392");
}

#[test]
fn daemons_that_wait_on_the_tailnet_are_hints_without_a_terminal_and_results_in_json() {
    let repo = TestRepo::with_agent("repo", "ann");
    let heard = instead_of_daemon(&repo, 2, answered);
    let missing = repo.thrum(&["peer", "join"]).fails(2, "the address is missing");
    assert!(missing.stderr.contains("ci at 100.64.0.3:9101 on runner (ann@example.com)"), "{missing:?}");
    let listed = repo.json(&["peer", "join"]);
    assert_eq!(
        (&listed["daemons"][1]["address"], &listed["not_asked"]),
        (&json!("100.64.0.3:9101"), &json!(3)),
        "{listed}"
    );
    heard.join().unwrap();
}

/// C2: the warning names node and user, and the number of attempts that are left.
#[test]
fn wrong_codes_from_the_tailnet_are_shown_with_node_and_user() {
    let repo = TestRepo::with_agent("repo", "ann");
    let attempt = |left: u8| json!({"node": {"id": "n", "name": "cafe", "user": "eve@example.com"}, "address": "100.64.0.9:1", "left": left});
    let mut locked = attempt(0);
    locked["locked_until"] = "2026-11-23T10:00:00.000000001Z".into();
    let refused = "Warning: cafe (eve@example.com) tried a code and was refused after too many wrong ones; it can pair again at \
                   2026-11-23T10:00:01Z";
    let heard = instead_of_daemon(&repo, 4, move |request| {
        let seen = request["params"]["attempts_seen"].as_u64();
        let result = match seen {
            Some(0) => Some(json!({"status": "waiting", "attempts": [attempt(2), attempt(1)]})),
            Some(2) => {
                Some(json!({"status": "waiting", "attempts": [attempt(2), attempt(1), attempt(0), locked.clone()]}))
            }
            Some(_) => on_tailnet("peer.join"),
            None => on_tailnet(request["method"].as_str().unwrap()),
        };
        replies(request, result)
    });
    let added = repo.thrum(&["peer", "add", "--via", "tailnet"]).ok();
    let who = "Warning: wrong code from cafe (eve@example.com), which has";
    assert_eq!(
        added.stderr.lines().collect::<Vec<_>>(),
        [
            &format!("{who} 2 tries left"),
            &format!("{who} 1 try left"),
            &format!("{who} no try left; others may still join"),
            refused
        ]
    );
    assert!(
        added.stdout.contains("    thrum peer join 100.64.0.7:9100\n")
            && added.stdout.contains("x:100.64.0.7:9100:7392")
    );
    assert_eq!(heard.join().unwrap()[0]["params"]["transport"], "tailnet");
}

#[test]
fn a_ping_answers_or_reports_the_reason_and_exits_with_75() {
    let (left, right) = paired();
    let pinged = left.thrum(&["peer", "ping", "right"]).ok();
    assert!(
        pinged.stdout.starts_with("right answers in ") && pinged.stdout.contains("; its clock: the same\n"),
        "{pinged:?}"
    );
    left.thrum(&["peer", "ping", "nobody"]).fails(3, "nobody");
    right.thrum(&["daemon", "stop"]).ok();
    let silent = left.thrum(&["peer", "ping", "right"]).fails(75, "right does not answer: ");
    assert!(silent.stderr.contains("thrum peer status"), "{silent:?}");
}

#[test]
fn an_impossible_address_changes_nothing() {
    let repo = TestRepo::with_agent("repo", "ann");
    join(&repo, "192.168.0.1:9100", "1234").fails(2, "neither on this machine nor on a tailnet");
    join(&repo, "desk", "1234").says("the tailnet is not enabled");
    let enabled = repo.json(&["status"]);
    assert_eq!(enabled["health"]["tailnet"]["enabled"], json!(false), "{enabled}");
}

#[test]
fn peers_follow_the_new_name_of_a_machine_unless_a_person_named_it() {
    let (left, right) = paired();
    let name = |repo: &TestRepo| repo.json(&["peer", "list"])[0]["name"].as_str().unwrap().to_owned();
    let restart_as = |new: &str| {
        right.thrum(&["daemon", "stop"]).ok();
        assert!(right.command(&["daemon", "start"]).env("THRUM_TS_HOSTNAME", new).output().unwrap().status.success());
        left.thrum(&["sync", "force"]).ok();
    };
    restart_as("tower");
    assert_eq!(name(&left), "tower");
    let renamed = left.json(&["peer", "rename", "tower", "box"]);
    assert_eq!((&renamed["name"], &renamed["former_name"]), (&"box".into(), &"tower".into()), "{renamed}");
    restart_as("shed");
    assert_eq!(name(&left), "box");
    left.thrum(&["peer", "rename", "nobody", "x"]).fails(3, "nobody");
}
