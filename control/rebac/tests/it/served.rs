//! The operations behind their gates, with the engine itself as the gates' authoriser, for tests to call.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::http::{Gates, Operation, serve};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_kernel::{
    Assurance, AuditLog, AuditRecord, Authenticated, Authenticator, Credential, Fault, Outcome, Tx,
};
use plexsphere_rebac::{Rebac, RebacConfig, RebacParts};
use plexsphere_testkit::{Answers, logs};
use plexsphere_wire::{DenialReason, DomainId, Problem, Timestamp, TokenId};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::world::{TREE, World, object, user, world};

/// Callers by the number of a user: `u9` came by an access token that proves nothing, `t9` by an API token, `g9` by a
/// sign-in of the class `gold`.
struct Callers;

#[async_trait]
impl Authenticator for Callers {
    async fn operator(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let (how, number) = bearer.split_at(1);
        let gold = Assurance { acr: Some("gold".to_owned()), ..Assurance::default() };
        let credential = match how {
            "u" => Credential::AccessToken(Assurance::default()),
            "t" => {
                Credential::ApiToken { id: TokenId::from_uuid(Uuid::from_u128(1)), expires_at: Timestamp::UNIX_EPOCH }
            }
            "g" => Credential::AccessToken(gold),
            other => panic!("no caller begins with {other}"),
        };
        Ok(Authenticated::Operator { principal: user(number.parse().unwrap()), credential })
    }

    async fn session(&self, _: &str) -> Result<Authenticated, Problem> {
        unreachable!("these tests come by bearer")
    }

    async fn node(&self, _: &str) -> Result<Authenticated, Problem> {
        unreachable!("nodes do not call these operations")
    }
}

/// Rows as they were recorded, those of transactions that roll back among them.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Vec<(AuditRecord, CaveatNames)>>);

#[async_trait]
impl AuditLog for Ledger {
    async fn record(&self, _: &mut Tx, record: AuditRecord) -> Result<(), Fault> {
        self.record_alone(record).await
    }

    async fn record_decision(&self, record: AuditRecord, caveats: CaveatNames) -> Result<(), Fault> {
        self.0.lock().push((record, caveats));
        Ok(())
    }
}

pub(crate) struct Served {
    pub(crate) world: World,
    pub(crate) rebac: Rebac,
    router: Router,
    ledger: Arc<Ledger>,
    pub(crate) logs: logs::Guard,
}

/// User 9 administers Domain 1, user 8 Project 2, user 7 is a member of the Domain, user 6 a stranger in it; Domain 50 and
/// Project 51 are others.
pub(crate) async fn served() -> Served {
    served_on(logs::guard(), world().await, RebacConfig::default()).await
}

pub(crate) async fn served_on(logs: logs::Guard, world: World, config: RebacConfig) -> Served {
    world.grant(&TREE).await;
    let people = ["user:9", "user:8", "user:7", "user:6", "group:11"];
    let parents: Vec<String> = people.iter().map(|who| format!("{who}#parent@domain:1")).collect();
    world.grant(&parents.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.grant_in(50, &["domain:50#parent@platform:plexsphere", "project:51#parent@domain:50"]).await;
    world.grant_in(50, &["user:99#parent@domain:50"]).await;
    world.grant(&["project:5#parent@domain:1"]).await;
    world.grant(&["domain:1#admin@user:9", "project:2#admin@user:8", "domain:1#member@user:7"]).await;
    let ledger = Arc::new(Ledger::default());
    let parts = RebacParts {
        db: world.database.clone(),
        clock: world.clock.clone(),
        audit: ledger.clone(),
        cursors: CursorCodec::new([7; 32], None),
    };
    let rebac = Rebac::open(config, parts).await.unwrap();
    let gates = Arc::new(Gates {
        authenticator: Arc::new(Callers),
        authorizer: rebac.authorizer(),
        audit: ledger.clone(),
        clock: world.clock.clone(),
        throttle: Throttle::default(),
        origins: AllowedOrigins::default(),
    });
    let router = watched(rebac.operations(), &gates);
    Served { router, rebac, world, ledger, logs }
}

impl Served {
    pub(crate) async fn call(&self, who: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {who}"))
            .header("x-correlation-id", "here")
            .header("x-forwarded-for", "192.0.2.1")
            .header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
    }

    pub(crate) async fn ask(&self, who: &str, subject: &str, relation: &str, resource: &str) -> String {
        let body = json!({"subject": spelled(subject), "relation": relation, "resource": spelled(resource)});
        let (status, answer) = self.call(who, Method::POST, "/v1/authz/check", Some(body)).await;
        assert_eq!(status, 200, "{answer}");
        let word = |member: &str| answer[member].as_str().unwrap_or("").to_owned();
        assert_eq!(word("correlation_id"), "here");
        if word("decision") == "allowed" { "allowed".into() } else { word("reason") }
    }

    pub(crate) async fn create(&self, who: &str, project: u128, body: Value) -> (StatusCode, Value) {
        let path = format!("/v1/authz/relation-tuples?project_id={}", Uuid::from_u128(project));
        self.call(who, Method::POST, &path, Some(body)).await
    }

    pub(crate) async fn list(&self, who: &str, rest: &str) -> (StatusCode, Value) {
        let path = format!("/v1/authz/relation-tuples?project_id={}{rest}", Uuid::from_u128(2));
        self.call(who, Method::GET, &path, None).await
    }

    pub(crate) async fn events(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT event_name FROM kernel.outbox ORDER BY seq")
            .fetch_all(&self.world.db.pool())
            .await
            .unwrap()
    }

    /// Whether the last row says this: relation, object, and why not.
    pub(crate) fn assert_row(&self, relation: &str, on: &str, denied: Option<DenialReason>) {
        let (row, _) = self.last_row();
        let outcome = denied.map_or(Outcome::Granted, Outcome::Denied);
        assert_eq!((row.relation.as_str(), row.object, row.outcome), (relation, object(on), outcome));
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.ledger.0.lock().len()
    }

    /// The chains of all rows with a relation.
    pub(crate) fn chains(&self, relation: &str) -> Vec<Option<DomainId>> {
        let rows = self.ledger.0.lock();
        rows.iter().filter(|(row, _)| row.relation == relation).map(|(row, _)| row.domain).collect()
    }

    /// Changes a tuple by its id.
    pub(crate) async fn change(&self, who: &str, id: &Value, to: Option<Value>) -> (StatusCode, Value) {
        let path = format!("/v1/authz/relation-tuples/{}", id.as_str().unwrap());
        let method = if to.is_some() { Method::PATCH } else { Method::DELETE };
        self.call(who, method, &path, to).await
    }

    pub(crate) fn last_row(&self) -> (AuditRecord, CaveatNames) {
        self.ledger.0.lock().last().unwrap().clone()
    }
}

/// A reference with a small number for its id.
pub(crate) fn spelled(text: &str) -> String {
    let (left, name) = text.split_once('#').map_or((text, String::new()), |(left, name)| (left, format!("#{name}")));
    match left.split_once(':') {
        Some((kind, id)) if id.parse::<u128>().is_ok() => {
            format!("{kind}:{}{name}", Uuid::from_u128(id.parse().unwrap()))
        }
        _ => text.to_owned(),
    }
}

/// The same grant under a condition.
pub(crate) fn under(mut body: Value, name: &str, context: Value) -> Value {
    body["caveat_name"] = json!(name);
    body["caveat_context"] = context;
    body
}

pub(crate) fn grant(subject: &str, relation: &str, resource: &str) -> Value {
    json!({"subject": spelled(subject), "relation": relation, "resource": spelled(resource)})
}

pub(crate) fn code(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["code"].as_str().unwrap_or(""))
}

/// The operations as they are served, each answer compared with the document they make.
fn watched(operations: Vec<Operation>, gates: &Arc<Gates>) -> Router {
    let document = plexsphere_api::document(&operations.iter().collect::<Vec<_>>(), "test");
    Answers::of(document).guard(serve(operations, gates))
}
