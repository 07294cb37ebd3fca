//! One reading of a machine.

use std::ffi::CStr;
use std::fs;
use std::mem::MaybeUninit;

/// The texts of `/proc` that a reading is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcTexts {
    /// `/proc/stat`
    pub stat: String,
    /// `/proc/meminfo`
    pub meminfo: String,
    /// `/proc/net/dev`
    pub net_dev: String,
    /// `/proc/loadavg`
    pub loadavg: String,
}

/// Use of the root file system, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Used, reserved blocks included.
    pub used_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
}

/// What one reading says; `None` where the text said nothing readable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Machine {
    /// Busy and total ticks of all processors since boot.
    pub cpu_ticks: Option<(u64, u64)>,
    /// Memory, in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Memory that could be given out without swapping, in bytes.
    pub memory_available_bytes: Option<u64>,
    /// Bytes received since boot by all interfaces but the loopback.
    pub network_rx_bytes: Option<u64>,
    /// Bytes sent since boot by all interfaces but the loopback.
    pub network_tx_bytes: Option<u64>,
    /// Load averages over 1, 5 and 15 minutes.
    pub load_averages: Option<[f64; 3]>,
    /// The root file system.
    pub disk: Option<Disk>,
}

/// Reads this machine.
#[must_use]
pub fn read_machine() -> Machine {
    let text = |path| fs::read_to_string(path).unwrap_or_default();
    let texts = ProcTexts {
        stat: text("/proc/stat"),
        meminfo: text("/proc/meminfo"),
        net_dev: text("/proc/net/dev"),
        loadavg: text("/proc/loadavg"),
    };
    Machine { disk: root_file_system(), ..Machine::parse(&texts) }
}

impl Machine {
    /// Parses the texts; the disk is no part of them.
    #[must_use]
    pub fn parse(texts: &ProcTexts) -> Self {
        let network = network(&texts.net_dev);
        Self {
            cpu_ticks: cpu(&texts.stat),
            memory_total_bytes: kilobytes(&texts.meminfo, "MemTotal:"),
            memory_available_bytes: kilobytes(&texts.meminfo, "MemAvailable:"),
            network_rx_bytes: network.map(|(received, _)| received),
            network_tx_bytes: network.map(|(_, sent)| sent),
            load_averages: loads(&texts.loadavg),
            disk: None,
        }
    }

    /// Memory in use, in bytes.
    #[must_use]
    pub fn memory_used_bytes(&self) -> Option<u64> {
        self.memory_total_bytes?.checked_sub(self.memory_available_bytes?)
    }
}

/// The number behind `label` in a text of `<label> <n> kB` lines, in bytes.
pub(super) fn kilobytes(text: &str, label: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Guest time is part of user time already, so only the first eight columns count.
fn cpu(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let total = ticks.iter().sum::<u64>();
    let idle = ticks.get(3)? + ticks.get(4).copied().unwrap_or(0);
    Some((total.checked_sub(idle)?, total))
}

fn network(net_dev: &str) -> Option<(u64, u64)> {
    let mut sum = None;
    for line in net_dev.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let mut columns = numbers.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(received)), Some(Ok(sent))) = (columns.next(), columns.nth(7)) else { continue };
        let (all_received, all_sent) = sum.unwrap_or((0u64, 0u64));
        sum = Some((all_received.saturating_add(received), all_sent.saturating_add(sent)));
    }
    sum
}

fn loads(loadavg: &str) -> Option<[f64; 3]> {
    let mut words = loadavg.split_whitespace().map_while(|word| word.parse().ok());
    Some([words.next()?, words.next()?, words.next()?])
}

fn root_file_system() -> Option<Disk> {
    const ROOT: &CStr = c"/";
    let mut stats = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string and `stats` is room for one result, which a return of 0 says was written.
    let stats = unsafe {
        if libc::statvfs(ROOT.as_ptr(), stats.as_mut_ptr()) != 0 {
            return None;
        }
        stats.assume_init()
    };
    let total = stats.f_blocks.checked_mul(stats.f_frsize)?;
    let free = stats.f_bfree.checked_mul(stats.f_frsize)?;
    Some(Disk { used_bytes: total.checked_sub(free)?, total_bytes: total })
}
