//! Machines with an ordinary Tailscale installation and a kernel device. `THRUM_TS_ENABLED=true` is the only setting of
//! Thrum.

use std::time::Instant;

use crate::{
    common::peer_joins,
    machine::{Machine, agree, arrive, exchange, is_followed, is_missed, pair, send, talk},
    spaces::Lab,
    stranger,
    tools::tools_with_namespaces,
    waiting::{CATCH_UP, MESSAGES, OUTAGE, RECOVERY, scenario, until},
};

/// C38: the network changes or fails, only the relay is left, and Tailscale is stopped, expires or logs out. These
/// networks have no name server at all.
#[test]
fn machines_with_tailscale_share_one_mailbox_whatever_happens_to_them() {
    let Some(tools) = tools_with_namespaces() else { return };
    let mut lab = Lab::new(tools, &["alpha", "beta", "gamma"]);
    let (left, right) = (Machine::host(&lab.hosts[0], "left", "ann"), Machine::host(&lab.hosts[1], "right", "bob"));
    let named = |name: &str| scenario(name, vec![left.dir(), right.dir()]);
    {
        let _now = named("what was written before pairing is caught up");
        send(&left, &left, "before", CATCH_UP);
        pair(&left, &right);
        agree(&[&left, &right]);
    }
    {
        let _now = named("messages both ways at once, and their receipts");
        exchange(&left, &right, MESSAGES);
    }
    {
        let _now = named("either daemon is restarted");
        is_missed(&left, &right, Machine::stop);
    }
    {
        let _now = named("either daemon is killed");
        is_missed(&left, &right, |machine| machine.repo.kill_daemon());
    }
    {
        let _now = named("50 ms and 1 % loss");
        lab.line("line beta 50 0.01");
        exchange(&left, &right, 100);
        lab.line("line beta 0 0");
    }
    {
        let _now = named("the relay alone");
        lab.line("udp off");
        let ping = |way: &str| {
            until(&format!("the way is {way}"), RECOVERY, || {
                let ping = left.repo.thrum(&["peer", "ping", &right.name()]);
                if ping.code == 0 && ping.stdout.contains(way) { Ok(()) } else { Err(format!("{ping:?}")) }
            });
        };
        ping("relay");
        exchange(&left, &right, 20);
        lab.line("udp on");
        ping("direct");
    }
    {
        let _now = named("a cable is pulled for a minute");
        lab.line("pull beta");
        let began = Instant::now();
        let (there, back) = (send(&left, &right, "into the void", 20), send(&right, &left, "from the void", 20));
        until("the peer is not connected", RECOVERY, || {
            let peer = left.peer(&right.name());
            if peer["state"] == "connected" { Err(peer.to_string()) } else { Ok(()) }
        });
        std::thread::sleep(OUTAGE.saturating_sub(began.elapsed()));
        lab.line("plug beta");
        arrive(&right, &there);
        arrive(&left, &back);
    }
    {
        let _now = named("Tailscale is stopped and started");
        assert!(lab.hosts[1].tailscale(&["down"]).status.success());
        let said = right.is("stopped");
        assert!(said["hint"].is_string(), "{said}");
        let (there, back) = (send(&left, &right, "while down", 5), send(&right, &left, "from down there", 5));
        lab.hosts[1].up();
        right.is("running");
        arrive(&right, &there);
        arrive(&left, &back);
    }
    {
        let _now = named("tailscaled is killed and started");
        lab.hosts[1].kill_tailscaled();
        let said = right.is("not_running");
        assert!(said["hint"].is_string(), "{said}");
        let there = send(&left, &right, "while it is gone", 5);
        lab.hosts[1].start_tailscaled();
        right.is("running");
        arrive(&right, &there);
    }
    {
        let _now = named("the relay is restarted, and the coordination server gone for a while");
        lab.tailnet.ask("relay stop");
        talk(&left, &right, "without a relay");
        lab.tailnet.ask("relay start");
        lab.tailnet.pause();
        let began = Instant::now();
        while began.elapsed() < OUTAGE {
            talk(&left, &right, "without control");
        }
        lab.tailnet.resume();
        talk(&left, &right, "with control again");
    }
    {
        let _now = named("the machine's address changes and is followed");
        let before = right.address();
        lab.tailnet.ask("move beta");
        right.is_elsewhere_than(&before);
        is_followed(&left, &right);
    }
    {
        let _now = named("the machine's key expires and is renewed");
        lab.tailnet.ask("expire beta");
        let said = right.is("expired");
        assert!(said["hint"].is_string(), "{said}");
        let there = send(&left, &right, "while expired", 5);
        lab.tailnet.ask("renew beta");
        right.is("running");
        arrive(&right, &there);
    }
    {
        let _now = named("the machine logs out, and in as another node, which its daemon's key proves");
        let before = right.address();
        assert!(lab.hosts[1].tailscale(&["logout"]).status.success());
        right.is("needs_login");
        lab.hosts[1].up();
        right.is_elsewhere_than(&before);
        is_followed(&left, &right);
        let peer = left.peer(&right.name());
        assert!(peer["moved"].is_object(), "the move is shown: {peer}");
    }
    {
        let _now = named("a node of the tailnet that was not paired gets nothing with a stolen token");
        stranger::is_refused_with_a_stolen_token(
            &stranger::Node::of(&lab.hosts[2]),
            "gamma",
            &stranger::Node::of(&lab.hosts[1]),
            &left,
            &right,
        );
    }
    {
        let _now = named("three machines: what one did not hear from another it hears from the third");
        let third = Machine::host(&lab.hosts[2], "third", "cid");
        // The third machine has just registered. Its node must first find the other one, which may take longer than a
        // dial attempt.
        let address = right.address();
        let ip = address.rsplit_once(':').unwrap().0;
        until("the third machine's node reaches the second's", RECOVERY, || {
            let ping = lab.hosts[2].tailscale(&["ping", "-c", "1", "--timeout", "2s", ip]);
            if ping.status.success() { Ok(()) } else { Err(format!("{ping:?}")) }
        });
        pair(&right, &third);
        agree(&[&third, &right, &left]);
        let over = send(&left, &third, "over the second", 20);
        arrive(&third, &over);
        exchange(&right, &third, 20);
        agree(&[&left, &right, &third]);
    }
}

#[test]
fn own_and_host_nodes_work_with_local_and_tailnet_peers() {
    let Some(tools) = tools_with_namespaces() else { return };
    let mut lab = Lab::new(tools, &["alpha", "beta"]);
    let bare = lab.bare("bare");
    let host = Machine::host(&lab.hosts[0], "host", "ann");
    let own = Machine::own_in(&bare, tools, &lab.tailnet, "own-node", "bob");
    let neighbour = Machine::host(&lab.hosts[0], "neighbour", "cid");
    let far = Machine::host(&lab.hosts[1], "far", "dan");
    let named = |name: &str| scenario(name, vec![host.dir(), own.dir(), neighbour.dir(), far.dir()]);
    {
        let _now = named("own and host node");
        pair(&own, &host);
        exchange(&own, &host, 50);
    }
    {
        let _now = named("two repositories of one machine have a port each");
        assert_ne!(host.port(), neighbour.port());
        pair(&neighbour, &far);
        exchange(&neighbour, &far, 50);
    }
    {
        let _now = named("a local peer beside those of the tailnet");
        peer_joins(host.repo.begin(&["peer", "add", "--via", "local", "--json"]), &neighbour.repo);
        assert_eq!(host.peer(&neighbour.name())["transport"], "local");
        // Every machine knows the agents of all the others.
        agree(&[&far, &neighbour, &host, &own]);
        let over = send(&own, &far, "over two others", 20);
        arrive(&far, &over);
        exchange(&host, &neighbour, 50);
        agree(&[&own, &host, &neighbour, &far]);
    }
    {
        let _now = named("without the tailnet the local peers go on");
        assert!(lab.hosts[0].tailscale(&["down"]).status.success());
        host.is("stopped");
        talk(&host, &neighbour, "still here");
        lab.hosts[0].up();
        host.is("running");
        agree(&[&own, &host, &neighbour, &far]);
    }
}
