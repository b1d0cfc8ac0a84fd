//! The secret that two paired daemons share.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use subtle::ConstantTimeEq;
use thrum_core::Ambient;
use zeroize::Zeroizing;

/// 32 random bytes as 64 hex digits, made by the side that shows the code. Never printed; compared in constant time.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    /// A new token.
    pub fn generate(ambient: &mut dyn Ambient) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        ambient.fill(&mut *bytes);
        Self(Zeroizing::new(data_encoding::HEXLOWER.encode(&*bytes)))
    }

    /// Reads a token. `None` unless it is 64 hex digits, as every version of Go Thrum makes them.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// Whether `shown` is this token. Takes the same time wherever the two differ.
    pub fn matches(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// The secret itself, for the wire and for `peers.json` only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.reveal())
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        Self::parse(&text).ok_or_else(|| de::Error::custom("a token that is not 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_prints_nothing_of_itself_and_matches_only_itself() {
        let text = "0123456789abcdef".repeat(4);
        let token = Token::parse(&text).expect("64 hex digits");
        assert_eq!(format!("{token:?}"), "Token([redacted])");
        assert!(token.matches(&text));
        for other in ["", "0", &text[1..], &text.to_uppercase(), &format!("{text}0"), &"f".repeat(1 << 20)] {
            assert!(!token.matches(other));
        }
        for bad in ["", "x", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert!(Token::parse(bad).is_none(), "{bad}");
        }
    }
}
