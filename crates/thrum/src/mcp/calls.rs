//! Implements the tools. Each calls the daemon much as the equivalent command does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rmcp::model::JsonObject;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits};

use super::{
    results::{CallResult, OF_MESSAGES, ROOM, Reading},
    tools::{Name, Tool},
    transport::Marking,
    turn::Turn,
};
use crate::{
    agent_text::{Brief, Page, facts, line, news},
    answers::{Answer, Contexts, Sent, Team, Whoami},
    commands::{
        self, body, send, session,
        wait::{self, Waited},
    },
    context::Context,
    interrupt::Interrupt,
    render::plain_agent,
    text::{count, quote, quote_within},
    time,
};

/// Maximum number of messages in one result.
const MOST_MESSAGES: u64 = 50;

const _: () = assert!(MOST_MESSAGES <= limits::MAX_PAGE_MESSAGES, "the daemon returns no larger page");

/// Number of messages in one result if the call gives no `limit`.
const MESSAGES: u64 = 10;

/// Maximum size of one message in a result with several, in bytes.
const OF_MESSAGE: usize = 8 * 1024;

/// The longest wait, in seconds. Some clients limit a call to a minute.
const LONGEST_WAIT: u64 = 50;

/// Maximum number of agents, recipients or claims that are listed.
const MOST_AGENTS: usize = 60;

/// What a call gets from the server.
pub(super) struct Shared {
    /// Shared by all calls of the server.
    pub(super) marking: Arc<Marking>,
    /// Cancels this call's waiting for mail, without the rest of the call.
    pub(super) waiting: Interrupt,
}

/// Calls a tool.
///
/// # Errors
/// `invalid` for arguments that the tool does not accept; otherwise the daemon's error.
pub(super) fn run(tool: &Tool, arguments: JsonObject, shared: &Shared, cx: &Context) -> Result<CallResult, Error> {
    let given = Given { tool, arguments };
    // Wait until the mail of earlier calls is marked as read. Only `check_messages` keeps the turn, for the mail that
    // it returns.
    let turn = shared.marking.turn().filter(|_| tool.name == Name::CheckMessages);
    match tool.name {
        Name::CheckMessages => check_messages(&given.read()?, turn, cx),
        Name::SendMessage => send_message(given.read()?, cx),
        Name::WaitForMessage => wait_for_message(&given.read()?, shared, cx),
        Name::ListAgents => list_agents(&given.read()?, cx),
        Name::Reply => reply(given.read()?, cx),
        Name::WhoHas => who_has(&given.read()?, cx),
        Name::SetStatus => set_status(given.read()?, cx),
        Name::Brief => given.read().and_then(|Nothing {}| brief(cx)),
    }
}

/// The arguments of a call.
struct Given<'a> {
    tool: &'a Tool,
    arguments: JsonObject,
}

impl Given<'_> {
    fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_value(self.tool.normalized(self.arguments).into()).map_err(|error| {
            Error::new(ErrorKind::Invalid, format!("the arguments are wrong: {error}")).hint(self.tool.usage())
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendMessage {
    to: String,
    content: String,
    reply_to: Option<String>,
    metadata: Option<serde_json::Map<String, Value>>,
    idempotency_key: Option<String>,
}

fn send_message(args: SendMessage, cx: &Context) -> Result<CallResult, Error> {
    let SendMessage { to, content, reply_to, metadata, idempotency_key } = args;
    let to: Vec<String> = to.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    let mentions =
        send::mentions(&to, "to", "Name them in `to`: @name or @role (list_agents shows them), or @everyone.")?;
    check_not_empty("content", &content, "Give the text of the message.")?;
    let content = body::checked(content)?;
    let mut params = json!({"content": content, "mentions": mentions, "caller_agent_id": cx.identity()?.name});
    if let Some(parent) = reply_to {
        params["reply_to"] = parent.into();
    }
    let details =
        send::Details { structured: metadata.map(Value::Object), idempotency_key, ..send::Details::default() };
    let repeat = |key: &str| format!("Call again with idempotency_key {key}: then the message is not sent twice.");
    store(cx, params, details, repeat)
}

/// Checks that the text of the parameter `name` is not blank.
///
/// # Errors
/// `invalid` with `hint` if the text is blank.
fn check_not_empty(name: &str, text: &str, hint: &str) -> Result<(), Error> {
    if text.trim().is_empty() {
        return Err(Error::new(ErrorKind::Invalid, format!("{name} is empty")).hint(hint));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    message_id: String,
    content: String,
}

fn reply(args: Reply, cx: &Context) -> Result<CallResult, Error> {
    let me = cx.identity()?.name;
    check_not_empty("message_id", &args.message_id, "Give the message_id of a message that check_messages returned.")?;
    check_not_empty("content", &args.content, "Give the text of the answer.")?;
    let content = body::checked(args.content)?;
    let params =
        json!({"content": content, "reply_to": args.message_id, "to_parent_audience": true, "caller_agent_id": me});
    let repeat = |_: &str| "Before you call again, look whether it was stored: `thrum sent` in a shell.".to_owned();
    store(cx, params, send::Details::default(), repeat)
}

/// Sends a message. `repeat` returns the advice on repeating the call, given its idempotency key.
///
/// # Errors
/// Returns the daemon's error. Its hint names the tool that lists agents, not the command.
fn store(
    cx: &Context,
    params: Value,
    details: send::Details,
    repeat: impl FnOnce(&str) -> String,
) -> Result<CallResult, Error> {
    let sent = send::store(cx, params, details, repeat).map_err(|mut error| {
        error.hint = error.hint.map(|hint| hint.replace("thrum team --all", "list_agents"));
        error
    })?;
    Ok(stored(&sent.read))
}

/// The result for a stored message, with the outlook for each recipient.
fn stored(sent: &Sent) -> CallResult {
    let recipients: Vec<Value> = sent
        .recipients
        .iter()
        .take(MOST_AGENTS)
        .map(|recipient| {
            let mut entry = json!({"agent": recipient.address, "state": "stored"});
            if let Some(outlook) = &recipient.outlook {
                entry["outlook"] = outlook.as_str().into();
                entry["outlook_state"] = json!(recipient.outlook_state);
            }
            entry
        })
        .collect();
    let mut text =
        format!("Stored {} for {}.\n", quote(&sent.message_id), count(sent.recipients.len() as u64, "agent"));
    text.push_str(&format!(
        "How far it got later: thrum sent show {}, or the resource thrum://message/{0}.\n",
        quote(&sent.message_id)
    ));
    for recipient in sent.recipients.iter().take(MOST_AGENTS) {
        let outlook =
            recipient.outlook.as_deref().map(|why| format!("; {}", quote_within(why, 200))).unwrap_or_default();
        text.push_str(&format!("  {}: stored{outlook}\n", plain_agent(&recipient.agent_id, &recipient.address, None)));
    }
    sent.warnings.iter().for_each(|warning| text.push_str(&format!("Note: {}\n", quote_within(warning, 300))));
    let mut structured = json!({"status": "stored", "message_id": sent.message_id, "resolved_to": sent.resolved_to, "recipients": recipients});
    if !sent.warnings.is_empty() {
        structured["warnings"] = json!(sent.warnings);
    }
    if sent.recipients.len() > MOST_AGENTS {
        structured["more"] = true.into();
    }
    CallResult::new(structured, text)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckMessages {
    limit: Option<u64>,
    cursor: Option<String>,
    peek: Option<bool>,
}

/// The note to a sub-agent that reads mail.
const LEFT: &str = "You are a sub-agent: this stays unread for the session that you work for. check_messages with peek false reads it.";

fn check_messages(args: &CheckMessages, turn: Option<Turn>, cx: &Context) -> Result<CallResult, Error> {
    let me = cx.identity()?.name;
    let limit = args.limit.unwrap_or(MESSAGES).clamp(1, MOST_MESSAGES);
    // By default a sub-agent leaves the mail to the session that it works for.
    let left_to_session = args.peek.is_none() && cx.caller().is_sub_agent;
    let peek = args.peek.unwrap_or(left_to_session);
    let content = if limit == 1 { ROOM } else { OF_MESSAGE };
    let ask = json!({"caller_agent_id": me, "cursor": args.cursor, "page_size": limit, "max_content_bytes": content});
    let (news, page) = news(ask, OF_MESSAGES, cx)?;
    let status = if page.ids.is_empty() { "empty" } else { "messages" };
    let what = if args.cursor.is_some() { "new" } else { "unread" };
    // Without a cursor in the call, the cursor is the end of the log, which is past the remaining messages.
    let cursor = Some(news.cursor).filter(|_| args.cursor.is_some() || news.remaining == 0);
    let more = match (news.remaining, peek && args.cursor.is_none(), &cursor) {
        (0, _, _) => String::new(),
        (remaining, true, _) => format!("{remaining} more {what}.\n"),
        (remaining, false, None) => format!("{remaining} more {what}: call check_messages again.\n"),
        (remaining, false, Some(_)) => format!("{remaining} more {what}: call check_messages with this cursor.\n"),
    };
    let mut text = match page.ids.len() {
        0 => format!("No {what} messages.\n"),
        number => format!("{}:\n{}{more}", count(number as u64, "message"), page.text),
    };
    let mut structured = json!({"status": status, "messages": page.messages, "remaining": news.remaining});
    if left_to_session && !page.ids.is_empty() {
        text.push_str(&format!("{LEFT}\n"));
        structured["note"] = LEFT.into();
    }
    if let Some(cursor) = cursor {
        text.push_str(&format!("cursor: {cursor}\n"));
        structured["cursor"] = cursor.into();
    }
    let mut outcome = CallResult::new(structured, text);
    if !peek {
        outcome.read = Reading::of(&me, page.ids, turn, cx);
    }
    Ok(outcome)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitForMessage {
    timeout: Option<u64>,
}

fn wait_for_message(args: &WaitForMessage, shared: &Shared, cx: &Context) -> Result<CallResult, Error> {
    let me = cx.identity()?.name;
    let began = Instant::now();
    let within = Duration::from_secs(args.timeout.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT));
    let mut params = json!({"caller_agent_id": me, "max_content_bytes": ROOM});
    if cx.caller().is_sub_agent {
        // A sub-agent leaves mail unread, so it would get the same message again immediately.
        params["after"] = json!(time::now());
    }
    let (answer, turn) = first_mail(params, began + within, shared, cx)?;
    let waited = began.elapsed().as_secs();
    let Some(first) = answer.read.messages.first() else {
        let text = format!("No message within {waited} s. Work on; check_messages later, or wait again.\n");
        return Ok(CallResult::new(json!({"status": "timeout", "waited_seconds": waited}), text));
    };
    let mut page = Page::of(std::slice::from_ref(first), OF_MESSAGES);
    let remaining = answer.read.unread.saturating_sub(1);
    let more = if remaining > 0 { format!("{remaining} more unread: call check_messages.\n") } else { String::new() };
    let mut outcome = CallResult::new(
        json!({"status": "message_received", "message": page.messages.pop(), "waited_seconds": waited, "remaining": remaining}),
        page.text + &more,
    );
    if cx.caller().is_sub_agent {
        outcome.text.push_str(&format!("{LEFT}\n"));
        outcome.structured["note"] = LEFT.into();
    } else {
        outcome.read = Reading::of(&me, page.ids, turn, cx);
    }
    Ok(outcome)
}

/// Waits for mail that no other call has returned, and takes the turn to return it. After the end of standard input it
/// does not wait any more.
fn first_mail(
    params: Value,
    deadline: Instant,
    shared: &Shared,
    cx: &Context,
) -> Result<(Answer<Waited>, Option<Turn>), Error> {
    let waiting = Context::of_call(cx.global().clone(), shared.waiting.clone());
    loop {
        let marked = shared.marking.marked();
        let answer = match wait::for_mail(&waiting, params.clone(), deadline) {
            Err(_) if shared.waiting.is_given_up() => wait::for_mail(cx, params.clone(), Instant::now()),
            answer => answer,
        }?;
        let turn = shared.marking.turn();
        // Ask again if another call has returned mail meanwhile: this answer may contain the same mail, from before it
        // was marked as read.
        if answer.read.messages.is_empty() || shared.marking.marked() == marked {
            return Ok((answer, turn));
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListAgents {
    include_offline: Option<bool>,
}

fn list_agents(args: &ListAgents, cx: &Context) -> Result<CallResult, Error> {
    agents(args.include_offline.unwrap_or(true), cx)
}

/// Lists the agents, active ones first.
pub(super) fn agents(include_offline: bool, cx: &Context) -> Result<CallResult, Error> {
    let mut team: Team = cx.repeat("team.list", &json!({"include_offline": include_offline}))?;
    team.members.sort_by_key(|member| member.status != "active");
    let listed = team.members.len().min(MOST_AGENTS);
    let more = team.more || listed < team.members.len();
    let members = &team.members[..listed];
    let mut text: String = members.iter().map(line).collect();
    if members.is_empty() {
        text.push_str("No agents.\n");
    }
    let agents: Vec<Value> = members.iter().map(facts).collect();
    Ok(CallResult::new(json!({"count": team.members.len(), "agents": agents, "more": more}), text))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhoHas {
    path: String,
}

fn who_has(args: &WhoHas, cx: &Context) -> Result<CallResult, Error> {
    let me = cx.identity()?.name;
    check_not_empty("path", &args.path, "Give a file or directory of this worktree; . is all of it.")?;
    let holders = commands::who_has::holders(&args.path, cx)?;
    let Contexts { contexts, more } = &holders.contexts.read;
    let mut text = String::new();
    let mut agents = Vec::new();
    for working in contexts.iter().take(MOST_AGENTS) {
        let files = holders.files(working);
        let names: Vec<_> = files.iter().map(|(name, _)| *name).take(MOST_FILES).collect();
        let uncommitted = names.iter().any(|name| working.is_editing(name));
        let branch =
            working.branch.as_deref().map(|branch| format!(" on branch {}", quote(branch))).unwrap_or_default();
        let does = if uncommitted { "is editing" } else { "has changed" };
        let list: Vec<_> = names.iter().map(|name| quote(name)).collect();
        let you = working.agent.is(&me);
        let mark = if you { " (you)" } else { "" };
        text.push_str(&format!("{}{mark} {does} {}{branch}\n", working.agent.plain_agent(), list.join(", ")));
        agents.push(json!({
            "agent": working.agent.address, "you": you, "signed": working.agent.signed, "files": names, "files_total": files.len(), "uncommitted": uncommitted,
            "branch": working.branch, "status": working.status, "presence": working.doing.presence, "told_at": working.git_updated_at,
        }));
    }
    let mut claims = Vec::new();
    for claim in holders.claims.read.claims.iter().take(MOST_AGENTS) {
        let you = claim.agent.is(&me);
        let line = claim.line_plain(time::now(), if you { " (you)" } else { "" });
        text.push_str(&format!("{line}\n"));
        claims
            .push(json!({"agent": claim.agent.address, "you": you, "signed": claim.agent.signed, "path": claim.path, "expires_at": claim.expires_at}));
    }
    let collisions = &holders.collisions;
    collisions
        .read
        .collisions
        .iter()
        .take(MOST_FILES)
        .for_each(|one| text.push_str(&format!("{}\n", one.line_plain())));
    if holders.is_nobody() {
        text = format!("No agent is known to work on {}.\n", quote(&holders.path));
    }
    let mut structured =
        json!({"path": holders.path, "agents": agents, "claims": claims, "collisions": collisions.raw["collisions"]});
    if *more || holders.claims.read.more || contexts.len().max(holders.claims.read.claims.len()) > MOST_AGENTS {
        structured["more"] = true.into();
    }
    Ok(CallResult::new(structured, text))
}

/// Maximum number of files that are listed per agent, and of collisions in the text.
const MOST_FILES: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetStatus {
    intent: Option<String>,
    task: Option<String>,
}

fn set_status(args: SetStatus, cx: &Context) -> Result<CallResult, Error> {
    let SetStatus { intent, task } = args;
    if intent.is_none() && task.is_none() {
        return Err(
            Error::new(ErrorKind::Invalid, "neither intent nor task was given").hint("An empty text clears one.")
        );
    }
    let me = cx.identity()?;
    let known: Whoami = cx.repeat("agent.whoami", &json!({"caller_agent_id": me.name}))?;
    let session_id = match known.session_id {
        Some(id) => id,
        None => session::start::begin(me, None, cx)?.read.session_id,
    };
    if let Some(intent) = &intent {
        session::say::set_intent(&session_id, intent, Some(cx.identity()?), cx)?;
    }
    if let Some(task) = &task {
        session::say::set_task(&session_id, task, cx)?;
    }
    let said: Vec<_> = [("intent", &intent), ("task", &task)]
        .into_iter()
        .filter_map(|(what, text)| text.as_deref().map(|text| format!("{what}: {}", quote_within(text, 200))))
        .collect();
    let mut structured = json!({"session_id": session_id});
    for (name, text) in [("intent", intent), ("task", task)] {
        if let Some(text) = text {
            structured[name] = text.into();
        }
    }
    Ok(CallResult::new(structured, format!("The others now read {}.\n", said.join("; "))))
}

fn brief(cx: &Context) -> Result<CallResult, Error> {
    let Brief { structured, text } = Brief::of(&cx.identity()?.name, cx)?;
    Ok(CallResult::new(structured, text))
}
