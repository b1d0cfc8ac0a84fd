//! The work that an agent reports, and how it updates the agent's session.

use serde::Serialize;
use serde_json::Value;
use thrum_core::{
    Error, ErrorKind, limits,
    payload::{Tag, WorkContext},
    work::Work,
};

/// Data that may accompany a sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// The current state of the worktree; `None` keeps the recorded one.
    pub work: Option<Work>,
    /// The intent; `None` keeps it, empty clears it.
    pub intent: Option<String>,
    /// Scopes to add to the session.
    pub add_scopes: Vec<Tag>,
    /// Scopes to remove.
    pub remove_scopes: Vec<Tag>,
    /// Refs to add to the session.
    pub add_refs: Vec<Tag>,
    /// Refs to remove.
    pub remove_refs: Vec<Tag>,
}

impl Heartbeat {
    /// Returns `true` if the heartbeat contains only the sign of life.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses scopes and refs with an empty type or value. The [table](thrum_core::bounds) for all events limits their
    /// length.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut tags = [&self.add_scopes, &self.remove_scopes, &self.add_refs, &self.remove_refs].into_iter().flatten();
        if tags.any(|tag| tag.kind.is_empty() || tag.value.is_empty()) {
            return Err(Error::new(ErrorKind::Invalid, "a scope or ref has a type and a value"));
        }
        Ok(())
    }

    /// Applies the changes to the recorded context. `at` is the time to record for them.
    pub(super) fn lay_over(self, context: &mut WorkContext, at: &str) -> Result<(), Error> {
        change(&mut context.scopes, self.add_scopes, &self.remove_scopes);
        change(&mut context.refs, self.add_refs, &self.remove_refs);
        if context.scopes.len() + context.refs.len() > limits::MAX_AUDIENCE {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a session has at most {} scopes and refs", limits::MAX_AUDIENCE),
            ));
        }
        if let Some(intent) = self.intent {
            context.intent = (!intent.is_empty()).then_some(intent);
            context.intent_updated_at = Some(at.to_owned());
        }
        if let Some(work) = self.work {
            let before = context.clone();
            context.branch = work.branch;
            context.worktree_path = work.worktree_path;
            // If git did not answer, keep the old lists: `git_updated_at` shows their age.
            if !work.unanswered {
                context.uncommitted_files = work.uncommitted_files;
                context.changed_files = work.changed_files;
                context.unmerged_commits = values(&work.unmerged_commits);
                context.file_changes = values(&work.file_changes);
                // Without a change keep the old time, so that no update is written.
                if *context != before {
                    context.git_updated_at = Some(at.to_owned());
                }
            }
        }
        Ok(())
    }
}

fn change(tags: &mut Vec<Tag>, add: Vec<Tag>, remove: &[Tag]) {
    tags.retain(|tag| !remove.contains(tag));
    for tag in add {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
}

/// Converts items to JSON values, the form in an update event, because the items of other daemons may have more fields.
fn values<T: Serialize>(items: &[T]) -> Vec<Value> {
    // Structures of texts and integers always convert.
    items.iter().filter_map(|item| serde_json::to_value(item).ok()).collect()
}
