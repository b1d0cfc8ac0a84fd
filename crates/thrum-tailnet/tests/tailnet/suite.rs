//! Runs the conformance suite that every transport must pass.

use std::sync::Arc;

use thrum_sync::transport::conformance::{self, Places};
use thrum_tailnet::{Mode, State, Tailnet};

use crate::{
    config,
    fake::{Node, World},
    own::script,
    until,
};

fn places(here: &Tailnet, there: &Tailnet) -> Places {
    let outside = [
        "127.0.0.1:9100",
        "localhost:9100",
        "[::1]:9100",
        "192.168.0.1:80",
        "169.254.169.254:80",
        "100.100.100.100:80",
        // This node itself; its ports are this machine's loopback.
        "100.64.0.1:22",
        "one:22",
        "one.tail.test:22",
    ];
    // These would be routed anywhere if they were dialled without checking which node has them.
    let deserted = ["100.64.9.9:9100", "[fd7a:115c:a1e0::9]:9100", "three:9100", "example.org:80"];
    Places {
        here: Arc::new(here.clone()),
        there: Arc::new(there.clone()),
        outside: outside.map(str::to_owned).to_vec(),
        deserted: deserted.map(str::to_owned).to_vec(),
    }
}

async fn conform(here: &Tailnet, there: &Tailnet) {
    here.start();
    there.start();
    until(here, State::Running).await;
    until(there, State::Running).await;
    conformance::check(&places(here, there)).await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn the_machines_node_conforms() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let world = World::default();
    let sockets = [0, 1].map(|n: usize| dirs[n].path().join("host.sock"));
    let _one = Node::start(&world, &sockets[0], "one", "100.64.0.1");
    let _two = Node::start(&world, &sockets[1], "two", "100.64.0.2");
    let [here, there] = dirs.each_ref().map(|dir| Tailnet::new(config(Mode::Host, dir.path())));
    conform(&here, &there).await;
}

#[tokio::test]
async fn an_own_node_conforms_with_another_and_with_the_machines() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let world = World::default();
    script(dirs[0].path(), "read line < wait");
    let _one = Node::start(&world, &dirs[0].path().join("tsnet/sock"), "one", "100.64.0.1");
    let _two = Node::start(&world, &dirs[1].path().join("host.sock"), "two", "100.64.0.2");
    let here = Tailnet::new(config(Mode::Own, dirs[0].path()));
    let there = Tailnet::new(config(Mode::Host, dirs[1].path()));
    conform(&here, &there).await;
}
