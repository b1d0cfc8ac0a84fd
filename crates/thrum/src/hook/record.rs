//! The state of a program's session between its hooks: its agent, and the mail that it was shown but may not have
//! received.
//!
//! The program may drop what a hook prints. Another hook of the session proves that the text was taken; until then the
//! mail counts as unread. A waiter's text has its own proof: the turn that it starts.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use thrum_core::{Timestamp, limits};
use thrum_daemon::paths::Repo;

use super::host::Event;

/// How long a session without hooks is remembered.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Maximum number of records, latest first, that are searched for a match.
const MOST_LOOKED_AT: usize = 100;

/// Maximum number of records, latest first, that are counted or searched for an open session. Of older records, those
/// of ended sessions are removed.
const MOST_LISTED: usize = 1000;

/// Extension of the file that a hook of a session locks while it works.
const LOCK: &str = "lock";

/// How long a hook waits for that lock: less than the second that it has for its answer.
const TURN: Duration = Duration::from_millis(500);

/// Extension of the file that lists which hooks serve a session's events.
const SERVED: &str = "served";

/// Maximum size of that list in bytes.
const MOST_SERVED: usize = 4096;

/// Maximum time, on a busy machine, between the starts of two hooks that a program runs for one event, and between the
/// end of a session and the start of the one that replaces it.
const AT_THE_SAME_TIME: Duration = Duration::from_secs(10);

/// The remembered state of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The session's agent.
    pub(crate) agent: String,
    /// The program that runs the session, as named by `--host`.
    pub(crate) host: String,
    /// The top of the worktree that the session's last hook ran in.
    pub(crate) worktree: PathBuf,
    /// The id of the process that runs the session; known for Claude Code only.
    pub(crate) program: Option<u32>,
    /// The program's transcript of the session, if known.
    pub(crate) transcript: Option<PathBuf>,
    /// Ids of the messages that hooks have shown to the session in full and that are not marked as read yet.
    pub(crate) shown: Vec<String>,
    /// Ids of the messages of which hooks have shown the beginning and that are not marked as shown yet.
    pub(crate) shown_in_part: Vec<String>,
    /// Ids of the messages in the waiter's last text, in full.
    pub(crate) offered: Vec<String>,
    /// Ids of the messages that were cut in the waiter's last text.
    pub(crate) offered_in_part: Vec<String>,
    /// The cursor of the session's reader after the messages in the waiter's last text.
    pub(crate) offered_up_to: Option<String>,
    /// The process id of the session's current waiter. Only for Codex, whose waiters we start.
    pub(crate) waiter: Option<u32>,
    /// The times of recent wakes, in seconds since 1970. Only for Codex, whose wakes we count.
    pub(crate) wakes: Vec<u64>,
    /// `true` while the session works: from a prompt until the end of its turn.
    pub(crate) busy: bool,
    /// `true` if the next prompt must bring the briefing: the start hook could not, or the program has lost it since.
    pub(crate) brief_again: bool,
    /// `true` if the program has ended the session. If it is resumed, it has the same agent.
    pub(crate) ended: bool,
    /// The event of the last hook.
    event: String,
    /// When the last hook finished, in nanoseconds since 1970.
    event_at: i64,
}

/// Identifies an event of a session by its kind and a hash of its payload.
fn event_key(event: Event, payload: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    payload.to_string().hash(&mut hasher);
    format!("{event:?} {:016x}", hasher.finish())
}

/// The time since `at`; zero if it lies in the future.
fn age(at: SystemTime) -> Duration {
    SystemTime::now().duration_since(at).unwrap_or_default()
}

impl Record {
    /// Returns `true` if the process that runs the session is known, and gone.
    fn is_gone(&self) -> bool {
        let pid = self.program.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
    }

    /// Records the event of a hook that was started at `began`. Returns `true` if the session has continued since the
    /// previous hook. A second hook for the same event, started before the first one finished, does not prove that.
    pub(crate) fn goes_on(&mut self, event: Event, payload: &Value, began: Timestamp) -> bool {
        let this = event_key(event, payload);
        let is_second = self.event == this && began.nanos() <= self.event_at;
        self.event = this;
        !is_second
    }

    /// Records when the hook finished.
    pub(crate) fn is_served_at(&mut self, now: Timestamp) {
        self.event_at = now.nanos();
    }

    /// Assigns the session to this agent. The mail in the record is forgotten if it was another agent's.
    pub(crate) fn becomes(&mut self, agent: &str) {
        if self.agent != agent {
            let Self { host, worktree, program, transcript, busy, waiter, wakes, .. } = std::mem::take(self);
            *self = Self {
                agent: agent.to_owned(),
                host,
                worktree,
                program,
                transcript,
                busy,
                waiter,
                wakes,
                ..Self::default()
            };
        }
    }
}

/// The state of a session as its hooks have reported it.
pub(crate) struct Seen {
    /// When the last hook ran.
    pub(crate) at: SystemTime,
    /// `true` if the session has ended, or if its process is known and gone.
    pub(crate) is_over: bool,
}

/// The records of a repository's sessions.
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(crate) fn of(repo: &Repo) -> Self {
        Self { dir: repo.var().join("hooks") }
    }

    /// Reads the record of a session; an empty one if there is none, or if the id cannot be a file name.
    pub(crate) fn read(&self, session: &str) -> Record {
        let text = self.path(session).and_then(|path| fs::read_to_string(path).ok());
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Writes a record. Errors are ignored: at worst, mail or a briefing is shown again.
    pub(crate) fn write(&self, session: &str, record: &Record) {
        let Some(path) = self.path(session) else { return };
        let Ok(text) = serde_json::to_string(record) else { return };
        let beside = path.with_extension(std::process::id().to_string());
        let _ = fs::create_dir_all(&self.dir);
        if fs::write(&beside, text).is_ok() {
            let _ = fs::rename(&beside, &path);
        }
    }

    /// Waits until no other hook of the session is running, and keeps others out until the file is dropped. Returns
    /// `None` if that takes too long or is impossible: mail shown twice is better than mail not shown.
    pub(crate) fn turn(&self, session: &str) -> Option<File> {
        let path = self.path(session)?.with_extension(LOCK);
        fs::create_dir_all(&self.dir).ok()?;
        let file = File::options().write(true).create(true).truncate(false).open(path).ok()?;
        let deadline = Instant::now() + TURN;
        while file.try_lock().is_err() {
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(2));
        }
        Some(file)
    }

    /// Finds the agent of the session that ended last in this program. After `/clear`, the new session has that agent.
    pub(crate) fn cleared(&self, host: &str, program: Option<u32>) -> Option<String> {
        // A known process identifies the program, so its new session may begin much later. Otherwise only the time
        // shows that the two sessions belong together.
        let within = if program.is_some() { limits::AGENT_SILENT } else { AT_THE_SAME_TIME };
        let mut recent =
            self.newest(MOST_LOOKED_AT).take_while(|(at, ..)| age(*at) < within).map(|(.., record)| record);
        let former = recent.find(|record| record.ended && record.host == host && record.program == program);
        former.map(|record| record.agent)
    }

    /// Finds the most recently written session that has not ended and for which `meant` is true.
    pub(crate) fn latest(&self, meant: impl Fn(&Record) -> bool) -> Option<(String, Record)> {
        let found = self.newest(MOST_LOOKED_AT).find(|(.., record)| !record.ended && meant(record));
        found.map(|(_, session, record)| (session, record))
    }

    /// The `most` records that were written last, the newest first, each with its time and session.
    fn newest(&self, most: usize) -> impl Iterator<Item = (SystemTime, String, Record)> {
        let mut all: Vec<_> = self.sessions().collect();
        all.sort_unstable();
        all.into_iter().rev().take(most).map(|(at, session)| {
            let record = self.read(&session);
            (at, session, record)
        })
    }

    /// Returns `true` if an agent has an open session: its process is alive or, if the process is not known, one of its
    /// hooks ran within the last hour.
    pub(crate) fn has_open(&self, agent: &str) -> bool {
        let is_fresh = |at| age(at) < limits::AGENT_SILENT;
        self.newest(MOST_LISTED).any(|(at, _, record)| {
            record.agent == agent && !record.ended && !record.is_gone() && (record.program.is_some() || is_fresh(at))
        })
    }

    /// The sessions of a program in the worktree at `top`, as known from their hooks.
    pub(crate) fn of_host(&self, host: &str, top: &Path) -> Vec<Seen> {
        let of_host = |record: &Record| record.host == host && record.worktree == top;
        let newest = self.newest(MOST_LISTED).filter(|(.., record)| of_host(record));
        newest.map(|(at, _, record)| Seen { at, is_over: record.ended || record.is_gone() }).collect()
    }

    /// All sessions with a record, and when each record was last written.
    fn sessions(&self) -> impl Iterator<Item = (SystemTime, String)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let session = entry.file_name().to_str()?.strip_suffix(".json")?.to_owned();
            Some((entry.metadata().ok()?.modified().ok()?, session))
        })
    }

    /// Returns `true` if the other one of two hooks already serves this event. A program may have one hook in its
    /// settings and one in a plugin, and runs both at the same time with the same payload. Otherwise records that this
    /// hook serves the event. If recording fails, both serve it: mail shown twice is better than mail not shown.
    pub(crate) fn is_served(&self, session: &str, event: Event, payload: &Value, plugin: bool) -> bool {
        let key = event_key(event, payload);
        let line = |plugin: bool| format!("{key} {}", if plugin { "plugin" } else { "settings" });
        self.serves(session, &line(plugin), &line(!plugin)).unwrap_or(false)
    }

    fn serves(&self, session: &str, ours: &str, theirs: &str) -> Option<bool> {
        let path = self.path(session)?.with_extension(SERVED);
        fs::create_dir_all(&self.dir).ok()?;
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).ok()?;
        // The lock is held only for these few lines.
        file.lock().ok()?;
        let mut text = String::new();
        (&mut file).take(MOST_SERVED as u64).read_to_string(&mut text).ok()?;
        let noted_at = file.metadata().and_then(|about| about.modified()).ok()?;
        let is_now = age(noted_at) < AT_THE_SAME_TIME;
        if is_now && text.lines().any(|line| line == theirs) {
            return Some(true);
        }
        // Few events happen at the same time; older lines are of no use.
        let kept = if is_now && text.len() < MOST_SERVED / 2 { text.as_str() } else { "" };
        file.set_len(0).and_then(|()| file.rewind()).ok()?;
        writeln!(file, "{kept}{ours}").ok()?;
        Some(false)
    }

    /// Remembers the agent of a session that has ended: the program may resume the session, or start a new one in its
    /// place (`/clear`).
    pub(crate) fn end(&self, session: &str, record: &Record) {
        let Record { agent, host, worktree, program, .. } = record.clone();
        self.write(session, &Record { agent, host, worktree, program, ended: true, ..Record::default() });
    }

    /// Removes the coordination files of a session that has ended.
    pub(crate) fn tidy(&self, session: &str) {
        for kind in [SERVED, LOCK] {
            self.path(session).into_iter().for_each(|path| drop(fs::remove_file(path.with_extension(kind))));
        }
    }

    /// Removes the records of sessions without a hook for a month, and, beyond the latest `MOST_LISTED`, those of
    /// sessions that have ended.
    pub(crate) fn clean(&self) {
        let is_old = |path: &Path| {
            let changed = fs::metadata(path).and_then(|about| about.modified()).ok();
            changed.is_some_and(|at| age(at) > KEPT)
        };
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| is_old(path)).for_each(|path| drop(fs::remove_file(path)));
        let mut all: Vec<_> = self.sessions().collect();
        if all.len() > MOST_LISTED {
            all.sort_unstable();
            all.truncate(all.len() - MOST_LISTED);
            let ended = all.into_iter().map(|(_, session)| session).filter(|session| self.read(session).ended);
            ended.filter_map(|session| self.path(&session)).for_each(|path| drop(fs::remove_file(path)));
        }
    }

    fn path(&self, session: &str) -> Option<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let usable = !session.is_empty() && session.len() <= 128 && session.bytes().all(plain);
        usable.then(|| self.dir.join(format!("{session}.json")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The directory lists its files in no particular order.
    #[test]
    fn the_newest_sessions_are_found_among_more_records_than_are_read() {
        const OPEN: usize = 20;
        let dir = tempfile::tempdir().unwrap();
        let records = Records { dir: dir.path().to_owned() };
        let now = SystemTime::now();
        let put = |session: &str, record: &Record, at: SystemTime| {
            records.write(session, record);
            File::options().write(true).open(records.path(session).unwrap()).unwrap().set_modified(at).unwrap();
        };
        let open = |number: usize| {
            let record = Record { agent: format!("a{number}"), host: "codex".into(), ..Record::default() };
            put(&format!("open-{number}"), &record, now - Duration::from_secs(1));
        };
        (0..OPEN / 2).for_each(open);
        let ended = Record { agent: "old".into(), host: "codex".into(), ended: true, ..Record::default() };
        (0..MOST_LISTED).for_each(|number| put(&format!("ended-{number}"), &ended, now - Duration::from_secs(60)));
        (OPEN / 2..OPEN).for_each(open);
        assert!((0..OPEN).all(|number| records.has_open(&format!("a{number}"))));
        let seen = records.of_host("codex", Path::new(""));
        assert_eq!((seen.len(), seen.iter().filter(|seen| !seen.is_over).count()), (MOST_LISTED, OPEN));
    }

    #[test]
    fn a_session_whose_id_leads_elsewhere_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records { dir: dir.path().join("hooks") };
        let record = Record { agent: "ann".into(), ..Record::default() };
        for session in ["../x", "", "a/b", ".", &"x".repeat(129)] {
            records.write(session, &record);
            assert_eq!(records.read(session), Record::default());
        }
        assert!(!dir.path().join("x.json").exists());
        records.write("0b1c-2", &record);
        assert_eq!(records.read("0b1c-2"), record);
        records.clean();
        assert_eq!(records.read("0b1c-2"), record, "it is young");
        records.end("0b1c-2", &record);
        assert_eq!(records.read("0b1c-2"), Record { ended: true, ..record });
        assert_eq!(records.latest(|_| true), None, "it has ended");
    }

    #[test]
    fn of_sessions_that_have_ended_the_latest_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records { dir: dir.path().join("hooks") };
        let record = Record { agent: "ann".into(), ..Record::default() };
        records.write("open", &record);
        for number in 0..=MOST_LISTED {
            records.end(&format!("s{number}"), &record);
        }
        records.clean();
        assert_eq!(records.sessions().count(), MOST_LISTED + 1);
        assert_eq!(records.read("open"), record, "it goes on");
    }

    /// A settings file may have the same hook twice. The program then runs both at the same time with the same payload.
    #[test]
    fn a_second_hook_for_one_event_is_no_proof_that_the_session_has_gone_on() {
        let mut record = Record::default();
        let prompt = serde_json::json!({"prompt": "go on"});
        let at = Timestamp::from_nanos;
        assert!(record.goes_on(Event::Prompt, &prompt, at(1)));
        record.is_served_at(at(3));
        assert!(!record.goes_on(Event::Prompt, &prompt, at(2)));
        assert!(record.goes_on(Event::Stop, &prompt, at(2)), "another event");
        assert!(record.goes_on(Event::Stop, &prompt, at(4)), "the same words again");
    }
}
