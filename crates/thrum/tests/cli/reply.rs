use crate::common::{TestRepo, message_id};

#[test]
fn an_answer_goes_to_the_author_and_the_others_addressed_and_reads_the_parent() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.agent("eve", "tester");
    let parent = message_id(&repo.json(&["send", "question", "--to", "bob", "--to", "eve", "--as", "ann"]));
    let shown = repo.thrum(&["reply", &parent, "answer", "--as", "bob"]).ok().stdout;
    assert!(shown.starts_with("Replied msg_") && shown.contains("@ann") && shown.contains("@eve"), "{shown}");
    assert_eq!(repo.json(&["inbox", "--unread", "--as", "bob"])["unread"], 0, "the parent is read");
    for name in ["ann", "eve"] {
        let inbox = repo.json(&["inbox", "--as", name]);
        assert_eq!(
            (&inbox["messages"][0]["body"]["content"], &inbox["messages"][0]["reply_to"]),
            (&"answer".into(), &parent.as_str().into())
        );
    }
}

#[test]
fn an_answer_to_everyone_goes_to_the_author_only() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.agent("eve", "tester");
    for flag in [&["--broadcast"][..], &["--to", "@everyone"]] {
        let parent = message_id(&repo.json(&[&["send", "all hands", "--as", "ann"], flag].concat()));
        let answer = repo.json(&["reply", &parent, "here", "--as", "bob"]);
        let to: Vec<_> =
            answer["recipients"].as_array().unwrap().iter().map(|to| to["agent_id"].as_str().unwrap()).collect();
        assert_eq!(to, ["ann"], "{answer}");
    }
}

#[test]
fn a_reply_to_an_unknown_message_is_not_sent() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.agent("bob", "reviewer");
    repo.thrum(&["reply", "msg_none", "answer", "--as", "ann"]).fails(3, "message not found");
    repo.thrum(&["reply", "msg_none", "", "--as", "ann"]).fails(2, "empty");
    assert_eq!(repo.json(&["inbox", "--all", "--as", "bob"])["total"], 0);
}
