//! Why a pairing was refused, in a form for programs.
//!
//! Errors of `pair.begin` and `pair.confirm`, which only daemons of ours know, carry the reason as a code in their
//! `data`. Errors of `pair.request` are Go Thrum's and carry no code, and earlier versions of this daemon send none
//! either. Without a code, the text decides.

use serde_json::{Value, json};

/// Reason for which a pairing was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The daemon does not wait to be joined.
    NoSession,
    /// The pairing session has expired.
    TimedOut,
    /// The code is wrong, and the caller may try another one.
    WrongCode,
    /// The code is wrong, and the caller may try no other in this session.
    LastWrongCode,
    /// The caller has no guesses left in this session.
    TooManyAttempts,
    /// The caller has no guesses left, and may try again at the time in the text.
    Locked,
    /// The caller is a peer already.
    AlreadyPaired,
}

thrum_core::list_variants!(
    Refusal: NoSession, TimedOut, WrongCode, LastWrongCode, TooManyAttempts, Locked, AlreadyPaired
);

impl Refusal {
    const fn code(self) -> &'static str {
        match self {
            Self::NoSession => "no_session",
            Self::TimedOut => "timed_out",
            Self::WrongCode => "wrong_code",
            Self::LastWrongCode => "last_wrong_code",
            Self::TooManyAttempts => "too_many_attempts",
            Self::Locked => "locked",
            Self::AlreadyPaired => "already_paired",
        }
    }

    /// Returns the `data` of an error with this reason.
    pub(super) fn data(self) -> Value {
        json!({"code": self.code()})
    }

    /// Reads the reason from the `data` of an error, or else from its text.
    pub(super) fn read(data: Option<&Value>, message: &str) -> Option<Self> {
        let code = data.and_then(|data| data.get("code"));
        let coded = code.and_then(|code| Self::ALL.into_iter().find(|refusal| code == refusal.code()));
        coded.or_else(|| Self::of_text(message))
    }

    /// Recognizes Go Thrum's texts.
    fn of_text(message: &str) -> Option<Self> {
        match message {
            NO_SESSION => Some(Self::NoSession),
            TIMED_OUT => Some(Self::TimedOut),
            TOO_MANY => Some(Self::TooManyAttempts),
            text if text.starts_with(TOO_MANY) => Some(Self::Locked),
            text if text.starts_with("invalid pairing code (0 ") => Some(Self::LastWrongCode),
            text if text.starts_with("invalid pairing code") => Some(Self::WrongCode),
            text if text.starts_with("already paired") => Some(Self::AlreadyPaired),
            _ => None,
        }
    }
}

/// Go Thrum's text for [`Refusal::NoSession`].
pub const NO_SESSION: &str = "no active pairing session";

/// Go Thrum's text for [`Refusal::TimedOut`].
pub const TIMED_OUT: &str = "pairing timed out";

/// Go Thrum's text for [`Refusal::TooManyAttempts`]. The text for [`Refusal::Locked`] is this one and the end of the
/// lock.
pub const TOO_MANY: &str = "too many failed attempts";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_decides_and_without_one_the_text_does() {
        let texts = [
            (NO_SESSION, Refusal::NoSession),
            (TIMED_OUT, Refusal::TimedOut),
            ("invalid pairing code (2 attempts remaining)", Refusal::WrongCode),
            ("invalid pairing code (0 attempts remaining)", Refusal::LastWrongCode),
            (TOO_MANY, Refusal::TooManyAttempts),
            ("too many failed attempts; pairing from there is possible again at 12:00", Refusal::Locked),
            ("already paired with beta", Refusal::AlreadyPaired),
        ];
        for (text, refusal) in texts {
            assert_eq!(Refusal::read(None, text), Some(refusal), "{text}");
            let other = json!({"kind": "refused", "retryable": false});
            assert_eq!(Refusal::read(Some(&other), text), Some(refusal), "a peer of an earlier version");
            for coded in Refusal::ALL {
                assert_eq!(Refusal::read(Some(&coded.data()), text), Some(coded));
            }
        }
        let unknown = json!({"code": "of_a_later_version"});
        assert_eq!(Refusal::read(Some(&unknown), TIMED_OUT), Some(Refusal::TimedOut));
        assert_eq!(Refusal::read(None, "disk full"), None);
    }
}
