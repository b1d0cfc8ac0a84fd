//! Measures two builds of thrum in turn and reports the ratios.
//!
//! A machine's speed changes from minute to minute, so figures of two builds mean something only beside each other:
//! this build, the other one, this build again, and so on (A B A B). Each measurement has daemons and a directory of
//! its own. A ratio is this build's number divided by the other build's, within one round; the range over the rounds
//! shows how much of it is noise.
//!
//! Example: `message.send, 50 writers: 17800 against 7200 per second: ratio 2.47 (2.41–2.52)`.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use thrum_core::{Error, ErrorKind};

use super::{
    Args,
    figures::{Figures, Measured},
};
use crate::commands::demo::stage::{self, Stage};

/// Measures `args.rounds` rounds with this build and with the build at `other`.
pub(super) fn measure(args: &Args, other: &Path, step: &dyn Fn(&str)) -> Result<Figures, Error> {
    let this = stage::this_program()?;
    // Make the path absolute, because commands run in other directories.
    let other = other.canonicalize().map_err(|error| {
        Error::new(ErrorKind::NotFound, format!("cannot find the other build {}: {error}", other.display()))
    })?;
    check(&other)?;
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        let measure = |program: &Path, which: &str| -> Result<Figures, Error> {
            let step = |what: &str| step(&format!("{what} (round {round} of {}, {which})", args.rounds));
            let mut figures = Figures::default();
            super::measure(args, &Stage::open("bench")?, program, &step, &mut figures)?;
            Ok(figures)
        };
        rounds.push((measure(&this, "this build")?, measure(&other, "the other build")?));
    }
    Ok(ratios(&rounds))
}

/// Fails if the program at `path` is not a build of thrum. Without this check, the error would come only after this
/// build was measured.
fn check(path: &Path) -> Result<(), Error> {
    let version = Command::new(path).arg("version").stdin(Stdio::null()).output();
    match version {
        Ok(output) if output.status.success() && output.stdout.starts_with(b"thrum ") => Ok(()),
        Ok(_) => Err(Error::new(ErrorKind::Invalid, format!("{} is not a build of thrum", path.display()))
            .hint("`PATH version` must print \"thrum\" and a version.")),
        Err(error) => Err(Error::new(ErrorKind::Invalid, format!("cannot run {}: {error}", path.display()))),
    }
}

/// The ratios of every number that both builds have in every round, in the order of the first round. Numbers that are 0
/// for the other build are left out.
fn ratios(rounds: &[(Figures, Figures)]) -> Figures {
    let mut ratios = Figures::default();
    let Some((first, _)) = rounds.first() else { return ratios };
    for (what, number, _) in first.numbers() {
        let of = |figures: &Figures| {
            let mut numbers = figures.numbers();
            numbers.find(|(name, other, _)| *name == what && other.key == number.key).map(|(_, _, found)| found)
        };
        let found: Option<Vec<(f64, f64)>> = rounds.iter().map(|(this, other)| Some((of(this)?, of(other)?))).collect();
        let Some(found) = found.filter(|found| found.iter().all(|(_, other)| *other > 0.0)) else { continue };
        let (this, other) = found.into_iter().unzip();
        ratios.ratios(&format!("{what}{}", number.says), &Measured { this, other }, number.unit);
    }
    ratios
}
