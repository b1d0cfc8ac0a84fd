use crate::common::TestRepo;

fn with_mail(number: usize) -> TestRepo {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    for n in 1..=number {
        repo.thrum(&["send", &format!("mail {n}"), "--to", "bob", "--as", "ann"]).ok();
    }
    repo
}

fn texts(inbox: &serde_json::Value) -> Vec<&str> {
    inbox["messages"].as_array().unwrap().iter().map(|message| message["body"]["content"].as_str().unwrap()).collect()
}

#[test]
fn shown_messages_are_marked_as_read_except_with_unread() {
    let repo = with_mail(3);
    let inbox = |args: &[&str]| repo.json(&[&["inbox", "--as", "bob"], args].concat());
    assert_eq!(inbox(&["--unread"])["unread"], 3);
    assert!(
        repo.thrum(&["inbox", "--as", "bob", "--unread"]).ok().stdout.ends_with("\n3 messages for @bob, 3 unread\n")
    );
    assert_eq!(texts(&inbox(&["--limit", "2"])), ["mail 3", "mail 2"], "newest first");
    assert_eq!(texts(&inbox(&["--unread"])), ["mail 1"]);
    inbox(&[]);
    assert_eq!(inbox(&["--unread"])["messages"].as_array().unwrap().len(), 0);
    let shown = repo.thrum(&["inbox", "--as", "bob"]).ok().stdout;
    assert!(shown.ends_with("\n3 messages for @bob\n"), "{shown}");
    assert!(!shown.contains('●'), "{shown}");
}

#[test]
fn ones_own_messages_are_not_new_in_the_list_of_all() {
    let repo = with_mail(1);
    repo.thrum(&["send", "back", "--to", "ann", "--as", "bob"]).ok();
    let everybodys = repo.thrum(&["inbox", "--all", "--as", "ann"]).ok().stdout;
    let headers: Vec<_> =
        everybodys.lines().filter(|line| line.contains("msg_")).map(|line| line.chars().next()).collect();
    assert_eq!(headers, [Some('●'), Some(' ')], "{everybodys}");
}

#[test]
fn messages_that_could_not_be_printed_stay_unread() {
    let repo = with_mail(2);
    let unread = || repo.json(&["inbox", "--as", "bob", "--unread"])["unread"].as_u64();
    for json in [&[][..], &["--json"]] {
        let args = [&["inbox", "--as", "bob"], json].concat();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(repo.command(&args).stdout(full).output().unwrap().status.code(), Some(1));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(repo.command(&args).stdout(writer).output().unwrap().status.code(), Some(0));
        assert_eq!(unread(), Some(2), "{args:?}");
    }
    assert!(repo.thrum(&["inbox", "--as", "bob"]).ok().stdout.ends_with("\n2 messages for @bob, 2 new\n"));
    assert_eq!(unread(), Some(0));
}

#[test]
fn an_empty_page_has_a_specific_message() {
    let repo = with_mail(1);
    let said = |args: &[&str], who: &str| repo.thrum(&[args, &["--as", who]].concat()).ok().stdout;
    assert_eq!(said(&["inbox", "--unread", "--page", "9"], "bob"), "Page 9 is empty: there is 1 page\n");
    assert_eq!(said(&["sent", "--page", "9"], "ann"), "Page 9 is empty: there is 1 page\n");
    said(&["inbox"], "bob");
    assert_eq!(said(&["inbox", "--unread"], "bob"), "No unread messages for @bob\n");
    assert_eq!(said(&["inbox", "--from", "@bob"], "ann"), "No messages for @ann from @bob\n");
    assert_eq!(
        said(&["inbox", "--scope", "module:x", "--mentions"], "bob"),
        "No messages for @bob with scope module:x that name you\n"
    );
    assert_eq!(said(&["sent", "--unread", "--to", "bob"], "ann"), "No unread messages sent by @ann to @bob\n");
}

#[test]
fn an_unknown_name_is_an_error_and_not_an_empty_list() {
    let repo = with_mail(1);
    for (args, unknown) in [
        (&["inbox", "--from", "@bbo"][..], "unknown agent: @bbo"),
        (&["inbox", "--from", "@reviewer"], "unknown agent: @reviewer"),
        (&["sent", "--to", "@bbo"], "unknown agent or role: @bbo"),
        (&["wait", "--mention", "@bbo", "--timeout", "60s"], "unknown agent or role: @bbo"),
        (&["session", "list", "--agent", "bbo"], "unknown agent: @bbo"),
        (&["agent", "context", "@bbo"], "unknown agent: @bbo"),
        (&["context", "save", "note", "--agent", "@bbo"], "unknown agent: @bbo"),
        (&["context", "show", "--agent", "@bbo"], "unknown agent: @bbo"),
        (&["inbox", "--as", "bbo"], "no agent bbo is registered here"),
    ] {
        let as_ann: &[&str] = if args.contains(&"--as") { &[] } else { &["--as", "ann"] };
        let ran = repo.thrum(&[args, as_ann].concat()).fails(3, unknown);
        assert!(
            unknown.ends_with("reviewer") || ran.stderr.contains("Did you mean") && ran.stderr.contains("bob?"),
            "{args:?} {ran:?}"
        );
    }
    assert!(!repo.path(".thrum/context/bbo.md").exists());
    // An existing agent without messages is no error, and neither is a deleted agent whose messages remain.
    assert_eq!(repo.json(&["inbox", "--from", "@bob", "--as", "ann"])["total"], 0);
    assert_eq!(repo.json(&["sent", "--to", "@implementer", "--as", "bob"])["total"], 0);
    repo.thrum(&["wait", "--mention", "@implementer", "--timeout", "50ms", "--as", "ann"]).fails(1, "No message");
    repo.thrum(&["agent", "delete", "ann", "--force"]).ok();
    assert_eq!(repo.json(&["inbox", "--from", "@ann", "--as", "bob"])["total"], 1);
    assert_eq!(repo.json(&["session", "list", "--agent", "ann"])["sessions"].as_array().map(Vec::len), Some(0));
}

#[test]
fn pages_and_authors_can_be_chosen() {
    let repo = with_mail(5);
    repo.agent("eve", "tester");
    repo.thrum(&["send", "from eve", "--to", "bob", "--as", "eve"]).ok();
    let inbox = |args: &[&str]| repo.json(&[&["inbox", "--as", "bob", "--unread"], args].concat());
    assert_eq!(texts(&inbox(&["--limit", "2", "--page", "3"])), ["mail 2", "mail 1"]);
    assert_eq!(inbox(&["--limit", "4"])["total_pages"], 2);
    assert_eq!(texts(&inbox(&["--from", "@eve"])), ["from eve"]);
    for bad in
        [["--limit", "0"], ["--limit", "101"], ["--limit", "-1"], ["--page", "0"], ["--page", "99999999999999999999"]]
    {
        repo.thrum(&[&["inbox", "--as", "bob"][..], &bad].concat()).fails(2, "");
    }
}

#[test]
fn everyones_mail_can_be_listed_and_stays_unread() {
    let repo = with_mail(2);
    repo.agent("eve", "tester");
    assert_eq!(repo.json(&["inbox", "--as", "eve"])["total"], 0);
    assert_eq!(repo.json(&["inbox", "--as", "eve", "--all"])["total"], 2);
    assert_eq!(repo.json(&["inbox", "--as", "bob", "--unread"])["unread"], 2);
}

#[test]
fn marking_all_as_read_affects_only_my_inbox() {
    let repo = with_mail(2);
    repo.agent("eve", "tester");
    repo.thrum(&["send", "to both", "--broadcast", "--as", "ann"]).ok();
    assert_eq!(repo.json(&["message", "read", "--all", "--as", "bob"])["marked_count"], 3);
    assert_eq!(repo.json(&["message", "read", "--all", "--as", "bob"])["marked_count"], 0);
    assert_eq!(repo.json(&["inbox", "--as", "bob", "--unread"])["unread"], 0);
    assert_eq!(repo.json(&["inbox", "--as", "eve", "--unread"])["unread"], 1);
}

#[test]
fn one_message_can_be_read_by_its_id_and_an_unknown_one_is_not_found() {
    let repo = with_mail(1);
    let id = repo.json(&["inbox", "--as", "bob", "--unread"])["messages"][0]["message_id"].as_str().unwrap().to_owned();
    let shown = repo.thrum(&["message", "get", &id, "--as", "bob"]).ok().stdout;
    assert!(shown.contains("@ann") && shown.ends_with("mail 1\n"), "{shown}");
    let receipt = repo.json(&["message", "get", &id, "--as", "ann"]);
    assert!(receipt["message"]["recipients"][0]["read_at"].is_string(), "{receipt}");
    repo.thrum(&["message", "get", "msg_none", "--as", "bob"]).fails(3, "message not found: msg_none");
}

#[test]
fn the_inbox_can_be_asked_for_scopes_for_what_names_me_and_from_its_beginning() {
    let repo = with_mail(1);
    repo.thrum(&["send", "to all", "--broadcast", "--as", "ann"]).ok();
    repo.thrum(&["send", "to my role", "--to", "@reviewer", "--scope", "module:auth", "--as", "ann"]).ok();
    let inbox = |args: &[&str]| repo.json(&[&["inbox", "--as", "bob", "--unread"], args].concat());
    assert_eq!(texts(&inbox(&["--oldest"])), ["mail 1", "to all", "to my role"]);
    assert_eq!(texts(&inbox(&["--oldest", "--limit", "1", "--page", "2"])), ["to all"]);
    assert_eq!(texts(&inbox(&["--mentions"])), ["to my role", "mail 1"]);
    assert_eq!(inbox(&["--mentions"])["unread"], 2);
    assert_eq!(texts(&inbox(&["--scope", "module:auth"])), ["to my role"]);
    assert_eq!(inbox(&["--scope", "module:login"])["total"], 0);
    repo.thrum(&["inbox", "--as", "bob", "--scope", "auth"]).fails(2, "TYPE:VALUE");
    repo.thrum(&["inbox", "--as", "bob", "--all", "--unread"]).fails(2, "cannot be used with");
    assert_eq!(inbox(&[])["unread"], 3, "nothing of this marked anything");
}
