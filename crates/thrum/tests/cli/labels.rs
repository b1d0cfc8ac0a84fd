//! The cases of `docs/security.md` (C1–C40) and the properties of `docs/reliability.md` (P1–P7): each names the tests that carry
//! its label, or says why it is not ours.
//!
//! After a change: `UPDATE_DOCS=1 cargo test -p thrum --test cli labels::`

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::common::docs;

/// Tests by label: the file, below the repository, and the function.
type Tests = BTreeMap<String, BTreeSet<(String, String)>>;

/// What a line of a page begins with that names tests.
const TESTS: &str = "Tests: ";

/// What stands there for a case that has none, followed by the reason.
const NOT_OURS: &str = "Not ours: ";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() && entry.file_name() != "target" {
            sources(&path, found);
        } else if kind.is_file() && path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn is_label(word: &str) -> bool {
    let most = match word.as_bytes().first() {
        Some(b'C') => 40,
        Some(b'P') => 7,
        _ => return false,
    };
    word[1..].parse::<u32>().is_ok_and(|number| (1..=most).contains(&number))
}

/// The labels of a test: those of its description, and those that its name begins with.
fn labels(description: &str, name: &str) -> BTreeSet<String> {
    let described = description.split(|c: char| !c.is_alphanumeric()).filter(|word| is_label(word)).map(str::to_owned);
    let named = name.split('_').map(str::to_uppercase).take_while(|word| is_label(word));
    described.chain(named).collect()
}

fn collect(file: &str, text: &str, tests: &mut Tests) {
    let (mut description, mut is_test) = (String::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            description.push_str(words);
        } else if line.starts_with("#[") {
            is_test |= ["#[test]", "#[tokio::test", "#[rstest"].iter().any(|attribute| line.starts_with(attribute));
        } else {
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let (true, Some(name)) = (is_test, name.and_then(|rest| rest.split(['(', '<']).next())) {
                for label in labels(&description, name) {
                    tests.entry(label).or_default().insert((file.to_owned(), name.to_owned()));
                }
            }
            (description, is_test) = (String::new(), false);
        }
    }
}

fn all_tests() -> Tests {
    let (root, mut files, mut tests) = (root(), Vec::new(), Tests::new());
    for below in ["crates", "fuzz", "tests"] {
        sources(&root.join(below), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        collect(&file.strip_prefix(&root).unwrap().display().to_string(), &text, &mut tests);
    }
    tests
}

/// `[thrum-sync/src/conn.rs](../crates/thrum-sync/src/conn.rs): one, another; …`
fn line(tests: &BTreeSet<(String, String)>) -> String {
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    tests.iter().for_each(|(file, name)| by_file.entry(file).or_default().push(name));
    let files: Vec<String> = by_file
        .iter()
        .map(|(file, names)| {
            let shown = file.strip_prefix("crates/").unwrap_or(file);
            let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("[{shown}](../{file}) {}", names.join(", "))
        })
        .collect();
    format!("{TESTS}{}.", files.join("; "))
}

/// The page with the tests that there are, and the labels that it has a heading for.
fn brought_up_to_date(page: &str, tests: &Tests) -> (String, Vec<String>) {
    let (mut now, mut labels) = (String::new(), Vec::new());
    let mut open: Option<String> = None;
    for text in page.lines() {
        if let Some(heading) = text.strip_prefix("### ") {
            assert_eq!(open, None, "it names no tests and has no reason for that");
            let label = heading.split('.').next().filter(|word| is_label(word)).map(str::to_owned);
            labels.extend(label.clone());
            open = label;
        }
        if text.starts_with(NOT_OURS) {
            open = None;
        }
        if text.starts_with(TESTS) {
            let label = open.take().expect("tests stand below the heading of a case, once");
            let found = tests.get(&label).unwrap_or_else(|| panic!("no test carries {label}, and nothing says why"));
            now.push_str(&line(found));
        } else {
            now.push_str(text);
        }
        now.push('\n');
    }
    assert_eq!(open, None, "it names no tests and has no reason for that");
    (now, labels)
}

fn check(page: &str, prefix: char, number: u32) {
    let tests = all_tests();
    let text = fs::read_to_string(root().join("docs").join(page)).unwrap();
    let (now, labels) = brought_up_to_date(&text, &tests);
    let all: Vec<String> = (1..=number).map(|n| format!("{prefix}{n}")).collect();
    assert_eq!(labels, all, "docs/{page} has a heading for each, in order");
    docs::compare(page, &now);
}

#[test]
fn each_of_the_forty_cases_names_its_tests_or_why_it_has_none() {
    check("security.md", 'C', 40);
}

#[test]
fn each_of_the_seven_properties_names_its_tests() {
    check("reliability.md", 'P', 7);
}

#[test]
fn a_test_has_the_labels_of_its_description_and_of_its_name() {
    let text = "\
        /// C1, P7: over and over.\n#[test]\nfn again() {}\n\
        #[tokio::test(start_paused = true)]\nasync fn c2_c3_it_waits() {}\n\
        /// C4\nfn no_test() {}\n\
        /// C41, P8, XC5, C06x\n#[test]\nfn c_5_none() {}\n";
    let mut tests = Tests::new();
    collect("a.rs", text, &mut tests);
    let found: Vec<_> = tests.iter().map(|(label, tests)| (label.as_str(), tests.first().unwrap().1.as_str())).collect();
    assert_eq!(found, [("C1", "again"), ("C2", "c2_c3_it_waits"), ("C3", "c2_c3_it_waits"), ("P7", "again")]);
}
