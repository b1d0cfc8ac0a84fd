//! Operations that agents request.

use std::time::Duration;

use thrum_core::{Error, ErrorKind, limits, payload::Tag, work::Work};
use thrum_store::{
    StoreError,
    ops::{Heartbeat, Register, Registration, Send},
    query::{Filter, Listing, Mailbox},
};

use crate::kit::Node;

pub fn refusal<T: std::fmt::Debug>(outcome: Result<T, StoreError>) -> Error {
    outcome.expect_err("is refused").into()
}

pub fn send(from: &str, to: &[&str], content: &str) -> Send {
    Send {
        from: from.into(),
        content: content.into(),
        mentions: to.iter().map(|name| (*name).to_owned()).collect(),
        ..Send::default()
    }
}

pub fn team() -> Node {
    let mut node = Node::new(1);
    for (name, role) in [("ann", "coder"), ("ben", "tester"), ("cy", "tester")] {
        node.register(name, role);
    }
    node
}

#[test]
fn a_message_reaches_an_agent_a_role_or_everyone_but_not_its_author() {
    let mut node = team();
    assert_eq!(node.send("ann", &["@ben"], "to ben").recipients, ["ben"]);
    let to_role = node.send("ben", &["tester"], "to testers");
    assert_eq!(to_role.recipients, ["cy"]);
    assert_eq!(to_role.warnings, ["@tester resolved to a group, not an individual agent"]);
    let mut everyone = node.send("cy", &["@everyone"], "to all").recipients;
    everyone.sort();
    assert_eq!(everyone, ["ann", "ben"]);
    assert_eq!(node.send("cy", &[], "to all, too").recipients.len(), 2, "nobody named is everyone");
    let texts = |agent: &str| node.inbox(agent).into_iter().map(|(text, _)| text).collect::<Vec<_>>();
    assert_eq!(texts("ann"), ["to all", "to all, too"]);
    assert_eq!(texts("ben"), ["to ben", "to all", "to all, too"]);
    assert_eq!(texts("cy"), ["to testers"]);
}

#[test]
fn mail_to_oneself_is_stored_and_already_read() {
    let mut node = team();
    node.send("ann", &["ann"], "note to self");
    assert_eq!(node.inbox("ann"), [("note to self".to_owned(), true)]);
    assert!(!node.store.reader().has_unread(&node.mailbox("ann")).expect("reads"));
    node.check();
}

#[test]
fn an_error_lists_all_unknown_recipients_and_nothing_is_sent() {
    let mut node = team();
    let refused = refusal(node.store.write(|tx| tx.send(send("ann", &["bne", "ben", "@ghost"], "x"))));
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert_eq!(refused.message, "unknown recipients: @bne, @ghost \u{2014} no matching agent, role, or group found");
    assert_eq!(refused.hint.as_deref(), Some("Did you mean @ben?"));
    assert_eq!(node.inbox("ben"), []);
}

#[test]
fn the_content_of_a_message_is_bounded() {
    let mut node = team();
    let exact = "x".repeat(limits::MAX_CONTENT_BYTES);
    assert_eq!(refusal(node.store.write(|tx| tx.send(send("ann", &["ben"], "")))).kind, ErrorKind::Invalid);
    assert_eq!(
        refusal(node.store.write(|tx| tx.send(send("ann", &["ben"], &format!("{exact}x"))))).kind,
        ErrorKind::Invalid
    );
    // Every character escaped to six bytes is the worst case, and the event is still accepted.
    let escaped = "\u{1}".repeat(limits::MAX_CONTENT_BYTES);
    for content in [exact, escaped] {
        node.store.write(|tx| tx.send(send("ann", &["ben"], &content))).expect("is sent");
    }
    assert_eq!(node.inbox("ben").len(), 2);
}

#[test]
fn an_agent_acts_only_at_its_home() {
    let mut node = team();
    let mut far = Node::new(2);
    far.register("dee", "coder");
    let sent = far.send("dee", &["dee"], "hers");
    node.pull(&far, 0);
    for outcome in [
        node.store.write(|tx| tx.send(send("dee", &["ann"], "not hers")).map(|_| ())),
        node.store.write(|tx| tx.mark_read("dee", std::slice::from_ref(&sent.message_id)).map(|_| ())),
        node.store.write(|tx| tx.start_session("dee", Heartbeat::default()).map(|_| ())),
        node.store.write(|tx| tx.delete_agent("dee", None).map(|_| ())),
    ] {
        let refused = refusal(outcome);
        assert_eq!(refused.kind, ErrorKind::Refused, "{refused}");
        assert!(refused.hint.is_some());
    }
    let unknown = refusal(node.store.write(|tx| tx.send(send("nobody", &["ann"], "x"))));
    assert_eq!((unknown.kind, unknown.hint.is_some()), (ErrorKind::NotFound, true));
    assert!(node.store.write(|tx| tx.send(send("ann", &["dee"], "to her"))).is_ok(), "but mail reaches it");
}

#[test]
fn agents_of_one_name_on_two_machines_have_separate_mailboxes() {
    let (mut here, mut there) = (team(), Node::new(2));
    there.register("ann", "coder");
    there.pull(&here, 0);
    here.pull(&there, 0);
    let sent = here.send("ben", &["everyone"], "all of you");
    there.pull(&here, 0);
    let homes = here
        .store
        .reader()
        .agents(&thrum_store::query::AgentFilter { agent_id: Some("ann".into()), ..Default::default() })
        .expect("reads");
    assert_eq!(homes.len(), 2);
    there.store.write(|tx| tx.mark_read("ann", std::slice::from_ref(&sent.message_id))).expect("reads");
    here.pull(&there, 0);
    assert_eq!(here.inbox("ann"), [("all of you".to_owned(), false)]);
    assert_eq!(there.inbox("ann"), [("all of you".to_owned(), true)]);
    // Mail by an agent of the same name elsewhere is not one's own.
    there.send("ann", &["everyone"], "from the other ann");
    here.pull(&there, 0);
    let not_mine = Filter {
        mailbox: Some(here.mailbox("ann")),
        exclude_author: Some(here.mailbox("ann")),
        limit: 10,
        ..Filter::default()
    };
    let found: Vec<_> =
        here.store.reader().list(&not_mine).expect("lists").messages.into_iter().map(|m| m.body.content).collect();
    assert_eq!(found, ["from the other ann", "all of you"]);
}

#[test]
fn only_the_author_edits_and_deletes() {
    let mut node = team();
    let sent = node.send("ann", &["ben"], "first");
    let id = sent.message_id.as_str();
    let refused = refusal(node.store.write(|tx| tx.edit("ben", id, Some("x".into()), None)));
    assert_eq!(
        (refused.kind, refused.message.as_str()),
        (ErrorKind::Refused, "only message author can edit (author: ann, current: ben)")
    );
    assert!(refused.hint.is_some());
    assert_eq!(refusal(node.store.write(|tx| tx.delete("ben", id, None))).kind, ErrorKind::Refused);
    assert_eq!(node.store.write(|tx| tx.edit("ann", id, Some("second".into()), None)).expect("edits").version, 1);
    assert_eq!(node.inbox("ben"), [("second".to_owned(), false)]);
    let deleted = node.store.write(|tx| tx.delete("ann", id, None)).expect("deletes");
    assert_eq!(node.store.write(|tx| tx.delete("ann", id, None)).expect("again"), deleted);
    assert_eq!(node.inbox("ben"), []);
    assert_eq!(
        refusal(node.store.write(|tx| tx.edit("ann", "msg_none", Some("x".into()), None))).kind,
        ErrorKind::NotFound
    );
    node.check();
}

#[test]
fn marking_as_read_marks_each_message_of_the_agent_once() {
    let mut node = team();
    let sent = node.send("ann", &["ben"], "x");
    let ids = [sent.message_id.clone(), sent.message_id.clone()];
    assert_eq!(node.store.write(|tx| tx.mark_read("ben", &ids)).expect("reads").len(), 1);
    assert_eq!(node.store.write(|tx| tx.mark_read("ben", &ids)).expect("again"), Vec::<String>::new());
    assert_eq!(node.store.write(|tx| tx.mark_read("cy", &ids)).expect("not cy's"), Vec::<String>::new());
    assert_eq!(refusal(node.store.write(|tx| tx.mark_read("ben", &["msg_none".to_owned()]))).kind, ErrorKind::NotFound);
    let events = node.store.reader().totals().expect("reads").events;
    assert_eq!(events, 5, "three registrations, a message, one receipt");
}

#[test]
fn an_answer_goes_to_the_author_and_joins_the_thread() {
    let mut node = team();
    let parent = node.send("ann", &["ben"], "question");
    let answer =
        Send { reply_to: Some(parent.message_id.clone()), to_parent_audience: true, ..send("ben", &[], "answer") };
    let answer = node.store.write(|tx| tx.send(answer)).expect("sends");
    assert_eq!(answer.recipients, ["ann"]);
    let reader = node.store.reader();
    let (parent, answer) = (
        reader.message(&parent.message_id, None).expect("reads").expect("is here"),
        reader.message(&answer.message_id, None).expect("reads").expect("is here"),
    );
    assert_eq!(answer.reply_to.as_deref(), Some(parent.message_id.as_str()));
    assert!(answer.thread_id.is_some());
    assert_eq!(parent.thread_id, answer.thread_id, "the parent is in the thread that its answer began");
    let thread = reader.list(&Filter { thread_id: answer.thread_id, limit: 10, ..Filter::default() }).expect("lists");
    assert_eq!(thread.total, 2);
}

#[test]
fn a_repeated_request_with_the_same_key_sends_one_message() {
    let mut node = team();
    let keyed = |content: &str| Send { idempotency_key: Some("k1".into()), ..send("ann", &["ben"], content) };
    let first = node.store.write(|tx| tx.send(keyed("x"))).expect("sends");
    let again = node.store.write(|tx| tx.send(keyed("x"))).expect("answers");
    assert_eq!((first.message_id, first.recipients), (again.message_id, again.recipients));
    assert_eq!(node.inbox("ben").len(), 1);
    assert_eq!(refusal(node.store.write(|tx| tx.send(keyed("y")))).kind, ErrorKind::Refused);
    let plain = Send { format: "plain".into(), ..keyed("x") };
    let scoped = Send { scopes: vec![Tag::new("module", "auth")], ..keyed("x") };
    for other in [plain, scoped] {
        assert_eq!(refusal(node.store.write(|tx| tx.send(other))).kind, ErrorKind::Refused);
    }
}

#[test]
fn idempotency_keys_are_bounded_and_the_oldest_are_dropped() {
    let mut node = team();
    let keyed = |n: i64| Send { idempotency_key: Some(n.to_string()), ..send("ann", &["ben"], "x") };
    let first = node.store.write(|tx| tx.send(keyed(1))).expect("sends").message_id;
    let fill = limits::MAX_IDEMPOTENCY_KEYS + 1000;
    rusqlite::Connection::open(node.path())
        .expect("opens")
        .execute(
            "INSERT INTO idempotency (agent_id, key, message_id, digest)
             WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
             SELECT 'ann', 'k' || n, 'msg_' || n, x'00' FROM n",
            [fill],
        )
        .expect("fills");
    let mut ids = Vec::new();
    for n in 0..256 {
        ids.push(node.store.write(|tx| tx.send(keyed(fill + n))).expect("sends").message_id);
    }
    let kept: i64 = rusqlite::Connection::open(node.path())
        .expect("opens")
        .query_row("SELECT count(*) FROM idempotency", [], |row| row.get(0))
        .expect("counts");
    assert!((limits::MAX_IDEMPOTENCY_KEYS..=limits::MAX_IDEMPOTENCY_KEYS + 256).contains(&kept), "{kept}");
    assert_eq!(
        &node.store.write(|tx| tx.send(keyed(fill))).expect("answers").message_id,
        &ids[0],
        "a recent key is known"
    );
    assert_ne!(node.store.write(|tx| tx.send(keyed(1))).expect("sends").message_id, first, "the first is forgotten");
}

#[test]
fn an_invalid_registration_is_refused() {
    let mut node = team();
    let register = |name: &str, role: &str, module: &str, force| Register {
        name: name.into(),
        role: role.into(),
        module: module.into(),
        force,
        ..Register::default()
    };
    for (name, role) in
        [("tester", "coder"), ("dee", "ann"), ("dee", "dee"), ("everyone", "coder"), ("Dee", "coder"), ("dee", "a/b")]
    {
        assert_eq!(
            refusal(node.store.write(|tx| tx.register(register(name, role, "m", false)))).kind,
            ErrorKind::Invalid,
            "{name} {role}"
        );
    }
    let conflict = node.store.write(|tx| tx.register(register("dee", "coder", "of-ann", false))).expect("answers");
    assert!(matches!(&conflict, Registration::Conflict(rival) if rival.agent_id == "ann"), "{conflict:?}");
    assert_eq!(
        node.store.write(|tx| tx.register(register("dee", "coder", "of-ann", true))).expect("registers"),
        Registration::Registered
    );
    assert!(node.store.reader().agent_here("ann").expect("reads").is_some(), "forcing removes nobody");
    let before = node.store.reader().totals().expect("reads").events;
    assert_eq!(
        node.store.write(|tx| tx.register(register("dee", "coder", "of-ann", false))).expect("updates"),
        Registration::Updated
    );
    assert_eq!(node.store.reader().totals().expect("reads").events, before, "what says nothing new is no event");
}

#[test]
fn a_session_shows_its_work_until_it_ends() {
    let mut node = team();
    let (first, _) = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("starts");
    node.store.write(|tx| tx.set_intent(&first, "fix the parser")).expect("sets");
    node.store.write(|tx| tx.set_task(&first, "T-1")).expect("sets");
    let context = node.store.reader().session(&first).expect("reads").expect("is here").context;
    assert_eq!(
        (context.intent.as_deref(), context.current_task.as_deref()),
        (Some("fix the parser"), Some("T-1")),
        "an update carries the whole context"
    );
    let (second, _) = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("starts");
    let old = node.store.reader().session(&first).expect("reads").expect("is here");
    assert_eq!(old.end_reason.as_deref(), Some("crash_recovered"));
    assert_eq!(refusal(node.store.write(|tx| tx.set_intent(&first, "x"))).kind, ErrorKind::Refused);
    node.store.write(|tx| tx.heartbeat(&second, Heartbeat::default())).expect("beats");
    node.store.write(|tx| tx.end_session(&second, None)).expect("ends");
    assert_eq!(node.store.reader().open_session("ann").expect("reads"), None);
    assert_eq!(
        refusal(node.store.write(|tx| tx.heartbeat("ses_none", Heartbeat::default()))).kind,
        ErrorKind::NotFound
    );
    node.check();
}

#[test]
fn a_deleted_agent_can_come_back_and_its_mail_stays() {
    let mut node = team();
    let sent = node.send("ben", &["ann"], "from ben");
    node.store.write(|tx| tx.delete_agent("ben", Some("done".into()))).expect("deletes");
    assert_eq!(node.store.reader().agent_here("ben").expect("reads"), None);
    assert!(node.store.reader().message(&sent.message_id, None).expect("reads").is_some());
    node.register("ben", "tester");
    assert!(node.store.reader().agent_here("ben").expect("reads").is_some());
    node.check();
}

#[test]
fn counts_include_messages_beyond_the_page() {
    let mut node = team();
    for n in 0..25 {
        node.send("ann", &["ben"], &format!("{n}"));
    }
    let mailbox = Mailbox { agent_id: "ben".into(), home: node.home() };
    let listing = node
        .store
        .reader()
        .list(&Filter { mailbox: Some(mailbox.clone()), limit: 10, offset: 20, ..Filter::default() })
        .expect("lists");
    assert_eq!((listing.messages.len(), listing.total, listing.unread), (5, 25, 25));
    assert_eq!(listing.messages[4].body.content, "0", "newest first");
    let ids: Vec<String> = listing.messages.iter().map(|message| message.message_id.clone()).collect();
    node.store.write(|tx| tx.mark_read("ben", &ids)).expect("reads");
    let unread = node
        .store
        .reader()
        .list(&Filter { mailbox: Some(mailbox.clone()), unread: true, limit: 10, ..Filter::default() })
        .expect("lists");
    assert_eq!((unread.messages.len(), unread.total), (10, 20));
    let of_reader = Filter { reader: Some(mailbox.clone()), unread: true, limit: 10, ..Filter::default() };
    assert_eq!(node.store.reader().list(&of_reader).expect("lists").messages, unread.messages);
    let of_nobody = Filter { unread: true, limit: 10, ..Filter::default() };
    assert_eq!(node.store.reader().list(&of_nobody).expect("lists"), Listing::default());
    assert_eq!(node.store.reader().mail_count(&mailbox).expect("counts"), (25, 20));
}

#[test]
fn a_remote_clock_far_ahead_does_not_advance_ours() {
    let mut node = team();
    let year_2200 = 174 * 365 * 86_400;
    let message = crate::kit::foreign(
        "evt_far",
        "d_go",
        year_2200,
        "message.create",
        serde_json::json!({"message_id": "msg_far", "agent_id": "x", "recipients": ["ann"]}),
    );
    node.apply(&[message]);
    node.store.write(|tx| tx.mark_read("ann", &["msg_far".to_owned()])).expect("reads");
    let now = node.send("ann", &["ben"], "now").created_at;
    let off = now.since(thrum_core::Timestamp::from_nanos(crate::kit::START));
    assert!(off <= limits::CLOCK_OFF + Duration::from_secs(1), "{off:?}");
}

#[test]
fn names_of_remote_agents_do_not_restrict_local_ones() {
    let (mut node, mut far) = (team(), Node::new(2));
    far.register("tester", "robot");
    node.pull(&far, 0);
    node.register("ben", "tester");
    node.register("dee", "tester");
    let mut recipients = node.send("ann", &["@tester"], "to the role, and to the agent of that name").recipients;
    recipients.sort();
    assert_eq!(recipients, ["ben", "cy", "dee", "tester"]);
}

#[test]
fn a_broadcast_reaches_more_agents_than_an_event_can_list() {
    let (mut node, mut far) = (team(), Node::new(2));
    let register = |n: usize| {
        crate::kit::foreign(
            &format!("evt_{n}"),
            "d_go",
            0,
            "agent.register",
            serde_json::json!({"agent_id": format!("far{n}"), "role": "robot"}),
        )
    };
    node.apply(&(0..5000).map(register).collect::<Vec<_>>());
    far.register("zoe", "robot");
    let (_, read) = node.pull(&far, 0);
    assert!(read > 0);
    let sent = node.send("ann", &["@everyone"], "to all");
    assert_eq!(sent.recipients.len(), limits::MAX_AUDIENCE, "as many as there is room for");
    assert!(!sent.recipients.contains(&"zoe".to_owned()), "the names before it fill the list");
    far.pull(&node, 0);
    assert!(far.store.reader().has_unread(&far.mailbox("zoe")).expect("reads"));
    assert_eq!(node.inbox("cy").len(), 1);
    assert_eq!(node.store.reader().totals().expect("reads").parked, 0);
}

#[test]
fn a_name_of_both_an_agent_and_a_role_reaches_both_with_a_warning() {
    let (mut here, mut there) = (team(), Node::new(2));
    there.register("tester", "coder");
    here.pull(&there, 0);
    let sent = here.send("ann", &["tester"], "to both");
    assert_eq!(sent.warnings, ["@tester is an agent and a role, and both get it"]);
    assert!(
        ["tester", "ben", "cy"].iter().all(|name| sent.recipients.contains(&(*name).to_owned())),
        "{:?}",
        sent.recipients
    );
}

/// What a Go daemon does with the contexts of one session: it keeps the one with the later `git_updated_at`, compared
/// as text.
#[test]
fn every_context_change_supersedes_the_last_one_at_a_go_daemon_and_keeps_the_git_time() {
    let mut node = Node::new(1);
    node.register("ann", "coder");
    let (session, _) = node.store.write(|tx| tx.start_session("ann", Heartbeat::default())).expect("starts");
    let work =
        Heartbeat { work: Some(Work { branch: Some("main".into()), ..Work::default() }), ..Heartbeat::default() };
    let read = |node: &Node| node.store.reader().session(&session).expect("reads").expect("is here").context;
    node.world.pass(Duration::from_secs(1));
    node.store.write(|tx| tx.set_intent(&session, "first")).expect("sets");
    assert_eq!((read(&node).git_updated_at, read(&node).git_asked_at), (None, None), "nobody asked git");
    node.world.pass(Duration::from_secs(1));
    node.store.write(|tx| tx.heartbeat(&session, work)).expect("beats");
    let asked = read(&node).git_updated_at.expect("git was asked");
    node.world.pass(Duration::from_secs(1));
    node.store.write(|tx| tx.set_intent(&session, "second")).expect("sets");
    node.store.write(|tx| tx.set_task(&session, "a task")).expect("sets");
    assert_eq!(read(&node).git_updated_at.as_ref(), Some(&asked));

    let page = node.store.reader().page(0, 1000, usize::MAX).expect("a page").rows;
    let mut kept = serde_json::Value::Null;
    for row in page.iter().filter(|row| row.kind == "agent.update") {
        let body: serde_json::Value = serde_json::from_str(&row.body).expect("json");
        let context = body["work_contexts"][0].clone();
        if kept.is_null()
            || context["git_updated_at"].as_str().unwrap_or_default()
                > kept["git_updated_at"].as_str().unwrap_or_default()
        {
            kept = context;
        }
    }
    assert_eq!((kept["intent"].as_str(), kept["current_task"].as_str()), (Some("second"), Some("a task")));
    assert_eq!(kept["git_asked_at"].as_str(), Some(asked.as_str()));
    node.check();
}
