//! The repository of our own in which objects and tips are kept, and what it exchanges with the remote. Knows bytes and
//! ids of git objects, not what they mean.
//!
//! Layout of its refs: `refs/own/tip` is the tip that this daemon published last, `refs/seen/ID` are the tips of the
//! remote, as of the last fetch.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    GitError,
    error::reason,
    limits,
    mirror::{Mirror, Pushed},
    process::{self, Git, Room, Stop},
};

/// The file in the tree of a tip that holds the manifest.
pub(crate) const MANIFEST: &str = "manifest";

/// The file in the tree of a tip that holds the index.
pub(crate) const INDEX: &str = "index";

/// The tip that this daemon published last.
const OWN: &str = "refs/own/tip";

/// Where the tips of the remote are kept.
const SEEN: &str = "refs/seen/";

/// A push that does what it is told, and nothing else that the user's settings say of pushes.
const PUSH: [&str; 7] =
    ["push", "--porcelain", "--progress", "--no-verify", "--no-follow-tags", "--no-signed", "--no-recurse-submodules"];

/// The part of the remote that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The name of a remote of the user's repository, or a URL.
    pub name: String,
    /// The beginning of the names of all refs: `refs/thrum/`, if nothing else is set.
    pub prefix: String,
}

/// A repository of our own beside the user's.
#[derive(Clone, Debug)]
pub struct Repository {
    git: Git,
    remote: Remote,
    packs: PathBuf,
    /// The most bytes that one fetch may bring.
    most: u64,
    /// The bytes of all packs after the last garbage collection.
    collected: Arc<AtomicU64>,
}

impl Repository {
    /// Opens the repository in `dir`, or creates it. `top` is a worktree or the directory of the user's repository,
    /// whose settings say how to reach the remote.
    ///
    /// # Errors
    /// Git cannot be run or is too old, or the repository cannot be created.
    pub fn open(dir: &Path, top: &Path, remote: Remote, stop: Stop) -> Result<Self, GitError> {
        process::check_version(top, &stop)?;
        let settings = process::settings(top, &stop)?;
        let git = Git::new(dir, top, settings, stop.clone());
        if ["HEAD", "config", "objects", "refs"].iter().any(|part| !dir.join(part).exists()) {
            // Objects can be exchanged only with repositories that use the same hash.
            let format = process::asked(top, &["rev-parse", "--show-object-format"], &stop)?;
            let format = format!("--object-format={}", format.as_deref().map_or("sha1", str::trim));
            let path = PathBuf::from(dir);
            fs::create_dir_all(&path).map_err(GitError::NotRun)?;
            git.local(&["init", "--quiet", "--bare", "--template=", &format], &[])?;
        }
        let packs = dir.join("objects/pack");
        Ok(Self { git, remote, packs, most: limits::MAX_FETCH_BYTES, collected: Arc::default() })
    }

    /// Lets one fetch bring at most so many bytes.
    #[must_use]
    pub fn with_most_per_fetch(mut self, bytes: u64) -> Self {
        self.most = bytes;
        self
    }

    /// Removes the ref of the daemon `id` from the remote. A ref with the tip `except` stays. Returns `true` if one was
    /// removed.
    ///
    /// # Errors
    /// The remote cannot be reached, or refuses; [`GitError::LostLease`] if somebody sets the ref at the same time.
    pub fn remove(&self, id: &str, except: Option<&str>) -> Result<bool, GitError> {
        let tip = self.listed(id)?.remove(id).filter(|tip| Some(tip.as_str()) != except);
        let Some(tip) = tip else { return Ok(false) };
        match self.push_ref(id, "", Some(&tip))? {
            Pushed::Set => Ok(true),
            Pushed::LostLease => Err(GitError::LostLease),
        }
    }

    /// Asks the remote for its refs.
    ///
    /// # Errors
    /// The remote cannot be reached, or refuses.
    pub fn reach(&self) -> Result<(), GitError> {
        self.listed("*").map(drop)
    }

    /// Removes the locks and unfinished packs that a killed process has left. Nobody else may use the repository
    /// meanwhile.
    ///
    /// # Errors
    /// A directory cannot be read, or a lock cannot be removed.
    pub fn remove_locks(dir: &Path) -> Result<(), GitError> {
        remove_unfinished(&dir.join("objects/pack"));
        let mut open = vec![dir.to_owned(), dir.join("refs")];
        while let Some(at) = open.pop() {
            for entry in fs::read_dir(&at).map_err(GitError::NotRun)? {
                let path = entry.map_err(GitError::NotRun)?.path();
                if path.is_dir() && at != dir {
                    open.push(path);
                } else if path.extension().is_some_and(|ending| ending == "lock") {
                    fs::remove_file(&path).map_err(GitError::NotRun)?;
                }
            }
        }
        Ok(())
    }

    /// Reads blobs of known sizes, by their ids.
    fn read_blobs(&self, wanted: &[&(String, usize)]) -> Result<Vec<(String, Vec<u8>)>, GitError> {
        let input: String = wanted.iter().map(|(id, _)| format!("{id}\n")).collect();
        let answer = self.git.local(&["cat-file", "--batch"], input.as_bytes())?;
        let mut rest = &answer[..];
        let mut read = Vec::with_capacity(wanted.len());
        for (id, size) in wanted {
            // A line with id, type and size, the content, a line feed.
            let content = rest.iter().position(|byte| *byte == b'\n').map(|end| &rest[end + 1..]);
            let (blob, after) = content
                .filter(|content| content.len() > *size)
                .map(|content| content.split_at(*size))
                .ok_or_else(|| GitError::Failed { what: "cat-file".into(), why: "an answer is cut off".into() })?;
            read.push((id.clone(), blob.to_vec()));
            rest = &after[1..];
        }
        Ok(read)
    }

    /// Sets the ref of a daemon from `before` to a tip, or removes it if `tip` is empty.
    fn push_ref(&self, id: &str, tip: &str, before: Option<&str>) -> Result<Pushed, GitError> {
        let reference = format!("{}{id}", self.remote.prefix);
        // An empty expected value says that the ref must not exist.
        let lease = format!("--force-with-lease={reference}:{}", before.unwrap_or_default());
        let refspec = format!("{tip}:{reference}");
        let args = [&PUSH[..], &[&lease, "--", &self.remote.name, &refspec]].concat();
        let output = self.git.remote(&args)?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let rejected = printed.lines().find(|line| line.starts_with('!'));
        match rejected {
            Some(line) if is_lost_lease(line) || is_lost_lease(&output.stderr) => Ok(Pushed::LostLease),
            Some(line) => {
                let why = line.rsplit('\t').next().unwrap_or_default();
                let said = reason(&output.stderr);
                Err(GitError::Rejected { reference, why: format!("{why}; {said}") })
            }
            None if output.status.success() => Ok(Pushed::Set),
            None => Err(GitError::failed(&args, &output)),
        }
    }

    /// Fetches refs, each given as a refspec, and forgets what `--prune` forgets.
    fn fetch_refs(&self, refspecs: &[String]) -> Result<(), GitError> {
        let mut args = vec![
            "fetch",
            "--progress",
            "--no-tags",
            "--prune",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-write-commit-graph",
            "--no-recurse-submodules",
            "--",
            &self.remote.name,
        ];
        args.extend(refspecs.iter().map(String::as_str));
        let room = Room { dir: self.packs.clone(), most: bytes_of(&self.packs).saturating_add(self.most) };
        let fetched = match self.git.fetch(&args, room) {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => GitError::failed(&args, &output),
            Err(error) => error,
        };
        remove_unfinished(&self.packs);
        Err(fetched)
    }

    /// The tips on the remote, by daemon, whose ids match a pattern.
    fn listed(&self, pattern: &str) -> Result<BTreeMap<String, String>, GitError> {
        let args = ["ls-remote", "--refs", "--", &self.remote.name, &format!("{}{pattern}", self.remote.prefix)];
        let output = self.git.remote(&args)?;
        if !output.status.success() {
            return Err(GitError::failed(&args, &output));
        }
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let read = |line: &str| {
            let (tip, name) = line.split_once('\t')?;
            Some((name.strip_prefix(&self.remote.prefix)?.to_owned(), tip.to_owned()))
        };
        Ok(printed.lines().filter_map(read).collect())
    }

    fn id(&self, args: &[&str], input: &[u8]) -> Result<String, GitError> {
        let id = String::from_utf8_lossy(&self.git.local(args, input)?).trim().to_owned();
        Ok(id)
    }
}

impl Mirror for Repository {
    fn fetch(&self, only: Option<&BTreeSet<String>>) -> Result<usize, GitError> {
        let refspec = |id: &str| format!("+{}{id}:{SEEN}{id}", self.remote.prefix);
        let Some(only) = only else { return self.fetch_refs(&[refspec("*")]).map(|()| 0) };
        let listed = self.listed("*")?;
        // A ref that is named exactly must exist, and pruning covers patterns only.
        for gone in self.tips()?.keys().filter(|id| !only.contains(*id) || !listed.contains_key(*id)) {
            self.git.local(&["update-ref", "-d", &format!("{SEEN}{gone}")], &[])?;
        }
        let refspecs: Vec<String> = listed.keys().filter(|id| only.contains(*id)).map(|id| refspec(id)).collect();
        if !refspecs.is_empty() {
            self.fetch_refs(&refspecs)?;
        }
        Ok(listed.keys().filter(|id| !only.contains(*id)).count())
    }

    fn tips(&self) -> Result<BTreeMap<String, String>, GitError> {
        let listed = self.git.local(&["for-each-ref", "--format=%(refname) %(objectname)", SEEN], &[])?;
        let read = |line: &str| {
            let (name, tip) = line.split_once(' ')?;
            Some((name.strip_prefix(SEEN)?.to_owned(), tip.to_owned()))
        };
        Ok(String::from_utf8_lossy(&listed).lines().filter_map(read).collect())
    }

    fn own_tip(&self) -> Result<Option<String>, GitError> {
        let listed = self.git.local(&["for-each-ref", "--format=%(objectname)", OWN], &[])?;
        let tip = String::from_utf8_lossy(&listed).trim().to_owned();
        Ok(Some(tip).filter(|tip| !tip.is_empty()))
    }

    fn set_own_tip(&self, tip: &str) -> Result<(), GitError> {
        self.git.local(&["update-ref", OWN, tip], &[]).map(drop)
    }

    fn blobs(&self, names: &[String], most: usize) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let input: String = names.iter().map(|name| format!("{name}\n")).collect();
        let checked = self.git.local(&["cat-file", "--batch-check"], input.as_bytes())?;
        let checked = String::from_utf8_lossy(&checked).into_owned();
        let blob = |line: &str| {
            let mut words = line.split(' ');
            let (id, kind, size) = (words.next()?, words.next()?, words.next()?.parse::<usize>().ok()?);
            (kind == "blob" && size <= most).then(|| (id.to_owned(), size))
        };
        let blobs: Vec<Option<(String, usize)>> = checked.lines().map(blob).collect();
        if blobs.len() != names.len() {
            return Err(GitError::Failed { what: "cat-file".into(), why: "an answer is missing".into() });
        }
        let mut read = BTreeMap::new();
        let mut wanted: Vec<&(String, usize)> = blobs.iter().flatten().collect();
        while !wanted.is_empty() {
            // One answer is not longer than what is kept of an output.
            let mut bytes = 0;
            let fit = wanted.iter().take_while(|(_, size)| {
                bytes += size + 128;
                bytes <= limits::MAX_OUTPUT_BYTES
            });
            let rest = wanted.split_off(fit.count().max(1));
            read.extend(self.read_blobs(&wanted)?);
            wanted = rest;
        }
        Ok(blobs.into_iter().map(|blob| blob.and_then(|(id, _)| read.get(&id).cloned())).collect())
    }

    fn write_blob(&self, bytes: &[u8]) -> Result<String, GitError> {
        self.id(&["hash-object", "-w", "--stdin"], bytes)
    }

    fn write_commit(&self, files: &[(&str, &str)], parents: &[String]) -> Result<String, GitError> {
        let entries: String = files.iter().map(|(name, blob)| format!("100644 blob {blob}\t{name}\n")).collect();
        let tree = self.id(&["mktree"], entries.as_bytes())?;
        let mut args = vec!["commit-tree", &tree];
        parents.iter().for_each(|parent| args.extend(["-p", parent]));
        self.id(&args, &[])
    }

    fn push(&self, id: &str, tip: &str, before: Option<&str>) -> Result<Pushed, GitError> {
        self.push_ref(id, tip, before)
    }

    fn collect_garbage(&self) -> Result<u64, GitError> {
        let collected = self.collected.load(Ordering::Relaxed);
        let grown = bytes_of(&self.packs).saturating_sub(collected);
        // Git counts packs, and these may be large: somebody who pushes may replace a large ref again and again.
        let when: &[&str] = if grown > limits::GROWN_BYTES.saturating_add(collected) { &[] } else { &["--auto"] };
        self.git.local(&[&["gc", "--quiet", "--prune=now"], when].concat(), &[])?;
        let kept = bytes_of(&self.packs);
        if when.is_empty() || kept < collected {
            self.collected.store(kept, Ordering::Relaxed);
        }
        Ok(kept)
    }
}

/// The bytes of the files in a directory; 0 if it cannot be read, as while it is replaced.
pub(crate) fn bytes_of(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Removes the parts of packs that processes have left which were ended, or found no more room. `git gc --auto` does not
/// count them. What stays costs room only.
fn remove_unfinished(packs: &Path) {
    for entry in fs::read_dir(packs).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if [&b"tmp_"[..], b".tmp-"].iter().any(|begin| name.as_encoded_bytes().starts_with(begin)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns `true` if git says that the ref has another value than expected. The texts are those of git 2.39 and 2.55.
fn is_lost_lease(text: &str) -> bool {
    [
        "stale info",
        "incorrect old value provided",
        "failed to update ref",
        "cannot lock ref",
        "reference already exists",
    ]
    .iter()
    .any(|one| text.contains(one))
}

/// Returns the remote of the user's repository that is meant if none is named: that of the current branch, else
/// `origin`, else the only one. `Err` with the names of all if there are none or several others.
///
/// # Errors
/// Git cannot be run.
pub fn default_remote(top: &Path, stop: &Stop) -> Result<Result<String, Vec<String>>, GitError> {
    let lines = |text: Option<String>| -> Vec<String> {
        text.unwrap_or_default().lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
    };
    let remotes = lines(process::asked(top, &["remote"], stop)?);
    let branch = process::asked(top, &["symbolic-ref", "--quiet", "--short", "HEAD"], stop)?;
    let tracked = match branch.as_deref().map(str::trim) {
        Some(branch) => process::asked(top, &["config", "--get", &format!("branch.{branch}.remote")], stop)?,
        None => None,
    };
    let tracked = tracked.map(|name| name.trim().to_owned()).filter(|name| remotes.contains(name));
    let origin = || remotes.iter().find(|name| *name == "origin").cloned();
    let only = || if let [only] = &remotes[..] { Some(only.clone()) } else { None };
    Ok(tracked.or_else(origin).or_else(only).ok_or(remotes))
}

/// Returns `true` if the user's repository has a remote with this name, or the name is a URL or a path.
///
/// # Errors
/// Git cannot be run.
pub fn is_remote(top: &Path, name: &str, stop: &Stop) -> Result<bool, GitError> {
    let is_address = name.contains('/') || name.contains(':');
    let is_sane = !name.starts_with('-') && !name.chars().any(char::is_control);
    Ok(is_sane && (is_address || process::asked(top, &["remote", "get-url", name], stop)?.is_some()))
}
