//! Target: the parsers of a peer's replies.

use thrum_core::{exchange::Page, exchange::Row, limits};
use thrum_sync::{
    intake,
    protocol::wire::{self, BadReply, Info, Pulled, Served},
};

use crate::{
    assert_sayable,
    event::{assert_kept, assert_rejected},
    log::Nothing,
};

/// The id of the request that the line answers.
const ASKED: u64 = 1;

/// Parses one line as the reply to each of our requests, except `sync.hello` and `sync.encrypt`. An accepted value is
/// within the limits and survives being served again; the error for a rejected one is safe to display.
pub fn peer_reply(line: &[u8]) {
    let info = said(wire::read_info(line, ASKED));
    if let Some(info) = info {
        assert_info(&info);
    }
    if let Some(pulled) = said(wire::read_pulled(line, ASKED)) {
        assert_pulled(pulled);
    }
    if let Some(paired) = said(wire::read_paired(line, ASKED)) {
        assert!((1..=limits::MAX_FOREIGN_ID_BYTES).contains(&paired.daemon_id.len()));
        assert!(!format!("{paired:?}").contains(paired.token.reveal()), "a token is not printed");
        let again = wire::read_paired(
            wire::paired_line(&id(), &paired.token, &paired.daemon_id, &paired.name).as_bytes(),
            ASKED,
        );
        let again = again.expect("what is written reads");
        assert!(
            again.token.matches(paired.token.reveal())
                && (again.daemon_id, again.name) == (paired.daemon_id, paired.name)
        );
    }
    if let Some(probed) = said(wire::read_probed(line, ASKED)) {
        assert!(probed.daemon_id.len() <= limits::MAX_FOREIGN_ID_BYTES);
        assert_sayable(&probed.name);
        assert_sayable(&probed.version);
    }
    if let Some(confirmed) = said(wire::read_confirmed(line, ASKED)) {
        let written = wire::confirmed_line(
            &id(),
            &confirmed.confirmation,
            &confirmed.sealed,
            &confirmed.daemon_id,
            &confirmed.name,
        );
        assert_eq!(wire::read_confirmed(written.as_bytes(), ASKED), Ok(confirmed));
    }
    if let Some(message) = said(wire::read_begun(line, ASKED)) {
        assert_eq!(wire::read_begun(wire::begun_line(&id(), &message).as_bytes(), ASKED), Ok(message));
    }
    if let Some(numbers) = said(wire::read_numbers(line, ASKED, 3)) {
        assert!(numbers.held.len().max(numbers.purged.len()) <= limits::MAX_TOLD_RUNS);
        assert!(numbers.next == 0 || numbers.next > 3, "it goes on");
        assert_eq!(wire::read_numbers(wire::numbers_line(&id(), &numbers).as_bytes(), ASKED, 3), Ok(numbers));
    }
    if let Some(listing) = said(wire::read_listing(line, ASKED, "b", "")) {
        assert_eq!(wire::read_listing(wire::listing_line(&id(), &listing).as_bytes(), ASKED, "b", ""), Ok(listing));
    }
    said(wire::read_notified(line, ASKED));
    said(wire::read_proved(line, ASKED));
}

fn id() -> wire::Id {
    Some(serde_json::value::to_raw_value(&ASKED).expect("a number is JSON"))
}

/// Returns the parsed value. For an error, checks that it is safe to display.
fn said<T>(read: Result<T, BadReply>) -> Option<T> {
    read.inspect_err(|error| {
        assert_sayable(&error.to_string());
        if let BadReply::Error(error) = error {
            assert!(error.challenge().is_none_or(|challenge| challenge.len() <= limits::MAX_FOREIGN_ID_BYTES));
        }
    })
    .ok()
}

fn assert_info(info: &Info) {
    for id in [Some(&info.daemon_id), info.log.as_ref()].into_iter().flatten() {
        assert!(id.len() <= limits::MAX_FOREIGN_ID_BYTES);
    }
    info.version.iter().for_each(|version| assert_sayable(version));
    let again = wire::read_info(wire::info_line(&id(), info).as_bytes(), ASKED).expect("what is written reads");
    // The version is escaped for display each time it is read.
    assert_eq!(
        Info { version: None, ..again },
        Info { version: None, ..info.clone() },
        "what is written reads the same"
    );
}

/// Checks each event of a batch. Accepted events must be the same for a peer that reads them from us.
fn assert_pulled(pulled: Pulled) {
    assert!(pulled.log.as_ref().is_none_or(|log| (1..=limits::MAX_FOREIGN_ID_BYTES).contains(&log.len())));
    let served = pulled.events.len();
    let batch = intake::batch("d_peer", "log", 1, &pulled.events, &Nothing).expect("nothing is read from a log");
    assert_eq!(batch.events.len() + batch.rejected.len(), served, "let in or said why");
    batch.rejected.iter().for_each(assert_rejected);
    batch.events.iter().for_each(assert_kept);
    let rows = batch.events.iter().zip(1..).map(|(event, sequence)| Row {
        sequence,
        id: event.id.clone(),
        kind: event.kind.clone(),
        origin: event.origin.clone(),
        body: event.body.clone(),
        reference: None,
    });
    let line = wire::pull_line(&id(), &Page { rows: rows.collect(), more: pulled.more }, "log");
    assert!(!line.contains('\n'), "a reply is one line");
    let again = wire::read_pulled(line.as_bytes(), ASKED).expect("what is served reads");
    assert!(
        again.events.iter().zip(1..).all(|(Served { sequence, .. }, n)| *sequence == n) && again.more == pulled.more
    );
    let relayed = intake::batch("d_peer", "log", 1, &again.events, &Nothing).expect("nothing is read from a log");
    assert_eq!(relayed.rejected, [], "what we let in, the next one lets in");
    assert_eq!(relayed.events, batch.events, "and as the same");
}
