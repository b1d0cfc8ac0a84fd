//! `thrum whoami`: works without the daemon, which is asked only if it runs, or knows what this worktree does not.

use serde_json::{Value, json};
use thrum_core::Fault;

use crate::{
    client::Client,
    context::Context,
    identity::Identity,
    render::{Page, Render, agent},
    shapes::Whoami,
    text::preview,
};

/// Show which agent you are here, and why
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  thrum whoami
  thrum whoami --as bob --json")]
pub(crate) struct Args {}

/// An agent as this worktree and, if it runs, the daemon know it.
pub(crate) struct Me {
    identity: Identity,
    known: Whoami,
    worktree: String,
}

pub(crate) fn run(_: &Args, cx: &Context) -> Result<Me, Fault> {
    let identity = cx.identity()?;
    let client = if identity.file.is_some() { cx.running_daemon()? } else { Some(cx.daemon()?) };
    let asked = client.map(|client| ask(client, &identity)).transpose();
    let known = match (&identity.file, asked) {
        (None, asked) => asked?.unwrap_or_default(),
        (Some((_, file)), asked) => {
            let known = asked.ok().flatten().unwrap_or_default();
            Whoami {
                role: file.agent.role.clone(),
                module: file.agent.module.clone(),
                display: file.agent.display.clone(),
                intent: known.intent.or_else(|| file.intent.clone()),
                session_id: known.session_id.or_else(|| file.session_id.clone()),
                ..known
            }
        }
    };
    Ok(Me { identity, known, worktree: cx.repo()?.root().display().to_string() })
}

fn ask(mut client: Client, identity: &Identity) -> Result<Whoami, Fault> {
    client.call("agent.whoami", json!({"caller_agent_id": identity.name}))
}

impl Render for Me {
    fn human(&self, page: &mut Page) {
        let Whoami { role, module, display, session_id, session_start, intent, .. } = &self.known;
        page.field("Agent", agent(&self.identity.name));
        page.field("Role", role);
        page.field("Module", module);
        if !display.is_empty() {
            page.field("Display", preview(display, 200));
        }
        if let Some(intent) = intent {
            page.field("Intent", preview(intent, 200));
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
        ("environment", _) => "the variable THRUM_NAME".to_owned(),
        (_, Some((path, _))) => path.display().to_string(),
        _ => "this worktree".to_owned(),
    }
}
