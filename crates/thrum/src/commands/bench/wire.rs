//! Counts the bytes that two daemons exchange for a message: TCP payload, both directions together.
//!
//! Each daemon reaches the other through a [`Link`] of this process, which passes bytes on unread and counts them. That
//! needs nothing from the daemons, so that other builds are counted in the same way. The kernel's counters of a socket
//! (`TCP_INFO`) are gone once it is closed, and those of an interface include headers and acknowledgements, and the
//! traffic of other programs unless it has a network namespace of its own.
//!
//! Daemons confirm their addresses when they pair, so they pair directly. Then both are stopped, and in the
//! `peers.json` of each, the address of the peer becomes that of the link. When connected, daemons tell each other
//! where they listen, and dial there the next time; they keep the connections that they have. Therefore the link holds
//! the first connections until both daemons have dialled. Afterwards the system's table of sockets shows whether all
//! connections led through the link; if not, the measurement fails.
//!
//! The texts are random words of random letters, the same for every build. They compress somewhat worse than prose, and
//! nothing in one helps to compress another.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use thrum_core::{Error, ErrorKind};

use super::{
    figures::Figures,
    ours,
    work::{Agent, Daemon},
};
use crate::commands::demo::{
    failed, latency,
    stage::{Stage, StagedRepo},
};

/// Length of a message's text in bytes.
const TEXT: usize = 300;

/// Number of messages before the count begins.
const WARM_UP: usize = 10;

/// Number of concurrent writers of the messages for the catch-up.
const WRITERS: usize = 8;

/// How long no byte may pass before the exchange counts as ended.
const QUIET: Duration = Duration::from_millis(300);

/// Maximum duration of each wait.
const STUCK: Duration = Duration::from_secs(120);

/// Measures `one_by_one` messages, each readable on the other daemon before the next is sent, and the catch-up of
/// `many` messages that were sent while the other daemon was stopped.
pub(super) fn measure(
    stage: &Stage,
    program: &Path,
    (one_by_one, many): (usize, usize),
    figures: &mut Figures,
) -> Result<(), Error> {
    let (left, right) = (stage.repository_with("wire-left", program)?, stage.repository_with("wire-right", program)?);
    left.run(&["quickstart", "--name", "ann", "--role", "writer", "--module", "bench"])?;
    right.run(&["quickstart", "--name", "bob", "--role", "reader", "--module", "bench"])?;
    ours::pair(left.connect()?, right.connect()?, "local")?;
    level(&left, &right)?;
    let ann = Agent::of(&left, "ann", "bob")?;
    let mut words = Words::new(0);

    let link = stop(&left, &right).and_then(|()| Link::between(&left, &right))?;
    link.start(&left, &right)?;
    let (mut sending, mut watching) = (ann.connect()?, latency::watch(right.connect()?)?);
    let mut send_all = |number: usize| -> Result<[u64; 2], Error> {
        for _ in 0..number {
            let sent = ann.send_text(&mut sending, &words.text())?;
            latency::arrival(&mut watching, "message.create", &sent.message_id)?;
        }
        link.settled()
    };
    let before = send_all(WARM_UP)?;
    let after = send_all(one_by_one)?;
    link.check()?;
    let [there, back] = [0, 1].map(|way| after[way] - before[way]);
    figures.wire(
        &format!("TCP payload between daemons per message of {TEXT} bytes, one by one"),
        one_by_one,
        there,
        back,
    );
    drop((sending, watching));

    right.run(&["daemon", "stop"])?;
    let texts: Vec<String> = (0..many).map(|_| words.text()).collect();
    send_beside(&ann, &texts)?;
    let link = stop(&left, &right).and_then(|()| Link::between(&left, &right))?;
    link.start(&left, &right)?;
    level(&left, &right)?;
    let [there, back] = link.settled()?;
    link.check()?;
    figures.wire(&format!("TCP payload between daemons per message of {TEXT} bytes, catch-up"), many, there, back);
    stop(&left, &right)
}

fn stop(left: &StagedRepo, right: &StagedRepo) -> Result<(), Error> {
    left.run(&["daemon", "stop"])?;
    right.run(&["daemon", "stop"]).map(drop)
}

/// Waits until both daemons hold the same number of events.
fn level(left: &StagedRepo, right: &StagedRepo) -> Result<(), Error> {
    wait("the same events on both daemons", || Ok(ours::health(left)?.events == ours::health(right)?.events))
}

fn wait(what: &str, mut is_met: impl FnMut() -> Result<bool, Error>) -> Result<(), Error> {
    let began = Instant::now();
    while !is_met()? {
        if began.elapsed() > STUCK {
            return Err(Error::new(ErrorKind::Failed, format!("waited in vain for {what}")));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Sends each text once, by several writers.
fn send_beside(agent: &Agent, texts: &[String]) -> Result<(), Error> {
    thread::scope(|scope| {
        let writers: Vec<_> = texts
            .chunks(texts.len().div_ceil(WRITERS).max(1))
            .map(|texts| {
                scope.spawn(move || -> Result<(), Error> {
                    let mut client = agent.connect()?;
                    texts.iter().try_for_each(|text| agent.send_text(&mut client, text).map(drop))
                })
            })
            .collect();
        writers.into_iter().try_for_each(|writer| {
            writer.join().unwrap_or_else(|_| Err(Error::new(ErrorKind::Failed, "a writer panicked")))
        })
    })
}

/// Texts of random words, the same in every run.
pub(super) struct Words(u64);

impl Words {
    /// Texts that this number determines.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next text, of [`TEXT`] bytes.
    pub(super) fn text(&mut self) -> String {
        let mut text = String::with_capacity(TEXT + 16);
        while text.len() < TEXT {
            for _ in 0..2 + self.below(8) {
                text.push(char::from(b'a' + self.below(26)));
            }
            text.push(' ');
        }
        text.truncate(TEXT - 1);
        text.push('.');
        text
    }

    /// A random number below `limit`.
    fn below(&mut self, limit: u8) -> u8 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()[7] % limit
    }
}

/// The only way between two daemons. Its threads end with the process.
struct Link {
    /// Bytes from the left daemon to the right one, and back.
    bytes: [AtomicU64; 2],
    state: Mutex<State>,
    changed: Condvar,
    places: [StagedRepo; 2],
}

#[derive(Default)]
struct State {
    /// Which of the daemons have dialled.
    has_dialled: [bool; 2],
    /// Whether connections are passed on.
    is_open: bool,
    /// The link's own ends of the connections that it has passed on.
    ends: BTreeSet<u16>,
}

impl Link {
    /// Leads the connections of two stopped, paired daemons through a new link.
    fn between(left: &StagedRepo, right: &StagedRepo) -> Result<Arc<Self>, Error> {
        let link = Arc::new(Self {
            bytes: Default::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            places: [left.clone(), right.clone()],
        });
        for (from, place) in [left, right].into_iter().enumerate() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("listen"))?;
            let port = listener.local_addr().map_err(failed("listen"))?.port();
            divert(place, port)?;
            let link = Arc::clone(&link);
            thread::spawn(move || {
                for dialled in listener.incoming().flatten() {
                    let link = Arc::clone(&link);
                    // An error ends both connections.
                    thread::spawn(move || link.pass_on(from, &dialled));
                }
            });
        }
        Ok(link)
    }

    /// Starts the daemons, and passes their connections on once both have dialled.
    fn start(&self, left: &StagedRepo, right: &StagedRepo) -> Result<(), Error> {
        for (from, place) in [left, right].into_iter().enumerate() {
            place.run(&["daemon", "start"])?;
            wait("a daemon to dial its peer", || Ok(self.state().has_dialled[from]))?;
        }
        self.state().is_open = true;
        self.changed.notify_all();
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects a connection that daemon `from` has dialled to the other daemon.
    fn pass_on(&self, from: usize, dialled: &TcpStream) -> io::Result<()> {
        let mut state = self.state();
        state.has_dialled[from] = true;
        while !state.is_open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        let to = 1 - from;
        // Another program may have taken the port while the daemon was stopped; then the daemon has chosen another one.
        let port = own_port(&self.places[to]).map_err(io::Error::other)?;
        let target = &TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        self.state().ends.insert(target.local_addr()?.port());
        dialled.set_nodelay(true)?;
        target.set_nodelay(true)?;
        thread::scope(|scope| {
            scope.spawn(|| copy(dialled, target, &self.bytes[from]));
            copy(target, dialled, &self.bytes[to]);
        });
        Ok(())
    }

    /// Waits until nothing more passes. Returns the bytes from left to right, and back.
    fn settled(&self) -> Result<[u64; 2], Error> {
        let now = || [0, 1].map(|way: usize| self.bytes[way].load(Ordering::Relaxed));
        let (mut last, mut since) = (now(), Instant::now());
        wait("the daemons to be quiet", || {
            let now = now();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            Ok(since.elapsed() > QUIET)
        })?;
        Ok(last)
    }

    /// Fails if a connection to one of the daemons does not lead through the link. Finds nothing if the system has no
    /// `/proc`.
    fn check(&self) -> Result<(), Error> {
        let now = callers([own_port(&self.places[0])?, own_port(&self.places[1])?])
            .map_err(failed("read the table of sockets"))?;
        let state = self.state();
        if now.iter().all(|port| state.ends.contains(port)) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Failed, "the daemons opened a connection whose bytes were not counted"))
    }
}

/// Copies from one connection to the other until either ends, and counts the bytes.
fn copy(mut from: &TcpStream, mut to: &TcpStream, counter: &AtomicU64) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        counter.fetch_add(read as u64, Ordering::Relaxed);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // Daemons close a connection as a whole.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// The ports of those who are connected to one of `ports`. Empty if the system has no `/proc`.
fn callers(ports: [u16; 2]) -> io::Result<BTreeSet<u16>> {
    let table = match fs::read_to_string("/proc/net/tcp") {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        table => table?,
    };
    // proc(5): after the number of the line come the local and the remote end, each as ADDRESS:PORT in hexadecimal, and
    // the state, 01 if the connection is established.
    let port = |end: Option<&str>| u16::from_str_radix(end?.rsplit_once(':')?.1, 16).ok();
    let ends = table.lines().skip(1).filter_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let ends = (port(columns.next())?, port(columns.next())?);
        (columns.next() == Some("01")).then_some(ends)
    });
    Ok(ends
        .flat_map(|(local, remote)| [(local, remote), (remote, local)])
        .filter_map(|(called, caller)| ports.contains(&called).then_some(caller))
        .collect())
}

/// The port on which a daemon listens for peers.
fn own_port(place: &StagedRepo) -> Result<u16, Error> {
    let port = registry(place)?["local"]["port"].as_u64().and_then(|port| u16::try_from(port).ok());
    port.ok_or_else(|| Error::new(ErrorKind::Failed, "a daemon that is paired does not listen"))
}

/// Makes a stopped daemon dial `port` of this machine to reach its peer.
fn divert(place: &StagedRepo, port: u16) -> Result<(), Error> {
    let mut registry = registry(place)?;
    let Some(address) = registry.pointer_mut("/peers/0/address") else {
        return Err(Error::new(ErrorKind::Failed, "a daemon that is paired has no peer"));
    };
    *address = format!("{}:{port}", Ipv4Addr::LOCALHOST).into();
    fs::write(place.repo()?.peers_file(), registry.to_string()).map_err(failed("write peers.json"))
}

fn registry(place: &StagedRepo) -> Result<Value, Error> {
    let text = fs::read(place.repo()?.peers_file()).map_err(failed("read peers.json"))?;
    serde_json::from_slice(&text).map_err(|error| failed("read peers.json")(error.into()))
}
