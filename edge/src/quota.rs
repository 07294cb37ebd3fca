//! Byte budgets: GCRA per Node and per Domain, weighed in wire bytes, lock-free.
//!
//! The core ([`Gcra`]) takes `now`. A refusal by the Domain gives the Node its charge back.

mod gcra;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plexsphere_wire::subjects::Origin;
use plexsphere_wire::{DomainId, NodeId};

pub use gcra::{Gcra, Rate};

use crate::config::{QuotaConfig, seconds};

/// The longest `Retry-After` of a refusal, in seconds.
const MAX_RETRY_SECONDS: u64 = 300;

/// Which budget refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// The Node's (`per_node_rate_limited`).
    Node {
        /// Whole seconds until the same weight passes, 1–300.
        retry_after: u64,
    },
    /// The Domain's (`capacity_exceeded`).
    Domain {
        /// Whole seconds until the same weight passes, 1–300.
        retry_after: u64,
    },
}

/// The port by which telemetry is metered.
pub trait ByteBudget: Send + Sync + 'static {
    /// Charges `bytes` to the Node and then to its Domain, or to neither.
    ///
    /// # Errors
    /// [`Exhausted`] names the budget that is short.
    fn charge(&self, origin: &Origin, bytes: u64, now: Duration) -> Result<(), Exhausted>;

    /// Gives back what [`ByteBudget::charge`] took.
    fn refund(&self, origin: &Origin, bytes: u64);
}

struct DomainBudget {
    gcra: Gcra,
    /// Bytes charged since the usage was last taken.
    used_bytes: AtomicU64,
}

/// The budgets of one process, in its memory.
pub struct Quotas {
    node_rate: Rate,
    domain_rate: Rate,
    idle: Duration,
    nodes: papaya::HashMap<NodeId, Arc<Gcra>>,
    domains: papaya::HashMap<DomainId, Arc<DomainBudget>>,
}

impl Quotas {
    /// Budgets with these rates; refills are divided by the number of replicas.
    #[must_use]
    pub fn new(config: &QuotaConfig) -> Self {
        let replicas = config.replicas.max(1);
        Self {
            node_rate: Rate::new(config.node_bytes_per_second / replicas, config.node_burst_bytes),
            domain_rate: Rate::new(config.domain_bytes_per_second / replicas, config.domain_burst_bytes),
            idle: seconds(config.idle_seconds),
            nodes: papaya::HashMap::new(),
            domains: papaya::HashMap::new(),
        }
    }

    /// Wire bytes charged per Domain since the last call. Whoever wants them all asks more often than the idle time.
    pub fn take_usage(&self) -> Vec<(DomainId, u64)> {
        let domains = self.domains.pin();
        domains
            .iter()
            .map(|(domain, budget)| (*domain, budget.used_bytes.swap(0, Ordering::Relaxed)))
            .filter(|(_, bytes)| *bytes > 0)
            .collect()
    }

    /// Takes usage of other edges off a Domain's budget. The seam by which edges will share it.
    pub fn absorb(&self, domain: DomainId, bytes: u64, now: Duration) {
        self.domain(domain).gcra.absorb(self.domain_rate, bytes, now);
    }

    /// Forgets budgets that are full and were not touched for the idle time. Returns how many remain. Usage that nobody
    /// took in all that time has nobody who wants it, and goes with its Domain: otherwise every Domain that ever sent a
    /// batch would stay for ever.
    pub fn evict(&self, now: Duration) -> usize {
        self.nodes.pin().retain(|_, gcra| !gcra.idle_since(now, self.idle));
        self.domains.pin().retain(|_, budget| !budget.gcra.idle_since(now, self.idle));
        self.nodes.len() + self.domains.len()
    }

    fn node(&self, node: NodeId) -> Arc<Gcra> {
        Arc::clone(self.nodes.pin().get_or_insert_with(node, || Arc::new(Gcra::new())))
    }

    fn domain(&self, domain: DomainId) -> Arc<DomainBudget> {
        let fresh = || Arc::new(DomainBudget { gcra: Gcra::new(), used_bytes: AtomicU64::new(0) });
        Arc::clone(self.domains.pin().get_or_insert_with(domain, fresh))
    }
}

impl ByteBudget for Quotas {
    fn charge(&self, origin: &Origin, bytes: u64, now: Duration) -> Result<(), Exhausted> {
        let node = self.node(origin.node);
        node.charge(self.node_rate, bytes, now).map_err(|wait| Exhausted::Node { retry_after: retry_seconds(wait) })?;
        let domain = self.domain(origin.domain);
        if let Err(wait) = domain.gcra.charge(self.domain_rate, bytes, now) {
            node.refund(self.node_rate, bytes);
            return Err(Exhausted::Domain { retry_after: retry_seconds(wait) });
        }
        domain.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn refund(&self, origin: &Origin, bytes: u64) {
        self.node(origin.node).refund(self.node_rate, bytes);
        let domain = self.domain(origin.domain);
        domain.gcra.refund(self.domain_rate, bytes);
        let give = |used: u64| Some(used.saturating_sub(bytes));
        let _ = domain.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, give);
    }
}

/// A wait in whole seconds, rounded up, 1–300.
fn retry_seconds(wait: Duration) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    whole.clamp(1, MAX_RETRY_SECONDS)
}
