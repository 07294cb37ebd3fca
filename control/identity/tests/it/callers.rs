//! Callers with tokens of their own, and an authoriser that knows what a test grants them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use plexsphere_identity::{ApiTokenText, TokenPepper};
use plexsphere_kernel::authz::AuthzUnavailable;
use plexsphere_kernel::http::Gates;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::{Authorizer, Clock, Decision, ObjectRef, Principal};
use plexsphere_wire::{DenialReason, PrincipalId, TokenId};
use uuid::Uuid;

use crate::administrators::Administrators;
use crate::world::{World, watched};

/// Whoever it knows may do what was granted; everybody else is judged by the context's own authoriser.
pub(crate) struct Grants {
    base: Arc<dyn Authorizer>,
    known: Mutex<HashSet<Uuid>>,
    rows: Mutex<HashSet<(Uuid, String, String)>>,
}

impl Grants {
    /// Seats a fresh one in the gates of a world.
    pub(crate) fn seat(world: &mut World) -> Arc<Self> {
        let grants = Arc::new(Self {
            base: Arc::new(Administrators(world.db.clone())),
            known: Mutex::default(),
            rows: Mutex::default(),
        });
        let gates = Arc::new(Gates {
            authenticator: world.identity.authenticator(),
            authorizer: Arc::clone(&grants) as Arc<dyn Authorizer>,
            audit: world.identity.denials(),
            clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
            throttle: Throttle::default(),
            origins: AllowedOrigins::default(),
        });
        world.router = watched(world.identity.operations(), &gates);
        grants
    }

    pub(crate) fn give(&self, caller: &Caller, relation: &str, object: impl Into<String>) {
        self.rows.lock().unwrap().insert((caller.id, relation.to_owned(), object.into()));
    }

    fn admit(&self, caller: &Caller) {
        self.known.lock().unwrap().insert(caller.id);
    }
}

#[async_trait]
impl Authorizer for Grants {
    async fn check(
        &self,
        principal: &Principal,
        relation: &str,
        object: &ObjectRef,
    ) -> Result<Decision, AuthzUnavailable> {
        let who = principal.subject.uuid();
        if !self.known.lock().unwrap().contains(&who) {
            return self.base.check(principal, relation, object).await;
        }
        let rows = self.rows.lock().unwrap();
        let object = object.to_string();
        if rows.contains(&(who, relation.to_owned(), object.clone())) {
            return Ok(Decision::Allowed { relation_path: vec![format!("{object}#{relation}")] });
        }
        let reaches = rows.iter().any(|(subject, _, on)| *subject == who && *on == object);
        let reason = if reaches { DenialReason::InsufficientRelation } else { DenialReason::OutOfScope };
        Ok(Decision::Denied { reason, relation_path: Vec::new() })
    }
}

/// Somebody with a token.
pub(crate) struct Caller {
    pub(crate) id: Uuid,
    pub(crate) token: String,
}

/// A User of a Domain, or of the platform, who may do what `grants` says.
pub(crate) async fn caller(world: &World, grants: &Grants, domain: Option<&str>) -> Caller {
    let id = user(world, domain).await;
    let text = ApiTokenText::mint(TokenId::mint(world.clock.now())).unwrap();
    sqlx::query(
        "INSERT INTO identity.api_tokens (id, user_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
         VALUES ($1, $2, 'dev', $3, 60, now(), '2100-01-01')",
    )
    .bind(text.id.uuid())
    .bind(id)
    .bind(TokenPepper::new([9; 32]).digest(text.secret()).as_slice())
    .execute(&world.database.pool())
    .await
    .unwrap();
    let caller = Caller { id, token: text.render("dev").to_string() };
    grants.admit(&caller);
    caller
}

/// A User of a Domain, or of the platform.
pub(crate) async fn user(world: &World, domain: Option<&str>) -> Uuid {
    let id = PrincipalId::mint(world.clock.now()).uuid();
    sqlx::query(
        "INSERT INTO identity.users (id, domain_id, issuer, external_subject, display_name, created_at)
         VALUES ($1, $2, 'https://idp.example', $1::text, 'user', now())",
    )
    .bind(id)
    .bind(domain.map(|domain| domain.parse::<Uuid>().unwrap()))
    .execute(&world.database.pool())
    .await
    .unwrap();
    id
}

/// A ServiceIdentity of a Domain.
pub(crate) async fn service(world: &World, domain: &str) -> Uuid {
    let id = PrincipalId::mint(world.clock.now()).uuid();
    sqlx::query(
        "INSERT INTO identity.service_identities
             (id, domain_id, display_name, subject, audience, federation_kind, created_at)
         VALUES ($1, $2, 'robot', $1::text, 'plexsphere', 'api_token', now())",
    )
    .bind(id)
    .bind(domain.parse::<Uuid>().unwrap())
    .execute(&world.database.pool())
    .await
    .unwrap();
    id
}

/// Waits until as many sessions of the test's database wait for a lock.
pub(crate) async fn waiting_for_locks(world: &World, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    plexsphere_testkit::eventually!(world.count(waiting).await >= sessions, "{sessions} sessions wait for a lock");
}
