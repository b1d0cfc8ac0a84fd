//! Shows progress during longer work: one line on standard error, for users at a terminal only.
//!
//! ```ignore
//! let progress = cx.output.progress("Reading events", Some(total));
//! progress.at(done);
//! ```
//! Nothing is shown in the first moments, so that quick work does not flicker, and the line is removed at the end.
//! Programs (`--json`), `--quiet`, pipes and terminals that cannot move a cursor get no output at all.

use std::{
    env,
    io::{self, IsTerminal},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use thrum_core::name::printable;

/// How long work lasts before its line appears.
const APPEARS_AFTER: Duration = Duration::from_millis(700);

/// How often the line moves, even if no progress is reported.
const TICK: Duration = Duration::from_millis(120);

/// A progress line, which is removed on drop.
pub(crate) struct Progress(Option<VisibleLine>);

struct VisibleLine {
    bar: ProgressBar,
    /// Dropped to end the thread that waits to make the line appear.
    end: Option<Sender<()>>,
    appearing: Option<JoinHandle<()>>,
}

impl Progress {
    /// A progress line that never shows anything.
    pub(crate) const fn silent() -> Self {
        Self(None)
    }

    /// Shows `what` as the name of the work, and how far the work is if `total` is known. Shows nothing unless standard
    /// error is a terminal that can move its cursor.
    pub(crate) fn on_terminal(what: &str, total: Option<u64>) -> Self {
        if !io::stderr().is_terminal() || env::var_os("TERM").is_none_or(|term| term == "dumb") {
            return Self::silent();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        let template = if total.is_some() { "{spinner} {percent:>3}% {wide_msg}" } else { "{spinner} {wide_msg}" };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(printable(what));
        let (end, ended) = mpsc::channel();
        let shown = bar.clone();
        let appearing = thread::spawn(move || {
            if ended.recv_timeout(APPEARS_AFTER) == Err(RecvTimeoutError::Timeout) {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(TICK);
            }
        });
        Self(Some(VisibleLine { bar, end: Some(end), appearing: Some(appearing) }))
    }

    /// Returns `true` unless the line never shows anything.
    pub(crate) fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// Replaces the name of the work.
    pub(crate) fn say(&self, what: &str) {
        if let Some(shown) = &self.0 {
            shown.bar.set_message(printable(what));
        }
    }

    /// Sets how much of the total is done.
    pub(crate) fn at(&self, done: u64) {
        if let Some(shown) = &self.0 {
            shown.bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some(shown) = &mut self.0 else { return };
        drop(shown.end.take());
        if let Some(appearing) = shown.appearing.take() {
            let _ = appearing.join();
        }
        shown.bar.finish_and_clear();
    }
}
