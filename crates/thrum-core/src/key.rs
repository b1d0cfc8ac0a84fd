//! The daemon's key pair, and the daemon id derived from it.

use std::{fmt, sync::LazyLock};

use data_encoding::{BASE64URL_NOPAD, Encoding};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use ed25519_zebra::{VerificationKeyBytes, batch};
use rand_core::{CryptoRng, RngCore};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Ambient;

/// Prefix of the text that is signed for an event, so that the signature is valid for nothing else.
const EVENT_CONTEXT: &[u8] = b"thrum-event-1\n";

/// Prefix of the text that is signed for a proof of identity, so that the signature is not valid for an event.
const PROOF_CONTEXT: &str = "thrum-prove-1\n";

/// Prefix of the text that is signed for a manifest, which says what a daemon publishes on a git remote.
const MANIFEST_CONTEXT: &str = "thrum-git-manifest-1\n";

/// RFC 4648 base32, lower case, no padding, spare bits zero.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = data_encoding::Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    #[expect(clippy::expect_used, reason = "the alphabet above is a valid one")]
    spec.encoding().expect("base32 alphabet")
});

/// The id of a daemon with a key: `d_k` and its Ed25519 public key in 52 base32 characters. Any other id is foreign.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DaemonId(String);

impl DaemonId {
    /// Parses an id. Returns `None` for a foreign id: wrong prefix, length or characters, spare bits that are set, or
    /// not a point on the curve.
    pub fn parse(text: &str) -> Option<Self> {
        public_key(text).map(|_| Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DaemonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public key in an id, or `None` for a foreign id.
fn public_key(id: &str) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(&public_key_bytes(id)?).ok()
}

/// The encoded public key in an id, which need not be a point on the curve.
fn public_key_bytes(id: &str) -> Option<[u8; 32]> {
    let encoded = id.strip_prefix("d_k").filter(|rest| rest.len() == 52)?;
    BASE32.decode(encoded.as_bytes()).ok()?.try_into().ok()
}

/// Returns the X25519 public key (RFC 7748) of the daemon with this id; `None` for a foreign id. Two ids have the same
/// X25519 key only if one secret belongs to both.
pub fn exchange_public(id: &str) -> Option<[u8; 32]> {
    public_key(id).map(|key| key.to_montgomery().to_bytes())
}

/// Returns `true` if an event of this origin must carry a valid signature.
///
/// The form of the id alone decides. An id of our form that contains no valid key belongs to no daemon, and no
/// signature can be valid for it.
pub fn is_signed_origin(id: &str) -> bool {
    id.strip_prefix("d_k")
        .is_some_and(|rest| rest.len() == 52 && rest.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')))
}

/// The daemon's secret key. Never printed; stored as base64url in a file of mode 0600.
#[derive(Clone)]
pub struct DaemonKey {
    signing: SigningKey,
    id: DaemonId,
}

impl DaemonKey {
    /// Generates a key.
    pub fn generate(ambient: &mut dyn Ambient) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        ambient.fill(&mut *seed);
        Self::from_seed(&seed)
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let signing = SigningKey::from_bytes(seed);
        let id = DaemonId(format!("d_k{}", BASE32.encode(signing.verifying_key().as_bytes())));
        Self { signing, id }
    }

    /// The daemon id derived from this key.
    pub fn id(&self) -> DaemonId {
        self.id.clone()
    }

    /// Signs the [signed part](crate::canonical::Canonical::signed_part) of an event. Returns 86 characters of
    /// base64url.
    pub fn sign_event(&self, signed_part: [&str; 2]) -> String {
        let signature = self.signing.sign(&covered(signed_part));
        BASE64URL_NOPAD.encode(&signature.to_bytes())
    }

    /// Returns the X25519 secret (RFC 7748) of this key, for encrypted connections. Its public key is
    /// [`exchange_public`] of the daemon's id.
    pub fn exchange_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_scalar_bytes())
    }

    /// Signs a manifest with 86 characters of base64url.
    pub fn sign_manifest(&self, manifest: &str) -> String {
        let signature = self.signing.sign(format!("{MANIFEST_CONTEXT}{manifest}").as_bytes());
        BASE64URL_NOPAD.encode(&signature.to_bytes())
    }

    /// Answers a challenge from the daemon `to` with 86 characters of base64url. The proof is valid only for that
    /// challenge and that daemon. Otherwise a daemon that poses as us elsewhere could forward to us the challenge that
    /// it gets there, and use our answer.
    pub fn prove(&self, challenge: &str, to: &str) -> String {
        let signature = self.signing.sign(proof(challenge, self.id.as_str(), to).as_bytes());
        BASE64URL_NOPAD.encode(&signature.to_bytes())
    }
}

/// Returns `true` if `signature` is the answer of the daemon `by` to a `challenge` from the daemon `to`. Always `false`
/// if `by` is foreign.
pub fn proves(signature: &str, challenge: &str, by: &str, to: &str) -> bool {
    signs(signature, &proof(challenge, by, to), by)
}

/// Returns `true` if `signature` is that of the daemon `by` for a manifest. Always `false` if `by` is foreign.
pub fn signs_manifest(signature: &str, manifest: &str, by: &str) -> bool {
    signs(signature, &format!("{MANIFEST_CONTEXT}{manifest}"), by)
}

fn signs(signature: &str, text: &str, by: &str) -> bool {
    let decoded =
        BASE64URL_NOPAD.decode(signature.as_bytes()).ok().and_then(|bytes| Signature::from_slice(&bytes).ok());
    match (public_key(by), decoded) {
        (Some(key), Some(signature)) => key.verify_strict(text.as_bytes(), &signature).is_ok(),
        _ => false,
    }
}

/// The text that a proof covers. The text is unambiguous, because challenges and our ids contain no line breaks, and
/// `to`, which may be foreign, comes last.
fn proof(challenge: &str, by: &str, to: &str) -> String {
    format!("{PROOF_CONTEXT}{challenge}\n{by}\n{to}")
}

impl fmt::Debug for DaemonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DaemonKey([redacted])")
    }
}

impl Serialize for DaemonKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64URL_NOPAD.encode(self.signing.as_bytes())))
    }
}

impl<'de> Deserialize<'de> for DaemonKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = Zeroizing::new(
            BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| de::Error::custom("the key is not base64url"))?,
        );
        let seed: [u8; 32] = bytes.as_slice().try_into().map_err(|_| de::Error::custom("the key has not 32 bytes"))?;
        Ok(Self::from_seed(&seed))
    }
}

fn covered([before, after]: [&str; 2]) -> Vec<u8> {
    [EVENT_CONTEXT, before.as_bytes(), after.as_bytes()].concat()
}

/// A signature to verify: the claim that `origin` signed `signed_part`.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// `origin_daemon` of the event.
    pub origin: &'a str,
    /// The text that the signature covers, without the prefix for events, in two parts.
    pub signed_part: [&'a str; 2],
    /// `signature` of the event; `None` if the event has none.
    pub signature: Option<&'a str>,
}

impl Claim<'_> {
    /// Decodes key and signature for verification; `None` if one is missing or invalid.
    fn item(&self) -> Option<batch::Item> {
        let key = VerificationKeyBytes::from(public_key_bytes(self.origin)?);
        let signature = BASE64URL_NOPAD.decode(self.signature?.as_bytes()).ok()?;
        let signature = Signature::from(<[u8; 64]>::try_from(signature).ok()?);
        Some((key, signature, &covered(self.signed_part)).into())
    }
}

/// Verifies claims and returns the results in order. Several are verified together, which costs a third of the time,
/// and one by one only if that fails.
///
/// All daemons must accept the same signatures (I6), whichever others are in the same batch. Therefore the rules of ZIP
/// 215 are used in both cases: with them, a batch is valid exactly if each signature in it is. The equation of RFC 8032
/// without the cofactor, as in `ed25519_dalek`, does not have this property.
pub fn verify(claims: &[Claim<'_>]) -> Vec<bool> {
    let items: Vec<_> = claims.iter().map(Claim::item).collect();
    let all_are_valid = claims.len() > 1 && {
        let mut all = batch::Verifier::new();
        items.iter().flatten().cloned().for_each(|item| all.queue(item));
        all.verify(Weights::of(claims)).is_ok()
    };
    items.into_iter().map(|item| item.is_some_and(|item| all_are_valid || item.verify_single().is_ok())).collect()
}

/// The random weights with which a batch sums up the equations of its signatures. They are computed from a hash of all
/// claims: so nobody can choose claims to fit weights that are known in advance, and equal claims have equal results.
struct Weights {
    seed: [u8; 32],
    drawn: u64,
}

impl Weights {
    fn of(claims: &[Claim<'_>]) -> Self {
        let mut hash = Sha256::new();
        for Claim { origin, signed_part: [before, after], signature } in claims {
            for part in [origin, before, after, signature.unwrap_or_default()] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        Self { seed: hash.finalize().into(), drawn: 0 }
    }
}

impl RngCore for Weights {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for part in dest.chunks_mut(32) {
            let block = Sha256::new().chain_update(self.seed).chain_update(self.drawn.to_be_bytes()).finalize();
            part.copy_from_slice(&block[..part.len()]);
            self.drawn += 1;
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Weights {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    struct Seed(u8);

    impl Ambient for Seed {
        fn now(&mut self) -> Timestamp {
            Timestamp::ZERO
        }
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(self.0);
        }
    }

    #[test]
    fn an_id_encodes_its_key_and_other_texts_are_no_ids() {
        let id = DaemonKey::generate(&mut Seed(7)).id();
        assert_eq!(id.as_str().len(), 55);
        assert_eq!(DaemonId::parse(id.as_str()), Some(id.clone()));
        assert!(is_signed_origin(id.as_str()));
        let spare_bits_set = format!("{}b", &id.as_str()[..54]);
        for foreign in [
            "",
            "d_47fkcmt93fcz",
            "d_01M83E0S5FJJYA5B1VP5F76S9R",
            &id.as_str()[..54],
            &id.as_str().to_uppercase(),
            &spare_bits_set,
        ] {
            assert_eq!(DaemonId::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_proof_is_valid_only_for_its_challenge_and_its_two_daemons() {
        let (key, other) = (DaemonKey::generate(&mut Seed(1)), DaemonKey::generate(&mut Seed(2)));
        let (id, other_id) = (key.id(), other.id());
        let proof = key.prove("challenge", "d_there");
        assert!(proves(&proof, "challenge", id.as_str(), "d_there"));
        assert!(!proves(&proof, "another", id.as_str(), "d_there"));
        assert!(!proves(&proof, "challenge", other_id.as_str(), "d_there"));
        assert!(!proves(&proof, "challenge", id.as_str(), "d_elsewhere"), "handed on");
        assert!(!proves(&other.prove("challenge", "d_there"), "challenge", id.as_str(), "d_there"));
        assert!(
            !proves(&key.sign_event(["challenge", ""]), "challenge", id.as_str(), "d_there"),
            "an event is no proof"
        );
        assert!(
            !proves("", "challenge", id.as_str(), "d_there") && !proves(&proof, "challenge", "d_foreign", "d_there")
        );
    }

    #[test]
    fn only_the_forged_signature_of_a_batch_is_refused() {
        let key = DaemonKey::generate(&mut Seed(1));
        let other = DaemonKey::generate(&mut Seed(2));
        let (id, other_id) = (key.id(), other.id());
        let texts: Vec<String> = (0..5).map(|n| format!("{{\"n\":{n}}}")).collect();
        let signatures: Vec<String> = texts.iter().map(|text| key.sign_event([text, ""])).collect();
        let claim =
            |n: usize| Claim { origin: id.as_str(), signed_part: [&texts[n], ""], signature: Some(&signatures[n]) };
        assert_eq!(verify(&[claim(0), claim(1), claim(2)]), [true, true, true]);
        let forged = [
            claim(0),
            Claim { signed_part: ["{\"n\":9}", ""], ..claim(1) },
            Claim { origin: other_id.as_str(), ..claim(2) },
            Claim { signature: None, ..claim(3) },
            Claim { signature: Some("AAAA"), ..claim(3) },
            claim(4),
        ];
        assert_eq!(verify(&forged), [true, false, false, false, false, true]);
        assert_eq!(verify(&[claim(3)]), [true]);
        assert_eq!(verify(&[]), Vec::<bool>::new());
    }

    /// Altered and invented events (C21 in docs/security.md): every daemon accepts the same ones (I6).
    #[test]
    fn whether_a_signature_is_valid_does_not_depend_on_the_events_beside_it() {
        let key = DaemonKey::generate(&mut Seed(1));
        let id = key.id();
        // Made with this key. `R` is the neutral element in an encoding that is not canonical. A verifier that follows
        // RFC 8032 refuses this signature by itself, but accepts it in a batch.
        let odd = "7v_______________________________________3_eZnckbmQzyvprVlRRu-lTNPoWeIBvw1UwN4f_E4eODQ";
        let odd = Claim { origin: id.as_str(), signed_part: ["{\"n\":1}", ""], signature: Some(odd) };
        let signature = key.sign_event(["{\"n\":2}", ""]);
        let ordinary = Claim { origin: id.as_str(), signed_part: ["{\"n\":2}", ""], signature: Some(&signature) };
        let wrong = Claim { signed_part: ["{\"n\":3}", ""], ..ordinary };
        assert_eq!(verify(&[odd]), [true]);
        assert_eq!(verify(&[odd, ordinary]), [true, true]);
        assert_eq!(verify(&[odd, wrong, ordinary]), [true, false, true]);
    }

    #[test]
    fn a_key_does_not_print_itself_and_is_restored_from_its_file() {
        let key = DaemonKey::generate(&mut Seed(9));
        assert_eq!(format!("{key:?}"), "DaemonKey([redacted])");
        let stored = serde_json::to_string(&key).expect("json");
        let back: DaemonKey = serde_json::from_str(&stored).expect("a key");
        assert_eq!(back.id(), key.id());
        assert!(serde_json::from_str::<DaemonKey>("\"short\"").is_err());
    }
}
