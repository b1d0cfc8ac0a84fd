//! Runs the program on a pseudo-terminal whose other end the test reads and writes.

use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::ffi::OsStrExt,
    process::{Child, Command},
};

use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// A program on a terminal. It is killed on drop.
pub(crate) struct OnTerminal {
    child: Child,
    screen: File,
    seen: Vec<u8>,
}

impl OnTerminal {
    /// Starts `command` with a terminal of this many columns as standard input, output and error.
    pub(crate) fn start(mut command: Command, columns: u16) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&screen).unwrap();
        unlockpt(&screen).unwrap();
        let name = ptsname(&screen, Vec::new()).unwrap();
        let terminal = OpenOptions::new().read(true).write(true).open(OsStr::from_bytes(name.as_bytes())).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let copy = || terminal.try_clone().unwrap();
        let child = command.env("TERM", "xterm").stdin(copy()).stdout(copy()).stderr(copy()).spawn().unwrap();
        Self { child, screen: screen.into(), seen: Vec::new() }
    }

    /// Reads from the terminal until its output contains `words`.
    pub(crate) fn until(&mut self, words: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(words) {
            assert!(self.more(), "no '{words}' in: {}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Types `text` on the terminal.
    pub(crate) fn types(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the program to exit. Returns its exit code and everything it sent to the screen, with plain line ends.
    pub(crate) fn end(mut self) -> (i32, String) {
        while self.more() {}
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, String::from_utf8(std::mem::take(&mut self.seen)).unwrap().replace("\r\n", "\n"))
    }

    /// Reads more output and returns `true`, or `false` at the end: reading fails once the last program has closed its
    /// end of the terminal.
    fn more(&mut self) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match self.screen.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return false,
                Ok(length) => {
                    self.seen.extend(&chunk[..length]);
                    return true;
                }
            }
        }
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
