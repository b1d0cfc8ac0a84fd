//! What an agent says about its work, and how that becomes an update of its session.

use serde::Serialize;
use serde_json::Value;
use thrum_core::{
    ErrorKind, Fault, limits,
    payload::{Tag, WorkContext},
    work::Work,
};

/// What a sign of life may carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// The worktree now; `None` leaves what was said before.
    pub work: Option<Work>,
    /// The intent; `None` leaves it, empty clears it.
    pub intent: Option<String>,
    /// Scopes that the session gets.
    pub add_scopes: Vec<Tag>,
    /// Scopes that it loses.
    pub remove_scopes: Vec<Tag>,
    /// Refs that the session gets.
    pub add_refs: Vec<Tag>,
    /// Refs that it loses.
    pub remove_refs: Vec<Tag>,
}

impl Beat {
    /// Whether it says anything but that somebody is there.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses scopes and refs that say nothing. How long each may be is in the [table](thrum_core::bounds) of all events.
    pub(super) fn check(&self) -> Result<(), Fault> {
        let mut tags = [&self.add_scopes, &self.remove_scopes, &self.add_refs, &self.remove_refs].into_iter().flatten();
        if tags.any(|tag| tag.kind.is_empty() || tag.value.is_empty()) {
            return Err(Fault::new(ErrorKind::Invalid, "a scope or ref has a type and a value"));
        }
        Ok(())
    }

    /// Lays it over what was said before. `at` is when.
    pub(super) fn lay_over(self, context: &mut WorkContext, at: &str) -> Result<(), Fault> {
        change(&mut context.scopes, self.add_scopes, &self.remove_scopes);
        change(&mut context.refs, self.add_refs, &self.remove_refs);
        if context.scopes.len() + context.refs.len() > limits::MAX_AUDIENCE {
            return Err(Fault::new(ErrorKind::Invalid, format!("a session has at most {} scopes and refs", limits::MAX_AUDIENCE)));
        }
        if let Some(intent) = self.intent {
            context.intent = (!intent.is_empty()).then_some(intent);
            context.intent_updated_at = Some(at.to_owned());
        }
        if let Some(work) = self.work {
            let before = context.clone();
            context.branch = work.branch;
            context.worktree_path = work.worktree_path;
            context.uncommitted_files = work.uncommitted_files;
            context.changed_files = work.changed_files;
            context.unmerged_commits = values(&work.unmerged_commits);
            context.file_changes = values(&work.file_changes);
            // That nothing changed is no news, and news are what is written down.
            if *context != before {
                context.git_updated_at = Some(at.to_owned());
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

/// As JSON values, which is how an update carries them: others' may have more in them.
fn values<T: Serialize>(items: &[T]) -> Vec<Value> {
    // Structures of texts and whole numbers always are values.
    items.iter().filter_map(|item| serde_json::to_value(item).ok()).collect()
}
