//! What the tests of tenancy share: callers with chosen relations, and rows that nothing can make yet.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use plexsphere_kernel::authz::AuthzUnavailable;
use plexsphere_kernel::http::Gates;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::{Authorizer, Clock, Decision, ObjectRef, Principal};
use plexsphere_wire::{DenialReason, GroupId, PrincipalId};
use serde_json::Value;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::world::{Answer, World, watched};

/// A well-formed id that names nothing.
pub(crate) const NOBODY: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";

/// Callers hold exactly these relations, each as `object#relation`, whoever they are.
pub(crate) struct Held(Mutex<HashSet<String>>);

impl Held {
    pub(crate) fn these<const N: usize>(relations: [String; N]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(relations.into_iter().collect())))
    }

    /// From now on nothing can be said about objects of this kind.
    pub(crate) fn lose(&self, kind: &str) {
        self.add(format!("{kind} lost"));
    }

    pub(crate) fn add(&self, relation: String) {
        self.0.lock().unwrap().insert(relation);
    }
}

#[async_trait]
impl Authorizer for Held {
    async fn check(&self, _: &Principal, relation: &str, object: &ObjectRef) -> Result<Decision, AuthzUnavailable> {
        let rows = self.0.lock().unwrap();
        if rows.contains(&format!("{} lost", object.kind)) {
            return Err(AuthzUnavailable);
        }
        let held = rows.contains(&format!("{object}#{relation}"));
        Ok(if held {
            Decision::Allowed { relation_path: Vec::new() }
        } else {
            Decision::Denied { reason: DenialReason::InsufficientRelation, relation_path: Vec::new() }
        })
    }
}

/// The world as a caller with chosen relations sees it.
pub(crate) struct Seen<'w> {
    world: &'w World,
    router: Router,
}

impl<'w> Seen<'w> {
    pub(crate) fn by(world: &'w World, held: &Arc<Held>) -> Self {
        let gates = Arc::new(Gates {
            authenticator: world.identity.authenticator(),
            authorizer: Arc::clone(held) as Arc<dyn Authorizer>,
            audit: world.identity.denials(),
            clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
            throttle: Throttle::default(),
            origins: AllowedOrigins::default(),
        });
        Self { world, router: watched(world.identity.operations(), &gates) }
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {}", self.world.admin))
            .header("content-type", "application/json");
        let body = body.map_or_else(Body::empty, |value| Body::from(value.to_string()));
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, body }
    }
}

pub(crate) async fn patch(world: &World, path: &str, body: Value) -> Answer {
    world.call_as(&world.admin, "PATCH", path, Some(body)).await
}

/// A body as it stands, for what no JSON value can say.
pub(crate) async fn raw(world: &World, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", world.admin))
        .header("content-type", "application/json");
    world.send(request.body(Body::from(body.to_owned())).unwrap()).await
}

/// A person of a Domain, as a sign-in will make one.
pub(crate) async fn person(world: &World, domain: &str, subject: &str, seconds: i64) -> Uuid {
    let id = PrincipalId::mint(world.clock.now()).uuid();
    sqlx::query(
        "INSERT INTO identity.users (id, domain_id, issuer, external_subject, email, email_verified, display_name,
             created_at, updated_at, last_sign_in_at)
         VALUES ($1, $2::uuid, 'https://idp', $3, $3 || '@example.com', true, 'Person ' || $3,
             to_timestamp(1790000000 + $4), to_timestamp(1790000000 + $4), to_timestamp(1790000000 + $4))",
    )
    .bind(id)
    .bind(domain.parse::<Uuid>().unwrap())
    .bind(subject)
    .bind(seconds)
    .execute(&world.database.pool())
    .await
    .unwrap();
    id
}

/// A Group of a Domain that is filled by hand.
pub(crate) async fn group(world: &World, domain: &str, slug: &str) -> Uuid {
    let id = GroupId::mint(world.clock.now()).uuid();
    sqlx::query(
        "INSERT INTO identity.groups (id, domain_id, slug, display_name, source, created_at, updated_at)
         VALUES ($1, $2, $3, $3, 'manual', now(), now())",
    )
    .bind(id)
    .bind(domain.parse::<Uuid>().unwrap())
    .bind(slug)
    .execute(&world.database.pool())
    .await
    .unwrap();
    id
}

/// Names of the events in the outbox, each with its payload, in order.
pub(crate) async fn events(world: &World, name: &str) -> Vec<Value> {
    sqlx::query_scalar("SELECT payload FROM kernel.outbox WHERE event_name = $1 ORDER BY seq")
        .bind(name)
        .fetch_all(&world.database.pool())
        .await
        .unwrap()
}

/// Rows enough that a plan which reads them all is the dearer one.
pub(crate) const MANY: [&str; 2] = [
    "INSERT INTO identity.invitations (id, domain_id, sealed_subject, wrap_key_version, pseudonym, match_key,
         initial_tuples, status, created_at, expires_at, revoked_at)
     SELECT gen_random_uuid(), d.id, CASE i % 2 WHEN 0 THEN 'x'::bytea END, CASE i % 2 WHEN 0 THEN 1 END, sha256('x'),
         sha256(i::text::bytea), '[]',
         CASE i % 2 WHEN 0 THEN 'pending' ELSE 'revoked' END, now() + i * interval '1 second',
         now() + (i + 60) * interval '1 second', CASE i % 2 WHEN 0 THEN NULL ELSE now() END
     FROM (SELECT id FROM identity.domains LIMIT 50) AS d, generate_series(1, 200) AS i",
    "ANALYZE identity.invitations",
];
