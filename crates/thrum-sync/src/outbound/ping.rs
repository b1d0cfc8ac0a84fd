//! Pings one peer: measures the round-trip time, the offset of the peer's clock and the route.

use std::{fmt, sync::Arc};

use thrum_core::{Error, ErrorKind, limits};
use tokio::time::{Instant, timeout};

use super::{Channel, Outbound};
use crate::{
    answers::{Pinged, micros},
    blocking::blocking,
    clock,
    clock::go_duration,
    error::{PeerError, Violation},
    protocol::wire::{Call, Info, Reply},
    registry::Peer,
    transport::Path,
};

/// The reply, its round-trip time, the offset of the peer's clock, and whether a borrowed connection was used.
type Measured = Result<(Info, std::time::Duration, Option<i64>, bool), PeerError>;

impl Outbound {
    /// Pings a peer (by id or name) over a new connection, or over the one that it has lent, and measures the route to
    /// it. Takes at most [`limits::PEER_PING`].
    ///
    /// # Errors
    /// `NotFound`; `TryAgain` with the reason if the peer does not answer; the log cannot be read.
    pub(crate) async fn ping(self: &Arc<Self>, id_or_name: &str) -> Result<Pinged, Error> {
        let peer = self.env.auth().registry.find(id_or_name)?.clone();
        let silent = |why: &dyn fmt::Display| {
            Error::new(ErrorKind::TryAgain, format!("{} does not answer: {why}", peer.name))
                .hint("`thrum peer status` says more about it.")
        };
        let asked = timeout(limits::PEER_PING, self.measure(&peer)).await;
        let (measured, path) =
            asked.map_err(|_| silent(&format!("nothing within {}", go_duration(limits::PEER_PING))))?;
        let (info, round_trip, offset, is_lent) = measured.map_err(|error| silent(&error))?;
        let status = self.status(&peer.daemon_id).map(|status| status.borrow().clone());
        let (log, id) = (Arc::clone(&self.env.log), peer.daemon_id.clone());
        let read = status.as_ref().and_then(|status| status.exchange.read_by_them);
        let backlog_to_them = match read {
            Some(read) => blocking(move || log.backlog(&id, read)).await.map(Some)?,
            None => None,
        };
        // Use the current entry, because the address may have been updated.
        let peer = self.env.peer(&peer.daemon_id).unwrap_or(peer);
        Ok(Pinged {
            name: peer.name,
            daemon_id: peer.daemon_id,
            address: peer.address,
            node: peer.node,
            path: path.map(Into::into),
            asked_over_its_connection: is_lent,
            round_trip_us: micros(round_trip),
            clock_offset_ms: offset,
            version: info.version,
            our_version: self.env.me.version.clone(),
            backlog_from_them: status.and_then(|status| status.backlog()),
            backlog_to_them,
        })
    }

    async fn measure(self: &Arc<Self>, peer: &Peer) -> (Measured, Option<Path>) {
        let path = async {
            let transport = self.addresses.route(peer).ok()?;
            let address = self.addresses.locate(peer, &*transport).await.ok()?.address;
            timeout(limits::PATH, transport.path(&address)).await.ok()?.ok()?
        };
        let call = async {
            let mut channel = Channel::open(self, peer).await?;
            let ask = Call::PeerInfo { digest: false };
            // Only the second request counts, because the first one may include the proof of our identity.
            let mut last = (Info::default(), std::time::Duration::ZERO, None, channel.is_lent());
            for id in 1..=2 {
                let (started, sent) = (Instant::now(), self.env.clock.now().at);
                let reply = channel.ask(id, ask.clone()).await?;
                let round_trip = started.elapsed();
                match reply? {
                    Reply::Info(info) if info.daemon_id == peer.daemon_id => {
                        let offset = info.time.map(|theirs| clock::offset_ms(theirs, sent, self.env.clock.now().at));
                        last = (*info, round_trip, offset, channel.is_lent());
                    }
                    Reply::Info(info) => return Err(Violation::OtherDaemon(info.daemon_id).into()),
                    _ => return Err(Violation::OtherMethod.into()),
                }
            }
            Ok(last)
        };
        tokio::join!(call, path)
    }
}
