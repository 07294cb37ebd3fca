//! One installation of the audit context per test.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use plexsphere_audit::{Audit, AuditKey, AuditParts, CursorKey, PgAuditLog, Verdict};
use plexsphere_kernel::audit::RequestContext;
use plexsphere_kernel::authz::AuthzUnavailable;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::http::{Gates, Operation, serve};
use plexsphere_kernel::principal::{Assurance, Credential};
use plexsphere_kernel::seams::DomainEntries;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_kernel::{
    AuditLog, AuditRecord, Authenticated, Authenticator, Authorizer, Clock, Database, Decision, Fault, ObjectRef,
    Outcome, Principal, PrincipalScope, Subject,
};
use plexsphere_testkit::{Answers, TestDatabase};
use plexsphere_wire::directory::DomainEntry;
use plexsphere_wire::{Code, CorrelationId, DenialReason, DomainId, PrincipalId, Problem, Timestamp};
use prometheus_client::registry::Registry;
use serde_json::Value;
use sqlx::AssertSqlSafe;
use sqlx::migrate::Migrator;
use tower::ServiceExt as _;
use uuid::Uuid;

/// The kernel's and the audit context's own schemas.
pub static SCHEMA: LazyLock<Migrator> = LazyLock::new(|| {
    let own = plexsphere_kernel::MIGRATOR.iter().filter(|migration| matches!(migration.version, 1 | 3 | 7)).cloned();
    Migrator { migrations: Cow::Owned(own.collect()), ..Migrator::DEFAULT }
});

/// A clock that a test moves.
pub struct Hand(Mutex<Timestamp>);

impl Hand {
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(by);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

pub struct Rig {
    pub database: TestDatabase,
    pub db: Database,
    pub log: Arc<PgAuditLog>,
    pub audit: Audit,
    pub clock: Arc<Hand>,
    pub world: Arc<World>,
    pub router: Router,
}

pub fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_790_000_000)
}

pub fn key() -> AuditKey {
    AuditKey::parse(&"ab".repeat(32)).unwrap()
}

pub fn record(domain: Option<DomainId>, subject: Subject) -> AuditRecord {
    AuditRecord {
        domain,
        subject,
        relation: "domain.read".to_owned(),
        object: domain.map_or_else(ObjectRef::platform, ObjectRef::domain),
        outcome: Outcome::Granted,
        correlation_id: CorrelationId::mint(now()),
        context: RequestContext { ip: Some("192.0.2.7".to_owned()), user_agent: Some("agent/1".to_owned()) },
        occurred_at: now(),
    }
}

pub fn somebody() -> Subject {
    Subject::User(PrincipalId::mint(now()))
}

/// Which Domains there are, who calls by which bearer, and what each may.
#[derive(Default)]
pub struct World {
    pub domains: Mutex<HashSet<DomainId>>,
    callers: Mutex<Vec<(String, PrincipalId, Vec<&'static str>)>>,
}

impl World {
    /// A bearer whose owner has these relations on everything.
    pub fn caller(&self, bearer: &str, relations: &[&'static str]) -> PrincipalId {
        let id = PrincipalId::mint(now());
        self.callers.lock().unwrap().push((bearer.to_owned(), id, relations.to_vec()));
        id
    }
}

#[async_trait]
impl DomainEntries for World {
    async fn domain_entry(&self, domain: DomainId) -> Result<Option<DomainEntry>, Fault> {
        let entry = DomainEntry { domain, keys: Vec::new(), announced_kid: "k".to_owned(), announced_seq: 0 };
        Ok(self.domains.lock().unwrap().contains(&domain).then_some(entry))
    }

    async fn domain_entries(&self, _: Option<DomainId>, _: i64) -> Result<Vec<DomainEntry>, Fault> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Authenticator for World {
    async fn operator(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let callers = self.callers.lock().unwrap();
        let known = callers.iter().find(|(name, ..)| name == bearer);
        let (_, id, _) = known.ok_or_else(|| Problem::new(Code::Unauthenticated, "Who?"))?;
        let principal = Principal { subject: Subject::User(*id), scope: PrincipalScope::Platform };
        Ok(Authenticated::Operator { principal, credential: Credential::Session(Assurance::default()) })
    }

    async fn session(&self, id: &str) -> Result<Authenticated, Problem> {
        self.operator(id).await
    }

    async fn node(&self, _: &str) -> Result<Authenticated, Problem> {
        Err(Problem::new(Code::Unauthorized, "Who?"))
    }
}

#[async_trait]
impl Authorizer for World {
    async fn check(&self, caller: &Principal, relation: &str, _: &ObjectRef) -> Result<Decision, AuthzUnavailable> {
        let callers = self.callers.lock().unwrap();
        let may = callers.iter().any(|(_, id, may)| Subject::User(*id) == caller.subject && may.contains(&relation));
        Ok(if may {
            Decision::Allowed { relation_path: Vec::new() }
        } else {
            Decision::Denied { reason: DenialReason::InsufficientRelation, relation_path: Vec::new() }
        })
    }
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: http::HeaderMap,
    pub raw: String,
    pub body: Value,
}

impl Answer {
    pub fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or(""))
    }
}

impl Rig {
    pub async fn new() -> Self {
        Self::over(TestDatabase::with(&SCHEMA).await)
    }

    pub fn over(database: TestDatabase) -> Self {
        let db = Database::new(database.pool());
        let clock = Arc::new(Hand(Mutex::new(now())));
        let log = Arc::new(PgAuditLog::new(db.clone(), key(), Arc::clone(&clock) as Arc<dyn Clock>));
        let world = Arc::new(World::default());
        let parts = AuditParts {
            log: Arc::clone(&log),
            domains: Arc::clone(&world) as Arc<dyn DomainEntries>,
            cursor_key: CursorKey::new([3; 32]),
            mirror: None,
        };
        let audit = Audit::new(parts, &mut Registry::default());
        let gates = Arc::new(Gates {
            authenticator: Arc::clone(&world) as Arc<dyn Authenticator>,
            authorizer: Arc::clone(&world) as Arc<dyn Authorizer>,
            audit: Arc::clone(&log) as Arc<dyn AuditLog>,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            throttle: Throttle::default(),
            origins: AllowedOrigins::default(),
        });
        let router = watched(audit.operations(), &gates);
        Self { database, db, log, audit, clock, world, router }
    }

    /// A Domain whose chain has `rows` entries by `subject`, the first of them its creation.
    pub async fn domain(&self, subject: Subject, rows: usize) -> DomainId {
        let domain = DomainId::mint(now());
        self.world.domains.lock().unwrap().insert(domain);
        let mut records = vec![record(Some(domain), subject); rows];
        if let Some(first) = records.first_mut() {
            first.relation = "domain.create".to_owned();
        }
        let mut tx = self.db.begin().await.unwrap();
        self.log.record_many(&mut tx, records).await.unwrap();
        tx.commit().await.unwrap();
        self.sequence().await;
        domain
    }

    pub async fn sequence(&self) -> u64 {
        self.audit.sequencer().run().await.unwrap().done
    }

    pub async fn verify(&self, chain: Uuid) -> Verdict {
        self.audit.verifier().verify(chain, plexsphere_audit::Range::default()).await.unwrap()
    }

    pub async fn rows(&self) -> i64 {
        self.count("SELECT count(*) FROM audit.pending").await
    }

    pub async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.database.pool()).await.unwrap()
    }

    /// What somebody with the whole database in hands does: triggers and constraints stop nobody.
    pub async fn tamper(&self, sql: &str) {
        let mut tx = self.database.pool().begin().await.unwrap();
        for statement in ["SET LOCAL session_replication_role = replica", sql] {
            sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }

    pub async fn get(&self, bearer: &str, path: &str) -> Answer {
        self.call(bearer, "GET", path, None).await
    }

    pub async fn post(&self, bearer: &str, path: &str, body: Value) -> Answer {
        self.call(bearer, "POST", path, Some(body.to_string())).await
    }

    pub async fn call(&self, bearer: &str, method: &str, path: &str, body: Option<String>) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {bearer}"))
            .header("x-correlation-id", "test-1")
            .header("x-forwarded-for", "198.51.100.4");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(body.map_or_else(Body::empty, Body::from)).unwrap();
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let raw = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let body = serde_json::from_str(&raw).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, raw, body }
    }
}

/// The operations as they are served, each answer compared with the document they make.
fn watched(operations: Vec<Operation>, gates: &Arc<Gates>) -> Router {
    let document = plexsphere_api::document(&operations.iter().collect::<Vec<_>>(), "test");
    Answers::of(document).guard(serve(operations, gates))
}
