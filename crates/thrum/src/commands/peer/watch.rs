//! `thrum peer status --watch`: shows the peers again whenever their state changes, until it is interrupted, and how far
//! a catch-up is.

use std::{
    io::{self, IsTerminal},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use thrum_core::Error;

use super::Details;
use crate::{
    answers::{Answer, Peer},
    catch_up::CatchUps,
    context::Context,
    render::{Page, Render},
};

/// Pause between two looks at the state.
const EVERY: Duration = Duration::from_millis(500);

/// Moves the cursor of a terminal to its upper left corner and clears the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the peers until standard output is closed.
pub(super) fn run(cx: &Context) -> Result<Box<dyn Render>, Error> {
    let on_terminal = io::stdout().is_terminal() && !cx.output.is_json();
    let mut catch_ups = CatchUps::default();
    let mut shown = None;
    // One connection for all looks: a daemon that somebody stops ends the watch, and is not started again by it.
    let mut client = cx.daemon()?;
    loop {
        let peers: Answer<Vec<Peer>> = client.call("peer.status", json!({}))?;
        catch_ups.record(&peers.read);
        // On a terminal the times since something happened go on.
        if on_terminal || shown.as_ref() != Some(&peers.raw) {
            if on_terminal {
                cx.output.text(CLEAR)?;
            }
            shown = Some(peers.raw.clone());
            let progress = peers.read.iter().filter_map(|peer| Some((peer.daemon_id.clone(), catch_ups.of(peer)?)));
            if !cx.output.result(&Details { progress: progress.collect(), peers })? {
                return Ok(Box::new(Ended));
            }
        }
        thread::sleep(EVERY);
    }
}

/// The result of a watch: everything was printed already.
struct Ended;

impl Render for Ended {
    fn human(&self, _page: &mut Page) {}

    fn json(&self) -> Value {
        Value::Null
    }
}
