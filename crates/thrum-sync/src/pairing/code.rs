//! The pairing code.

use subtle::ConstantTimeEq;
use thrum_core::{Ambient, Error, ErrorKind};
use zeroize::Zeroizing;

use crate::protocol::wire::NEWER_GO;

/// Number of digits in the codes of Go Thrum v0.7 and later.
const NEWER_GO_DIGITS: usize = 16;

/// Four decimal digits; all ten thousand codes are equally likely. Not shown by `Debug`.
#[derive(Clone)]
pub struct Code(Zeroizing<String>);

impl Code {
    /// Generates a new code.
    pub fn generate(ambient: &mut dyn Ambient) -> Self {
        loop {
            let mut bytes = [0; 2];
            ambient.fill(&mut bytes);
            let number = u16::from_le_bytes(bytes);
            // The largest multiple of 10,000 in 16 bits. Without this limit, low codes would be more likely.
            if number < 60_000 {
                return Self(Zeroizing::new(format!("{:04}", number % 10_000)));
            }
        }
    }

    /// Parses the user's input, before it is sent anywhere.
    ///
    /// # Errors
    /// `Invalid` unless the input has exactly four ASCII digits. Nothing is trimmed, and other Unicode digits are not
    /// accepted.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self(Zeroizing::new(text.to_owned())));
        }
        if text.len() == NEWER_GO_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let what = "a code of 16 digits is one of Go Thrum v0.7 or later, which cannot be paired with this daemon";
            return Err(Error::new(ErrorKind::Invalid, what).hint(NEWER_GO));
        }
        Err(Error::new(ErrorKind::Invalid, "a pairing code has four digits (0-9)")
            .hint("Type the code that `thrum peer add` shows on the other machine."))
    }

    /// Returns `true` if `presented` is this code. Compares in constant time.
    pub fn matches(&self, presented: &str) -> bool {
        self.0.as_bytes().ct_eq(presented.as_bytes()).into()
    }

    /// Returns the digits, for the user's terminal, the PAKE, and the wire to a legacy peer.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(****)")
    }
}
