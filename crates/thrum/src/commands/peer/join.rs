//! `thrum peer join`: the other half of `peer add`. What can be seen to be wrong is refused before anything is sent,
//! because a wrong code costs the other side one of three tries.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    net::Ipv6Addr,
};

use serde_json::json;
use thrum_core::{ErrorKind, Fault, limits};

use crate::{commands::peer::add::Joined, context::Context};

/// Join a daemon that waits in `thrum peer add`; asks for its code
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without a terminal the code is read from standard input: echo 7392 | thrum peer join 127.0.0.1:9100

Examples:
  thrum peer join 127.0.0.1:9100
  echo 7392 | thrum peer join 127.0.0.1:9100")]
pub(crate) struct Args {
    /// The address, or the whole line that `thrum peer add` printed; asked for if it is not given
    #[arg(value_name = "ADDRESS", num_args = 0..=4)]
    target: Vec<String>,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Joined, Fault> {
    let on_command_line = !args.target.is_empty();
    let target = match on_command_line {
        true => target(&args.target.join(" "))?,
        false => target(&answer(cx, "Address, or the line that the other side shows: ", "the address")?)?,
    };
    // Before the question: who is asked for a code should not learn only afterwards that it cannot be used.
    let mut client = cx.daemon()?;
    let given = match target.code {
        Some(code) if on_command_line => {
            cx.output.warn("a code on the command line can be read in the list of processes and in the shell's history");
            Some(code)
        }
        code => code,
    };
    let mut code = match given {
        Some(code) => code,
        None => checked(answer(cx, ENTER_CODE, "the pairing code")?)?,
    };
    let within = limits::DIAL + limits::PAIR + limits::FIRST_EXCHANGE;
    loop {
        let progress = cx.output.progress("Pairing", None);
        let paired = client.call_within(within, "peer.join", json!({"address": target.address, "code": code}));
        drop(progress);
        match paired {
            Ok(paired) => return Ok(Joined { paired, with_address: false }),
            // Whoever sits at a terminal mistyped, and may use the tries that are left.
            Err(fault) if may_try_again(&fault) && io::stdin().is_terminal() => {
                cx.output.fault(&fault);
                code = checked(answer(cx, ENTER_CODE, "the pairing code")?)?;
            }
            Err(fault) => return Err(fault),
        }
    }
}

const ENTER_CODE: &str = "Enter pairing code: ";

/// Whether the other side refused the code and takes another one. The words are Go Thrum's.
fn may_try_again(fault: &Fault) -> bool {
    fault.message.starts_with("invalid pairing code (") && !fault.message.starts_with("invalid pairing code (0 ")
}

/// Where to join, and the code if it came with the address.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: String,
    code: Option<String>,
}

/// Understands an address, the line `thrum peer join ADDRESS` in one or several words, and `NAME:IP:PORT:CODE`.
fn target(line: &str) -> Result<Target, Fault> {
    let words: Vec<_> = line.split_whitespace().collect();
    let text = match words.as_slice() {
        ["thrum", "peer", "join", text] | [text] => *text,
        _ => {
            return Err(Fault::new(ErrorKind::Invalid, format!("'{line}' is no address"))
                .hint("Give the address and port, or the line that `thrum peer add` printed on the other side."));
        }
    };
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok(Target { address: text.to_owned(), code: None });
    }
    let mut parts = text.rsplitn(3, ':');
    if let (Some(code), Some(port), Some(front)) = (parts.next(), parts.next(), parts.next())
        && is_code(code)
        && port.parse::<u16>().is_ok()
    {
        // The name may hold anything, so the host is what stands behind its last colon, brackets of IPv6 aside.
        let at = if front.ends_with(']') { front.rfind(":[") } else { front.rfind(':') };
        if let Some(at) = at {
            return Ok(Target { address: format!("{}:{port}", &front[at + 1..]), code: Some(code.to_owned()) });
        }
    }
    Ok(Target { address: text.to_owned(), code: None })
}

/// One line from the terminal, or else from standard input, without its end.
fn answer(cx: &Context, question: &str, what: &str) -> Result<String, Fault> {
    let line = match cx.output.ask(question) {
        Some(line) => line,
        None => {
            let mut line = String::new();
            // What was piped in by mistake need not be read to its end.
            let read = io::stdin().lock().take(MOST_LINE).read_line(&mut line);
            if read.is_err() || line.is_empty() {
                return Err(Fault::new(ErrorKind::Invalid, format!("{what} is missing"))
                    .hint("Without a terminal it comes by standard input: echo 7392 | thrum peer join ADDRESS"));
            }
            line
        }
    };
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Longest line read from standard input: a name of 255 characters, an address and a code have room.
const MOST_LINE: u64 = 2048;

fn checked(code: String) -> Result<String, Fault> {
    if is_code(&code) {
        return Ok(code);
    }
    Err(Fault::new(ErrorKind::Invalid, "a pairing code is four digits, 0-9, without spaces")
        .hint("`thrum peer add` shows it on the other side. Nothing was sent, and no try was used."))
}

fn is_code(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(String, Option<String>)> {
        target(text).ok().map(|target| (target.address, target.code))
    }

    #[test]
    fn an_address_the_pasted_line_and_a_peercode_all_say_where_to_join() {
        let address = |text: &str| Some((text.to_owned(), None));
        assert_eq!(of("127.0.0.1:9100"), address("127.0.0.1:9100"));
        assert_eq!(of("thrum peer join 127.0.0.1:9100"), address("127.0.0.1:9100"));
        assert_eq!(of("  thrum peer join 127.0.0.1:9100 "), address("127.0.0.1:9100"));
        assert_eq!(of("my-laptop"), address("my-laptop"));
        assert_eq!(of("[fd7a::1]:9100"), address("[fd7a::1]:9100"));
        assert_eq!(of("fd7a::1:9100"), address("fd7a::1:9100"));
        assert_eq!(of("laptop:100.64.0.2:9100:0042"), Some(("100.64.0.2:9100".into(), Some("0042".into()))));
        assert_eq!(of("a:b:[fd7a::1]:9100:0042"), Some(("[fd7a::1]:9100".into(), Some("0042".into()))));
        assert_eq!(of("join 127.0.0.1:9100"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn c5_only_four_ascii_digits_are_a_code() {
        assert!(is_code("7392") && is_code("0042"));
        for text in ["42", "４２４２", "７３９２", " 7392", "7392 ", "7 92", "73921", "", "-123", "+123", "1e10"] {
            assert!(!is_code(text), "{text}");
        }
    }
}
