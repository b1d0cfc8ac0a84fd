//! Finds the program on this machine that listens on a port, for error messages.

use std::{fs, path::Path};

/// Describes the process that listens on a TCP port of this machine: `, which python3 (pid 4711) has`. Empty if the
/// system does not reveal it, for example for another user's process or on systems without `/proc`.
pub fn describe(port: u16) -> String {
    let sockets: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| listening(Path::new(table), port)).collect();
    if sockets.is_empty() {
        return String::new();
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let owner =
        processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| holds(*pid, &sockets));
    owner.map_or_else(String::new, |pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        format!(", which {} (pid {pid}) has", thrum_core::name::printable(name.trim()))
    })
}

/// Returns the sockets that listen on this port, in the notation of `/proc/PID/fd`.
fn listening(table: &Path, port: u16) -> Vec<String> {
    /// The kernel's `TCP_LISTEN`.
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).unwrap_or_default();
    let wanted = format!(":{port:04X}");
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&wanted) && *fields.get(3)? == LISTEN;
        is_it.then(|| format!("socket:[{}]", fields.get(9).copied().unwrap_or_default()))
    };
    text.lines().skip(1).filter_map(socket).collect()
}

fn holds(pid: u32, sockets: &[String]) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target)))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn the_program_that_has_a_port_is_named() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(describe(port).contains(&format!("(pid {}) has", std::process::id())), "{}", describe(port));
        drop(listener);
        assert_eq!(describe(port), "");
    }
}
