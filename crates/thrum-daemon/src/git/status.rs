//! Parses git's machine-readable output: `status --porcelain=v2 -z`, `diff --raw --numstat -z` and `log -z`.
//!
//! All are parsed by fields and zero bytes, never by columns. Go Thrum v0.6.3 trims lines before it cuts off three
//! columns, which turns ` M foo.go` into `oo.go`, so that no agent appears to edit `foo.go`.

/// The branch of a worktree, and the differences from its last commit.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WorktreeStatus {
    /// The branch; `None` on a detached head.
    pub branch: Option<String>,
    /// Number of commits that the upstream branch does not have; `None` without an upstream branch.
    pub ahead: Option<u64>,
    /// Files that differ, including untracked ones; renamed files under their new names.
    pub files: Vec<String>,
    /// Former names of renamed files.
    pub renamed_from: Vec<String>,
    /// The subset of `files` that git does not track.
    pub untracked: Vec<String>,
}

/// Reads `git status --porcelain=v2 --branch -z`.
pub fn status(output: &[u8]) -> WorktreeStatus {
    let mut found = WorktreeStatus::default();
    let mut entries = entries(output);
    while let Some(entry) = entries.next() {
        let (kind, rest) = entry.split_once(' ').unwrap_or((&entry, ""));
        match kind {
            "#" => {
                if let Some(branch) = rest.strip_prefix("branch.head ") {
                    found.branch = (branch != "(detached)").then(|| branch.to_owned());
                }
                if let Some(counts) = rest.strip_prefix("branch.ab +") {
                    found.ahead = counts.split(' ').next().and_then(|number| number.parse().ok());
                }
            }
            // XY, submodule, three modes, two hashes, path.
            "1" => found.files.extend(field(rest, 7)),
            // As before, plus a score. The old path is the next entry.
            "2" => {
                found.files.extend(field(rest, 8));
                found.renamed_from.extend(entries.next());
            }
            // Unmerged: XY, submodule, four modes, three hashes, path.
            "u" => found.files.extend(field(rest, 9)),
            "?" => {
                found.files.push(rest.to_owned());
                found.untracked.push(rest.to_owned());
            }
            _ => {}
        }
    }
    found
}

/// Returns everything after the first `skip` fields; a path may contain spaces.
fn field(text: &str, skip: usize) -> Option<String> {
    text.splitn(skip + 1, ' ').nth(skip).map(str::to_owned)
}

/// One file of a diff.
#[derive(Debug, PartialEq, Eq)]
pub struct Changed {
    /// The path from the top of the worktree.
    pub path: String,
    /// The former path, if the file was renamed.
    pub from: Option<String>,
    /// Number of added lines; 0 for a binary file.
    pub additions: u64,
    /// Number of deleted lines; 0 for a binary file.
    pub deletions: u64,
    /// `added`, `modified`, `deleted` or `renamed`.
    pub status: &'static str,
}

/// Parses `git diff --raw --numstat -z`: first all raw entries, then all numbers, in the same order.
pub fn diff(output: &[u8]) -> Vec<Changed> {
    let mut found: Vec<Changed> = Vec::new();
    let mut entries = entries(output);
    while let Some(entry) = entries.next() {
        if let Some(raw) = entry.strip_prefix(':') {
            let letter = raw.rsplit(' ').next().and_then(|status| status.chars().next()).unwrap_or('M');
            let Some(first) = entries.next() else { break };
            let moved = matches!(letter, 'R' | 'C');
            let (path, from) = if moved { (entries.next().unwrap_or_default(), Some(first)) } else { (first, None) };
            let status = match letter {
                'A' | 'C' => "added",
                'D' => "deleted",
                'R' => "renamed",
                _ => "modified",
            };
            found.push(Changed { path, from: from.filter(|_| letter == 'R'), additions: 0, deletions: 0, status });
            continue;
        }
        // The entry of a renamed file has an empty third field; its two paths are the next entries.
        let mut fields = entry.splitn(3, '\t');
        let (Some(plus), Some(minus), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let path = if path.is_empty() { entries.nth(1).unwrap_or_default() } else { path.to_owned() };
        if let Some(change) = found.iter_mut().find(|change| change.path == path) {
            // A binary file has `-` for both.
            change.additions = plus.parse().unwrap_or(0);
            change.deletions = minus.parse().unwrap_or(0);
        }
    }
    found
}

/// Parses `git log -z --format=%x1e%H%x1f%s --name-only`: for each commit its hash, the subject of its message, and its
/// files.
pub fn log(output: &[u8]) -> Vec<(String, String, Vec<String>)> {
    let text = String::from_utf8_lossy(output);
    let commit = |part: &str| {
        let mut entries = part.split('\0');
        let (sha, message) = entries.next()?.split_once('\x1f')?;
        let files = entries
            .map(|file| file.trim_start_matches('\n'))
            .filter(|file| !file.is_empty())
            .map(str::to_owned)
            .collect();
        Some((sha.to_owned(), message.trim_end_matches('\n').to_owned(), files))
    };
    text.split('\x1e').filter_map(commit).collect()
}

fn entries(output: &[u8]) -> impl Iterator<Item = String> + '_ {
    output
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
        .map(|entry| String::from_utf8_lossy(entry).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_fields_whatever_the_names_are() {
        let zeros = "0".repeat(40);
        let text = format!(
            "# branch.oid {zeros}\0# branch.head feature/x\0# branch.upstream origin/main\0\
             1 .M N... 100644 100644 100644 {zeros} {zeros} foo.go\0\
             1 M. N... 100644 100644 100644 {zeros} {zeros} with two spaces.rs\0\
             2 R. N... 100644 100644 100644 {zeros} {zeros} R100 new name.rs\0old name.rs\0\
             u UU N... 100644 100644 100644 100644 {zeros} {zeros} {zeros} both.rs\0\
             ? new dir/file\0? 日本\0! ignored\0"
        );
        let found = status(text.as_bytes());
        assert_eq!(found.branch.as_deref(), Some("feature/x"));
        assert_eq!(found.files, ["foo.go", "with two spaces.rs", "new name.rs", "both.rs", "new dir/file", "日本"]);
        assert_eq!(found.renamed_from, ["old name.rs"]);
        assert_eq!(found.untracked, ["new dir/file", "日本"]);
        assert_eq!(status(b"# branch.head (detached)\0"), WorktreeStatus::default());
    }

    #[test]
    fn a_diff_reports_the_kind_and_size_of_each_change() {
        let text = ":100644 100644 1111111 2222222 M\0a b.rs\0:100644 100644 1111111 2222222 R090\0old.rs\0new.rs\0\
                    :100644 000000 1111111 0000000 D\0gone\0:000000 100644 0000000 2222222 A\0logo.png\0\
                    3\t1\ta b.rs\x005\t2\t\0old.rs\0new.rs\x000\t9\tgone\0-\t-\tlogo.png\0";
        let found: Vec<_> = diff(text.as_bytes())
            .into_iter()
            .map(|change| (change.path, change.from, change.additions, change.deletions, change.status))
            .collect();
        let of = |path: &str, from: Option<&str>, plus, minus, status| {
            (path.to_owned(), from.map(str::to_owned), plus, minus, status)
        };
        assert_eq!(
            found,
            [
                of("a b.rs", None, 3, 1, "modified"),
                of("new.rs", Some("old.rs"), 5, 2, "renamed"),
                of("gone", None, 0, 9, "deleted"),
                of("logo.png", None, 0, 0, "added"),
            ]
        );
    }

    #[test]
    fn truncated_and_unknown_entries_are_skipped() {
        for text in ["", "\0\0", "1 .M", "2 R. N...", ":", ":100644", "3\t1", "\x1e", "# branch.head"] {
            assert_eq!(status(text.as_bytes()), WorktreeStatus::default(), "{text:?}");
            assert_eq!(diff(text.as_bytes()), [], "{text:?}");
            assert_eq!(log(text.as_bytes()), [], "{text:?}");
        }
    }
}
