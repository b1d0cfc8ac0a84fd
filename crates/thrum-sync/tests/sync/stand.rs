//! A daemon's server without sockets: one line in, one line and its effects out.

use std::sync::{Arc, Mutex};

use thrum_core::limits;
use thrum_sync::{
    Log, Now, intake,
    legacy::serving::Askers,
    pairing::{Here, Pairing},
    protocol::wire::Served,
    protocol::{self, AuthState, Effect, Me},
    registry::Registry,
    transport::{Caller, Kind, Node},
};

use crate::kit::{StoreLog, World, directory};

/// A daemon that displays a code on the tailnet and is called from there.
pub struct Stand {
    pub auth: AuthState,
    pub log: Arc<StoreLog>,
    pub askers: Mutex<Askers>,
    /// The time of its clocks.
    pub now: Now,
    world: World,
    _directory: tempfile::TempDir,
}

impl Stand {
    /// Creates a stand. Returns it with the displayed code.
    pub fn new(id: &str, name: &str) -> (Self, String) {
        let directory = directory();
        let mut world = World::new(1);
        let (log, _) = StoreLog::open(&directory, &mut world);
        let registry = Registry::open(directory.path().join("peers.json"), id).unwrap();
        let mut pairing = Pairing::open(directory.path().join("pairing.json")).unwrap();
        let node = Node { id: "n1".into(), name: "here".into(), user: String::new() };
        let here = Here { kind: Kind::Tailnet, node: Some(node), address: "100.64.0.1:9100".into() };
        let opened = pairing.start(here, limits::PAIRING_SESSION, Now::default(), &mut world).unwrap();
        let me = Me { daemon_id: id.into(), name: name.into(), version: "0.1.0".into(), instance: "1".into() };
        (
            Self {
                auth: AuthState { me, registry, pairing },
                log,
                askers: Mutex::default(),
                now: Now::default(),
                world,
                _directory: directory,
            },
            opened.code.reveal().to_owned(),
        )
    }

    /// Puts events into the log as if a peer had served them, up to a sequence of that peer.
    pub fn hold(&self, upto: u64, events: Vec<Served>) {
        let batch = intake::batch("d_source", "", upto, &events, &*self.log).unwrap();
        self.log.apply(batch).unwrap();
    }

    pub fn answer(&mut self, line: &str) -> String {
        self.hear(line, Kind::Tailnet).0
    }

    /// Returns the reply to a line and its effects.
    pub fn hear(&mut self, line: &str, kind: Kind) -> (String, Vec<Effect>) {
        let node = Node { id: "n2".into(), name: "there".into(), user: String::new() };
        let caller =
            Caller { address: "100.64.0.2:4000".into(), kind, node: Some(node).filter(|_| kind == Kind::Tailnet) };
        let received =
            protocol::receive(&mut self.auth, line.as_bytes(), &mut caller.into(), Now::default(), &mut self.world);
        crate::kit::completed(received, &self.auth.me, &*self.log, &self.askers, self.now)
    }
}
