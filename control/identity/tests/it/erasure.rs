//! Suspending and purging, as the operator's command does it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use plexsphere_audit::{AuditKey, PgAuditLog};
use plexsphere_identity::{
    Actor, ChainErasure, DepartureRefusal, Departures, DeparturesNeeds, PlatformGrants, PlatformRight, TokenPepper,
};
use plexsphere_kernel::{Clock, Fault, Subject};
use plexsphere_wire::DomainId;
use serde_json::json;
use uuid::Uuid;

use crate::grants::person;
use crate::tuples::{RecordedTuples, tuples_on};
use crate::world::{World, world};

const COMMAND_LINE: Subject = Subject::System(Uuid::from_u128(7));

/// The audit context has its own tests; the whole of both is tried through the binary.
struct NoChains;

#[async_trait]
impl ChainErasure for NoChains {
    async fn erase(&self, _: &Actor, _: Subject, _: Option<DomainId>) -> Result<(), Fault> {
        Ok(())
    }
}

/// The command beside a world, with its keys.
pub(crate) async fn departures(world: &World) -> (Departures, Actor) {
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let needs = DeparturesNeeds {
        db: world.db.clone(),
        audit: Arc::new(PgAuditLog::new(world.db.clone(), AuditKey::parse(&"5a".repeat(32)).unwrap(), clock)),
        tuples: Arc::new(RecordedTuples::over(&world.database.pool()).await),
        pepper: TokenPepper::new([9; 32]),
        chains: Arc::new(NoChains),
    };
    (Departures::new(needs), Actor::background(COMMAND_LINE, world.clock.now()))
}

async fn token(world: &World, of: &str) -> String {
    let body = json!({ "identity_ref": of, "env_prefix": "dev", "ttl_seconds": 3_600 });
    let answer = world.post("/v1/admin/tokens", body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.text("plaintext")
}

async fn known(world: &World, token: &str) -> bool {
    let status = world.call_as(token, "GET", "/v1/auth/whoami", None).await.status.as_u16();
    assert!(matches!(status, 200 | 401), "{status}");
    status == 200
}

#[tokio::test]
async fn a_suspended_principal_is_not_known_by_what_it_has_nor_by_what_it_is_given_until_it_is_resumed() {
    let world = world().await;
    let (departures, actor) = departures(&world).await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let ada = person(&world, Some(&domain), "ada").await;
    let service = json!({
        "display_name": "machine", "subject": "m", "audience": "a", "federation_kind": "api_token",
    });
    let service = world.post(&format!("/v1/domains/{domain}/service-identities"), service).await.text("id");
    let machine = Subject::Service(service.parse().unwrap());
    for (whom, name) in [(ada, format!("user:{}", ada.uuid())), (machine, format!("service:{service}"))] {
        let before = token(&world, &name).await;
        assert!(known(&world, &before).await);
        departures.suspend(&actor, whom).await.unwrap();
        // Another process did it, so that this one believes its memory for five seconds more.
        world.clock.advance(Duration::from_secs(6));
        let meanwhile = token(&world, &name).await;
        assert!(!known(&world, &before).await && !known(&world, &meanwhile).await, "{name}");
        departures.resume(&actor, whom).await.unwrap();
        assert!(!known(&world, &before).await, "{name}");
        assert!(known(&world, &token(&world, &name).await).await, "{name}");
    }
    assert_eq!(world.rows("identity.suspend").await.len(), 2);
    assert_eq!(world.rows("identity.resume").await.len(), 2);
}

#[tokio::test]
async fn neither_the_platform_nor_a_domain_loses_its_last_administrator() {
    let world = world().await;
    let (departures, actor) = departures(&world).await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let first = world.get("/v1/auth/whoami").await.text("subject");
    let refused = departures.suspend(&actor, Subject::User(first.parse().unwrap())).await;
    assert!(matches!(refused, Err(DepartureRefusal::LastAdministrator)), "{refused:?}");
    let clock = Arc::clone(&world.clock) as Arc<dyn Clock>;
    let audit = Arc::new(PgAuditLog::new(world.db.clone(), AuditKey::parse(&"5a".repeat(32)).unwrap(), clock));
    let tuples = Arc::new(RecordedTuples::over(&world.database.pool()).await);
    let grants = PlatformGrants::new(world.db.clone(), audit, tuples, TokenPepper::new([9; 32]));
    let (ada, bob) = (person(&world, None, "ada").await, person(&world, None, "bob").await);
    for admin in [ada, bob] {
        grants.grant(&actor, PlatformRight::Admin, admin).await.unwrap();
    }
    // Who made the Domain is alone there, and the first administrator of the platform no more.
    let refused = departures.purge(&actor, Subject::User(first.parse().unwrap()), false).await;
    assert!(matches!(refused, Err(DepartureRefusal::LastDomainAdministrator(_))), "{refused:?}");
    departures.suspend(&actor, bob).await.unwrap();
    let refused = departures.suspend(&actor, ada).await;
    assert!(matches!(refused, Err(DepartureRefusal::LastAdministrator)), "one who is suspended is none: {refused:?}");
    let object = format!("domain:{domain}");
    let still: Vec<_> = tuples_on(&world.database.pool(), &object).await;
    assert!(still.iter().any(|tuple| tuple.contains(&first)), "{still:?}");
}

#[tokio::test]
async fn a_purge_empties_a_domain_so_that_it_can_be_deleted_and_leaves_the_person_elsewhere() {
    let world = world().await;
    let (departures, actor) = departures(&world).await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let other = world.domain("other", "10.43.0.0/16").await;
    let (here, there) = (person(&world, Some(&domain), "ada").await, person(&world, Some(&other), "ada").await);
    for domain in [&domain, &other] {
        let path = format!("/v1/domains/{domain}/invitations");
        assert_eq!(world.post(&path, json!({ "external_subject": "ada" })).await.status, 201);
    }
    let path = format!("/v1/domains/{domain}");
    assert_eq!(world.delete(&path).await.refusal(), (409, "domain_not_empty"));
    let purged = departures.purge(&actor, here, false).await.unwrap();
    assert_eq!((purged.principals, purged.others), (vec![here], vec![there]));
    assert_eq!(world.count("SELECT count(*) FROM identity.invitations").await, 1);
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.get(&format!("/v1/domains/{other}/identities/{}", there.uuid())).await.status, 200);
    let gone = departures.purge(&actor, here, false).await;
    assert!(matches!(gone, Err(DepartureRefusal::UnknownPrincipal)), "{gone:?}");
}

#[tokio::test]
async fn whom_an_invitation_was_for_is_not_kept_when_it_has_ended() {
    let world = world().await;
    let domain = world.domain("acme", "10.42.0.0/16").await;
    let path = format!("/v1/domains/{domain}/invitations");
    let sealed = async || world.count("SELECT count(sealed_subject) FROM identity.invitations").await;
    let invited =
        world.post(&path, json!({ "external_subject": "ada@example.test", "ttl_seconds": 60 })).await.text("id");
    assert_eq!(sealed().await, 1);
    assert_eq!(world.delete(&format!("{path}/{invited}")).await.status, 204);
    assert_eq!(sealed().await, 0);
    world.post(&path, json!({ "external_subject": "bob@example.test", "ttl_seconds": 60 })).await;
    world.clock.advance(Duration::from_secs(61));
    world.identity.invitation_sweeper().sweep_once().await.unwrap();
    assert_eq!(sealed().await, 0);
    let shown = world.get(&format!("{path}/{invited}")).await;
    assert_eq!(shown.text("status"), "revoked");
    assert_eq!(shown.text("external_subject_pseudonym").len(), 64);
}
