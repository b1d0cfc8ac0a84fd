use std::{fs, process::Stdio, thread, time::Duration};

use crate::common::{OnTerminal, TestRepo};

#[test]
fn the_demo_succeeds_and_leaves_nothing_behind() {
    let stage = TestRepo::plain("tmp");
    let output = stage.command(&["demo"]).env("TMPDIR", stage.root()).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in ["Paired with \"laptop\". Syncing started.", "Everything held.", "Nothing is missing"] {
        assert!(shown.contains(line), "no '{line}' in:\n{shown}");
    }
    assert_eq!(fs::read_dir(stage.root()).unwrap().count(), 0);
}

#[test]
fn the_commands_of_the_demo_wrap_at_words() {
    let stage = TestRepo::plain("tmp");
    let mut demo = stage.command(&["demo"]);
    demo.env("TMPDIR", stage.root()).env("TERM", "xterm");
    let (code, screen) = OnTerminal::start(demo, 70).end();
    assert_eq!(code, 0, "{screen}");
    let shown = anstream::adapter::strip_str(&screen).to_string();
    let long: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("    ") && line.trim().contains(' ') && line.trim_end().chars().count() > 70)
        .collect();
    assert!(shown.contains("paired by spake2-1") && long.is_empty(), "{long:?} in:\n{shown}");
}

#[test]
fn a_kept_demo_can_be_continued_by_hand() {
    let stage = TestRepo::plain("tmp");
    let output = stage.command(&["demo", "--keep", "--json"]).env("TMPDIR", stage.root()).output().unwrap();
    let ended: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&ended["status"], &ended["messages"]), (&"ok".into(), &200.into()), "{ended}");
    let place = |name: &str| format!("{}/{name}", ended["kept"].as_str().unwrap());
    let (laptop, desk) = (place("laptop"), place("desk"));
    stage.thrum(&["send", "by hand", "--to", "@bob", "--repo", &laptop, "--no-start"]).ok();
    stage.thrum(&["sync", "verify", "--repo", &desk, "--no-start"]).ok();
    assert!(stage.thrum(&["inbox", "--repo", &desk, "--no-start"]).ok().stdout.contains("by hand"));
    for repo in [&laptop, &desk] {
        stage.thrum(&["daemon", "stop", "--repo", repo]).ok();
    }
}

#[test]
fn a_demo_that_is_killed_leaves_nothing_behind_either() {
    let stage = TestRepo::plain("tmp");
    let mut demo = stage
        .command(&["demo"])
        .env("TMPDIR", stage.root())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut shown = std::io::BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("Registered") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut shown, &mut line).unwrap() > 0);
    }
    demo.kill().unwrap();
    demo.wait().unwrap();
    // Another process cleans up. The test cannot wait for that process, so it polls for the result.
    for _ in 0..1000 {
        if fs::read_dir(stage.root()).unwrap().count() == 0 {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("left behind: {:?}", fs::read_dir(stage.root()).unwrap().collect::<Vec<_>>());
}

#[test]
fn the_janitor_removes_only_what_a_demo_made() {
    let repo = TestRepo::plain("precious");
    fs::write(repo.path("file"), "mine").unwrap();
    repo.thrum(&["janitor", "."]).fails(4, "no directory of a demo");
    assert!(repo.path("file").exists());
}
