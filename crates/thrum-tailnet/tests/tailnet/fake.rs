//! A fake LocalAPI that answers as a real `tailscaled` 1.98.0 did, and a fake tailnet of such nodes without packets: a
//! connection to a node's address goes to loopback, as with userspace nodes.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpSocket, UnixListener, UnixStream},
    sync::{Semaphore, broadcast},
    task::JoinSet,
};

const RUNNING: &str = include_str!("../data/running.json");
const WHOIS: &str = include_str!("../data/whois.json");
const PONG: &str = include_str!("../data/ping.json");
const NO_PONG: &str = include_str!("../data/ping-nobody.json");

/// The nodes of the tailnet, and the calling node of each loopback connection.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    /// Node names by address.
    nodes: BTreeMap<String, String>,
    /// Addresses of the calling nodes by the local address of their connections.
    flows: HashMap<SocketAddr, String>,
}

impl World {
    /// Waits until all connections between nodes are closed.
    pub(crate) async fn all_have_hung_up(&self) {
        while !self.known().flows.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }
}

/// A node, which exists while this value lives.
pub(crate) struct Node {
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    world: World,
    name: String,
    status: Mutex<Value>,
    bus: broadcast::Sender<Value>,
    requests: Mutex<Vec<(String, String)>>,
    forbidden: Mutex<bool>,
    refuses_starts: Mutex<bool>,
    /// Limits the answers about callers: one per permit. `None` means no limit.
    callers: Mutex<Option<Arc<Semaphore>>>,
}

impl Node {
    /// Starts a node with this name and address whose LocalAPI listens at `socket`.
    pub(crate) fn start(world: &World, socket: &Path, name: &str, address: &str) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let shared = Arc::new(Shared {
            world: world.clone(),
            name: name.to_owned(),
            status: Mutex::new(serde_json::from_str(RUNNING).unwrap()),
            bus: broadcast::Sender::new(64),
            requests: Mutex::default(),
            forbidden: Mutex::new(false),
            refuses_starts: Mutex::new(false),
            callers: Mutex::new(None),
        });
        let mut server = JoinSet::new();
        let serving = Arc::clone(&shared);
        server.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                open.spawn(async move {
                    let _ = shared.serve(stream).await;
                });
            }
        });
        let node = Self { shared, _server: server };
        node.gets_address(address);
        node
    }

    /// Assigns this address to the node.
    pub(crate) fn gets_address(&self, address: &str) {
        let name = &self.shared.name;
        let mut known = self.shared.world.known();
        known.nodes.retain(|_, other| other != name);
        known.nodes.insert(address.to_owned(), name.clone());
        drop(known);
        let (dns, address) = (format!("{name}.tail.test."), address.to_owned());
        self.changes(move |status| {
            status["TailscaleIPs"] = json!([address]);
            status["Self"]["TailscaleIPs"] = json!([address]);
            status["Self"]["DNSName"] = dns.as_str().into();
            status["Self"]["ID"] = format!("id-{}", first_label(&dns)).into();
        });
    }

    /// Changes the status and notifies watchers.
    pub(crate) fn changes(&self, how: impl FnOnce(&mut Value)) {
        how(&mut self.shared.status.lock().unwrap());
        let _ = self.shared.bus.send(json!({"Version": "1.98.0", "State": null, "ErrMessage": null}));
    }

    /// Switches whether every request is answered with "forbidden".
    pub(crate) fn forbids(&self, forbids: bool) {
        *self.shared.forbidden.lock().unwrap() = forbids;
    }

    /// Switches whether all settings are refused.
    pub(crate) fn refuses_starts(&self, refuses: bool) {
        *self.shared.refuses_starts.lock().unwrap() = refuses;
    }

    /// Answers questions about callers only as often as the semaphore permits.
    pub(crate) fn tells_callers_by(&self, permits: &Arc<Semaphore>) {
        *self.shared.callers.lock().unwrap() = Some(Arc::clone(permits));
    }

    /// All requests received: method and path, and the body.
    pub(crate) fn requests(&self) -> Vec<(String, String)> {
        self.shared.requests.lock().unwrap().clone()
    }
}

struct Request {
    line: String,
    headers: HashMap<String, String>,
    body: String,
}

impl Shared {
    async fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        let request = read(&mut stream).await?;
        self.requests.lock().unwrap().push((request.line.clone(), request.body.clone()));
        assert_eq!(request.headers["host"], "local-tailscaled.sock");
        if *self.forbidden.lock().unwrap() {
            return answer(&mut stream, "403 Forbidden", "access denied\n").await;
        }
        let (what, query) = request.line.split_once('?').unwrap_or((&request.line, ""));
        let query: HashMap<&str, String> =
            query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k, plain(v))).collect();
        match what {
            "GET /localapi/v0/status" => answer(&mut stream, "200 OK", &self.status().to_string()).await,
            "GET /localapi/v0/whois" => {
                let node = self.whois(&query["addr"]).await;
                match node {
                    Some(node) => answer(&mut stream, "200 OK", &node.to_string()).await,
                    None => answer(&mut stream, "404 Not Found", "no match for IP:port\n").await,
                }
            }
            "GET /localapi/v0/watch-ipn-bus" => self.tell_changes(&mut stream).await,
            "GET /localapi/v0/prefs" => answer(&mut stream, "200 OK", r#"{"ControlURL":"http://127.0.0.1:9"}"#).await,
            "POST /localapi/v0/ping" => {
                let known = self.world.known().nodes.contains_key(&query["ip"]);
                answer(&mut stream, "200 OK", if known { PONG } else { NO_PONG }).await
            }
            "POST /localapi/v0/dial" => self.dial(stream, &request).await,
            "POST /localapi/v0/start" if *self.refuses_starts.lock().unwrap() => {
                answer(&mut stream, "500 Internal Server Error", "bad hostname\n").await
            }
            "POST /localapi/v0/start" => {
                self.changes(|status| status["HaveNodeKey"] = true.into());
                answer(&mut stream, "204 No Content", "").await
            }
            "POST /localapi/v0/login-interactive" | "PATCH /localapi/v0/prefs" => {
                answer(&mut stream, "204 No Content", "").await
            }
            other => panic!("a real tailscaled was never asked {other}"),
        }
    }

    fn changes(&self, how: impl FnOnce(&mut Value)) {
        how(&mut self.status.lock().unwrap());
        let _ = self.bus.send(json!({"State": null}));
    }

    fn status(&self) -> Value {
        let mut status = self.status.lock().unwrap().clone();
        let mut peers = serde_json::Map::new();
        for (number, (address, name)) in
            self.world.known().nodes.iter().enumerate().filter(|(_, (_, name))| **name != self.name)
        {
            let peer = json!({"ID": format!("id-{name}"), "PublicKey": format!("nodekey:{name}"), "HostName": name, "UserID": number,
                "DNSName": format!("{name}.tail.test."), "TailscaleIPs": [address], "Online": true});
            peers.insert(format!("nodekey:{name}"), peer);
            status["User"][number.to_string()] = json!({"ID": number, "LoginName": format!("{name}@example.org")});
        }
        status["Peer"] = peers.into();
        status
    }

    async fn whois(&self, of: &str) -> Option<Value> {
        let address = match of.parse::<SocketAddr>() {
            Ok(far_end) => {
                let permits = self.callers.lock().unwrap().clone();
                if let Some(permits) = permits {
                    permits.acquire().await.unwrap().forget();
                }
                self.world.known().flows.get(&far_end).cloned()?
            }
            Err(_) => of.to_owned(),
        };
        let name = self.world.known().nodes.get(&address).cloned()?;
        let mut whois: Value = serde_json::from_str(WHOIS).unwrap();
        whois["Node"]["StableID"] = format!("id-{name}").into();
        whois["Node"]["Name"] = format!("{name}.tail.test.").into();
        whois["Node"]["ComputedName"] = name.as_str().into();
        whois["Node"]["Addresses"] = json!([format!("{address}/32")]);
        whois["UserProfile"]["LoginName"] = format!("{name}@example.org").into();
        Some(whois)
    }

    async fn tell_changes(&self, stream: &mut UnixStream) -> io::Result<()> {
        let mut changes = self.bus.subscribe();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await?;
        let mut next = json!({"SessionID": "6820bfb3603a9696", "State": 6});
        loop {
            let line = format!("{next}\n");
            stream.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await?;
            next = changes.recv().await.map_err(io::Error::other)?;
        }
    }

    async fn dial(&self, mut stream: UnixStream, request: &Request) -> io::Result<()> {
        assert_eq!(request.headers["upgrade"], "ts-dial");
        assert_eq!(request.headers["connection"], "upgrade");
        let (host, port) = (&request.headers["dial-host"], request.headers["dial-port"].parse().unwrap());
        if !self.world.known().nodes.contains_key(host) {
            let head =
                format!("HTTP/1.1 200 OK\r\nDial-Addr: {host}:{port}\r\nDial-Self: true\r\nContent-Length: 0\r\n\r\n");
            return stream.write_all(head.as_bytes()).await;
        }
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let me = self.status.lock().unwrap()["TailscaleIPs"][0].as_str().unwrap().to_owned();
        let near_end = socket.local_addr()?;
        self.world.known().flows.insert(near_end, me);
        match socket.connect(SocketAddr::from(([127, 0, 0, 1], port))).await {
            Ok(mut far) => {
                far.set_nodelay(true)?;
                stream
                    .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ts-dial\r\nConnection: upgrade\r\n\r\n")
                    .await?;
                let ((mut from, mut to), (mut from_far, mut to_far)) = (stream.split(), far.split());
                // When either end closes, both do, and the flow is removed before the far end is closed.
                let end = tokio::select! {
                    end = copy(&mut from, &mut to_far) => end,
                    end = copy(&mut from_far, &mut to) => end,
                };
                self.world.known().flows.remove(&near_end);
                end.map(drop)
            }
            Err(_) => {
                let words = format!("dial failure: connect tcp {host}:{port}: connection was refused\n");
                answer(&mut stream, "502 Bad Gateway", &words).await
            }
        }
    }
}

async fn read(stream: &mut UnixStream) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().strip_suffix(" HTTP/1.1").unwrap().to_owned();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = vec![0; headers.get("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    Ok(Request { line, headers, body: String::from_utf8(body).unwrap() })
}

async fn answer(stream: &mut UnixStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\nTailscale-Cap: 138\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await
}

fn first_label(name: &str) -> &str {
    name.split('.').next().unwrap()
}

fn plain(query: &str) -> String {
    query.replace("%3A", ":").replace("%5B", "[").replace("%5D", "]")
}
