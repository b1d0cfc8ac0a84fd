//! A tailnet inside one process: named nodes with changeable addresses, switchable conditions, and callers that the
//! network identifies. Does not simulate time or loss.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use thrum_core::{Error, ErrorKind, limits};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::{mpsc, watch},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::transport::{
    Caller, Condition, Conn, Kind, Listener, Neighbour, Node, Path, Pending, Transport, split_address,
};

/// Buffer size for each direction of a connection, in bytes.
const IN_FLIGHT: usize = 64 << 10;

/// Maximum number of connections waiting to be accepted. Further dials wait.
const ACCEPT_QUEUE: usize = 64;

/// A tailnet. A clone is another handle to the same tailnet.
#[derive(Clone, Default)]
pub struct MemoryTailnet(Arc<Mutex<Net>>);

#[derive(Default)]
struct Net {
    machines: BTreeMap<String, Machine>,
    hosts: u8,
    /// All dialled addresses, each with the node that dialled.
    dialled: Vec<(String, String)>,
}

struct Machine {
    node: Node,
    full_name: String,
    host: String,
    online: bool,
    relay: Option<String>,
    /// Whether dials to this machine hang.
    deaf: bool,
    /// Whether other nodes can identify this machine.
    known: bool,
    condition: watch::Sender<Condition>,
    listeners: BTreeMap<u16, mpsc::Sender<(Conn, Caller)>>,
    /// Breaks open connections when the machine loses its network or its address.
    cut: CancellationToken,
    /// Silences open connections without ending them.
    frozen: CancellationToken,
}

/// One node: a [`Transport`] of [`Kind::Tailnet`]. A clone is another handle to the same node, as for two daemons on
/// one machine.
#[derive(Clone)]
pub struct MemoryNode {
    net: MemoryTailnet,
    id: String,
}

impl MemoryTailnet {
    /// Adds a node of `user`, at the next of the addresses `100.64.0.1`, …; the node is up. The node's id differs from
    /// `name`. A name without a dot belongs to `memory.test`.
    pub fn node(&self, name: &str, user: &str) -> MemoryNode {
        let mut net = self.lock();
        net.hosts += 1;
        let id = format!("n{}", net.hosts);
        let (label, full_name) = match name.split_once('.') {
            Some((label, _)) => (label, name.to_owned()),
            None => (name, format!("{name}.memory.test")),
        };
        let machine = Machine {
            node: Node { id: id.clone(), name: label.to_owned(), user: user.to_owned() },
            full_name,
            host: format!("100.64.0.{}", net.hosts),
            online: true,
            relay: None,
            deaf: false,
            known: true,
            condition: watch::Sender::new(Condition::Up),
            listeners: BTreeMap::new(),
            cut: CancellationToken::new(),
            frozen: CancellationToken::new(),
        };
        net.machines.insert(id.clone(), machine);
        MemoryNode { net: self.clone(), id }
    }

    /// Returns all addresses dialled so far, each with the id of the node that dialled.
    pub fn dialled(&self) -> Vec<(String, String)> {
        self.lock().dialled.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Net> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Net {
    fn at(&self, address: &str) -> Option<&Machine> {
        let host = split_address(address).map_or(address, |(host, _)| host);
        self.machines.values().find(|machine| machine.host == host)
    }
}

impl MemoryNode {
    /// Returns this node's identity.
    pub fn node(&self) -> Node {
        self.machine(|machine| machine.node.clone())
    }

    /// Returns this node's current address, without a port.
    pub fn host(&self) -> String {
        self.machine(|machine| machine.host.clone())
    }

    /// Sets the condition. Unless it is `Up`, listeners end and connections break.
    pub fn set(&self, condition: Condition) {
        self.machine(|machine| {
            if condition != Condition::Up {
                machine.disconnect();
            }
            machine.condition.send_replace(condition);
        });
    }

    /// Gives the node another address. Its listeners end and its connections break.
    pub fn move_to(&self, host: &str) {
        self.machine(|machine| {
            machine.disconnect();
            host.clone_into(&mut machine.host);
        });
    }

    /// Sets the relay that carries its packets; `None` for a direct route.
    pub fn set_relay(&self, relay: Option<&str>) {
        self.machine(|machine| machine.relay = relay.map(str::to_owned));
    }

    /// Makes dials to this node hang: neither connected nor refused.
    pub fn set_deaf(&self, deaf: bool) {
        self.machine(|machine| machine.deaf = deaf);
    }

    /// Prevents other nodes from identifying connections from this node.
    pub fn hide(&self) {
        self.machine(|machine| machine.known = false);
    }

    /// Makes open connections silent, without an end or an error, as when the `tailscaled` of a machine is killed.
    /// Connections opened afterwards work.
    pub fn freeze(&self) {
        self.machine(|machine| std::mem::take(&mut machine.frozen).cancel());
    }

    /// Makes the other nodes see this node as online or offline. Its listeners end and its connections break.
    pub fn set_online(&self, online: bool) {
        self.machine(|machine| {
            machine.disconnect();
            machine.online = online;
        });
    }

    /// Removes the node from the tailnet. The handle must not be used afterwards.
    pub fn delete(&self) {
        if let Some(mut machine) = self.net.lock().machines.remove(&self.id) {
            machine.disconnect();
        }
    }

    fn machine<T>(&self, look: impl FnOnce(&mut Machine) -> T) -> T {
        let mut net = self.net.lock();
        #[expect(clippy::expect_used, reason = "for tests, which do not use a node that they deleted")]
        look(net.machines.get_mut(&self.id).expect("a node of this tailnet"))
    }

    fn up(&self) -> Result<(), Error> {
        self.machine(|machine| machine.condition.borrow().error().map_or(Ok(()), Err))
    }

    fn open(&self, port: Option<u16>) -> Result<Open, Error> {
        self.up()?;
        let (offer, incoming) = mpsc::channel(ACCEPT_QUEUE);
        self.machine(|machine| {
            // Ports whose listener was dropped are free again.
            machine.listeners.retain(|_, listener| !listener.is_closed());
            let free = |port: &u16| !machine.listeners.contains_key(port);
            let host = &machine.host;
            let port = match port {
                Some(port) if !free(&port) => {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        format!("cannot listen on {host}:{port}: it is taken"),
                    )
                    .hint(format!("Stop the program that has port {port}; the daemon then takes it by itself.")));
                }
                Some(port) => port,
                None => limits::PORTS
                    .clone()
                    .find(free)
                    .ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("no port free on {host}")))?,
            };
            machine.listeners.insert(port, offer);
            Ok(Open { host: machine.host.clone(), port, incoming })
        })
    }
}

impl Machine {
    fn disconnect(&mut self) {
        self.listeners.clear();
        std::mem::take(&mut self.cut).cancel();
    }
}

/// Prefix of the nodes' addresses.
const NETWORK: &str = "100.64.";

impl Transport for MemoryNode {
    fn kind(&self) -> Kind {
        Kind::Tailnet
    }

    fn condition(&self) -> watch::Receiver<Condition> {
        self.machine(|machine| machine.condition.subscribe())
    }

    fn node_at<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Node>, Error>> {
        Box::pin(async move {
            self.up()?;
            match self.net.lock().at(address) {
                Some(machine) => Ok(Some(machine.node.clone())),
                None => Err(Error::new(ErrorKind::NotFound, format!("no node of the tailnet has {address}"))),
            }
        })
    }

    fn own_node(&self) -> Pending<'_, Result<Option<Node>, Error>> {
        Box::pin(async move {
            self.up()?;
            Ok(Some(self.node()))
        })
    }

    fn neighbours(&self) -> Pending<'_, Result<Vec<Neighbour>, Error>> {
        Box::pin(async move {
            self.up()?;
            let net = self.net.lock();
            let others = net.machines.values().filter(|machine| machine.node.id != self.id);
            let neighbour = |machine: &Machine| Neighbour {
                node: machine.node.clone(),
                full_name: machine.full_name.clone(),
                host: machine.host.clone(),
                online: machine.online,
            };
            Ok(others.map(neighbour).collect())
        })
    }

    fn path<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Option<Path>, Error>> {
        Box::pin(async move {
            self.up()?;
            let net = self.net.lock();
            let machine = net
                .at(address)
                .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("no node of the tailnet has {address}")))?;
            Ok(Some(Path { relay: machine.relay.clone(), round_trip: Duration::from_millis(1) }))
        })
    }

    fn listen(&self, port: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Error>> {
        Box::pin(async move { Ok(Box::new(self.open(port)?) as Box<dyn Listener>) })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Conn, Error>> {
        Box::pin(async move {
            self.up()?;
            let nobody = || Error::new(ErrorKind::Unavailable, format!("nobody answers at {address}"));
            let outside = || Error::new(ErrorKind::Invalid, format!("{address} is not on the tailnet"));
            let (ours, theirs) = duplex(IN_FLIGHT);
            let target = {
                let mut net = self.net.lock();
                net.dialled.push((self.id.clone(), address.to_owned()));
                let (_, port) = split_address(address).ok_or_else(outside)?;
                if !address.starts_with(NETWORK) {
                    return Err(outside());
                }
                let near = net.machines.get(&self.id).ok_or_else(nobody)?;
                let (caller_node, from, near_cut) =
                    (near.known.then(|| near.node.clone()), near.host.clone(), near.cut.clone());
                let near_frozen = near.frozen.clone();
                let machine = net.at(address).ok_or_else(nobody)?;
                let offer = machine.listeners.get(&port).cloned().ok_or_else(nobody)?;
                let deaf = machine.deaf;
                // The connection breaks as soon as either machine loses its network or its address.
                let cuts = || [near_cut.clone(), machine.cut.clone()];
                let frozen = || [near_frozen.clone(), machine.frozen.clone()];
                let (conn, far) = (Breakable::new(ours, cuts(), frozen()), Breakable::new(theirs, cuts(), frozen()));
                let caller = Caller { address: format!("{from}:40000"), kind: Kind::Tailnet, node: caller_node };
                (!deaf).then_some((offer, conn, far, caller))
            };
            let Some((offer, conn, far, caller)) = target else { return std::future::pending().await };
            offer.send((Box::new(far) as Conn, caller)).await.map_err(|_| nobody())?;
            Ok(Box::new(conn) as Conn)
        })
    }
}

struct Open {
    host: String,
    port: u16,
    incoming: mpsc::Receiver<(Conn, Caller)>,
}

impl Listener for Open {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn accept(&mut self) -> Pending<'_, io::Result<(Conn, Caller)>> {
        Box::pin(async { self.incoming.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into()) })
    }
}

/// A stream that fails once either end has lost its network, and hangs once either end is frozen.
struct Breakable {
    stream: DuplexStream,
    cuts: [Pin<Box<WaitForCancellationFutureOwned>>; 2],
    frozen: [CancellationToken; 2],
}

impl Breakable {
    fn new(stream: DuplexStream, cuts: [CancellationToken; 2], frozen: [CancellationToken; 2]) -> Self {
        Self { stream, cuts: cuts.map(|cut| Box::pin(cut.cancelled_owned())), frozen }
    }

    fn is_frozen(&self) -> bool {
        self.frozen.iter().any(CancellationToken::is_cancelled)
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cuts.iter_mut().any(|cut| cut.as_mut().poll(cx).is_ready()) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Breakable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        if self.is_frozen() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        if self.is_frozen() {
            // The operating system accepts the bytes, but they never arrive.
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::transport::conformance::{self, Places};

    #[tokio::test]
    async fn the_tailnet_in_memory_does_what_every_transport_must() {
        let net = MemoryTailnet::default();
        let (here, there) = (net.node("a", "ann"), net.node("b", "ben"));
        let outside = ["192.168.0.1:80", "127.0.0.1:9100"].map(str::to_owned).to_vec();
        let deserted = vec!["100.64.0.99:9100".to_owned()];
        conformance::check(&Places { here: Arc::new(here), there: Arc::new(there), outside, deserted }).await;
    }

    #[tokio::test]
    async fn nodes_reach_each_other_know_each_other_and_lose_each_other() {
        let net = MemoryTailnet::default();
        let (a, b) = (net.node("a", "ann"), net.node("b", "ben"));
        let mut listener = a.listen(None).await.unwrap();
        let address = listener.address();
        let (dialled, accepted) = tokio::join!(b.dial(&address), listener.accept());
        let (mut near, (mut far, caller)) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(caller.node, Some(b.node()));
        near.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(b.node_at(&address).await.unwrap(), Some(a.node()));
        assert_eq!(
            b.neighbours().await.unwrap(),
            [Neighbour { node: a.node(), full_name: "a.memory.test".into(), host: a.host(), online: true }]
        );
        assert!(a.listen(Some(listener.port())).await.is_err(), "taken");

        a.move_to("100.64.0.77");
        assert_eq!(listener.accept().await.err().unwrap().kind(), io::ErrorKind::NotConnected);
        assert!(near.read_exact(&mut heard).await.is_err());
        assert_eq!(b.dial(&address).await.err().unwrap().kind, ErrorKind::Unavailable);
        assert_eq!(b.node_at(&address).await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(
            a.listen(Some(listener.port())).await.unwrap().address(),
            format!("100.64.0.77:{}", listener.port())
        );
        a.set(Condition::Off);
        assert!(a.listen(None).await.is_err());
        assert_eq!(net.dialled().len(), 2);
    }
}
