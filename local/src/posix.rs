//! The few system calls that std does not offer. This is the one module of the crate with `unsafe` in it.
//!
//! Every block calls a libc function with plain integers, or with a pointer to a local that outlives the call.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Whether this process runs as root.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Sends `signal` to one process. An already reaped process is not an error.
pub(crate) fn kill_process(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // SAFETY: kill takes two integers; a stale pid yields ESRCH, which is what we want to ignore.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Sends `signal` to the process group that `leader` leads.
pub(crate) fn kill_group(leader: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(leader)
        && pid > 1
    {
        // SAFETY: as in `kill_process`; a negative pid names the group.
        unsafe { libc::kill(-pid, signal) };
    }
}

/// Whether a process with this pid exists.
pub(crate) fn process_exists(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    if pid <= 1 {
        return false;
    }
    // SAFETY: signal 0 delivers nothing and only checks.
    let answer = unsafe { libc::kill(pid, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Makes the kernel send `signal` to the child when the thread that forks it ends.
///
/// The thread matters: `PR_SET_PDEATHSIG` follows the forking thread, not the process, so the caller forks from a
/// thread that lives as long as the process. Elsewhere than on Linux this does nothing.
pub(crate) fn die_with_parent(command: &mut Command, signal: i32) {
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        let hook = move || {
            // SAFETY: prctl with integers is async-signal-safe. It runs after std has changed the user, which would
            // otherwise clear the setting again.
            if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) } != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call above; then nobody would ever signal us.
            // SAFETY: getppid takes nothing and cannot fail.
            if u32::try_from(unsafe { libc::getppid() }) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        };
        // SAFETY: the hook allocates nothing, takes no lock and makes two async-signal-safe calls.
        unsafe { command.pre_exec(hook) };
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (command, signal);
    }
}

/// Bytes free for an unprivileged user on the file system that holds `path`.
///
/// # Errors
/// What the system says, when there is no such path.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: statvfs is plain old data, valid when zeroed.
    let mut stat: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers live through the call, and the path ends in NUL.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut stat) } != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::unnecessary_cast, reason = "the field is narrower on some targets")]
    Ok((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

/// How many files this process may have open.
pub(crate) fn open_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::useless_conversion, reason = "the type differs between targets")]
    Ok(limit.rlim_cur.into())
}
