//! `thrum status`: shows this agent, its waiting mail, the daemon's state, and every peer.

use std::{collections::BTreeSet, iter};

use serde_json::{Value, json};
use thrum_core::{
    Error, ErrorKind, Timestamp,
    name::{self, printable},
};

use crate::{
    answers::{Answer, Health, Listing, Member, Peer, Purges, SaidPurge, SyncStatus, Tailnet, Team, Whoami},
    client::{self, Client},
    commands::{peer, sync, version::VERSION},
    context::Context,
    git, go_daemon,
    identity::Identity,
    render::{
        Page, Render, agent,
        style::{DIM, GREEN, YELLOW},
    },
    text::{self, count, quote, quote_within},
    time,
};

/// Show your unread mail, and the state of the daemon and of every peer
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum status
  thrum status --json")]
pub(crate) struct Args {}

/// The state of this agent, its mail, the team, the daemon and the peers.
pub(crate) struct StatusPage {
    health: Answer<Health>,
    sync: Answer<SyncStatus>,
    me: Option<Me>,
    team: Answer<Team>,
    repo: String,
    branch: Option<String>,
}

/// This agent, its session and its mail.
struct Me {
    name: String,
    known: Whoami,
    inbox: Listing,
}

pub(crate) fn run(_: &Args, cx: &Context) -> Result<StatusPage, Error> {
    let mut client = cx.daemon()?;
    let health: Answer<Health> = client.call("health", json!({}))?;
    let sync = client.call("sync.status", json!({}))?;
    let team = client.call("team.list", json!({"include_offline": false}))?;
    // The daemon's state is useful even without an identity.
    let nobody = |error: &Error| cx.output.hint(&format!("{error}. {}", error.hint.as_deref().unwrap_or_default()));
    let me = match cx.identity() {
        Ok(identity) => match me(identity, &mut client) {
            Ok(me) => Some(me),
            // After the loss of a database the agent is unknown, and the agents of a copied repository live at
            // another daemon.
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Refused) => {
                nobody(&error);
                None
            }
            Err(error) => return Err(error),
        },
        // A missing identity is an error only if the user gave a name.
        Err(error) if cx.given_name().is_ok_and(|name| name.is_none()) => {
            nobody(&error);
            None
        }
        Err(error) => return Err(error),
    };
    tell_version(&health.read, cx);
    let repo = cx.repo()?;
    Ok(StatusPage {
        health,
        sync,
        me,
        team,
        repo: repo.main_root().display().to_string(),
        branch: git::branch(repo.root()),
    })
}

/// Asks for this agent's mail and session. The team does not show the session: it lists active agents only.
fn me(identity: Identity, client: &mut Client) -> Result<Me, Error> {
    let mut params = json!({
        "caller_agent_id": identity.name, "for_agent": identity.name, "page_size": 1,
    });
    if let Some(role) = identity.role() {
        params["for_agent_role"] = role.into();
    }
    let inbox = client.call("message.list", params)?;
    let known = match client.call("agent.whoami", json!({"caller_agent_id": identity.name})) {
        Err(error) if client::is_unknown_method(&error) => Whoami::default(),
        known => known?,
    };
    Ok(Me { name: identity.name, known, inbox })
}

/// Warns if the running daemon has another version than this command.
pub(crate) fn tell_version(health: &Health, cx: &Context) {
    if go_daemon::answers(health) {
        let about = go_daemon::sentence(health);
        cx.output.warn(&format!("{about}; to change over, in the main worktree: {}", go_daemon::CHANGE_OVER));
    } else if health.version != VERSION {
        cx.output.warn(&format!(
            "the running daemon is version {}, this command is {VERSION}; to use this version: thrum daemon restart",
            quote(&health.version)
        ));
    }
}

impl Me {
    fn show(&self, page: &mut Page) {
        page.field("Agent", agent(&self.name));
        let Whoami { session_id, session_start, intent, current_task, .. } = &self.known;
        let Some(session) = session_id else {
            page.field("Session", "none (thrum session start)");
            return;
        };
        let since = session_start.map(|at| format!(", {}", page.lasting(at))).unwrap_or_default();
        page.field("Session", format!("{}{since}", quote(session)));
        for (name, text) in [("Intent", intent), ("Task", current_task)] {
            if let Some(text) = text.as_deref().filter(|text| !text.is_empty()) {
                page.field(name, quote_within(text, 200));
            }
        }
    }
}

impl StatusPage {
    fn work_context(&self) -> Value {
        let known = self.me.as_ref().map(|me| &me.known);
        json!({
            "session_id": known.and_then(|known| known.session_id.as_deref()),
            "session_start": known.and_then(|known| known.session_start),
            "intent": known.and_then(|known| known.intent.as_deref()),
            "current_task": known.and_then(|known| known.current_task.as_deref()),
            "branch": self.branch,
        })
    }
}

/// Maximum number of agents, or of pairs of agents, that are named in one line.
const NAMED: usize = 5;

/// Shows the agents that wait for their user, and the pairs of agents whose mail is held because they exchanged too
/// many messages without a person.
fn show_who_waits_for_a_person(members: &[Member], page: &mut Page) {
    let mut line = |name: &str, all: Vec<String>| {
        let more = all.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        if !all.is_empty() {
            page.field(name, format!("{}{more} (thrum team)", all[..all.len().min(NAMED)].join(", ")));
        }
    };
    let asks = |member: &&Member| member.status == "active" && member.doing.presence.as_deref() == Some("needs_you");
    line("Needs you", members.iter().filter(asks).map(|member| printable(&member.address)).collect());
    let held = members.iter().flat_map(|member| member.held.iter().map(move |held| (member, held)));
    line("Held", held.map(|(from, held)| format!("{} to {}", printable(&from.address), printable(&held.to))).collect());
}

/// Maximum number of unsigned origins whose purges are shown.
const PURGES: usize = 3;

/// Shows the purge cutoff and, if its purge is among the last ones, the daemon that purged and the peer that passed the
/// purge on. Also shows the latest purge of each unsigned origin, which affects only that origin's own mail.
fn show_purges(purges: &Purges, page: &mut Page) {
    let who = |purge: &SaidPurge, page: &Page| {
        let by = name::shown_machine(purge.by_name.as_ref().unwrap_or(&purge.by));
        let via = purge.via.as_deref().filter(|via| Some(*via) != purge.by_name.as_deref());
        let via = via.map(|via| format!(", through {}", name::shown_machine(via))).unwrap_or_default();
        let unsigned = if purge.signed == Some(false) { " (unsigned)" } else { "" };
        let at = purge.at.map(|at| format!(" {}", page.time(at))).unwrap_or_default();
        let named = if purge.named > 0 {
            format!(", with {} named that claim to be later", purge.named)
        } else {
            String::new()
        };
        format!("by {by}{unsigned}{via}{at}{named}")
    };
    let is_of_all = |purge: &&SaidPurge| purge.signed != Some(false);
    if let Some(before) = purges.before.filter(|before| *before > Timestamp::ZERO) {
        let by = purges.last.iter().filter(is_of_all).find(|purge| !purge.waiting && purge.before == Some(before));
        let by = by.map(|purge| format!(", {}", who(purge, page))).unwrap_or_default();
        page.field("Purged", format!("what is older than {}{by}", time::exact(before)));
    }
    let mut shown: Vec<&str> = Vec::new();
    for purge in purges.last.iter().filter(|purge| !is_of_all(purge) && !purge.waiting) {
        if shown.len() < PURGES && !shown.contains(&purge.by.as_str()) {
            shown.push(&purge.by);
            let before = purge.before.map(time::exact).unwrap_or_default();
            page.field("Purged", format!("of its own mail what is older than {before}, {}", who(purge, page)));
        }
    }
}

impl Render for StatusPage {
    fn human(&self, page: &mut Page) {
        if let Some(me) = &self.me {
            me.show(page);
            page.field("Inbox", format!("{} unread of {}", me.inbox.unread, me.inbox.total));
        }
        let health = &self.health.read;
        page.field("Team", format!("{} active of {}", self.team.read.members.len(), count(health.agents, "agent")));
        show_who_waits_for_a_person(&self.team.read.members, page);
        page.field("Repository", quote(&self.repo));
        page.field("Branch", self.branch.as_deref().map_or_else(|| "none".to_owned(), quote));
        page.field("Daemon", daemon(health));
        page.field(
            "Log",
            format!(
                "{}, {}, {}",
                count(health.events, "event"),
                count(health.messages, "message"),
                count(health.agents, "agent")
            ),
        );
        if health.parked + health.rejected > 0 {
            page.field(
                "Troubles",
                format!("{} parked, {} rejected (thrum sync parked)", health.parked, health.rejected),
            );
        }
        if let Some(purges) = &health.purges {
            show_purges(purges, page);
        }
        for storing in &health.storing {
            page.field("Storing", storing.to_string());
        }
        for forgetting in &health.forgetting {
            page.field("Dropping", forgetting.to_string());
        }
        for warning in &health.warnings {
            page.line(format!("{YELLOW}Warning:{YELLOW:#} {}", text::lines(warning)));
        }
        page.line("");
        page.line(match (health.tailnet.enabled, self.sync.read.local_only) {
            (true, _) => "Tailscale Sync: enabled".to_owned(),
            (false, true) => format!("Tailscale Sync: disabled; {}", printable(&health.tailnet.why)),
            (false, false) => "Tailscale Sync: disabled".to_owned(),
        });
        show_tailnet(&health.tailnet, page);
        page.line(format!("Peers: {}", states(&self.sync.read.peers)));
        page.line(format!("Last sync: {}", sync::last_sync(&self.sync.read, page)));
        page.line(format!("Hostname: {}", quote(&health.tailscale_sync.hostname)));
        for peer in &self.sync.read.peers {
            peer::show(peer, page);
        }
        if let Some(git) = &self.sync.read.git {
            sync::git::show(git, page);
        }
    }

    fn json(&self) -> Value {
        let (agent, inbox) = match &self.me {
            Some(me) => (json!(me.name), json!({"total": me.inbox.total, "unread": me.inbox.unread})),
            None => (Value::Null, Value::Null),
        };
        json!({
            "agent": agent, "inbox": inbox, "repo_path": self.repo, "health": self.health.raw, "sync": self.sync.raw,
            "work_context": self.work_context(), "team": self.team.raw["members"],
            "agents": {"active": self.team.read.members.len(), "total": self.health.read.agents},
        })
    }
}

/// Shows the daemon's node on the tailnet and why it was chosen, its problem if it has one, and what helps.
fn show_tailnet(tailnet: &Tailnet, page: &mut Page) {
    if !tailnet.enabled {
        return;
    }
    let style = if tailnet.is_up() { GREEN } else { YELLOW };
    page.line(format!("Tailnet: {style}{}{style:#}", tailnet.sentence()));
    let why = printable(&tailnet.why);
    match tailnet.mode.as_deref() {
        Some("host") => page.line(format!("    {DIM}The machine's node: {why}{DIM:#}")),
        Some("own") => page.line(format!("    {DIM}A node of its own: {why}{DIM:#}")),
        _ => page.line(format!("    {DIM}{why}{DIM:#}")),
    }
    if let Some(hint) = tailnet.hint.as_deref().filter(|_| !tailnet.is_up()) {
        page.line(format!("    {DIM}Try: {}{DIM:#}", printable(hint)));
    }
    for warning in &tailnet.warnings {
        page.line(format!("    {YELLOW}Tailscale says:{YELLOW:#} {}", quote(warning)));
    }
    if tailnet.refused_callers > 0 {
        page.line(format!(
            "    {} turned away: programs of this machine on the tailnet's port, or nodes on the local one",
            count(tailnet.refused_callers, "caller")
        ));
    }
}

impl Tailnet {
    pub(crate) fn is_up(&self) -> bool {
        self.state == "running" && self.address.is_some()
    }

    /// The state of the tailnet as one line.
    pub(crate) fn sentence(&self) -> String {
        let message = self.message.as_deref().map(printable);
        match (&self.hostname, &self.address) {
            (Some(name), Some(address)) if self.is_up() => {
                let but = message.map(|message| format!("; {message}")).unwrap_or_default();
                format!("up as {}, {}{but}", quote(name), quote(address))
            }
            _ => {
                let state = printable(&self.state.replace('_', " "));
                let what = message.map_or(state.clone(), |message| format!("{state}: {message}"));
                let visit =
                    self.login_url.as_deref().map(|url| format!("; visit {}", printable(url))).unwrap_or_default();
                format!("{what}{visit}")
            }
        }
    }
}

/// The state of the daemon as one line.
pub(crate) fn daemon(health: &Health) -> String {
    let up = time::brief(std::time::Duration::from_millis(health.uptime_ms));
    // Go Thrum's daemon does not report its process id.
    let (pid, of) = if go_daemon::answers(health) {
        (String::new(), " of Go Thrum")
    } else {
        (format!("pid {}, ", health.pid), "")
    };
    format!("running, {pid}up {up}, version {}{of}", quote(&health.version))
}

/// Counts the peers by state, connected ones first: `2 connected`, `0 connected, 1 unreachable`.
pub(crate) fn states(peers: &[Peer]) -> String {
    const CONNECTED: &str = "connected";
    let number = |state: &str| peers.iter().filter(|peer| peer.state == state).count();
    // Go Thrum's daemon may leave out the state.
    let others: BTreeSet<&str> =
        peers.iter().map(|peer| peer.state.as_str()).filter(|state| !["", CONNECTED].contains(state)).collect();
    let words = iter::once(CONNECTED).chain(others);
    let words = words.map(|state| format!("{} {}", number(state), printable(&state.replace('_', " "))));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_counted_by_whatever_state_they_have() {
        let peers = |states: &[&str]| -> Vec<Peer> {
            states.iter().map(|state| serde_json::from_value(json!({"state": state})).unwrap()).collect()
        };
        assert_eq!(states(&[]), "0 connected");
        assert_eq!(states(&peers(&["connected", "connected"])), "2 connected");
        assert_eq!(
            states(&peers(&["unreachable", "over_quota", "", "unreachable"])),
            "0 connected, 1 over quota, 2 unreachable"
        );
        assert_eq!(states(&peers(&["asleep\u{1b}", "connected"])), "1 connected, 1 asleep\\u{1b}");
    }
}
