//! How much of an answer is left: lists that grow with what other daemons wrote are bounded by bytes as well as by number.

use serde::Serialize;
use thrum_core::{bounds, json, limits};

/// Most bytes of each text of an entry once the answer is half full.
const SHORT: usize = 128;

/// The room of one answer.
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    /// An answer of [`limits::MAX_ANSWER_BYTES`].
    pub(super) fn new() -> Self {
        Self { left: limits::MAX_ANSWER_BYTES }
    }

    /// Takes the room of a value as JSON; takes nothing and returns `false` if there is not as much.
    pub(super) fn take(&mut self, value: &impl Serialize) -> bool {
        let bytes = json::size(value) + 1;
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        fits
    }

    /// Whether half of the room is taken, so that entries from now on have to be short.
    pub(super) fn is_short(&self) -> bool {
        self.left < limits::MAX_ANSWER_BYTES / 2
    }
}

/// Shortens texts to what says enough in a long list; returns whether one was longer.
pub(super) fn shorten<'a>(texts: impl IntoIterator<Item = &'a mut String>) -> bool {
    let mut was_cut = false;
    for text in texts.into_iter().filter(|text| text.len() > SHORT) {
        bounds::truncate(text, SHORT - bounds::MARK.len_utf8());
        text.push(bounds::MARK);
        was_cut = true;
    }
    was_cut
}
