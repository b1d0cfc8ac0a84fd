//! Tests of the test tailnet itself, without Thrum: the basis of all other tests.

use std::time::Duration;

use crate::{spaces::Lab, tools::tools_with_namespaces, waiting::*};

#[test]
fn machines_reach_each_other_directly_over_a_bad_line_and_through_the_relay() {
    let Some(tools) = tools_with_namespaces() else { return };
    let mut lab = Lab::new(tools, &["alpha", "beta"]);
    assert_eq!(lab.tailnet.nodes(), ["alpha", "beta"]);
    let ping = |lab: &Lab| -> Result<String, String> {
        let output = lab.hosts[0].tailscale(&["ping", "-c", "1", "--timeout", "2s", "beta"]);
        let said = String::from_utf8(output.stdout).unwrap();
        if said.contains("pong") { Ok(said) } else { Err(said) }
    };
    let is = |what: &str, lab: &Lab, wanted: &str| {
        until(what, Duration::from_secs(25), || {
            ping(lab).and_then(|said| if said.contains(wanted) { Ok(said) } else { Err(said) })
        })
    };
    is("direct", &lab, "via 10.99.0.3:41641");
    lab.line("line beta 50 0.01");
    let slow = is("a slow line", &lab, "via 10.99.0.3:41641");
    println!("{slow}");
    lab.line("line beta 0 0");
    lab.line("udp off");
    is("relayed", &lab, "via DERP(test)");
    lab.line("udp on");
    is("direct again", &lab, "via 10.99.0.3:41641");
    lab.line("pull beta");
    until("unreachable", Duration::from_secs(20), || ping(&lab).map_or(Ok(()), Err));
    lab.line("plug beta");
    is("back", &lab, "via 10.99.0.3:41641");
    lab.hosts[1].kill_tailscaled();
    lab.hosts[1].start_tailscaled();
    is("restarted", &lab, "via 10.99.0.3:41641");
}
