//! Recorded real data: readings of a build machine's `/proc` and the log of its package manager.

use crate::collect::{Machine, ProcTexts};

const MACHINE: &str = include_str!("../../data/machine.txt");
const PACKAGES: &str = include_str!("../../data/packages.log");

/// The recordings, parsed once.
#[derive(Debug)]
pub(super) struct Recording {
    machines: Vec<Machine>,
    lines: Vec<&'static str>,
}

impl Recording {
    pub(super) fn load() -> Self {
        Self { machines: machines(MACHINE), lines: PACKAGES.lines().filter(|line| !line.is_empty()).collect() }
    }

    /// The reading at `step`, round and round.
    pub(super) fn machine(&self, step: usize) -> Option<&Machine> {
        self.machines.get(step.checked_rem(self.machines.len())?)
    }

    /// The log line at `step`, round and round.
    pub(super) fn line(&self, step: usize) -> &'static str {
        step.checked_rem(self.lines.len()).and_then(|step| self.lines.get(step)).copied().unwrap_or_default()
    }

    /// The package operation at `step` as an audit daemon names it: what was done and to what.
    pub(super) fn action(&self, step: usize) -> String {
        let mut words = self.line(step).split(' ').skip(2).filter(|word| *word != "status");
        let (operation, package) = (words.next().unwrap_or("update"), words.next().unwrap_or("unknown"));
        format!("SOFTWARE_UPDATE {operation} {package}")
    }
}

/// A recording is a sequence of texts, each below a line `== <name>`; a new `stat` begins a new reading.
fn machines(recording: &str) -> Vec<Machine> {
    let mut readings: Vec<ProcTexts> = Vec::new();
    let mut section = "";
    for line in recording.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            section = name;
            if section == "stat" {
                readings.push(ProcTexts::default());
            }
            continue;
        }
        let Some(reading) = readings.last_mut() else { continue };
        let text = match section {
            "stat" => &mut reading.stat,
            "meminfo" => &mut reading.meminfo,
            "net" => &mut reading.net_dev,
            "loadavg" => &mut reading.loadavg,
            _ => continue,
        };
        text.push_str(line);
        text.push('\n');
    }
    readings.iter().map(Machine::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_reading_is_complete_and_the_recordings_are_small() {
        let recording = Recording::load();
        assert!(recording.machines.len() >= 100 && recording.lines.len() >= 500);
        for machine in &recording.machines {
            assert!(machine.cpu_ticks.is_some() && machine.memory_used_bytes().is_some());
            assert!(machine.network_rx_bytes.is_some() && machine.load_averages.is_some());
        }
        assert!(MACHINE.len() + PACKAGES.len() < 200 * 1024);
    }

    #[test]
    fn an_action_names_an_operation_and_a_package() {
        let recording = Recording::load();
        for step in 0..recording.lines.len() {
            let action = recording.action(step);
            assert_eq!(action.split(' ').count(), 3, "{action}");
            assert!(action.len() <= 512);
        }
    }
}
