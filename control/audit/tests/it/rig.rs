use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use plexsphere_audit::{AuditKey, PgAuditLog};
use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::{AuditRecord, Clock, Database, ObjectRef, Outcome, Subject, SystemClock};
use plexsphere_testkit::TestDatabase;
use plexsphere_wire::{CorrelationId, DomainId, Timestamp};
use sqlx::migrate::Migrator;

/// The kernel's and the audit context's own schemas.
pub static SCHEMA: LazyLock<Migrator> = LazyLock::new(|| {
    let own = plexsphere_kernel::MIGRATOR.iter().filter(|migration| matches!(migration.version, 1 | 3)).cloned();
    Migrator { migrations: Cow::Owned(own.collect()), ..Migrator::DEFAULT }
});

pub struct Rig {
    pub database: TestDatabase,
    pub db: Database,
    pub log: Arc<PgAuditLog>,
}

pub fn now() -> Timestamp {
    SystemClock.now()
}

pub fn key() -> AuditKey {
    AuditKey::parse(&"ab".repeat(32)).unwrap()
}

pub fn record(domain: Option<DomainId>, subject: Subject) -> AuditRecord {
    AuditRecord {
        domain,
        subject,
        relation: "domain.create".to_owned(),
        object: ObjectRef::platform(),
        outcome: Outcome::Granted,
        correlation_id: CorrelationId::mint(now()),
        context: RequestContext { ip: Some("192.0.2.7".to_owned()), user_agent: Some("agent/1".to_owned()) },
        occurred_at: now(),
    }
}

impl Rig {
    pub async fn new() -> Self {
        let database = TestDatabase::with(&SCHEMA).await;
        let db = Database::new(database.pool());
        let log = Arc::new(PgAuditLog::new(db.clone(), key(), Arc::new(SystemClock)));
        Self { database, db, log }
    }

    pub async fn rows(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM audit.pending").fetch_one(&self.database.pool()).await.unwrap()
    }
}
