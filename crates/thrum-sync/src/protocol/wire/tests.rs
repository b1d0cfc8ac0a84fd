use proptest::prelude::*;
use thrum_core::exchange::{Page, Row};

use super::*;
use crate::Token;

fn refusal(line: &str) -> String {
    match Request::read(line.as_bytes()) {
        Err((id, error)) => error_line(&id, &error),
        Ok(request) => error_line(&request.id, &request.query().expect_err(line)),
    }
}

#[test]
fn an_invalid_request_gets_gos_parse_error_without_id() {
    let deep = format!(r#"{{"method":"sync.pull","params":{}{},"id":1}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for line in [
        "",
        "GET / HTTP/1.1",
        "[]",
        r#"[{"jsonrpc":"2.0","method":"sync.pull","id":1}]"#,
        r#"["2.0","sync.pull",{},1]"#,
        "null",
        "7",
        "\u{feff}{}",
        r#"{"method":7,"id":1}"#,
        r#"{"method":"sync.pull","id":1} {}"#,
        r#"{"id":1,"id":2}"#,
        r#"{"method":"sync.pull","params":{"after_sequence":1e400},"id":1}"#,
        r#"{"id":NaN}"#,
        &deep,
    ] {
        assert_eq!(
            refusal(line),
            r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"}}"#,
            "{}",
            &line[..line.len().min(60)]
        );
    }
    assert!(Request::read(b"{\"method\":\"\xff\"}").is_err(), "invalid UTF-8");
}

#[test]
fn methods_are_matched_exactly() {
    for method in ["Sync.pull", "sync.pull ", " pair.request", "PAIR.REQUEST", "sync.pull\\u0000", "peer.repair"] {
        let reply = refusal(&format!(r#"{{"method":"{method}","id":"a"}}"#));
        assert!(reply.contains(r#""code":-32601"#) && reply.ends_with(r#","id":"a"}"#), "{reply}");
    }
    let crlf = Request::read(b"{\"method\":\"sync.peer_info\"}\r").expect("white space is allowed");
    assert_eq!(crlf.query(), Ok(Query::PeerInfo { digest: false, port: None }));
}

#[test]
fn invalid_sequences_are_refused_with_gos_texts() {
    let said = |value: &str| refusal(&format!(r#"{{"method":"sync.pull","params":{{"after_sequence":{value}}}}}"#));
    let field = "into Go struct field SyncPullRequest.after_sequence of type int64";
    for (value, expected) in [
        ("-1", "after_sequence must be \\u003e= 0".to_owned()),
        ("-9223372036854775808", "after_sequence must be \\u003e= 0".to_owned()),
        (r#""7""#, format!("invalid params: json: cannot unmarshal string {field}")),
        ("1.5", format!("invalid params: json: cannot unmarshal number 1.5 {field}")),
        ("9223372036854775808", format!("invalid params: json: cannot unmarshal number 9223372036854775808 {field}")),
        ("[]", format!("invalid params: json: cannot unmarshal array {field}")),
        ("{}", format!("invalid params: json: cannot unmarshal object {field}")),
        ("true", format!("invalid params: json: cannot unmarshal bool {field}")),
    ] {
        assert!(said(value).contains(&format!(r#""message":"{expected}""#)), "{value}: {}", said(value));
    }
    let largest =
        Request::read(br#"{"method":"sync.pull","params":{"after_sequence":9223372036854775807,"max_batch":5}}"#)
            .expect("a request");
    assert_eq!(
        largest.query(),
        Ok(Query::Pull(Pull {
            after: i64::MAX.unsigned_abs(),
            max_batch: 5,
            log: None,
            stored: None,
            references: None
        }))
    );
}

#[test]
fn a_code_must_be_a_text() {
    let reply = refusal(r#"{"method":"pair.request","params":{"code":1234,"daemon_id":"d_x"},"id":1}"#);
    assert!(
        reply.contains(
            "invalid params: json: cannot unmarshal number into Go struct field PairRequest.code of type string"
        ),
        "{reply}"
    );
}

#[test]
fn a_refused_pairing_is_recognized_by_its_code_and_without_one_by_its_text() {
    let read = |error: &str| match read_begun(format!(r#"{{"error":{error},"id":1}}"#).as_bytes(), 1) {
        Err(BadReply::Error(error)) => error,
        other => panic!("{other:?}"),
    };
    let coded = RpcError::refused(Refusal::Locked, "too many failed attempts; try again at 12:00").with_code();
    let line = error_line(&None, &coded);
    assert!(line.contains(r#""data":{"code":"locked"}"#), "{line}");
    let without_code = error_line(&None, &RpcError::refused(Refusal::NoSession, NO_SESSION));
    assert!(!without_code.contains("data"), "Go's methods have only the text: {without_code}");
    for (error, refusal) in [
        (r#"{"code":-32000,"message":"in other words","data":{"code":"locked"}}"#, Some(Refusal::Locked)),
        (r#"{"code":-32000,"message":"no active pairing session"}"#, Some(Refusal::NoSession)),
        (r#"{"code":-32000,"message":"invalid pairing code (0 attempts remaining)"}"#, Some(Refusal::LastWrongCode)),
        (r#"{"code":-32000,"message":"no disk","data":{"kind":"failed","retryable":false}}"#, None),
    ] {
        assert_eq!(read(error).refusal, refusal, "{error}");
    }
}

#[test]
fn a_goodbye_has_a_reason_and_is_understood_with_any_or_none() {
    let token = Token::parse(&"0".repeat(64)).expect("a token");
    let line = Call::Goodbye.line(7, "d_me", &token);
    let expected = format!(
        r#"{{"jsonrpc":"2.0","method":"sync.goodbye","params":{{"reason":"stopping","token":"{}"}},"id":7}}"#,
        token.reveal()
    );
    assert_eq!(line, expected);
    for params in ["{}", r#"{"reason":"stopping"}"#, r#"{"reason":"moving to mars"}"#, r#"{"reason":[7]}"#, "null"] {
        let request = Request::read(format!(r#"{{"method":"sync.goodbye","params":{params}}}"#).as_bytes());
        assert_eq!(request.expect("a request").query(), Ok(Query::Goodbye), "{params}");
    }
}

#[test]
fn a_token_that_is_not_a_string_is_ignored() {
    for params in [r#"{"token":null}"#, r#"{"token":["a"]}"#, r#"{"token":7}"#, "[]", "null", r#""a""#] {
        let request =
            Request::read(format!(r#"{{"method":"sync.pull","params":{params}}}"#).as_bytes()).expect("a request");
        assert_eq!(request.token(), "", "{params}");
    }
}

#[test]
fn null_parameters_are_an_empty_object_and_absent_ones_an_error_as_in_go() {
    let query = |line: &str| Request::read(line.as_bytes()).expect("a request").query();
    let defaults = query(r#"{"method":"sync.pull","params":{}}"#);
    assert!(defaults.is_ok());
    assert_eq!(query(r#"{"method":"sync.pull","params":null}"#), defaults);
    let error = query(r#"{"method":"sync.pull"}"#).expect_err("no parameters");
    assert!(error.message.contains("unexpected end of JSON input"), "{error:?}");
}

#[test]
fn a_served_row_carries_its_number_and_its_own_time() {
    let row = Row {
        sequence: 7,
        id: "evt_1".into(),
        kind: "message.create".into(),
        origin: "d_x".into(),
        body: r#"{"event_id":"evt_1","timestamp":"2026-03-28T10:05:13.12Z"}"#.into(),
        reference: None,
    };
    let line = pull_line(&None, &Page { rows: vec![row], more: true }, "log");
    assert_eq!(
        line,
        concat!(
            r#"{"jsonrpc":"2.0","result":{"events":[{"event_id":"evt_1","sequence":7,"type":"message.create","#,
            r#""timestamp":"2026-03-28T10:05:13.12Z","origin_daemon":"d_x","#,
            r#""event_json":{"sequence":7,"event_id":"evt_1","timestamp":"2026-03-28T10:05:13.12Z"}}],"#,
            r#""next_sequence":7,"more_available":true,"log_id":"log"}}"#
        )
    );
    let empty = pull_line(&None, &Page::default(), "log");
    assert_eq!(
        empty,
        r#"{"jsonrpc":"2.0","result":{"events":[],"next_sequence":0,"more_available":false,"log_id":"log"}}"#
    );
}

#[test]
fn a_reply_must_be_the_one_that_was_asked_for() {
    let cases = [
        (r#"[{"result":{},"id":3}]"#, "it does not answer in Thrum's protocol"),
        ("HTTP/1.1 400 Bad Request", "it answers in HTTP: Go Thrum v0.7 or later"),
        ("SSH-2.0-OpenSSH_9.7", "it does not answer in Thrum's protocol"),
        ("{}", "it answered request without id"),
        (r#"{"id":3}"#, "neither result nor error"),
        (r#"{"result":{},"id":4}"#, "it answered request 4 where 3 was asked"),
        (r#"{"result":{},"id":"3"}"#, "it answered request \"3\" where 3 was asked"),
        (r#"{"result":{"events":[{"event_id":"e"}]},"id":3}"#, "missing field `sequence`"),
        (r#"{"result":{"events":[{"sequence":1e30}]},"id":3}"#, "its result makes no sense"),
        (r#"{"result":{"next_sequence":99999999999999999999},"id":3}"#, "its result makes no sense"),
        (r#"{"result":{"events":[7]},"id":3}"#, "its result makes no sense"),
        (r#"{"error":{"code":-32700,"message":"parse error"}}"#, "it answered: parse error"),
        (r#"{"error":{"code":1,"message":"\u001b[2J"},"id":3}"#, "it answered: \\u{1b}[2J"),
    ];
    for (line, expected) in cases {
        let error = read_pulled(line.as_bytes(), 3).expect_err(line).to_string();
        assert!(error.contains(expected), "{line}: {error}");
    }
    let deep = format!(r#"{{"result":{}{},"id":3}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert!(matches!(read_pulled(deep.as_bytes(), 3), Err(BadReply::Result(_))));
    assert_eq!(
        read_pulled(br#"{"result":{"events":null},"id":3}"#, 3),
        Ok(Pulled::default()),
        "Go's client tolerates null, too"
    );
}

#[test]
fn only_a_whole_pairing_reply_pairs() {
    let token = "ab".repeat(32);
    let line = |status: &str, id: &str, token: &str| {
        format!(r#"{{"result":{{"status":"{status}","daemon_id":"{id}","name":"n","token":"{token}"}},"id":1}}"#)
    };
    assert!(read_paired(line("paired", "d_x", &token).as_bytes(), 1).is_ok());
    for bad in [
        line("pending", "d_x", &token),
        line("paired", "", &token),
        line("paired", &"x".repeat(257), &token),
        line("paired", "d_x", ""),
    ] {
        assert!(matches!(read_paired(bad.as_bytes(), 1), Err(BadReply::Result(_))), "{bad}");
    }
}

fn json_like() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"id\"",
        "\"method\"",
        "\"params\"",
        "\"result\"",
        "\"events\"",
        "\"sequence\"",
        "\"sync.pull\"",
        "null",
        "1",
        "-1",
        "1e400",
        "\"\\ud800\"",
        "\"token\"",
        "\"error\"",
        "\"event_json\"",
        "\u{feff}",
        "true",
    ]);
    let text = prop::collection::vec(words, 0..40).prop_map(|words| words.concat().into_bytes());
    prop_oneof![text, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn no_line_of_a_peer_panics(line in json_like()) {
        if let Ok(request) = Request::read(&line) {
            let _ = (request.token(), request.query());
        }
        let _ = (read_pulled(&line, 1), read_info(&line, 1), read_paired(&line, 1), read_notified(&line, 1));
        let _ = (read_probed(&line, 1), read_begun(&line, 1), read_confirmed(&line, 1));
    }

    #[test]
    fn requests_survive_a_round_trip(after in 0..i64::MAX.unsigned_abs(), max_batch in 1..1001usize, log in "[a-z0-9]{0,20}", stored in prop::option::of(0..i64::MAX.unsigned_abs()), references in any::<Option<bool>>()) {
        let token = Token::parse(&"0".repeat(64)).expect("a token");
        let log = Some(log).filter(|log| !log.is_empty());
        let (stored, references) = (stored.filter(|_| log.is_some()), references.filter(|_| log.is_some()));
        let pull = Pull { after, max_batch, log, stored, references };
        let line = Call::Pull(pull.clone()).line(9, "d_x", &token);
        let request = Request::read(line.as_bytes()).expect("a request");
        prop_assert_eq!(request.token(), token.reveal());
        prop_assert_eq!(request.id.as_ref().map(|id| id.get()), Some("9"));
        prop_assert_eq!(request.query(), Ok(Query::Pull(pull)));
    }
}

#[test]
fn which_event_was_too_long_to_be_read_stands_at_the_beginning_of_gos_answer() {
    let answer =
        |fields: &str| format!(r#"{{"jsonrpc":"2.0","result":{{"events":[{{{fields},"event_json":{{"text":"xxxx"#);
    let go = r#""event_id":"evt_7","sequence":7,"type":"x","timestamp":"2026-01-01T00:00:00Z","origin_daemon":"d_\",\"event_json\":""#;
    let Pulled { events, next, more, log } = read_cut(answer(go).as_bytes()).unwrap();
    assert_eq!((events[0].sequence, events[0].event_json.as_str(), next, more, log), (7, "", 7, true, None));
    assert_eq!(events[0].envelope[0].as_deref(), Some("evt_7"));
    assert_eq!(events[0].envelope[3].as_deref(), Some(r#"d_","event_json":"#));
    for other in [
        "",
        "{}",
        &answer(r#""event_id":"evt_7""#),
        &answer(r#""sequence":"7""#),
        &answer(go).replace("event_json\":{", "x"),
    ] {
        assert_eq!(read_cut(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn a_reference_is_served_and_read_with_its_digest() {
    let row = |sequence, id: &str, body: &str| Row {
        sequence,
        id: id.into(),
        kind: "x".into(),
        origin: "d_x".into(),
        body: body.into(),
        reference: Some("0123456789abcdef".to_owned()).filter(|_| body.is_empty()),
    };
    let page = Page { rows: vec![row(3, "evt_3", r#"{"a":1}"#), row(5, "evt_5", "")], more: false };
    let line = pull_line(&serde_json::value::to_raw_value(&7).ok(), &page, "log");
    assert!(line.contains(r#"{"event_id":"evt_5","sequence":5,"reference":"0123456789abcdef"}]"#), "{line}");
    let pulled = read_pulled(line.as_bytes(), 7).unwrap();
    let read: Vec<_> =
        pulled.events.iter().map(|one| (one.sequence, one.reference.is_some(), one.is_unread())).collect();
    assert_eq!((read, pulled.next), (vec![(3, false, false), (5, true, false)], 5));
    assert_eq!(pulled.events[1].envelope, [Some("evt_5".into()), None, None, None]);
}
