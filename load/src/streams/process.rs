//! What a process of this machine uses, as the kernel says.

use std::io;
use std::time::Duration;

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its share of memory: what it shares with others counts in part. Buffers of sockets are the kernel's and not in it.
    pub pss_bytes: u64,
    /// Processor time since it began.
    pub cpu: Duration,
}

impl Usage {
    /// Reads `/proc/<pid>/smaps_rollup` and the process's clock, which is what `/proc/<pid>/stat` shows in ticks.
    ///
    /// # Errors
    /// What the system says: no such process, or another user's.
    pub fn of(pid: u32) -> io::Result<Self> {
        Ok(Self { pss_bytes: pss(pid)?, cpu: cpu(pid)? })
    }

    /// The sum over several processes.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_all(pids: &[u32]) -> io::Result<Self> {
        let mut sum = Self::default();
        for pid in pids {
            let one = Self::of(*pid)?;
            sum.pss_bytes += one.pss_bytes;
            sum.cpu += one.cpu;
        }
        Ok(sum)
    }
}

fn pss(pid: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.parse::<u64>().ok());
    kilobytes.map(|number| number * 1_024).ok_or_else(|| io::Error::other("smaps_rollup names no Pss"))
}

/// Processor time of a process by its own clock: to the nanosecond, and with the threads that have ended.
///
/// # Errors
/// As [`Usage::of`].
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both pointers live through their calls.
    unsafe {
        let failed = libc::clock_getcpuclockid(pid, &raw mut clock);
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed));
        }
        if libc::clock_gettime(clock, &raw mut time) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let (seconds, nanos) = (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    Ok(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_uses_time_and_memory() {
        let own = std::process::id();
        let before = Usage::of(own).unwrap();
        let sum = (0..3_000_000u64).map(std::hint::black_box).fold(0, u64::wrapping_add);
        assert!(sum > 0 && before.pss_bytes > 0);
        let after = cpu(own).unwrap();
        assert!(after > before.cpu);
        std::thread::spawn(|| (0..3_000_000u64).map(std::hint::black_box).sum::<u64>()).join().unwrap();
        assert!(cpu(own).unwrap() > after + std::time::Duration::from_micros(100), "a thread that has ended counts");
        assert!(Usage::of(u32::MAX).is_err());
    }
}
