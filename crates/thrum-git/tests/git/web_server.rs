//! A web server on 127.0.0.1 that offers the repositories below a directory through `git http-backend`.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The name and password that the server accepts.
pub const NAME: &str = "ann";
pub const PASSWORD: &str = "s3cret-w0rd";

/// What the server does with one request in place of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answers with status 500.
    Fails,
    /// Closes the connection after so many bytes of the request's body. A shorter request is answered.
    StopsReading(usize),
    /// Closes the connection after so many bytes of the response's body. A shorter response is sent.
    StopsWriting(usize),
    /// Does what was asked, and closes the connection without an answer.
    SaysNothing,
}

/// A request for one of git's services, as the server has read it.
#[derive(Clone, Debug)]
pub struct Posted {
    pub service: String,
    pub bytes: usize,
    pub is_chunked: bool,
    pub is_compressed: bool,
}

struct Shared {
    root: PathBuf,
    /// Whether reading needs a password as well.
    is_private: AtomicBool,
    /// A service, and what becomes of the next request for it.
    fault: Mutex<Option<(&'static str, Fault)>>,
    posted: Mutex<Vec<Posted>>,
    is_ended: AtomicBool,
}

/// A running server. It ends when it is dropped.
pub struct WebServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl WebServer {
    /// Starts a server for the repositories below `root`, which needs a password for everything.
    pub fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            is_private: AtomicBool::new(true),
            fault: Mutex::default(),
            posted: Mutex::default(),
            is_ended: AtomicBool::new(false),
        });
        let for_all = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            let mut answering = Vec::new();
            for stream in listener.incoming() {
                if for_all.is_ended.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&for_all);
                // An error means that the client has gone.
                answering.push(thread::spawn(move || drop(stream.and_then(|stream| shared.answer(&stream)))));
            }
            for one in answering {
                let _ = one.join();
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// The address of the place's remote, with what stands before the host.
    pub fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}{}/remote.git", self.address)
    }

    /// Lets everybody read.
    pub fn publish(&self) {
        self.shared.is_private.store(false, Ordering::Relaxed);
    }

    /// Lets the next request for a service fail.
    pub fn fail_next(&self, service: &'static str, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some((service, fault));
    }

    /// Returns `true` if a request has failed since [`fail_next`](Self::fail_next).
    pub fn has_failed(&self) -> bool {
        self.shared.fault.lock().unwrap().is_none()
    }

    /// The requests for services so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.shared.posted.lock().unwrap().clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.shared.is_ended.store(true, Ordering::Relaxed);
        // Ends the wait for the next connection.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// The head of a request.
struct Head {
    method: String,
    path: String,
    query: String,
    fields: BTreeMap<String, String>,
}

impl Head {
    fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let mut line = || {
            let mut line = String::new();
            from.read_line(&mut line).map(|_| line.trim_end().to_owned())
        };
        let first = line()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut head = Self { method, path: path.to_owned(), query: query.to_owned(), fields: BTreeMap::new() };
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(':') else { return Ok(head) };
            head.fields.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding").eq_ignore_ascii_case("chunked")
    }

    /// The service that is asked for; empty if the request is not for one.
    fn service(&self) -> &str {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        if self.method == "POST" { last } else { self.query.strip_prefix("service=").unwrap_or_default() }
    }

    /// Reads at most `most` bytes of the body.
    fn body(&self, from: &mut impl BufRead, most: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if !self.is_chunked() {
            let length = self.field("content-length").parse().unwrap_or(0).min(most as u64);
            from.take(length).read_to_end(&mut body)?;
            return Ok(body);
        }
        while body.len() < most {
            let mut size = String::new();
            from.read_line(&mut size)?;
            let size = u64::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
            from.take(size).read_to_end(&mut body)?;
            from.read_line(&mut String::new())?;
            if size == 0 {
                break;
            }
        }
        Ok(body)
    }
}

impl Shared {
    fn answer(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut from = BufReader::new(stream);
        let head = Head::read(&mut from)?;
        if head.field("expect").eq_ignore_ascii_case("100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let fault = *self.fault.lock().unwrap();
        let fault = fault.filter(|(service, _)| head.method == "POST" && *service == head.service());
        let most = match fault {
            Some((_, Fault::StopsReading(most))) => most,
            _ => usize::MAX,
        };
        let body = head.body(&mut from, most)?;
        if head.method == "POST" {
            self.posted.lock().unwrap().push(Posted {
                service: head.service().into(),
                bytes: body.len(),
                is_chunked: head.is_chunked(),
                is_compressed: head.field("content-encoding") == "gzip",
            });
        }
        // Before a long request, git asks by an empty one whether it is let in.
        let fault = fault.map(|(_, fault)| fault).filter(|_| body != b"0000");
        if fault == Some(Fault::Fails) {
            self.use_fault_up();
            return respond(stream, "500 Internal Server Error", "", b"", usize::MAX);
        }
        if body.len() >= most {
            self.use_fault_up();
            return Ok(());
        }
        let known = format!("Basic {}", data_encoding::BASE64.encode(format!("{NAME}:{PASSWORD}").as_bytes()));
        let is_known = head.field("authorization") == known;
        let is_open = !self.is_private.load(Ordering::Relaxed) && head.service() != "git-receive-pack";
        if !is_known && !is_open {
            let asks = "WWW-Authenticate: Basic realm=\"mail\"\r\n";
            return respond(stream, "401 Unauthorized", asks, b"", usize::MAX);
        }
        let (status, fields, answer) = self.http_backend(&head, body, is_known)?;
        match fault {
            Some(Fault::SaysNothing) => {
                self.use_fault_up();
                Ok(())
            }
            Some(Fault::StopsWriting(most)) if answer.len() > most => {
                self.use_fault_up();
                respond(stream, &status, &fields, &answer, most)
            }
            _ => respond(stream, &status, &fields, &answer, usize::MAX),
        }
    }

    /// Answers the next requests again.
    fn use_fault_up(&self) {
        *self.fault.lock().unwrap() = None;
    }

    /// Runs `git http-backend` for a request. Returns the status, the other fields of the head, and the body.
    fn http_backend(&self, head: &Head, body: Vec<u8>, is_known: bool) -> io::Result<(String, String, Vec<u8>)> {
        let mut command = Command::new("git");
        command.arg("http-backend").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env("GIT_PROJECT_ROOT", &self.root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_ADDR", "127.0.0.1");
        command.env("REQUEST_METHOD", &head.method).env("PATH_INFO", &head.path).env("QUERY_STRING", &head.query);
        command.env("CONTENT_TYPE", head.field("content-type")).env("CONTENT_LENGTH", body.len().to_string());
        command.env("GIT_PROTOCOL", head.field("git-protocol"));
        command.env("HTTP_CONTENT_ENCODING", head.field("content-encoding"));
        if is_known {
            command.env("REMOTE_USER", NAME);
        }
        let mut child = command.spawn()?;
        let mut input = child.stdin.take().unwrap();
        // A request that git does not read to the end has failed, and the answer says so.
        let writing = thread::spawn(move || drop(input.write_all(&body)));
        let output = child.wait_with_output()?.stdout;
        writing.join().unwrap();
        let end = output.windows(4).position(|four| four == b"\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
        let (mut status, mut fields) = ("200 OK".to_owned(), String::new());
        for line in String::from_utf8_lossy(&output[..end]).lines() {
            match line.strip_prefix("Status: ") {
                Some(other) => status = other.to_owned(),
                None => fields.push_str(&format!("{line}\r\n")),
            }
        }
        Ok((status, fields, output[end + 4..].to_vec()))
    }
}

/// Sends a response, of the body at most `most` bytes.
fn respond(mut to: &TcpStream, status: &str, fields: &str, body: &[u8], most: usize) -> io::Result<()> {
    write!(to, "HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
    to.write_all(&body[..most.min(body.len())])
}
