//! A client of the LocalAPI: HTTP/1.1 on the Unix socket of a `tailscaled`. Uses one connection per call, as
//! Tailscale's own client does.
//!
//! Every call except [`dial`](LocalApi::dial) and the stream behind [`watch`](LocalApi::watch) ends within
//! [`limits::LOCALAPI_CALL`], and no answer may exceed [`limits::MAX_LOCALAPI_BYTES`].

mod answers;
mod bus;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thrum_core::{bounds, limits};
use tokio::{net::UnixStream, time::timeout};
use zeroize::Zeroizing;

pub use answers::{NodeStatus, Notice, PeerNode, Pong, Prefs, User, WhoIs, first_label};
pub use bus::Bus;

/// Requests the current state, the current health, and rate-limited changes of the tailnet, every few seconds at most
/// (`ipn.NotifyWatchOpt`).
const WATCH_MASK: u16 = (1 << 1) | (1 << 7) | (1 << 8);

/// The reason why a call failed.
#[derive(Debug)]
pub enum ApiError {
    /// The socket does not exist or nothing listens on it. Retrying helps once `tailscaled` runs.
    NotRunning,
    /// This user may not open the socket, or may not make this call.
    NotPermitted(String),
    /// The requested object does not exist.
    NotFound,
    /// The call was refused or failed; contains the message of `tailscaled`.
    Failed(String),
    /// There was no answer in time.
    Timeout,
    /// The connection broke, or the answer was too long; contains the reason.
    Broken(String),
    /// The notification stream has ended.
    Ended,
    /// The answer could not be parsed.
    Unreadable(String),
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning => f.write_str("tailscaled is not running"),
            Self::NotPermitted(why) => write!(f, "tailscaled does not permit it: {why}"),
            Self::NotFound => f.write_str("tailscaled does not know it"),
            Self::Failed(why) => f.write_str(why),
            Self::Timeout => f.write_str("tailscaled does not answer"),
            Self::Broken(why) => write!(f, "the connection to tailscaled broke: {why}"),
            Self::Ended => f.write_str("tailscaled ended"),
            Self::Unreadable(why) => write!(f, "tailscaled answered something else than expected: {why}"),
        }
    }
}

impl std::error::Error for ApiError {}

/// A `tailscaled`, identified by its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalApi {
    socket: PathBuf,
}

impl LocalApi {
    /// A client for the `tailscaled` that listens at `socket`. Opens nothing yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The status of the node, without the other nodes.
    pub async fn status(&self) -> Result<NodeStatus, ApiError> {
        self.get("status?peers=false").await
    }

    /// The status of the node, with the other nodes and users.
    pub async fn status_with_peers(&self) -> Result<NodeStatus, ApiError> {
        self.get("status").await
    }

    /// Returns the node that has an address.
    ///
    /// # Errors
    /// `NotFound` if no node has it.
    pub async fn whois(&self, address: IpAddr) -> Result<WhoIs, ApiError> {
        self.get(&format!("whois?proto=tcp&addr={}", escaped(&address.to_string()))).await
    }

    /// Returns the node that opened a connection, given the remote address of that connection.
    ///
    /// # Errors
    /// `NotFound` if no node did, so the caller is a program of this machine; also if a node's connection has ended.
    pub async fn caller(&self, far_end: SocketAddr) -> Result<WhoIs, ApiError> {
        let path = format!("whois?proto=tcp&addr={}", escaped(&far_end.to_string()));
        timeout(limits::WHOIS, self.get(&path)).await.map_err(|_| ApiError::Timeout)?
    }

    /// Pings a node and reports the path of the packets.
    ///
    /// # Errors
    /// `Timeout` for a node that does not answer.
    pub async fn ping(&self, address: IpAddr) -> Result<Pong, ApiError> {
        let path = format!("ping?ip={}&type=disco", escaped(&address.to_string()));
        json(&self.call(Method::POST, &path, Bytes::new()).await?)
    }

    /// The preferences of the node.
    pub async fn prefs(&self) -> Result<Prefs, ApiError> {
        self.get("prefs").await
    }

    /// Changes some preferences: `ipn.MaskedPrefs`.
    pub async fn edit_prefs(&self, masked: &Value) -> Result<(), ApiError> {
        self.call(Method::PATCH, "prefs", masked.to_string().into()).await.map(drop)
    }

    /// Starts the backend with `options` (`ipn.Options`): the preferences, and the auth key if there is one.
    pub async fn start(&self, options: Zeroizing<String>) -> Result<(), ApiError> {
        // Hyper needs a copy of its own, which is freed with the connection but not wiped.
        self.call(Method::POST, "start", Bytes::copy_from_slice(options.as_bytes())).await.map(drop)
    }

    /// Logs in, with the auth key passed to [`start`](Self::start), or interactively at a URL that then appears in the
    /// status.
    pub async fn login_interactive(&self) -> Result<(), ApiError> {
        self.call(Method::POST, "login-interactive", Bytes::new()).await.map(drop)
    }

    /// Subscribes to changes of the node.
    pub async fn watch(&self) -> Result<Bus, ApiError> {
        let path = format!("watch-ipn-bus?mask={WATCH_MASK}");
        let response = timeout(limits::LOCALAPI_CALL, self.send(Method::GET, &path, Bytes::new()))
            .await
            .map_err(|_| ApiError::Timeout)??;
        Ok(Bus::new(checked(response).await?.into_body()))
    }

    /// Connects to a node. The caller must apply a timeout.
    ///
    /// # Errors
    /// `NotFound` for an address outside the tailnet, `Failed` if no program listens there.
    pub async fn dial(&self, address: SocketAddr) -> Result<TokioIo<hyper::upgrade::Upgraded>, ApiError> {
        let request = Request::post("/localapi/v0/dial")
            .header(header::HOST, HOST)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "ts-dial")
            .header("Dial-Host", address.ip().to_string())
            .header("Dial-Port", address.port())
            .header("Dial-Network", "tcp")
            .body(Full::new(Bytes::new()))
            .map_err(|error| ApiError::Unreadable(error.to_string()))?;
        let response = self.send_request(request).await?;
        match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {
                let upgraded =
                    hyper::upgrade::on(response).await.map_err(|error| ApiError::Broken(error.to_string()))?;
                Ok(TokioIo::new(upgraded))
            }
            // This status means "dial it yourself": the address is outside the tailnet.
            StatusCode::OK => Err(ApiError::NotFound),
            _ => Err(checked(response).await.err().unwrap_or(ApiError::Ended)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        json(&self.call(Method::GET, path, Bytes::new()).await?)
    }

    async fn call(&self, method: Method, path: &str, content: Bytes) -> Result<Bytes, ApiError> {
        timeout(limits::LOCALAPI_CALL, async { body(self.send(method, path, content).await?).await })
            .await
            .map_err(|_| ApiError::Timeout)?
    }

    async fn send(&self, method: Method, path: &str, content: Bytes) -> Result<Response<Incoming>, ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/localapi/v0/{path}"))
            .header(header::HOST, HOST)
            .body(Full::new(content))
            .map_err(|error| ApiError::Unreadable(error.to_string()))?;
        self.send_request(request).await
    }

    async fn send_request(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ApiError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => ApiError::NotPermitted(error.to_string()),
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => {
                ApiError::NotRunning
            }
            _ => ApiError::Broken(error.to_string()),
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| ApiError::Broken(error.to_string()))?;
        // Owned by the response: the task ends when the body, the stream or the upgraded connection is dropped.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        sender.send_request(request).await.map_err(|error| ApiError::Broken(error.to_string()))
    }
}

/// The host name that Tailscale's own clients send. `tailscaled` refuses any other.
const HOST: &str = "local-tailscaled.sock";

/// Longest text taken from an error answer, in bytes.
const MAX_WORDS: usize = 300;

/// How long an error answer may take to deliver its text.
const WORDS: Duration = Duration::from_secs(1);

async fn body(response: Response<Incoming>) -> Result<Bytes, ApiError> {
    let response = checked(response).await?;
    let collected = Limited::new(response.into_body(), limits::MAX_LOCALAPI_BYTES).collect().await;
    collected.map(http_body_util::Collected::to_bytes).map_err(|error| ApiError::Broken(error.to_string()))
}

async fn checked(response: Response<Incoming>) -> Result<Response<Incoming>, ApiError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let words = timeout(WORDS, Limited::new(response.into_body(), 64 << 10).collect()).await;
    let words = words.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let mut words = String::from_utf8_lossy(&words).trim().to_owned();
    bounds::truncate(&mut words, MAX_WORDS);
    if words.is_empty() {
        words = status.to_string();
    }
    Err(match status {
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => ApiError::NotPermitted(words),
        StatusCode::NOT_FOUND => ApiError::NotFound,
        _ => ApiError::Failed(words),
    })
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| ApiError::Unreadable(error.to_string()))
}

/// Escapes an address for a query: everything except ASCII letters, digits and dots.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'.' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
