//! What a process of this machine uses, as `/proc` says.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What a process has used up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Its share of memory: what it shares with others counts in part. Buffers of sockets are the kernel's and not in it.
    pub pss_bytes: u64,
    /// Processor time of its threads that still run.
    pub cpu: Duration,
}

impl Usage {
    /// Reads `/proc/<pid>/smaps_rollup` and the threads' `schedstat`, which counts nanoseconds where `stat` counts ticks.
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

/// Processor time of a process, to the nanosecond where the kernel counts so.
///
/// # Errors
/// As [`Usage::of`].
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let mut nanos = 0u64;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let path: PathBuf = thread?.path().join("schedstat");
        // A thread may end while the folder is read.
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        nanos += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    if nanos > 0 { Ok(Duration::from_nanos(nanos)) } else { ticks(pid) }
}

/// `utime` and `stime` of `/proc/<pid>/stat`, a hundredth of a second each.
fn ticks(pid: u32) -> io::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok());
    Ok(Duration::from_millis(times.sum::<u64>() * 10))
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
        assert!(cpu(own).unwrap() > before.cpu);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
