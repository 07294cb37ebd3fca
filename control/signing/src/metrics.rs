//! What the signer shows of itself.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Envelope,
    Announcement,
    Session,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPurpose {
    /// `envelope`, `announcement` or `session`.
    purpose: &'static str,
}

/// The meters of a signer. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct SigningMetrics {
    signatures: Family<ByPurpose, Counter>,
    pub(crate) refusals: Counter,
    unannounceable: Gauge,
}

impl SigningMetrics {
    /// Meters that are served with the others of the process.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let name = "plexsphere_control_signatures";
        registry.register(name, "Signatures lent, by purpose", metrics.signatures.clone());
        let name = "plexsphere_control_signing_refusals";
        registry.register(name, "Requests that the signer refused", metrics.refusals.clone());
        let name = "plexsphere_control_nodes_unannounceable";
        registry.register(name, "Live Nodes that pin a destroyed signing key", metrics.unannounceable.clone());
        metrics
    }

    pub(crate) fn signed(&self, purpose: Purpose) {
        let purpose = match purpose {
            Purpose::Envelope => "envelope",
            Purpose::Announcement => "announcement",
            Purpose::Session => "session",
        };
        self.signatures.get_or_create(&ByPurpose { purpose }).inc();
    }

    pub(crate) fn unannounceable(&self, nodes: u64) {
        self.unannounceable.set(i64::try_from(nodes).unwrap_or(i64::MAX));
    }
}
