//! The three record schemas: their members, their rules, and views of records that borrow from the batch.

mod labels;
mod read;

pub use labels::{Labels, is_forbidden_label};

use super::{RecordTime, Signal, Text};

/// A record schema that the decoder knows. Sealed: [`MetricSample`], [`LogLine`], [`AuditEvent`].
pub trait Record<'a>: read::Read<'a> {
    /// The signal that consists of such records.
    const SIGNAL: Signal;
}

/// Declares a member whose values are a closed set of tokens.
macro_rules! closed_set {
    ($(#[$doc:meta])* $name:ident { $($(#[$token_doc:meta])* $variant:ident = $token:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$token_doc])* $variant,)*
        }

        impl $name {
            /// Every value, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The value's token.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $token,)*
                }
            }

            /// The value of a token, compared exactly.
            pub fn parse(token: &str) -> Option<Self> {
                match token {
                    $($token => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// What a metric sample is about.
    MetricGroup {
        /// Processor, memory, disks and interfaces of the Node.
        NodeResources = "node_resources",
        /// Traffic and handshakes of a tunnel.
        TunnelHealth = "tunnel_health",
        /// Round trips to a peer.
        PeerLatency = "peer_latency",
        /// The agent's own process.
        AgentStats = "agent_stats",
    }
}

closed_set! {
    /// Severity of a log line, as syslog names it (RFC 5424 section 6.2.1).
    Severity {
        /// System is unusable.
        Emerg = "emerg",
        /// Action must be taken immediately.
        Alert = "alert",
        /// Critical conditions.
        Crit = "crit",
        /// Error conditions.
        Err = "err",
        /// Warning conditions.
        Warning = "warning",
        /// Normal but significant.
        Notice = "notice",
        /// Informational.
        Info = "info",
        /// Debug-level.
        Debug = "debug",
    }
}

closed_set! {
    /// Where an audit event was observed.
    AuditSource {
        /// The kernel's audit daemon.
        Auditd = "auditd",
        /// The audit log of a Kubernetes API server.
        K8s = "k8s",
    }
}

/// One metric sample.
#[derive(Debug, Clone, Copy)]
pub struct MetricSample<'a> {
    /// What the sample is about.
    pub group: MetricGroup,
    /// Free text, not blank, at most [`NAME_BYTES`](super::limits::NAME_BYTES): characters that no sink takes occur.
    pub name: Text<'a>,
    /// A finite number.
    pub value: Number<'a>,
    /// The caller's labels, forbidden ones included when the batch was not rewritten.
    pub labels: Labels<'a>,
    /// When the sample was taken.
    pub timestamp: RecordTime,
}

/// One log line.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<'a> {
    /// How severe.
    pub severity: Severity,
    /// The unit, or the file, that the line comes from.
    pub unit: Option<Text<'a>>,
    /// The host's own name for itself.
    pub hostname: Option<Text<'a>>,
    /// The line, never empty; longer than [`MESSAGE_BYTES`](super::limits::MESSAGE_BYTES) only before rewriting.
    pub message: Text<'a>,
    /// When the line was written.
    pub timestamp: RecordTime,
}

/// One normalised audit event.
#[derive(Debug, Clone, Copy)]
pub struct AuditEvent<'a> {
    /// Where the event was observed.
    pub source: AuditSource,
    /// What was done; not blank.
    pub action: Text<'a>,
    /// How it ended; not blank.
    pub outcome: Text<'a>,
    /// When it happened.
    pub timestamp: RecordTime,
}

/// A JSON number, kept as it was written so that it can travel on unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<'a> {
    text: &'a str,
}

// === impl Number ===

impl<'a> Number<'a> {
    /// The number as the Node wrote it, in the grammar of RFC 8259.
    pub const fn as_str(self) -> &'a str {
        self.text
    }

    /// The nearest double, always finite.
    pub fn to_f64(self) -> f64 {
        // The scanner checked the grammar, which is a part of what `parse` takes.
        self.text.parse().unwrap_or(0.0)
    }

    /// A number of RFC 8259's grammar, when the nearest double is finite.
    fn finite(text: &'a str) -> Option<Self> {
        /// So many characters without an exponent stay below 10³⁰⁸, the magnitude of the largest double.
        const SURELY_FINITE_BYTES: usize = 308;

        let number = Self { text };
        let plain = text.len() <= SURELY_FINITE_BYTES && !text.bytes().any(|byte| matches!(byte, b'e' | b'E'));
        (plain || number.to_f64().is_finite()).then_some(number)
    }
}

// === impl Record ===

impl<'a> Record<'a> for MetricSample<'a> {
    const SIGNAL: Signal = Signal::Metrics;
}

impl<'a> Record<'a> for LogLine<'a> {
    const SIGNAL: Signal = Signal::Logs;
}

impl<'a> Record<'a> for AuditEvent<'a> {
    const SIGNAL: Signal = Signal::Audit;
}
