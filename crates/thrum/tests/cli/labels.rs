//! `docs/test-index.md` lists the tests of each case of `docs/security.md` (C1–C40) and of each property of
//! `docs/reliability.md` (P1–P7). A test belongs to a case if its doc comment or the beginning of its name contains the
//! label of the case. A case without tests states the reason in its page.
//!
//! After a change: `UPDATE_DOCS=1 cargo test -p thrum --test cli labels::`

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::common::docs;

/// Tests by label: for each test the path of its file in the repository, and the name of its function.
type Tests = BTreeMap<String, BTreeSet<(String, String)>>;

/// Prefix of the line in a page that states why a case has no tests.
const NOT_OURS: &str = "Not ours: ";

const INTRODUCTION: &str = "\
# Test index

Which tests try each case of [security.md](security.md) and each property of [reliability.md](reliability.md). Generated from the labels in the
descriptions and names of the tests: `UPDATE_DOCS=1 cargo test -p thrum --test cli labels::`. Where a case is not tested, its page
says why.

";

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

/// Returns the labels of a test: those in its doc comment, and those at the beginning of its name.
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

/// Formats the tests of one case: one line for each file, with a link to it.
fn listed(tests: &BTreeSet<(String, String)>) -> String {
    let mut by_file: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    tests.iter().for_each(|(file, name)| by_file.entry(file).or_default().push(name));
    let files = by_file.iter().map(|(file, names)| {
        let shown = file.strip_prefix("crates/").unwrap_or(file);
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        format!("* [{shown}](../{file}): {}\n", names.join(", "))
    });
    files.collect()
}

/// Returns the cases that have a heading in a page, each with its title, and `true` if the page states why it is not
/// tested.
fn cases(page: &str) -> Vec<(String, String, bool)> {
    let mut cases: Vec<(String, String, bool)> = Vec::new();
    for line in page.lines() {
        if let Some((label, title)) = line.strip_prefix("### ").and_then(|heading| heading.split_once(". "))
            && is_label(label)
        {
            cases.push((label.to_owned(), title.to_owned(), false));
        } else if let Some((_, _, not_ours)) = cases.last_mut().filter(|_| line.starts_with(NOT_OURS)) {
            *not_ours = true;
        }
    }
    cases
}

/// Formats the index of one page: every case with its tests.
fn index(page: &str, prefix: char, number: u32, tests: &Tests) -> String {
    let cases = cases(&fs::read_to_string(root().join("docs").join(page)).unwrap());
    let labels: Vec<&str> = cases.iter().map(|(label, ..)| label.as_str()).collect();
    let all: Vec<String> = (1..=number).map(|n| format!("{prefix}{n}")).collect();
    assert_eq!(labels, all, "docs/{page} has a heading for each, in order");
    let section = |(label, title, not_ours): &(String, String, bool)| {
        let found = tests.get(label);
        assert!(found.is_some() || *not_ours, "no test carries {label}, and docs/{page} does not say why");
        found.map(|found| format!("### {label}. {title}\n\n{}\n", listed(found))).unwrap_or_default()
    };
    cases.iter().map(section).collect()
}

#[test]
fn the_index_lists_the_tests_of_all_forty_cases_and_seven_properties() {
    let tests = all_tests();
    let cases = index("security.md", 'C', 40, &tests);
    let properties = index("reliability.md", 'P', 7, &tests);
    let text =
        format!("{INTRODUCTION}## Cases of security.md\n\n{cases}## Properties of reliability.md\n\n{properties}");
    docs::compare("test-index.md", &format!("{}\n", text.trim_end()));
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
    let found: Vec<_> =
        tests.iter().map(|(label, tests)| (label.as_str(), tests.first().unwrap().1.as_str())).collect();
    assert_eq!(found, [("C1", "again"), ("C2", "c2_c3_it_waits"), ("C3", "c2_c3_it_waits"), ("P7", "again")]);
}
