//! `thrum peer join`: the other half of `peer add`. What can be seen to be wrong is refused before anything is sent,
//! because a wrong code costs the other side one of three tries.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    net::Ipv6Addr,
    time::Duration,
};

use serde_json::{Value, json};
use thrum_core::{ErrorKind, Fault, limits, name::printable};

use crate::{
    client::Client,
    commands::peer::add::{Joined, PLAIN},
    context::Context,
    render::{Page, Render},
    shapes::{Answer, Found, Listener, WaitingDaemon},
};

/// Join a daemon that waits in `thrum peer add`; asks for its code
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An address is IP:PORT, the name of a node of the tailnet, or either without a port. Without any, the nodes of the tailnet (without \
one, this machine) are asked who waits in `thrum peer add`; Go Thrum does not answer that, so type its address. The code is not sent: \
both sides prove that they know it. Go Thrum has to be sent it, and whoever gets it can use it; so that is asked first, or takes \
--plain. With --json and \
nothing on standard input, those that wait are listed. Without a terminal the code is read from standard input: \
echo 7392 | thrum peer join 127.0.0.1:9100

Examples:
  thrum peer join 127.0.0.1:9100
  echo 7392 | thrum peer join 127.0.0.1:9100")]
pub(crate) struct Args {
    /// The address or the name, or the whole line that `thrum peer add` printed; without it, who waits is looked for
    #[arg(value_name = "ADDRESS", num_args = 0..=4)]
    target: Vec<String>,
    /// Send the code if the other side cannot be joined otherwise, as Go Thrum cannot
    #[arg(long)]
    plain: bool,
}

pub(crate) fn run(args: Args, cx: &Context) -> Result<Outcome, Fault> {
    let on_command_line = !args.target.is_empty();
    let typed = on_command_line.then(|| target(&args.target.join(" "))).transpose()?;
    // Before the question: who is asked for a code should not learn only afterwards that it cannot be used.
    let mut client = cx.daemon()?;
    let target = match typed {
        Some(target) => target,
        None => match choose(&mut client, cx)? {
            Chosen::Target(target) => target,
            Chosen::List(found) => return Ok(Outcome::Waiting(found)),
        },
    };
    let Way { address, plain } = way(&mut client, cx, target.address, args.plain)?;
    let given = match target.code {
        Some(code) if on_command_line => {
            cx.output.warn("a code on the command line can be read in the list of processes and in the shell's history");
            Some(code)
        }
        code => code,
    };
    let code = match given {
        Some(code) => code,
        None => checked(answer(cx, ENTER_CODE, "the pairing code")?)?,
    };
    let within = TO_LOOK + limits::JOIN_DIAL + limits::PAIR + limits::PAIR + limits::FIRST_EXCHANGE;
    let mut params = json!({"address": address, "code": code});
    if plain {
        params["plain"] = true.into();
    }
    // Whoever is in between could go on saying that tries are left, and each code typed is a guess of his.
    let mut tries = 1;
    loop {
        let progress = cx.output.progress("Pairing", None);
        let paired = client.call_within(within, "peer.join", params.clone());
        drop(progress);
        match paired {
            Ok(paired) => return Ok(Outcome::Joined(Joined::new(paired, false, cx))),
            // Whoever sits at a terminal mistyped, and may use the tries that are left.
            Err(fault) if tries < limits::PAIRING_TRIES && may_try_again(&fault) && io::stdin().is_terminal() => {
                tries += 1;
                cx.output.fault(&fault);
                params["code"] = checked(answer(cx, ENTER_CODE, "the pairing code")?)?.into();
            }
            Err(fault) => return Err(fault),
        }
    }
}

/// Finding out who is there.
const TO_LOOK: Duration =
    limits::TAILNET_UP.saturating_add(limits::PROBE_ALL).saturating_add(limits::JOIN_DIAL).saturating_add(limits::PROBE_TO_JOIN);

/// Where to join, and whether the code may be sent there.
struct Way {
    address: String,
    plain: bool,
}

/// At a terminal it is asked before the code is whether it may be sent, with the name of whom it would go to. Elsewhere nobody
/// can be asked, and the daemon refuses unless `--plain` says so.
fn way(client: &mut Client, cx: &Context, address: String, plain: bool) -> Result<Way, Fault> {
    if plain || !cx.output.can_ask() {
        return Ok(Way { address, plain });
    }
    let progress = cx.output.progress("Looking who is there", None);
    let there: Answer<Listener> = client.call_within(TO_LOOK, "peer.look", json!({"address": address}))?;
    drop(progress);
    // From here on it is that one, whatever a name means later.
    let Listener { address, node, pairing } = there.read;
    if pairing != PLAIN {
        return Ok(Way { address, plain });
    }
    let node = node.map(|node| format!("{} at ", node.shown())).unwrap_or_default();
    let whom = format!("{node}{}", printable(&address));
    cx.output.note(&format!("{whom} is no daemon of this version: it has to be sent the code, and can use it."));
    let said = answer(cx, &format!("Send the code to {whom}? [y/N] "), "the answer")?;
    if !matches!(said.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Err(Fault::new(ErrorKind::Refused, "not joined; nothing was sent").hint("`thrum peer add` shows the address to join."));
    }
    Ok(Way { address, plain: true })
}

/// What came of it.
pub(crate) enum Outcome {
    Joined(Joined),
    /// Who waits, for a program that named nobody.
    Waiting(Answer<Found>),
}

impl Render for Outcome {
    fn human(&self, page: &mut Page) {
        match self {
            Self::Joined(joined) => joined.human(page),
            Self::Waiting(found) => page.line(listed(&found.read.daemons)),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Joined(joined) => joined.json(),
            Self::Waiting(found) => found.raw.clone(),
        }
    }
}

enum Chosen {
    Target(Target),
    List(Answer<Found>),
}

/// Whom to join, if nobody was named: at a terminal whoever waits is offered, elsewhere standard input says it.
fn choose(client: &mut Client, cx: &Context) -> Result<Chosen, Fault> {
    let look = |client: &mut Client| -> Result<Answer<Found>, Fault> {
        let progress = cx.output.progress("Looking for who waits", None);
        let found = client.call_within(limits::TAILNET_UP + limits::PROBE_ALL, "peer.waiting", json!({}));
        drop(progress);
        found
    };
    if !cx.output.can_ask() {
        let mut line = String::new();
        return match io::stdin().lock().take(MOST_LINE).read_line(&mut line) {
            Ok(length) if length > 0 => target(line.trim_end_matches(['\n', '\r'])).map(Chosen::Target),
            _ if cx.output.is_json() => look(client).map(Chosen::List),
            _ => Err(nobody_named(&look(client)?.read)),
        };
    }
    let found = look(client)?.read;
    if found.not_asked > 0 {
        cx.output.note(&format!("{} more nodes were not asked; name the one you mean if it is not here.", found.not_asked));
    }
    match found.daemons.as_slice() {
        [] => cx.output.note("Nobody waits to be joined (`thrum peer add` on the other machine does)."),
        [only] => cx.output.note(&format!("Waiting to be joined: {}", one(only))),
        several => {
            let numbered: Vec<_> = several.iter().zip(1..).map(|(daemon, number)| format!("  {number}  {}", one(daemon))).collect();
            cx.output.note(&format!("Waiting to be joined:\n{}", numbered.join("\n")));
        }
    }
    let question = match found.daemons.len() {
        0 => "Address, or the line that the other side shows: ",
        1 => "Press Enter to join it, or type another address: ",
        _ => "Which one? Its number, or another address: ",
    };
    let said = answer(cx, question, "the address")?;
    pick(said.trim(), &found.daemons).map(Chosen::Target)
}

/// What was meant: a number of the list, nothing for the only one, or an address.
fn pick(said: &str, waiting: &[WaitingDaemon]) -> Result<Target, Fault> {
    let listed = match (said, waiting) {
        ("", [only]) => Some(only),
        (said, _) => said.parse::<usize>().ok().and_then(|number| waiting.get(number.checked_sub(1)?)),
    };
    match listed {
        Some(daemon) => Ok(Target { address: daemon.address.clone(), code: None }),
        None => target(said),
    }
}

fn nobody_named(found: &Found) -> Fault {
    let fault = Fault::new(ErrorKind::Invalid, "the address is missing");
    match found.daemons.as_slice() {
        [] => fault.hint(format!(
            "Nobody waits on the {} asked. On the other machine: thrum peer add. Here: echo 7392 | thrum peer join ADDRESS",
            if found.asked == 1 { "machine".to_owned() } else { format!("{} nodes", found.asked) }
        )),
        [only] => fault.hint(format!("{} waits: echo CODE | thrum peer join {}", printable(&only.name), printable(&only.address))),
        several => fault.hint(format!("These wait: {}. Give the address of one.", listed(several).replace('\n', "; "))),
    }
}

fn listed(waiting: &[WaitingDaemon]) -> String {
    waiting.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// `desk at 100.64.0.2:9100 on tower (ann@example.com)`
fn one(daemon: &WaitingDaemon) -> String {
    let node = daemon.node.as_ref().map(|node| format!(" on {}", node.shown())).unwrap_or_default();
    format!("{} at {}{node}", printable(&daemon.name), printable(&daemon.address))
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
    fn who_waits_is_picked_by_number_or_alone_and_an_address_always_works() {
        let daemon = |address: &str| WaitingDaemon { name: "x".into(), address: address.into(), node: None };
        let (one, two) = (vec![daemon("100.64.0.2:9100")], vec![daemon("100.64.0.2:9100"), daemon("100.64.0.3:9101")]);
        let picked = |said: &str, waiting: &[WaitingDaemon]| pick(said, waiting).ok().map(|target| target.address);
        assert_eq!(picked("", &one).as_deref(), Some("100.64.0.2:9100"));
        assert_eq!(picked("2", &two).as_deref(), Some("100.64.0.3:9101"));
        assert_eq!(picked("", &two), None, "none is meant rather than another");
        assert_eq!(picked("desk", &two).as_deref(), Some("desk"));
        assert_eq!(picked("thrum peer join 100.64.0.9:9100", &one).as_deref(), Some("100.64.0.9:9100"));
    }

    #[test]
    fn c5_only_four_ascii_digits_are_a_code() {
        assert!(is_code("7392") && is_code("0042"));
        for text in ["42", "４２４２", "７３９２", " 7392", "7392 ", "7 92", "73921", "", "-123", "+123", "1e10"] {
            assert!(!is_code(text), "{text}");
        }
    }
}
