//! What the tip of a daemon's ref holds: a signed manifest, which says whose it is, and an index of what it publishes.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thrum_core::{Ambient, Heads, RangeSet, Timestamp, key, name};

use crate::{
    limits,
    seal::{self, Key},
};

/// The format of manifests, indexes and segments. A daemon that finds another one shows the daemon as too new.
pub const FORMAT: u32 = 1;

/// Compression level of indexes and segments: the default of zstd.
pub(crate) const LEVEL: i32 = 3;

/// Who publishes, and which index belongs to it. Readable by everybody who may fetch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The daemon that publishes, and whose key signs.
    pub daemon_id: String,
    /// The daemon's name, unchecked.
    pub name: String,
    /// Grows with every manifest of this daemon.
    pub number: u64,
    /// The time of the daemon's clock.
    pub at: Timestamp,
    /// SHA-256 of the index as it is in the tree, in hex.
    pub index: String,
    /// For each daemon that may read index and segments, the key to them, [sealed](crate::seal). Empty if they are not
    /// encrypted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recipients: BTreeMap<String, String>,
}

/// A daemon that another one vouches for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vouched {
    /// The daemon's id.
    pub daemon_id: String,
    /// The daemon's name, unchecked.
    pub name: String,
}

/// A manifest and its signature, as stored.
#[derive(Serialize, Deserialize)]
struct Signed<'a> {
    #[serde(borrow)]
    manifest: &'a RawValue,
    signature: String,
}

/// Why a manifest or an index is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is none, or it is longer than ours can be.
    #[error("its tip has no {0}, or one that is too long")]
    Missing(&'static str),
    /// It cannot be parsed.
    #[error("its {0} cannot be read")]
    Unreadable(&'static str),
    /// It has another format.
    #[error("it was written by a later version (format {0}): upgrade Thrum here")]
    Format(u32),
    /// It is of another daemon than its ref says.
    #[error("its manifest is that of {0}")]
    OtherDaemon(String),
    /// Its signature is wrong.
    #[error("its manifest is not signed with its key")]
    Signature,
    /// The index is not the one that the manifest was signed with.
    #[error("its index is not the one of its manifest")]
    OtherIndex,
    /// A newer manifest of this daemon was seen before.
    #[error("somebody has put an earlier state of its ref back")]
    PutBack,
    /// It is encrypted, and not for this daemon.
    #[error("what it publishes is encrypted, and not for this daemon, which its user does not trust")]
    NotForUs,
}

impl Manifest {
    /// Encodes and signs the manifest. `sign` signs with the key of `daemon_id`, as
    /// [`sign_manifest`](thrum_core::DaemonKey::sign_manifest) does.
    pub fn encode(&self, sign: impl FnOnce(&str) -> String) -> Vec<u8> {
        let text = serde_json::to_string(self).unwrap_or_default();
        let signature = sign(&text);
        let manifest = RawValue::from_string(text).unwrap_or_default();
        serde_json::to_vec(&Signed { manifest: &manifest, signature }).unwrap_or_default()
    }

    /// Reads the manifest of a daemon, and verifies its signature.
    ///
    /// # Errors
    /// Why it is not usable.
    pub fn read(bytes: &[u8], daemon_id: &str) -> Result<Self, Unusable> {
        let Signed { manifest, signature } =
            serde_json::from_slice(bytes).map_err(|_| Unusable::Unreadable("manifest"))?;
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_str(manifest.get()).map_err(|_| Unusable::Unreadable("manifest"))?;
        if format != FORMAT {
            return Err(Unusable::Format(format));
        }
        let read: Self = serde_json::from_str(manifest.get()).map_err(|_| Unusable::Unreadable("manifest"))?;
        if read.daemon_id != daemon_id {
            return Err(Unusable::OtherDaemon(name::printable(&read.daemon_id)));
        }
        if !key::signs_manifest(&signature, manifest.get(), daemon_id) {
            return Err(Unusable::Signature);
        }
        Ok(read)
    }
}

/// What a daemon publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// The daemon's version vector.
    pub heads: Heads,
    /// The daemons that this daemon trusts. Who trusts this one trusts them, too.
    #[serde(default)]
    pub trusts: Vec<Vouched>,
    /// The bundles, in the order of the tip's parents.
    pub bundles: Vec<Bundle>,
}

/// A commit with segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// The id of the commit.
    pub commit: String,
    /// The segments in its tree.
    pub segments: Vec<Segment>,
}

impl Bundle {
    /// The bytes of its segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).fold(0, u64::saturating_add)
    }
}

/// A file with events of one log, in the order of their origin sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// The id of the blob.
    pub blob: String,
    /// Bytes of the blob.
    pub bytes: u64,
    /// The origin of the events.
    pub origin: String,
    /// The log of the events; empty if they name none.
    #[serde(default)]
    pub log: String,
    /// Number of events.
    pub events: u64,
    /// Their origin sequences; empty if they have none.
    #[serde(default)]
    pub numbers: RangeSet,
}

impl Index {
    /// Encodes the index as it is stored. `key` encrypts it.
    pub fn encode(&self, key: Option<&Key>, ambient: &mut dyn Ambient) -> Vec<u8> {
        let text = serde_json::to_vec(self).unwrap_or_default();
        // Compression into a vector fails only without memory.
        seal::close(key, zstd::bulk::compress(&text, LEVEL).unwrap_or_default(), ambient)
    }

    /// Reads the index that belongs to a manifest. `key` is that of the manifest, if it is encrypted.
    ///
    /// # Errors
    /// Why it is not usable.
    pub fn read(bytes: Vec<u8>, manifest: &Manifest, key: Option<&Key>) -> Result<Self, Unusable> {
        if digest(&bytes) != manifest.index {
            return Err(Unusable::OtherIndex);
        }
        let unreadable = Unusable::Unreadable("index");
        let bytes = seal::open(key, bytes).ok_or_else(|| unreadable.clone())?;
        let text = zstd::bulk::decompress(&bytes, limits::MAX_INDEX_BYTES).map_err(|_| unreadable.clone())?;
        let index: Self = serde_json::from_slice(&text).map_err(|_| unreadable.clone())?;
        let segments: usize = index.bundles.iter().map(|bundle| bundle.segments.len()).sum();
        let ids =
            index.segments().map(|segment| &segment.blob).chain(index.bundles.iter().map(|bundle| &bundle.commit));
        let are_ids = ids.into_iter().all(|id| is_object_id(id));
        if index.bundles.len() > limits::MAX_BUNDLES || segments > limits::MAX_SEGMENTS || !are_ids {
            return Err(unreadable);
        }
        Ok(index)
    }

    /// All segments.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.bundles.iter().flat_map(|bundle| &bundle.segments)
    }
}

/// Returns `true` for the id of a git object: 40 or 64 lower-case hex digits. Other texts would mean something else to
/// git.
fn is_object_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The SHA-256 of an index as it is stored, in hex.
pub fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}
