//! Runs a program for a bounded time, and reads a bounded amount of its output.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// Maximum number of bytes that [`run`] reads of each output, and [`Talk`] of one line. [`Talk`] takes the rest of a
/// longer line for the next line.
const MOST: u64 = 1 << 20;

/// How often to check whether a program has exited.
const LOOK: Duration = Duration::from_millis(2);

/// How a program ended.
pub(crate) struct Ended {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The exit code; `None` if a signal ended the program.
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
}

/// Runs a program with `input` on its standard input. A program that does not end in time is killed. Children that are
/// left in its process group are killed in any case.
///
/// # Errors
/// A message, if the program cannot be started or hangs.
pub(crate) fn run(command: &mut Command, input: &[u8], within: Duration) -> Result<Ended, String> {
    let began = Instant::now();
    let mut running = Running::start(command)?;
    let (mut stdin, input) = (running.child.stdin.take(), input.to_owned());
    // A program that does not read its input must not block us.
    thread::spawn(move || stdin.as_mut().map(|stdin| stdin.write_all(&input)));
    let [stdout, stderr] = [
        running.child.stdout.take().map(|pipe| read(Box::new(pipe))),
        running.child.stderr.take().map(|pipe| read(Box::new(pipe))),
    ];
    let left = || within.saturating_sub(began.elapsed());
    let hangs = || format!("it hangs: it did not end within {} s", within.as_secs());
    let mut said = Vec::new();
    for pipe in [stdout, stderr].into_iter().flatten() {
        said.push(pipe.recv_timeout(left()).map_err(|_| hangs())?);
    }
    let code = loop {
        match running.child.try_wait() {
            Ok(Some(status)) => break status.code(),
            Ok(None) if left().is_zero() => return Err(hangs()),
            Ok(None) => thread::sleep(LOOK),
            Err(error) => return Err(error.to_string()),
        }
    };
    let mut said = said.into_iter();
    Ok(Ended {
        stdout: said.next().unwrap_or_default(),
        stderr: said.next().unwrap_or_default(),
        code,
        took: began.elapsed(),
    })
}

fn read(pipe: Box<dyn Read + Send>) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.take(MOST).read_to_end(&mut bytes);
        sender.send(String::from_utf8_lossy(&bytes).into_owned())
    });
    receiver
}

/// A program in its own process group. Dropping this kills the group.
struct Running {
    child: Child,
}

impl Running {
    fn start(command: &mut Command) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        match command.spawn() {
            Ok(child) => Ok(Self { child }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err("it is not on the PATH".to_owned()),
            Err(error) => Err(format!("it cannot be started: {error}")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Kill the whole group: besides the program, it has only children that the program left behind.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// A running program that exchanges lines with us.
pub(crate) struct Talk {
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    running: Running,
    deadline: Instant,
    within: Duration,
}

impl Talk {
    /// Starts the program. The whole conversation must end within the time `within`.
    ///
    /// # Errors
    /// A message, if the program cannot be started.
    pub(crate) fn start(command: &mut Command, within: Duration) -> Result<Self, String> {
        let mut running = Running::start(command)?;
        let (sender, lines) = mpsc::sync_channel(16);
        let (stdin, stdout) = (running.child.stdin.take(), running.child.stdout.take());
        // Drain standard error: a full pipe would block the program.
        drop(running.child.stderr.take().map(|pipe| read(Box::new(pipe))));
        thread::spawn(move || {
            let Some(mut stdout) = stdout.map(BufReader::new) else { return };
            loop {
                let mut line = Vec::new();
                let read = (&mut stdout).take(MOST).read_until(b'\n', &mut line);
                if !read.is_ok_and(|read| read > 0) || sender.send(String::from_utf8_lossy(&line).into_owned()).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { stdin, lines, running, deadline: Instant::now() + within, within })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Sends a line to the program.
    ///
    /// # Errors
    /// A message, if the program does not read its input.
    pub(crate) fn write_line(&mut self, line: &str) -> Result<(), String> {
        let said = self.stdin.as_mut().map(|stdin| stdin.write_all(format!("{line}\n").as_bytes()));
        said.transpose().map(drop).map_err(|error| format!("it does not read its input: {error}"))
    }

    /// Returns the next line of the program's output.
    ///
    /// # Errors
    /// A message, if the program has ended or hangs.
    pub(crate) fn read_line(&mut self) -> Result<String, String> {
        self.lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("it hangs: it did not answer within {} s", self.within.as_secs()),
            RecvTimeoutError::Disconnected => "it has ended without an answer".to_owned(),
        })
    }

    /// Closes the program's standard input. Returns `true` if the program then ends by itself before the deadline.
    pub(crate) fn end(mut self) -> bool {
        self.stdin = None;
        loop {
            match self.running.child.try_wait() {
                Ok(None) if Instant::now() < self.deadline => thread::sleep(LOOK),
                ended => return ended.is_ok_and(|ended| ended.is_some()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_what_it_started() {
        let long = Duration::from_secs(60);
        let ended = run(&mut shell("cat; echo words >&2; exit 3"), b"in", long).ok().unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code), ("in", "words\n", Some(3)));
        // The shell leaves a child behind that keeps the output open, and writes the child's process id first.
        let dir = tempfile::tempdir().unwrap();
        let number = dir.path().join("pid");
        let line = format!("sleep 600 & echo $! > {}; wait", number.display());
        let short = Duration::from_millis(500);
        assert!(run(&mut shell(&line), b"", short).err().unwrap().contains("hangs"));
        let pid: i32 = std::fs::read_to_string(&number).unwrap().trim().parse().unwrap();
        let began = Instant::now();
        while std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(began.elapsed() < long, "{pid} is still there");
            thread::sleep(LOOK);
        }
        assert!(run(&mut Command::new("/nowhere/at-all"), b"", long).err().unwrap().contains("PATH"));
    }

    #[test]
    fn a_silent_program_and_an_ended_one_are_different_errors() {
        let mut silent = Talk::start(&mut shell("sleep 600"), Duration::from_millis(100)).unwrap();
        assert!(silent.read_line().unwrap_err().contains("hangs"));
        let mut gone = Talk::start(&mut shell("exit 1"), Duration::from_secs(60)).unwrap();
        assert!(gone.read_line().unwrap_err().contains("ended"));
        let mut echo = Talk::start(&mut shell("cat"), Duration::from_secs(60)).unwrap();
        echo.write_line("one").unwrap();
        assert_eq!(echo.read_line().unwrap(), "one\n");
        assert!(echo.end());
    }
}
