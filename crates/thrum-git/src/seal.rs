//! Encryption of what a daemon publishes: index and segments with one key of that daemon, and the key for each daemon
//! that may read them.
//!
//! Index and segments are XChaCha20-Poly1305 with a random nonce of 24 bytes before the ciphertext. The key is in a
//! `crypto_box` sealed box (X25519, XSalsa20-Poly1305) for each recipient, made for the X25519 form of its key. The
//! integrity of what is published rests on the signature of the manifest, and on those of the events.

use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead};
use crypto_box::{PublicKey, SecretKey};
use data_encoding::BASE64URL_NOPAD;
use rand_core::{CryptoRng, RngCore};
use thrum_core::{Ambient, key};
use zeroize::Zeroizing;

/// Bytes of a nonce.
const NONCE: usize = 24;

/// The key with which a daemon encrypts what it publishes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Key {
    /// Draws a key.
    pub fn generate(ambient: &mut dyn Ambient) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        ambient.fill(&mut *key);
        Self(key)
    }

    /// Seals the key for the daemon with this id: base64url. `None` for a foreign id.
    pub fn seal_for(&self, daemon_id: &str, ambient: &mut dyn Ambient) -> Option<String> {
        let public = PublicKey::from_bytes(key::exchange_public(daemon_id)?);
        let sealed = public.seal(&mut Random(ambient), &*self.0).ok()?;
        Some(BASE64URL_NOPAD.encode(&sealed))
    }

    /// Opens a key that was sealed for the daemon with this exchange secret.
    pub fn open(sealed: &str, secret: &[u8; 32]) -> Option<Self> {
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes()).ok()?;
        let opened = Zeroizing::new(SecretKey::from_bytes(*secret).unseal(&sealed).ok()?);
        Some(Self(Zeroizing::new(opened.as_slice().try_into().ok()?)))
    }
}

/// Encrypts bytes, if there is a key.
pub(crate) fn close(key: Option<&Key>, bytes: Vec<u8>, ambient: &mut dyn Ambient) -> Vec<u8> {
    let Some(Key(key)) = key else { return bytes };
    let mut nonce = [0; NONCE];
    ambient.fill(&mut nonce);
    let cipher = XChaCha20Poly1305::new((&**key).into());
    // Encryption fails only for texts of more than 256 GiB.
    let ciphertext = cipher.encrypt(XNonce::from_slice(&nonce), &bytes[..]).unwrap_or_default();
    [&nonce[..], &ciphertext].concat()
}

/// Decrypts bytes, if there is a key. `None` if they were encrypted with another one.
pub(crate) fn open(key: Option<&Key>, bytes: Vec<u8>) -> Option<Vec<u8>> {
    let Some(Key(key)) = key else { return Some(bytes) };
    let (nonce, ciphertext) = bytes.split_at_checked(NONCE)?;
    XChaCha20Poly1305::new((&**key).into()).decrypt(XNonce::from_slice(nonce), ciphertext).ok()
}

/// The daemon's source of randomness in the form that `crypto_box` takes.
struct Random<'a>(&'a mut dyn Ambient);

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        self.0.fill(dest);
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Random<'_> {}

#[cfg(test)]
mod tests {
    use thrum_core::{DaemonKey, Timestamp};

    use super::*;

    struct Seeded(u8);

    impl Ambient for Seeded {
        fn now(&mut self) -> Timestamp {
            Timestamp::ZERO
        }
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(self.0);
            self.0 += 1;
        }
    }

    #[test]
    fn only_the_recipient_opens_a_sealed_key() {
        let (ann, ben) = (DaemonKey::generate(&mut Seeded(1)), DaemonKey::generate(&mut Seeded(2)));
        let key = Key::generate(&mut Seeded(3));
        let sealed = key.seal_for(ann.id().as_str(), &mut Seeded(4)).expect("an id of ours");
        assert_eq!(Key::open(&sealed, &ann.exchange_secret()), Some(key.clone()));
        assert_eq!(Key::open(&sealed, &ben.exchange_secret()), None);
        assert_eq!(Key::open("no box", &ann.exchange_secret()), None);
        assert_eq!(key.seal_for("d_go", &mut Seeded(5)), None);
    }

    #[test]
    fn what_is_encrypted_opens_with_its_key_only_and_not_after_a_change() {
        let mut world = Seeded(1);
        let key = Key::generate(&mut world);
        let sealed = close(Some(&key), b"text".to_vec(), &mut world);
        assert!(!sealed.windows(4).any(|part| part == b"text"));
        assert_ne!(sealed, close(Some(&key), b"text".to_vec(), &mut world), "another nonce");
        assert_eq!(open(Some(&key), sealed.clone()), Some(b"text".to_vec()));
        assert_eq!(open(Some(&Key::generate(&mut world)), sealed.clone()), None);
        let mut changed = sealed;
        *changed.last_mut().expect("not empty") ^= 1;
        assert_eq!(open(Some(&key), changed), None);
        assert_eq!(open(Some(&key), vec![0; NONCE - 1]), None);
    }
}
