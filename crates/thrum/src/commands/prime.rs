//! `thrum prime`: everything an agent must know when it begins or has lost its context.
//!
//! A model reads it and every word costs tokens, so every part is bounded. It should work even if little else does: for
//! a part that cannot be determined, the reason is shown instead.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thrum_core::{
    Error, Timestamp,
    name::{printable, shown},
};
use thrum_daemon::notes::{Note, Notes, Part};

use crate::{
    agent_text::wants_in,
    answers::{Answer, Health, Listing, Member, Peer, Summary, SyncStatus, Team, Waiting, Whoami},
    client::Client,
    commands::{inbox, peer, status},
    context::Context,
    git::{self, changes::Changes},
    identity::Identity,
    render::{
        Page, Render, agent,
        style::{BOLD, CYAN, DIM, YELLOW},
        who,
    },
    text::{self, count, preview, quote, quote_within},
    time,
};

/// Maximum number of messages that are listed; the total is given as well.
const MOST_MESSAGES: usize = 5;

/// Maximum number of active agents that are listed; their number is given as well.
const MOST_AGENTS: usize = 20;

/// Maximum number of uncommitted files that are listed; their number is given as well.
const MOST_FILES: usize = 20;

/// Number of characters after which a message, and this agent's intent and task, are cut and end with "…".
const OF_MESSAGE: usize = 240;

/// Maximum number of characters shown of the notes, and of the preamble.
const OF_NOTES: usize = 4000;

pub(crate) const AFTER_HELP: &str = "\
Mail stays unread. Without a daemon, the command prints what it can and names what is missing.

Examples:
  thrum prime
  thrum prime --json --no-start";

/// Print everything that an agent needs to know to start or continue its work
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Time limit for git to list uncommitted files
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = time::parse_duration)]
    git_wait: Duration,
}

/// All parts of the briefing.
pub(crate) struct Briefing {
    repo: String,
    me: Option<Identity>,
    known: Whoami,
    health: Option<Health>,
    mail: Option<Mail>,
    team: Option<Answer<Team>>,
    sync: Option<SyncStatus>,
    branch: Option<String>,
    changes: Result<Changes, String>,
    notes: Option<Note>,
    preamble: Option<Note>,
    missing: Vec<Error>,
}

/// The numbers of unread and of all messages, and the messages to list.
struct Mail {
    unread: u64,
    total: u64,
    recent: Vec<Summary>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Briefing, Error> {
    let repo = cx.repo()?;
    let looking = git::changes::start_status(repo.root());
    let mut missing = Vec::new();
    let me = keep(cx.identity(), &mut missing);
    let mut client = keep(cx.daemon(), &mut missing);
    let mut ask = Ask { client: &mut client, missing: &mut missing };
    let health = ask.of("health", json!({}));
    let known = me.as_ref().and_then(|me| ask.of::<Whoami>("agent.whoami", json!({"caller_agent_id": me.name})));
    let mail = me.as_ref().filter(|_| known.is_some()).and_then(|me| mail(me, &mut ask));
    let team = ask.of("team.list", json!({"include_offline": false}));
    let sync = ask.of("sync.status", json!({}));
    let place = Notes::of(repo);
    let mut read = |part| me.as_ref().and_then(|me| keep(place.read(&me.name, part), &mut missing).flatten());
    let (notes, preamble) = (read(Part::Notes), read(Part::Preamble));
    let known = known.or_else(|| me.as_ref().map(from_file)).unwrap_or_default();
    Ok(Briefing {
        repo: repo.root().display().to_string(),
        branch: git::branch(repo.root()),
        changes: looking.end(args.git_wait),
        me,
        known,
        health,
        mail,
        team,
        sync,
        notes,
        preamble,
        missing,
    })
}

fn keep<T>(result: Result<T, Error>, missing: &mut Vec<Error>) -> Option<T> {
    result.map_err(|error| missing.push(error)).ok()
}

/// Makes the calls to the daemon. Once the connection is lost, further calls are skipped.
struct Ask<'a> {
    client: &'a mut Option<Client>,
    missing: &'a mut Vec<Error>,
}

impl Ask<'_> {
    fn of<T: DeserializeOwned>(&mut self, method: &str, params: Value) -> Option<T> {
        let answer = self.client.as_mut()?.attempt(Duration::ZERO, method, params);
        let answer = answer.unwrap_or_else(|lost| {
            *self.client = None;
            Err(lost.into())
        });
        keep(answer, self.missing)
    }
}

/// Fetches the latest unread messages. If they are fewer than [`MOST_MESSAGES`], adds the read ones among the latest
/// messages.
fn mail(me: &Identity, ask: &mut Ask<'_>) -> Option<Mail> {
    let mut params = json!({"caller_agent_id": me.name, "for_agent": me.name, "page_size": MOST_MESSAGES});
    if let Some(role) = me.role() {
        params["for_agent_role"] = role.into();
    }
    params = inbox::printed(params, false);
    let all: Listing = ask.of("message.list", params.clone())?;
    let mut recent = Vec::new();
    if all.unread > 0 {
        params["unread_for_agent"] = me.name.as_str().into();
        recent = ask.of::<Listing>("message.list", params)?.messages;
    }
    let read =
        all.messages.into_iter().filter(|message| message.is_read).take(MOST_MESSAGES.saturating_sub(recent.len()));
    recent.extend(read);
    Some(Mail { unread: all.unread, total: all.total, recent })
}

/// Returns what this worktree's identity file contains, for use if the daemon does not know the agent or does not
/// answer.
fn from_file(me: &Identity) -> Whoami {
    let Some((_, file)) = &me.file else { return Whoami { agent_id: me.name.clone(), ..Whoami::default() } };
    Whoami {
        agent_id: me.name.clone(),
        role: file.agent.role.clone(),
        module: file.agent.module.clone(),
        display: file.agent.display.clone(),
        session_id: file.session_id.clone(),
        intent: file.intent.clone(),
        ..Whoami::default()
    }
}

/// Returns the beginning of a text, and `true` if it was cut.
fn beginning(note: &Note, chars: usize) -> (String, bool) {
    let text = String::from_utf8_lossy(&note.content);
    let text = text.trim();
    match text.char_indices().nth(chars) {
        Some((end, _)) => (text[..end].to_owned(), true),
        None => (text.to_owned(), false),
    }
}

impl Briefing {
    /// The team's entry for this agent.
    fn member(&self) -> Option<&Member> {
        let me = self.me.as_ref()?;
        self.team.as_ref()?.read.members.iter().find(|member| member.agent_id == me.name && member.local != Some(false))
    }

    fn task(&self) -> Option<&str> {
        self.known.current_task.as_deref().filter(|task| !task.is_empty())
    }

    fn troubles(&self) -> impl Iterator<Item = &Peer> {
        let peers = self.sync.iter().flat_map(|sync| &sync.peers);
        peers.filter(|peer| {
            peer.state != "connected"
                || peer.details.parked + peer.details.rejected > 0
                || peer.exchange.last_error.as_deref().is_some_and(|e| !e.is_empty())
        })
    }

    fn waiting(&self) -> &[Waiting] {
        self.sync.as_ref().map_or(&[], SyncStatus::waiting)
    }

    fn show_mail(&self, page: &mut Page) {
        let Some(Mail { unread, total, recent }) = &self.mail else { return };
        page.field("Mail", format!("{unread} unread of {total}"));
        for message in recent {
            let mark = if message.is_read { " " } else { "●" };
            page.line(format!(
                "  {CYAN}{mark}{CYAN:#} {}  {}  {DIM}{}{DIM:#}",
                who(&message.agent_id, &message.address, message.signed),
                page.time(message.created_at),
                quote(&message.message_id)
            ));
            page.quote(&preview(&message.body.content, OF_MESSAGE), "    ");
        }
    }

    fn show_team(&self, page: &mut Page) {
        let Some(team) = &self.team else { return };
        let members = &team.read.members;
        let known =
            self.health.as_ref().map(|health| format!(" of {}", count(health.agents, "agent"))).unwrap_or_default();
        page.field("Team", format!("{} active{known}", members.len()));
        for member in
            members.iter().filter(|member| self.member().is_none_or(|me| !std::ptr::eq(me, *member))).take(MOST_AGENTS)
        {
            let doing = [&member.intent, &member.current_task].into_iter().flatten().find(|text| !text.is_empty());
            let doing = doing.map(|text| format!(": {}", quote_within(text, 80))).unwrap_or_default();
            let who = who(&member.agent_id, &member.address, member.signed);
            page.line(format!("    {who} {} · {}{doing}", shown(&member.role), shown(&member.module)));
        }
    }

    fn show_work(&self, page: &mut Page) {
        let branch = self.branch.as_deref().map_or_else(|| "none".to_owned(), quote);
        match &self.changes {
            Ok(Changes { uncommitted, unmerged }) => {
                let ahead = unmerged
                    .filter(|number| *number > 0)
                    .map(|number| format!(", {} not pushed", count(number, "commit")));
                page.field(
                    "Branch",
                    format!(
                        "{branch}{}, {} uncommitted",
                        ahead.unwrap_or_default(),
                        count(uncommitted.len() as u64, "file")
                    ),
                );
                for file in uncommitted.iter().take(MOST_FILES) {
                    page.line(format!("    {}", quote(file)));
                }
                if uncommitted.len() > MOST_FILES {
                    page.line(format!("    and {} more", uncommitted.len() - MOST_FILES));
                }
            }
            Err(why) => page.field("Branch", format!("{branch} {DIM}({}){DIM:#}", printable(why))),
        }
    }

    fn show_notes(&self, page: &mut Page) {
        for (what, note) in [("Preamble", &self.preamble), ("Notes", &self.notes)] {
            let Some(note) = note else { continue };
            let (text, more) = beginning(note, OF_NOTES);
            page.line("");
            page.line(format!("{BOLD}{what}{BOLD:#} {DIM}(saved {}){DIM:#}", page.time(note.updated_at)));
            page.quote(&text, "  ");
            if more {
                page.line(format!(
                    "{DIM}… of {}; all: thrum context show{DIM:#}",
                    count(note.content.len() as u64, "byte")
                ));
            }
        }
    }
}

/// The commands that an agent uses next, in the order of a typical day.
const COMMANDS: [(&str, &str); 7] = [
    ("thrum inbox", "read your mail"),
    ("thrum reply MESSAGE TEXT", "answer a message"),
    ("thrum send TEXT --to @NAME", "write to an agent, a role or @everyone"),
    ("thrum wait --timeout 8m", "wait for mail; exit code 1 if none came"),
    ("thrum session set-intent TEXT", "say what you are about to do"),
    ("thrum who-has FILE", "see which agents work on a file"),
    ("thrum context save -", "keep notes for the time after your context is lost"),
];

/// Maximum number of files in each list of a team member, in the JSON output.
const FILES_OF_AGENT: usize = 5;

/// Returns a member of the team with its lists of files shortened.
fn briefly(member: &Value) -> Value {
    let mut member = member.clone();
    for name in ["uncommitted_files", "file_changes"] {
        if let Some(files) = member[name].as_array_mut().filter(|files| files.len() > FILES_OF_AGENT) {
            files.truncate(FILES_OF_AGENT);
            member["truncated"] = true.into();
        }
    }
    member
}

impl Render for Briefing {
    fn human(&self, page: &mut Page) {
        let Whoami { role, module, session_id, session_start, intent, .. } = &self.known;
        if let Some(me) = &self.me {
            let does = [role, module].map(|word| shown(word)).join(" · ");
            page.field("You are", format!("{} {DIM}({does}){DIM:#}", agent(&me.name)));
            let since = session_start.map(|at| format!(", {}", page.lasting(at))).unwrap_or_default();
            page.field(
                "Session",
                session_id.as_deref().map_or_else(|| "none".to_owned(), |id| format!("{}{since}", quote(id))),
            );
        }
        for (name, text) in [("Intent", intent.as_deref()), ("Task", self.task())] {
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                page.field(name, quote_within(text, OF_MESSAGE));
            }
        }
        page.field("Worktree", quote(&self.repo));
        self.show_work(page);
        self.show_mail(page);
        self.show_team(page);
        if let Some(health) = &self.health {
            let peers =
                self.sync.as_ref().map(|sync| format!("; peers: {}", status::states(&sync.peers))).unwrap_or_default();
            page.field("Daemon", format!("{}{peers}", status::daemon(health)));
            for warning in &health.warnings {
                page.line(format!("{YELLOW}Warning:{YELLOW:#} {}", text::lines(warning)));
            }
        }
        for trouble in self.troubles() {
            peer::show(trouble, page);
        }
        if let Some(sentence) = wants_in::sentence(self.waiting()) {
            page.field("Git", sentence);
        }
        for error in &self.missing {
            let hint = error.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
            page.line(format!("{YELLOW}Missing:{YELLOW:#} {}{}", text::lines(&error.message), text::lines(&hint)));
        }
        self.show_notes(page);
        page.line("");
        page.glossary(&COMMANDS);
    }

    fn json(&self) -> Value {
        let Whoami { role, module, display, session_id, session_start, intent, .. } = &self.known;
        let identity = self.me.as_ref().map(
            |me| json!({"agent_id": me.name, "role": role, "module": module, "display": display, "source": me.source}),
        );
        let session = session_id.as_ref().map(
            |id| json!({"session_id": id, "started_at": session_start, "intent": intent, "current_task": self.task()}),
        );
        let message = |message: &Summary| {
            json!({
                "message_id": message.message_id, "agent_id": message.agent_id, "address": message.address,
                "home_name": message.home_name, "signed": message.signed, "created_at": message.created_at,
                "is_read": message.is_read, "reply_to": message.reply_to, "preview": preview(&message.body.content, OF_MESSAGE),
            })
        };
        let agents = self.team.as_ref().map(|team| {
            let list: Vec<_> = team.raw["members"].as_array().into_iter().flatten().take(MOST_AGENTS).map(briefly).collect();
            json!({"total": self.health.as_ref().map(|health| health.agents), "active": team.read.members.len(), "list": list})
        });
        let messages = self
            .mail
            .as_ref()
            .map(|mail| json!({"unread": mail.unread, "total": mail.total, "recent": mail.recent.iter().map(message).collect::<Vec<_>>()}));
        let changes = self.changes.as_ref();
        let files = changes.ok().map(|changes| &changes.uncommitted);
        let note = |note: &Option<Note>| note.as_ref().map(|note| beginning(note, OF_NOTES).0);
        let mut briefing = json!({
            "identity": identity,
            "session": session,
            "agents": agents,
            "messages": messages,
            "work_context": {
                "branch": self.branch,
                "uncommitted_files": files.map(|files| files.iter().take(MOST_FILES).collect::<Vec<_>>()),
                "uncommitted_total": files.map(Vec::len),
                "unmerged_commits": changes.ok().and_then(|changes| changes.unmerged),
                "error": changes.err(),
            },
            "sync_state": {
                "daemon_status": self.health.as_ref().map_or("not_running", |_| "running"),
                "uptime_ms": self.health.as_ref().map(|health| health.uptime_ms),
                "version": self.health.as_ref().map(|health| &health.version),
                "sync_state": self.sync.as_ref().map(|sync| &sync.sync_state),
                "last_sync_at": self.sync.as_ref().and_then(|sync| sync.last_sync_at.as_deref().and_then(Timestamp::parse)),
                "peers": self.sync.as_ref().map(|sync| sync.peers.len()),
                "troubles": self.troubles().map(trouble).collect::<Vec<_>>(),
            },
            "context": {
                "preamble": note(&self.preamble),
                "notes": note(&self.notes),
                "size": self.notes.as_ref().map(|note| note.content.len()),
                "updated_at": self.notes.as_ref().map(|note| note.updated_at),
            },
            "repo_path": self.repo,
            "missing": self.missing.iter().map(|error| {
                json!({"kind": error.kind, "message": error.message, "hint": error.hint})
            }).collect::<Vec<_>>(),
            "commands": COMMANDS.map(|(command, _)| command),
        });
        if !self.waiting().is_empty() {
            briefing["sync_state"]["wants_in"] = wants_in::facts(self.waiting());
        }
        briefing
    }
}

fn trouble(peer: &Peer) -> Value {
    json!({
        "name": peer.name, "state": peer.state, "since": peer.since, "last_error": peer.exchange.last_error, "next_attempt": peer.exchange.next_attempt,
        "backlog_to_them": peer.details.backlog_to_them, "backlog_from_them": peer.details.backlog_from_them,
        "parked": peer.details.parked, "rejected": peer.details.rejected,
    })
}
