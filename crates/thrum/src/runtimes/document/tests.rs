//! Tests that our parts can be added to files of every format and removed again.

use serde_json::json;
use thrum_core::ErrorKind;

use super::*;

/// Removes the parts from a text when no copy of the original text exists.
fn without(text: &str, parts: &[Part]) -> Result<String, Error> {
    super::without(text, parts, None).map(Option::unwrap_or_default)
}

fn parts() -> Vec<Part> {
    vec![
        Part::Member(vec!["mcpServers", "thrum"], json!({"command": "thrum", "args": ["mcp", "serve"]})),
        Part::Element(
            vec!["hooks", "Stop"],
            json!({"hooks": [{"type": "command", "command": "thrum hook stop --host claude"}]}),
        ),
        Part::Element(vec!["permissions", "allow"], json!("mcp__thrum")),
    ]
}

#[test]
fn the_users_text_survives_set_up_and_removal_unchanged() {
    for text in [
        "",
        "{\n  \"model\": \"x\"\n}\n",
        "{\n\t// mine\n\t\"hooks\": {\n\t\t\"Stop\": [\n\t\t\t{\"hooks\": [{\"type\": \"command\", \"command\": \"make lint\"}]}\n\t\t]\n\t},\n\t\"z\": 1, \"a\": [1,2],\n}\n",
        "{\n  \"mcpServers\": {\n    \"other\": {\n      \"command\": \"x\"\n    }\n  },\n  \"permissions\": {\n    \"allow\": [\n      \"Bash(ls:*)\"\n    ]\n  }\n}\n",
    ] {
        let once = with(text, &parts()).unwrap();
        assert_eq!(with(&once, &parts()).unwrap(), once, "a second time changes nothing");
        for line in text.lines().filter(|line| line.contains("mine") || line.contains("other") || line.contains("lint"))
        {
            assert!(once.contains(line), "{line} in {once}");
        }
        assert!(once.contains("\"thrum\"") && once.contains("thrum hook stop") && once.contains("mcp__thrum"));
        assert_eq!(without(&once, &parts()).unwrap(), text);
    }
}

#[test]
fn an_older_server_entry_of_ours_is_updated_and_another_is_left_alone() {
    let older = "{\"mcpServers\": {\"thrum\": {\"command\": \"thrum\", \"args\": [\"mcp\"]}}, \"hooks\": {\"Stop\": \
                 [{\"hooks\": [{\"type\": \"command\", \"command\": \"thrum hook stop --host claude\", \"timeout\": 1}]}]}}";
    let now = with(older, &parts()).unwrap();
    assert_eq!(now.matches("thrum hook stop").count(), 1, "{now}");
    assert!(now.contains("\"serve\"") && now.contains("\"timeout\": 1"), "a person may have set that: {now}");
    let anothers = "{\n  \"mcpServers\": {\n    \"thrum\": {\n      \"command\": \"docker\"\n    }\n  }\n}\n";
    let kept = with(anothers, &parts()[..1]).unwrap();
    assert_eq!((kept.as_str(), without(&kept, &parts()).unwrap().as_str()), (anothers, anothers));
}

#[test]
fn an_unsuitable_value_at_our_key_is_refused() {
    for text in [
        "{\"mcpServers\": [\"mine\"]}",
        "{\"mcpServers\": {\"thrum\": \"mine\"}}",
        "{\"mcpServers\": {\"thrum\": {}}}",
        "{\"hooks\": null}",
        "{\"hooks\": {\"Stop\": {\"mine\": 1}}}",
        "{\"permissions\": true}",
    ] {
        assert_eq!(with(text, &parts()).unwrap_err().kind, ErrorKind::Invalid, "{text}");
        assert_eq!(without(text, &parts()).unwrap().trim_end(), text);
    }
}

#[test]
fn a_file_that_is_no_settings_file_is_refused() {
    for text in ["[1]", "{\"a\": }", "{a: 1}", "text", "{\"a\": 1 \"b\": 2}"] {
        assert_eq!(with(text, &parts()).unwrap_err().kind, ErrorKind::Invalid, "{text}");
    }
    let table = [Part::Table("mcp_servers.thrum", "command = \"thrum\"\n")];
    assert_eq!(with("a = [", &table).unwrap_err().kind, ErrorKind::Invalid);
}

#[test]
fn a_table_of_toml_is_added_once_and_taken_out_again() {
    let table = [Part::Table("mcp_servers.thrum", "command = \"thrum\"\nargs = [\"mcp\", \"serve\"]\n")];
    for text in ["", "# mine\nmodel = \"x\" # why\n", "[mcp_servers.other]\ncommand = \"y\"\n\n[a]\nb = 1\n"] {
        let once = with(text, &table).unwrap();
        assert!(once.starts_with(text) && once.contains("[mcp_servers.thrum]\ncommand = \"thrum\"\n"), "{once}");
        assert_eq!(with(&once, &table).unwrap(), once);
        assert_eq!(without(&once, &table).unwrap(), text);
    }
    let anothers = "[mcp_servers.thrum]\ncommand = \"docker\"\n";
    assert_eq!(without(&with(anothers, &table).unwrap(), &table).unwrap(), anothers);
    let nothing = "[mcp_servers]\nthrum = \"x\"\n";
    assert_eq!(with(nothing, &table).unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(without(nothing, &table).unwrap(), nothing);
}

#[test]
fn hooks_of_toml_are_added_once_beside_those_of_others_and_taken_out_again() {
    let hooks = [Part::Hooks(
        "hooks",
        &[
            ("thrum hook stop --host kimi", "event = \"Stop\"\n"),
            ("thrum hook end --host kimi", "event = \"SessionEnd\"\n"),
        ],
    )];
    for text in
        ["", "# mine\na = 1\n", "a = 1\n\n[[hooks]]\nevent = \"Stop\" # why\ncommand = \"make lint\"\n\n[b]\nc = 2\n"]
    {
        let once = with(text, &hooks).unwrap();
        assert!(once.starts_with(text) && once.matches("[[hooks]]\ncommand = \"thrum hook").count() == 2, "{once}");
        assert_eq!(with(&once, &hooks).unwrap(), once);
        assert_eq!(without(&once, &hooks).unwrap(), text);
        // The program rewrites the file in its own order and format.
        let anew = once.replace(
            "command = \"thrum hook stop --host kimi\"\nevent = \"Stop\"",
            "event = \"Stop\"\ncommand = 'thrum hook stop --host kimi'",
        );
        assert_eq!(with(&anew, &hooks).unwrap(), anew);
        assert_eq!(without(&anew, &hooks).unwrap(), text);
    }
    for text in ["hooks = []\n", "hooks = 1\n"] {
        assert_eq!(with(text, &hooks).unwrap_err().kind, ErrorKind::Invalid, "{text}");
        assert_eq!(without(text, &hooks).unwrap(), text);
    }
}

#[test]
fn a_block_of_text_is_replaced_in_its_place() {
    let (old, new) = ([Part::Block(Comment::Html, "old\nlines")], [Part::Block(Comment::Html, "new")]);
    for text in ["", "# Mine\n\nText.\n"] {
        let once = with(text, &old).unwrap();
        let more = format!("{once}\nMore.\n");
        let now = with(&more, &new).unwrap();
        assert!(
            now.contains("new") && !now.contains("old") && now.ends_with("\nMore.\n") && now.starts_with(text),
            "{now}"
        );
        assert_eq!(with(&now, &new).unwrap(), now);
        assert_eq!(without(&once, &old).unwrap(), text);
    }
}

#[test]
fn a_key_required_by_our_parts_is_removed_with_the_last_of_them() {
    let hook = |command: &str| json!({"type": "command", "bash": command});
    let parts = [
        Part::Required("version", json!(1)),
        Part::Element(vec!["hooks", "agentStop"], hook("thrum hook stop --host copilot")),
    ];
    let ours = with("", &parts).unwrap();
    assert!(ours.contains("\"version\": 1") && ours.contains("thrum hook stop"), "{ours}");
    assert_eq!(super::without(&ours, &parts, None).unwrap(), None);
    // The user added a hook to the file that we created.
    let more = with(&ours, &[Part::Element(vec!["hooks", "agentStop"], hook("make lint"))]).unwrap();
    assert_eq!(with(&more, &parts).unwrap(), more);
    let left: Value = serde_json::from_str(&without(&more, &parts).unwrap()).unwrap();
    assert_eq!(left, json!({"version": 1, "hooks": {"agentStop": [hook("make lint")]}}));
    let newer = "{\n  \"version\": 2\n}\n";
    let kept = with(newer, &parts).unwrap();
    assert!(kept.contains("\"version\": 2"), "{kept}");
    assert_eq!(without(&kept, &parts).unwrap(), newer);
}

#[test]
fn a_text_around_a_block_comes_back_byte_for_byte() {
    let block = [Part::Block(Comment::Html, "ours")];
    for text in ["Mine.\n", "Mine.\n\n\n", "Mine.  \n \n", "Mine.\r\nMore.\r\n", "# A\n\n<!-- a comment -->\n"] {
        let once = with(text, &block).unwrap();
        assert!(once.starts_with(text) && once.contains('\r') == text.contains('\r'), "{once:?}");
        assert_eq!(with(&once, &block).unwrap(), once);
        assert_eq!(without(&once, &block).unwrap(), text);
        let more = format!("{once}{}", once.replace("Mine", "More").replace("ours", "old"));
        assert!(!without(&more, &block).unwrap().contains("thrum"), "a merge may leave two of them");
        assert_eq!(
            without(&format!("{once}More."), &block).unwrap(),
            format!("{text}{}More.", newline(text)),
            "paragraphs stay apart"
        );
    }
}

#[test]
fn a_marker_without_its_partner_is_named_and_nothing_is_guessed() {
    for comment in [Comment::Html, Comment::Hash, Comment::Slashes] {
        let block = [Part::Block(comment, "ours")];
        let (begin, end) = comment.markers();
        let once = with("Mine.\n", &block).unwrap();
        for (text, line) in [
            (format!("{}\nMy rules.\n", once.replace(end, "")), 3),
            (format!("{}{once}", once.replace(end, "")), 3),
            (once.replace(begin, ""), 5),
            (format!("{once}My rules.\n{end}\n"), 7),
            (once.replace(end, &format!("I wrote: {end}")), 3),
        ] {
            for error in [with(&text, &block), without(&text, &block)].map(Result::unwrap_err) {
                assert!(
                    error.message.starts_with(&format!("line {line} is \"{}", &begin[..2])),
                    "{error:?} for {text}"
                );
            }
            assert!(found(&text, &block[0]).is_err(), "{text}");
        }
        let kept = with(&once.replace(end, &format!("{end} mine")), &block).unwrap();
        assert!(kept.contains(&format!("{end} mine")), "{kept}");
    }
}

#[test]
fn tables_come_out_of_toml_byte_for_byte_and_comments_stay() {
    let table = Part::Table("mcp_servers.thrum", "command = \"thrum\"\nargs = [\"mcp\", \"serve\"]\n");
    let hooks = Part::Hooks(
        "hooks",
        &[("thrum hook stop --host kimi", "event = \"Stop\"\n"), ("thrum hook end --host kimi", "timeout = 3\n")],
    );
    for part in [[table], [hooks]] {
        for text in [
            "model = \"x\"\n\n# [profiles.big]\n# model = \"y\"\n",
            "# nothing yet\n",
            "# nothing yet\n\n\n",
            "a = 1\r\n\r\n# mine\r\n",
            "a = 1 # why\n[b] # where\nc = \"\"\"\n[d]\n\"\"\"\n\n",
        ] {
            let once = with(text, &part).unwrap();
            assert!(
                once.starts_with(text) && once.matches('\n').count() == once.matches(newline(text)).count(),
                "{once:?}"
            );
            assert_eq!(with(&once, &part).unwrap(), once);
            assert_eq!(without(&once, &part).unwrap(), text);
            let eol = newline(text);
            let more = format!("{eol}# more{eol}[more] # here{eol}b = 1{eol}");
            assert_eq!(
                without(&format!("{once}{more}"), &part).unwrap(),
                format!("{text}{more}"),
                "what was added later"
            );
            let close = format!("# more{eol}[more]{eol}");
            assert_eq!(
                without(&format!("{once}{close}"), &part).unwrap(),
                format!("{text}{eol}{close}"),
                "also right behind it"
            );
        }
    }
}

#[test]
fn a_table_is_taken_out_with_the_tables_in_it() {
    let table = [Part::Table("mcp_servers.thrum", "command = \"thrum\"\n")];
    let text = "[mcp_servers.thrum] # ours\ncommand = \"thrum\" # it\nenv.A = \"1\"\n# kept\n\n[other]\na = 1\n\n[mcp_servers.thrum.tools.x]\nb = \"\"\"\n[c]\n\"\"\"\n";
    assert_eq!(without(text, &table).unwrap(), "# kept\n\n[other]\na = 1\n");
    for text in
        ["mcp_servers = { thrum = { command = \"thrum\" }, a = 1 }\n", "mcp_servers.thrum.command = \"thrum\"\n"]
    {
        assert!(without(text, &table).unwrap_err().message.contains("not written as [mcp_servers.thrum]"), "{text}");
        assert_eq!(with(text, &table).unwrap(), text);
    }
}

#[test]
fn the_users_changes_to_our_entry_survive_its_removal() {
    let kept = [
        r#"{"mcpServers": {"thrum": {"command": "/opt/thrum", "args": ["mcp", "serve"], "env": {"THRUM_NAME": "ann"}}}}"#,
        r#"{"hooks": {"Stop": [{"matcher": "x", "hooks": [{"type": "command", "command": "thrum hook stop --host claude", "timeout": 20}]}]}}"#,
        r#"{"hooks": {"Stop": [{"hooks": [{"command": "thrum hook stop --host claude || true"}]}]}}"#,
        r#"{"hooks": {"Stop": [{"command": "THRUM_NAME=bob /opt/bin/thrum hook stop"}]}}"#,
        r#"{"hooks": {"Stop": [{"hooks": [{"command": "thrum", "args": ["hook", "stop"]}]}]}}"#,
    ];
    for text in kept {
        let part = if text.contains("mcpServers") { &parts()[..1] } else { &parts()[1..2] };
        assert_eq!(with(text, part).unwrap(), text);
        assert_eq!(found(text, &part[0]).unwrap().len(), 1, "{text}");
        assert_eq!(without(text, part).unwrap(), "", "{text}");
    }
    let shared = r#"{"hooks": {"Stop": [{"hooks": [{"command": "thrum hook stop --host claude"}, {"command": "make lint"}]}, {"command": "x"}]}}"#;
    assert_eq!(with(shared, &parts()[1..2]).unwrap(), shared);
    let left = r#"{"hooks": {"Stop": [{"hooks": [{"command": "make lint"}]}, {"command": "x"}]}}"#;
    assert_eq!(json::value(&without(shared, &parts()).unwrap(), &[]).unwrap(), json::value(left, &[]).unwrap());
    for text in [
        r#"{"hooks": {"Stop": [{"hooks": [{"command": "make lint && thrum hook stop"}]}]}}"#,
        r#"{"hooks": {"Moved": [{"command": "thrum hook stop"}]}}"#,
    ] {
        assert_eq!(without(text, &parts()).unwrap(), text);
        assert_eq!(still_runs(text, &parts()).len(), 1, "{text}");
    }
    let hooks = [Part::Hooks("hooks", &[("thrum hook stop --host kimi", "event = \"Stop\"\n")])];
    let text =
        "[[hooks]]\nevent = \"Stop\"\ncommand = \"A=1 /opt/thrum hook stop --host kimi || true\"\ntimeout = 20\n";
    assert_eq!(with(text, &hooks).unwrap(), text);
    assert_eq!(without(text, &hooks).unwrap(), "");
    let text = "[[hooks]]\ncommand = \"make && thrum hook stop\"\n";
    assert_eq!((with(text, &hooks).unwrap().as_str(), without(text, &hooks).unwrap().as_str()), (text, text));
    assert_eq!(still_runs(text, &hooks), ["make && thrum hook stop"]);
    let table = [Part::Table("mcp_servers.thrum", "command = \"thrum\"\nargs = [\"mcp\", \"serve\"]\n")];
    let text = "[mcp_servers.thrum]\ncommand = \"/opt/thrum\"\nargs = [\"mcp\", \"serve\"]\n\n[mcp_servers.thrum.env]\nTHRUM_NAME = \"ann\"\n";
    assert_eq!((with(text, &table).unwrap().as_str(), without(text, &table).unwrap().as_str()), (text, ""));
}

#[test]
fn earlier_entries_stay() {
    for before in [
        "{}",
        "",
        " \n",
        "{\"a\": 1, \"hooks\": {}}",
        "{\n  \"mcpServers\": {},\n  \"permissions\": {\"allow\": []}\n}",
        "{\"permissions\": {\"allow\": [\"mcp__thrum\"]}}\r\n",
        "\u{feff}{\r\n  \"a\": 1\r\n}",
    ] {
        let once = with(before, &parts()).unwrap();
        assert_eq!(once.starts_with('\u{feff}'), before.starts_with('\u{feff}'));
        assert_eq!(super::without(&once, &parts(), Some(before)).unwrap().as_deref(), Some(before));
        // The user has edited the file since then.
        let more = once.replacen('{', "{\"more\": 1,", 1);
        let left = super::without(&more, &parts(), Some(before)).unwrap().unwrap();
        let mut wanted = json::value(after_mark(before).1, &[]).unwrap().unwrap();
        wanted["more"] = json!(1);
        assert_eq!(json::value(after_mark(&left).1, &[]).unwrap().unwrap(), wanted, "{left}");
    }
    let required = [
        Part::Required("version", json!(1)),
        Part::Element(vec!["hooks", "stop"], json!({"command": "thrum hook stop"})),
    ];
    let once = with("{\"version\": 1}", &required).unwrap() + "\n";
    assert_eq!(
        super::without(&once, &required, Some("{\"version\": 1}"))
            .unwrap()
            .unwrap()
            .split_whitespace()
            .collect::<String>(),
        "{\"version\":1}"
    );
}

#[test]
fn duplicate_keys_are_refused() {
    for text in ["{\"hooks\": {}, \"hooks\": {}}", "{\"hooks\": {\"Stop\": [], \"a\": 1, \"Stop\": []}}"] {
        for error in [with(text, &parts()), without(text, &parts())].map(Result::unwrap_err) {
            assert!(error.message.ends_with("in it twice"), "{error:?}");
        }
    }
    assert!(with("{\"a\": 1, \"a\": 2}", &parts()).is_ok(), "elsewhere it is not ours to judge");
}
