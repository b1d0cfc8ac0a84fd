//! `thrum setup` keeps everything else that other programs' files contain.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use serde_json::{Value, json};

use crate::common::{AGENT_PROGRAMS, Ran, TestRepo};

/// Returns every file of the worktree outside `.git` and `.thrum`, with its text.
fn files(repo: &TestRepo) -> Vec<(String, String)> {
    let (mut found, mut left) = (Vec::new(), vec![repo.root().to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let name = entry.path().strip_prefix(repo.root()).unwrap().display().to_string();
            match entry.file_type().unwrap() {
                _ if name == ".git" || name == ".thrum" => {}
                kind if kind.is_dir() => left.push(entry.path()),
                _ => found.push((name, fs::read_to_string(entry.path()).unwrap())),
            }
        }
    }
    found.sort();
    found
}

fn put(repo: &TestRepo, file: &str, text: &str) {
    fs::create_dir_all(repo.path(file).parent().unwrap()).unwrap();
    fs::write(repo.path(file), text).unwrap();
}

fn parsed(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Claude Code reads both files, and would run each hook twice.
#[test]
fn hooks_that_a_person_moved_are_not_written_a_second_time() {
    let repo = TestRepo::with_agent("repo", "ann");
    let (shared, own) = (".claude/settings.json", ".claude/settings.local.json");
    put(&repo, shared, "{\"model\": \"opus\"}\n");
    repo.thrum(&["setup", "claude"]).ok();
    let moved = json!({
        "hooks": parsed(&repo.path(shared))["hooks"], "permissions": parsed(&repo.path(own))["permissions"],
    });
    put(&repo, shared, "{\"model\": \"opus\"}\n");
    put(&repo, own, &moved.to_string());
    assert_eq!(repo.json(&["setup", "claude"])["files"], json!([]));
    let ran = repo.thrum(&["doctor", "agents", "claude", "--json"]);
    assert_eq!(ran.json()["runtimes"][0]["set_up"], "yes", "{ran:?}");
    // A hook that the person has not moved is where it was.
    let mut some = moved.clone();
    let stop = some["hooks"].as_object_mut().unwrap().remove("Stop").unwrap();
    put(&repo, shared, &json!({"model": "opus", "hooks": {"Stop": stop}}).to_string());
    put(&repo, own, &some.to_string());
    assert_eq!(repo.json(&["setup", "claude"])["files"], json!([]));
    repo.thrum(&["setup", "claude", "--remove"]).ok();
    fs::remove_file(repo.path(".gitignore")).unwrap();
    assert!(!files(&repo).iter().any(|(_, text)| text.contains("thrum")), "{:?}", files(&repo));
    assert_eq!(parsed(&repo.path(shared))["model"], "opus");
}

/// The copies would be lost with the next change.
#[test]
fn damaged_copies_of_the_original_files_are_an_error() {
    let repo = TestRepo::with_agent("repo", "ann");
    put(&repo, ".mcp.json", "{\"mcpServers\": {\"mine\": {\"command\": \"x\"}}}");
    repo.thrum(&["setup", "claude"]).ok();
    let (copies, before) = (repo.path(".thrum/var/setup.json"), files(&repo));
    let text = fs::read_to_string(&copies).unwrap();
    fs::write(&copies, &text[..text.len() / 2]).unwrap();
    for args in [&["setup", "claude", "--remove"][..], &["setup", "gemini"]] {
        repo.thrum(args).fails(1, "setup.json: ").says("move it away");
    }
    assert_eq!(files(&repo), before);
    fs::write(&copies, text).unwrap();
    repo.thrum(&["setup", "claude", "--remove"]).ok();
    fs::remove_file(repo.path(".gitignore")).unwrap();
    assert_eq!(files(&repo), [(".mcp.json".into(), "{\"mcpServers\": {\"mine\": {\"command\": \"x\"}}}".into())]);
}

#[test]
fn setup_can_be_removed_and_a_second_run_changes_nothing() {
    let repo = TestRepo::with_agent("repo", "ann");
    put(
        &repo,
        ".claude/settings.json",
        "{\n  // mine\n  \"model\": \"opus\",\n  \"hooks\": {\n    \"Stop\": [\n      {\n        \"hooks\": [\n          {\n            \"type\": \"command\",\n            \"command\": \"make lint\"\n          }\n        ]\n      }\n    ]\n  }\n}\n",
    );
    put(&repo, ".codex/config.toml", "model = \"x\" # why\n\n[mcp_servers.other]\ncommand = \"y\"\n");
    put(&repo, "AGENTS.md", "# Mine\n\nRun the tests.\n");
    fs::set_permissions(repo.path("AGENTS.md"), fs::Permissions::from_mode(0o600)).unwrap();
    let before = files(&repo);
    let done = repo.json(&[&["setup"], AGENT_PROGRAMS.as_slice()].concat());
    assert_eq!(
        (done["runtimes"].as_array().unwrap().len(), &done["refused"]),
        (AGENT_PROGRAMS.len(), &Value::Array(Vec::new()))
    );
    let after = files(&repo);
    let named: Vec<&str> =
        done["files"].as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
    assert!(
        named.contains(&".mcp.json") && named.contains(&".codex/rules/thrum.rules") && named.contains(&"GEMINI.md"),
        "{named:?}"
    );
    assert!(!repo.path("CLAUDE.md").exists(), "it would hide AGENTS.md");
    let settings = fs::read_to_string(repo.path(".claude/settings.json")).unwrap();
    assert!(
        settings.contains("// mine") && settings.contains("make lint") && settings.contains("asyncRewake"),
        "{settings}"
    );
    assert_eq!(parsed(&repo.path(".mcp.json"))["mcpServers"]["thrum"]["args"][1], "serve");
    assert_eq!(parsed(&repo.path(".claude/settings.local.json"))["permissions"]["allow"][0], "mcp__thrum");
    assert_eq!(fs::metadata(repo.path("AGENTS.md")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(repo.json(&[&["setup"], AGENT_PROGRAMS.as_slice()].concat())["files"].as_array().unwrap().len(), 0);
    assert_eq!(files(&repo), after);
    repo.thrum(&[&["setup", "--remove"], AGENT_PROGRAMS.as_slice()].concat()).ok();
    assert_eq!(files(&repo), before);
}

#[test]
fn a_dry_run_shows_the_changes_without_making_them() {
    let repo = TestRepo::with_agent("repo", "ann");
    put(&repo, "AGENTS.md", "# Mine\n");
    let before = files(&repo);
    let shown = repo.thrum(&["setup", "codex", "--dry-run"]).ok().stdout;
    for line in [
        "--- a/AGENTS.md",
        "+++ b/AGENTS.md",
        " # Mine",
        "--- /dev/null",
        "+[mcp_servers.thrum]",
        "Codex: Trust the folder",
    ] {
        assert!(shown.lines().any(|shown| shown.starts_with(line)), "{line} in {shown}");
    }
    assert_eq!(files(&repo), before);
}

#[test]
fn unsuitable_settings_files_are_left_alone_and_the_text_to_paste_is_shown() {
    let repo = TestRepo::with_agent("repo", "ann");
    put(&repo, ".claude/settings.json", "{ \"hooks\": }");
    put(&repo, ".codex/config.toml", "a = [");
    let outside = repo.above().join("elsewhere.json");
    fs::write(&outside, "{}").unwrap();
    symlink(&outside, repo.path(".mcp.json")).unwrap();
    let ran = repo.thrum(&["setup", "claude", "codex"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for words in [
        ".claude/settings.json: it is no JSON object",
        ".codex/config.toml: it is no TOML",
        ".mcp.json: it leads to",
        "thrum hook stop --host claude",
    ] {
        assert!(ran.stdout.contains(words), "{words} in {}", ran.stdout);
    }
    assert_eq!(fs::read_to_string(repo.path(".claude/settings.json")).unwrap(), "{ \"hooks\": }");
    assert_eq!(fs::read_to_string(&outside).unwrap(), "{}");
    assert!(repo.path(".codex/hooks.json").exists(), "the others are written");
    repo.thrum(&["setup", "--remove"]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "{}");
}

/// Codex 0.171.0 reads the hooks of a linked worktree from the main checkout, and everything else from the worktree.
#[test]
fn hooks_of_codex_in_a_linked_worktree_are_those_of_the_main_checkout() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.git_done(&["commit", "-q", "--allow-empty", "-m", "first"]);
    repo.git_done(&["worktree", "add", "-q", "-b", "feature", "../feature"]);
    let there = repo.above().join("feature");
    let in_feature = |args: &[&str]| Ran::from(repo.command(args).current_dir(&there).output().unwrap());
    in_feature(&["quickstart", "--name", "fay", "--role", "implementer", "--module", "x"]).ok();
    let hooks = fs::canonicalize(repo.root()).unwrap().join(".codex/hooks.json").display().to_string();
    let set_up = in_feature(&["setup", "codex"]).ok().stdout;
    let words = format!("created {hooks}\n");
    assert!(
        set_up.contains(&words) && set_up.contains("reads the hooks of a linked worktree from the main checkout only"),
        "{set_up}"
    );
    assert!(
        !there.join(".codex/hooks.json").exists()
            && there.join(".codex/config.toml").exists()
            && !repo.path(".codex/config.toml").exists()
    );
    let tried = in_feature(&["doctor", "agents", "codex", "--json"]).json();
    let tried = tried["runtimes"][0]["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["name"].as_str().unwrap().starts_with("hook"));
    assert_eq!(tried.count(), 4, "doctor looks there");

    // The hooks also serve the other worktrees, so `--remove` in a linked worktree keeps them. The command does remove
    // a file that an earlier version wrote into the linked worktree itself.
    fs::copy(&hooks, there.join(".codex/hooks.json")).unwrap();
    let removed = in_feature(&["setup", "codex", "--remove"]).ok().stdout;
    assert!(
        removed.contains(&format!("{hooks} serves all worktrees and stays")) && Path::new(&hooks).exists(),
        "{removed}"
    );
    assert!(!there.join(".codex/hooks.json").exists());
    let removed = repo.thrum(&["setup", "codex", "--remove"]).ok().stdout;
    assert!(
        removed.contains("it runs none in the linked worktrees either") && !Path::new(&hooks).exists(),
        "{removed}"
    );

    // A bare repository has no main checkout; Codex reads the hooks from the worktree.
    let bare = repo.above().join("bare.git");
    repo.git_done(&["clone", "-q", "--bare", ".", "../bare.git"]);
    repo.git_done(&["--git-dir", bare.to_str().unwrap(), "worktree", "add", "-q", "-b", "gus", "../of-bare"]);
    let there = repo.above().join("of-bare");
    let in_it = |args: &[&str]| Ran::from(repo.command(args).current_dir(&there).output().unwrap()).ok();
    in_it(&["init"]);
    assert!(
        in_it(&["setup", "codex"]).stdout.contains("created .codex/hooks.json")
            && there.join(".codex/hooks.json").exists()
    );
}

#[test]
fn instructions_that_are_a_link_within_the_worktree_are_written_once() {
    let repo = TestRepo::with_agent("repo", "ann");
    put(&repo, "AGENTS.md", "# Mine\n");
    symlink("AGENTS.md", repo.path("CLAUDE.md")).unwrap();
    repo.thrum(&["setup", "claude", "codex"]).ok();
    let text = fs::read_to_string(repo.path("AGENTS.md")).unwrap();
    assert_eq!(
        (text.matches("thrum: begin").count(), fs::symlink_metadata(repo.path("CLAUDE.md")).unwrap().is_symlink()),
        (1, true)
    );
}

#[test]
fn programs_are_detected_by_installation_and_by_their_files() {
    let repo = TestRepo::with_agent("repo", "ann");
    let bin = repo.above().join("bin");
    fs::create_dir(&bin).unwrap();
    let git = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("git"))
        .find(|git| git.is_file())
        .unwrap();
    symlink(git, bin.join("git")).unwrap();
    let repo = repo.with_variable("PATH", bin.as_os_str());
    repo.thrum(&["setup"]).fails(3, "thrum setup claude");
    fs::write(bin.join("qwen"), "").unwrap();
    fs::create_dir(repo.path(".codex")).unwrap();
    fs::create_dir(repo.path("below")).unwrap();
    let below = repo.path("below");
    let done = repo.json(&["setup", "--repo", below.to_str().unwrap()]);
    assert_eq!(done["runtimes"], json!(["Codex", "Qwen Code"]));
    assert!(repo.path(".qwen/settings.json").exists(), "at the top of the worktree");
}

#[test]
fn additions_to_a_file_of_setup_survive_setup_and_removal() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["setup", "codex", "copilot"]).ok();
    let rules = fs::read_to_string(repo.path(".codex/rules/thrum.rules")).unwrap();
    let mine = "prefix_rule(pattern=[\"make\"], decision=\"allow\")\n";
    fs::write(repo.path(".codex/rules/thrum.rules"), format!("{rules}{mine}")).unwrap();
    let mut hooks = parsed(&repo.path(".github/hooks/thrum.json"));
    let lint = json!({"type": "command", "bash": "make lint"});
    hooks["hooks"]["agentStop"].as_array_mut().unwrap().push(lint.clone());
    fs::write(repo.path(".github/hooks/thrum.json"), hooks.to_string()).unwrap();
    let before = files(&repo);
    repo.thrum(&["setup", "codex", "copilot"]).ok();
    assert_eq!(files(&repo), before);
    repo.thrum(&["setup", "--remove"]).ok();
    assert_eq!(fs::read_to_string(repo.path(".codex/rules/thrum.rules")).unwrap(), mine);
    assert_eq!(parsed(&repo.path(".github/hooks/thrum.json")), json!({"version": 1, "hooks": {"agentStop": [lint]}}));
}

#[test]
fn waking_codex_requires_consent_and_can_be_removed() {
    let repo = TestRepo::with_agent("repo", "ann");
    assert_eq!(repo.json(&["setup", "codex"])["codex_wake"], Value::Null);
    let hooks = fs::read_to_string(repo.path(".codex/hooks.json")).unwrap();
    let value = || repo.json(&["config", "show"])["codex"]["wake"]["value"].clone();
    assert_eq!(repo.json(&["setup", "codex", "--wake", "--dry-run"])["codex_wake"], true);
    assert_eq!(value(), false);
    let said = repo.thrum(&["setup", "codex", "--wake"]).ok().stdout;
    assert!(said.contains("codex.wake: true") && said.contains("at most ten an hour"), "{said}");
    assert_eq!(value(), true);
    assert_eq!(
        fs::read_to_string(repo.path(".codex/hooks.json")).unwrap(),
        hooks,
        "no hook has to be reviewed again for it"
    );
    assert_eq!(repo.json(&["setup", "codex", "--wake"])["codex_wake"], Value::Null, "a second time changes nothing");
    repo.thrum(&["setup", "claude"]).ok();
    repo.thrum(&["setup", "claude", "--remove"]).ok();
    assert_eq!(value(), true, "it is Codex's");
    repo.thrum(&["setup", "--remove"]).ok();
    assert_eq!(value(), false);
    repo.thrum(&["setup", "claude", "--wake"]).fails(2, "--wake is for Codex");
}

#[test]
fn user_wide_settings_are_changed_only_if_their_program_is_named() {
    let repo = TestRepo::with_agent("repo", "ann");
    let home = repo.above().join("person");
    fs::create_dir_all(home.join(".kimi-code")).unwrap();
    fs::create_dir(home.join("dotfiles")).unwrap();
    // People keep such files elsewhere, behind symbolic links.
    let settings = home.join("dotfiles/config.toml");
    let mine = "model = \"x\" # why\n\n[[hooks]]\nevent = \"Stop\"\ncommand = \"make lint\"\n";
    fs::write(&settings, mine).unwrap();
    symlink(&settings, home.join(".kimi-code/config.toml")).unwrap();
    fs::create_dir(repo.path(".kimi-code")).unwrap();
    let repo = repo.with_variable("HOME", home.as_os_str());
    let done = repo.thrum(&["setup"]).ok().stdout;
    assert!(done.contains("~/.kimi-code/config.toml, which only `thrum setup kimi` writes"), "{done}");
    assert_eq!(fs::read_to_string(&settings).unwrap(), mine);
    let shown = repo.thrum(&["setup", "kimi", "--dry-run"]).ok().stdout;
    assert!(
        shown.contains("+++ b/~/.kimi-code/config.toml")
            && shown.contains("+command = \"thrum hook prompt --host kimi\""),
        "{shown}"
    );
    assert_eq!(fs::read_to_string(&settings).unwrap(), mine);
    repo.thrum(&["setup", "kimi"]).ok();
    let written = fs::read_to_string(&settings).unwrap();
    assert!(written.starts_with(mine) && written.matches("thrum hook ").count() == 5, "{written}");
    assert!(fs::symlink_metadata(home.join(".kimi-code/config.toml")).unwrap().is_symlink());
    // The settings also serve other repositories.
    let left = repo.thrum(&["setup", "--remove"]).ok().stdout;
    assert!(left.contains("`thrum setup kimi --remove` takes it out"), "{left}");
    assert_eq!(fs::read_to_string(&settings).unwrap(), written);
    repo.thrum(&["setup", "kimi", "--remove"]).ok();
    assert_eq!(fs::read_to_string(&settings).unwrap(), mine);
    assert!(!repo.thrum(&["setup", "--remove"]).ok().stdout.contains("kimi --remove"));
}

#[test]
fn opencodes_settings_with_comments_stay_as_they_are_and_get_a_plugin_that_makes_it_install_nothing() {
    let repo = TestRepo::with_agent("repo", "ann");
    let mine = "{\n  // mine\n  \"plugin\": [\"other-plugin\"],\n  \"mcp\": {\n    \"other\": {\"type\": \"local\", \"command\": [\"x\"],},\n  },\n}\n";
    put(&repo, "opencode.jsonc", mine);
    repo.thrum(&["setup", "opencode"]).ok();
    assert!(!repo.path("opencode.json").exists() && !repo.path(".opencode").exists());
    let text = fs::read_to_string(repo.path("opencode.jsonc")).unwrap();
    assert!(text.contains("// mine") && text.contains("[\"other-plugin\", \"./.agents/opencode/thrum.js\"]"), "{text}");
    let plugin = fs::read_to_string(repo.path(".agents/opencode/thrum.js")).unwrap();
    let imports: Vec<&str> = plugin.lines().filter(|line| line.contains("import") && line.contains("from")).collect();
    assert_eq!(imports, ["import { spawn } from \"node:child_process\""], "no package");
    repo.thrum(&["setup", "opencode", "--remove"]).ok();
    assert_eq!(fs::read_to_string(repo.path("opencode.jsonc")).unwrap(), mine);
    assert!(!repo.path(".agents/opencode/thrum.js").exists());
}

#[test]
fn instructions_whose_end_marker_is_lost_are_left_alone() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["setup", "codex"]).ok();
    let text = fs::read_to_string(repo.path("AGENTS.md")).unwrap().replace("<!-- thrum: end -->", "");
    put(&repo, "AGENTS.md", &format!("{text}\n# Our rules\nNever push to main.\n"));
    let before = files(&repo);
    for _ in 0..2 {
        let ran = repo.thrum(&["setup", "codex"]);
        assert_eq!(ran.code, 1, "{ran:?}");
        for words in
            ["AGENTS.md: line 1 is \"<!-- thrum: begin", "\"<!-- thrum: end -->\" is missing", "You share a mailbox"]
        {
            assert!(ran.stdout.contains(words), "{words} in {}", ran.stdout);
        }
        assert_eq!(files(&repo), before);
    }
    repo.thrum(&["setup", "codex", "--remove"]);
    assert_eq!(
        fs::read_to_string(repo.path("AGENTS.md")).unwrap(),
        before.iter().find(|(name, _)| name == "AGENTS.md").unwrap().1
    );
}

#[test]
fn comments_and_line_ends_of_toml_settings_survive() {
    let repo = TestRepo::with_agent("repo", "ann");
    let home = repo.above().join("person");
    let repo = repo.with_variable("HOME", home.as_os_str());
    fs::create_dir_all(home.join(".kimi-code")).unwrap();
    for text in [
        "model = \"x\"\n\n# [profiles.big]\n# model = \"y\"\n",
        "# only comments\n",
        "a = 1\r\n# mine\r\n",
        "\u{feff}a = 1\n",
    ] {
        put(&repo, ".codex/config.toml", text);
        fs::write(home.join(".kimi-code/config.toml"), text).unwrap();
        repo.thrum(&["setup", "codex", "kimi"]).ok();
        repo.thrum(&["setup", "codex", "kimi", "--remove"]).ok();
        assert_eq!(fs::read_to_string(repo.path(".codex/config.toml")).unwrap(), text);
        assert_eq!(fs::read_to_string(home.join(".kimi-code/config.toml")).unwrap(), text);
    }
}

/// Runs `setup` and `--remove` for a program, with these files there before; they must be the same bytes afterwards.
fn comes_back(program: &str, before: &[(&str, &str)]) {
    let repo = TestRepo::with_agent("repo", "ann");
    before.iter().for_each(|(file, text)| put(&repo, file, text));
    let there = files(&repo);
    repo.thrum(&["setup", program]).ok();
    assert_ne!(files(&repo), there);
    let written = files(&repo);
    assert_eq!(repo.json(&["setup", program])["files"], json!([]));
    assert_eq!(files(&repo), written);
    repo.thrum(&["setup", program, "--remove"]).ok();
    assert_eq!(files(&repo), there, "{program}");
    assert!(!repo.path(".thrum/var/setup.json").exists(), "the copies have gone, too");
    repo.thrum(&["setup", program, "--remove"]).ok();
    assert_eq!(files(&repo), there);
}

#[test]
fn files_that_were_there_before_come_back_byte_for_byte() {
    comes_back("claude", &[(".mcp.json", "{}"), (".claude/settings.json", ""), ("CLAUDE.md", "# Mine")]);
    comes_back(
        "claude",
        &[(".mcp.json", "{\"mcpServers\": {}}\n"), (".claude/settings.json", "{\"a\": 1, \"hooks\": {\"Stop\": []}}")],
    );
    comes_back(
        "claude",
        &[
            (".claude/settings.local.json", "{\"permissions\": {\"allow\": [\"Bash(thrum:*)\"]}}\n"),
            ("CLAUDE.md", "\r\n"),
        ],
    );
    comes_back(
        "claude",
        &[(".claude/settings.json", "\u{feff}{\r\n  \"a\": 1\r\n}\r\n"), ("AGENTS.md", "# Mine\r\n\r\n \r\nMore")],
    );
    comes_back("copilot", &[(".github/hooks/thrum.json", "{\"version\": 1}\n"), ("AGENTS.md", "# Mine  \n\n\n\n")]);
    comes_back(
        "cursor",
        &[(".cursor/hooks.json", "{\n\t\"version\": 1,\n\t\"hooks\": {}\n}\n"), (".cursor/mcp.json", "{ }\n")],
    );
    comes_back(
        "codex",
        &[(".codex/config.toml", "a = 1"), (".codex/hooks.json", "{}\n"), (".codex/rules/thrum.rules", "# mine\n\n")],
    );
    comes_back("qwen", &[(".qwen/settings.json", "{\"permissions\": {\"allow\": []}, \"hooks\": {}}")]);
    comes_back("opencode", &[("opencode.json", "{\"plugin\": [], \"mcp\": {}}"), (".agents/opencode/thrum.js", "\n")]);
    comes_back("antigravity", &[(".agents/hooks.json", "{\"thrum\": {}}"), (".agents/mcp_config.json", "{}")]);
    for program in AGENT_PROGRAMS.into_iter().filter(|program| *program != "kimi") {
        comes_back(program, &[]);
    }
}

#[test]
fn a_copy_of_what_was_there_is_private_and_kept_only_where_it_is_needed() {
    let repo = TestRepo::with_agent("repo", "ann");
    put(&repo, ".claude/settings.json", "{\n  \"env\": {\n    \"KEY\": \"secret\"\n  }\n}\n");
    repo.thrum(&["setup", "claude"]).ok();
    assert!(!repo.path(".thrum/var/setup.json").exists());
    repo.thrum(&["setup", "claude", "--remove"]).ok();
    put(&repo, ".claude/settings.json", "{\"hooks\": {}}");
    repo.thrum(&["setup", "claude"]).ok();
    let copies = repo.path(".thrum/var/setup.json");
    assert_eq!(fs::metadata(&copies).unwrap().permissions().mode() & 0o777, 0o600);
    // The person goes on, and `setup` adds what was lost: the copy is still that of the first time.
    let text = fs::read_to_string(repo.path(".claude/settings.json")).unwrap();
    put(
        &repo,
        ".claude/settings.json",
        &text.replace("thrum hook end --host claude", "true").replacen('{', "{\"a\": 1,", 1),
    );
    repo.thrum(&["setup", "claude"]).ok();
    repo.thrum(&["setup", "claude", "--remove"]).ok();
    let left = parsed(&repo.path(".claude/settings.json"));
    assert_eq!(left["hooks"].as_object().unwrap().keys().collect::<Vec<_>>(), ["SessionEnd"], "{left}");
    assert_eq!((&left["a"], copies.exists()), (&json!(1), false));
}

#[test]
fn changed_hooks_count_as_present_and_are_removed_without_their_neighbours() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["setup", "claude", "cursor"]).ok();
    let settings = repo.path(".claude/settings.json");
    let mut hooks = parsed(&settings);
    let at = |hooks: &mut Value, event: &str, command: &str| {
        hooks["hooks"][event][0]["hooks"][0]["command"] = command.into()
    };
    hooks["hooks"]["Stop"][0]["hooks"].as_array_mut().unwrap().push(json!({"type": "command", "command": "make lint"}));
    hooks["hooks"]["Stop"][0]["matcher"] = "x".into();
    hooks["hooks"]["Stop"][0]["hooks"][0]["timeout"] = 20.into();
    at(&mut hooks, "SessionStart", "thrum hook start --host claude || true");
    at(&mut hooks, "SessionEnd", "/opt/bin/thrum hook end --host claude");
    at(&mut hooks, "Notification", "THRUM_NAME=bob thrum hook notify --host claude");
    fs::write(&settings, hooks.to_string()).unwrap();
    let server = repo.path(".mcp.json");
    let env =
        json!({"mcpServers": {"thrum": {"command": "thrum", "args": ["mcp", "serve"], "env": {"THRUM_NAME": "ann"}}}});
    fs::write(&server, env.to_string()).unwrap();
    let before = files(&repo);
    assert_eq!(repo.json(&["setup", "claude", "cursor"])["files"], json!([]));
    assert_eq!(files(&repo), before);
    let found = repo.thrum(&["doctor", "agents", "claude", "--json"]).stdout;
    assert_eq!(serde_json::from_str::<Value>(&found).unwrap()["runtimes"][0]["set_up"], "yes", "{found}");
    // A line that does more is not ours to delete.
    at(&mut hooks, "UserPromptSubmit", "make && thrum hook prompt --host claude");
    fs::write(&settings, hooks.to_string()).unwrap();
    assert_eq!(repo.json(&["setup", "claude"])["files"], json!([]));
    let ran = repo.thrum(&["setup", "--remove"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stdout.contains("Left alone: .claude/settings.json") && ran.stdout.contains("\nmake && thrum hook prompt"),
        "{ran:?}"
    );
    let left = parsed(&settings);
    let mut names: Vec<&str> = left["hooks"].as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["Stop", "UserPromptSubmit"], "{left}");
    assert_eq!(
        left["hooks"]["Stop"],
        json!([{"matcher": "x", "hooks": [{"type": "command", "command": "make lint"}]}])
    );
    assert!(!server.exists());
}

#[test]
fn an_unreadable_file_that_may_contain_our_parts_is_reported() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["setup", "claude", "codex"]).ok();
    for (file, broken) in
        [(".claude/settings.json", "}\n"), (".codex/config.toml", "a = [\n"), ("AGENTS.md", "<!-- thrum: end -->\n")]
    {
        let text = fs::read_to_string(repo.path(file)).unwrap();
        put(&repo, file, &format!("{text}{broken}"));
    }
    put(&repo, ".qwen/settings.json", "{ nothing of ours }");
    let before = files(&repo);
    let ran = repo.thrum(&["setup", "--remove", "--json"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let done: Value = serde_json::from_str(&ran.stdout).unwrap();
    let refused: Vec<&str> =
        done["refused"].as_array().unwrap().iter().map(|it| it["file"].as_str().unwrap()).collect();
    assert_eq!(refused, [".claude/settings.json", ".codex/config.toml", "AGENTS.md"], "{done}");
    assert!(done["refused"][0]["take_out"].as_str().unwrap().contains("thrum hook stop --host claude"), "{done}");
    for file in refused {
        assert!(before.contains(&(file.to_owned(), fs::read_to_string(repo.path(file)).unwrap())), "{file}");
    }
    assert!(!repo.path(".mcp.json").exists(), "the others are taken out");
    let said = repo.thrum(&["setup", "--remove"]).stdout;
    assert!(
        said.contains("Left alone: .claude/settings.json: it is no JSON object")
            && said.contains("What to take out of it:"),
        "{said}"
    );
}

#[test]
fn parts_that_another_program_shares_stay_as_long_as_it_is_set_up() {
    let repo = TestRepo::with_agent("repo", "ann");
    let before = files(&repo);
    repo.thrum(&["setup", "claude"]).ok();
    let claude = files(&repo);
    repo.thrum(&["setup", "copilot", "codex"]).ok();
    let said = repo.thrum(&["setup", "copilot", "--remove"]).ok().stdout;
    assert!(
        said.contains("Copilot CLI: Kept, because Claude Code is set up here and reads it too: .mcp.json"),
        "{said}"
    );
    assert!(!repo.path(".github/hooks/thrum.json").exists());
    repo.thrum(&["setup", "codex", "--remove"]).ok();
    assert_eq!(files(&repo), claude);
    repo.thrum(&["setup", "claude", "--remove"]).ok();
    assert_eq!(files(&repo), before);
}

#[test]
fn parts_in_a_superseded_file_are_removed_too() {
    let repo = TestRepo::with_agent("repo", "ann");
    repo.thrum(&["setup", "claude", "opencode"]).ok();
    put(&repo, "CLAUDE.md", "# mine\n");
    fs::rename(repo.path("opencode.json"), repo.path("opencode.jsonc")).unwrap();
    put(&repo, "opencode.json", "{}\n");
    repo.thrum(&["setup", "claude", "opencode"]).ok();
    assert!(fs::read_to_string(repo.path("CLAUDE.md")).unwrap().contains("thrum: begin"));
    repo.thrum(&["setup", "claude", "opencode", "--remove"]).ok();
    let left = files(&repo);
    let left: Vec<(&str, &str)> = left.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    assert_eq!(left[1..], [("CLAUDE.md", "# mine\n"), ("opencode.json", "{}\n")], "after .gitignore");
}

#[test]
fn an_unwritable_file_is_left_alone_and_the_rest_is_done() {
    let repo = TestRepo::with_agent("repo", "ann");
    put(&repo, ".claude", "a file\n");
    put(&repo, "AGENTS.md", "# Mine\n");
    put(&repo, ".codex/rules", "a file\n");
    let read_only = |is: bool| {
        fs::set_permissions(repo.path("AGENTS.md"), fs::Permissions::from_mode(if is { 0o444 } else { 0o644 })).unwrap()
    };
    read_only(true);
    let ran = repo.thrum(&["setup", "claude", "codex"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for words in [
        "Left alone: .claude/settings.json: it cannot be",
        "Left alone: .codex/rules/thrum.rules: it cannot be",
        "Left alone: AGENTS.md: it is read-only; chmod u+w AGENTS.md",
        "prefix_rule(",
        "thrum hook stop --host claude",
        "created .codex/hooks.json",
    ] {
        assert!(ran.stdout.contains(words), "{words} in {}", ran.stdout);
    }
    assert_eq!(fs::read_to_string(repo.path("AGENTS.md")).unwrap(), "# Mine\n");
    read_only(false);
    repo.thrum(&["setup", "codex"]);
    read_only(true);
    let ran = repo.thrum(&["setup", "--remove"]);
    assert!(ran.code == 1 && ran.stdout.contains("AGENTS.md: it is read-only"), "{ran:?}");
    assert!(fs::read_to_string(repo.path("AGENTS.md")).unwrap().contains("thrum: begin"));
}
