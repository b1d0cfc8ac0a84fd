//! Compresses the data of frames with Zstandard and a fixed dictionary.
//!
//! Each frame is compressed by itself. Otherwise the length of a frame would reveal whether a mail, whose text a peer
//! may choose, repeats a part of a token that was sent in an earlier frame. The dictionary, with examples of the
//! frequent kinds of line, makes up for most of the loss: the names of fields, which are most of a short line, cost
//! almost nothing.
//!
//! The dictionary is a part of the protocol: both sides must have the same bytes. It changes only with the prologue of
//! the handshake.

use std::{cell::RefCell, io};

use zstd::bulk::{Compressor, Decompressor};

/// Lines of the protocol with neutral values.
const DICTIONARY: &[u8] = include_bytes!("dictionary.jsonl");

/// The fastest regular level; higher ones save some 5 % and take twice the time.
const LEVEL: i32 = 1;

/// Data below this length is not compressed.
const WORTHWHILE: usize = 64;

thread_local! {
    // A context takes several hundred kilobytes, so each thread has one, not each connection.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends the compressed `data` to `out`. Returns `false` and leaves `out` unchanged if that would take more than
/// `most` bytes, or is not worth it.
pub(super) fn compress(data: &[u8], most: usize, out: &mut Vec<u8>) -> bool {
    if data.len() < WORTHWHILE {
        return false;
    }
    let start = out.len();
    out.resize(start + most.min(data.len()), 0);
    let compressed = COMPRESSOR.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Compressor::with_dictionary(LEVEL, DICTIONARY)?),
        };
        context.compress_to_buffer(data, &mut out[start..])
    });
    // An error means that the buffer is too small, or that there is no memory for a context.
    out.truncate(start + compressed.as_ref().copied().unwrap_or(0));
    compressed.is_ok()
}

/// Decompresses `data` to at most `most` bytes.
///
/// # Errors
/// `InvalidData` if it is not compressed data, or has more than `most` bytes.
pub(super) fn decompress(data: &[u8], most: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(Decompressor::with_dictionary(DICTIONARY)?),
        };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("cannot decompress a frame: {error}"));
        // The header states the length. It is not believed beyond `most`.
        let length = Decompressor::upper_bound(data).map_or(most, |length| length.min(most));
        context.decompress(data, length).map_err(invalid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_data_is_restored_and_never_longer() {
        let line = DICTIONARY.repeat(3);
        let mut out = b"before".to_vec();
        assert!(compress(&line, usize::MAX, &mut out));
        assert!(out.starts_with(b"before") && out.len() < 100, "{}", out.len());
        assert_eq!(decompress(&out[6..], line.len()).unwrap(), line);
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let mut noise = vec![0; 1000];
        getrandom::fill(&mut noise).unwrap();
        let mut out = b"before".to_vec();
        for (data, most) in [(noise.as_slice(), usize::MAX), (&[b'a'; WORTHWHILE - 1], usize::MAX), (DICTIONARY, 5)] {
            assert!(!compress(data, most, &mut out));
            assert_eq!(out, b"before");
        }
    }

    /// Hostile input (C18 in docs/security.md): a frame of a few bytes that expands to many.
    #[test]
    fn expansion_is_bounded_whatever_the_frame_states() {
        let mut out = Vec::new();
        assert!(compress(&vec![b'a'; 1 << 20], usize::MAX, &mut out));
        assert!(out.len() < 200);
        assert_eq!(decompress(&out, 1 << 20).unwrap().len(), 1 << 20);
        assert_eq!(decompress(&out, (1 << 20) - 1).unwrap_err().kind(), io::ErrorKind::InvalidData);
        for broken in [&b"no such data"[..], &out[..out.len() - 1], &out[1..]] {
            assert_eq!(decompress(broken, 1 << 20).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }

    #[test]
    fn the_dictionary_is_the_one_of_this_protocol() {
        use sha2::{Digest, Sha256};
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(DICTIONARY));
        // A change needs a new prologue: an older daemon could not read the frames.
        assert_eq!((&hash[..16], super::super::PROTOCOL), ("796522166698dcd6", "thrum-stream-2"));
    }
}
