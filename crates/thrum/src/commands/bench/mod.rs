//! `thrum bench`: measures the project's promised figures on this machine, with real daemons.
//!
//! Numbers differ between machines and days, so they are not a test. The report therefore also shows what the machine
//! itself can do: a durable write, SQLite with the same rows, a round trip on a socket, a signature. A figure says
//! something about this program only in relation to those limits.

mod abuse;
mod against;
mod agents;
mod compared;
mod figures;
mod floor;
mod git;
mod hostile;
mod ours;
mod tailnet;
mod wire;
mod work;

use std::path::{Path, PathBuf};

use thrum_core::{Error, ErrorKind};

use self::{
    figures::Figures,
    work::{Agent, Daemon},
};
use crate::{
    commands::demo::{
        latency,
        stage::{self, Stage},
    },
    context::Context,
};

/// Measure speed and memory on this machine, with separate daemons
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Takes about a minute. With --against, the same requests are sent to two other daemons that are paired with each \
other; they get an agent \"bench\" and its messages. With --tailnet, two daemons are paired and one is filled with \
messages, so use daemons that you can delete (see docs/tailscale.md). With --agents, tokens are estimated at four \
bytes each.

Examples:
  thrum bench --messages 500 --events 1000
  thrum bench --messages 500 --events 1000 --json
  thrum bench --agents --messages 100
  thrum bench --git --messages 1000")]
pub(crate) struct Args {
    /// Number of messages to send in all, roughly; the figures after `message.send` are measured with so many stored
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    messages: u32,
    /// Minimum number of events for the catch-up
    #[arg(long, default_value_t = 20_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    events: u64,
    /// Compare with two other daemons, given by the paths of their sockets
    #[arg(long, value_name = "SOCKET_A,SOCKET_B", value_delimiter = ',', num_args = 1)]
    against: Vec<PathBuf>,
    /// Measure replication over a tailnet instead, between two unpaired daemons with a node each, given by the paths of their sockets
    #[arg(long, value_name = "SOCKET_A,SOCKET_B", value_delimiter = ',', num_args = 1, conflicts_with = "against")]
    tailnet: Vec<PathBuf>,
    /// Measure the cost of a hostile peer instead: the duration of `send` for a local agent, and the daemon's memory
    #[arg(long, conflicts_with_all = ["against", "tailnet"])]
    abuse: bool,
    /// Measure the cost for agents instead: bytes and tokens of their input, the time of hooks and MCP calls, and the time until a message reaches a waiting session
    #[arg(long, conflicts_with_all = ["against", "tailnet", "abuse"])]
    agents: bool,
    /// Measure sync through a git remote instead: the first exchange, single messages, and the size of the remote
    #[arg(long, conflicts_with_all = ["against", "tailnet", "abuse", "agents"])]
    git: bool,
    /// Compare with another build of thrum: both builds are measured in turn, and each figure is shown as a ratio
    #[arg(long, value_name = "PATH", conflicts_with_all = ["against", "tailnet", "abuse", "agents", "git"])]
    against_binary: Option<PathBuf>,
    /// Number of measurements of each build
    #[arg(long, default_value_t = 2, value_name = "N", requires = "against_binary", value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: u8,
}

/// Maximum number of messages sent one by one.
const ONE_BY_ONE: usize = 1000;

/// Maximum number of messages sent by eight writers together.
const BY_EIGHT: usize = 8000;

/// Maximum number of messages in the catch-up whose bytes are counted.
const CAUGHT_UP: usize = 10_000;

/// Maximum number of runs of each command.
const COMMANDS: usize = 40;

pub(crate) fn run(args: &Args, cx: &Context) -> Result<Figures, Error> {
    let others = two(&args.against, "--against")?;
    let on_tailnet = two(&args.tailnet, "--tailnet")?;
    let one_by_one = one_by_one(args.messages as usize);
    let step = |what: &str| cx.output.note(&format!("Measuring {what} …"));
    let mut figures = Figures::default();
    if let Some((one, two)) = on_tailnet {
        tailnet::measure((one, two), args.events, one_by_one, &step, &mut figures)?;
        return Ok(figures);
    }
    if args.abuse {
        abuse::measure(&Stage::open("bench")?, &step, &mut figures)?;
        return Ok(figures);
    }
    if args.agents {
        agents::measure(&Stage::open("bench")?, one_by_one, &step, &mut figures)?;
        return Ok(figures);
    }
    if args.git {
        git::measure(&Stage::open("bench")?, args.messages as usize, &step, &mut figures)?;
        return Ok(figures);
    }
    if let Some(other) = &args.against_binary {
        return compared::measure(args, other, &step);
    }
    // Connect first: an unusable socket should be reported at once, not after a minute.
    let others = others.map(|(one, two)| Ok::<_, Error>((Agent::visiting(one)?, Agent::visiting(two)?))).transpose()?;

    let stage = Stage::open("bench")?;
    let (ann, bob) = measure(args, &stage, &stage::this_program()?, &step, &mut figures)?;
    if let Some((one, two)) = &others {
        step("the other daemons");
        against::compare((&ann, &bob), (one, two), one_by_one, &mut figures)?;
    }
    Ok(figures)
}

/// Number of messages that are sent one after the other, if `messages` are sent in all.
fn one_by_one(messages: usize) -> usize {
    (messages / 10).min(ONE_BY_ONE)
}

/// Measures the standard figures with two daemons of `program` on `stage`. Returns an agent of each, while the daemons
/// still run.
fn measure(
    args: &Args,
    stage: &Stage,
    program: &Path,
    step: &dyn Fn(&str),
    figures: &mut Figures,
) -> Result<(Agent, Agent), Error> {
    let (left, right) = (stage.repository_with("left", program)?, stage.repository_with("right", program)?);
    let messages = args.messages as usize;
    let one_by_one = one_by_one(messages);
    step("the start of a daemon");
    left.run(&["quickstart", "--name", "ann", "--role", "writer", "--module", "bench"])?;
    ours::agent(&left, "bea")?;
    figures.times("daemon start, as a whole command", &ours::starts(&left, COMMANDS.min(messages / 100))?);
    figures.memory("memory, idle", ours::memory(&left)?);

    step("messages");
    let ann = Agent::of(&left, "ann", "bea")?;
    let alone = work::send_one_by_one(&ann, one_by_one)?;
    figures.times("message.send, 1 writer", &alone);
    figures.rate(
        "message.send, 8 writers",
        &ours::with_cpu(&left, || work::send_beside(&ann, 8, BY_EIGHT.min(messages / 4) / 8))?,
    );
    let left_over = messages.saturating_sub(one_by_one + BY_EIGHT.min(messages / 4));
    figures.rate(
        "message.send, 50 writers",
        &ours::with_cpu(&left, || work::send_beside(&ann, 50, left_over.div_ceil(50)))?,
    );

    step("commands");
    for command in [
        &["send", "hello", "--to", "@bea"][..],
        &["inbox", "--as", "bea"],
        &["inbox", "--unread", "--as", "bea"],
        &["team"],
        &["status"],
        &["prime"],
    ] {
        let name = command
            .iter()
            .take_while(|word| **word != "--as" && **word != "hello")
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        figures.times(&format!("thrum {name}"), &ours::commands(&left, command, COMMANDS.min(messages / 20))?);
    }
    let stored = ours::health(&left)?.messages;
    figures.memory(&format!("memory, {stored} messages stored"), ours::memory(&left)?);
    figures.disk(stored, ours::bytes_on_disk(&left)?);

    step("catch-up");
    right.run(&["quickstart", "--name", "bob", "--role", "reader", "--module", "bench"])?;
    figures.catch_up("catch-up", &ours::catch_up((&left, &ann), &right, args.events, "local")?);
    figures.memory("memory, peak of the daemon that caught up", ours::peak_memory(&right)?);
    step("delivery");
    let delivery = latency::measure(one_by_one, (left.connect()?, "ann"), (right.connect()?, "bob"))?;
    figures.times("sent on one daemon, readable on the other", &delivery);
    step("bytes between daemons");
    wire::measure(stage, program, (one_by_one, messages.min(CAUGHT_UP)), figures)?;

    step("the machine");
    floor::measure(stage, &left, figures)?;
    Ok((ann, Agent::of(&right, "bob", "bob")?))
}

/// Returns the two sockets of an option, or `None` if it was not given.
fn two<'a>(sockets: &'a [PathBuf], flag: &str) -> Result<Option<(&'a PathBuf, &'a PathBuf)>, Error> {
    match sockets {
        [] => Ok(None),
        [one, two] => Ok(Some((one, two))),
        _ => Err(Error::new(ErrorKind::Invalid, format!("{flag} takes two sockets"))
            .hint(format!("{flag} /a/.thrum/var/thrum.sock,/b/.thrum/var/thrum.sock"))),
    }
}

impl Daemon for stage::StagedRepo {
    fn socket(&self) -> Result<PathBuf, Error> {
        Ok(self.repo()?.socket())
    }
}
