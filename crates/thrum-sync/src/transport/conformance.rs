//! Conformance suite for all transports: loopback, in memory, and both kinds of tailnet node.
//!
//! [`check`] runs the whole suite and panics at the first failure.

use std::{sync::Arc, time::Duration};

use thrum_core::ErrorKind;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{Caller, Condition, Conn, Listener, Transport};

/// Maximum duration of each step, after which a transport that hangs fails. Not a performance measure.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two endpoints on one network, both up. On loopback they are the same.
#[derive(Clone)]
pub struct Places {
    /// The first endpoint.
    pub here: Arc<dyn Transport>,
    /// The second endpoint.
    pub there: Arc<dyn Transport>,
    /// Addresses outside of the network. Dialling them must be refused, even if a program listens there.
    pub outside: Vec<String>,
    /// Addresses in the network's form at which nothing listens.
    pub deserted: Vec<String>,
}

/// Runs the whole suite.
pub async fn check(places: &Places) {
    both_are_up_and_of_one_kind(places);
    bytes_travel_both_ways_and_an_end_is_seen(places).await;
    a_caller_is_the_node_that_has_the_address(places).await;
    many_callers_are_all_accepted(places).await;
    a_kept_port_is_had_again_and_never_exchanged(places).await;
    nobody_listens_once_the_listener_is_dropped(places).await;
    what_lies_outside_is_not_dialled(places).await;
}

fn both_are_up_and_of_one_kind(places: &Places) {
    assert_eq!(places.here.kind(), places.there.kind());
    for place in [&places.here, &places.there] {
        assert_eq!(*place.condition().borrow(), Condition::Up);
    }
}

async fn bytes_travel_both_ways_and_an_end_is_seen(places: &Places) {
    for (from, to) in [(&places.here, &places.there), (&places.there, &places.here)] {
        let mut listener = listen(to, None).await;
        let (mut called, mut caller, _) = connect(from, &mut *listener).await;
        let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut received = vec![0; sent.len()];
        let ((), ()) = soon("bytes arrive", async {
            tokio::join!(async { caller.write_all(&sent).await.expect("written") }, async {
                called.read_exact(&mut received).await.expect("read");
            })
        })
        .await;
        assert!(received == sent, "the bytes that were sent arrive in their order");
        soon("an answer arrives", async {
            called.write_all(b"back\n").await.expect("written");
            let mut answer = [0; 5];
            caller.read_exact(&mut answer).await.expect("read");
            assert_eq!(&answer, b"back\n");
        })
        .await;
        drop(called);
        let end = soon("the end is seen", caller.read(&mut [0; 1])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

async fn a_caller_is_the_node_that_has_the_address(places: &Places) {
    let mut one = listen(&places.here, None).await;
    let mut other = listen(&places.there, None).await;
    let (_, _, caller) = connect(&places.there, &mut *one).await;
    assert_eq!(caller.kind, places.here.kind());
    assert!(!caller.address.is_empty());
    // The node that the called endpoint reports for the caller must be the one that has the caller's listening address.
    let node = soon("who has an address", places.here.node_at(&other.address())).await.expect("known");
    assert_eq!(caller.node, node);
    if let Some(node) = node {
        assert!(!node.id.is_empty());
        let neighbours = soon("the neighbours", places.here.neighbours()).await.expect("known");
        let host = &neighbours.iter().find(|neighbour| neighbour.node == node).expect("a neighbour").host;
        assert_eq!(soon("who has a host", places.here.node_at(host)).await.expect("known"), Some(node));
    }
    let (_, _, caller) = connect(&places.here, &mut *other).await;
    assert_eq!(caller.node, soon("who has an address", places.there.node_at(&one.address())).await.expect("known"));
}

async fn many_callers_are_all_accepted(places: &Places) {
    const CALLERS: u8 = 50;
    let mut listener = listen(&places.there, None).await;
    let address = listener.address();
    let calls = async {
        let mut open = Vec::new();
        for number in 0..CALLERS {
            let mut conn = places.here.dial(&address).await.expect("dialled");
            conn.write_all(&[number]).await.expect("written");
            open.push(conn);
        }
        open
    };
    let answers = async {
        let mut seen = Vec::new();
        for _ in 0..CALLERS {
            let (mut conn, _) = listener.accept().await.expect("accepted");
            let mut number = [0];
            conn.read_exact(&mut number).await.expect("read");
            seen.push(number[0]);
        }
        seen.sort_unstable();
        seen
    };
    let (_open, seen) = soon("all callers are accepted", async { tokio::join!(calls, answers) }).await;
    assert_eq!(seen, (0..CALLERS).collect::<Vec<_>>());
}

async fn a_kept_port_is_had_again_and_never_exchanged(places: &Places) {
    let first = listen(&places.here, None).await;
    let (address, port) = (first.address(), first.port());
    assert!(address.ends_with(&format!(":{port}")), "{address}");
    let error = soon("listening", places.here.listen(Some(port))).await.err().expect("the port is taken");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.hint.is_some(), "{error}");
    drop(first);
    let again = listen(&places.here, Some(port)).await;
    assert_eq!((again.address(), again.port()), (address, port));
}

async fn nobody_listens_once_the_listener_is_dropped(places: &Places) {
    let listener = listen(&places.there, None).await;
    let address = listener.address();
    drop(listener);
    match soon("dialling", places.here.dial(&address)).await {
        Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable, "{error}"),
        // On some networks, only the opened connection shows that nobody listens.
        Ok(mut conn) => {
            let end = soon("the end is seen", conn.read(&mut [0; 1])).await;
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        }
    }
}

/// Addresses outside of the network, and deserted ones (C8 in docs/security.md).
async fn what_lies_outside_is_not_dialled(places: &Places) {
    for address in places.outside.iter().map(String::as_str).chain(["", ":", "nowhere", ":9100"]) {
        let error =
            soon("dialling", places.here.dial(address)).await.err().unwrap_or_else(|| panic!("{address} was dialled"));
        assert!(matches!(error.kind, ErrorKind::Invalid | ErrorKind::NotFound), "{address}: {error}");
    }
    for address in &places.deserted {
        let error =
            soon("dialling", places.here.dial(address)).await.err().unwrap_or_else(|| panic!("{address} was dialled"));
        assert!(matches!(error.kind, ErrorKind::Unavailable | ErrorKind::NotFound), "{address}: {error}");
    }
}

async fn listen(at: &Arc<dyn Transport>, port: Option<u16>) -> Box<dyn Listener> {
    soon("listening", at.listen(port)).await.unwrap_or_else(|error| panic!("cannot listen: {error}"))
}

/// Connects `from` to the listener. Returns the called end, the calling end, and the reported caller.
async fn connect(from: &Arc<dyn Transport>, to: &mut dyn Listener) -> (Conn, Conn, Caller) {
    let address = to.address();
    soon("connecting", async {
        let (calling, called) = tokio::join!(from.dial(&address), to.accept());
        let (called, caller) = called.expect("accepted");
        (called, calling.unwrap_or_else(|error| panic!("cannot dial {address}: {error}")), caller)
    })
    .await
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what}: not within {}s", PATIENCE.as_secs()))
}
