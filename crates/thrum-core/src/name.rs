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
