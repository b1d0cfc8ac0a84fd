//! Target: the handshake and the frames of an encrypted connection.

use std::{io, sync::Arc};

use thrum_core::DaemonKey;
use thrum_sync::{
    encrypted::{self, Encrypted, Identity, Keys},
    protocol::wire,
    transport::Kind,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::world::World;

/// The most bytes into which a frame may expand.
const MAX_EXPANDED: usize = 256 << 10;

/// Ends a message in the input for [`contents`].
const END: u8 = 0xff;

/// The first byte chooses what the rest is: a line and a handshake message from a stranger, bytes on the wire, or the
/// contents of frames from a daemon that has the keys. Nothing from a stranger is accepted, and no frame expands beyond
/// its limit.
pub fn encrypted(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => handshake(rest),
        1 => on_the_wire(rest),
        _ => contents(rest),
    }
}

fn identity(seed: u64) -> Identity {
    let key = DaemonKey::generate(&mut World::new(seed));
    Identity {
        daemon_id: key.id().to_string(),
        instance: "0e".to_owned(),
        secret: Arc::new(key.exchange_secret()),
        ambients: Arc::new(move || Box::new(World::new(seed))),
    }
}

fn keys() -> (Keys, Keys) {
    let (caller, listener) = (identity(1), identity(2));
    let (begun, first) = encrypted::begin(&caller, &listener.daemon_id, Kind::Local).expect("it has a key");
    let (second, _, theirs) = encrypted::answer(&listener, &first, Kind::Local).expect("meant for it");
    (begun.complete(&second).expect("its answer").1, theirs)
}

fn handshake(line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    let (caller, listener) = (identity(1), identity(2));
    let messages = wire::read_encrypt(line).map(|(_, message)| message).into_iter().chain([text.into_owned()]);
    for message in messages {
        let (begun, first) = encrypted::begin(&caller, &listener.daemon_id, Kind::Local).expect("it has a key");
        if message != first {
            assert!(encrypted::answer(&listener, &message, Kind::Local).is_err(), "a stranger is admitted");
        }
        assert!(begun.complete(&message).is_err(), "a stranger is taken for the peer");
    }
}

/// Reads everything that a daemon with our keys would read from these bytes.
fn read(bytes: &[u8], keys: Keys) -> (Vec<u8>, io::Result<usize>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut read = Vec::new();
    let stream = tokio::io::join(bytes, tokio::io::sink());
    let end = runtime.block_on(Encrypted::new(stream, keys).read_to_end(&mut read));
    (read, end)
}

fn on_the_wire(bytes: &[u8]) {
    let (_, theirs) = keys();
    let (read, end) = read(bytes, theirs);
    assert!(read.is_empty(), "a frame of a stranger is read");
    assert_eq!(end.is_ok(), bytes.is_empty(), "its bytes are an error");
}

fn contents(bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (ours, theirs) = keys();
    let messages: Vec<&[u8]> = bytes.split(|byte| *byte == END).collect();
    let mut wire = io::Cursor::new(Vec::new());
    let mut stream = Encrypted::new(tokio::io::join(tokio::io::empty(), &mut wire), ours);
    for message in &messages {
        stream.add_frame(message).expect("a frame");
    }
    runtime.block_on(stream.flush()).expect("memory");
    drop(stream);
    let (read, end) = read(wire.get_ref(), theirs);
    assert!(read.len() <= messages.len() * MAX_EXPANDED, "{} bytes", read.len());
    if end.is_ok() {
        assert!(messages.iter().all(|message| matches!(message.first(), Some(0 | 1))), "an unknown form is read");
    }
}
