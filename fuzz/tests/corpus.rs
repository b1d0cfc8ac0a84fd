//! Replays the corpus that the fuzzer has left, and mutations of it, without a fuzzer.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

use thrum_fuzz::{TARGETS, Target};

/// Number of mutated copies of each file.
const CHANGED: u32 = 8;

/// A random number generator with the same sequence in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

/// Input that breaks parsers: ends of strings and lines, signs, escapes, partial characters, numbers beyond their
/// bounds.
const WORDS: [&[u8]; 16] = [
    b"\"",
    b"\\",
    b"\n",
    b"\0",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"-1",
    b"1e400",
    b"\\ud800",
    b"\xff",
    b"18446744073709551616",
    b"'",
    b"\x1b[2J",
];

fn changed(bytes: &[u8], others: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(3) {
        let (at, to) = (numbers.below(bytes.len() + 1), numbers.below(bytes.len() + 1));
        let (from, to) = (at.min(to), at.max(to));
        match numbers.below(6) {
            0 => drop(bytes.drain(from..to)),
            1 => bytes.truncate(to),
            2 => drop(bytes.splice(from..from, WORDS[numbers.below(WORDS.len())].iter().copied())),
            3 if from < bytes.len() => bytes[from] ^= 1 << numbers.below(8),
            4 => {
                let piece = bytes[from..to].to_vec();
                drop(bytes.splice(from..from, piece));
            }
            _ => {
                let other = &others[numbers.below(others.len())];
                let cut = numbers.below(other.len() + 1);
                bytes.truncate(from);
                bytes.extend_from_slice(&other[cut..]);
            }
        }
    }
    bytes
}

fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Calls the target. If it panics, prints the bytes that reproduce the panic.
fn call(target: Target, what: &str, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        eprintln!("{what}: {}", bytes.escape_ascii());
        resume_unwind(panic);
    }
}

/// C18 and all properties of the targets hold for the corpus and for its mutations.
fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(known, _)| *known == name).unwrap();
    let files = corpus(name);
    assert!(!files.is_empty() && files.len() <= 200, "{name}: {} files", files.len());
    let size: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(size <= 300 << 10, "{name}: {size} bytes, more than a repository should carry: minimise it");
    let all: Vec<Vec<u8>> = files.iter().map(|(_, bytes)| bytes.clone()).collect();
    let mut numbers = Numbers(1);
    for (file, bytes) in &files {
        call(target, &format!("corpus/{name}/{file}"), bytes);
        for n in 0..CHANGED {
            let bytes = changed(bytes, &all, &mut numbers);
            call(target, &format!("corpus/{name}/{file}, change {n}"), &bytes);
        }
    }
}

#[test]
fn c18_encrypted() {
    replay("encrypted");
}

#[test]
fn c36_env_file() {
    replay("env_file");
}

#[test]
fn c18_event() {
    replay("event");
}

#[test]
fn c29_fold() {
    replay("fold");
}

#[test]
fn c19_peer_reply() {
    replay("peer_reply");
}

#[test]
fn c18_peer_request() {
    replay("peer_request");
}

#[test]
fn c13_peers_json() {
    replay("peers_json");
}

#[test]
fn c18_rpc_line() {
    replay("rpc_line");
}

/// A target without a corpus, or a corpus without a target, is an oversight.
#[test]
fn every_target_has_a_corpus_and_a_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |directory: &str| {
        let entries = fs::read_dir(root.join(directory)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let targets = TARGETS.map(|(name, _)| name.to_owned());
    assert_eq!(names("corpus"), targets);
    assert_eq!(names("fuzz_targets"), targets);
}
