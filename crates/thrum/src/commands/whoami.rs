//! `thrum whoami`: shows the agent's identity. Works without the daemon if this worktree has the agent's identity file,
//! and otherwise needs the daemon.

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, name::printable};

use crate::{
    answers::Whoami,
    client::Client,
    context::Context,
    identity::Identity,
    render::{Page, Render, agent},
    text::quote_within,
};

/// Show which agent you are here, and why
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum whoami
  thrum whoami --as bob --json")]
pub(crate) struct Args {
    /// Print only this field of the JSON output: agent_id, role, session_id, …
    #[arg(long, value_name = "NAME")]
    field: Option<String>,
}

/// An agent as known to this worktree and, if the daemon answers, to the daemon.
pub(crate) struct Me {
    identity: Identity,
    known: Whoami,
    worktree: String,
    field: Option<String>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Me, Error> {
    let identity = cx.identity()?;
    let client = if identity.file.is_some() { cx.running_daemon()? } else { Some(cx.daemon()?) };
    let asked = client.map(|client| ask(client, &identity)).transpose();
    let known = match (&identity.file, asked) {
        (None, asked) => asked?.unwrap_or_default(),
        (Some((_, file)), asked) => {
            // Only the daemon knows the current session and intent; the file has those at the time it was written.
            let known = asked.ok().flatten().unwrap_or_else(|| Whoami {
                intent: file.intent.clone(),
                session_id: file.session_id.clone(),
                ..Whoami::default()
            });
            Whoami {
                role: file.agent.role.clone(),
                module: file.agent.module.clone(),
                display: file.agent.display.clone(),
                ..known
            }
        }
    };
    let me = Me { identity, known, worktree: cx.repo()?.root().display().to_string(), field: args.field.clone() };
    if let Some(name) = &args.field
        && me.json().get(name).is_none()
    {
        let known: Vec<String> = me.json().as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        return Err(Error::new(ErrorKind::Invalid, format!("there is no field '{name}'"))
            .hint(format!("There are: {}.", known.join(", "))));
    }
    Ok(me)
}

fn ask(mut client: Client, identity: &Identity) -> Result<Whoami, Error> {
    client.call("agent.whoami", json!({"caller_agent_id": identity.name}))
}

impl Render for Me {
    fn human(&self, page: &mut Page) {
        if let Some(name) = &self.field {
            return match &self.json()[name] {
                Value::String(text) => page.line(printable(text)),
                Value::Null => {}
                other => page.line(other.to_string()),
            };
        }
        let Whoami { role, module, display, session_id, session_start, intent, .. } = &self.known;
        page.field("Agent", agent(&self.identity.name));
        page.field("Role", role);
        page.field("Module", module);
        if !display.is_empty() {
            page.field("Display", quote_within(display, 200));
        }
        if let Some(intent) = intent {
            page.field("Intent", quote_within(intent, 200));
        }
        if let Some(session) = session_id {
            let started = session_start.map(|at| format!(" ({})", page.lasting(at))).unwrap_or_default();
            page.field("Session", format!("{session}{started}"));
        }
        page.field("Worktree", &self.worktree);
        page.field("Decided by", decided_by(&self.identity));
    }

    fn json(&self) -> Value {
        let Whoami { role, module, display, session_id, session_start, intent, .. } = &self.known;
        let file = self.identity.file.as_ref();
        json!({
            "agent_id": self.identity.name, "role": role, "module": module, "display": display, "session_id": session_id,
            "session_start": session_start, "intent": intent, "branch": file.and_then(|(_, file)| file.branch.as_deref()),
            "worktree": self.worktree, "identity_file": file.map(|(path, _)| path), "source": self.identity.source,
        })
    }
}

fn decided_by(identity: &Identity) -> String {
    match (identity.source, &identity.file) {
        ("flag", _) => "--as".to_owned(),
        ("session", _) => "the session of the agent program".to_owned(),
        ("environment", _) => "the variable THRUM_NAME".to_owned(),
        (_, Some((path, _))) => path.display().to_string(),
        _ => "this worktree".to_owned(),
    }
}
