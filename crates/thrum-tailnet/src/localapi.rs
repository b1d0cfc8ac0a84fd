//! A client of the LocalAPI: HTTP/1.1 on the Unix socket of a `tailscaled`. One connection per call, as Tailscale's own.
//!
//! Every call but [`dial`](LocalApi::dial) and the stream behind [`watch`](LocalApi::watch) ends within
//! [`limits::LOCALAPI_CALL`], and no answer is longer than [`limits::MAX_LOCALAPI_BYTES`].

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
use thrum_core::limits;
use tokio::{net::UnixStream, time::timeout};
use zeroize::Zeroizing;

pub use answers::{NodeStatus, Notice, PeerNode, Pong, Prefs, User, WhoIs, first_label};
pub use bus::Bus;

/// Current state, current health, and changes of the tailnet no more often than every few seconds (`ipn.NotifyWatchOpt`).
const WATCH_MASK: u16 = (1 << 1) | (1 << 7) | (1 << 8);

/// Why a call failed.
#[derive(Debug)]
pub enum ApiError {
    /// Nobody listens on the socket, or there is none. Helps to try again once `tailscaled` runs.
    NotRunning,
    /// This user may not open the socket, or not do this.
    NotPermitted(String),
    /// What was asked about does not exist.
    NotFound,
    /// It was refused or failed; `tailscaled`'s words.
    Failed(String),
    /// No answer in time.
    Timeout,
    /// The connection broke; the reason.
    Broken(String),
    /// The stream has ended.
    Ended,
    /// An answer that is none.
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

/// A `tailscaled`, by its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalApi {
    socket: PathBuf,
}

impl LocalApi {
    /// The one that listens at `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// How it stands, without the other nodes.
    pub async fn status(&self) -> Result<NodeStatus, ApiError> {
        self.get("status?peers=false").await
    }

    /// How it stands, with the other nodes and users.
    pub async fn status_with_peers(&self) -> Result<NodeStatus, ApiError> {
        self.get("status").await
    }

    /// The node that has an address.
    ///
    /// # Errors
    /// `NotFound` if it is nobody's.
    pub async fn whois(&self, address: IpAddr) -> Result<WhoIs, ApiError> {
        self.get(&format!("whois?proto=tcp&addr={}", escaped(&address.to_string()))).await
    }

    /// The node that opened a connection whose far end this is.
    ///
    /// # Errors
    /// `NotFound` if no node did: a program of this machine.
    pub async fn caller(&self, far_end: SocketAddr) -> Result<WhoIs, ApiError> {
        let path = format!("whois?proto=tcp&addr={}", escaped(&far_end.to_string()));
        timeout(limits::WHOIS, self.get(&path)).await.map_err(|_| ApiError::Timeout)?
    }

    /// How packets travel to a node.
    ///
    /// # Errors
    /// `Timeout` for a node that does not answer.
    pub async fn ping(&self, address: IpAddr) -> Result<Pong, ApiError> {
        let path = format!("ping?ip={}&type=disco", escaped(&address.to_string()));
        json(&self.call(Method::POST, &path, Bytes::new()).await?)
    }

    /// What is set.
    pub async fn prefs(&self) -> Result<Prefs, ApiError> {
        self.get("prefs").await
    }

    /// Sets some of it: `ipn.MaskedPrefs`.
    pub async fn edit_prefs(&self, masked: &Value) -> Result<(), ApiError> {
        self.call(Method::PATCH, "prefs", masked.to_string().into()).await.map(drop)
    }

    /// Begins with these settings, and an auth key in `options` if one is needed: `ipn.Options`.
    pub async fn start(&self, options: Zeroizing<String>) -> Result<(), ApiError> {
        // The copy that hyper holds is freed with the connection.
        self.call(Method::POST, "start", Bytes::copy_from_slice(options.as_bytes())).await.map(drop)
    }

    /// Logs in: with the auth key given at the start, or by a URL that then appears in the status.
    pub async fn login_interactive(&self) -> Result<(), ApiError> {
        self.call(Method::POST, "login-interactive", Bytes::new()).await.map(drop)
    }

    /// What changes, from now on.
    pub async fn watch(&self) -> Result<Bus, ApiError> {
        let path = format!("watch-ipn-bus?mask={WATCH_MASK}");
        let response =
            timeout(limits::LOCALAPI_CALL, self.send(Method::GET, &path, Bytes::new())).await.map_err(|_| ApiError::Timeout)??;
        Ok(Bus::new(checked(response).await?.into_body()))
    }

    /// Connects to a node. The caller bounds the time.
    ///
    /// # Errors
    /// `NotFound` for an address outside of the tailnet, `Failed` if nobody answers there.
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
                let upgraded = hyper::upgrade::on(response).await.map_err(|error| ApiError::Broken(error.to_string()))?;
                Ok(TokioIo::new(upgraded))
            }
            // "Dial it yourself": it is not of the tailnet.
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
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory => ApiError::NotRunning,
            _ => ApiError::Broken(error.to_string()),
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| ApiError::Broken(error.to_string()))?;
        // Owned by the response: it ends when the body, the stream or the upgraded connection is dropped.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        sender.send_request(request).await.map_err(|error| ApiError::Broken(error.to_string()))
    }
}

/// What Tailscale's own clients send; another name is refused.
const HOST: &str = "local-tailscaled.sock";

/// Longest text taken over from an answer that says no.
const MAX_WORDS: usize = 300;

/// How long an answer that says no may take to say why.
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
    words.truncate(words.floor_char_boundary(MAX_WORDS));
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

/// For a query: only what addresses consist of is left as it is.
fn escaped(text: &str) -> String {
    text.bytes().map(|b| if b.is_ascii_alphanumeric() || b == b'.' { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
