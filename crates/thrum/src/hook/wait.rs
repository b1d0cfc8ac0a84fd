//! `thrum hook wait`: waits for mail beside an idle session, and then starts a turn in it.
//!
//! Claude Code starts a waiter when a session starts and after every turn, and ends none of them within a week
//! (`asyncRewake`). A waiter that exits with 2 starts a turn, whose end starts the next waiter. So that waiters do not
//! pile up, the daemon ends an older waiter of a program when a newer one asks under the same name, and a waiter does
//! not bring mail that an earlier one has brought. The program may switch sessions while the waiter waits, so the
//! session is looked up when mail has come.
//!
//! Beside Codex there is one waiter per agent, which our own hook starts (`queue.rs`). The waiter stays with its
//! session as long as that session is the agent's latest.
//!
//! A busy session is not woken: the end of its turn brings the mail. Claude Code runs no hook when its user interrupts
//! a turn, so while mail waits for the end of a turn, the transcript is checked for an interruption (`transcript.rs`).
//! A waiter ends with its program, and at once in an unattended run of Claude Code.

use std::{env, process, thread, time::Duration};

use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};
use serde_json::{Value, json};
use thrum_core::{Error, ErrorKind, limits, payload::PresenceState};

use super::{
    Answer, DATA, Hook, MESSAGES, OF_MESSAGE, ROOM, Record, Records, host::Host, more, presence, queue, transcript,
};
use crate::{
    agent_text::Page,
    answers::News,
    client::Client,
    context::{Context, Global},
    interrupt::Interrupt,
    text::count,
    time,
};

/// Pause before the next call to a daemon that is gone, stopping or restarting.
const AGAIN: Duration = Duration::from_secs(5);

/// How long the hook at the end of a turn may take to record that the turn has ended, with a margin for its start.
const NOTED: Duration = super::PATIENCE.saturating_mul(2);

/// Waits for mail, and wakes the session.
pub(super) fn run(hook: &Hook) -> Answer {
    // An unattended run ends after its answer, which a waiter would only delay.
    let is_unattended = env::var("CLAUDE_CODE_SESSION_ATTENDED").is_ok_and(|attended| attended == "0");
    if hook.host == Host::Claude && is_unattended {
        return hook.host.silence();
    }
    let cx = Context::of_call(Global { no_start: true, ..hook.global.clone() }, Interrupt::default());
    wait(hook, &cx).ok().flatten().unwrap_or_else(|| hook.host.silence())
}

/// The Claude Code process that runs the session: the one in the variable, or else our parent.
fn program() -> Option<Pid> {
    let said = env::var("CLAUDE_PID").ok().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    said.or_else(getppid)
}

/// Ends this process when all these programs have ended. They may have been killed, and then nothing else ends the
/// waiter.
fn end_with(programs: Vec<Pid>) {
    thread::spawn(move || {
        for handle in programs.into_iter().filter_map(|program| pidfd_open(program, PidfdFlags::empty()).ok()) {
            let mut ended = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
            while rustix::event::poll(&mut ended, None) == Err(rustix::io::Errno::INTR) {}
        }
        process::exit(0);
    });
}

/// A waiter, and the process of the program that it waits beside (known for Claude Code and Codex).
struct Waiter<'a> {
    hook: &'a Hook,
    records: Records,
    program: Option<Pid>,
}

fn wait(hook: &Hook, cx: &Context) -> Result<Option<Answer>, Error> {
    let repo = cx.repo()?;
    if !repo.is_set_up() {
        return Ok(None);
    }
    let waiter = match hook.host {
        Host::Codex => {
            let _ = rustix::process::setsid();
            let people = queue::on_terminals(repo.root());
            let (Some(program), false) = (queue::program_of(hook), people.is_empty()) else { return Ok(None) };
            end_with(vec![program]);
            end_with(people);
            Waiter { hook, records: Records::of(repo), program: Some(program) }
        }
        Host::Claude => {
            let program = program();
            end_with(program.into_iter().collect());
            Waiter { hook, records: Records::of(repo), program }
        }
        Host::Copilot
        | Host::Qwen
        | Host::Gemini
        | Host::Cursor
        | Host::Droid
        | Host::Kimi
        | Host::Antigravity
        | Host::Opencode => {
            end_with(getppid().into_iter().collect());
            Waiter { hook, records: Records::of(repo), program: None }
        }
    };
    waiter.wait(cx)
}

impl Waiter<'_> {
    fn is_of_codex(&self) -> bool {
        self.hook.host == Host::Codex
    }

    fn room(&self) -> Room {
        if self.is_of_codex() { ROOM_OF_CODEX } else { ROOM_OF_HOOKS }
    }

    fn wait(&self, cx: &Context) -> Result<Option<Answer>, Error> {
        // First wait until another wake is allowed, because the call below replaces an older waiter in the daemon.
        while let Some((_, record)) = self.current().filter(|_| self.is_of_codex()) {
            match queue::held_back(&record.wakes, time::now().seconds()) {
                Duration::ZERO => break,
                length => thread::sleep(length.min(LOOK)),
            }
        }
        // Beside Codex, the loop ends when the session has ended, has another waiter, or is no longer the latest of its
        // agent.
        while let Some((id, record)) = self.current() {
            let me = if record.agent.is_empty() { cx.identity()?.name } else { record.agent.clone() };
            let room = self.room();
            let ask = json!({
                "caller_agent_id": me, "reader": format!("session:{id}"), "unread": true, "keep": true, "cursor": record.offered_up_to,
                "page_size": room.messages, "max_content_bytes": room.of_message, "timeout_ms": limits::MAX_WAIT.as_millis(),
                "waiter": self.name(&me),
            });
            let news: News = match cx
                .running_daemon()?
                .map(|mut daemon: Client| daemon.attempt(limits::MAX_WAIT, "message.news", &ask))
            {
                Some(Ok(Ok(news))) => news,
                // The cursor belongs to a log that was replaced.
                Some(Ok(Err(error))) if error.message.contains("CURSOR_") => {
                    let _turn = self.records.turn(&id);
                    let mut record = self.records.read(&id);
                    record.offered_up_to = None;
                    self.records.write(&id, &record);
                    continue;
                }
                Some(Ok(Err(error))) if error.kind != ErrorKind::TryAgain => return Err(error),
                // The daemon is gone, stopping or restarting; the waiter leaves the start to other commands.
                Some(Ok(Err(_)) | Err(_)) | None => {
                    thread::sleep(AGAIN);
                    continue;
                }
            };
            if news.status == "replaced" {
                return Ok(None);
            }
            // If the program has switched to another session meanwhile, ask again for that one.
            let Some((now, record)) = self.current() else { return Ok(None) };
            if news.messages.is_empty() || now != id {
                continue;
            }
            if record.busy {
                // A turn that is just ending may not be recorded yet, and may have checked for mail before this message
                // arrived.
                thread::sleep(NOTED);
                let Some((id, record)) = self.current() else { return Ok(None) };
                if record.busy && record.transcript.is_none() {
                    // The end of the turn brings the mail, and starts the next waiter.
                    return Ok(None);
                }
                if record.busy && record.transcript.is_some_and(|transcript| transcript::is_interrupted(&transcript)) {
                    self.note_interruption(&id, &me, cx);
                }
                continue;
            }
            return Ok(self.wake(&id, &me, news));
        }
        Ok(None)
    }

    /// Records that the user has interrupted the turn, for which the program runs no hook.
    fn note_interruption(&self, id: &str, me: &str, cx: &Context) {
        let _turn = self.records.turn(id);
        let mut record = self.records.read(id);
        record.busy = false;
        self.records.write(id, &record);
        let ask = presence(me, id, &record, PresenceState::Idle, false);
        if let Ok(Some(mut daemon)) = cx.running_daemon() {
            let _ = daemon.call::<Value>("agent.setPresence", &ask);
        }
    }

    /// The name under which this waiter waits: the daemon ends an older waiter of the same name.
    fn name(&self, agent: &str) -> String {
        match self.number() {
            Some(_) if self.is_of_codex() => format!("codex:{agent}"),
            Some(program) => format!("hook:{program}"),
            None => format!("hook:{}", self.hook.session().unwrap_or_default()),
        }
    }

    /// The program's process id.
    fn number(&self) -> Option<u32> {
        self.program.map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// The session to wake. In opencode: the session that the plugin names. In Claude Code: the session of this program
    /// that ran a hook last, or before any hook, the one that started the waiter. In Codex: the waiter's own session;
    /// `None` if it has ended or has another waiter, or if its agent has used another session since.
    fn current(&self) -> Option<(String, Record)> {
        let id = self.hook.session().unwrap_or_default().to_owned();
        if self.is_of_codex() {
            let record = self.records.read(&id);
            let latest = self.records.latest(|other| other.agent == record.agent);
            let is_mine = record.waiter == Some(process::id()) && latest.is_some_and(|(latest, _)| latest == id);
            return (is_mine && !record.agent.is_empty()).then_some((id, record));
        }
        if let Some(found) =
            self.number().and_then(|program| self.records.latest(|record| record.program == Some(program)))
        {
            return Some(found);
        }
        let record = self.records.read(&id);
        Some((id, record))
    }

    /// Starts a turn with these messages. They are marked as read once the prompt hook proves that the turn has begun.
    /// Returns `None` beside Codex, where the text is queued.
    fn wake(&self, id: &str, me: &str, news: News) -> Option<Answer> {
        let turn = self.records.turn(id);
        let mut record = self.records.read(id);
        let page = Page::of(&news.messages, self.room().text);
        let left = (news.messages.len() - page.ids.len()) as u64;
        (record.offered, record.offered_in_part) = (page.whole, page.in_part);
        record.offered_up_to = Some(news.cursor);
        let number = count(page.ids.len() as u64, "new message");
        let text = format!(
            "{number} for @{me}. {DATA}\n{}{}Answer what needs an answer: thrum reply MESSAGE TEXT\n",
            page.text,
            more(news.remaining + left)
        );
        let Some(program) = self.program.filter(|_| self.is_of_codex()) else {
            self.records.write(id, &record);
            return Some(self.hook.host.wakes(text));
        };
        record.wakes.push(time::now().seconds());
        record.wakes.drain(..record.wakes.len().saturating_sub(limits::MAX_WAKES));
        // Write the record before the turn may begin.
        self.records.write(id, &record);
        drop(turn);
        if !queue::queue(program, id, &format!("{}{text}", queue::MARK)) {
            // The session was shown nothing; the next prompt brings the mail.
            let _turn = self.records.turn(id);
            let mut record = self.records.read(id);
            (record.offered, record.offered_in_part, record.offered_up_to) = Default::default();
            self.records.write(id, &record);
        }
        None
    }
}

/// Bounds for a text that wakes a session.
struct Room {
    messages: usize,
    /// Maximum size of each message in bytes.
    of_message: usize,
    /// Maximum size of all messages in bytes.
    text: usize,
}

const ROOM_OF_HOOKS: Room = Room { messages: MESSAGES, of_message: OF_MESSAGE, text: ROOM };

/// Bounds for a text queued for Codex: small, because it appears as the user's, and is an argument of a command.
const ROOM_OF_CODEX: Room = Room { messages: 5, of_message: 1024, text: 4 * 1024 };

/// How often a delayed waiter checks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(60);
