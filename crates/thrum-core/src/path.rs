//! File paths as agents exchange them: relative to the top of the worktree, with `/`, the same on every machine. `.` is
//! the whole worktree.

use crate::{Error, ErrorKind, limits, name};

/// The path of the whole worktree.
pub const ALL: &str = ".";

/// Normalises a path: removes `.`, repeated and trailing slashes.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a path that is empty or absolute, contains `..`, or is longer than
/// [`limits::MAX_TEXT_BYTES`].
pub fn normal(path: &str) -> Result<String, Error> {
    let wrong = |why: &str| {
        Error::new(ErrorKind::Invalid, format!("not a path in the worktree: {} {why}", name::printable(path)))
    };
    if path.is_empty() || path.len() > limits::MAX_TEXT_BYTES {
        return Err(Error::new(ErrorKind::Invalid, format!("a path has 1 to {} bytes", limits::MAX_TEXT_BYTES)));
    }
    if path.starts_with('/') {
        return Err(wrong("is absolute"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    match () {
        () if parts.contains(&"..") => Err(wrong("has `..` in it")),
        () if parts.is_empty() => Ok(ALL.to_owned()),
        () => Ok(parts.join("/")),
    }
}

/// Returns `true` if a path equals `wanted` or lies in the directory `wanted`.
pub fn is_within(path: &str, wanted: &str) -> bool {
    wanted == ALL
        || path.strip_prefix(wanted.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns `true` if one of two paths equals or contains the other.
pub fn overlap(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_normalized_and_stays_in_the_worktree() {
        for (given, normal_form) in
            [("src//a.rs", "src/a.rs"), ("./src/", "src"), (".", "."), ("a b/é", "a b/é"), ("..a/b..", "..a/b..")]
        {
            assert_eq!(normal(given).as_deref(), Ok(normal_form), "{given}");
        }
        for wrong in ["", "/etc/passwd", "../x", "a/../../x", "a/..", &"x".repeat(5000)] {
            assert!(normal(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_directory_overlaps_with_its_content_but_not_with_a_common_prefix() {
        for (one, other, expected) in [
            ("src", "src/a.rs", true),
            (".", "src/a.rs", true),
            ("src/a.rs", "src/a.rs", true),
            ("src", "src2/a.rs", false),
            ("src/a.rs", "src/b.rs", false),
        ] {
            assert_eq!((overlap(one, other), overlap(other, one)), (expected, expected), "{one} {other}");
        }
    }
}
