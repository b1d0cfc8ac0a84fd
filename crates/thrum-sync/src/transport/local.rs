//! Loopback TCP: for two repositories on one machine, the demo, and tests.
//!
//! Callers on a loopback port are not always local: a program on this machine may forward connections from the network
//! to it, as a Tailscale node in userspace does with each port that the tailnet's rules allow. The owner of such a node
//! passes a [`Guard`] to the transport. The guard recognizes forwarded connections, which are closed before anything is
//! read. It knows only its own daemon's node: a caller that comes through another daemon's node, or any other
//! forwarder, counts as a program on this machine.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
};

use thrum_core::{Error, ErrorKind, limits, name};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::{Caller, Conn, Kind, Listener, Pending, Transport, local_address, port_owner};

/// Distinguishes programs on this machine from remote callers that are forwarded to loopback.
pub trait Guard: Send + Sync + 'static {
    /// Returns `true` if an accepted connection comes from a program on this machine, as far as can be determined. If
    /// not, the implementation logs the reason, and the connection is closed. The implementation bounds the time.
    fn admits<'a>(&'a self, stream: &'a TcpStream, from: SocketAddr) -> Pending<'a, bool>;
}

/// The local transport.
#[derive(Clone)]
pub struct Local {
    ports: RangeInclusive<u16>,
    guard: Option<Arc<dyn Guard>>,
}

impl Default for Local {
    fn default() -> Self {
        Self::on_ports(limits::PORTS)
    }
}

impl Local {
    /// Creates a transport that picks its first port from `ports` instead of [`limits::PORTS`]. `0..=0` lets the
    /// operating system choose.
    pub const fn on_ports(ports: RangeInclusive<u16>) -> Self {
        Self { ports, guard: None }
    }

    /// Checks each caller with `guard`.
    #[must_use]
    pub fn guarded(self, guard: Arc<dyn Guard>) -> Self {
        Self { guard: Some(guard), ..self }
    }
}

impl Transport for Local {
    fn kind(&self) -> Kind {
        Kind::Local
    }

    fn listen(&self, port: Option<u16>) -> Pending<'_, Result<Box<dyn Listener>, Error>> {
        let ports = port.map_or_else(|| self.ports.clone(), |port| port..=port);
        Box::pin(async move {
            let mut last = None;
            for candidate in ports.clone() {
                match TcpListener::bind((Ipv4Addr::LOCALHOST, candidate))
                    .await
                    .and_then(|listener| Open::new(listener, self.guard.clone()))
                {
                    Ok(open) => return Ok(Box::new(open) as Box<dyn Listener>),
                    Err(error) => last = Some(error),
                }
            }
            let why = last.map_or_else(|| "no port to try".to_owned(), |error| error.to_string());
            Err(match port {
                // Peers know this port. With another port, they would dial the program that has this port now.
                Some(port) => {
                    let owner = port_owner::describe(port);
                    Error::new(
                        ErrorKind::Unavailable,
                        format!("cannot listen on 127.0.0.1:{port}{owner}, the port peers know us by: {why}"),
                    )
                    .hint(format!("Stop the program that has port {port}; the daemon then takes it by itself."))
                }
                None => Error::new(
                    ErrorKind::Unavailable,
                    format!("cannot listen on any of 127.0.0.1:{}-{}: {why}", ports.start(), ports.end()),
                ),
            })
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> Pending<'a, Result<Conn, Error>> {
        Box::pin(async move {
            let address = local_address(address)?;
            let shown = name::printable(&address);
            let stream = TcpStream::connect(&address).await.map_err(|error| {
                let what = match error.kind() {
                    io::ErrorKind::ConnectionRefused => format!("nobody listens at {shown}"),
                    _ => format!("cannot reach {shown}: {error}"),
                };
                Error::new(ErrorKind::Unavailable, what)
                    .hint("Is the daemon of the other repository running, and is the port right?")
            })?;
            let _ = stream.set_nodelay(true);
            Ok(Box::new(stream) as Conn)
        })
    }
}

struct Open {
    listener: TcpListener,
    port: u16,
    guard: Option<Arc<dyn Guard>>,
    /// Pending guard checks; `None` is the result for a caller that is not admitted.
    asked: JoinSet<Option<(TcpStream, SocketAddr)>>,
}

impl Open {
    fn new(listener: TcpListener, guard: Option<Arc<dyn Guard>>) -> io::Result<Self> {
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port, guard, asked: JoinSet::new() })
    }
}

fn program_of_this_machine(stream: TcpStream, from: SocketAddr) -> (Conn, Caller) {
    let _ = stream.set_nodelay(true);
    (Box::new(stream), Caller { address: from.to_string(), kind: Kind::Local, node: None })
}

impl Listener for Open {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn port(&self) -> u16 {
        self.port
    }

    fn accept(&mut self) -> Pending<'_, io::Result<(Conn, Caller)>> {
        Box::pin(async move {
            loop {
                // Several checks run concurrently, so that a slow one does not delay other callers. Each branch is
                // cancel-safe and loses no connection.
                tokio::select! {
                    Some(answer) = self.asked.join_next() => match answer {
                        Ok(Some((stream, from))) => return Ok(program_of_this_machine(stream, from)),
                        Ok(None) => {}
                        Err(error) => tracing::warn!(%error, "local: an internal task failed"),
                    },
                    accepted = self.listener.accept(), if self.asked.len() < limits::MAX_WHOIS => {
                        let (stream, from) = accepted?;
                        if from.ip() != Ipv4Addr::LOCALHOST {
                            tracing::warn!(address = %from.ip(), "local: refused a caller that is not at 127.0.0.1");
                            continue;
                        }
                        let Some(guard) = self.guard.clone() else { return Ok(program_of_this_machine(stream, from)) };
                        self.asked.spawn(async move { guard.admits(&stream, from).await.then_some((stream, from)) });
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::conformance::{self, Places},
        *,
    };

    #[tokio::test]
    async fn conforms() {
        let local = Arc::new(Local::on_ports(0..=0));
        let outside = ["100.64.0.1:9100", "192.168.0.1:80", "example.org:9100"].map(str::to_owned).to_vec();
        conformance::check(&Places {
            here: local.clone(),
            there: local,
            outside,
            deserted: vec!["127.0.0.1:1".to_owned()],
        })
        .await;
    }

    #[tokio::test]
    async fn a_kept_port_that_another_has_is_an_error_and_never_another_port() {
        let local = Local::on_ports(0..=0);
        let first = local.listen(None).await.unwrap();
        let error = local.listen(Some(first.port())).await.err().expect("taken");
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.message.contains(&first.address()) && error.hint.is_some(), "{error}");
    }

    #[tokio::test]
    async fn the_first_free_port_of_the_range_is_taken() {
        let taken = Local::on_ports(0..=0).listen(None).await.unwrap();
        let port = taken.port();
        let next = Local::on_ports(port..=port.saturating_add(50)).listen(None).await.unwrap();
        assert!(next.port() > port);
    }

    /// Addresses other than 127.0.0.1 (C8 in docs/security.md).
    #[tokio::test]
    async fn only_127_0_0_1_is_dialled_and_localhost_means_it() {
        for address in [
            "100.64.0.1:9100",
            "0.0.0.0:9100",
            "192.168.0.1:80",
            "example.org:9100",
            "127.0.0.1.example.org:9100",
            "",
            "[::]:1",
            "[::1]:9100",
            "127.0.0.2:9100",
            "127.1:9100",
            "[::ffff:127.0.0.1]:9100",
        ] {
            let error = Local::default().dial(address).await.err().expect(address);
            assert_eq!(error.kind, ErrorKind::Invalid, "{address}");
        }
        let mut open = Local::on_ports(0..=0).listen(None).await.unwrap();
        let dialled = format!("localhost:{}", open.port());
        let local = Local::default();
        let (dialled, accepted) = tokio::join!(local.dial(&dialled), open.accept());
        assert!(dialled.is_ok() && accepted.is_ok());
    }

    #[tokio::test]
    async fn a_caller_from_another_address_of_this_machine_is_turned_away() {
        let mut open = Local::on_ports(0..=0).listen(None).await.unwrap();
        let from = |ip: [u8; 4]| {
            let (socket, to) = (tokio::net::TcpSocket::new_v4().unwrap(), open.address().parse().unwrap());
            socket.bind(SocketAddr::from((ip, 0))).unwrap();
            socket.connect(to)
        };
        let (alias, own) = (from([127, 0, 0, 2]).await.unwrap(), from([127, 0, 0, 1]).await.unwrap());
        let (_, caller) = open.accept().await.unwrap();
        assert_eq!(caller.address, own.local_addr().unwrap().to_string());
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut { alias }, &mut byte).await;
        assert!(matches!(read, Ok(0) | Err(_)), "closed");
    }
}
