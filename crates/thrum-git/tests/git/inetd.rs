//! Starts one process for each connection to a port of 127.0.0.1, whose input and output are the connection, as inetd
//! does. So a test needs no port that is free at the moment, and knows all processes.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// A port at which a program answers. Its processes end when it is dropped.
pub struct Inetd {
    address: SocketAddr,
    children: Arc<Mutex<Vec<Child>>>,
    is_ended: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Inetd {
    /// Lets the program of `command` answer.
    pub fn start(command: impl Fn() -> Command + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (children, is_ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (started, ended) = (Arc::clone(&children), Arc::clone(&is_ended));
        let accepting = thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let stream = OwnedFd::from(stream.unwrap());
                let mut command = command();
                command.stdin(Stdio::from(stream.try_clone().unwrap())).stdout(Stdio::from(stream));
                started.lock().unwrap().push(command.stderr(Stdio::null()).spawn().unwrap());
            }
        });
        Self { address, children, is_ended, accepting: Some(accepting) }
    }

    /// Where the program answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of connections so far.
    pub fn connections(&self) -> usize {
        self.children.lock().unwrap().len()
    }
}

impl Drop for Inetd {
    fn drop(&mut self) {
        self.is_ended.store(true, Ordering::Relaxed);
        // Ends the wait for the next connection.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        for mut child in self.children.lock().unwrap().drain(..) {
            // An error means that it has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
