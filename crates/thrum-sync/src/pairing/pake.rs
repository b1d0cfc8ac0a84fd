//! The exchange by which two non-legacy daemons pair: both prove that they know the code, and neither reveals it.
//!
//! A code that is sent is known to every receiver: a mistyped host, a relay, a log. In a password-authenticated key
//! exchange (SPAKE2 on Ed25519 from a library, with its two roles), each side sends one message, and both derive the
//! same key only if they used the same code. With one exchange, an attacker on either side can test one code and no
//! more, even with unlimited computation afterwards. HKDF derives three keys from the result:
//!
//! 1. the joiner's confirmation, which the listener checks before it stores the peer;
//! 2. the listener's confirmation, which the joiner checks before it stores the peer;
//! 3. the key that seals the token, so that a program that relays the lines does not learn the token.
//!
//! These keys depend on the identities that each side assumes ([`Parties`]): both ids, both nodes (each side knows its
//! own and observes the other's), the listener's address, the joiner's name and address, the version. A man in the
//! middle is another node, or on loopback another address or port. The two sides then derive different keys, and the
//! exchange fails like a wrong code. A daemon of version 0.1 uses the port alone in place of the address, so its
//! exchange with a later version always fails like a wrong code. A reflected message fails, too, because roles and
//! confirmations are labelled.
//!
//! This module counts nothing, stores nothing and uses no clock; [`Pairing`](super::Pairing) counts and stores the
//! guesses. The library keeps its copy of the code and its scalars in memory that it does not wipe; they are worthless
//! once the session is over. The keys derived here are wiped.

use std::fmt;

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit, Nonce,
    aead::{Aead, Payload},
};
use data_encoding::HEXLOWER;
use hkdf::Hkdf;
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha256};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use subtle::ConstantTimeEq;
use thrum_core::Ambient;
use zeroize::Zeroizing;

use super::Code;
use crate::{
    Token,
    transport::{Kind, Node},
};

/// Name of this exchange in the list of supported pairing protocols.
pub const VERSION: &str = "spake2-1";

/// Starts the transcript and salts the keys, so that they are useless elsewhere.
const CONTEXT: &[u8] = b"thrum-pair\n";

/// Both parties, as seen by one side. The keys match only if both sides see the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The version of the exchange that the joiner requests.
    pub version: String,
    /// The joiner's id.
    pub joiner: String,
    /// The joiner's own name.
    pub joiner_name: String,
    /// The joiner's address, as the joiner reports it.
    pub joiner_address: String,
    /// The joiner's node; see [`node_label`].
    pub joiner_node: String,
    /// The listener's id.
    pub listener: String,
    /// The listener's node.
    pub listener_node: String,
    /// The listener's address, `IP:PORT`. On loopback, this distinguishes it from other programs on the machine.
    pub listener_address: String,
}

/// Returns a node's name in the transcript: its id, or the literal `local` on loopback, which has no nodes.
pub fn node_label(kind: Kind, node: Option<&Node>) -> &str {
    match kind {
        Kind::Local => "local",
        Kind::Tailnet => node.map_or("", |node| &node.id),
    }
}

impl Parties {
    fn digest(&self) -> [u8; 32] {
        let Self {
            version,
            joiner,
            joiner_name,
            joiner_address,
            joiner_node,
            listener,
            listener_node,
            listener_address,
        } = self;
        let mut hash = Sha256::new();
        hash.update(CONTEXT);
        for part in [
            VERSION,
            version,
            joiner,
            joiner_name,
            joiner_address,
            joiner_node,
            listener,
            listener_node,
            listener_address,
        ] {
            // Include the length, so that different lists of parts never hash alike.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn ids(&self) -> (Identity, Identity) {
        (Identity::new(self.joiner.as_bytes()), Identity::new(self.listener.as_bytes()))
    }
}

type Secret = Zeroizing<[u8; 32]>;

/// The keys that both sides derive. Each is used once.
struct Keys {
    joiner: Secret,
    listener: Secret,
    seal: Secret,
}

impl Keys {
    fn derive(shared: &[u8], parties: &Parties) -> Self {
        let (hkdf, digest) = (Hkdf::<Sha256>::new(Some(CONTEXT), shared), parties.digest());
        let key = |label: &str| {
            let mut key = Zeroizing::new([0; 32]);
            #[expect(clippy::expect_used, reason = "HKDF gives up to 255 times as much")]
            hkdf.expand_multi_info(&[label.as_bytes(), b"\n", &digest], &mut *key).expect("32 bytes");
            key
        };
        Self { joiner: key("joiner confirms"), listener: key("listener confirms"), seal: key("token") }
    }

    /// Returns the cipher that seals the token. Its key is used once, so a constant nonce is safe.
    fn cipher(&self) -> (ChaCha20Poly1305, Nonce) {
        (ChaCha20Poly1305::new((&*self.seal).into()), Nonce::default())
    }
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Returns `true` if `shown` is the expected confirmation, in hex. Compares in constant time.
fn is_confirmation(shown: &str, expected: &Secret) -> bool {
    HEXLOWER.decode(shown.as_bytes()).is_ok_and(|shown| bool::from(shown.as_slice().ct_eq(expected.as_slice())))
}

/// Adapts our random source to the library's trait.
struct Random<'a>(&'a mut dyn Ambient);

impl RngCore for Random<'_> {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }
    fn next_u64(&mut self) -> u64 {
        self.0.random_u64()
    }
    fn fill_bytes(&mut self, buffer: &mut [u8]) {
        self.0.fill(buffer);
    }
    fn try_fill_bytes(&mut self, buffer: &mut [u8]) -> Result<(), rand_core::Error> {
        self.0.fill(buffer);
        Ok(())
    }
}

/// In the daemon, [`Ambient`] is the operating system's cryptographic source. Only tests and simulations use another.
impl CryptoRng for Random<'_> {}

/// The joiner, after sending its message.
pub struct Joining {
    spake: Spake2<Ed25519Group>,
    parties: Parties,
}

/// The joiner, after sending its confirmation, waiting for the listener's.
pub struct Confirming(Keys);

/// The listener, after answering a message, waiting for a confirmation.
pub struct Answered(
    /// `None` after an invalid message. The joiner learns this only at the end, as with a wrong code.
    Option<Keys>,
);

/// The listener, after the joiner has proven that it knows the code.
pub struct Proven(Keys);

/// Starts an exchange as the joiner. Returns the message to send, in hex.
pub fn join(code: &Code, parties: Parties, ambient: &mut dyn Ambient) -> (Joining, String) {
    let (joiner, listener) = parties.ids();
    let (spake, message) = Spake2::start_a_with_rng(&Password::new(code.reveal()), &joiner, &listener, Random(ambient));
    (Joining { spake, parties }, hex(&message))
}

impl Joining {
    /// Processes the listener's message. Returns the confirmation to send, in hex; `None` if the message is not a
    /// listener's.
    pub fn confirm(self, message: &str) -> Option<(Confirming, String)> {
        let shared = Zeroizing::new(self.spake.finish(&HEXLOWER.decode(message.as_bytes()).ok()?).ok()?);
        let keys = Keys::derive(&shared, &self.parties);
        let confirmation = hex(&*keys.joiner);
        Some((Confirming(keys), confirmation))
    }
}

impl Confirming {
    /// Checks the listener's confirmation and opens the sealed token, with the name that came beside it. Returns `None`
    /// if the listener does not know the code or the reply was altered; nothing may be stored then.
    pub fn open(self, confirmation: &str, sealed: &str, name: &str) -> Option<Token> {
        if !is_confirmation(confirmation, &self.0.listener) {
            return None;
        }
        let sealed = HEXLOWER.decode(sealed.as_bytes()).ok()?;
        let (cipher, nonce) = self.0.cipher();
        let token = Zeroizing::new(cipher.decrypt(&nonce, Payload { msg: &sealed, aad: name.as_bytes() }).ok()?);
        Token::parse(std::str::from_utf8(&token).ok()?)
    }
}

/// Answers a joiner's message. Returns the listener's message, in hex.
pub fn answer(code: &Code, parties: &Parties, message: &str, ambient: &mut dyn Ambient) -> (Answered, String) {
    let (joiner, listener) = parties.ids();
    let (spake, ours) =
        Spake2::<Ed25519Group>::start_b_with_rng(&Password::new(code.reveal()), &joiner, &listener, Random(ambient));
    let shared =
        HEXLOWER.decode(message.as_bytes()).ok().and_then(|message| spake.finish(&message).ok()).map(Zeroizing::new);
    (Answered(shared.map(|shared| Keys::derive(&shared, parties))), hex(&ours))
}

impl Answered {
    /// Checks the joiner's confirmation. Returns `None` if the joiner does not know the code, or sees different
    /// parties.
    pub fn check(self, confirmation: &str) -> Option<Proven> {
        self.0.filter(|keys| is_confirmation(confirmation, &keys.joiner)).map(Proven)
    }
}

impl Proven {
    /// Returns our confirmation and the sealed token for the joiner, both in hex. Our name is sent beside them in clear
    /// text, but authenticated.
    pub fn seal(self, token: &Token, name: &str) -> (String, String) {
        let (cipher, nonce) = self.0.cipher();
        #[expect(clippy::expect_used, reason = "it fails for more than 256 GB")]
        let sealed = cipher
            .encrypt(&nonce, Payload { msg: token.reveal().as_bytes(), aad: name.as_bytes() })
            .expect("a short text");
        (hex(&*self.0.listener), hex(&sealed))
    }
}

macro_rules! prints_nothing {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "([redacted])"))
            }
        }
    )*};
}

prints_nothing!(Keys, Joining, Confirming, Answered, Proven);

#[cfg(test)]
mod tests;
