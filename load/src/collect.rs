//! Metrics of this machine: texts of `/proc` read, parsed and turned into samples.

mod machine;

pub use machine::{Disk, Machine, ProcTexts, read_machine};

use std::time::Instant;

use plexsphere_wire::Timestamp;

use crate::records::{Group, Metric};

/// Turns successive readings into samples; processor usage needs two.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    last_cpu: Option<(u64, u64)>,
}

/// What the agent knows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AgentStats {
    /// Seconds since it started.
    pub uptime_seconds: f64,
    /// How often the event stream was opened again.
    pub reconnects: u64,
    /// Resident memory of the process, in bytes.
    pub resident_bytes: u64,
}

impl Collector {
    /// The samples of one reading, under the names that the platform knows. What could not be read is left out; the
    /// first reading has no processor usage.
    pub fn samples(&mut self, machine: &Machine, at: Timestamp) -> Vec<Metric> {
        let mut samples = Vec::with_capacity(10);
        let mut push = |name, value: Option<f64>| {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                samples.push(Metric { group: Group::NodeResources, name, value, timestamp: at });
            }
        };
        push("cpu_usage_percent", self.cpu_usage(machine));
        push("memory_used_bytes", machine.memory_used_bytes().map(float));
        push("memory_total_bytes", machine.memory_total_bytes.map(float));
        push("disk_used_bytes", machine.disk.map(|disk| float(disk.used_bytes)));
        push("disk_total_bytes", machine.disk.map(|disk| float(disk.total_bytes)));
        push("network_rx_bytes", machine.network_rx_bytes.map(float));
        push("network_tx_bytes", machine.network_tx_bytes.map(float));
        let [one, five, fifteen] = machine.load_averages.map_or([None; 3], |loads| loads.map(Some));
        push("load_avg_1", one);
        push("load_avg_5", five);
        push("load_avg_15", fifteen);
        samples
    }

    fn cpu_usage(&mut self, machine: &Machine) -> Option<f64> {
        let now = machine.cpu_ticks?;
        let (busy, total) = self.last_cpu.replace(now)?;
        let spent = now.1.checked_sub(total).filter(|spent| *spent > 0)?;
        Some(float(now.0.saturating_sub(busy)) * 100.0 / float(spent))
    }
}

impl AgentStats {
    /// Reads the process's own memory and combines it with what the caller counts.
    #[must_use]
    pub fn read(started: Instant, reconnects: u64) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            uptime_seconds: started.elapsed().as_secs_f64(),
            reconnects,
            resident_bytes: machine::kilobytes(&status, "VmRSS:").unwrap_or(0),
        }
    }

    /// The samples.
    #[must_use]
    pub fn samples(&self, at: Timestamp) -> Vec<Metric> {
        [
            ("uptime_seconds", self.uptime_seconds),
            ("reconnect_count", float(self.reconnects)),
            ("heap_sys_bytes", float(self.resident_bytes)),
        ]
        .into_iter()
        .map(|(name, value)| Metric { group: Group::AgentStats, name, value, timestamp: at })
        .collect()
    }
}

/// Counters above 2^53 lose their last bits, as they do in every sample store.
#[allow(clippy::cast_precision_loss, reason = "a sample is a float by contract")]
const fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(busy: u64, idle: u64) -> ProcTexts {
        ProcTexts {
            stat: format!("cpu  {busy} 0 0 {idle} 10 0 0 0 0 0\ncpu0 1 2 3 4\n"),
            meminfo: "MemTotal:       1000 kB\nMemFree:         200 kB\nMemAvailable:    400 kB\n".into(),
            net_dev: "Inter-|   Receive\n face |bytes\n    lo: 999 1 0 0 0 0 0 0 999 1 0 0 0 0 0 0\n  eth0: 500 5 0 0 0 0 0 0 70 7 0 0 0 0 0 0\n  eth1:20 5 0 0 0 0 0 0 3 7 0 0 0 0 0 0\n".into(),
            loadavg: "0.01 0.21 0.26 1/87 15099\n".into(),
        }
    }

    fn value(samples: &[Metric], name: &str) -> Option<f64> {
        samples.iter().find(|sample| sample.name == name).map(|sample| sample.value)
    }

    #[test]
    fn proc_texts_become_the_known_samples() {
        let at = Timestamp::from_unix_seconds(1_800_000_000);
        let mut collector = Collector::default();
        let first = collector.samples(&Machine::parse(&texts(100, 890)), at);
        assert_eq!(value(&first, "cpu_usage_percent"), None);
        let disk = Some(Disk { used_bytes: 7, total_bytes: 9 });
        let machine = Machine { disk, ..Machine::parse(&texts(130, 960)) };
        let samples = collector.samples(&machine, at);
        assert_eq!(value(&samples, "cpu_usage_percent"), Some(30.0));
        assert_eq!(value(&samples, "memory_used_bytes"), Some(600.0 * 1024.0));
        assert_eq!(value(&samples, "memory_total_bytes"), Some(1_000.0 * 1024.0));
        assert_eq!(value(&samples, "network_rx_bytes"), Some(520.0));
        assert_eq!(value(&samples, "network_tx_bytes"), Some(73.0));
        assert_eq!(value(&samples, "disk_total_bytes"), Some(9.0));
        assert_eq!(value(&samples, "load_avg_15"), Some(0.26));
        assert_eq!(samples.len(), 10);
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        let nothing = ProcTexts::default();
        let samples = Collector::default().samples(&Machine::parse(&nothing), Timestamp::UNIX_EPOCH);
        assert_eq!(samples, Vec::new());
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = read_machine();
        assert!(machine.memory_total_bytes.is_some_and(|bytes| bytes > 0));
        assert!(machine.disk.is_some_and(|disk| disk.total_bytes >= disk.used_bytes));
        assert!(AgentStats::read(Instant::now(), 0).resident_bytes > 0);
    }
}
