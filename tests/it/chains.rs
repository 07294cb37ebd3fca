//! The audit chains of an installation, judged from outside its processes.

use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_audit::{Audit, AuditKey, AuditParts, CursorKey, PgAuditLog, Range};
use plexsphere_kernel::seams::DomainEntries;
use plexsphere_kernel::{Database, Fault, SystemClock};
use plexsphere_wire::DomainId;
use plexsphere_wire::directory::DomainEntry;
use prometheus_client::registry::Registry;
use uuid::Uuid;

/// Verification asks for no Domain.
struct NoDomains;

#[async_trait]
impl DomainEntries for NoDomains {
    async fn domain_entry(&self, _: DomainId) -> Result<Option<DomainEntry>, Fault> {
        Ok(None)
    }

    async fn domain_entries(&self, _: Option<DomainId>, _: i64) -> Result<Vec<DomainEntry>, Fault> {
        Ok(Vec::new())
    }
}

/// Waits until every row is chained, then asserts of every chain that its places rise by one from 1 and that it holds.
/// Returns the chains with their lengths.
pub(crate) async fn all_hold(database: &str) -> Vec<(Uuid, i64)> {
    let db = Database::connect(database, 2).await.unwrap();
    let waiting = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM audit.pending").fetch_one(db.pool()).await.unwrap()
    };
    plexsphere_testkit::eventually!(waiting().await == 0, "every row is chained");
    let chains: Vec<(Uuid, i64, i64, i64)> =
        sqlx::query_as("SELECT chain, count(*), min(seq), max(seq) FROM audit.entries GROUP BY chain")
            .fetch_all(db.pool())
            .await
            .unwrap();
    let parts = AuditParts {
        log: Arc::new(PgAuditLog::new(db, AuditKey::parse(&"00".repeat(32)).unwrap(), Arc::new(SystemClock))),
        domains: Arc::new(NoDomains),
        cursor_key: CursorKey::new([0; 32]),
        mirror: None,
    };
    let verifier = Audit::new(parts, &mut Registry::default()).verifier();
    let mut lengths = Vec::new();
    for (chain, rows, first, last) in chains {
        assert_eq!((first, last), (1, rows), "{chain} has a gap");
        let verdict = verifier.verify(chain, Range::default()).await.unwrap();
        assert_eq!(verdict.divergence, None, "{chain}");
        lengths.push((chain, rows));
    }
    assert!(!lengths.is_empty(), "there are chains");
    lengths
}
