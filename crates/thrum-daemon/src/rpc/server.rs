//! Accepts local clients: only processes of this user, and only a limited number at a time.

use std::{sync::Arc, time::Duration};

use thrum_core::{Error, ErrorKind, limits};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use super::{
    connection::{self, Service},
    envelope,
};
use crate::shutdown::Shutdown;

/// Pause after the system refuses to accept a connection. Usually no file descriptor is left, and an immediate retry
/// would occupy a core until somebody closes one.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Maximum time to write the line that refuses a connection.
const REFUSAL: Duration = Duration::from_secs(1);

/// Serves as many clients at a time as `room` has permits, until the daemon stops. Further clients are told to try
/// again. Dropping the future stops accepting and does not affect clients that are being served.
pub(crate) async fn accept<S: Service>(
    listener: &UnixListener,
    service: Arc<S>,
    shutdown: Shutdown,
    room: &Arc<Semaphore>,
) {
    let own_uid = rustix::process::geteuid().as_raw();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.stopping() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a local connection");
                sleep(ACCEPT_REST).await;
                continue;
            }
        };
        let caller = stream.peer_cred().map(|caller| caller.uid()).ok();
        if !may_call(caller, own_uid) {
            tracing::warn!(?caller, "refused a local connection of another user");
            shutdown
                .spawn(refuse(stream, Error::new(ErrorKind::Refused, "this daemon serves only the user who runs it")));
            continue;
        }
        match Arc::clone(room).try_acquire_owned() {
            Ok(place) => {
                let (service, told) = (Arc::clone(&service), shutdown.clone());
                shutdown.spawn(async move {
                    connection::serve(stream, service, told).await;
                    drop(place);
                });
            }
            Err(_) => {
                let error = Error::new(
                    ErrorKind::TryAgain,
                    format!("the daemon serves {} connections already", limits::MAX_LOCAL_CONNECTIONS),
                )
                .hint("Close some: each `thrum wait` and each MCP server holds one.");
                shutdown.spawn(refuse(stream, error));
            }
        }
    }
}

/// Checks the caller's user. Usually the socket's mode already excludes other users; this check covers root and mounts
/// that ignore modes.
fn may_call(caller: Option<u32>, own_uid: u32) -> bool {
    caller == Some(own_uid)
}

async fn refuse(mut stream: UnixStream, error: Error) {
    let line = envelope::failure(&error, None);
    let _ = timeout(REFUSAL, stream.write_all(line.as_bytes())).await;
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, BufReader},
        sync::mpsc,
    };

    use super::*;
    use crate::rpc::{
        connection::{Kept, Reply, TimeBound},
        envelope::Params,
    };

    /// Answers, hangs or streams as the request asks, and reports the end of its calls and guards.
    struct Situation {
        told: mpsc::UnboundedSender<&'static str>,
    }

    struct Tell(mpsc::UnboundedSender<&'static str>, &'static str);

    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }

    impl Service for Situation {
        fn time_bound(&self, method: &str) -> Option<TimeBound> {
            match method {
                "echo" | "hang" | "keep" => Some(TimeBound::Prompt),
                "wait" | "watch" => Some(TimeBound::Long),
                _ => None,
            }
        }

        async fn call(&self, method: &str, params: &Params, kept: &mut Kept) -> Result<Reply, Error> {
            match method {
                "echo" => Ok(Reply::Answer(envelope::result(&params.read::<Value>()?)?)),
                "keep" => {
                    kept.keep(Tell(self.told.clone(), "kept"));
                    Ok(Reply::Answer(envelope::result(&json!({}))?))
                }
                "watch" => {
                    let (sender, receiver) = mpsc::channel(4);
                    for n in 0..2 {
                        sender.send(envelope::notification("n", &json!({"n": n}))).await.expect("room");
                    }
                    // The stream stays open as long as the connection does.
                    kept.keep(sender);
                    Ok(Reply::Stream(envelope::result(&json!({}))?, receiver))
                }
                _ => {
                    let _ = self.told.send("began");
                    let _tell = Tell(self.told.clone(), "given up");
                    std::future::pending().await
                }
            }
        }
    }

    struct Running {
        _dir: tempfile::TempDir,
        path: PathBuf,
        shutdown: Shutdown,
        told: mpsc::UnboundedReceiver<&'static str>,
    }

    fn run(most: usize) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, told) = mpsc::unbounded_channel();
        let shutdown = Shutdown::default();
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            accept(&listener, Arc::new(Situation { told: sender }), stop, &Arc::new(Semaphore::new(most))).await
        });
        Running { _dir: dir, path, shutdown, told }
    }

    struct Client(BufReader<UnixStream>);

    impl Running {
        async fn client(&self) -> Client {
            Client(BufReader::new(UnixStream::connect(&self.path).await.unwrap()))
        }
    }

    impl Client {
        async fn send(&mut self, bytes: impl AsRef<[u8]>) {
            self.0.write_all(bytes.as_ref()).await.unwrap();
        }

        async fn call(&mut self, method: &str, id: u32) {
            self.send(format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"n\":{id}}},\"id\":{id}}}\n"
            ))
            .await;
        }

        /// Reads the next line; null at the end of the stream.
        async fn line(&mut self) -> Value {
            let mut line = String::new();
            self.0.read_line(&mut line).await.unwrap();
            if line.is_empty() { Value::Null } else { serde_json::from_str(&line).unwrap() }
        }
    }

    #[tokio::test]
    async fn pipelined_requests_are_answered_in_order_despite_malformed_ones_between_them() {
        let running = run(4);
        let mut client = running.client().await;
        client.call("echo", 1).await;
        client.send("nonsense\n\r\n").await;
        client.call("no.such", 2).await;
        client.call("echo", 3).await;
        assert_eq!(client.line().await, json!({"jsonrpc": "2.0", "result": {"n": 1}, "id": 1}));
        assert_eq!(client.line().await["error"]["code"], -32700);
        assert_eq!(client.line().await["error"]["code"], -32700);
        assert_eq!(client.line().await["error"]["data"], "method 'no.such' is not registered");
        assert_eq!(client.line().await["result"]["n"], 3);
    }

    #[tokio::test]
    async fn an_incomplete_request_at_the_end_is_not_executed() {
        let running = run(4);
        let mut client = running.client().await;
        client.send("{\"jsonrpc\":\"2.0\",\"method\":\"echo\",\"id\":1}").await;
        client.0.get_mut().shutdown().await.unwrap();
        assert_eq!(client.line().await, Value::Null);
    }

    #[tokio::test]
    async fn c18_a_line_beyond_the_bound_is_refused_and_others_are_served_meanwhile() {
        let running = run(4);
        let (mut reader, mut writer) = running.client().await.0.into_inner().into_split();
        let flood = tokio::spawn(async move {
            let chunk = vec![b'x'; 1 << 20];
            // The loop ends when the daemon closes the connection.
            while writer.write_all(&chunk).await.is_ok() {}
        });
        let mut other = running.client().await;
        other.call("echo", 1).await;
        assert_eq!(other.line().await["result"]["n"], 1);
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["error"]["data"]["kind"], "invalid");
        flood.await.unwrap();
    }

    #[tokio::test]
    async fn c17_one_connection_too_many_gets_a_try_again_error() {
        let running = run(2);
        let (mut first, mut second) = (running.client().await, running.client().await);
        for client in [&mut first, &mut second] {
            client.call("echo", 1).await;
            client.line().await;
        }
        let mut third = running.client().await;
        let answer = third.line().await;
        assert_eq!(
            (&answer["error"]["data"]["kind"], &answer["error"]["data"]["retryable"]),
            (&json!("try_again"), &json!(true))
        );
        assert_eq!(third.line().await, Value::Null);
        second.call("echo", 2).await;
        assert_eq!(second.line().await["result"]["n"], 2);
    }

    #[tokio::test]
    async fn a_wait_ends_with_its_connection_and_drops_its_guards() {
        let mut running = run(4);
        let mut client = running.client().await;
        client.call("keep", 1).await;
        client.line().await;
        client.call("wait", 2).await;
        assert_eq!(running.told.recv().await, Some("began"));
        drop(client);
        assert_eq!(running.told.recv().await, Some("given up"));
        assert_eq!(running.told.recv().await, Some("kept"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_closes_its_writing_half_still_gets_its_answer() {
        let mut running = run(4);
        let mut client = running.client().await;
        client.call("wait", 1).await;
        client.0.get_mut().shutdown().await.unwrap();
        assert_eq!(running.told.recv().await, Some("began"));
        sleep(Duration::from_secs(10)).await;
        assert!(running.told.try_recv().is_err(), "it still listens");
        drop(client);
        assert_eq!(running.told.recv().await, Some("given up"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_prompt_call_that_hangs_is_answered_in_time_and_the_connection_goes_on() {
        let running = run(4);
        let mut client = running.client().await;
        client.call("hang", 1).await;
        let answer = client.line().await;
        assert_eq!(answer["error"]["data"]["kind"], "try_again");
        client.call("echo", 2).await;
        assert_eq!(client.line().await["result"]["n"], 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_client_is_disconnected() {
        let running = run(4);
        let mut client = running.client().await;
        client.send("{\"jsonrpc\":\"2.0\"").await;
        let began = tokio::time::Instant::now();
        assert_eq!(client.line().await, Value::Null);
        assert_eq!(began.elapsed().as_secs(), limits::LOCAL_IDLE.as_secs());
    }

    #[tokio::test]
    async fn a_stream_carries_its_lines_until_the_client_leaves() {
        let running = run(1);
        let mut client = running.client().await;
        client.call("watch", 1).await;
        assert_eq!(client.line().await["id"], 1);
        assert_eq!(client.line().await["params"]["n"], 0);
        assert_eq!(client.line().await["params"]["n"], 1);
        drop(client);
        assert_eq!(running.shutdown.drain(limits::DRAIN).await, 0);
    }

    #[tokio::test]
    async fn stopping_ends_waits_with_an_error_and_idle_clients_without() {
        let mut running = run(4);
        let (mut waiting, mut idle) = (running.client().await, running.client().await);
        idle.call("echo", 1).await;
        idle.line().await;
        waiting.call("wait", 1).await;
        waiting.call("echo", 2).await;
        assert_eq!(running.told.recv().await, Some("began"));
        assert_eq!(running.shutdown.drain(limits::DRAIN).await, 0);
        assert_eq!(waiting.line().await["error"]["message"], "the daemon is stopping");
        assert_eq!((waiting.line().await, idle.line().await), (Value::Null, Value::Null));
    }

    #[test]
    fn c14_only_the_user_of_the_daemon_may_call() {
        assert!(may_call(Some(1000), 1000));
        assert!(!may_call(Some(1001), 1000) && !may_call(Some(0), 1000) && !may_call(None, 0));
    }
}
