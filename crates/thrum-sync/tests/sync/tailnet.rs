//! Daemons on a tailnet in memory, for tests about nodes.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use thrum_sync::{
    peers::PeerStatus,
    replicator::{ReplicatorStatus, State},
    transport::{
        Conn, Kind, Node, Transport,
        memory::{MemoryNode, MemoryTailnet},
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::{sleep, timeout},
};

use crate::kit::{Daemon, PATIENCE};

pub fn over(node: &MemoryNode) -> Vec<Arc<dyn Transport>> {
    vec![Arc::new(node.clone())]
}

/// Starts a daemon on a node, and waits until it listens.
pub async fn daemon(name: &str, node: &MemoryNode) -> Daemon {
    let daemon = Daemon::start_over(name, over(node)).await;
    daemon.log.register(name);
    listening(&daemon).await;
    daemon
}

/// Returns the daemon's address, once it listens.
pub async fn listening(daemon: &Daemon) -> String {
    eventually(async || daemon.peers.address(Kind::Tailnet).await).await
}

/// Polls until there is an answer, for states that a daemon does not announce.
pub async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let answer = async {
        loop {
            match ask().await {
                Some(answer) => return answer,
                None => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    timeout(PATIENCE, answer).await.expect("an answer in time")
}

/// Two paired daemons on two nodes.
pub struct Two {
    pub net: MemoryTailnet,
    pub here: MemoryNode,
    pub there: MemoryNode,
    pub a: Daemon,
    pub b: Daemon,
}

impl Two {
    pub async fn paired() -> Self {
        let net = MemoryTailnet::default();
        let (here, there) = (net.node("desk", "ann"), net.node("laptop", "ben"));
        let (a, b) = (daemon("alpha", &here).await, daemon("beta", &there).await);
        let (one, other) = a.pair_over(Kind::Tailnet, &b).await;
        assert!(one.syncing && other.syncing, "{one:?} {other:?}");
        Self { net, here, there, a, b }
    }

    /// Returns the addresses that a node has dialled, starting with dial number `from`.
    pub fn dialled_by(&self, node: &MemoryNode, from: usize) -> Vec<String> {
        let id = node.node().id;
        self.net.dialled().into_iter().skip(from).filter(|(by, _)| *by == id).map(|(_, address)| address).collect()
    }
}

pub async fn status(daemon: &Daemon) -> PeerStatus {
    daemon.peers.status().await.unwrap().remove(0)
}

pub async fn until(daemon: &Daemon, peer: &str, done: impl FnMut(&ReplicatorStatus) -> bool) {
    let mut status = daemon.peers.watch(peer).unwrap();
    let reached = timeout(PATIENCE, status.wait_for(done)).await.map(|done| done.map(drop));
    assert!(matches!(reached, Ok(Ok(()))), "{:?}", status.borrow());
}

/// Returns the node that the daemon's peer reports to have refused, and how often it reported that.
pub async fn told_of(daemon: &Daemon) -> (Node, u64) {
    eventually(async || status(daemon).await.details.refused_there.map(|stray| (stray.node, stray.times))).await
}

pub fn fails_with(text: &str) -> impl FnMut(&ReplicatorStatus) -> bool {
    move |status| {
        status.state == State::Unreachable
            && status.exchange.last_error.as_deref().is_some_and(|error| error.contains(text))
    }
}

/// A connection played by the test.
pub struct Wire(pub BufReader<Conn>);

impl Wire {
    pub async fn dial(node: &MemoryNode, address: &str) -> Self {
        Self(BufReader::new(node.dial(address).await.unwrap()))
    }

    pub async fn ask(&mut self, method: &str, params: Value) -> Value {
        let line = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut reply = String::new();
        timeout(PATIENCE, self.0.read_line(&mut reply)).await.expect("a line").unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    /// Proves to `there` that the caller is `daemon`, with their shared token.
    pub async fn prove(&mut self, daemon: &Daemon, there: &Daemon) {
        self.prove_as(Value::Null, daemon, there).await;
    }

    /// Proves the identity as this process of the daemon.
    pub async fn prove_as(&mut self, instance: Value, daemon: &Daemon, there: &Daemon) {
        let token = daemon.peers.list()[0].token.clone().unwrap();
        let mut hello = json!({"challenge": "0".repeat(64), "daemon_id": daemon.id});
        if !instance.is_null() {
            hello["instance"] = instance;
        }
        let hello = self.ask("sync.hello", hello).await;
        let signature = daemon.log.key.get().unwrap().prove(hello["result"]["challenge"].as_str().unwrap(), &there.id);
        let params = json!({"token": token.reveal(), "daemon_id": daemon.id, "signature": signature});
        assert!(self.ask("sync.prove", params).await["result"].is_object());
    }
}

pub const UNKNOWN: &str = "unauthorized: unknown peer token";
