//! The demo's display: the terminals of two users, one command after the other.

use std::{
    io::{self, Read, Write},
    process::{Child, Output, Stdio},
};

use thrum_core::Error;

use crate::{
    commands::demo::{
        failed,
        stage::{INDENT, StagedRepo, succeeded},
    },
    output,
    render::style::{BOLD, CYAN, DIM},
};

/// Prints the commands of the demo with their output; prints nothing if only the JSON result is wanted.
pub(crate) struct Session {
    output: output::Output,
}

/// A command that runs in parallel to others.
pub(crate) struct Running {
    args: Vec<String>,
    child: Child,
}

impl Session {
    pub(crate) fn new(output: output::Output) -> Self {
        Self { output }
    }

    /// Prints a sentence that announces the next step.
    pub(crate) fn chapter(&self, sentence: &str) -> Result<(), Error> {
        self.print(&format!("\n{BOLD}{sentence}{BOLD:#}\n\n"))
    }

    /// Runs a command, shows it with its output, and returns the output without styles.
    pub(crate) fn run(&self, place: &StagedRepo, args: &[&str]) -> Result<String, Error> {
        self.prompt(place, &format!("thrum {}", quoted(args)))?;
        self.printed(place.run(args)?)
    }

    /// Runs a command with `input` on its standard input, shown as a pipe from `echo`.
    pub(crate) fn pipe(&self, place: &StagedRepo, input: &str, args: &[&str]) -> Result<String, Error> {
        self.prompt(place, &format!("echo {input} | thrum {}", args.join(" ")))?;
        let mut child = spawn(place, args, Stdio::piped())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(format!("{input}\n").as_bytes()).map_err(failed("write to thrum"))?;
        }
        self.printed(succeeded("thrum", args, child.wait_with_output().map_err(failed("run thrum"))?)?)
    }

    /// Starts a command that keeps running while others run.
    pub(crate) fn begin(&self, place: &StagedRepo, args: &[&str]) -> Result<Running, Error> {
        self.prompt(place, &format!("thrum {}", quoted(args)))?;
        let child = spawn(place, args, Stdio::null())?;
        Ok(Running { args: args.iter().map(|arg| (*arg).to_owned()).collect(), child })
    }

    /// Waits for a parallel command to end. Shows the output that was not read yet, and returns it without styles.
    pub(crate) fn end(&self, place: &StagedRepo, mut running: Running) -> Result<String, Error> {
        let output = running.finish().map_err(failed("run thrum"))?;
        let args: Vec<_> = running.args.iter().map(String::as_str).collect();
        self.print(&format!("{DIM}{} … thrum {}{DIM:#}\n", place.name, quoted(&args)))?;
        self.printed(succeeded("thrum", &args, output)?)
    }

    fn printed(&self, output: Output) -> Result<String, Error> {
        let text = String::from_utf8_lossy(&output.stdout);
        self.indented(text.trim_start_matches('\n'))?;
        Ok(anstream::adapter::strip_str(&text).to_string())
    }

    /// Prints a remark that is not the output of a command.
    pub(crate) fn remark(&self, text: &str) -> Result<(), Error> {
        self.print(&format!("    {CYAN}{text}{CYAN:#}\n"))
    }

    fn prompt(&self, place: &StagedRepo, line: &str) -> Result<(), Error> {
        self.print(&format!("{DIM}{} ${DIM:#} {line}\n", place.name))
    }

    /// Prints the output of a command. It comes from our own program, which has escaped the texts of others.
    pub(crate) fn indented(&self, printed: &str) -> Result<(), Error> {
        let lines: String = printed
            .lines()
            .map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{INDENT}{line}\n") })
            .collect();
        self.print(&lines)
    }

    fn print(&self, text: &str) -> Result<(), Error> {
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
    /// Returns the next line of standard output while the command runs.
    pub(crate) fn line(&mut self) -> Result<String, Error> {
        self.child.stdout.as_mut().map_or_else(|| Ok(String::new()), next_line)
    }

    /// Waits for the command to end. Returns the output that has not been read yet.
    fn finish(&mut self) -> io::Result<Output> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let Some(pipe) = &mut self.child.stdout {
            pipe.read_to_end(&mut stdout)?;
        }
        // Reading one pipe after the other is safe: standard error has only a few lines, which fit into its pipe.
        if let Some(pipe) = &mut self.child.stderr {
            pipe.read_to_end(&mut stderr)?;
        }
        Ok(Output { status: self.child.wait()?, stdout, stderr })
    }

    /// Returns the next line of standard error while the command runs.
    pub(crate) fn talk(&mut self) -> Result<String, Error> {
        self.child.stderr.as_mut().map_or_else(|| Ok(String::new()), next_line)
    }
}

/// Reads byte by byte, so that nothing after the line is consumed.
fn next_line(pipe: &mut impl Read) -> Result<String, Error> {
    let mut line = Vec::new();
    let mut byte = [0];
    while pipe.read(&mut byte).map_err(failed("read from thrum"))? == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn spawn(place: &StagedRepo, args: &[&str], stdin: Stdio) -> Result<Child, Error> {
    let mut command = place.command(args)?;
    command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed("start thrum"))
}

/// The arguments as a user would type them.
fn quoted(args: &[&str]) -> String {
    let quote = |arg: &&str| if arg.contains(char::is_whitespace) { format!("\"{arg}\"") } else { (*arg).to_owned() };
    args.iter().map(quote).collect::<Vec<_>>().join(" ")
}
