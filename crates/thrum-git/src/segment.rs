//! Segments: events as lines of canonical JSON, compressed.

use thrum_core::Ambient;
use thrum_sync::protocol::wire::Served;

use crate::{
    limits, manifest,
    seal::{self, Key},
};

/// Encodes events, given by their canonical forms. `key` encrypts them.
pub(crate) fn encode<'a>(
    bodies: impl Iterator<Item = &'a str>,
    key: Option<&Key>,
    ambient: &mut dyn Ambient,
) -> Vec<u8> {
    let mut lines = String::new();
    for body in bodies {
        lines.push_str(body);
        lines.push('\n');
    }
    // Compression into a vector fails only without memory.
    seal::close(key, zstd::bulk::compress(lines.as_bytes(), manifest::LEVEL).unwrap_or_default(), ambient)
}

/// Decodes a segment into its events, whose content is not checked. `None` if the segment is no segment, too large, or
/// encrypted with another key.
pub(crate) fn decode(bytes: Vec<u8>, key: Option<&Key>) -> Option<Vec<Served>> {
    if bytes.len() > limits::MAX_SEGMENT_BYTES {
        return None;
    }
    let bytes = seal::open(key, bytes)?;
    let lines = zstd::bulk::decompress(&bytes, limits::MAX_EXPANDED_BYTES).ok()?;
    let lines = String::from_utf8(lines).ok()?;
    let served = |(line, sequence): (&str, i64)| Served {
        sequence,
        envelope: [const { None }; 4],
        event_json: line.to_owned(),
        reference: None,
    };
    Some(lines.lines().zip(1..).map(served).collect())
}
