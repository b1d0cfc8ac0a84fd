//! The frames of an encrypted connection.
//!
//! A frame is two bytes with the length of what follows, in network byte order, and a Noise message of that length: at
//! most 65,535 bytes, of which the last 16 authenticate the rest. The decrypted message is one byte that states its
//! form, and the data, plain or compressed (`compress.rs`). Both sides number the frames, so if a frame was changed,
//! left out, repeated or moved, it or the next one cannot be decrypted, and the connection ends with an error. A frame
//! ends where the writer flushes or the frame is full.
//!
//! Frames and lines have no common boundaries: a line may cover several frames, and a frame several lines. This file
//! knows nothing of lines.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use snow::TransportState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::compress::{compress, decompress};

/// Length of a frame's header, which states the length of the rest.
const HEADER: usize = 2;

/// Length of the tag that authenticates a frame.
const TAG: usize = 16;

/// Maximum length of a Noise message.
const MAX_FRAME: usize = 65_535;

/// Maximum length of the plain or compressed data in one frame.
const MAX_DATA: usize = MAX_FRAME - TAG - 1;

/// Maximum length of the data that is compressed into one frame. A reader reserves at most as much.
const MAX_EXPANDED: usize = 256 << 10;

/// Length of the data for which one frame is tried first: twice what fits uncompressed. The text of messages shrinks to
/// about a third.
const PIECE: usize = 128 << 10;

/// First byte of a message with plain data.
const PLAIN: u8 = 0;

/// First byte of a message with compressed data.
const COMPRESSED: u8 = 1;

/// Minimum room in the buffer for each read from the inner stream.
const READ_AHEAD: usize = 8 << 10;

/// Capacity to which the buffers of received bytes and of frames are shrunk when they are empty.
const KEPT: usize = 16 << 10;

/// The keys of one connection, one for each direction. Used for one stream only.
pub struct Keys(TransportState);

impl Keys {
    pub(super) fn new(state: TransportState) -> Self {
        Self(state)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys([redacted])")
    }
}

/// An encrypted stream over another stream.
pub struct Encrypted<S> {
    inner: S,
    keys: TransportState,
    /// Bytes that were received and not decrypted yet.
    received: Vec<u8>,
    /// Decrypted data. The unread part begins at `read`.
    data: Vec<u8>,
    read: usize,
    /// Data that is not in a frame yet, at most [`MAX_EXPANDED`].
    unsent: Vec<u8>,
    /// Frames to be written. The bytes before `sent` were already written.
    frames: Vec<u8>,
    sent: usize,
}

impl<S> Encrypted<S> {
    /// Wraps `inner`: written data is sent over it in encrypted frames, and frames received from it are decrypted.
    pub fn new(inner: S, Keys(keys): Keys) -> Self {
        let (received, data, unsent, frames) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { inner, keys, received, data, read: 0, unsent, frames, sent: 0 }
    }

    /// Puts the unsent data into frames.
    fn seal(&mut self) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        unsent.chunks(PIECE).try_for_each(|piece| self.seal_piece(piece))
    }

    /// Puts a piece of data into one frame if it can be compressed enough. Otherwise it is split in halves until each
    /// part can, or is short enough to fit into a frame uncompressed.
    fn seal_piece(&mut self, piece: &[u8]) -> io::Result<()> {
        let mut message = vec![COMPRESSED];
        if compress(piece, MAX_DATA, &mut message) {
            return self.encrypt(&message);
        }
        if piece.len() > MAX_DATA {
            let (first, second) = piece.split_at(piece.len() / 2);
            self.seal_piece(first)?;
            return self.seal_piece(second);
        }
        message.clear();
        message.push(PLAIN);
        message.extend_from_slice(piece);
        self.encrypt(&message)
    }

    /// Adds a frame with this message, whatever it is, as a hostile peer may.
    ///
    /// # Errors
    /// The message is too long for a frame.
    #[cfg(any(test, feature = "test-util"))]
    pub fn add_frame(&mut self, message: &[u8]) -> io::Result<()> {
        self.encrypt(message)
    }

    /// Adds a frame with this message.
    fn encrypt(&mut self, message: &[u8]) -> io::Result<()> {
        let length = message.len() + TAG;
        let start = self.frames.len();
        self.frames.resize(start + HEADER + length, 0);
        self.frames[start..start + HEADER].copy_from_slice(&header(length));
        self.keys
            .write_message(message, &mut self.frames[start + HEADER..])
            .map_err(|error| io::Error::other(format!("cannot encrypt: {error}")))?;
        Ok(())
    }

    /// Decrypts one frame: the first `whole` of the received bytes, which include its header.
    fn open(&mut self, whole: usize) -> io::Result<()> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut message = vec![0; whole - HEADER];
        let length = self
            .keys
            .read_message(&self.received[HEADER..whole], &mut message)
            .map_err(|_| invalid("the connection was tampered with: a frame cannot be decrypted"))?;
        self.received.drain(..whole);
        if self.received.is_empty() {
            self.received.shrink_to(KEPT);
        }
        self.read = 0;
        self.data = match message[..length].split_first() {
            Some((&PLAIN, data)) => data.to_vec(),
            Some((&COMPRESSED, data)) => decompress(data, MAX_EXPANDED)?,
            _ => return Err(invalid("a frame of an unknown form")),
        };
        Ok(())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "at most MAX_FRAME")]
const fn header(length: usize) -> [u8; HEADER] {
    (length as u16).to_be_bytes()
}

impl<S: AsyncRead + Unpin> Encrypted<S> {
    /// Receives one frame and decrypts it. Returns `false` if the other side closed the stream between two frames.
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let had = self.received.len();
            let whole = match self.received.get(..HEADER) {
                Some(&[high, low]) => HEADER + usize::from(u16::from_be_bytes([high, low])),
                _ => HEADER + 1,
            };
            if had >= whole {
                self.open(whole)?;
                return Poll::Ready(Ok(true));
            }
            self.received.reserve((whole - had).max(READ_AHEAD));
            match ready!(poll_read_buf(Pin::new(&mut self.inner), context, &mut self.received))? {
                0 if had == 0 => return Poll::Ready(Ok(false)),
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                _ => {}
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Encrypted<S> {
    /// Writes the frames that were made so far.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.frames.len() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(context, &self.frames[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        self.frames.clear();
        self.frames.shrink_to(KEPT);
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read == this.data.len() {
            (this.data, this.read) = (Vec::new(), 0);
            if !ready!(this.poll_frame(context))? {
                return Poll::Ready(Ok(()));
            }
        }
        let part = &this.data[this.read..];
        let length = part.len().min(buffer.remaining());
        buffer.put_slice(&part[..length]);
        this.read += length;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.unsent.len() == MAX_EXPANDED {
            this.seal()?;
        }
        // A reader that does not read must stop the writer: nothing is added while frames wait.
        ready!(this.poll_frames(context))?;
        let length = bytes.len().min(MAX_EXPANDED - this.unsent.len());
        this.unsent.extend_from_slice(&bytes[..length]);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.seal()?;
        ready!(this.poll_frames(context))?;
        Pin::new(&mut this.inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.seal()?;
        ready!(this.poll_frames(context))?;
        Pin::new(&mut this.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::{
        super::{answer, begin, tests::two as identities},
        *,
    };
    use crate::transport::Kind;

    fn keys() -> (Keys, Keys) {
        let (a, b) = identities();
        let (begun, first) = begin(&a, &b.daemon_id, Kind::Local).unwrap();
        let (second, _, theirs) = answer(&b, &first, Kind::Local).unwrap();
        (begun.complete(&second).unwrap().1, theirs)
    }

    fn two(capacity: usize) -> (Encrypted<DuplexStream>, Encrypted<DuplexStream>) {
        let ((a, b), (ours, theirs)) = (duplex(capacity), keys());
        (Encrypted::new(a, ours), Encrypted::new(b, theirs))
    }

    /// Returns the bytes that one side puts on the wire for these writes, each flushed.
    async fn frames(writes: &[&[u8]], keys: Keys) -> Vec<u8> {
        let (raw, mut wire) = duplex(1 << 20);
        let mut stream = Encrypted::new(raw, keys);
        for bytes in writes {
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
        }
        drop(stream);
        let mut all = Vec::new();
        wire.read_to_end(&mut all).await.unwrap();
        all
    }

    async fn read_all(bytes: &[u8], keys: Keys) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        Encrypted::new(bytes_of(bytes), keys).read_to_end(&mut all).await.map(|_| all)
    }

    /// A stream of these bytes, which is read only.
    fn bytes_of(bytes: &[u8]) -> tokio::io::Join<&[u8], tokio::io::Sink> {
        tokio::io::join(bytes, tokio::io::sink())
    }

    #[tokio::test]
    async fn both_directions_carry_any_number_of_bytes_through_small_pipes() {
        for (capacity, length) in [(1, 1000), (3, 70_000), (1000, 200_000), (1 << 20, 200_000)] {
            let (mut a, mut b) = two(capacity);
            let text: Vec<u8> = (0..length).map(|n: u32| n.to_le_bytes()[0]).collect();
            let sent = text.clone();
            let writing = async {
                a.write_all(&sent).await.unwrap();
                a.flush().await.unwrap();
                let mut reply = [0; 5];
                a.read_exact(&mut reply).await.unwrap();
                a.shutdown().await.unwrap();
                reply
            };
            let reading = async {
                let mut read = vec![0; text.len()];
                b.read_exact(&mut read).await.unwrap();
                b.write_all(b"reply").await.unwrap();
                b.flush().await.unwrap();
                assert_eq!(b.read(&mut [0; 8]).await.unwrap(), 0, "closed between two frames");
                read
            };
            let (reply, read) = tokio::join!(writing, reading);
            assert!(read == text && reply == *b"reply");
        }
    }

    #[tokio::test]
    async fn nothing_on_the_wire_is_readable() {
        let (ours, theirs) = keys();
        let wire = frames(&[b"a token and mail"], ours).await;
        assert_eq!(wire.len(), HEADER + 1 + 16 + TAG);
        assert!(!wire.windows(5).any(|part| part == b"token"));
        assert_eq!(read_all(&wire, theirs).await.unwrap(), b"a token and mail");
    }

    /// Every frame is authenticated and in its place.
    #[tokio::test]
    async fn a_changed_missing_repeated_or_moved_frame_ends_the_connection() {
        let wire = || async {
            let (ours, theirs) = keys();
            (frames(&[b"one", b"two"], ours).await, theirs)
        };
        let length = HEADER + 1 + 3 + TAG;
        let (sound, theirs) = wire().await;
        assert_eq!(read_all(&sound, theirs).await.unwrap(), b"onetwo");
        for at in 0..2 * length {
            let (mut changed, theirs) = wire().await;
            changed[at] ^= 1;
            assert!(read_all(&changed, theirs).await.is_err(), "byte {at}");
        }
        for (order, what) in [(&[1][..], "missing"), (&[0, 0], "repeated"), (&[1, 0], "moved")] {
            let (sound, theirs) = wire().await;
            let altered: Vec<u8> = order.iter().flat_map(|n| &sound[n * length..(n + 1) * length]).copied().collect();
            let error = read_all(&altered, theirs).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
        }
        for cut in 1..length {
            let (sound, theirs) = wire().await;
            assert_eq!(read_all(&sound[..cut], theirs).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn a_large_write_is_compressed_as_far_as_its_text_can_be() {
        let mut noise = vec![0; 300_000];
        getrandom::fill(&mut noise).unwrap();
        // Six letters in any order carry 2.6 bits each, twenty-six 4.7.
        let letters = |of: &[u8]| noise.iter().map(|byte| of[usize::from(*byte) % of.len()]).collect::<Vec<u8>>();
        let cases = [
            (vec![b'a'; 300_000], 400),
            (letters(b"abcdef"), 120_000),
            (letters(b"abcdefghijklmnopqrstuvwxyz"), 200_000),
            (noise, 301_000),
        ];
        for (text, most) in cases {
            let (ours, theirs) = keys();
            let wire = frames(&[&text], ours).await;
            assert!(wire.len() < most, "{}", wire.len());
            assert!(read_all(&wire, theirs).await.unwrap() == text);
        }
    }

    #[tokio::test]
    async fn a_frame_of_an_unknown_form_is_refused() {
        for message in [&b""[..], &[2], &[COMPRESSED, 1, 2, 3]] {
            let (ours, theirs) = keys();
            let mut stream = Encrypted::new(bytes_of(b""), ours);
            stream.add_frame(message).unwrap();
            assert_eq!(read_all(&stream.frames, theirs).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[tokio::test]
    async fn a_frame_without_content_is_refused() {
        let (_, theirs) = keys();
        assert_eq!(read_all(&[0, 0, 0], theirs).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
