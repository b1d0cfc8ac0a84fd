//! The size budget of an answer: lists that grow with other daemons' data are bounded by bytes as well as by number.

use serde::Serialize;
use thrum_core::{bounds, json, limits};

/// Maximum bytes of each text of an entry once the answer is half full.
const SHORT: usize = 128;

/// The remaining size of one answer.
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    /// Starts with [`limits::MAX_ANSWER_BYTES`].
    pub(super) fn new() -> Self {
        Self { left: limits::MAX_ANSWER_BYTES }
    }

    /// Takes the size of a value as JSON from the budget. If it does not fit, takes nothing and returns `false`.
    pub(super) fn take(&mut self, value: &impl Serialize) -> bool {
        let bytes = json::size(value) + 1;
        let fits = bytes <= self.left;
        if fits {
            self.left -= bytes;
        }
        fits
    }

    /// Returns `true` if more than half of the budget is used, so that further entries have to be short.
    pub(super) fn is_short(&self) -> bool {
        self.left < limits::MAX_ANSWER_BYTES / 2
    }
}

/// Shortens texts for a long list. Returns `true` if one of them was cut.
pub(super) fn shorten<'a>(texts: impl IntoIterator<Item = &'a mut String>) -> bool {
    let mut was_cut = false;
    for text in texts.into_iter().filter(|text| text.len() > SHORT) {
        bounds::truncate(text, SHORT - bounds::MARK.len_utf8());
        text.push(bounds::MARK);
        was_cut = true;
    }
    was_cut
}
