//! Input from strangers and broken peers, over real sockets.

use thrum_core::{ErrorKind, limits};
use thrum_sync::transport::Kind;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::kit::{Daemon, PATIENCE};

/// Starts a daemon that listens, and opens a stranger's connection to it.
async fn visited() -> (Daemon, BufReader<TcpStream>) {
    let daemon = Daemon::start("alpha").await;
    let pairing = daemon.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let stream = TcpStream::connect(&pairing.address).await.unwrap();
    (daemon, BufReader::new(stream))
}

async fn answer(stream: &mut BufReader<TcpStream>, line: &str) -> String {
    stream.get_mut().write_all(format!("{line}\n").as_bytes()).await.unwrap();
    let mut reply = String::new();
    tokio::time::timeout(PATIENCE, stream.read_line(&mut reply)).await.expect("an answer").unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_callers_get_gos_error_and_keep_the_connection() {
    let (_daemon, mut stream) = visited().await;
    let deep = format!(r#"{{"method":"sync.pull","params":{}"#, "[".repeat(10_000));
    for (line, expected) in [
        ("good day", r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"}}"#),
        ("[]", r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"}}"#),
        (&deep, r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"parse error"}}"#),
        (
            r#"{"method":"sync.pull","params":{"token":"x"},"id":1}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32000,"message":"unauthorized: unknown peer token"},"id":1}"#,
        ),
        (
            r#"{"method":"health","id":2}"#,
            r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"method not found: health"},"id":2}"#,
        ),
    ] {
        assert_eq!(answer(&mut stream, line).await, format!("{expected}\n"));
    }
}

/// C18: one gigabyte is offered, but the daemon hangs up long before.
#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_a_gigabyte_is_refused_at_its_beginning() {
    let (_daemon, stream) = visited().await;
    let (mut reader, mut writer) = tokio::io::split(stream.into_inner());
    let chunk = vec![b'x'; 1 << 16];
    let mut written = 0;
    while written < 1 << 30 {
        match writer.write(&chunk).await {
            Ok(taken) => written += taken,
            Err(_) => break,
        }
    }
    assert!(written < 64 << 20, "{written} bytes were taken");
    let mut reply = Vec::new();
    // The unread rest of the line makes the daemon's system reset the connection, and the reply may be lost.
    let _ = reader.read_to_end(&mut reply).await;
    assert!(reply.is_empty() || String::from_utf8_lossy(&reply).contains("a request of more than 65536 bytes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_a_little_too_long_is_told_so() {
    let (_daemon, mut stream) = visited().await;
    let reply = answer(&mut stream, &"x".repeat(limits::MAX_PEER_REQUEST_BYTES + 1)).await;
    assert!(reply.contains("a request of more than 65536 bytes") && reply.contains("\"kind\":\"invalid\""), "{reply}");
}

/// C17: an occasional byte does not keep a stranger's connection open. The runtime's clock advances when all tasks are
/// idle.
#[tokio::test(start_paused = true)]
async fn a_silent_or_slow_unauthenticated_caller_is_disconnected() {
    let (_daemon, mut silent) = visited().await;
    let mut slow = TcpStream::connect(silent.get_ref().peer_addr().unwrap()).await.unwrap();
    let start = tokio::time::Instant::now();
    let mut rest = Vec::new();
    let drip = async {
        while slow.write_all(b"{").await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
    };
    let (gone, ()) = tokio::join!(silent.read_to_end(&mut rest), drip);
    assert!(gone.is_ok() && rest.is_empty());
    assert!(start.elapsed() < limits::UNAUTHENTICATED_DEADLINE * 2, "{:?}", start.elapsed());
}

/// A JSON number is neither a code nor a guess.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_is_a_number_is_refused_uncounted() {
    let (daemon, mut stream) = visited().await;
    for _ in 0..20 {
        let reply =
            answer(&mut stream, r#"{"method":"pair.request","params":{"code":1234,"daemon_id":"d_x"},"id":1}"#).await;
        assert!(reply.contains("invalid params: json: cannot unmarshal number"), "{reply}");
    }
    assert!(!daemon.directory.path().join("pairing.json").exists());
}

/// C8
#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_cannot_make_us_dial_elsewhere() {
    let daemon = Daemon::start("alpha").await;
    for address in
        ["192.168.0.1:80", "0.0.0.0:9100", "100.64.0.9:9100", "evil.example:9100", "127.0.0.1:\\u001b[2J", "127.0.0.1"]
    {
        let pairing = daemon.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
        let mut stream = BufReader::new(TcpStream::connect(&pairing.address).await.unwrap());
        let code = pairing.code.reveal();
        let request = format!(
            r#"{{"method":"pair.request","params":{{"code":"{code}","daemon_id":"d_x","address":"{address}"}},"id":1}}"#
        );
        let reply = answer(&mut stream, &request).await;
        assert!(reply.contains("is not on this machine") || reply.contains("is not HOST:PORT"), "{reply}");
        assert!(daemon.peers.wait_pairing().await.is_err());
    }
    assert!(daemon.peers.list().is_empty());
}

/// C9: the reply to `pair.request` is lost after we stored the peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_half_made_pairing_is_healed_by_pairing_again() {
    let (a, b) = (Daemon::start("alpha").await, Daemon::start("beta").await);
    let pairing = a.peers.start_pairing(Kind::Local, PATIENCE).await.unwrap();
    let mut stream = BufReader::new(TcpStream::connect(&pairing.address).await.unwrap());
    let (code, id) = (pairing.code.reveal(), &b.id);
    let request =
        format!(r#"{{"method":"pair.request","params":{{"code":"{code}","daemon_id":"{id}","name":"beta"}},"id":1}}"#);
    assert!(answer(&mut stream, &request).await.contains("\"paired\""));
    assert_eq!(a.peers.list().len(), 1);
    let half = a.peers.wait_pairing().await.unwrap();
    assert!(!half.syncing && half.message.is_some(), "{half:?}");
    assert_eq!(half.pairing.as_deref(), Some("plain"));
    let (here, there) = a.pair(&b).await;
    assert!(here.syncing && there.syncing, "{here:?} {there:?}");
    assert_eq!(a.peers.list().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_code_or_no_address_is_refused_before_anything_is_sent() {
    let daemon = Daemon::start("alpha").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for code in ["42", "４２４２", " 0042", "00042", ""] {
        assert_eq!(daemon.peers.join(&address, code).await.unwrap_err().kind, ErrorKind::Invalid, "{code}");
    }
    for address in ["", "127.0.0.1:x", "100.64.0.1:9100", "example.org"] {
        assert_eq!(daemon.peers.join(address, "0042").await.unwrap_err().kind, ErrorKind::Invalid, "{address}");
    }
    assert!(futures_are_pending(listener.accept()).await, "nobody came");
}

async fn futures_are_pending<T>(future: impl Future<Output = T>) -> bool {
    tokio::select! {
        biased;
        _ = future => false,
        () = std::future::ready(()) => true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_listens_or_something_else_does_is_named() {
    let daemon = Daemon::start("alpha").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    for (speaks, expected) in [
        ("SSH-2.0-OpenSSH_9.7\r\n", "does not answer in Thrum's protocol"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "it answers in HTTP: Go Thrum v0.7 or later"),
        ("[{\"id\":1}]\n", "does not answer in Thrum's protocol"),
        ("{\"id\":7,\"result\":{}}\n", "answered request 7 where 1 was asked"),
        ("{\"id\":1,\"result\":{\"status\":\"paired\"}}\n", "makes no sense"),
        ("{\"id\":1,\"err", "closed in the middle of a line"),
        ("", "the connection was closed"),
    ] {
        let serve = async {
            let mut stream = listener.accept().await.unwrap().0;
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(speaks.as_bytes()).await.unwrap();
        };
        let (refused, ()) = tokio::join!(daemon.peers.join(&address, "0042"), serve);
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{speaks}");
        assert!(refused.message.contains(expected) && refused.hint.is_some(), "{speaks}: {refused}");
    }
    drop(listener);
    let refused = daemon.peers.join(&address, "0042").await.unwrap_err();
    assert_eq!((refused.kind, refused.message), (ErrorKind::Unavailable, format!("nobody listens at {address}")));
    assert!(daemon.peers.list().is_empty());
}

/// The runtime's clock advances when all tasks are idle, so ten seconds of silence take no real time.
#[tokio::test(start_paused = true)]
async fn an_address_that_hangs_is_given_up() {
    let daemon = Daemon::start("alpha").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (refused, _held) = tokio::join!(daemon.peers.join(&address, "0042"), listener.accept());
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert!(refused.message.contains("silence for 10s"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_registry_stops_the_start_and_is_left_alone() {
    let daemon = Daemon::start("alpha").await;
    let path = daemon.directory.path().join("peers.json");
    std::fs::write(&path, "{\"peers\":[{").unwrap();
    let error = crate::kit::start_peers("alpha", &daemon.id, &daemon.log, &daemon.directory).await.err().unwrap();
    assert!(error.message.contains("peers.json cannot be used") && error.hint.is_some(), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"peers\":[{");
}
