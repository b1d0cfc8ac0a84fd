//! The database: whether the file is intact, whether the tables derived from the log agree with the log, and whether
//! the clock that dates its events went back or was ahead.

use std::path::Path;

use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, RangeSet, compare::LogOf, limits};
use thrum_daemon::{
    checkup::{self, Rebuilt, RepairOutcome},
    paths::Repo,
};
use thrum_store::{Checkup, Compared, Salvaged, StoreError};

use super::{
    Check, Repaired,
    Verdict::{Ok as Fine, Problem, Skipped, Warning},
};
use crate::{
    context::Context,
    start,
    text::{count, quote},
    time,
};

const NAMES: [&str; 3] = ["database", "heads", "projection"];

/// How far our last event may lie ahead of the clock without a warning: clocks are often corrected by less, and the
/// clocks of two machines often differ by less.
const AHEAD: std::time::Duration = std::time::Duration::from_secs(1);

/// Prefix of the directories that hold a copy of the database.
const COPIES: &str = "doctor-";

/// The age from which a copy counts as left behind by an interrupted examination.
const ABANDONED: std::time::Duration = std::time::Duration::from_secs(3600);

pub(super) fn checks(cx: &Context, repo: &Repo) -> Vec<Check> {
    let skipped = |why: &str| NAMES.iter().map(|name| Check::new(name, Skipped, why)).collect();
    let scratch = match scratch(repo) {
        Ok(Some(scratch)) => scratch,
        Ok(None) if let Ok(Some(why)) = checkup::lost(repo) => {
            return all(repo, &Checkup::damaged(vec![why.to_owned()]));
        }
        Ok(None) => return skipped("there is no database yet"),
        Err(error) => return vec![Check::new("database", Skipped, error.message)],
    };
    let _progress = cx.output.progress("Folding a copy of the log", None);
    match checkup::examine(repo, scratch.path()) {
        Ok(Some(found)) => all(repo, &found),
        Ok(None) => skipped("there is no database yet"),
        Err(error) => vec![unusable(error)],
    }
}

fn unusable(error: Error) -> Check {
    let check = Check::new("database", Problem, error.message);
    Check { fix: error.hint, ..check }
}

/// The check of a damaged database. If no daemon runs, the check has a repair, which rebuilds only the indexes if
/// nothing else is damaged, and otherwise the whole database from the rows that can still be read.
fn damaged(repo: &Repo, what: &str) -> Check {
    let error: Error = StoreError::Damaged(what.to_owned()).into();
    let check = Check::new("database", Problem, error.message);
    if start::lock_is_held(repo) {
        return Check { fix: error.hint, ..check };
    }
    let repo = repo.clone();
    check.repair(move || {
        Ok(match checkup::rebuild(&repo)? {
            RepairOutcome::Whole => "a second check found no damage: nothing was done".to_owned().into(),
            RepairOutcome::Indexes => "its indexes were rebuilt; no row was damaged".to_owned().into(),
            RepairOutcome::Rebuilt(rebuilt) => done(&repo, &rebuilt),
        })
    })
}

fn done(repo: &Repo, Rebuilt { daemon, salvaged, former, peers }: &Rebuilt) -> Repaired {
    let Salvaged { events, altered, lost, missing, is_foreign: _ } = salvaged;
    let mut lines = vec![format!("{} saved in a new database", count(*events, "event"))];
    if let Some(former) = former {
        lines.push(format!("the damaged one is kept as {}", former.display()));
    }
    if *lost > 0 {
        let whose = |of: &LogOf| if of.origin == *daemon { "this daemon".to_owned() } else { quote(&of.origin) };
        let runs = |(of, runs): (&LogOf, &RangeSet)| format!("of {}: {}", whose(of), more(runs));
        let named: Vec<String> = missing.iter().map(runs).take(limits::MAX_NAMED).collect();
        let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join("; ")) };
        lines.push(format!("{} could not be read{named}", count(*lost, "event")));
    }
    if *altered > 0 {
        lines.push(format!(
            "{} not what had been stored, and left out",
            if *altered == 1 { "1 is".to_owned() } else { format!("{altered} are") }
        ));
    }
    lines.push(match (peers, *lost) {
        (None, 0) => {
            format!("nothing is known to be lost; {} cannot be read, so no peer is asked", repo.peers_file().display())
        }
        (None, _) => format!("{} cannot be read: once it can, peers may bring them back", repo.peers_file().display()),
        (Some(peers), _) if !peers.is_empty() => {
            format!("the next start reads all that {} and brings back what is missing", have(peers))
        }
        (Some(_), 0) => "nothing is known to be lost".to_owned(),
        (Some(_), _) => "there is no peer to bring them back: they are lost, unless a backup has them".to_owned(),
    });
    let missing: Vec<Value> = missing
        .iter()
        .map(|(of, runs)| json!({"origin": of.origin, "log": of.log, "numbers": runs.first(limits::MAX_NAMED)}))
        .collect();
    let detail = json!({
        "events": events, "altered": altered, "lost": lost, "missing": missing, "former_database": former, "peers": peers,
    });
    Repaired { said: lines.join("; "), detail: Some(("salvaged", detail)) }
}

fn have(peers: &[String]) -> String {
    format!("{} {}", peers.join(", "), if peers.len() == 1 { "has" } else { "have" })
}

/// The first ranges of numbers, with an ellipsis if there are more.
fn more(runs: &RangeSet) -> String {
    let first = runs.first(limits::MAX_NAMED);
    let dots = if first.len() < runs.len() { ", …" } else { "" };
    format!("{first}{dots}")
}

fn all(repo: &Repo, found: &Checkup) -> Vec<Check> {
    let database = if let Some(first) = found.damage.first() {
        damaged(repo, first)
    } else {
        Check::new("database", Fine, format!("whole, {}", count(found.events, "event")))
    };
    let heads = match &found.heads {
        Compared::Not(why) => Check::new("heads", Skipped, *why),
        Compared::Found(differ) if differ.is_empty() => Check::new("heads", Fine, "as counted from the log"),
        Compared::Found(differ) => repaired_by_folding(
            repo,
            Check::new("heads", Problem, format!("not what the log has, of {}", differ.join(", "))),
        ),
    };
    let projection = match found.projection {
        Compared::Not(why) => Check::new("projection", Skipped, why),
        Compared::Found(true) => Check::new("projection", Fine, "folded again, it has the same digest"),
        Compared::Found(false) => repaired_by_folding(
            repo,
            Check::new("projection", Problem, "folded again from the log, it has another digest"),
        ),
    };
    vec![database, heads, projection, clock(found)]
}

/// Checks whether our clock went back or was ahead. Peers' clocks are checked with the peers.
fn clock(found: &Checkup) -> Check {
    let now = time::now();
    if found.last_at > now.plus(AHEAD) {
        let ahead = time::brief(found.last_at.since(now));
        if found.clock_at <= now.plus(AHEAD) {
            let text = format!(
                "right, but the last event written here is dated {ahead} ahead, after one of another machine that it answers"
            );
            return Check::new("clock", Warning, text)
                .fix("timedatectl set-ntp true, on the machine whose clock is ahead");
        }
        return Check::new(
            "clock",
            Warning,
            format!("the last event written here is {ahead} ahead of the clock, which was set back"),
        )
        .fix("timedatectl set-ntp true");
    }
    if let Some(own) = found.ahead.iter().find(|ahead| ahead.via.is_empty()) {
        let text = format!(
            "it was wrong: {} written here {} dated up to {}; what is written now is dated right",
            count(own.events, "event"),
            if own.events == 1 { "is" } else { "are" },
            own.latest.to_the_second()
        );
        return Check::new("clock", Warning, text).fix("timedatectl set-ntp true");
    }
    Check::new("clock", Fine, "later than all that was written here")
}

/// Adds a repair that folds the log again. The repair must be the only writer, so while the daemon runs, the check only
/// names the commands.
fn repaired_by_folding(repo: &Repo, check: Check) -> Check {
    if start::lock_is_held(repo) {
        return check.fix("thrum daemon stop && thrum doctor --fix");
    }
    let repo = repo.clone();
    check.repair(move || {
        checkup::rebuild_projection(&repo)?;
        Ok("rebuilt from the log".to_owned().into())
    })
}

/// Makes a private directory beside the database with room for a copy; `None` if there is no database.
fn scratch(repo: &Repo) -> Result<Option<tempfile::TempDir>, Error> {
    let Ok(about) = std::fs::metadata(repo.database()) else { return Ok(None) };
    let wal = std::fs::metadata(repo.var().join("messages.db-wal")).map_or(0, |wal| wal.len());
    // Room for the copy, and for its write-ahead log while the projection is folded again.
    let needed = (about.len() + wal).saturating_mul(3);
    let free = free(&repo.var());
    if free.is_some_and(|free| free < needed) {
        return Err(Error::new(
            ErrorKind::Failed,
            format!("no room to examine a copy of it: {} MB are needed", needed >> 20),
        ));
    }
    remove_left(repo);
    let made = tempfile::Builder::new().prefix(COPIES).tempdir_in(repo.var());
    let failed =
        |error| Error::new(ErrorKind::Failed, format!("cannot make a directory in {}: {error}", repo.var().display()));
    made.map(Some).map_err(failed)
}

/// Removes the leftovers of interrupted examinations: they are copies of mail that may have been purged since.
fn remove_left(repo: &Repo) {
    for entry in std::fs::read_dir(repo.var()).into_iter().flatten().flatten() {
        let is_copy = entry.file_name().to_str().is_some_and(|name| name.starts_with(COPIES));
        let made = entry.metadata().and_then(|about| about.modified()).ok().and_then(|made| made.elapsed().ok());
        if is_copy && made.is_some_and(|age| age > ABANDONED) {
            // If the removal fails, the next examination tries again.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The bytes that this user may still write to the file system of `dir`; `None` if the system does not report it.
pub(super) fn free(dir: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(dir).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}
