//! Many daemons in a sparse mesh: what an event costs each link, and how far it has to go.
//!
//! The store of the other simulations is too much for a thousand daemons: a thousand databases, each of which folds all
//! events. What is measured here does not depend on it. Everything between the logs is the real thing: replicators,
//! registries, requests and replies as text, and the verification of signatures. The log is a list in memory ([`log`])
//! with the properties on which replication relies: sequences of its own, each event once, the checkpoint stored
//! together with the batch, the source of each event, and the version vector. It folds nothing and takes no time.
//! Every message takes [`DELAY`], none is lost and no daemon stops; faults are the subject of the other simulations.
//! Bytes are those of the lines, before compression and encryption. The periodic comparisons are not part of it.
//!
//! While events meet on the way, one may come by a way that is not the shortest, because a request to the nearer peer
//! is under way. So only events that meet no other have at most as many hops as the mesh has diameter.
//!
//! `THRUM_MESH=1000` runs 10, 100 and 1,000 daemons, and `--nocapture` shows the figures.

mod daemons;
mod log;

use std::{fmt::Write, time::Duration};

use thrum_core::limits;

use super::seeds::{Replay, only_seed};
use daemons::{Arrival, DELAY, Mesh, Start, Traffic};

/// Number of events in each part.
const EVENTS: usize = 50;

/// The most messages for an event between two peers: each announces it to the other, and each pulls, which acknowledges
/// it. Each of these has a reply.
const MESSAGES: usize = 8;

/// The messages that two peers exchange once more: the first announcement of each carries no events, because it does
/// not know yet how far the other has read, and one more pull brings them.
const FIRST: usize = 4;

/// The most times that one daemon sends the body of one event to one peer: with its announcement, and in the replies to
/// two pulls that were under way when announced events arrived, and are dropped for that reason. Both peers may send it:
/// two that have an event from others announce it to each other at the same time, until each knows that the other gets
/// the events of its origin from others.
const BODIES: usize = 3;

/// Returns the numbers of daemons to try.
fn sizes() -> Vec<usize> {
    let most = std::env::var("THRUM_MESH").ok().map(|most| most.parse().expect("THRUM_MESH is a number of daemons"));
    match most {
        None => vec![10, 30],
        Some(most) => [10, 100, 1000].into_iter().filter(|size| *size < most).chain([most]).collect(),
    }
}

/// Runs a history for each size.
fn for_each_size(test: &'static str, history: impl Fn(u64, usize)) {
    let seed = only_seed().unwrap_or(1);
    let _replay = Replay(seed, test);
    sizes().into_iter().for_each(|size| history(seed, size));
}

/// One author, whose events do not meet on the way, and no periodic pulls.
#[test]
fn an_event_takes_the_shortest_way_to_every_daemon() {
    for_each_size("simulation::mesh", |seed, size| {
        let mut mesh = Mesh::new(seed, size, &Start { interval: Duration::from_secs(86_400), events: 1 });
        mesh.run_for(Duration::from_secs(60));
        // Until each daemon that announces events has announced some before.
        for _ in 0..5 {
            mesh.write(0);
            mesh.run_for(Duration::from_secs(2));
        }
        mesh.assert_agreement();
        let distances = mesh.distances(0);
        let mut figures = Figures::begin(&mut mesh, "one author");
        for _ in 0..EVENTS / 5 {
            let event = mesh.write(0);
            let began = mesh.tick;
            mesh.run_for(Duration::from_secs(2));
            for (distance, arrival) in distances.iter().zip(&mesh.arrivals[event]) {
                let Arrival { at, hops } = arrival.expect("it arrives");
                assert_eq!((hops, at - began), (*distance, DELAY * u32::try_from(*distance).unwrap()));
            }
        }
        mesh.assert_agreement();
        figures.end(&mesh);
        assert!(figures.most_messages <= MESSAGES * figures.events + FIRST, "{figures:?}");
        // In each direction.
        assert!(figures.most_bodies <= 1, "{figures:?}");
        show(&figures.to_string());
    });
}

/// Nor does it matter who writes: each event reaches two daemons, and its text crosses two links.
#[test]
fn in_a_ring_of_three_the_text_of_an_event_crosses_each_link_at_most_once() {
    let seed = only_seed().unwrap_or(1);
    let _replay = Replay(seed, "simulation::mesh");
    let mut mesh = Mesh::new(seed, 3, &Start { interval: limits::SYNC_INTERVAL, events: 3 });
    mesh.run_for(Duration::from_secs(60));
    // Until each daemon knows what its peers get from each other.
    for author in [0, 1, 2, 0, 1, 2] {
        mesh.write(author);
        mesh.run_for(Duration::from_secs(2));
    }
    let mut figures = Figures::begin(&mut mesh, "a ring of three");
    for _ in 0..EVENTS {
        let author = mesh.random(3);
        mesh.write(author);
        mesh.run_for(Duration::from_millis(200));
    }
    // Until each daemon was also served the events that came from it.
    mesh.run_for(limits::SYNC_INTERVAL * 2);
    mesh.assert_agreement();
    figures.end(&mesh);
    show(&figures.to_string());
    assert_eq!(figures.most_bodies_of_link, 1, "{figures:?}");
    assert_eq!(figures.bodies, 2 * EVENTS, "{figures:?}");
}

/// What a link carries for an event is bounded by the protocol, not by the number of daemons.
#[test]
fn an_event_costs_each_link_the_same_however_many_daemons_there_are() {
    for_each_size("simulation::mesh", |seed, size| {
        let mut mesh = Mesh::new(seed, size, &Start { interval: limits::SYNC_INTERVAL, events: size });
        let mut figures = Figures::begin(&mut mesh, "first contact");
        mesh.run_for(Duration::from_secs(60));
        mesh.assert_agreement();
        figures.events = size;
        figures.end(&mesh);
        show(&figures.to_string());

        for (name, authors, pause) in [("ten authors", 10, 100), ("one author, fast", 1, 20)] {
            let mut figures = Figures::begin(&mut mesh, name);
            let began = mesh.tick;
            for _ in 0..EVENTS {
                let at = mesh.random(authors);
                mesh.write(at);
                let pause = mesh.random(2 * pause) as u64;
                mesh.run_for(Duration::from_millis(pause));
            }
            // Until each daemon was also served the events that came from it.
            mesh.run_for(limits::SYNC_INTERVAL * 2);
            mesh.assert_agreement();
            figures.end(&mesh);
            show(&figures.to_string());
            let most = MESSAGES * figures.events + FIRST + periodic(mesh.tick - began);
            assert!(figures.most_messages <= most, "{figures:?}");
            assert!(figures.most_bodies <= BODIES, "{figures:?}");
        }

        let mut figures = Figures::begin(&mut mesh, "no events");
        let rest = limits::SYNC_INTERVAL * 20;
        mesh.run_for(rest);
        figures.end(&mesh);
        show(&figures.to_string());
        assert!(figures.most_messages <= periodic(rest), "{figures:?}");
        assert_eq!((figures.bodies, figures.notifies), (0, 0), "{figures:?}");

        let mut figures = Figures::begin(&mut mesh, "one link anew");
        mesh.disconnect(0);
        mesh.run_for(Duration::from_secs(10));
        figures.end(&mesh);
        show(&figures.to_string());
    });
}

/// The most messages of the periodic pulls between two peers within this time.
fn periodic(time: Duration) -> usize {
    4 * usize::try_from(time.as_secs() / limits::SYNC_INTERVAL.as_secs() + 1).unwrap()
}

/// What a time of the mesh has cost.
#[derive(Debug)]
struct Figures {
    name: &'static str,
    daemons: usize,
    links: usize,
    diameter: usize,
    events: usize,
    since: usize,
    /// Requests and replies on all links.
    messages: usize,
    /// Those on the link with the most.
    most_messages: usize,
    bytes: usize,
    most_bytes: usize,
    notifies: usize,
    /// How often bodies of the events were sent, on all links.
    bodies: usize,
    /// How often the body of one event was sent in one direction of a link, at most.
    most_bodies: usize,
    /// The same in both directions together.
    most_bodies_of_link: usize,
    /// The time from each event to its last arrival.
    times: Vec<Duration>,
    hops: usize,
}

impl Figures {
    /// Starts to count.
    fn begin(mesh: &mut Mesh, name: &'static str) -> Self {
        mesh.lines.iter_mut().for_each(|line| line.traffic = Traffic::default());
        Self {
            name,
            daemons: mesh.count(),
            links: mesh.lines.len() / 2,
            diameter: mesh.diameter(),
            events: 0,
            since: mesh.arrivals.len(),
            messages: 0,
            most_messages: 0,
            bytes: 0,
            most_bytes: 0,
            notifies: 0,
            bodies: 0,
            most_bodies: 0,
            most_bodies_of_link: 0,
            times: Vec::new(),
            hops: 0,
        }
    }

    fn end(&mut self, mesh: &Mesh) {
        for (one, other) in mesh.links() {
            let (one, other) = (&mesh.lines[one].traffic, &mesh.lines[other].traffic);
            let (messages, bytes) = (one.messages + other.messages, one.bytes + other.bytes);
            self.messages += messages;
            self.bytes += bytes;
            self.most_messages = self.most_messages.max(messages);
            self.most_bytes = self.most_bytes.max(bytes);
            self.notifies += one.notifies + other.notifies;
            for event in one.bodies.keys().chain(other.bodies.keys()) {
                let times = [one, other].iter().filter_map(|traffic| traffic.bodies.get(event)).sum();
                self.most_bodies_of_link = self.most_bodies_of_link.max(times);
            }
            for times in one.bodies.values().chain(other.bodies.values()) {
                self.bodies += times;
                self.most_bodies = self.most_bodies.max(*times);
            }
        }
        for arrivals in &mesh.arrivals[self.since..] {
            self.events += 1;
            let at = || arrivals.iter().flatten().map(|arrival| arrival.at);
            self.times.push(at().max().unwrap() - at().min().unwrap());
            self.hops = self.hops.max(arrivals.iter().flatten().map(|arrival| arrival.hops).max().unwrap());
        }
        self.times.sort_unstable();
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, daemons, links, diameter, .. } = self;
        let mut line = format!("{daemons:>5} daemons, {links:>4} links, diameter {diameter:>2}, {name:<17}");
        let shares = self.events.max(1) * links;
        let ratio = |number: usize, of: usize| format!("{}.{:02}", number / of, number % of * 100 / of);
        let per = |number: usize| ratio(number, shares);
        let most = |number: usize| ratio(number, self.events.max(1));
        write!(
            line,
            "{:>4} events; of each on each link: {} messages (most {}), {} bytes (most {}), {} bodies (most {} one way, {} both)",
            self.events,
            per(self.messages),
            most(self.most_messages),
            self.bytes / shares,
            self.most_bytes / self.events.max(1),
            per(self.bodies),
            self.most_bodies,
            self.most_bodies_of_link,
        )?;
        if let (Some(half), Some(last)) = (self.times.get(self.times.len() / 2), self.times.last()) {
            write!(line, "; everywhere after {half:?}, the slowest {last:?}; {} hops at most", self.hops)?;
        }
        f.write_str(&line)
    }
}

#[expect(clippy::print_stderr, reason = "whoever runs a large mesh wants to see its figures")]
fn show(line: &str) {
    eprintln!("{line}");
}
