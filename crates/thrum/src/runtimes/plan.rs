//! Plans the changes to the files of programs and applies them. Each file is replaced atomically.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    slice,
};

use serde_json::Value;
use similar::TextDiff;
use thrum_core::Error;
use thrum_daemon::layout;

use super::{
    copies::Copies,
    document::{self, Comment, Part},
    is_detected, known,
    places::{counterpart, is_read_only, may_have_ours, read, read_in, resolve, shown, variant, variants},
    runtime,
    table::{CODEX_HOOKS, Runtime, Target},
};
use crate::{hook::host::Host, new_file};

/// A planned change of one file.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Path relative to the worktree or to the user's home (`~/…`), or absolute for a file in the main checkout.
    pub(crate) file: String,
    path: PathBuf,
    /// The text before the change; `None` if the file does not exist yet.
    before: Option<String>,
    /// The text after the change; `None` if the file is removed.
    after: Option<String>,
    /// Our parts as text, shown if the file cannot be written.
    paste: String,
    copy: Copy,
}

/// What to do with the saved copy of a file's original text.
#[derive(Clone, Debug)]
enum Copy {
    Leave,
    Drop,
    Keep(String),
}

/// A file that the user has to change by hand.
#[derive(Clone, Debug)]
pub(crate) struct RefusedFile {
    pub(crate) file: String,
    pub(crate) why: String,
    /// The text that the user has to add to the file or remove from it.
    pub(crate) paste: String,
}

/// The changes to all files, and the steps that remain for the user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) names: Vec<&'static str>,
    pub(crate) changes: Vec<Change>,
    pub(crate) refused: Vec<RefusedFile>,
    /// Remaining steps and notes for the user: the program's name and the text.
    pub(crate) left: Vec<(&'static str, String)>,
}

/// Files by their real path, each with its display name and our parts. Several programs may read the same file.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, (String, Vec<Part>)>);

impl Files {
    fn add(&mut self, path: PathBuf, file: &str, parts: Vec<Part>) {
        let (_, known) = self.0.entry(path).or_insert_with(|| (file.to_owned(), Vec::new()));
        for part in parts {
            if !known.contains(&part) {
                known.push(part);
            }
        }
    }
}

/// Plans the changes in the worktree at `top` that set up these programs for Thrum. The user's own settings (`~/…`)
/// also apply to all other repositories, so they change only if the user has named the program (`named`).
///
/// # Errors
/// `invalid` if our parts for one file cannot be combined, which is a fault in the table.
pub(crate) fn to_write(top: &Path, hosts: &[Host], named: bool) -> Result<Plan, Error> {
    let (mut plan, mut files) = (Plan::default(), Files::default());
    for host in hosts {
        let runtime = runtime(*host);
        plan.names.push(runtime.name);
        plan.left.extend(runtime.left.iter().map(|what| (runtime.name, (*what).to_owned())));
        for Target { file, parts } in (runtime.targets)() {
            let file = variant(top, file);
            if file.starts_with("~/") && !named {
                let command = runtime.programs.first().copied().unwrap_or_default();
                let what = format!(
                    "Its hooks belong into your own settings, {file}, which only `thrum setup {command}` writes."
                );
                plan.left.push((runtime.name, what));
                continue;
            }
            let parts: Vec<Part> = parts.into_iter().filter(|part| !is_moved(top, file, part)).collect();
            if parts.is_empty() {
                continue;
            }
            plan.left.extend(left_shared(top, file, &parts, false).map(|what| (runtime.name, what)));
            let dir = read_in(top, file);
            let shown = shown(top, &dir, file);
            match resolve(&dir, file) {
                Ok(path) => files.add(path, &shown, parts),
                Err(why) => plan.refuse(shown, why, &parts)?,
            }
        }
    }
    for (path, (file, parts)) in files.0 {
        let changed = read(&path).and_then(|before| {
            let after = document::with(before.as_deref().unwrap_or_default(), &parts).map_err(|error| error.message)?;
            Ok((before, after))
        });
        match changed {
            Ok((Some(before), after)) if before == after => {}
            Ok((before, after)) => {
                let copy = copy_of(before.as_deref(), &after, &parts);
                plan.change(file, path, (before, Some(after)), &parts, copy)?;
            }
            Err(why) => plan.refuse(file, why, &parts)?,
        }
    }
    Ok(plan)
}

/// Decides whether `--remove` needs a copy of the text `before` to restore it. A text that already contains our parts
/// is not the original, so an existing copy stays.
fn copy_of(before: Option<&str>, after: &str, parts: &[Part]) -> Copy {
    let Some(before) = before else { return Copy::Drop };
    let is_entry = |part: &&Part| !matches!(part, Part::Element(_, Value::String(_)) | Part::Required(..));
    if parts.iter().filter(is_entry).any(|part| document::found(before, part).is_ok_and(|found| !found.is_empty())) {
        return Copy::Leave;
    }
    match document::without(after, parts, None) {
        Ok(Some(without)) if without == before => Copy::Drop,
        _ => Copy::Keep(before.to_owned()),
    }
}

/// Plans the changes that remove our parts for these programs. Parts that are shared with another program that is set
/// up here stay.
///
/// # Errors
/// `invalid` if our parts for one file cannot be combined, which is a fault in the table.
pub(crate) fn to_take_out(top: &Path, hosts: &[Host], named: bool, copies: &Copies) -> Result<Plan, Error> {
    let (mut plan, mut files) = (Plan::default(), Files::default());
    let shared = shared(top, hosts);
    for host in hosts {
        let runtime = runtime(*host);
        plan.names.push(runtime.name);
        let is_set_up = is_set_up(top, runtime);
        let mut kept: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for Target { file, parts } in (runtime.targets)() {
            for file in variants(file) {
                if file.starts_with("~/") && !named {
                    plan.left.extend(left_outside(top, runtime, file, &parts).map(|what| (runtime.name, what)));
                    continue;
                }
                // Codex's hooks in the main checkout serve all worktrees. From a linked worktree, they stay; from the
                // main checkout, they are removed. The note says what that means for the other worktrees.
                plan.left.extend(left_shared(top, file, &parts, true).map(|what| (runtime.name, what)));
                match resolve(top, file) {
                    Ok(path) => {
                        let of_others = |part: &Part| {
                            shared.iter().find(|(at, it, _)| *at == path && it == part).map(|(_, _, name)| *name)
                        };
                        let text = read(&path).ok().flatten().unwrap_or_default();
                        let is_here = |part: &Part| document::found(&text, part).is_ok_and(|found| !found.is_empty());
                        for part in parts.iter().filter(|part| is_here(part)) {
                            if let Some(name) = of_others(part) {
                                kept.entry(name).or_default().insert(file);
                            }
                        }
                        // If the program is not set up and the file has only some of our permissions, the user
                        // wrote these, and they stay.
                        let is_text = |part: &Part| matches!(part, Part::Element(_, Value::String(_)));
                        let takes_texts = is_set_up || parts.iter().filter(|part| is_text(part)).all(is_here);
                        let is_taken = |part: &&Part| of_others(part).is_none() && (takes_texts || !is_text(part));
                        let taken: Vec<Part> = parts.iter().filter(is_taken).cloned().collect();
                        files.add(path, file, taken);
                    }
                    Err(why) if may_have_ours(&top.join(file)) => plan.refuse(file.to_owned(), why, &parts)?,
                    Err(_) => {}
                }
            }
            if let Some(other) = counterpart(file)
                && let Ok(path) = resolve(top, other)
            {
                files.add(path, other, parts.into_iter().filter(|part| is_moved(top, file, part)).collect());
            }
        }
        for (name, files) in kept {
            let files = files.into_iter().collect::<Vec<_>>().join(", ");
            plan.left.push((runtime.name, format!("Kept, because {name} is set up here and reads it too: {files}")));
        }
    }
    for (path, (file, parts)) in files.0.into_iter().filter(|(_, (_, parts))| !parts.is_empty()) {
        let taken = read(&path).and_then(|before| {
            let Some(text) = &before else { return Ok((None, None)) };
            let after = document::without(text, &parts, copies.get(&path)).map_err(|error| error.message)?;
            Ok((before, after))
        });
        match taken {
            Ok((before, after)) => {
                let still = after.as_deref().map(|after| document::still_runs(after, &parts)).unwrap_or_default();
                if before != after {
                    let copy = if still.is_empty() { Copy::Drop } else { Copy::Leave };
                    plan.change(file.clone(), path, (before, after), &parts, copy)?;
                }
                if !still.is_empty() {
                    let why =
                        "a hook in it runs thrum, but is not only what setup wrote; take that out by hand".to_owned();
                    plan.refused.push(RefusedFile { file, why, paste: still.join("\n") + "\n" });
                }
            }
            Err(why) if may_have_ours(&path) => plan.refuse(file, why, &parts)?,
            Err(_) => {}
        }
    }
    Ok(plan)
}

/// Returns the parts of all programs that are set up here and not in `hosts`, each with its file's real path and the
/// program's name.
fn shared(top: &Path, hosts: &[Host]) -> Vec<(PathBuf, Part, &'static str)> {
    let mut shared = Vec::new();
    for host in known().into_iter().filter(|host| !hosts.contains(host)) {
        let runtime = runtime(host);
        if is_set_up(top, runtime) {
            for Target { file, parts } in (runtime.targets)() {
                let Ok(path) = resolve(top, variant(top, file)) else { continue };
                shared.extend(parts.into_iter().map(|part| (path.clone(), part, runtime.name)));
            }
        }
    }
    shared
}

/// Returns `true` if a user has moved a hook from `file` to its [`counterpart`].
fn is_moved(top: &Path, file: &str, part: &Part) -> bool {
    let part = slice::from_ref(part);
    counterpart(file).is_some_and(|other| has_ours(top, other, part) && !has_ours(top, file, part))
}

/// Returns `true` if our hooks are written for a program. Hooks outside this worktree count only if the program is
/// detected here.
fn is_set_up(top: &Path, runtime: &Runtime) -> bool {
    (runtime.targets)().into_iter().any(|Target { file, parts }| {
        let file = variant(top, file);
        let dir = read_in(top, file);
        let Ok(Some(text)) = resolve(&dir, file).and_then(|path| read(&path)) else { return false };
        let is_here = !file.starts_with("~/") && dir == top;
        let is_hook = |part: &&Part| match part {
            Part::Element(_, value) => !value.is_string(),
            Part::Hooks(..) | Part::Block(Comment::Slashes, _) => true,
            _ => false,
        };
        // A file that cannot be parsed at the moment counts if it contains a hook command of ours.
        let is_found = |part: &Part| {
            document::found(&text, part).map_or_else(|_| text.contains("thrum hook "), |found| !found.is_empty())
        };
        parts.iter().filter(is_hook).any(|part| is_found(part) || is_moved(top, file, part))
            && (is_here || is_detected(runtime, top))
    })
}

/// Returns the note about the user's own settings that still contain our parts and are left alone because the user has
/// not named the program.
fn left_outside(top: &Path, runtime: &Runtime, file: &str, parts: &[Part]) -> Option<String> {
    let command = runtime.programs.first().copied().unwrap_or_default();
    has_ours(top, file, parts).then(|| {
        format!("{file} still runs Thrum, in all repositories; `thrum setup {command} --remove` takes it out.")
    })
}

fn has_ours(dir: &Path, file: &str, parts: &[Part]) -> bool {
    let text = resolve(dir, file).and_then(|path| read(&path)).ok().flatten().unwrap_or_default();
    parts.iter().any(|part| document::found(&text, part).is_ok_and(|found| !found.is_empty()))
}

/// Returns the note about Codex's hooks in the main checkout, which serve all worktrees of the repository; `None` if
/// `file` is another file, or if there is nothing to note.
fn left_shared(top: &Path, file: &str, parts: &[Part], remove: bool) -> Option<String> {
    let dir = read_in(top, file);
    let at = dir.join(file).display().to_string();
    let has_linked = || {
        let beside = layout::common_dir(top).filter(|common| common.parent() == Some(top));
        beside.is_some_and(|common| {
            fs::read_dir(common.join("worktrees")).is_ok_and(|mut linked| linked.next().is_some())
        })
    };
    match (file == CODEX_HOOKS, dir == top, remove) {
        (true, false, false) => Some(format!(
            "It reads the hooks of a linked worktree from the main checkout only: {at} serves all worktrees."
        )),
        (true, false, true) if has_ours(&dir, file, parts) => Some(format!(
            "{at} serves all worktrees and stays; `thrum setup codex --remove` in {} takes the hooks out.",
            dir.display()
        )),
        (true, true, true) if has_ours(top, file, parts) && has_linked() => {
            Some(format!("Without the hooks in {at} it runs none in the linked worktrees either."))
        }
        _ => None,
    }
}

impl Plan {
    fn refuse(&mut self, file: String, why: String, parts: &[Part]) -> Result<(), Error> {
        self.refused.push(RefusedFile { file, why, paste: document::with("", parts)? });
        Ok(())
    }

    fn change(
        &mut self,
        file: String,
        path: PathBuf,
        (before, after): (Option<String>, Option<String>),
        parts: &[Part],
        copy: Copy,
    ) -> Result<(), Error> {
        if is_read_only(&path) {
            let why = format!("it is read-only; chmod u+w {file} permits the change");
            return self.refuse(file, why, parts);
        }
        self.changes.push(Change { file, path, before, after, paste: document::with("", parts)?, copy });
        Ok(())
    }

    /// Writes the changes. A file that cannot be written moves to `refused`; the other files are still written.
    ///
    /// # Errors
    /// `failed` if the copies cannot be written.
    pub(crate) fn apply(&mut self, copies: &mut Copies) -> Result<(), Error> {
        // A new copy is saved before its file changes. A copy that is no longer needed is removed afterwards.
        for change in &self.changes {
            if let Copy::Keep(text) = &change.copy {
                copies.insert(&change.path, text.clone());
            }
        }
        copies.save()?;
        for change in std::mem::take(&mut self.changes) {
            match change.write() {
                Ok(()) => {
                    if matches!(change.copy, Copy::Drop) {
                        copies.remove(&change.path);
                    }
                    self.changes.push(change);
                }
                Err(error) => {
                    let Change { file, paste, .. } = change;
                    self.refused.push(RefusedFile { file, why: format!("it cannot be written: {error}"), paste });
                }
            }
        }
        copies.save()
    }
}

impl Change {
    /// Returns the kind of the change: `created`, `removed` or `changed`.
    pub(crate) fn what(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "created",
            (_, None) => "removed",
            _ => "changed",
        }
    }

    /// Returns the change as a unified diff.
    pub(crate) fn diff(&self) -> String {
        let (before, after) = (self.before.as_deref().unwrap_or_default(), self.after.as_deref().unwrap_or_default());
        let name =
            |there: bool, side: &str| if there { format!("{side}/{}", self.file) } else { "/dev/null".to_owned() };
        let diff = TextDiff::from_lines(before, after);
        diff.unified_diff().header(&name(self.before.is_some(), "a"), &name(self.after.is_some(), "b")).to_string()
    }

    /// Writes the file and keeps its permissions, or removes it. If this fails, the file is unchanged.
    fn write(&self) -> std::io::Result<()> {
        match (&self.after, self.path.parent()) {
            (None, _) => fs::remove_file(&self.path),
            (Some(after), dir) => {
                let mode = fs::metadata(&self.path).map_or(0o644, |about| about.permissions().mode() & 0o777);
                dir.map_or(Ok(()), fs::create_dir_all).and_then(|()| new_file::replace(&self.path, mode, after))
            }
        }
    }
}
