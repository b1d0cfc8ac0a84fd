//! `thrum session heartbeat`: reports the current work from git.

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, Timestamp, work::FileChange};

use super::mine;
use crate::{
    answers::{Answer, Tag},
    context::Context,
    render::{Page, Render},
    text::{count, quote},
    work_report,
};

/// Report the current state of git to the team: branch, commits and files
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Needed only for an immediate update: starting a session and a long `thrum wait` report the same. Any command that \
you run shows that you are present.

Examples:
  thrum session heartbeat
  thrum session heartbeat --add-scope module:auth --add-ref issue:17")]
pub(crate) struct Args {
    /// Add a scope to the session
    #[arg(long, value_name = "TYPE:VALUE")]
    add_scope: Vec<String>,
    /// Remove a scope from the session
    #[arg(long, value_name = "TYPE:VALUE")]
    remove_scope: Vec<String>,
    /// Add a ref to the session
    #[arg(long, value_name = "TYPE:VALUE")]
    add_ref: Vec<String>,
    /// Remove a ref from the session
    #[arg(long, value_name = "TYPE:VALUE")]
    remove_ref: Vec<String>,
    /// The ID of the session [default: the open session of this agent]
    #[arg(long, value_name = "SESSION")]
    session_id: Option<String>,
}

/// The result of a heartbeat.
pub(crate) struct HeartbeatSent {
    answer: Answer<Beaten>,
    /// `true` if git failed or did not answer in time.
    unanswered: bool,
}

/// The answer to `session.heartbeat`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Beaten {
    session_id: String,
    branch: Option<String>,
    unmerged_commits: u64,
    uncommitted_files: u64,
    file_changes: Vec<FileChange>,
    git_updated_at: Option<Timestamp>,
    scopes: Vec<Tag>,
    refs: Vec<Tag>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<HeartbeatSent, Error> {
    let tags = |given: &[String]| given.iter().map(|tag| pair(tag)).collect::<Result<Vec<_>, _>>();
    let (add_scopes, remove_scopes) = (tags(&args.add_scope)?, tags(&args.remove_scope)?);
    let (add_refs, remove_refs) = (tags(&args.add_ref)?, tags(&args.remove_ref)?);
    let mut client = cx.daemon()?;
    let mine = mine(args.session_id.as_ref(), cx, &mut client)?;
    // A session given by its id may belong to an agent in another worktree, so do not report this worktree's state.
    let work = if mine.identity.is_some() { work_report::work(cx)? } else { None };
    let unanswered = work.as_ref().is_some_and(|work| work.unanswered);
    let answer = client.call(
        "session.heartbeat",
        json!({
            "session_id": mine.session_id, "work_context": work, "add_scopes": add_scopes, "remove_scopes": remove_scopes,
            "add_refs": add_refs, "remove_refs": remove_refs,
        }),
    )?;
    Ok(HeartbeatSent { answer, unanswered })
}

fn pair(text: &str) -> Result<Value, Error> {
    match text.split_once(':') {
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => Ok(json!({"type": kind, "value": value})),
        _ => Err(Error::new(ErrorKind::Invalid, format!("'{text}' is no TYPE:VALUE"))
            .hint("For example --add-scope module:auth")),
    }
}

impl Render for HeartbeatSent {
    fn human(&self, page: &mut Page) {
        let Beaten {
            session_id,
            branch,
            unmerged_commits,
            uncommitted_files,
            file_changes,
            git_updated_at,
            scopes,
            refs,
        } = &self.answer.read;
        page.line(format!("Told the team about session {}", quote(session_id)));
        let unknown = self.unanswered && git_updated_at.is_none();
        if let Some(branch) = branch {
            let commits = if unknown {
                "commits and files unknown: git did not answer".to_owned()
            } else {
                count(*unmerged_commits, "unmerged commit")
            };
            let since = git_updated_at.filter(|_| self.unanswered).map(|at| page.time(at));
            let since = since
                .map(|at| format!("; git did not answer, so commits and files are those of {at}"))
                .unwrap_or_default();
            page.field("Branch", format!("{}, {commits}{since}", quote(branch)));
        }
        if !unknown && (!file_changes.is_empty() || *uncommitted_files > 0) {
            page.field(
                "Files",
                format!("{} changed, {uncommitted_files} not committed", count(file_changes.len() as u64, "file")),
            );
        }
        for (name, tags) in [("Scopes", scopes), ("Refs", refs)] {
            if !tags.is_empty() {
                page.field(name, tags.iter().map(Tag::shown).collect::<Vec<_>>().join(", "));
            }
        }
    }

    fn json(&self) -> Value {
        let mut value = self.answer.raw.clone();
        if self.unanswered {
            value["git_answered"] = false.into();
        }
        if self.unanswered && self.answer.read.git_updated_at.is_none() {
            for name in ["unmerged_commits", "uncommitted_files"] {
                value[name] = Value::Null;
            }
        }
        value
    }
}
