//! `thrum doctor agents`: checks whether the programs that run agents here are connected to Thrum, by running the hooks
//! and the MCP server as they would.
//!
//! The settings that `thrum setup` wrote are read back from the files and run as written: each hook with a payload in
//! its program's form ([`probe`]), the MCP server with a handshake. Then each program is asked for its version and what
//! it has loaded. Nothing is changed, and nothing is trusted on the user's behalf. Every step has a deadline, and a
//! step that hangs is reported.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use thrum_core::Error;

use super::{
    Check,
    Verdict::{self, Ok as Fine, Problem, Skipped, Warning},
    process::Daemon,
};
use crate::{
    bounded::run as bounded,
    context::Context,
    hook::{
        Records, Seen,
        host::{Answer, Event, Host},
        probe, queue,
    },
    mcp::{self, client::Client},
    render::{
        Page, Render,
        style::{BOLD, DIM},
    },
    runtimes::{self, Hook, RefusedFile, State, Written},
    text::count,
    time,
};

/// Time limit for a hook, and for the server's handshake.
const OURS: Duration = Duration::from_secs(5);

/// Time limit for a program to report its version or what it has loaded. Programs on Node need a second to start.
const THEIRS: Duration = Duration::from_secs(10);

/// How long a hook may take before there is a warning: more would noticeably delay the user.
const SLOW: Duration = Duration::from_millis(200);

/// A session that is not known to be over counts as open if its last hook ran within this time.
const OPEN: Duration = Duration::from_secs(24 * 3600);

/// Variables for the programs that are asked, so that they answer and do nothing else. Claude Code runs the hook for
/// the end of a session after `claude mcp get`, so the hooks that these programs start must be probes as well.
const QUIET: [(&str, &str); 7] = [
    (probe::VARIABLE, "1"),
    ("NO_COLOR", "1"),
    ("CI", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("COPILOT_AUTO_UPDATE", "false"),
    ("OPENCODE_DISABLE_AUTOUPDATE", "1"),
];

/// Test the setup of agent programs: hooks, MCP server, what they have loaded
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Runs each hook in the settings of a program with a payload in the program's format, starts the configured MCP \
server, and asks each program that can answer without network and login what it has loaded. Changes nothing: no \
session starts, and no mail counts as shown. Every step has a time limit.

Exit code 1 if there is a problem, which includes a named program that is not set up; warnings do not count. Exit \
code 3 if no program was found.

Examples:
  thrum doctor agents
  thrum doctor agents --json")]
pub(crate) struct Args {
    /// Programs to test [default: all that are installed or have a directory here]
    #[arg(value_name = "RUNTIME")]
    runtimes: Vec<Host>,
}

/// The findings about one program.
struct Examined {
    written: Written,
    version: Option<String>,
    checks: Vec<Check>,
    /// Number of sessions that are open here.
    sessions: u64,
    /// `true` if a plugin does what `setup` would do.
    by_plugin: bool,
}

/// The findings of all programs.
pub(crate) struct Report {
    here: Vec<Check>,
    programs: Vec<Examined>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Report, Error> {
    let repo = cx.repo()?;
    let top = repo.root();
    let hosts = if args.runtimes.is_empty() { runtimes::detected(top) } else { args.runtimes.clone() };
    if hosts.is_empty() {
        return Err(runtimes::none_found("thrum doctor agents claude"));
    }
    let mut written = hosts.into_iter().map(|host| runtimes::written(top, host)).collect::<Result<Vec<_>, _>>()?;
    for codex in written.iter_mut().filter(|written| written.host == Host::Codex && !queue::is_wanted(repo)) {
        codex.wakes = None;
    }
    let here = here(cx);
    let is_ready = here.iter().all(|check| check.verdict == Fine);
    // Run these one after the other, because they are timed.
    let mut programs: Vec<Examined> = written
        .into_iter()
        .map(|written| {
            let mut checks = vec![settings(&written, !args.runtimes.is_empty())];
            if written.state != State::No {
                checks.extend(written.hooks.iter().map(|hook| try_hook(&written, hook, is_ready, top)));
                checks.extend(written.server.as_ref().map(|(file, words)| try_server(file, words, top)));
            }
            Examined { written, version: None, checks, sessions: 0, by_plugin: false }
        })
        .collect();
    thread::scope(|scope| {
        for program in &mut programs {
            scope.spawn(|| ask(program, top));
        }
    });
    let records = Records::of(repo);
    for program in &mut programs {
        let known = records.of_host(&program.written.host.name(), top);
        sessions(program, &known, top);
        let changed_at = changed_at(program, top);
        if is_all_done(program, known.iter().any(|seen| Some(seen.at) >= changed_at)) {
            program.written.left = &[];
        }
    }
    Ok(Report { here, programs })
}

/// Checks what every program needs here: an agent, and a daemon that answers.
fn here(cx: &Context) -> Vec<Check> {
    let agent = match cx.identity() {
        Ok(me) => Check::new("agent", Fine, format!("a session here is @{} ({})", me.name, me.source)),
        Err(error) => {
            Check { fix: error.hint, ..Check::new("agent", Warning, format!("hooks are silent: {}", error.message)) }
        }
    };
    let daemon = match cx.repo().map(Daemon::ask) {
        Ok(Daemon::Answers(..)) => Check::new("daemon", Fine, "it answers"),
        Ok(Daemon::NotRunning) => {
            Check::new("daemon", Problem, "no daemon runs, and hooks start none: they are silent")
                .fix("thrum daemon start")
        }
        Ok(Daemon::Silent(error)) | Err(error) => {
            Check { fix: error.hint, ..Check::new("daemon", Problem, error.message) }
        }
    };
    vec![agent, daemon]
}

fn settings(written: &Written, is_named: bool) -> Check {
    let setup = format!("thrum setup {}", written.host.name());
    if !written.refused.is_empty() {
        // As long as the program is neither named nor set up here, this is not a problem yet.
        let verdict = if is_named || written.state != State::No { Problem } else { Warning };
        let said: Vec<String> =
            written.refused.iter().map(|RefusedFile { file, why, .. }| format!("{file}: {why}")).collect();
        let files: Vec<&str> = written.refused.iter().map(|refused| refused.file.as_str()).collect();
        return Check::new("settings", verdict, said.join("; "))
            .fix(format!("repair {}, then: {setup}", files.join(", ")));
    }
    match &written.state {
        State::Yes => Check::new("settings", Fine, "as thrum setup writes them"),
        State::No if is_named => Check::new("settings", Problem, "not set up here").fix(setup),
        State::No => Check::new("settings", Skipped, format!("not set up here; {setup} does it")),
        State::Partly(lacking) => {
            Check::new("settings", Warning, format!("not as thrum setup writes them: {}", lacking.join(", ")))
                .fix(setup)
        }
    }
}

/// Runs a hook as the program would. A silent hook is judged only if `is_ready`: without an agent and a daemon it has
/// nothing to say.
fn try_hook(written: &Written, hook: &Hook, is_ready: bool, top: &Path) -> Check {
    let name = match hook.event {
        Event::Start => "hook start",
        Event::Prompt => "hook prompt",
        Event::Stop => "hook stop",
        Event::Notify => "hook notify",
        Event::End => "hook end",
        Event::Compact => "hook compact",
        Event::Wait => "hook wait",
    };
    let Some((program, args)) = hook.words.split_first() else { return Check::new(name, Problem, "it runs nothing") };
    let payload = probe::payload(written.host, hook.event, &top.display().to_string());
    let mut command = Command::new(program);
    command.args(args).current_dir(top).env(probe::VARIABLE, "1").env("THRUM_NO_HINTS", "1");
    let within = hook.limit.map_or(OURS, |limit| limit.min(OURS));
    let ended = match bounded(&mut command, payload.to_string().as_bytes(), within) {
        Ok(ended) => ended,
        Err(why) => return Check::new(name, Problem, format!("{why} ({} in {})", hook.words.join(" "), hook.file)),
    };
    let took = time::millis(ended.took);
    let code = ended.code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
    let answer = Answer { stdout: ended.stdout, stderr: ended.stderr, code };
    match probe::text_of(written.host, hook.event, &answer) {
        Err(why) => Check::new(name, Problem, format!("{why} ({} in {})", hook.words.join(" "), hook.file)),
        Ok(None) if !is_ready => {
            Check::new(name, Skipped, "it runs; without an agent and a daemon that answers it has nothing to say")
        }
        // A probe that cannot determine its text writes the reason to standard error.
        Ok(None) if !answer.stderr.trim().is_empty() => {
            Check::new(name, Warning, format!("silent: {}", answer.stderr.trim()))
        }
        Ok(None) if written.host.reads(hook.event) => Check::new(
            name,
            Problem,
            format!("silent, and does not say why ({} in {})", hook.words.join(" "), hook.file),
        ),
        Ok(_) if ended.took > SLOW => Check::new(name, Warning, format!("answers, but takes {took}")),
        Ok(None) => Check::new(name, Fine, format!("nothing to say, as it should, in {took}")),
        Ok(Some(text)) => Check::new(name, Fine, format!("{} bytes of text in its form, in {took}", text.len())),
    }
}

/// Starts the MCP server as configured, and asks it for its tools.
fn try_server(file: &str, words: &[String], top: &Path) -> Check {
    let shown = words.join(" ");
    match handshake(words, top) {
        Ok(said) => Check::new("mcp", Fine, said),
        Err(why) => Check::new("mcp", Problem, format!("{why} ({shown} in {file})")),
    }
}

fn handshake(words: &[String], top: &Path) -> Result<String, String> {
    let (program, args) = words.split_first().ok_or("it runs nothing")?;
    let began = std::time::Instant::now();
    let mut client = Client::start(Command::new(program).args(args).current_dir(top).env(probe::VARIABLE, "1"), OURS)?;
    let (list, bytes) = client.ask("tools/list", &json!({}))?;
    let took = time::millis(began.elapsed());
    let tools = list["tools"].as_array().map(Vec::len).unwrap_or_default() as u64;
    let server = std::mem::take(&mut client.server);
    let (name, version) = (server["serverInfo"]["name"].as_str(), server["serverInfo"]["version"].as_str());
    if name != Some("thrum") || tools == 0 {
        return Err(format!("it calls itself {} and has {}", name.unwrap_or("nothing"), count(tools, "tool")));
    }
    if !client.end() {
        return Err("it does not end with its input".to_owned());
    }
    Ok(format!("version {}, {} in {bytes} bytes, in {took}", version.unwrap_or("unknown"), count(tools, "tool")))
}

/// Returns when the files with the program's hooks were last changed; `None` if the program runs changed hooks without
/// a new review. Codex keeps a hash of each hook that its user has reviewed, and skips a hook with another hash.
fn changed_at(program: &Examined, top: &Path) -> Option<SystemTime> {
    let hooks = program.written.hooks.iter().filter(|_| program.written.host == Host::Codex);
    hooks.filter_map(|hook| fs::metadata(top.join(&hook.file)).and_then(|about| about.modified()).ok()).max()
}

/// Counts the program's open sessions in this worktree, and adds a check of when a hook of its sessions last ran.
fn sessions(program: &mut Examined, known: &[Seen], top: &Path) {
    let age = |seen: &Seen| SystemTime::now().duration_since(seen.at).unwrap_or_default();
    program.sessions = known.iter().filter(|seen| !seen.is_over && age(seen) < OPEN).count() as u64;
    let changed_at = changed_at(program, top);
    let Examined { written, sessions, by_plugin, .. } = &*program;
    if written.state == State::No && !by_plugin {
        return;
    }
    let latest = known.iter().map(|seen| seen.at).max();
    let check = match (known.iter().map(age).min(), &written.program) {
        (Some(_), _) if latest < changed_at => {
            let text = format!("its hooks were changed since one last ran: {} may skip them", written.name);
            Check::new("sessions", Warning, text)
                .fix("review the hooks in its next session, when it asks or with /hooks")
        }
        (Some(latest), _) => {
            let open = if *sessions == 0 {
                "no session is open".to_owned()
            } else {
                format!("{} open", count(*sessions, "session"))
            };
            Check::new("sessions", Fine, format!("{open}; the last hook ran {} ago", time::brief(latest)))
        }
        // Programs silently skip hooks that the user has not approved.
        (None, Some(path)) => {
            let program = path.file_name().unwrap_or_default().display();
            Check::new(
                "sessions",
                Warning,
                format!("no hook of {} is known to have run here: it may skip them", written.name),
            )
            .fix(format!("run {program} here once, and approve the folder and the hooks when it asks"))
        }
        (None, None) => Check::new("sessions", Skipped, "no hook of a session is known to have run here"),
    };
    program.checks.push(check);
}

/// Returns `true` if it is proven that the user has completed the manual steps after `setup`, as far as a program
/// reveals that.
fn is_all_done(program: &Examined, has_run_hooks: bool) -> bool {
    let has_loaded = program.checks.iter().any(|check| check.name == "loaded" && check.verdict == Fine);
    let shows_trust = match program.written.host {
        // They list the server only in a trusted folder, so `has_loaded` proves trust. `has_run_hooks` proves the other
        // step: Claude Code asks about the server in its first session, and Codex runs a hook only after a review.
        Host::Claude | Host::Codex => true,
        Host::Copilot
        | Host::Qwen
        | Host::Gemini
        | Host::Cursor
        | Host::Droid
        | Host::Kimi
        | Host::Antigravity
        | Host::Opencode => false,
    };
    shows_trust && has_loaded && has_run_hooks && program.written.state == State::Yes
}

/// Asks the program for its version and, if it is set up here, whether it has loaded our MCP server; if it is not set
/// up, whether it has our plugin.
fn ask(program: &mut Examined, top: &Path) {
    let Some(path) = &program.written.program else {
        program.checks.insert(0, Check::new("program", Skipped, "not on the PATH"));
        return;
    };
    let asked = |args: &[&str]| {
        let mut command = Command::new(path);
        bounded(command.args(args).current_dir(top).envs(QUIET), b"", THEIRS)
    };
    let shown = path.display();
    let check = match asked(&["--version"]) {
        Ok(ended) => {
            program.version = version(&ended.stdout);
            match &program.version {
                Some(version) => Check::new("program", Fine, format!("{version} ({shown})")),
                None => Check::new("program", Warning, format!("it does not say its version ({shown})")),
            }
        }
        Err(why) => Check::new("program", Problem, format!("{why} ({shown} --version)")),
    };
    program.checks.insert(0, check);
    if program.written.state == State::No
        && let Some(args) = plugin_question(program.written.host)
        && asked(args).is_ok_and(|ended| has_plugin(program.written.host, &ended.stdout))
    {
        program.by_plugin = true;
        // The plugin replaces the set-up, so drop the finding that the program is not set up.
        program.checks.retain(|check| check.name != "settings");
        program.checks.push(Check::new("settings", Fine, "done by its plugin; nothing is written here"));
    }
    let (Some(args), State::Yes | State::Partly(_)) = (program.written.asked, &program.written.state) else { return };
    let command = format!("{} {}", path.file_name().unwrap_or_default().to_string_lossy(), args.join(" "));
    let check = match asked(args) {
        Err(why) => Check::new("loaded", Problem, format!("{why} ({command})")),
        Ok(ended) if ended.code == Some(0) => match ended.stdout.lines().find_map(pending) {
            Some(pending) => Check::new("loaded", Warning, format!("{command}: {pending}")),
            None => Check::new("loaded", Fine, format!("{command} knows the server")),
        },
        Ok(_) => Check::new(
            "loaded",
            Warning,
            format!("{command} does not know the server: the folder may not be trusted yet"),
        ),
    };
    program.checks.push(check);
}

/// The arguments that make a program report whether it has our plugin, without network or login.
fn plugin_question(host: Host) -> Option<&'static [&'static str]> {
    match host {
        Host::Claude => Some(&["plugin", "list", "--json"]),
        // Codex's list of plugins also queries remote marketplaces, so ask for our MCP server instead, which Codex
        // knows if a plugin brings it.
        Host::Codex => Some(&["mcp", "get", "thrum"]),
        // We publish no plugin for them.
        Host::Copilot
        | Host::Qwen
        | Host::Gemini
        | Host::Cursor
        | Host::Droid
        | Host::Kimi
        | Host::Antigravity
        | Host::Opencode => None,
    }
}

/// Returns `true` if the answer lists our plugin as enabled.
fn has_plugin(host: Host, said: &str) -> bool {
    if host == Host::Codex {
        return said.contains(mcp::PLUGIN) && !said.contains("enabled: false");
    }
    let plugins: Vec<Value> = serde_json::from_str(said).unwrap_or_default();
    plugins
        .iter()
        .any(|plugin| plugin["id"].as_str().is_some_and(|id| id.starts_with("thrum@")) && plugin["enabled"] == true)
}

/// The first word that looks like a version, such as `2.1.332`.
fn version(said: &str) -> Option<String> {
    let word =
        said.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))?;
    Some(word.trim_end_matches(['.', ',']).chars().take(40).filter(char::is_ascii_graphic).collect())
}

/// Returns the line, cut to 160 characters, if it reports a missing approval or a failure.
fn pending(line: &str) -> Option<String> {
    let line = line.trim();
    let lower = line.to_lowercase();
    let lacks = ["pending", "not approved", "rejected", "failed", "disabled", "enabled: false"]
        .iter()
        .any(|word| lower.contains(word));
    lacks.then(|| line.chars().take(160).collect())
}

impl Report {
    fn number(&self, verdict: Verdict) -> u64 {
        let checks = self.here.iter().chain(self.programs.iter().flat_map(|program| &program.checks));
        checks.filter(|check| check.verdict == verdict).count() as u64
    }
}

impl Render for Report {
    fn human(&self, page: &mut Page) {
        self.here.iter().for_each(|check| check.show(page));
        for Examined { written, version, checks, .. } in &self.programs {
            let version = version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
            page.line(format!("\n{BOLD}{}{version}{BOLD:#}", written.name));
            checks.iter().for_each(|check| check.show(page));
            if written.state != State::No {
                let no = || {
                    let more =
                        if written.host == Host::Codex { "; to change that: thrum setup codex --wake" } else { "" };
                    format!("no: mail comes with the next prompt, or keeps a turn from ending{more}")
                };
                let wakes = written.wakes.map_or_else(no, |how| format!("yes, {how}"));
                page.columns(format!("{DIM}·{DIM:#} {:<12} {wakes}", "wakes"), 15);
                written
                    .left
                    .iter()
                    .for_each(|what| page.columns(format!("{DIM}·{DIM:#} {:<12} {what}", "by hand"), 15));
            }
        }
        page.line("");
        super::sum_up(self.number(Problem), self.number(Warning), page);
    }

    fn json(&self) -> Value {
        let program = |program: &Examined| {
            let Examined { written, version, checks, sessions, by_plugin } = program;
            let set_up = match &written.state {
                State::Yes => "yes",
                State::Partly(_) => "partly",
                State::No if *by_plugin => "plugin",
                State::No => "no",
            };
            json!({
                "runtime": written.host.name(), "name": written.name, "program": written.program, "version": version, "set_up": set_up,
                "wakes": written.wakes.is_some(), "sessions": sessions, "left": written.left,
                "checks": checks.iter().map(Check::data).collect::<Vec<_>>(),
            })
        };
        json!({
            "checks": self.here.iter().map(Check::data).collect::<Vec<_>>(),
            "runtimes": self.programs.iter().map(program).collect::<Vec<_>>(),
            "problems": self.number(Problem), "warnings": self.number(Warning),
        })
    }

    fn code(&self) -> u8 {
        super::exit_code(self.number(Problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed_from_the_output_of_programs() {
        for (said, found) in [
            ("2.1.332 (Claude Code)\n", Some("2.1.332")),
            ("codex-cli 0.171.0\n", Some("0.171.0")),
            ("GitHub Copilot CLI 1.0.102.\nRun 'copilot update'", Some("1.0.102")),
            ("no number", None),
        ] {
            assert_eq!(version(said).as_deref(), found, "{said}");
        }
    }

    #[test]
    fn a_plugin_is_seen_where_it_is_enabled() {
        let claude = |enabled: bool| {
            json!([{"id": "other@x", "enabled": true}, {"id": "thrum@thrum", "enabled": enabled}]).to_string()
        };
        assert!(
            has_plugin(Host::Claude, &claude(true))
                && !has_plugin(Host::Claude, &claude(false))
                && !has_plugin(Host::Claude, "text")
        );
        assert!(has_plugin(Host::Codex, "thrum\n  enabled: true\n  env: THRUM_PLUGIN=*****, THRUM_NAME=*****\n"));
        assert!(!has_plugin(Host::Codex, "thrum\n  enabled: true\n  env: THRUM_NAME=*****\n"));
    }

    #[test]
    fn a_missing_approval_is_detected() {
        assert!(pending("  Status: ⏸ Pending approval (run `claude` to approve)").unwrap().starts_with("Status"));
        assert_eq!(pending("  Status: ✔ Connected"), None);
        assert!(pending("  enabled: false").is_some());
    }
}
