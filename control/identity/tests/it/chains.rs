//! What this context does, on the audit chains.

use std::sync::Arc;

use plexsphere_audit::{Audit, AuditKey, AuditParts, CursorKey, PgAuditLog, Range};
use plexsphere_kernel::seams::DomainEntries;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_kernel::{Clock, Fault};
use plexsphere_wire::DomainId;
use plexsphere_wire::directory::DomainEntry;
use prometheus_client::registry::Registry;
use uuid::Uuid;

use crate::tenancy_rig::group;
use crate::world::{World, world};

struct NoEntries;

#[async_trait::async_trait]
impl DomainEntries for NoEntries {
    async fn domain_entry(&self, _: DomainId) -> Result<Option<DomainEntry>, Fault> {
        Ok(None)
    }

    async fn domain_entries(&self, _: Option<DomainId>, _: i64) -> Result<Vec<DomainEntry>, Fault> {
        Ok(Vec::new())
    }
}

/// The audit context over the database of a world, with everything that is pending in its chains.
pub(crate) async fn sequenced(world: &World) -> Audit {
    let key = AuditKey::parse(&"5a".repeat(32)).unwrap();
    let log = PgAuditLog::new(world.db.clone(), key, Arc::clone(&world.clock) as Arc<dyn Clock>);
    let parts = AuditParts {
        log: Arc::new(log),
        domains: Arc::new(NoEntries),
        cursor_key: CursorKey::new([3; 32]),
        mirror: None,
    };
    let audit = Audit::new(parts, &mut Registry::default());
    audit.sequencer().run().await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM audit.pending").await, 0);
    audit
}

#[tokio::test]
async fn the_chain_of_a_domain_holds_after_its_end() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    group(&world, &domain, "team").await;
    let path = format!("/v1/domains/{domain}");
    let refused = world.delete(&path).await;
    let counts = serde_json::json!({ "projects": 0, "groups": 1, "identities": 0, "idp_bindings": 0, "nodes": 0 });
    assert_eq!((refused.refusal(), &refused.body["child_counts"]), ((409, "domain_not_empty"), &counts));
    sequenced(&world).await;
    sqlx::query("DELETE FROM identity.groups").execute(&world.database.pool()).await.unwrap();
    assert_eq!(world.delete(&path).await.status, 204);
    let audit = sequenced(&world).await;
    let chain: Uuid = domain.parse().unwrap();
    let verdict = audit.verifier().verify(chain, Range::default()).await.unwrap();
    assert_eq!(verdict.divergence, None);
    let first_and_last: Vec<String> =
        sqlx::query_scalar("SELECT relation FROM audit.entries WHERE chain = $1 AND seq IN (1, $2) ORDER BY seq")
            .bind(chain)
            .bind(verdict.to)
            .fetch_all(&world.database.pool())
            .await
            .unwrap();
    assert_eq!(first_and_last, ["domain.create", "domain.delete"]);
}
