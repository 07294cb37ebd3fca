//! Rights that no operation grants.

use std::sync::Arc;

use plexsphere_audit::{AuditKey, PLATFORM_ANCHOR, PgAuditLog};
use plexsphere_identity::{Actor, GrantRefusal, Grantee, PlatformGrants, PlatformRight, TokenPepper};
use plexsphere_kernel::{Clock, Subject};
use plexsphere_wire::{DomainId, GroupId, PrincipalId};
use serde_json::json;
use uuid::Uuid;

use crate::groups::{made, manual};
use crate::people::{holding, meet};
use crate::tuples::{RecordedTuples, tuples_on};
use crate::world::{World, world};

const COMMAND_LINE: Subject = Subject::System(Uuid::from_u128(7));

async fn grants(world: &World) -> (PlatformGrants, Actor) {
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let audit = PgAuditLog::new(world.db.clone(), AuditKey::parse(&"5a".repeat(32)).unwrap(), clock);
    let tuples = Arc::new(RecordedTuples::over(&world.database.pool()).await);
    let grants = PlatformGrants::new(world.db.clone(), Arc::new(audit), tuples, TokenPepper::new([9; 32]));
    (grants, Actor::background(COMMAND_LINE, world.clock.now()))
}

pub(crate) async fn person(world: &World, domain: Option<&str>, name: &str) -> Subject {
    let id = PrincipalId::mint(world.clock.now());
    sqlx::query(
        "INSERT INTO identity.users (id, domain_id, issuer, external_subject, display_name, created_at)
         VALUES ($1, $2::uuid, 'https://idp.example', $3, $3, now())",
    )
    .bind(id.uuid())
    .bind(domain)
    .bind(name)
    .execute(&world.database.pool())
    .await
    .unwrap();
    Subject::User(id)
}

#[tokio::test]
async fn a_second_administrator_ends_the_bootstrap_token_and_the_last_one_stays() {
    let world = world().await;
    let (grants, actor) = grants(&world).await;
    let (ada, bob) = (person(&world, None, "ada").await, person(&world, None, "bob").await);
    assert_eq!(world.get("/v1/auth/whoami").await.status, 200);
    grants.grant(&actor, PlatformRight::Admin, ada).await.unwrap();
    grants.grant(&actor, PlatformRight::Admin, ada).await.unwrap();
    // Another process did it, so that this one believes its memory for five seconds more.
    world.clock.advance(std::time::Duration::from_secs(6));
    assert_eq!(world.get("/v1/auth/whoami").await.status, 401);

    let left = grants.revoke(&actor, PlatformRight::Admin, ada).await;
    assert!(matches!(left, Err(GrantRefusal::LastAdministrator)), "{left:?}");
    grants.grant(&actor, PlatformRight::Admin, bob).await.unwrap();
    grants.revoke(&actor, PlatformRight::Admin, ada).await.unwrap();
    let tuples = tuples_on(&world.database.pool(), "platform:plexsphere").await;
    assert_eq!(tuples.len(), 1, "{tuples:?}");
    assert!(tuples[0].contains(&bob.uuid().to_string()), "{tuples:?}");
}

#[tokio::test]
async fn a_second_administrator_ends_every_token_that_the_first_made_for_itself() {
    let world = world().await;
    let (grants, actor) = grants(&world).await;
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let body = json!({ "identity_ref": format!("user:{me}"), "env_prefix": "dev", "ttl_seconds": 86_400 });
    let spare = world.post("/v1/auth/tokens", body).await.text("plaintext");
    grants.grant(&actor, PlatformRight::Admin, person(&world, None, "ada").await).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(5));
    for token in [&world.admin, &spare] {
        assert_eq!(world.call_as(token, "GET", "/v1/auth/whoami", None).await.refusal(), (401, "unauthenticated"));
    }
    let chains: Vec<Uuid> = world.rows("api-token.revoke").await.into_iter().map(|(.., chain)| chain).collect();
    assert_eq!(chains, [PLATFORM_ANCHOR; 2]);
    let told = "SELECT count(*) FROM kernel.outbox WHERE event_name = 'identity.APITokenRevoked'";
    assert_eq!(world.count(told).await, 2);
}

#[tokio::test]
async fn a_token_that_ends_while_it_asks_for_another_leaves_none() {
    let world = world().await;
    let (grants, actor) = grants(&world).await;
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let ada = person(&world, None, "ada").await;
    let body = json!({ "identity_ref": format!("user:{me}"), "env_prefix": "dev" });
    let holder =
        holding(&world, "SELECT id FROM identity.users WHERE display_name = 'bootstrap-admin' FOR UPDATE").await;
    let granting = grants.grant(&actor, PlatformRight::Admin, ada);
    let (granted, issued) = meet(&world, holder, granting, world.post("/v1/auth/tokens", body)).await;
    granted.unwrap();
    assert_eq!(issued.refusal(), (401, "unauthenticated"));
    assert_eq!(world.count("SELECT count(*) FROM identity.api_tokens WHERE revoked_at IS NULL").await, 0);
}

#[tokio::test]
async fn a_principal_of_a_domain_may_read_the_platform_and_no_more() {
    let world = world().await;
    let (grants, actor) = grants(&world).await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let eve = person(&world, Some(&domain), "eve").await;
    for right in [PlatformRight::Admin, PlatformRight::Operator, PlatformRight::Auditor] {
        let refused = grants.grant(&actor, right, eve).await;
        assert!(matches!(refused, Err(GrantRefusal::OfADomain)), "{right:?}: {refused:?}");
    }
    grants.grant(&actor, PlatformRight::Reader, eve).await.unwrap();
    let nobody = Subject::User(PrincipalId::mint(world.clock.now()));
    let refused = grants.grant(&actor, PlatformRight::Reader, nobody).await;
    assert!(matches!(refused, Err(GrantRefusal::UnknownPrincipal)), "{refused:?}");
    let before = tuples_on(&world.database.pool(), "platform:plexsphere").await.len();
    let group: GroupId = made(&world, manual(&domain, "readers")).await.parse().unwrap();
    let refused = grants.grant(&actor, PlatformRight::Admin, Grantee::Members(group)).await;
    assert!(matches!(refused, Err(GrantRefusal::OfADomain)), "{refused:?}");
    grants.grant(&actor, PlatformRight::Reader, Grantee::Members(group)).await.unwrap();
    let granted = tuples_on(&world.database.pool(), "platform:plexsphere").await;
    assert!(granted.iter().any(|tuple| tuple.contains(&format!("group:{group}"))), "{granted:?}");
    grants.revoke(&actor, PlatformRight::Reader, Grantee::Members(group)).await.unwrap();
    assert_eq!(tuples_on(&world.database.pool(), "platform:plexsphere").await.len(), before);
    let nobody = Grantee::Members(GroupId::mint(world.clock.now()));
    let refused = grants.grant(&actor, PlatformRight::Reader, nobody).await;
    assert!(matches!(refused, Err(GrantRefusal::UnknownPrincipal)), "{refused:?}");
}

#[tokio::test]
async fn a_domain_that_lost_its_administrators_gets_one_and_both_chains_say_so() {
    let world = world().await;
    let (grants, actor) = grants(&world).await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let ada = person(&world, Some(&domain), "ada").await;
    grants.grant_domain_admin(&actor, domain.parse().unwrap(), ada).await.unwrap();
    let chains: Vec<Uuid> = world.rows("domain.grant-admin").await.into_iter().map(|(.., chain)| chain).collect();
    assert_eq!(chains.len(), 2);
    assert!(chains.contains(&domain.parse().unwrap()));
    let nowhere = DomainId::mint(world.clock.now());
    let refused = grants.grant_domain_admin(&actor, nowhere, ada).await;
    assert!(matches!(refused, Err(GrantRefusal::UnknownDomain)), "{refused:?}");
    let other = world.domain("other", "10.43.0.0/16").await;
    let refused = grants.grant_domain_admin(&actor, other.parse().unwrap(), ada).await;
    assert!(matches!(refused, Err(GrantRefusal::OfAnotherDomain)), "{refused:?}");
    let bob = person(&world, None, "bob").await;
    grants.grant_domain_admin(&actor, other.parse().unwrap(), bob).await.unwrap();
}
