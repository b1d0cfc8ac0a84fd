//! Asks one peer something on a connection of its own, and says how long everything took.

use std::sync::Arc;

use thrum_core::{ErrorKind, Fault, Stamp, limits};
use tokio::time::{Instant, timeout};

use super::{
    Inner, Peers, Pinged, blocking,
    driver::Driver,
    link::{Gone, Talk},
    lock,
    reach::in_words,
};
use crate::{
    clock::go_duration,
    registry::Peer,
    transport::Path,
    wire::{Call, Info, Reply},
};

impl Peers {
    /// Asks a peer (by id or name) who it is, over a connection of its own, and looks at how packets travel to it. Takes at
    /// most [`limits::PEER_PING`].
    ///
    /// # Errors
    /// `NotFound`; `TryAgain` with the reason if it does not answer; the log cannot be read.
    pub async fn ping(&self, id_or_name: &str) -> Result<Pinged, Fault> {
        let peer = self.0.desk().registry.find(id_or_name)?.clone();
        let silent = |why: String| {
            Fault::new(ErrorKind::TryAgain, format!("{} does not answer: {why}", peer.name)).hint("`thrum peer status` says more about it.")
        };
        let asked = timeout(limits::PEER_PING, self.0.measure(&peer)).await;
        let (measured, path) = asked.map_err(|_| silent(format!("nothing within {}", go_duration(limits::PEER_PING))))?;
        let (info, round_trip, offset) = measured.map_err(silent)?;
        let status = lock(&self.0.drivers).get(&peer.daemon_id).map(|driver: &Driver| driver.status().borrow().clone());
        let (log, id) = (Arc::clone(&self.0.log), peer.daemon_id.clone());
        let read = status.as_ref().and_then(|status| status.read_by_them);
        let backlog_to_them = match read {
            Some(read) => blocking(move || log.backlog(&id, read)).await.map(Some)?,
            None => None,
        };
        // As it was reached: the address may have been followed.
        let peer = self.0.desk().registry.get(&peer.daemon_id).cloned().unwrap_or(peer);
        Ok(Pinged {
            name: peer.name,
            daemon_id: peer.daemon_id,
            address: peer.address,
            node: peer.node,
            path: path.map(Into::into),
            round_trip_us: micros(round_trip),
            clock_offset_ms: offset,
            version: info.version,
            our_version: self.0.me.version.clone(),
            backlog_from_them: status.and_then(|status| status.backlog()),
            backlog_to_them,
        })
    }
}

type Measured = Result<(Info, std::time::Duration, Option<i64>), String>;

impl Inner {
    async fn measure(self: &Arc<Self>, peer: &Peer) -> (Measured, Option<Path>) {
        let path = async {
            let transport = self.route(peer).ok()?;
            let address = self.locate(peer, &*transport).await.ok()?.address;
            timeout(limits::PATH, transport.path(&address)).await.ok()?.ok()?
        };
        let call = async {
            let mut talk = Talk::begin(self, peer).await.map_err(|fault| in_words(&fault))?;
            let ask = Call::PeerInfo { digest: false };
            // The first may have to prove who we are, and pays for the connection.
            let mut last = (Info::default(), std::time::Duration::ZERO, None);
            for id in 1..=2 {
                let (started, sent) = (Instant::now(), self.clock.now().at);
                let reply = talk.ask(id, ask.clone()).await.map_err(|gone| match gone {
                    Gone::TooLong => "an answer that is too long".to_owned(),
                    Gone::Lost(why) => why,
                })?;
                let round_trip = started.elapsed();
                match reply {
                    Ok(Reply::Info(info)) if info.daemon_id == peer.daemon_id => {
                        let offset = info.time.map(|theirs| offset(theirs, sent, self.clock.now().at));
                        last = (*info, round_trip, offset);
                    }
                    Ok(Reply::Info(info)) => {
                        return Err(format!("another daemon answers there: {}", thrum_core::name::printable(&info.daemon_id)));
                    }
                    Ok(_) => return Err("a reply to another method".to_owned()),
                    Err(bad) => return Err(bad.to_string()),
                }
            }
            Ok(last)
        };
        tokio::join!(call, path)
    }
}

fn offset(theirs: Stamp, sent: Stamp, now: Stamp) -> i64 {
    (theirs.nanos() - i64::midpoint(sent.nanos(), now.nanos())) / 1_000_000
}

pub(super) fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
