//! An in-memory remote and its mirrors, with injected faults. Simulations use them, because running git for each of their
//! many exchanges would be too slow.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::{
    GitError,
    mirror::{Mirror, Pushed},
};

/// Bytes of an id, as with SHA-1.
const ID: usize = 20;

/// The most earlier states of the refs that a stale read may show.
const MAX_EARLIER: usize = 8;

/// What happens to the next exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The fetch fails.
    Unreachable,
    /// The fetch shows the refs as they were so many pushes ago.
    Stale(usize),
    /// The push fails, and nothing has changed.
    PushLost,
    /// The push fails, but the ref is set.
    AnswerLost,
}

#[derive(Clone, Debug)]
enum Object {
    Blob(Vec<u8>),
    Commit { files: BTreeMap<String, String>, parents: Vec<String> },
}

type Objects = BTreeMap<String, Object>;

/// The remote.
#[derive(Clone, Debug, Default)]
pub struct MemoryRemote(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    objects: Objects,
    refs: BTreeMap<String, String>,
    /// The refs before each of the last pushes, newest last.
    earlier: Vec<BTreeMap<String, String>>,
}

/// A mirror, which survives the process that uses it: all clones are one.
#[derive(Clone, Debug)]
pub struct MemoryMirror {
    remote: MemoryRemote,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    objects: Objects,
    seen: BTreeMap<String, String>,
    own: Option<String>,
    fault: Fault,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryRemote {
    /// Creates a mirror that has fetched nothing.
    pub fn mirror(&self) -> MemoryMirror {
        MemoryMirror { remote: self.clone(), kept: Arc::default() }
    }

    /// Returns `true` if nobody publishes anything there.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).refs.is_empty()
    }

    /// Deletes a ref, as a `push --mirror` from another clone does.
    pub fn delete(&self, id: &str) {
        lock(&self.0).refs.remove(id);
    }

    /// Removes the objects that no ref needs, as a host does now and then. Stale reads show no earlier state afterwards.
    pub fn collect_garbage(&self) {
        let shared = &mut *lock(&self.0);
        shared.earlier.clear();
        let needed = closure(&shared.objects, shared.refs.values());
        shared.objects.retain(|id, _| needed.contains(id));
    }

    /// All blobs that a ref needs, as they are stored.
    pub fn blobs(&self) -> Vec<Vec<u8>> {
        let shared = lock(&self.0);
        let needed = closure(&shared.objects, shared.refs.values());
        let blob = |id: &String| match shared.objects.get(id) {
            Some(Object::Blob(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        needed.iter().filter_map(blob).collect()
    }
}

impl MemoryMirror {
    /// Sets what happens to the next exchange.
    pub fn fail(&self, fault: Fault) {
        lock(&self.kept).fault = fault;
    }

    fn write(&self, bytes: &[u8], object: Object) -> String {
        let id = HEXLOWER.encode(&Sha256::digest(bytes)[..ID]);
        lock(&self.kept).objects.insert(id.clone(), object);
        id
    }
}

fn failed(what: &str, why: &str) -> GitError {
    GitError::Failed { what: what.to_owned(), why: why.to_owned() }
}

/// The ids of all objects that these need, which may be missing.
fn closure<'a>(objects: &Objects, from: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let (mut needed, mut open) = (BTreeSet::new(), from.cloned().collect::<Vec<String>>());
    while let Some(id) = open.pop() {
        if let Some(Object::Commit { files, parents }) = objects.get(&id).filter(|_| !needed.contains(&id)) {
            open.extend(files.values().chain(parents).cloned());
        }
        needed.insert(id);
    }
    needed
}

/// Copies what these objects need. `Err` if something is missing.
fn copy<'a>(from: &Objects, to: &mut Objects, ids: impl Iterator<Item = &'a String>) -> Result<(), GitError> {
    for id in closure(from, ids) {
        match (to.contains_key(&id), from.get(&id)) {
            (true, _) => {}
            (false, Some(object)) => drop(to.insert(id, object.clone())),
            (false, None) => return Err(failed("pack-objects", "an object is missing")),
        }
    }
    Ok(())
}

impl Mirror for MemoryMirror {
    fn fetch(&self, only: Option<&BTreeSet<String>>) -> Result<usize, GitError> {
        let (shared, kept) = (lock(&self.remote.0), &mut *lock(&self.kept));
        let refs = match kept.fault {
            Fault::Unreachable => {
                kept.fault = Fault::None;
                return Err(failed("fetch", "the remote cannot be reached"));
            }
            Fault::Stale(pushes) => {
                kept.fault = Fault::None;
                shared.earlier.iter().rev().nth(pushes).unwrap_or(&shared.refs)
            }
            _ => &shared.refs,
        };
        let is_wanted = |id: &String| only.is_none_or(|only| only.contains(id));
        let wanted: BTreeMap<String, String> =
            refs.iter().filter(|(id, _)| is_wanted(id)).map(|(id, tip)| (id.clone(), tip.clone())).collect();
        copy(&shared.objects, &mut kept.objects, wanted.values())?;
        let left_out = refs.len() - wanted.len();
        kept.seen = wanted;
        Ok(left_out)
    }

    fn tips(&self) -> Result<BTreeMap<String, String>, GitError> {
        Ok(lock(&self.kept).seen.clone())
    }

    fn own_tip(&self) -> Result<Option<String>, GitError> {
        Ok(lock(&self.kept).own.clone())
    }

    fn set_own_tip(&self, tip: &str) -> Result<(), GitError> {
        lock(&self.kept).own = Some(tip.to_owned());
        Ok(())
    }

    fn blobs(&self, names: &[String], most: usize) -> Result<Vec<Option<Vec<u8>>>, GitError> {
        let kept = lock(&self.kept);
        let blob = |name: &String| {
            let id = match name.split_once(':') {
                Some((commit, path)) => match kept.objects.get(commit)? {
                    Object::Commit { files, .. } => files.get(path)?,
                    Object::Blob(_) => return None,
                },
                None => name,
            };
            match kept.objects.get(id)? {
                Object::Blob(bytes) => Some(bytes.clone()).filter(|bytes| bytes.len() <= most),
                Object::Commit { .. } => None,
            }
        };
        Ok(names.iter().map(blob).collect())
    }

    fn write_blob(&self, bytes: &[u8]) -> Result<String, GitError> {
        Ok(self.write(&[b"blob ", bytes].concat(), Object::Blob(bytes.to_vec())))
    }

    fn write_commit(&self, files: &[(&str, &str)], parents: &[String]) -> Result<String, GitError> {
        let text = format!("commit {files:?} {parents:?}");
        let files = files.iter().map(|(name, id)| ((*name).to_owned(), (*id).to_owned())).collect();
        Ok(self.write(text.as_bytes(), Object::Commit { files, parents: parents.to_vec() }))
    }

    fn push(&self, id: &str, tip: &str, before: Option<&str>) -> Result<Pushed, GitError> {
        let (mut shared, mut kept) = (lock(&self.remote.0), lock(&self.kept));
        let fault = std::mem::take(&mut kept.fault);
        if fault == Fault::PushLost {
            return Err(failed("push", "the connection is gone"));
        }
        let shared = &mut *shared;
        if shared.refs.get(id).map(String::as_str) != before {
            return Ok(Pushed::LostLease);
        }
        copy(&kept.objects, &mut shared.objects, std::iter::once(&tip.to_owned()))?;
        shared.earlier.push(shared.refs.clone());
        if shared.earlier.len() > MAX_EARLIER {
            shared.earlier.remove(0);
        }
        shared.refs.insert(id.to_owned(), tip.to_owned());
        match fault {
            Fault::AnswerLost => Err(failed("push", "the connection is gone")),
            _ => Ok(Pushed::Set),
        }
    }

    fn collect_garbage(&self) -> Result<u64, GitError> {
        let kept = &mut *lock(&self.kept);
        let needed = closure(&kept.objects, kept.seen.values().chain(&kept.own));
        kept.objects.retain(|id, _| needed.contains(id));
        Ok(0)
    }
}
