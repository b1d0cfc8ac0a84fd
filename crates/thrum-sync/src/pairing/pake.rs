//! The exchange by which two daemons of ours pair: both prove that they know the code, and neither shows it.
//!
//! A code that is sent belongs to whoever receives it: the wrong host that somebody typed, a relay, a log. In a
//! password-authenticated key exchange (SPAKE2 on Ed25519, the library's, with its two roles) each side sends one message, and
//! both come to the same key only if they used the same code. Who guesses learns from one exchange about one code and no
//! more, whatever he computes afterwards, on either side. From the key, by HKDF, come three others:
//!
//! 1. the joiner's confirmation, which the listener checks before it stores anything;
//! 2. the listener's, which the joiner checks before it stores anything;
//! 3. the one that seals the token, so that who only carries the lines does not get it.
//!
//! Whom each side believes to speak to goes into those keys ([`Parties`]): both ids, both nodes (each says its own and sees
//! the other's), the listener's address, the joiner's name and address, the version. A man in the middle is another node, or on
//! loopback another address or port; so the two keys differ, and what fails is a wrong code to everybody. A daemon of version 0.1
//! puts the port alone in place of the address, so between it and a later one every code is wrong. A message sent back fails, too, because
//! the roles and the confirmations have names.
//!
//! Nothing here counts, stores or knows the time; [`Pairing`](super::Pairing) does. The library keeps its copy of the code and
//! its scalars in memory that it does not wipe; they are worth nothing once the session is over. What is derived here is wiped.

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

/// This exchange, by the name under which a daemon says that it speaks it.
pub const VERSION: &str = "spake2-1";

/// Begins the transcript and salts the keys, so that they are good for nothing else.
const CONTEXT: &[u8] = b"thrum-pair\n";

/// Who takes part, as one side sees it. The keys are the same only if both see the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The version that the joiner asked for.
    pub version: String,
    /// The joiner's id.
    pub joiner: String,
    /// What it calls itself.
    pub joiner_name: String,
    /// Where it says that it can be reached.
    pub joiner_address: String,
    /// On which node it is; see [`place`].
    pub joiner_node: String,
    /// The listener's id.
    pub listener: String,
    /// On which node it is.
    pub listener_node: String,
    /// At which address, `IP:PORT`. On loopback this is what tells it from another program of the same machine.
    pub listener_address: String,
}

/// A node in the transcript: its id; on loopback, which knows no nodes, the literal `local`.
pub fn place(kind: Kind, node: Option<&Node>) -> &str {
    match kind {
        Kind::Local => "local",
        Kind::Tailnet => node.map_or("", |node| &node.id),
    }
}

impl Parties {
    fn digest(&self) -> [u8; 32] {
        let Self { version, joiner, joiner_name, joiner_address, joiner_node, listener, listener_node, listener_address } = self;
        let mut hash = Sha256::new();
        hash.update(CONTEXT);
        for part in [VERSION, version, joiner, joiner_name, joiner_address, joiner_node, listener, listener_node, listener_address] {
            // With its length, so that no two lists of parts read alike.
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

/// What both sides derive. Each is used once.
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

    /// The key is used once, for one token, so the nonce need not be another one each time.
    fn cipher(&self) -> (ChaCha20Poly1305, Nonce) {
        (ChaCha20Poly1305::new((&*self.seal).into()), Nonce::default())
    }
}

fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Takes the same time wherever the two differ.
fn is_confirmation(shown: &str, expected: &Secret) -> bool {
    HEXLOWER.decode(shown.as_bytes()).is_ok_and(|shown| bool::from(shown.as_slice().ct_eq(expected.as_slice())))
}

/// Our randomness, as the library wants it.
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

/// [`Ambient`] is the operating system's cryptographic source wherever it matters.
impl CryptoRng for Random<'_> {}

/// The joiner, who has sent its message.
pub struct Joining {
    spake: Spake2<Ed25519Group>,
    parties: Parties,
}

/// The joiner, who has sent its confirmation and waits for the listener's.
pub struct Confirming(Keys);

/// The listener, who has answered a message and waits for a confirmation.
pub struct Answered(
    /// None comes from a message that is none. That it is none shows only at the end, as with a wrong code.
    Option<Keys>,
);

/// The listener, who knows that the joiner knows the code.
pub struct Proven(Keys);

/// Begins as the joiner; returns the message to send, in hex.
pub fn join(code: &Code, parties: Parties, ambient: &mut dyn Ambient) -> (Joining, String) {
    let (joiner, listener) = parties.ids();
    let (spake, message) = Spake2::start_a_with_rng(&Password::new(code.reveal()), &joiner, &listener, Random(ambient));
    (Joining { spake, parties }, hex(&message))
}

impl Joining {
    /// Takes the listener's message; returns the confirmation to send, in hex. `None` if it is no message of a listener.
    pub fn confirm(self, message: &str) -> Option<(Confirming, String)> {
        let shared = Zeroizing::new(self.spake.finish(&HEXLOWER.decode(message.as_bytes()).ok()?).ok()?);
        let keys = Keys::derive(&shared, &self.parties);
        let confirmation = hex(&*keys.joiner);
        Some((Confirming(keys), confirmation))
    }
}

impl Confirming {
    /// Takes the listener's confirmation and the sealed token, with the name that came beside. `None` if it does not know the
    /// code, or somebody changed a word: nothing may be stored then.
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

/// Answers a joiner's message; returns the listener's, in hex.
pub fn answer(code: &Code, parties: &Parties, message: &str, ambient: &mut dyn Ambient) -> (Answered, String) {
    let (joiner, listener) = parties.ids();
    let (spake, ours) = Spake2::<Ed25519Group>::start_b_with_rng(&Password::new(code.reveal()), &joiner, &listener, Random(ambient));
    let shared = HEXLOWER.decode(message.as_bytes()).ok().and_then(|message| spake.finish(&message).ok()).map(Zeroizing::new);
    (Answered(shared.map(|shared| Keys::derive(&shared, parties))), hex(&ours))
}

impl Answered {
    /// Looks at the joiner's confirmation. `None`: it does not know the code, or does not see what we see.
    pub fn check(self, confirmation: &str) -> Option<Proven> {
        self.0.filter(|keys| is_confirmation(confirmation, &keys.joiner)).map(Proven)
    }
}

impl Proven {
    /// Our confirmation and the token for the joiner, both in hex. Our name goes beside them in clear and cannot be changed.
    pub fn seal(self, token: &Token, name: &str) -> (String, String) {
        let (cipher, nonce) = self.0.cipher();
        #[expect(clippy::expect_used, reason = "it fails for more than 256 GB")]
        let sealed = cipher.encrypt(&nonce, Payload { msg: token.reveal().as_bytes(), aad: name.as_bytes() }).expect("a short text");
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
