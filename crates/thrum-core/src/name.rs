//! Names made here: agents, roles, modules and peers.

use crate::{ErrorKind, Fault, limits};

/// Words that address something else than one agent, or that Go Thrum keeps for itself.
const RESERVED: [&str; 6] = ["daemon", "system", "thrum", "all", "broadcast", "everyone"];

/// Accepts `^[a-z0-9_-]{1,64}$`, the names of agents, roles and modules. `what` names it in the error ("agent name").
pub fn check(what: &str, name: &str) -> Result<(), Fault> {
    let refuse = |why: String| Err(Fault::new(ErrorKind::Invalid, format!("invalid {what}: {why}")));
    if name.is_empty() {
        return refuse(format!("{what} is empty"));
    }
    if name.len() > limits::MAX_NAME_BYTES {
        return refuse(format!("{} bytes, at most {} are allowed", name.len(), limits::MAX_NAME_BYTES));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if !name.bytes().all(allowed) {
        // The text is Go Thrum's (recorded): its clients show it.
        return refuse(format!(
            "{what} '{}' contains invalid characters; only lowercase letters (a-z), digits (0-9), underscores (_), and hyphens (-) are allowed",
            printable(name)
        ));
    }
    Ok(())
}

/// Accepts what [`check`] accepts and is no reserved word: the name of an agent.
pub fn check_agent(name: &str) -> Result<(), Fault> {
    check("agent name", name)?;
    if RESERVED.contains(&name) {
        return Err(Fault::new(ErrorKind::Invalid, format!("invalid agent name: '{name}' is reserved"))
            .hint(format!("Choose another name; reserved are {}.", RESERVED.join(", "))));
    }
    Ok(())
}

/// Accepts 1–255 printable characters: the name of a peer, which the peer chose.
pub fn check_peer(name: &str) -> Result<(), Fault> {
    let count = name.chars().count();
    if count == 0 || count > limits::MAX_PEER_NAME_CHARS || !name.chars().all(is_printable) {
        return Err(Fault::new(
            ErrorKind::Invalid,
            format!("invalid peer name: 1 to {} printable characters are allowed", limits::MAX_PEER_NAME_CHARS),
        ));
    }
    Ok(())
}

/// Whether a character can stand on a terminal without moving the cursor, colouring, turning the direction of writing, or
/// hiding from the reader.
pub fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{3164}' | '\u{ffa0}' |
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with everything escaped that is not [printable](is_printable), so that others' words cannot forge lines or
/// drive a terminal. Line breaks and tabs are escaped, too.
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

/// Returns `true` for a name in our alphabet, `^[a-z0-9_-]{1,64}$`.
pub fn is_plain(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    (1..=limits::MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed)
}

/// The name of an agent, role or module as it is shown: as it is if it is [plain](is_plain), else in quotes and in ASCII, so that
/// neither spaces nor letters of another script can pass for something else.
pub fn shown(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { in_quotes(name, |c| c.is_ascii()) }
}

/// The name of a machine as it is shown: as [`shown`], and dots are plain, too.
pub fn shown_machine(name: &str) -> String {
    if is_plain(&name.replace('.', "-")) { name.to_owned() } else { shown(name) }
}

/// A text of others on one line: as it is if it is one word of ASCII letters, digits and `._/+:-` that does not end with a colon,
/// else in quotes, so that a reader sees where it ends.
pub fn quoted(text: &str) -> String {
    let of_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'+' | b':' | b'-');
    if !text.is_empty() && !text.ends_with(':') && text.bytes().all(of_word) { text.to_owned() } else { in_quotes(text, is_printable) }
}

/// A text of others in quotes, also if it is one word.
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
    fn names_are_short_and_plain() {
        for name in ["a", "claude-1", "fix_auth", &"x".repeat(64)] {
            assert_eq!(check_agent(name), Ok(()), "{name}");
        }
        let long = "x".repeat(300);
        for name in ["", "a/b", "..", "../../etc/passwd", "Claude", "a b", "@all", "а", "a\n", &long, "everyone", "system"] {
            let fault = check_agent(name).expect_err(name);
            assert_eq!(fault.kind, ErrorKind::Invalid, "{name}");
        }
    }

    #[test]
    fn what_others_wrote_cannot_drive_a_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\nd é 世"), "a\\u{1b}[2Jb\\u{202e}c\\nd é 世");
        assert_eq!(printable("a\u{61c}b\u{ad}c\u{3164}"), "a\\u{61c}b\\u{ad}c\\u{3164}");
        assert_eq!(check_peer("my-laptop (work)"), Ok(()));
        assert!(check_peer("x\x1b]52;c;aGk=\x07").is_err());
        assert!(check_peer("").is_err());
        assert!(check_peer(&"é".repeat(255)).is_ok());
        assert!(check_peer(&"é".repeat(256)).is_err());
    }
}
