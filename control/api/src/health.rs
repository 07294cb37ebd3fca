//! Health: readings taken in the background, rolled up when asked.

use std::sync::Arc;

use plexsphere_kernel::Probes;
use serde::Serialize;

/// What one check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Works with limits.
    Degraded,
    /// Does not work.
    Down,
}

/// One reading. `detail` is public: no host names, addresses, user names or versions of dependencies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HealthCheck {
    /// The check's name.
    pub name: String,
    /// `ok`, `degraded` or `down`.
    pub status: String,
    /// One phrase.
    pub detail: String,
}

/// The rollup and its checks, in the order of registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct HealthStatus {
    /// `down` if a critical check is down, `degraded` if any check is not ok, else `ok`.
    #[schema(inline)]
    pub status: CheckStatus,
    /// The checks.
    pub checks: Vec<HealthCheck>,
}

/// Reads the probes, of which some are critical.
#[derive(Clone)]
pub struct Health {
    probes: Probes,
    critical: Arc<[&'static str]>,
}

impl Health {
    /// Health over a register of probes; `critical` ones take the rollup down with them.
    #[must_use]
    pub fn new(probes: Probes, critical: &[&'static str]) -> Self {
        Self { probes, critical: critical.into() }
    }

    /// The present rollup. Asks no dependency.
    #[must_use]
    pub fn status(&self) -> HealthStatus {
        let mut status = CheckStatus::Ok;
        let checks = self
            .probes
            .readings()
            .into_iter()
            .map(|reading| {
                let critical = self.critical.contains(&reading.name);
                let check = match (reading.ready, critical) {
                    (true, _) => CheckStatus::Ok,
                    (false, true) => CheckStatus::Down,
                    (false, false) => CheckStatus::Degraded,
                };
                status = worse(status, check);
                let word = match check {
                    CheckStatus::Ok => "ok",
                    CheckStatus::Degraded => "degraded",
                    CheckStatus::Down => "down",
                };
                HealthCheck { name: reading.name.to_owned(), status: word.to_owned(), detail: reading.detail }
            })
            .collect();
        HealthStatus { status, checks }
    }
}

const fn worse(left: CheckStatus, right: CheckStatus) -> CheckStatus {
    match (left, right) {
        (CheckStatus::Down, _) | (_, CheckStatus::Down) => CheckStatus::Down,
        (CheckStatus::Degraded, _) | (_, CheckStatus::Degraded) => CheckStatus::Degraded,
        (CheckStatus::Ok, CheckStatus::Ok) => CheckStatus::Ok,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_critical_check_takes_the_rollup_down_and_any_other_degrades_it() {
        let probes = Probes::default();
        let (database, relay) = (probes.register("database"), probes.register("outbox-relay"));
        let health = Health::new(probes, &["database"]);
        assert_eq!(health.status().status, CheckStatus::Down);
        database.pass("reachable");
        assert_eq!(health.status().status, CheckStatus::Degraded);
        relay.pass("alive");
        assert_eq!(health.status().status, CheckStatus::Ok);
        database.fail("not reachable");
        assert_eq!(health.status().status, CheckStatus::Down);
        assert_eq!(health.status().checks[0].status, "down");
    }
}
