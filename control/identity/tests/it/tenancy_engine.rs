//! Tenancy over the real relation engine: what it writes is what the engine decides by, from the next request on.

use std::sync::Arc;

use plexsphere_identity::{Actor, ApiTokenText, Identity, IdentityConfig, InvitationAcceptor, Invitee, TokenPepper};
use plexsphere_kernel::http::Gates;
use plexsphere_kernel::http::pipeline::Throttle;
use plexsphere_kernel::http::pipeline::csrf::AllowedOrigins;
use plexsphere_kernel::{Clock, ObjectRef, RelationTuple, Subject};
use plexsphere_rebac::{Rebac, RebacConfig, RebacParts};
use plexsphere_wire::{PrincipalId, TokenId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::callers::{service, user};
use crate::groups::{add, made, manual};
use crate::tenancy_rig::{NOBODY, group, person};
use crate::world::{Answer, DEPLOYMENT, World, demand, watched, world};

/// A world whose gates and tuples are the engine's; its administrator has `admin` on the platform and nothing else.
pub(crate) async fn governed() -> World {
    let mut world = world().await;
    let rebac = Rebac::open(
        RebacConfig::default(),
        RebacParts {
            db: world.db.clone(),
            clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
            audit: Arc::clone(&world.deps.audit),
            cursors: world.deps.cursors.clone(),
        },
    )
    .await
    .unwrap();
    world.deps.tuples = rebac.tuple_writer();
    world.deps.grants = rebac.grant_rules();
    let me = world.get("/v1/auth/whoami").await.text("subject");
    let mut tx = world.db.begin().await.unwrap();
    let admin = RelationTuple::new(ObjectRef::platform(), "admin", ObjectRef { kind: "user", id: me });
    world.deps.tuples.write(&mut tx, None, &[admin]).await.unwrap();
    tx.commit().await.unwrap();
    let config = IdentityConfig { register_burst: 10_000, ..IdentityConfig::new(DEPLOYMENT) };
    world.identity = Arc::new(Identity::new(&config, world.deps.clone()));
    let gates = Arc::new(Gates {
        authenticator: world.identity.authenticator(),
        authorizer: rebac.authorizer(),
        audit: world.identity.denials(),
        clock: Arc::clone(&world.clock) as Arc<dyn Clock>,
        throttle: Throttle::default(),
        origins: AllowedOrigins::parse(["https://plexsphere.test"]).unwrap(),
    });
    world.router = watched(world.identity.operations(), &gates);
    world
}

/// An API token of a person, made by the test's own hand.
pub(crate) async fn token_of(world: &World, user: Uuid) -> String {
    let text = ApiTokenText::mint(TokenId::mint(world.clock.now())).unwrap();
    sqlx::query(
        "INSERT INTO identity.api_tokens (id, user_id, env_prefix, digest, ttl_seconds, created_at, expires_at)
         VALUES ($1, $2, 'dev', $3, 60, now(), '2100-01-01')",
    )
    .bind(text.id.uuid())
    .bind(user)
    .bind(TokenPepper::new([9; 32]).digest(text.secret()).as_slice())
    .execute(&world.database.pool())
    .await
    .unwrap();
    text.render("dev").to_string()
}

/// Invites `ada` to these rights, and lets her sign in.
async fn grant(world: &World, domain: &str, ada: Uuid, tuples: Value) {
    let body = json!({ "external_subject": "ada", "initial_tuples": tuples });
    let made = world.post(&format!("/v1/domains/{domain}/invitations"), body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let user = PrincipalId::from_uuid(ada);
    let actor = Actor::background(Subject::User(user), world.clock.now());
    let invitee = Invitee { domain: domain.parse().unwrap(), subject: "ada", email: None, email_verified: false };
    let mut tx = world.db.begin().await.unwrap();
    let acceptor: Arc<dyn InvitationAcceptor> = world.identity.invitation_acceptor();
    assert_eq!(acceptor.accept(&mut tx, &actor, &invitee, user).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
}

fn ids(answer: &Answer) -> Vec<String> {
    answer.body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn who_makes_a_domain_administers_everything_in_it_with_the_next_request() {
    let world = governed().await;
    assert_eq!(world.get(&format!("/v1/domains/{NOBODY}")).await.refusal(), (403, "permission_denied"));
    let domain = world.domain("acme", "100.64.0.0/10").await;
    let path = format!("/v1/domains/{domain}");
    assert_eq!(world.get(&path).await.status, 200);
    assert_eq!(ids(&world.get("/v1/domains").await), [domain.as_str()]);
    let project = world.project(&domain, "one", None).await;
    let resource = world.resource(&project, "vm", "host").await;
    let (_, token) = world.token(&project, "node").await;
    let node = world.register(demand(&project, "host", &token, 1)).await.text("node_id");
    assert_eq!(ids(&world.get("/v1/nodes").await), [node.as_str()]);
    let service = json!({ "display_name": "s", "subject": "s", "audience": "a", "federation_kind": "api_token" });
    let service = world.post(&format!("{path}/service-identities"), service).await.text("id");
    assert_eq!(ids(&world.get(&format!("{path}/identities")).await), [service.as_str()]);
    let read = world.get(&format!("{path}/identities/{service}")).await;
    assert!(read.body.get("external_subject").is_none(), "an administrator is no auditor: {}", read.body);
    let renamed = world.call_as(&world.admin, "PATCH", &path, Some(json!({ "name": "Acme" }))).await;
    assert_eq!(renamed.status, 200);

    assert_eq!(world.delete(&format!("/v1/resources/{resource}")).await.status, 204);
    assert_eq!(world.delete(&format!("/v1/projects/{project}")).await.status, 204);
    assert_eq!(world.get(&format!("/v1/projects/{project}")).await.refusal(), (403, "permission_denied"));
    sqlx::query("DELETE FROM identity.service_identities").execute(&world.database.pool()).await.unwrap();
    assert_eq!(world.delete(&path).await.status, 204);
    let left = "SELECT count(*) FROM rebac.tuples WHERE object_kind <> 'serviceaccount' AND object_kind <> 'platform'
        OR relation = 'tenant'";
    assert_eq!(world.count(left).await, 0);
    assert_eq!(world.get(&path).await.refusal(), (403, "permission_denied"));
}

#[tokio::test]
async fn what_an_invitation_promised_holds_after_the_sign_in_and_not_before() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let team = group(&world, &domain, "team").await;
    let ada = person(&world, &domain, "ada", 0).await;
    let token = token_of(&world, ada).await;
    let see = async |path: String| world.call_as(&token, "GET", &path, None).await;
    let me = format!("/v1/domains/{domain}/identities/{ada}");
    assert_eq!(see(format!("/v1/domains/{domain}")).await.refusal(), (403, "permission_denied"));
    assert_eq!(see("/v1/domains".to_owned()).await.body["empty_reason"], "no_rebac_membership");

    // By a condition first: what is over is no right, and what is promised again under another one stays as it was.
    let until = |relation: &str, end: &str| {
        let until = json!({ "not_after": end });
        json!([{ "relation": relation, "object": format!("project:{project}"), "caveat_context": until }])
    };
    for (relation, end, status) in [
        ("viewer", "2020-01-01T00:00:00Z", 403),
        ("viewer", "2100-01-01T00:00:00Z", 403),
        ("member", "2100-01-01T00:00:00Z", 200),
    ] {
        grant(&world, &domain, ada, until(relation, end)).await;
        let seen = see(format!("/v1/projects/{project}")).await;
        assert_eq!(seen.status, status, "{relation} {end}");
        assert_eq!(seen.body["reason"].as_str(), (status == 403).then_some("caveat_violation"), "{relation} {end}");
    }
    let kept = "SELECT count(*) FROM audit.pending WHERE reason = 'caveat_violation'
        AND caveat_names LIKE '%\"not_after\"%' AND caveat_names NOT LIKE '%2020%' AND caveat_names NOT LIKE '%2100%'";
    assert_eq!(world.count(kept).await, 2, "a row names the condition and no value of it");

    let place = world.project(&domain, "two", None).await;
    let from = |relation: &str, cidr: &str| {
        let from = json!({ "allowed_cidrs": [cidr] });
        json!([{ "relation": relation, "object": format!("project:{place}"), "caveat_context": from }])
    };
    // The tests call from 192.0.2.7.
    for (relation, cidr, status) in [("viewer", "198.51.100.0/24", 403), ("member", "192.0.2.0/24", 200)] {
        grant(&world, &domain, ada, from(relation, cidr)).await;
        assert_eq!(see(format!("/v1/projects/{place}")).await.status, status, "{cidr}");
        let listed = ids(&see("/v1/projects".to_owned()).await).len();
        assert_eq!(listed, 1 + usize::from(status == 200), "{cidr}");
    }

    let on_domain = |relation: &str| json!([{ "relation": relation, "object": format!("domain:{domain}") }]);
    grant(&world, &domain, ada, on_domain("member")).await;
    assert_eq!(see(format!("/v1/domains/{domain}")).await.status, 200);
    assert!(see(me.clone()).await.body.get("external_subject").is_none());
    let refused = world.call_as(&token, "PATCH", &format!("/v1/domains/{domain}"), Some(json!({ "name": "x" }))).await;
    assert_eq!(refused.body["reason"], "insufficient_relation");
    grant(&world, &domain, ada, on_domain("auditor")).await;
    assert_eq!(see(me).await.body["external_subject"], "ada");
    grant(&world, &domain, ada, json!([{ "relation": "member", "object": format!("group:{team}") }])).await;
    let members = "SELECT count(*) FROM rebac.tuples WHERE object_kind = 'group' AND relation = 'member'";
    assert_eq!(world.count(members).await, 1);
}

#[tokio::test]
async fn a_right_that_stands_under_another_condition_stays_and_the_acceptance_says_so() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let ada = person(&world, &domain, "ada", 0).await;
    let object = format!("project:{project}");
    let until = json!({ "not_after": "2100-01-01T00:00:00Z" });
    let plain = json!({ "relation": "viewer", "object": object });
    let bound = json!({ "relation": "viewer", "object": object, "caveat_context": until });
    grant(&world, &domain, ada, json!([bound])).await;
    grant(&world, &domain, ada, json!([bound])).await;
    assert!(world.rows("invitation.accept.skipped").await.is_empty(), "what stands as it was promised is kept");
    let member = json!({ "relation": "member", "object": object });
    grant(&world, &domain, ada, json!([plain, member])).await;
    let expected = ("project".to_owned(), project, domain.parse().unwrap());
    assert_eq!(world.rows("invitation.accept.skipped").await, [expected]);
    let stored = "SELECT count(*) FROM rebac.tuples WHERE subject_kind = 'user' AND object_kind = 'project'
        AND (relation, caveat IS NULL) IN (('viewer', false), ('member', true))";
    assert_eq!(world.count(stored).await, 2);
}

#[tokio::test]
async fn an_administrator_of_the_platform_sees_nothing_of_a_tenant() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let bob = user(&world, None).await;
    let admin = RelationTuple::new(ObjectRef::platform(), "admin", ObjectRef { kind: "user", id: bob.to_string() });
    let mut tx = world.db.begin().await.unwrap();
    world.deps.tuples.write(&mut tx, None, &[admin]).await.unwrap();
    tx.commit().await.unwrap();
    let token = token_of(&world, bob).await;
    let refused = world.call_as(&token, "GET", &format!("/v1/projects/{project}"), None).await;
    assert_eq!((refused.refusal(), &refused.body["reason"]), ((403, "permission_denied"), &json!("out_of_scope")));
    let denied = ("project".to_owned(), project.clone(), domain.parse().unwrap());
    assert_eq!(world.rows("read").await, [denied]);
    let listed = world.call_as(&token, "GET", "/v1/domains", None).await;
    assert_eq!((listed.status.as_u16(), &listed.body["empty_reason"]), (200, &json!("no_rebac_membership")));
    assert_eq!(ids(&listed), Vec::<String>::new());
}

#[tokio::test]
async fn edges_and_members_of_groups_that_are_missing_are_written_anew() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (outer, inner) = (made(&world, manual(&domain, "outer")).await, made(&world, manual(&domain, "inner")).await);
    let (ada, robot) = (person(&world, &domain, "ada", 0).await, service(&world, &domain).await);
    for (kind, member) in [("user", ada), ("service_identity", robot), ("group", inner.parse().unwrap())] {
        assert_eq!(add(&world, &outer, kind, member, "manual").await.status, 201, "{kind}");
    }
    let tuples = "SELECT count(*) FROM rebac.tuples WHERE object_kind = 'group'";
    assert_eq!(world.count(tuples).await, 5);
    for round in 0..2 {
        sqlx::query("DELETE FROM rebac.tuples WHERE object_kind = 'group'")
            .execute(&world.database.pool())
            .await
            .unwrap();
        world.identity.tuple_repair().repair_once().await.unwrap();
        assert_eq!(world.count(tuples).await, 5, "{round}");
    }
    world.identity.tuple_repair().repair_once().await.unwrap();
    assert_eq!(world.count(tuples).await, 5);
}

#[tokio::test]
async fn only_what_the_schema_lets_operators_grant_is_staged() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let path = format!("/v1/domains/{domain}/invitations");
    for (relation, object, expected) in [
        ("parent", format!("domain:{domain}"), "invalid_body"),
        ("read", format!("domain:{domain}"), "invalid_body"),
        ("node", format!("project:{project}"), "invalid_body"),
        ("secret_consumer", format!("project:{project}"), "invalid_body"),
        ("admin", "platform:plexsphere".to_owned(), "invitation_object_out_of_scope"),
    ] {
        let body = json!({ "external_subject": "a", "initial_tuples": [{ "relation": relation, "object": object }] });
        assert_eq!(world.post(&path, body).await.refusal().1, expected, "{relation} {object}");
    }
    // Nothing that the tree says is foreign to the schema, people and the platform's own among it.
    person(&world, &domain, "eve", 0).await;
    world.identity.tuple_repair().repair_once().await.unwrap();
    let people = "SELECT count(*) FROM rebac.tuples WHERE object_kind = 'user' AND relation = 'parent'";
    assert_eq!(world.count(people).await, 2, "eve and the administrator");
    let staged: Vec<Value> = [
        ("domain", "admin"),
        ("domain", "maintainer"),
        ("domain", "operator"),
        ("domain", "member"),
        ("domain", "auditor"),
        ("domain", "approver"),
        ("domain", "emergency_approver"),
        ("project", "admin"),
        ("project", "maintainer"),
        ("project", "operator"),
        ("project", "member"),
        ("project", "viewer"),
    ]
    .into_iter()
    .map(|(kind, relation)| {
        let id = if kind == "domain" { &domain } else { &project };
        json!({ "relation": relation, "object": format!("{kind}:{id}"), "caveat_context": { "max_age_seconds": 60 } })
    })
    .collect();
    let ada = person(&world, &domain, "ada", 0).await;
    grant(&world, &domain, ada, Value::Array(staged)).await;
    let conditional = "SELECT count(*) FROM rebac.tuples WHERE caveat = 'requires_assurance' AND subject_kind = 'user'";
    assert_eq!(world.count(conditional).await, 12);
}
