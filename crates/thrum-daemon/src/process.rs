//! Other processes by id: checks whether one is still the same, and waits for its end.

/// Returns when a process began, in ticks since the machine started. `None` if there is no such process or the system
/// does not report it.
#[cfg(target_os = "linux")]
pub fn begun(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the second field is a name in parentheses, which may contain anything; the 22nd is the start
    // time.
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(22 - 3)?.parse().ok()
}

#[cfg(not(target_os = "linux"))]
pub fn begun(_pid: u32) -> Option<u64> {
    None
}

/// Resolves to `true` when the process `pid` that began at `began` has ended; to `false` if this cannot be known. On
/// systems other than Linux it never resolves.
#[cfg(target_os = "linux")]
pub(crate) async fn ended(pid: u32, began: u64) -> bool {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use tokio::io::{Interest, unix::AsyncFd};

    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    let handle = match pidfd_open(id, PidfdFlags::NONBLOCK) {
        Ok(handle) => handle,
        Err(error) => return error == rustix::io::Errno::SRCH,
    };
    // The id may have been reused before the descriptor was opened.
    if begun(pid) != Some(began) {
        return true;
    }
    #[expect(
        deprecated,
        reason = "the handle is owned and nobody takes it out, which is what its unsafe successor asks for"
    )]
    let Ok(handle) = AsyncFd::with_interest(handle, Interest::READABLE) else { return false };
    handle.readable().await.is_ok()
}

#[cfg(not(target_os = "linux"))]
pub(crate) async fn ended(_pid: u32, _began: u64) -> bool {
    std::future::pending().await
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_process_is_identified_by_its_start_time_and_its_end_is_noticed() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("starts");
        let began = begun(child.id()).expect("runs");
        assert!(ended(child.id(), began + 1).await, "another one had this id");
        let end = tokio::spawn(ended(child.id(), began));
        drop(child.stdin.take());
        child.wait().expect("ends");
        assert!(end.await.expect("no panic"));
        assert_eq!(begun(child.id()), None);
    }
}
