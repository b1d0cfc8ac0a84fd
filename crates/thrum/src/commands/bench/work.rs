//! Requests that both our daemon and the daemon of Go Thrum support.

use std::{
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind};

use crate::{
    answers::Sent,
    client::{Client, cannot_connect},
    commands::demo::latency::Times,
};

/// How long a message may take to reach the other daemon before it counts as lost.
const LOST: Duration = Duration::from_secs(60);

/// How often the other daemon is polled for a message.
const LOOK: Duration = Duration::from_micros(200);

/// A running daemon that can be connected to.
pub(super) trait Daemon {
    /// The path of the daemon's socket.
    fn socket(&self) -> Result<PathBuf, Error>;

    /// Opens a new connection to the daemon.
    fn connect(&self) -> Result<Client, Error> {
        let socket = self.socket()?;
        Client::connect(&socket).map_err(|error| cannot_connect(&socket, &error))
    }
}

/// A daemon that the user started, given by its socket.
impl Daemon for PathBuf {
    fn socket(&self) -> Result<PathBuf, Error> {
        Ok(self.clone())
    }
}

/// The agent that makes the requests, and the recipient of its messages.
pub(super) struct Agent {
    socket: PathBuf,
    name: String,
    to: String,
}

/// Timings of messages from several concurrent writers, and the total time.
pub(super) struct Beside {
    pub(super) times: Times,
    pub(super) took: Duration,
}

impl Agent {
    /// An agent of one of our own daemons.
    pub(super) fn of(daemon: &impl Daemon, name: &str, to: &str) -> Result<Self, Error> {
        Ok(Self { socket: daemon.socket()?, name: name.to_owned(), to: format!("@{to}") })
    }

    /// Registers the agent `bench` with a daemon that the user started, and starts its session.
    pub(super) fn visiting(socket: &Path) -> Result<Self, Error> {
        let agent = Self { socket: socket.to_owned(), name: "bench".to_owned(), to: "@bench".to_owned() };
        let mut client = agent.connect()?;
        client.call::<Value>(
            "agent.register",
            json!({"name": agent.name, "role": "visitor", "module": "bench", "re_register": true}),
        )?;
        client.call::<Value>("session.start", json!({"agent_id": agent.name}))?;
        Ok(agent)
    }

    pub(super) fn connect(&self) -> Result<Client, Error> {
        Client::connect(&self.socket).map_err(|error| cannot_connect(&self.socket, &error))
    }

    pub(super) fn send(&self, client: &mut Client) -> Result<Sent, Error> {
        self.send_text(client, &plain())
    }

    pub(super) fn send_text(&self, client: &mut Client, text: &str) -> Result<Sent, Error> {
        client.call("message.send", json!({"content": text, "mentions": [self.to], "caller_agent_id": self.name}))
    }
}

/// The text of a message whose content does not matter.
fn plain() -> String {
    "x".repeat(200)
}

/// Runs `work` `number` times, one after the other, and returns how long each took.
fn repeated(number: usize, mut work: impl FnMut() -> Result<(), Error>) -> Result<Vec<Duration>, Error> {
    (0..number)
        .map(|_| {
            let began = Instant::now();
            work()?;
            Ok(began.elapsed())
        })
        .collect()
}

/// Measures `message.send` with one writer.
pub(super) fn send_one_by_one(agent: &Agent, number: usize) -> Result<Times, Error> {
    let mut client = agent.connect()?;
    repeated(number, || agent.send(&mut client).map(|_| ())).map(Times::new)
}

/// Measures `message.send` with several concurrent writers, each with its own connection.
pub(super) fn send_beside(agent: &Agent, writers: usize, each: usize) -> Result<Beside, Error> {
    send_texts_beside(agent, writers, each, |_| plain)
}

/// Measures as [`send_beside`] does. `texts` returns what makes the texts of a writer, given its number.
pub(super) fn send_texts_beside<T: FnMut() -> String + Send>(
    agent: &Agent,
    writers: usize,
    each: usize,
    texts: impl Fn(u64) -> T,
) -> Result<Beside, Error> {
    let ready = &Barrier::new(writers + 1);
    thread::scope(|scope| {
        let connected = (0..writers).map(|_| agent.connect()).collect::<Result<Vec<_>, _>>()?;
        let handles: Vec<_> = connected
            .into_iter()
            .zip(0..)
            .map(|(mut client, writer)| {
                let mut text = texts(writer);
                scope.spawn(move || {
                    ready.wait();
                    repeated(each, || agent.send_text(&mut client, &text()).map(|_| ()))
                })
            })
            .collect();
        ready.wait();
        let began = Instant::now();
        let mut all = Vec::new();
        for handle in handles {
            all.extend(handle.join().map_err(|_| Error::new(ErrorKind::Failed, "a writer panicked"))??);
        }
        Ok(Beside { times: Times::new(all), took: began.elapsed() })
    })
}

/// Measures `message.get` of one message.
pub(super) fn get(agent: &Agent, number: usize) -> Result<Times, Error> {
    let mut client = agent.connect()?;
    let message_id = agent.send(&mut client)?.message_id;
    let params = json!({"message_id": message_id, "caller_agent_id": agent.name});
    repeated(number, || client.call::<Value>("message.get", &params).map(|_| ())).map(Times::new)
}

/// Measures `message.list` of the newest ten.
pub(super) fn list(agent: &Agent, number: usize) -> Result<Times, Error> {
    let mut client = agent.connect()?;
    let params = json!({"page_size": 10, "page": 1, "sort_order": "desc", "caller_agent_id": agent.name});
    repeated(number, || client.call::<Value>("message.list", &params).map(|_| ())).map(Times::new)
}

/// Measures the time from the request on one daemon until the other one returns the message.
pub(super) fn arrivals(from: &Agent, to: &Agent, number: usize) -> Result<Times, Error> {
    let (mut sending, mut looking) = (from.connect()?, to.connect()?);
    let mut times = Vec::with_capacity(number);
    for _ in 0..number {
        let began = Instant::now();
        let message_id = from.send(&mut sending)?.message_id;
        while looking
            .call::<Value>("message.get", json!({"message_id": message_id, "caller_agent_id": to.name}))
            .is_err()
        {
            if began.elapsed() > LOST {
                return Err(Error::new(
                    ErrorKind::Failed,
                    format!("{message_id} did not arrive within {} s", LOST.as_secs()),
                )
                .hint("Are the two daemons of --against paired?"));
            }
            thread::sleep(LOOK);
        }
        times.push(began.elapsed());
    }
    Ok(Times::new(times))
}
