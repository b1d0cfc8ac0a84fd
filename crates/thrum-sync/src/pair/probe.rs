//! Finds daemons that wait to be joined, by probing all of [`limits::PORTS`]: on the nodes of the tailnet, or on this
//! machine if no tailnet is enabled.
//!
//! The probes form one queue, with the first port of all hosts first, because most machines have one repository. A host
//! that does not even refuse a connection is moved to the end, so that a silent machine does not use up the time for
//! other hosts. Only non-legacy daemons are found; Go Thrum does not have `pair.probe`. No secret is sent, and the
//! replies are untrusted.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
};

use thrum_core::{Error, limits};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use super::PairingFlow;
use crate::{
    answers::{Waiting, WaitingDaemons},
    conn,
    environment::lock,
    protocol::wire::{self, Probed},
    transport::{Condition, Conn, Kind, Node, Transport, with_port},
};

/// A host to probe on all its ports.
struct Host {
    address: String,
    node: Option<Node>,
}

/// The pending probes.
struct Questions {
    hosts: Vec<Host>,
    /// Pending probes: index in `hosts`, and port.
    next: VecDeque<(usize, u16)>,
    /// Pending probes of hosts that have not even refused a connection.
    last: VecDeque<(usize, u16)>,
    silent: BTreeSet<usize>,
}

impl Questions {
    fn new(hosts: Vec<Host>) -> Self {
        let next = limits::PORTS.flat_map(|port| (0..hosts.len()).map(move |host| (host, port))).collect();
        Self { hosts, next, last: VecDeque::new(), silent: BTreeSet::new() }
    }

    fn next(&mut self) -> Option<(usize, u16)> {
        while let Some(question) = self.next.pop_front() {
            if !self.silent.contains(&question.0) {
                return Some(question);
            }
            self.last.push_back(question);
        }
        self.last.pop_front()
    }
}

impl PairingFlow {
    /// Finds the daemons that wait to be joined: on the tailnet nodes that are online, at most
    /// [`limits::PROBED_NODES`], or on this machine if no tailnet is enabled. Takes at most [`limits::PROBE_ALL`],
    /// after at most [`limits::TAILNET_UP`] for a tailnet that is starting.
    ///
    /// # Errors
    /// The tailnet is not up or cannot be queried, or there is no transport.
    pub(crate) async fn waiting(&self) -> Result<WaitingDaemons, Error> {
        let off = |transport: &Arc<dyn Transport>| *transport.condition().borrow() == Condition::Off;
        let Some(tailnet) = self.addresses.transport(Kind::Tailnet).filter(|tailnet| !off(tailnet)) else {
            return self.waiting_here().await;
        };
        self.addresses.wait_until_up(Kind::Tailnet).await?;
        let mut neighbours: Vec<_> =
            tailnet.neighbours().await?.into_iter().filter(|neighbour| neighbour.online).collect();
        neighbours.sort_by(|a, b| (&a.node.name, &a.node.id).cmp(&(&b.node.name, &b.node.id)));
        let not_asked = neighbours.len().saturating_sub(limits::PROBED_NODES);
        neighbours.truncate(limits::PROBED_NODES);
        let asked = neighbours.len();
        let hosts: Vec<_> = neighbours.into_iter().map(|at| Host { address: at.host, node: Some(at.node) }).collect();
        Ok(WaitingDaemons { daemons: self.knock(tailnet, hosts).await, asked, not_asked })
    }

    async fn waiting_here(&self) -> Result<WaitingDaemons, Error> {
        let local = self.addresses.required_transport(Kind::Local)?;
        let own = self.inbound.address(Kind::Local).await;
        let here = Host { address: "127.0.0.1".into(), node: None };
        let mut daemons = self.knock(local, vec![here]).await;
        daemons.retain(|found| Some(&found.address) != own.as_ref());
        Ok(WaitingDaemons { daemons, asked: 1, not_asked: 0 })
    }

    /// Finds the daemons that wait to be joined on one host.
    pub(super) async fn waiting_at(&self, transport: Arc<dyn Transport>, host: &str) -> Vec<Waiting> {
        self.knock(transport, vec![Host { address: host.to_owned(), node: None }]).await
    }

    /// Probes all hosts on all ports, with bounded concurrency and time. Returns the waiting daemons, sorted by node
    /// name and address.
    async fn knock(&self, transport: Arc<dyn Transport>, hosts: Vec<Host>) -> Vec<Waiting> {
        let until = Instant::now() + limits::PROBE_ALL;
        let questions = Arc::new(Mutex::new(Questions::new(hosts)));
        let found = Arc::new(Mutex::new(Vec::new()));
        let mut askers = JoinSet::new();
        for _ in 0..limits::PROBES {
            let (transport, questions, found) = (Arc::clone(&transport), Arc::clone(&questions), Arc::clone(&found));
            askers.spawn(async move {
                loop {
                    let Some((host, port)) = lock(&questions).next() else { return };
                    ask_at(&*transport, &questions, (host, port), &found).await;
                }
            });
        }
        // Pending probes are dropped with the set.
        let _ = timeout_at(until, async { while askers.join_next().await.is_some() {} }).await;
        drop(askers);
        let mut found = std::mem::take(&mut *lock(&found));
        found.sort_by(|a, b| (node_name(a), &a.address).cmp(&(node_name(b), &b.address)));
        found
    }
}

async fn ask_at(
    transport: &dyn Transport,
    questions: &Mutex<Questions>,
    (host, port): (usize, u16),
    found: &Mutex<Vec<Waiting>>,
) {
    let (address, node) = {
        let questions = lock(questions);
        let at = &questions.hosts[host];
        (with_port(&at.address, port), at.node.clone())
    };
    match timeout(limits::PROBE, transport.dial(&address)).await {
        Ok(Ok(conn)) => {
            if let Ok(Some(Probed { name, waiting: true, version, .. })) = timeout(limits::PROBE, ask(conn)).await {
                let transport = transport.kind().to_string();
                lock(found).push(Waiting { name, address, node, version, transport });
            }
        }
        Ok(Err(_)) => {}
        Err(_) => {
            lock(questions).silent.insert(host);
        }
    }
}

fn node_name(found: &Waiting) -> Option<&str> {
    found.node.as_ref().map(|node| node.name.as_str())
}

/// Probes the other end of a connection. Returns `None` unless it is a non-legacy daemon.
async fn ask(conn: Conn) -> Option<Probed> {
    let (mut lines, mut writer) = conn::halves(conn);
    conn::write_line(&mut writer, &wire::probe_request(1), limits::PROBE).await.ok()?;
    let line = lines.next(limits::MAX_PEER_REQUEST_BYTES, limits::PROBE, limits::PROBE).await.ok()?;
    wire::read_probed(&line, 1).ok()
}
