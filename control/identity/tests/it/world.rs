//! One installation per test, spoken to over its own router.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use plexsphere_audit::{AuditKey, PgAuditLog};
use plexsphere_identity::{Deps, Identity, IdentityConfig, TokenPepper};
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::{Gates, serve};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::{AuditLog, Clock, Database, KekRing, Probes};
use plexsphere_mesh::{Blocks, Mesh, MeshConfig, MeshParts};
use plexsphere_signing::{Signing, SigningConfig, SigningParts};
use plexsphere_testkit::TestDatabase;
use plexsphere_wire::Timestamp;
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use tower::ServiceExt as _;
use uuid::Uuid;

pub(crate) static MIGRATOR: &Migrator = &plexsphere_kernel::MIGRATOR;

/// A clock that a test moves.
pub(crate) struct Hand(std::sync::Mutex<Timestamp>);

impl Hand {
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
            blocks: Blocks::default(),
        },
    );
    let signing = signing(&db, &audit, &clock).await;
    let mut config = IdentityConfig { register_burst: 10_000, ..IdentityConfig::new(DEPLOYMENT) };
    change(&mut config);
    let identity = Arc::new(Identity::new(
        &config,
        Deps {
            db: db.clone(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            audit: Arc::clone(&audit),
            mesh: mesh.membership(),
            signing,
            kek: Arc::clone(&kek),
            pepper: TokenPepper::new([9; 32]),
            cursors: CursorCodec::new([3; 32], None),
            flush: None,
        },
    ));
    let gates = Arc::new(Gates {
        authenticator: identity.authenticator(),
        authorizer: identity.authorizer(),
        audit,
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        throttle: Throttle::default(),
    });
    let router = serve(identity.operations(), &gates);
    let day = Duration::from_secs(30 * 86_400);
    let admin = identity.first_administrator().ensure("dev", day, clock.now()).await.unwrap().unwrap();
    World { database, db, clock, identity, router, admin: admin.as_str().to_owned() }
}

async fn signing(db: &Database, audit: &Arc<dyn AuditLog>, clock: &Arc<Hand>) -> Arc<Signing> {
    let config = SigningConfig {
        deployment: DEPLOYMENT,
        issuer_host: "cp.example.org".to_owned(),
        transition: Duration::from_secs(86_400),
    };
    let parts = SigningParts {
        db: db.clone(),
        ring: KekRing::parse(&KekRing::generate()).unwrap(),
        audit: Arc::clone(audit),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        probes: Probes::default(),
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

    pub(crate) async fn register(&self, body: Value) -> Answer {
        self.call_as("", "POST", "/v1/register", Some(body)).await
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
