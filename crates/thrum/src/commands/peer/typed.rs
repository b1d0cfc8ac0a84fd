//! Parses what a user types or pastes to join a daemon: an address, a code, or a line printed by `peer add`, ours or Go
//! Thrum's. A wrong code costs one of the three tries that the other side allows, so input that cannot be right is
//! rejected here.

use std::net::Ipv6Addr;

use thrum_core::{Error, ErrorKind, name::printable};

/// An address, a code, or both.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    pub(super) address: Option<String>,
    /// Four digits.
    pub(super) code: Option<String>,
}

impl Typed {
    /// Parses `[thrum peer join] [ADDRESS] [CODE]`, where ADDRESS may be `NAME:IP:PORT:CODE` and a code may contain
    /// spaces. The flags in the line that Go Thrum prints, `--peercode` and `--type`, are accepted, and so is our
    /// `--plain`.
    ///
    /// # Errors
    /// `Invalid` if the line has another form; `Refused` for what only Go Thrum can do.
    pub(super) fn read(line: &str) -> Result<Self, Error> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words.starts_with(&["thrum", "peer", "join"]) {
            words.drain(..3);
        }
        let mut given = Vec::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (flag, value) = word.split_once('=').map_or((word, None), |(flag, value)| (flag, Some(value)));
            match flag {
                "--peercode" => given.extend(value.or_else(|| words.next())),
                "--type" => check_type(value.or_else(|| words.next()).unwrap_or_default())?,
                // A pasted flag has no effect: the user is asked before a code is sent.
                "--plain" => {}
                _ => given.push(word),
            }
        }
        if let Some(code) = code(&given.join(" "))? {
            return Ok(Self { address: None, code: Some(code) });
        }
        match given.as_slice() {
            [place] => read_place(place),
            [place, rest @ ..] => match (read_place(place)?, code(&rest.join(" "))?) {
                (Self { address, code: None }, Some(code)) => Ok(Self { address, code: Some(code) }),
                _ => Err(no_address(line)),
            },
            [] => Err(no_address(line)),
        }
    }
}

/// Parses the answer to a question for the code, which may be a whole pasted line.
///
/// # Errors
/// `Invalid` if it contains no code; otherwise that of [`Typed::read`].
pub(super) fn read_code(line: &str) -> Result<String, Error> {
    if let Some(code) = code(line)? {
        return Ok(code);
    }
    // A pasted line has an address with a colon. Anything else is a mistyped code.
    let pasted = if line.contains(':') { Typed::read(line)?.code } else { None };
    pasted.ok_or_else(|| {
        Error::new(ErrorKind::Invalid, "a pairing code is four digits, 0-9")
            .hint("`thrum peer add` shows it on the other side. Nothing was sent, and no try was used.")
    })
}

/// Checks the value of Go Thrum's `--type`. It is otherwise ignored, because the address determines the transport.
///
/// # Errors
/// `Refused` for the types that have no counterpart here, `Invalid` for an unknown type.
pub(super) fn check_type(kind: &str) -> Result<(), Error> {
    match kind {
        "tailscale" | "tailnet" | "local" => Ok(()),
        "network" => Err(Error::new(
            ErrorKind::Refused,
            "daemons are joined over a tailnet or on one machine, not over a plain network",
        )
        .hint("Run `thrum peer add --type tailscale` on the other side.")),
        "repair" => Err(Error::new(
            ErrorKind::Refused,
            "there is no `--type repair` here: a peer follows its machine by itself",
        )
        .hint("If it does not: `thrum peer remove NAME` on both sides, then pair again.")),
        other => Err(Error::new(ErrorKind::Invalid, format!("unknown type '{}'", printable(other)))
            .hint("Known are tailscale and local; the address decides, so it can be left out.")),
    }
}

fn no_address(line: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("'{}' is no address", printable(line.trim())))
        .hint("Give the address and port, or the line that `thrum peer add` printed on the other side.")
}

fn read_place(text: &str) -> Result<Typed, Error> {
    let alone = |address: &str| Typed { address: Some(address.to_owned()), code: None };
    if text.starts_with('-') {
        return Err(no_address(text));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(alone(text));
    }
    let mut parts = text.rsplitn(3, ':');
    if let (Some(last), Some(port), Some(front)) = (parts.next(), parts.next(), parts.next())
        && port.parse::<u16>().is_ok()
        && let Some(code) = code(last)?
    {
        // The name may contain colons, so the host follows the last colon of the front part, brackets of IPv6 aside.
        let at = if front.ends_with(']') { front.rfind(":[") } else { front.rfind(':') };
        if let Some(at) = at {
            return Ok(Typed { address: Some(format!("{}:{port}", &front[at + 1..])), code: Some(code) });
        }
    }
    Ok(alone(text))
}

/// The labels that this program and Go Thrum print before a code.
const LABELS: [&str; 2] = ["Waiting for connection... Pairing code:", "Pairing code:"];

/// Length of a code of Go Thrum since v0.7.
const GO_DIGITS: usize = 16;

/// Returns the code if `text` is one: four ASCII digits, possibly after a label, with spaces around and between them.
///
/// # Errors
/// `Refused` for a code of a Go Thrum whose pairing protocol is not supported here.
fn code(text: &str) -> Result<Option<String>, Error> {
    let text = text.trim();
    let text = LABELS.iter().find_map(|label| text.strip_prefix(label)).unwrap_or(text);
    let digits: String = text.split_whitespace().collect();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match digits.len() {
        4 => Ok(Some(digits)),
        GO_DIGITS => Err(Error::new(
            ErrorKind::Refused,
            "a code of 16 digits is Go Thrum's since v0.7, which pairs in another way; nothing was sent",
        )
        .hint("Pair with Go Thrum v0.5.9 to v0.6.3, or with a daemon of this version.")),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(Option<String>, Option<String>)> {
        Typed::read(text).ok().map(|typed| (typed.address, typed.code))
    }

    #[test]
    fn an_address_a_pasted_line_and_a_peercode_all_give_the_target() {
        let address = |text: &str| Some((Some(text.to_owned()), None));
        assert_eq!(of("127.0.0.1:9100"), address("127.0.0.1:9100"));
        assert_eq!(of("thrum peer join 127.0.0.1:9100"), address("127.0.0.1:9100"));
        assert_eq!(of("  thrum peer join 127.0.0.1:9100 "), address("127.0.0.1:9100"));
        assert_eq!(of("thrum peer join --plain 127.0.0.1:9100"), address("127.0.0.1:9100"), "our own hint");
        assert_eq!(of("my-laptop"), address("my-laptop"));
        assert_eq!(of("[fd7a::1]:9100"), address("[fd7a::1]:9100"));
        assert_eq!(of("fd7a::1:9100"), address("fd7a::1:9100"));
        let both = |address: &str, code: &str| Some((Some(address.to_owned()), Some(code.to_owned())));
        assert_eq!(of("laptop:100.64.0.2:9100:0042"), both("100.64.0.2:9100", "0042"));
        assert_eq!(of("a:b:[fd7a::1]:9100:0042"), both("[fd7a::1]:9100", "0042"));
        assert_eq!(of("join 127.0.0.1:9100"), None);
        assert_eq!(of(""), None);
        assert_eq!(of("--force 127.0.0.1:9100"), None);
    }

    #[test]
    fn each_line_of_go_thrum_gives_address_and_code() {
        let expected = Some((Some("100.64.0.2:9100".to_owned()), Some("5878".to_owned())));
        for line in [
            "thrum peer join --peercode h1:100.64.0.2:9100:5878",
            "thrum peer join --type tailscale --peercode h1:100.64.0.2:9100:5878",
            "thrum peer join --peercode=h1:100.64.0.2:9100:5878 --type=local",
            "--peercode h1:100.64.0.2:9100:5878",
            "thrum peer join --type tailscale h1:100.64.0.2:9100:5878",
            "h1:100.64.0.2:9100:5878",
            "100.64.0.2:9100 58 78",
        ] {
            assert_eq!(of(line), expected, "{line}");
        }
        for (line, why) in [
            ("thrum peer join --type network --peercode h1:192.168.0.2:9100:5878", "plain network"),
            ("thrum peer join --type repair desk", "repair"),
            ("thrum peer join --type carrier-pigeon h1:100.64.0.2:9100:5878", "unknown type"),
            ("h1:100.64.0.2:9100:1234567890123456", "v0.7"),
        ] {
            let error = Typed::read(line).unwrap_err();
            assert!(error.message.contains(why) && error.hint.is_some(), "{line}: {error}");
        }
    }

    #[test]
    fn c5_four_ascii_digits_are_a_code_with_spaces_around_and_between_and_nothing_else_is() {
        for text in ["7392", " 7392 ", "7392\r", "73 92", "7 3 9 2", "Pairing code: 7392", "h1:127.0.0.1:9100:7392"] {
            assert_eq!(read_code(text).as_deref(), Ok("7392"), "{text}");
            assert!(of(text).is_some_and(|(_, code)| code.as_deref() == Some("7392")), "{text}");
        }
        assert_eq!(read_code("0042").as_deref(), Ok("0042"));
        for text in ["42", "４２４２", "７３９２", "73921", "", " ", "-123", "+123", "1e10", "7392x", "127.0.0.1:9100"]
        {
            assert!(read_code(text).is_err(), "{text}");
        }
        assert!(read_code("1234 5678 9012 3456").unwrap_err().message.contains("v0.7"));
    }
}
