//! `thrum peer join`: the other half of `peer add`. Input that is visibly wrong is rejected before anything is sent,
//! because a wrong code costs one of the three tries that the other side allows.

use std::{
    io::{self, BufRead, IsTerminal, Read},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits};
use thrum_sync::transport::Node;

use crate::{
    answers::{self, Answer},
    client::Client,
    commands::peer::{
        add::{Joined, PLAIN},
        typed::{self, Typed},
    },
    context::Context,
    render::{Page, Render},
    text::quote,
};

/// Join a daemon that waits in `thrum peer add`; prompts for its code
#[derive(Debug, clap::Args)]
#[command(after_help = "\
An address is IP:PORT or the name of a tailnet node, with or without a port. Without an address, the nodes of the \
tailnet (or, without a tailnet, this machine) are searched for daemons that wait in `thrum peer add`. Go Thrum is \
not found this way, so give its address. A code alone joins the only waiting daemon. The code is not sent: both \
sides prove that they know it. Only Go Thrum must be sent the code, which lets the receiver use it; this requires \
confirmation or --plain. The line that Go Thrum prints, with its --peercode and --type, can be pasted unchanged. \
With --json and empty standard input, the waiting daemons are listed. Without a terminal, the code is read from \
standard input: echo 7392 | thrum peer join 127.0.0.1:9100

Examples:
  thrum peer join 127.0.0.1:9100
  echo 7392 | thrum peer join 127.0.0.1:9100")]
pub(crate) struct Args {
    /// The address or name, or the whole line that `thrum peer add` printed [default: search for waiting daemons]
    #[arg(value_name = "ADDRESS", num_args = 0..=MOST_WORDS)]
    target: Vec<String>,
    /// Send the code if the other daemon cannot be joined otherwise (Go Thrum)
    #[arg(long)]
    plain: bool,
    /// Go Thrum's way to give NAME:IP:PORT:CODE; `-` reads it from standard input
    #[arg(long, value_name = "PEERCODE", hide = true)]
    peercode: Option<String>,
    /// Go Thrum's way to say how the other side is reached; here the address says that
    #[arg(long = "type", value_name = "TYPE", hide = true)]
    kind: Option<String>,
}

/// Maximum number of words of a target: the pasted command, an address, and a code in two halves.
const MOST_WORDS: usize = 6;

impl Args {
    /// Parses the target on the command line, if one was given.
    fn typed(&self) -> Result<Option<Typed>, Error> {
        self.kind.as_deref().map_or(Ok(()), typed::check_type)?;
        let words: Vec<&str> =
            self.peercode.iter().filter(|code| *code != "-").chain(&self.target).map(String::as_str).collect();
        if words.is_empty() { Ok(None) } else { Typed::read(&words.join(" ")).map(Some) }
    }
}

/// The answer to `peer.waiting`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WaitingDaemons {
    daemons: Vec<WaitingDaemon>,
    asked: usize,
    not_asked: usize,
}

/// A daemon that waits to be joined.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct WaitingDaemon {
    name: String,
    address: String,
    node: Option<Node>,
}

/// The answer to `peer.look`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Listener {
    address: String,
    node: Option<Node>,
    /// `plain` if the code would have to be transmitted.
    pairing: String,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<JoinResult, Error> {
    let typed = args.typed()?.unwrap_or_default();
    if typed.code.is_some() {
        cx.output.warn("a code on the command line can be read in the list of processes and in the shell's history");
    }
    // Connect before asking for the code: the user should not learn only afterwards that it cannot be used.
    let mut client = cx.daemon()?;
    let target = match typed {
        Typed { address: Some(address), code } => Target { address, code, found: false },
        Typed { address: None, code } => match choose(&mut client, cx, code)? {
            Chosen::Target(target) => target,
            Chosen::List(found) => return Ok(JoinResult::Waiting(found)),
        },
    };
    // `--plain` does not apply to a daemon that was only found waiting: the user has not named it as the recipient of
    // the code.
    let Way { address, plain } = way(&mut client, cx, target.address, args.plain && !target.found)?;
    let code = match target.code {
        Some(code) => code,
        None => typed::read_code(&answer(cx, ENTER_CODE, "the pairing code")?)?,
    };
    let within = TO_LOOK + limits::JOIN_DIAL + limits::PAIR + limits::PAIR + limits::FIRST_EXCHANGE;
    let mut params = json!({"address": address, "code": code});
    if plain {
        params["plain"] = true.into();
    }
    // Count the tries here: a man in the middle could keep claiming that tries are left, and would get a guess with
    // each code that is typed.
    let mut tries = 1;
    loop {
        let progress = cx.output.progress("Pairing", None);
        let paired = client.call_within(within, "peer.join", params.clone());
        drop(progress);
        match paired {
            Ok(paired) => return Ok(JoinResult::Joined(Joined::new(paired, false, cx))),
            // A user at a terminal has mistyped the code, and may use the remaining tries.
            Err(error) if tries < limits::PAIRING_TRIES && may_try_again(&error) && io::stdin().is_terminal() => {
                tries += 1;
                cx.output.error(&error);
                params["code"] = typed::read_code(&answer(cx, ENTER_CODE, "the pairing code")?)?.into();
            }
            Err(error) => return Err(error),
        }
    }
}

/// Time limit for finding out which daemon answers at an address.
const TO_LOOK: Duration = limits::TAILNET_UP
    .saturating_add(limits::PROBE_ALL)
    .saturating_add(limits::JOIN_DIAL)
    .saturating_add(limits::PROBE_TO_JOIN);

/// The address to join. `plain` is `true` if the code may be sent to it.
struct Way {
    address: String,
    plain: bool,
}

/// Determines whether the code may be sent. If the other daemon cannot be joined otherwise, a user at a terminal is
/// shown the recipient and asked, before the prompt for the code. Without a terminal, our daemon refuses to send the
/// code unless `--plain` is given.
fn way(client: &mut Client, cx: &Context, address: String, plain: bool) -> Result<Way, Error> {
    if plain || !cx.output.can_ask() {
        return Ok(Way { address, plain });
    }
    let progress = cx.output.progress("Looking up the address", None);
    let there: Answer<Listener> = client.call_within(TO_LOOK, "peer.look", json!({"address": address}))?;
    drop(progress);
    // Use this address from here on, even if the name resolves to another one later.
    let Listener { address, node, pairing } = there.read;
    if pairing != PLAIN {
        return Ok(Way { address, plain });
    }
    let node = node.map(|node| format!("{} at ", answers::node(&node))).unwrap_or_default();
    let whom = format!("{node}{}", quote(&address));
    cx.output.note(&format!("{whom} is no daemon of this version: it has to be sent the code, which it can use."));
    let said = answer(cx, &format!("Send the code to {whom}? [y/N] "), "the answer")?;
    if !matches!(said.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Err(Error::new(ErrorKind::Refused, "not joined; nothing was sent")
            .hint("`thrum peer add` shows the address to join."));
    }
    Ok(Way { address, plain: true })
}

/// The result of `thrum peer join`.
pub(crate) enum JoinResult {
    Joined(Joined),
    /// The waiting daemons, for a program that gave no input.
    Waiting(Answer<WaitingDaemons>),
}

impl Render for JoinResult {
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
    List(Answer<WaitingDaemons>),
}

/// The address to join, and the code if it is already known.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: String,
    code: Option<String>,
    /// `true` if the daemon was found waiting, not named by the user.
    found: bool,
}

impl Target {
    fn found(daemon: &WaitingDaemon, code: Option<String>) -> Self {
        Self { address: daemon.address.clone(), code, found: true }
    }
}

/// Chooses the daemon to join if the command line names none. At a terminal, the user chooses among the waiting
/// daemons. Without one, standard input names the daemon; with `--json` and no input, the waiting daemons are listed. A
/// code without an address is for the only daemon that waits.
fn choose(client: &mut Client, cx: &Context, code: Option<String>) -> Result<Chosen, Error> {
    let look = |client: &mut Client| -> Result<Answer<WaitingDaemons>, Error> {
        let progress = cx.output.progress("Looking for waiting daemons", None);
        let found = client.call_within(limits::TAILNET_UP + limits::PROBE_ALL, "peer.waiting", json!({}));
        drop(progress);
        found
    };
    let only = |found: &WaitingDaemons, code: String| match found.daemons.as_slice() {
        [only] => Ok(Chosen::Target(Target::found(only, Some(code)))),
        _ => Err(nobody_named(found)),
    };
    if !cx.output.can_ask() {
        if let Some(code) = code {
            return only(&look(client)?.read, code);
        }
        let mut line = String::new();
        return match io::stdin().lock().take(MOST_LINE).read_line(&mut line) {
            Ok(length) if length > 0 => match Typed::read(&line)? {
                Typed { address: Some(address), code } => Ok(Chosen::Target(Target { address, code, found: false })),
                Typed { code, .. } => only(&look(client)?.read, code.unwrap_or_default()),
            },
            _ if cx.output.is_json() => look(client).map(Chosen::List),
            _ => Err(nobody_named(&look(client)?.read)),
        };
    }
    ask_which(&look(client)?.read, code, cx).map(Chosen::Target)
}

/// Offers the waiting daemons at a terminal.
fn ask_which(found: &WaitingDaemons, mut code: Option<String>, cx: &Context) -> Result<Target, Error> {
    if found.not_asked > 0 {
        cx.output
            .note(&format!("{} more nodes were not asked; name the one you mean if it is not here.", found.not_asked));
    }
    match found.daemons.as_slice() {
        [] => cx.output.note("No daemon waits to be joined. Run `thrum peer add` on the other machine."),
        [only] => cx.output.note(&format!("Waiting to be joined: {}", one(only))),
        several => {
            let numbered: Vec<_> =
                several.iter().zip(1..).map(|(daemon, number)| format!("  {number}  {}", one(daemon))).collect();
            cx.output.note(&format!("Waiting to be joined:\n{}", numbered.join("\n")));
        }
    }
    if let ([only], Some(_)) = (found.daemons.as_slice(), &code) {
        return Ok(Target::found(only, code));
    }
    let question = match found.daemons.len() {
        0 => "Address, or the line that the other side shows: ",
        1 => "Press Enter to join it, or type another address: ",
        _ => "Which one? Its number, or another address: ",
    };
    // If several daemons wait, or none, a code does not identify its daemon, so ask once more.
    for _ in 0..2 {
        match pick(answer(cx, question, "the address")?.trim(), &found.daemons)? {
            Picked::Target(target) => return Ok(Target { code: target.code.or(code), ..target }),
            Picked::Code(typed) => code = Some(typed),
        }
    }
    Err(nobody_named(found))
}

/// The user's answer to the question which daemon to join.
#[derive(Debug, PartialEq, Eq)]
enum Picked {
    Target(Target),
    /// A code alone, although not exactly one daemon waits.
    Code(String),
}

/// Interprets the input: a number of the list, an empty line for the only daemon, its code, or an address.
fn pick(said: &str, waiting: &[WaitingDaemon]) -> Result<Picked, Error> {
    let numbered = |number: usize| waiting.get(number.checked_sub(1)?);
    let listed = match (said, waiting) {
        ("", [only]) => Some(only),
        // Four digits are a code.
        (said, _) if said.len() < 4 => said.parse().ok().and_then(numbered),
        _ => None,
    };
    if let Some(daemon) = listed {
        return Ok(Picked::Target(Target::found(daemon, None)));
    }
    Ok(match (Typed::read(said)?, waiting) {
        (Typed { address: Some(address), code }, _) => Picked::Target(Target { address, code, found: false }),
        (Typed { code, .. }, [only]) => Picked::Target(Target::found(only, code)),
        (Typed { code, .. }, _) => Picked::Code(code.unwrap_or_default()),
    })
}

fn nobody_named(found: &WaitingDaemons) -> Error {
    let error = Error::new(ErrorKind::Invalid, "the address is missing");
    match found.daemons.as_slice() {
        [] => error.hint(format!(
            "No daemon waits on the {} asked. On the other machine: thrum peer add. Here: echo 7392 | thrum peer join ADDRESS",
            if found.asked == 1 { "machine".to_owned() } else { format!("{} nodes", found.asked) }
        )),
        [only] => error.hint(format!("{} waits: echo CODE | thrum peer join {}", quote(&only.name), quote(&only.address))),
        several => error.hint(format!("These wait: {}. Give the address of one.", listed(several).replace('\n', "; "))),
    }
}

fn listed(waiting: &[WaitingDaemon]) -> String {
    waiting.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// Describes a waiting daemon: `desk at 100.64.0.2:9100 on tower (ann@example.com)`.
fn one(daemon: &WaitingDaemon) -> String {
    let node = daemon.node.as_ref().map(|node| format!(" on {}", answers::node(node))).unwrap_or_default();
    format!("{} at {}{node}", quote(&daemon.name), quote(&daemon.address))
}

const ENTER_CODE: &str = "Enter pairing code: ";

/// Returns `true` if the other side rejected the code and accepts another one. The message is Go Thrum's.
fn may_try_again(error: &Error) -> bool {
    error.message.starts_with("invalid pairing code (") && !error.message.starts_with("invalid pairing code (0 ")
}

/// Reads one line from the terminal, or else from standard input, without its line end.
fn answer(cx: &Context, question: &str, what: &str) -> Result<String, Error> {
    let line = match cx.output.ask(question) {
        Some(line) => line,
        None => {
            let mut line = String::new();
            // Bounded, because the wrong thing may have been piped in.
            let read = io::stdin().lock().take(MOST_LINE).read_line(&mut line);
            if read.is_err() || line.is_empty() {
                return Err(Error::new(ErrorKind::Invalid, format!("{what} is missing"))
                    .hint("Without a terminal it comes by standard input: echo 7392 | thrum peer join ADDRESS"));
            }
            line
        }
    };
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Longest line read from standard input, in bytes: enough for a name of 255 characters, an address and a code.
const MOST_LINE: u64 = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_daemon_is_chosen_by_number_or_code_and_an_address_always_works() {
        let daemon = |address: &str| WaitingDaemon { name: "x".into(), address: address.into(), node: None };
        let (one, two) = (vec![daemon("100.64.0.2:9100")], vec![daemon("100.64.0.2:9100"), daemon("100.64.0.3:9101")]);
        let target = |address: &str, code: Option<&str>, found| {
            Some(Picked::Target(Target { address: address.to_owned(), code: code.map(str::to_owned), found }))
        };
        let picked = |said: &str, waiting: &[WaitingDaemon]| pick(said, waiting).ok();
        assert_eq!(picked("", &one), target("100.64.0.2:9100", None, true));
        assert_eq!(picked("2", &two), target("100.64.0.3:9101", None, true));
        assert_eq!(picked("", &two), None, "none is meant rather than another");
        assert_eq!(picked("desk", &two), target("desk", None, false));
        assert_eq!(picked("thrum peer join 100.64.0.9:9100", &one), target("100.64.0.9:9100", None, false));
        assert_eq!(picked("73 92", &one), target("100.64.0.2:9100", Some("7392"), true));
        assert_eq!(picked("0002", &two), Some(Picked::Code("0002".to_owned())), "no number of the list");
    }
}
