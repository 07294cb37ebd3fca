//! The fixed topology: five routes, each one durable consumer of one buffer stream.

use std::fmt;

use plexsphere_wire::subjects;
use plexsphere_wire::telemetry::Signal;

/// One (signal, sink) pair. The set is closed and the durable names are fixed: changing one is a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Route {
    /// Metrics to Mimir.
    MimirMetrics,
    /// Logs to Loki.
    LokiLogs,
    /// Audit to Loki, with its own retention class.
    LokiAudit,
    /// Audit to the SIEM.
    SiemAudit,
    /// Logs to the SIEM, off by default.
    SiemLogs,
}

/// What kind of endpoint a batch ends at. The file sink has no answers to classify, so that it is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SinkKind {
    /// Prometheus remote-write.
    Mimir,
    /// Loki push.
    Loki,
    /// NDJSON over HTTPS.
    Siem,
}

// === impl Route ===

impl Route {
    /// Every route, in the order of the topology.
    pub const ALL: [Self; 5] = [Self::MimirMetrics, Self::LokiLogs, Self::LokiAudit, Self::SiemAudit, Self::SiemLogs];

    /// The name of the route's durable consumer.
    #[must_use]
    pub const fn durable(self) -> &'static str {
        match self {
            Self::MimirMetrics => "mimir-metrics",
            Self::LokiLogs => "loki-logs",
            Self::LokiAudit => "loki-audit",
            Self::SiemAudit => "siem-audit",
            Self::SiemLogs => "siem-logs",
        }
    }

    /// The route of a durable's name.
    #[must_use]
    pub fn of_durable(durable: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|route| route.durable() == durable)
    }

    /// What the route carries.
    #[must_use]
    pub const fn signal(self) -> Signal {
        match self {
            Self::MimirMetrics => Signal::Metrics,
            Self::LokiLogs | Self::SiemLogs => Signal::Logs,
            Self::LokiAudit | Self::SiemAudit => Signal::Audit,
        }
    }

    /// The buffer stream that the route drains.
    #[must_use]
    pub const fn stream(self) -> &'static str {
        subjects::telemetry_stream(self.signal())
    }

    /// The endpoint that the route is named for.
    #[must_use]
    pub const fn kind(self) -> SinkKind {
        match self {
            Self::MimirMetrics => SinkKind::Mimir,
            Self::LokiLogs | Self::LokiAudit => SinkKind::Loki,
            Self::SiemAudit | Self::SiemLogs => SinkKind::Siem,
        }
    }

    /// The route's place in [`Route::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::MimirMetrics => 0,
            Self::LokiLogs => 1,
            Self::LokiAudit => 2,
            Self::SiemAudit => 3,
            Self::SiemLogs => 4,
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.durable())
    }
}
