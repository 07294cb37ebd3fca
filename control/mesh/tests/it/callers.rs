//! Who calls the operations, and what they are told.

use std::sync::Arc;

use async_trait::async_trait;
use axum::body::Body;
use http::request::Builder;
use plexsphere_kernel::authz::AuthzUnavailable;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::http::{Gates, Operation, serve};
use plexsphere_kernel::principal::NodePlace;
use plexsphere_kernel::{
    Assurance, Authenticated, Authenticator, Authorizer, Clock as _, Credential, Decision, ObjectRef, Principal,
    PrincipalScope, Subject,
};
use plexsphere_testkit::Answers;
use plexsphere_wire::{Code, DenialReason, NodeId, PrincipalId, Problem, ResourceId};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::world::World;

/// Callers by the text of their bearer: a Node by its id behind `nsk_`, anything else an operator without relations,
/// `admin` one with all.
struct Callers(NodePlace);

#[async_trait]
impl Authenticator for Callers {
    async fn operator(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let id = if bearer == "admin" { 1 } else { 2 };
        let subject = Subject::User(PrincipalId::from_uuid(uuid::Uuid::from_u128(id)));
        Ok(Authenticated::Operator {
            principal: Principal { subject, scope: PrincipalScope::Platform },
            credential: Credential::AccessToken(Assurance::default()),
        })
    }

    async fn session(&self, _: &str) -> Result<Authenticated, Problem> {
        Err(Problem::new(Code::Unauthenticated, "no"))
    }

    async fn node(&self, bearer: &str) -> Result<Authenticated, Problem> {
        let refuse = || Problem::new(Code::Unauthorized, "no");
        let node = bearer.strip_prefix("nsk_").ok_or_else(refuse)?.parse().unwrap();
        Ok(Authenticated::Node(NodePlace { node, ..self.0.clone() }))
    }
}

#[async_trait]
impl Authorizer for Callers {
    async fn check(&self, who: &Principal, relation: &str, _: &ObjectRef) -> Result<Decision, AuthzUnavailable> {
        assert!(["node-agent", "node-operate", "domain-view"].contains(&relation), "{relation}");
        Ok(if who.subject.uuid().as_u128() == 1 {
            Decision::Allowed { relation_path: Vec::new() }
        } else {
            Decision::Denied { reason: DenialReason::InsufficientRelation, relation_path: Vec::new() }
        })
    }
}

/// An answer, as it came.
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) coding: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Told {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Status and problem code.
    pub(crate) fn refusal(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or("").to_owned())
    }
}

/// Reads what `path` says to whoever takes gzip.
pub(crate) async fn get(world: &World, path: &str, bearer: &str) -> Told {
    ask(world, http::Request::get(path).header("accept-encoding", "gzip"), (bearer, Body::empty())).await
}

pub(crate) fn gates(world: &World) -> Arc<Gates> {
    let now = world.clock.now();
    let place = NodePlace {
        node: NodeId::mint(now),
        domain: world.domain,
        project: world.project,
        resource: ResourceId::mint(now),
    };
    let callers = Arc::new(Callers(place));
    Arc::new(Gates {
        authenticator: callers.clone(),
        authorizer: callers,
        audit: world.audit.clone(),
        clock: world.clock.clone(),
        throttle: Throttle::new(1, 1_000),
        origins: AllowedOrigins::default(),
    })
}

/// Sends a request to the operations as they are served.
pub(crate) async fn ask(world: &World, request: Builder, (bearer, body): (&str, Body)) -> Told {
    let request = request.header("authorization", format!("Bearer {bearer}")).body(body).unwrap();
    let response = watched(world.mesh.operations(), &gates(world)).oneshot(request).await.unwrap();
    let coding = response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes().to_vec();
    Told { status, coding, body }
}

/// The operations as they are served, each answer compared with the document they make.
pub(crate) fn watched(operations: Vec<Operation>, gates: &Arc<Gates>) -> axum::Router {
    let document = plexsphere_api::document(&operations.iter().collect::<Vec<_>>(), "test");
    Answers::of(document).guard(serve(operations, gates))
}
