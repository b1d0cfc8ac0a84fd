//! How the demo looks: what would stand on the terminals of two people, one command after the other.

use std::{
    io::{self, Read, Write},
    process::{Child, Output, Stdio},
};

use thrum_core::Fault;

use crate::{
    commands::demo::stage::{Place, failed, succeeded},
    output,
    render::style::{BOLD, CYAN, DIM},
};

/// Prints the session, or keeps still when only the result is wanted.
pub(crate) struct Session {
    output: output::Output,
}

/// A command that runs beside the others.
pub(crate) struct Running {
    args: Vec<String>,
    child: Child,
}

impl Session {
    pub(crate) fn new(output: output::Output) -> Self {
        Self { output }
    }

    /// What happens next, in a sentence.
    pub(crate) fn chapter(&self, sentence: &str) -> Result<(), Fault> {
        self.say(&format!("\n{BOLD}{sentence}{BOLD:#}\n\n"))
    }

    /// Runs a command, shows it with what it printed, and gives that without styles.
    pub(crate) fn run(&self, place: &Place, args: &[&str]) -> Result<String, Fault> {
        self.prompt(place, &format!("thrum {}", quoted(args)))?;
        self.printed(place.run(args)?)
    }

    /// Runs a command with `input` on its standard input, as a pipe from `echo` would put it there.
    pub(crate) fn pipe(&self, place: &Place, input: &str, args: &[&str]) -> Result<String, Fault> {
        self.prompt(place, &format!("echo {input} | thrum {}", args.join(" ")))?;
        let mut child = spawn(place, args, Stdio::piped())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(format!("{input}\n").as_bytes()).map_err(failed("write to thrum"))?;
        }
        self.printed(succeeded(args, child.wait_with_output().map_err(failed("run thrum"))?)?)
    }

    /// Starts a command that goes on while others run.
    pub(crate) fn begin(&self, place: &Place, args: &[&str]) -> Result<Running, Fault> {
        self.prompt(place, &format!("thrum {}", quoted(args)))?;
        let child = spawn(place, args, Stdio::null())?;
        Ok(Running { args: args.iter().map(|arg| (*arg).to_owned()).collect(), child })
    }

    /// Waits for a command that runs beside the others, shows what it printed since, and gives that without styles.
    pub(crate) fn end(&self, place: &Place, mut running: Running) -> Result<String, Fault> {
        let output = running.finish().map_err(failed("run thrum"))?;
        let args: Vec<_> = running.args.iter().map(String::as_str).collect();
        self.say(&format!("{DIM}{} … thrum {}{DIM:#}\n", place.name, quoted(&args)))?;
        self.printed(succeeded(&args, output)?)
    }

    fn printed(&self, output: Output) -> Result<String, Fault> {
        let text = String::from_utf8_lossy(&output.stdout);
        self.indented(text.trim_start_matches('\n'))?;
        Ok(anstream::adapter::strip_str(&text).to_string())
    }

    /// A remark that no command printed.
    pub(crate) fn remark(&self, text: &str) -> Result<(), Fault> {
        self.say(&format!("    {CYAN}{text}{CYAN:#}\n"))
    }

    fn prompt(&self, place: &Place, line: &str) -> Result<(), Fault> {
        self.say(&format!("{DIM}{} ${DIM:#} {line}\n", place.name))
    }

    /// What a command printed. It is our own program, which has escaped what others wrote.
    pub(crate) fn indented(&self, printed: &str) -> Result<(), Fault> {
        let lines: String = printed.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") }).collect();
        self.say(&lines)
    }

    fn say(&self, text: &str) -> Result<(), Fault> {
        if self.output.is_json() { Ok(()) } else { self.output.text(text) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The next line of its result, while it goes on.
    pub(crate) fn line(&mut self) -> Result<String, Fault> {
        self.child.stdout.as_mut().map_or_else(|| Ok(String::new()), next_line)
    }

    /// Waits for its end; gives what no line was taken of before.
    fn finish(&mut self) -> io::Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let Some(pipe) = &mut self.child.stdout {
            pipe.read_to_end(&mut stdout)?;
        }
        // A few lines at most, for which the pipe has room while the other one is read.
        if let Some(pipe) = &mut self.child.stderr {
            pipe.read_to_end(&mut stderr)?;
        }
        Ok(Output { status: self.child.wait()?, stdout, stderr })
    }

    /// The next line it says beside its result, while it goes on.
    pub(crate) fn talk(&mut self) -> Result<String, Fault> {
        self.child.stderr.as_mut().map_or_else(|| Ok(String::new()), next_line)
    }
}

/// Byte by byte, so that nothing is taken of what comes behind the line.
fn next_line(pipe: &mut impl Read) -> Result<String, Fault> {
    let mut line = Vec::new();
    let mut byte = [0];
    while pipe.read(&mut byte).map_err(failed("read from thrum"))? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn spawn(place: &Place, args: &[&str], stdin: Stdio) -> Result<Child, Fault> {
    let mut command = place.command(args)?;
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed("start thrum"))
}

/// The arguments as one would type them.
fn quoted(args: &[&str]) -> String {
    let quote = |arg: &&str| if arg.contains(char::is_whitespace) { format!("\"{arg}\"") } else { (*arg).to_owned() };
    args.iter().map(quote).collect::<Vec<_>>().join(" ")
}
