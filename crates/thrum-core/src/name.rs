//! Validation and display of names: of agents, roles, modules, peers and machines.

use crate::{Error, ErrorKind, limits};

/// The name that stands for all agents. No agent can have it.
pub const EVERYONE: &str = "everyone";

/// Words that address more than one agent, or that Go Thrum reserves.
const RESERVED: [&str; 6] = ["daemon", "system", "thrum", "all", "broadcast", EVERYONE];

/// Accepts the names of agents, roles and modules: `^[a-z0-9_-]{1,64}$`. `what` is the term used in the error ("agent
/// name").
pub fn check(what: &str, name: &str) -> Result<(), Error> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Invalid, format!("invalid {what}: {why}")));
    if name.is_empty() {
        return refuse(format!("{what} is empty"));
    }
    if name.len() > limits::MAX_NAME_BYTES {
        return refuse(format!("{} bytes, at most {} are allowed", name.len(), limits::MAX_NAME_BYTES));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !name.bytes().all(allowed) {
        // Go Thrum's wording, copied from a recorded answer, because Go Thrum's clients display it.
        return refuse(format!(
            "{what} '{}' contains invalid characters; only lowercase letters (a-z), digits (0-9), underscores (_), and hyphens (-) are allowed",
            printable(name)
        ));
    }
    Ok(())
}

/// Accepts the name of an agent: any name that [`check`] accepts and that is not reserved.
pub fn check_agent(name: &str) -> Result<(), Error> {
    check("agent name", name)?;
    if RESERVED.contains(&name) {
        return Err(Error::new(ErrorKind::Invalid, format!("invalid agent name: '{name}' is reserved"))
            .hint(format!("Choose another name; reserved are {}.", RESERVED.join(", "))));
    }
    Ok(())
}

/// Accepts the name of a peer, which that peer may have chosen itself: 1–255 printable characters.
pub fn check_peer(name: &str) -> Result<(), Error> {
    let count = name.chars().count();
    if count == 0 || count > limits::MAX_PEER_NAME_CHARS || !name.chars().all(is_printable) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("invalid peer name: 1 to {} printable characters are allowed", limits::MAX_PEER_NAME_CHARS),
        ));
    }
    Ok(())
}

/// Returns `true` if a character can be shown on a terminal without moving the cursor, changing colours, reversing the
/// writing direction, or being invisible.
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}' |
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Escapes every character that is not [printable](is_printable), including line breaks and tabs, so that foreign text
/// cannot forge lines or control a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_printable(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// Returns the name with the smallest edit distance to `typed`; `None` if no distance is small. Ignores the case.
pub fn nearest<'a>(typed: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    names
        .map(|known| (strsim::osa_distance(&typed, &known.to_lowercase()), known))
        .filter(|(far, known)| *far <= 1 + known.len() / 3)
        .min()
        .map(|(_, known)| known)
}

/// Returns the machine that `typed` may mean: the only one whose name has `typed` as first or last part, because people
/// call `vm-desk` just `desk`; otherwise the [`nearest`] one.
pub fn nearest_machine<'a>(typed: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    let is_part = |known: &&str| {
        let known = known.to_lowercase();
        let at_start = known.strip_prefix(&typed).is_some_and(|rest| rest.starts_with(['-', '.', '_']));
        at_start || known.strip_suffix(&typed).is_some_and(|rest| rest.ends_with(['-', '.', '_']))
    };
    let mut parts = names.clone().filter(is_part);
    match (parts.next(), parts.next()) {
        (Some(only), None) => Some(only),
        _ => nearest(&typed, names),
    }
}

/// Returns `true` for a name in our alphabet, `^[a-z0-9_-]{1,64}$`.
pub fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=limits::MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

/// Formats the name of an agent, role or module for display: unchanged if it is [plain](is_plain), otherwise quoted and
/// in ASCII, so that neither spaces nor letters of another script can pass for something else.
pub fn shown(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { in_quotes(name, |c| c.is_ascii()) }
}

/// Formats the name of a machine for display like [`shown`], except that dots also count as plain.
pub fn shown_machine(name: &str) -> String {
    if is_plain(&name.replace('.', "-")) { name.to_owned() } else { shown(name) }
}

/// Formats foreign text on one line: unchanged if it is one word of ASCII letters, digits and `._/+:-` that does not
/// end with a colon, otherwise quoted, so that a reader sees where it ends.
pub fn quoted(text: &str) -> String {
    let of_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'+' | b':' | b'-');
    if !text.is_empty() && !text.ends_with(':') && text.bytes().all(of_word) {
        text.to_owned()
    } else {
        in_quotes(text, is_printable)
    }
}

/// Quotes foreign text, even if it is one word.
pub fn always_quoted(text: &str) -> String {
    in_quotes(text, is_printable)
}

fn in_quotes(text: &str, as_it_is: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_printable(c) && as_it_is(c) => out.push(c),
            c => out.extend(c.escape_default()),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for name in ["a", "claude-1", "fix_auth", &"x".repeat(64)] {
            assert_eq!(check_agent(name), Ok(()), "{name}");
        }
        let long = "x".repeat(300);
        for name in
            ["", "a/b", "..", "../../etc/passwd", "Claude", "a b", "@all", "а", "a\n", &long, "everyone", "system"]
        {
            let error = check_agent(name).expect_err(name);
            assert_eq!(error.kind, ErrorKind::Invalid, "{name}");
        }
    }

    #[test]
    fn a_machine_is_suggested_for_a_part_of_its_name_or_a_misspelling() {
        let machines = ["vm-a", "vm-b", "laptop", "desk.office", "MBP16"];
        for (typed, meant) in [
            ("b", Some("vm-b")),
            ("B", Some("vm-b")),
            ("desk", Some("desk.office")),
            ("latpop", Some("laptop")),
            ("top", Some("laptop")),
            ("mpb16", Some("MBP16")),
            ("MPB16", Some("MBP16")),
            ("nowhere", None),
            ("", None),
        ] {
            assert_eq!(nearest_machine(typed, machines.iter().copied()), meant, "{typed}");
        }
        let twins = ["b-vm", "vm-b"];
        assert_eq!(nearest_machine("b", twins.iter().copied()), None, "it may be either");
    }

    #[test]
    fn foreign_text_cannot_control_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\nd é 世"), "a\\u{1b}[2Jb\\u{202e}c\\nd é 世");
        assert_eq!(printable("a\u{61c}b\u{ad}c\u{3164}"), "a\\u{61c}b\\u{ad}c\\u{3164}");
        assert_eq!(check_peer("my-laptop (work)"), Ok(()));
        assert!(check_peer("x\x1b]52;c;aGk=\x07").is_err());
        assert!(check_peer("").is_err());
        assert!(check_peer(&"é".repeat(255)).is_ok());
        assert!(check_peer(&"é".repeat(256)).is_err());
    }
}
