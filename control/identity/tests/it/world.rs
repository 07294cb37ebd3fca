//! One installation per test, spoken to over its own router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use plexsphere_audit::{AuditKey, PgAuditLog};
use plexsphere_identity::{
    ClientSecrets, Deps, DirectoryFlush, Identity, IdentityConfig, NodeReader, Secret, SecretFault, TokenPepper,
};
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::http::{Gates, Operation, serve};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::{AuditLog, Changes, Clock, Database, KekRing, Probes};
use plexsphere_mesh::{Blocks, Mesh, MeshConfig, MeshParts};
use plexsphere_oidc::{Fetch, FetchSettings, Providers, Reach, SpiffeBundles};
use plexsphere_signing::{Custody, Signing, SigningConfig, SigningMetrics, SigningParts};
use plexsphere_testkit::{Answers, TestDatabase, TestOpenId};
use plexsphere_wire::Timestamp;
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::administrators::Administrators;
use crate::tuples::{RecordedTuples, SomeGrants};

pub(crate) static MIGRATOR: &Migrator = &plexsphere_kernel::MIGRATOR;

/// A clock that a test moves.
pub(crate) struct Hand(std::sync::Mutex<Timestamp>);

impl Hand {
    pub(crate) fn set(&self, to: Timestamp) {
        *self.0.lock().unwrap() = to;
    }

    pub(crate) fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.plus(by);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// Every reference names the secret of the tests' identity provider, but one that names nothing.
struct ProvidersSecret;

#[async_trait::async_trait]
impl ClientSecrets for ProvidersSecret {
    async fn resolve(&self, reference: &str) -> Result<Secret, SecretFault> {
        if reference == "env:NOTHING" { Err(SecretFault::Missing) } else { Ok(Secret::new(TestOpenId::CLIENT_SECRET)) }
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// Status and code of a Problem.
    pub(crate) fn refusal(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or(""))
    }

    pub(crate) fn text(&self, member: &str) -> String {
        self.body[member].as_str().unwrap_or_else(|| panic!("no {member} in {} {}", self.status, self.body)).to_owned()
    }
}

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) db: Database,
    pub(crate) clock: Arc<Hand>,
    /// What the world is made of, for another one over the same database.
    pub(crate) deps: Deps,
    pub(crate) identity: Arc<Identity>,
    pub(crate) router: Router,
    pub(crate) admin: String,
}

pub(crate) const DEPLOYMENT: Uuid = Uuid::from_u128(77);

pub(crate) async fn world() -> World {
    world_with(|_| {}).await
}

pub(crate) async fn world_with(change: impl FnOnce(&mut IdentityConfig)) -> World {
    let database = TestDatabase::with(MIGRATOR).await;
    let db = Database::new(database.pool());
    build(database, db, None, change).await
}

/// A world whose registrations wait for this.
pub(crate) async fn world_flushed_by(flush: Arc<dyn DirectoryFlush>) -> World {
    let database = TestDatabase::with(MIGRATOR).await;
    let db = Database::new(database.pool());
    build(database, db, Some(flush), |_| {}).await
}

/// How a world's pool is bounded.
pub(crate) struct Bounds {
    pub(crate) connections: u32,
    pub(crate) lock_timeout_ms: u32,
    /// How long a connection is waited for.
    pub(crate) acquire: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 8, lock_timeout_ms: 5_000, acquire: Duration::from_secs(5) }
    }
}

/// A world on a database of the test's choice, with bounds as an installation has them.
pub(crate) async fn world_on(database: TestDatabase, bounds: Bounds) -> World {
    let options: PgConnectOptions = database.url().parse().unwrap();
    let options = options.options([("lock_timeout", bounds.lock_timeout_ms.to_string())]);
    let pool = PgPoolOptions::new().max_connections(bounds.connections).acquire_timeout(bounds.acquire);
    let db = Database::new(pool.connect_with(options).await.unwrap());
    build(database, db, None, |_| {}).await
}

async fn build(
    database: TestDatabase,
    db: Database,
    flush: Option<Arc<dyn DirectoryFlush>>,
    change: impl FnOnce(&mut IdentityConfig),
) -> World {
    let clock = Arc::new(Hand(std::sync::Mutex::new(Timestamp::from_unix_seconds(1_790_000_000))));
    let kek = Arc::new(KekRing::parse(&KekRing::generate()).unwrap());
    let key = AuditKey::parse(&"5a".repeat(32)).unwrap();
    let audit: Arc<dyn AuditLog> = Arc::new(PgAuditLog::new(db.clone(), key, Arc::clone(&clock) as Arc<dyn Clock>));
    let mesh = Mesh::new(
        MeshConfig::new(DEPLOYMENT),
        MeshParts {
            db: db.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            keks: Arc::clone(&kek),
            changes: Changes::new(),
            audit: Arc::clone(&audit),
            blocks: Blocks::default(),
            handshakes: None,
        },
    );
    let signing = signing(&db, &audit, &clock).await;
    let reach = FetchSettings { plain_http: true, reach: Reach::Loopback, ..FetchSettings::default() };
    let fetch = Fetch::new(reach).unwrap();
    let mut config = IdentityConfig { register_burst: 10_000, ..IdentityConfig::new(DEPLOYMENT) };
    change(&mut config);
    let deps = Deps {
        db: db.clone(),
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        changes: Changes::new(),
        audit: Arc::clone(&audit),
        tuples: Arc::new(RecordedTuples::over(&database.pool()).await),
        grants: Arc::new(SomeGrants),
        mesh: mesh.membership(),
        signing,
        kek: Arc::clone(&kek),
        pepper: TokenPepper::new([9; 32]),
        cursors: CursorCodec::new([3; 32], None),
        providers: Arc::new(Providers::new(fetch.clone())),
        bundles: Some(Arc::new(SpiffeBundles::new(fetch))),
        client_secrets: Arc::new(ProvidersSecret),
        flush,
    };
    let identity = Arc::new(Identity::new(&config, deps.clone()));
    let gates = gates(&identity, &db, &clock);
    let mut operations = identity.operations();
    operations.extend(mesh.operations());
    let router = watched(operations, &gates);
    let day = Duration::from_secs(30 * 86_400);
    let admin = identity.first_administrator().ensure("dev", day, clock.now()).await.unwrap().unwrap();
    World { database, db, clock, deps, identity, router, admin: admin.as_str().to_owned() }
}

/// The gates before an identity context, with an authoriser that admits administrators alone.
pub(crate) fn gates(identity: &Identity, db: &Database, clock: &Arc<Hand>) -> Arc<Gates> {
    Arc::new(Gates {
        authenticator: identity.authenticator(),
        authorizer: Arc::new(Administrators(db.clone())),
        audit: identity.denials(),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        throttle: Throttle::default(),
        origins: AllowedOrigins::parse(["https://plexsphere.test"]).unwrap(),
    })
}

/// The operations as they are served, each answer compared with the document they make.
pub(crate) fn watched(operations: Vec<Operation>, gates: &Arc<Gates>) -> Router {
    let document = plexsphere_api::document(&operations.iter().collect::<Vec<_>>(), "test");
    Answers::of(document).guard(serve(operations, gates))
}

async fn signing(db: &Database, audit: &Arc<dyn AuditLog>, clock: &Arc<Hand>) -> Arc<Signing> {
    let config = SigningConfig {
        deployment: DEPLOYMENT,
        issuer_host: "cp.example.org".to_owned(),
        transition: Duration::from_secs(86_400),
        max_age: Duration::ZERO,
        custody: Custody::Wrapped,
        keep_retired: true,
    };
    let parts = SigningParts {
        db: db.clone(),
        ring: Arc::new(KekRing::parse(&KekRing::generate()).unwrap()),
        transit: None,
        pins: Arc::new(NodeReader::new(db.clone())),
        audit: Arc::clone(audit),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        probes: Probes::default(),
        metrics: SigningMetrics::default(),
    };
    Signing::open(config, parts).await.unwrap()
}

impl World {
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn call_as(&self, bearer: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("x-forwarded-for", "192.0.2.7");
        if !bearer.is_empty() {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let body = match body {
            Some(value) => {
                request = request.header("content-type", "application/json");
                Body::from(value.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call_as(&self.admin, "GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call_as(&self.admin, "POST", path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call_as(&self.admin, "DELETE", path, None).await
    }

    pub(crate) async fn domain(&self, slug: &str, pool: &str) -> String {
        let answer = self.post("/v1/domains", json!({ "name": slug, "slug": slug, "mesh_cidr": pool })).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.text("id")
    }

    pub(crate) async fn project(&self, domain: &str, slug: &str, sub_range: Option<&str>) -> String {
        let mut body = json!({ "domain_id": domain, "name": slug, "slug": slug });
        if let Some(range) = sub_range {
            body["sub_range_cidr"] = json!(range);
        }
        let answer = self.post("/v1/projects", body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.text("id")
    }

    pub(crate) async fn resource(&self, project: &str, kind: &str, handle: &str) -> String {
        let body = json!({ "origin": "adopted", "kind": kind, "external_ref": handle });
        let answer = self.post(&format!("/v1/projects/{project}/resources"), body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.text("id")
    }

    /// A token's id and text.
    pub(crate) async fn token(&self, project: &str, kind: &str) -> (String, String) {
        let body = json!({ "kind": kind, "env_prefix": "dev", "ttl_seconds": 300 });
        let answer = self.post(&format!("/v1/projects/{project}/bootstrap-tokens"), body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        (answer.text("token_id"), answer.text("token"))
    }

    /// Enrols the Node of a Resource of its own, `host-<byte>`, in the Project of the world's one Domain.
    pub(crate) async fn enrol(&self, kind: &str, byte: u8) -> Answer {
        let project = self.only_project().await;
        self.resource(&project, kind, &format!("host-{byte}")).await;
        self.enrol_again(byte, byte).await
    }

    /// Enrols a Node with the key `byte` on the Resource `host-<host>`.
    pub(crate) async fn enrol_again(&self, host: u8, byte: u8) -> Answer {
        let project = self.only_project().await;
        let (_, token) = self.token(&project, "node").await;
        let answer = self.register(demand(&project, &format!("host-{host}"), &token, byte)).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer
    }

    pub(crate) async fn resource_of(&self, host: u8) -> Uuid {
        let id = sqlx::query_scalar("SELECT id FROM identity.resources WHERE external_ref = $1");
        id.bind(format!("host-{host}")).fetch_one(&self.database.pool()).await.unwrap()
    }

    async fn only_project(&self) -> String {
        let known: Option<Uuid> =
            sqlx::query_scalar("SELECT id FROM identity.projects").fetch_optional(&self.database.pool()).await.unwrap();
        match known {
            Some(id) => id.to_string(),
            None => {
                let domain = self.domain("acme", "100.64.0.0/10").await;
                self.project(&domain, "one", None).await
            }
        }
    }

    pub(crate) async fn register(&self, body: Value) -> Answer {
        self.call_as("", "POST", "/v1/register", Some(body)).await
    }

    /// Object type, object id and chain of every pending audit row with this relation, in no order.
    pub(crate) async fn rows(&self, relation: &str) -> Vec<(String, String, Uuid)> {
        sqlx::query_as("SELECT object_type, object_id, chain FROM audit.pending WHERE relation = $1")
            .bind(relation)
            .fetch_all(&self.database.pool())
            .await
            .unwrap()
    }

    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database.pool()).await.unwrap()
    }
}

/// A request whose key and nonce are made of one byte.
pub(crate) fn demand(project: &str, handle: &str, token: &str, byte: u8) -> Value {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode([byte; 32]);
    json!({
        "project_id": project,
        "resource_handle": handle,
        "bootstrap_token": token,
        "nonce": format!("nonce-{byte}"),
        "public_key": key,
    })
}
