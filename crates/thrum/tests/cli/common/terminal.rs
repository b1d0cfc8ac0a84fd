//! The program on a terminal: a pair of pseudo-terminals, of which the program gets one and the test the other.

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

/// A program that runs on a terminal; killed if the test ends before it.
pub(crate) struct OnTerminal {
    child: Child,
    screen: File,
    seen: Vec<u8>,
}

impl OnTerminal {
    /// Starts `command` on a terminal of this many columns: its input, output and errors.
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

    /// Reads on until the screen has shown these words.
    pub(crate) fn until(&mut self, words: &str) {
        while !String::from_utf8_lossy(&self.seen).contains(words) {
            assert!(self.more(), "no '{words}' in: {}", String::from_utf8_lossy(&self.seen));
        }
    }

    /// Types these characters.
    pub(crate) fn types(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    /// Waits for the end: the exit code, and all that the screen was sent, with plain line ends.
    pub(crate) fn end(mut self) -> (i32, String) {
        while self.more() {}
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        (code, String::from_utf8(std::mem::take(&mut self.seen)).unwrap().replace("\r\n", "\n"))
    }

    /// Whether something more came. When the last program has closed its end of a terminal, reading fails.
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
