//! Pairs simulated daemons over a network without faults.

use thrum_core::{Ambient, limits};
use thrum_sync::{
    pairing::{
        Here, Protocol,
        pake::{self, Parties},
    },
    protocol::wire::{self, Begin, Pair},
    protocol::{self, Next},
    registry::Candidate,
    transport::{Caller, Kind},
};

use super::Sim;
use crate::{go::Go, kit::World};

impl Sim {
    /// Pairs two daemons with a code, as `peer add` here and `peer join` there do, on a network without faults.
    pub fn pair(&mut self, here: usize, there: usize) {
        let now = self.now(here);
        let (joiner, name) = (self.daemons[there].id.clone(), self.daemons[there].auth.me.name.clone());
        let daemon = &mut self.daemons[here];
        let at = Here { kind: Kind::Local, node: None, address: format!("127.0.0.1:{}", 9100 + here) };
        let opened = daemon.auth.pairing.start(at, limits::PAIRING_SESSION, now, &mut daemon.world).unwrap();
        let parties = Parties {
            version: pake::VERSION.into(),
            joiner,
            joiner_name: name,
            joiner_address: format!("127.0.0.1:{}", 9100 + there),
            joiner_node: "local".into(),
            listener: daemon.id.clone(),
            listener_node: "local".into(),
            listener_address: format!("127.0.0.1:{}", 9100 + here),
        };
        let (joining, message) = pake::join(&opened.code, parties.clone(), &mut daemon.world);
        let Parties { version, joiner, joiner_name: name, joiner_address: address, listener, .. } = parties;
        let begin = Begin { version, daemon_id: joiner, name, address, message };
        let mut visit = Caller { address: "127.0.0.1:1".into(), kind: Kind::Local, node: None }.into();
        let mut ask = |line: String| {
            let received = protocol::receive(&mut daemon.auth, line.as_bytes(), &mut visit, now, &mut daemon.world);
            let Next::Reply(reply) = received.next else { panic!("pairing does not ask the log") };
            reply
        };
        let (confirming, confirmation) =
            joining.confirm(&wire::read_begun(ask(begin.line(1)).as_bytes(), 1).unwrap()).unwrap();
        let confirmed = wire::read_confirmed(ask(wire::confirm_request(2, &confirmation)).as_bytes(), 2).unwrap();
        let token = confirming.open(&confirmed.confirmation, &confirmed.sealed, &confirmed.name).unwrap();
        let candidate = Candidate {
            daemon_id: listener.clone(),
            name: confirmed.name,
            address: format!("127.0.0.1:{}", 9100 + here),
            kind: Kind::Local,
            node: None,
            calls_from: None,
            protocol: Protocol::Pake,
        };
        let at = self.now(there).at;
        self.daemons[there].auth.registry.pair(candidate, token, at).unwrap();
        let joiner = self.daemons[there].id.clone();
        self.drive(here, &joiner);
        self.drive(there, &listener);
    }

    /// Adds a Go daemon to the simulation.
    pub fn add_go(&mut self) -> usize {
        let place = self.daemons.len() + self.gos.len();
        self.gos.push(Go::new(place, World::new(self.world.random_u64())));
        self.gos.len() - 1
    }

    pub fn pair_go(&mut self, here: usize, go: usize) {
        let now = self.now(here);
        let (joiner, place) = (self.gos[go].id.clone(), self.gos[go].place);
        let daemon = &mut self.daemons[here];
        let opened = daemon
            .auth
            .pairing
            .start(
                Here { kind: Kind::Local, node: None, address: "127.0.0.1:9100".into() },
                limits::PAIRING_SESSION,
                now,
                &mut daemon.world,
            )
            .unwrap();
        let address = format!("127.0.0.1:{}", 9100 + place);
        let request = Pair { code: opened.code.reveal().into(), daemon_id: joiner.clone(), name: "go".into(), address };
        let caller = Caller { address: "127.0.0.1:1".into(), kind: Kind::Local, node: None };
        let received =
            protocol::receive(&mut daemon.auth, request.line(1).as_bytes(), &mut caller.into(), now, &mut daemon.world);
        let Next::Reply(reply) = received.next else { panic!("pairing does not ask the log") };
        let paired = wire::read_paired(reply.as_bytes(), 1).unwrap();
        self.gos[go].pair(&paired.daemon_id, here, paired.token);
        self.drive(here, &joiner);
    }
}
