//! Events from peers.

use super::{SOME, mailbox::Base, survives};

/// C26, I4, I5: events, projection and checkpoint are stored together; a fault of the disk does not park or reject
/// events.
#[test]
fn c26_receiving_survives_every_fault() {
    let base = Base::new();
    survives("receiving", &base, SOME, |_, store, seen| {
        base.batches.iter().try_for_each(|_| seen.take(store, &base.batches))
    });
}

/// C26: between own new mail.
#[test]
fn c26_receiving_between_own_messages_survives_every_fault() {
    let base = Base::new();
    survives("receiving and sending", &base, SOME, |_, store, seen| {
        for n in 0..base.batches.len() {
            seen.take(store, &base.batches)?;
            seen.send(store, &format!("own {n} {}", "w".repeat(n * 2000)))?;
        }
        Ok(())
    });
}
