//! Invitations: staging, keeping, taking back, running out.

use std::time::Duration;

use plexsphere_identity::{Actor, Invitee};
use plexsphere_kernel::{Clock as _, Fault, Subject};
use plexsphere_wire::{DomainId, InvitationId, PrincipalId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::tenancy_rig::{Held, NOBODY, Seen, events, group, person, raw};
use crate::tuples::tuples_on;
use crate::world::{Answer, World, world};

/// The platform's chain.
const PLATFORM: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

async fn invite(world: &World, domain: &str, subject: &str, tuples: Value) -> Answer {
    let body = json!({ "external_subject": subject, "initial_tuples": tuples });
    world.post(&format!("/v1/domains/{domain}/invitations"), body).await
}

async fn invited(world: &World, domain: &str, subject: &str, tuples: Value) -> String {
    let made = invite(world, domain, subject, tuples).await;
    assert_eq!(made.status, 201, "{}", made.body);
    format!("/v1/domains/{domain}/invitations/{}", made.text("id"))
}

/// What a sign-in of this person does, in a transaction of its own.
async fn sign_in(
    world: &World,
    domain: &str,
    user: Uuid,
    (subject, email, verified): (&str, Option<&str>, bool),
) -> Result<Vec<InvitationId>, Fault> {
    let acceptor = world.identity.invitation_acceptor();
    let user = PrincipalId::from_uuid(user);
    let actor = Actor::background(Subject::User(user), world.clock.now());
    let domain: DomainId = domain.parse().unwrap();
    let invitee = Invitee { domain, subject, email, email_verified: verified };
    let mut tx = world.db.begin().await?;
    let invited = acceptor.is_invited(&mut tx, &invitee, actor.now).await?;
    let accepted = acceptor.accept(&mut tx, &actor, &invitee, user).await?;
    assert_eq!(invited, !accepted.is_empty());
    tx.commit().await?;
    Ok(accepted)
}

#[tokio::test]
async fn an_invitation_is_staged_read_and_listed_without_whom_it_is_for() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let team = group(&world, &domain, "team").await;
    let tuples = json!([
        { "relation": "admin", "object": format!("domain:{domain}") },
        { "relation": "viewer", "object": format!("project:{project}"), "caveat_context": { "allowed_cidrs": ["10.0.0.0/8"] } },
        { "relation": "member", "object": format!("group:{team}") },
    ]);
    let made = invite(&world, &domain, " Ada@Example.com ", tuples.clone()).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let path = format!("/v1/domains/{domain}/invitations/{}", made.text("id"));
    assert_eq!(made.headers["location"], path);
    assert_eq!((&made.body["status"], &made.body["initial_tuples"]), (&json!("pending"), &tuples));
    for absent in ["accepted_at", "accepted_user_id", "revoked_at", "expired_at"] {
        assert!(made.body.get(absent).is_none(), "{absent}");
    }
    assert!(!made.body.to_string().to_lowercase().contains("ada@"));
    assert_eq!(world.get(&path).await.body, made.body);
    let listed = world.get(&format!("/v1/domains/{domain}/invitations")).await;
    assert_eq!(listed.body, json!({ "items": [made.body] }));
    // Nothing of the subject is anywhere in the clear, and no right was given.
    let leak = "SELECT count(*) FROM identity.invitations AS i WHERE i::text ILIKE '%ada%example%'
        OR encode(sealed_subject, 'escape') ILIKE '%ada@example%'";
    assert_eq!(world.count(leak).await, 0);
    assert_eq!(world.count("SELECT count(*) FROM kernel.outbox AS o WHERE o::text ILIKE '%ada@%'").await, 0);
    assert_eq!(tuples_on(&world.database.pool(), &format!("project:{project}")).await.len(), 1);
    let own: Uuid = domain.parse().unwrap();
    for (relation, kind, id) in [
        ("invitation.create", "invitation", made.text("id")),
        ("invitation.read", "invitation", made.text("id")),
        ("invitation.list", "domain", domain),
    ] {
        assert_eq!(world.rows(relation).await, [(kind.to_owned(), id, own)]);
    }
    let told = events(&world, "InvitationCreated").await;
    assert_eq!((told.len(), &told[0]["invitation_id"]), (1, &made.body["id"]));
}

#[tokio::test]
async fn a_request_for_an_invitation_is_judged_in_one_order() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let foreign = world.project(&other, "one", None).await;
    let foreign_group = group(&world, &other, "g").await;
    let path = format!("/v1/domains/{domain}/invitations");
    let ask = |tuples: Value| json!({ "external_subject": "ada", "initial_tuples": tuples });
    let on = |relation: &str, object: String| json!({ "relation": relation, "object": object });
    let with = |context: Value| json!([{ "relation": "viewer", "object": format!("project:{project}"), "caveat_context": context }]);
    let repeated = json!([
        { "relation": "viewer", "object": format!("project:{project}"), "caveat_context": { "allowed_cidrs": ["10.0.0.0/8"] } },
        { "relation": "admin", "object": format!("project:{project}") },
        { "relation": "viewer", "object": format!("project:{}", project.to_uppercase()) },
    ]);
    let many: Vec<Value> = (0..33).map(|_| on("nonsense", "nowhere".to_owned())).collect();
    let scope = "invitation_object_out_of_scope";
    for (body, status, code) in [
        (json!({}), 400, "invalid_body"),
        (json!({ "external_subject": " " }), 400, "invalid_body"),
        (json!({ "external_subject": "x".repeat(256) }), 400, "invalid_body"),
        (json!({ "external_subject": "a", "x": 1 }), 400, "invalid_body"),
        (json!({ "external_subject": "a", "ttl_seconds": null }), 400, "invalid_body"),
        (json!({ "external_subject": "a", "ttl_seconds": "60" }), 400, "invalid_body"),
        (json!({ "external_subject": "a", "ttl_seconds": 60.5 }), 400, "invalid_body"),
        (json!({ "external_subject": "a", "ttl_seconds": 59 }), 400, "invalid_ttl"),
        (json!({ "external_subject": "a", "ttl_seconds": 604_801 }), 400, "invalid_ttl"),
        (json!({ "external_subject": " ", "ttl_seconds": 1, "initial_tuples": many }), 422, "too_many_initial_tuples"),
        (ask(json!([on("admin", "platform:plexsphere".into())])), 422, scope),
        (ask(json!([on("admin", format!("domain:{other}"))])), 422, scope),
        (ask(json!([on("viewer", format!("project:{foreign}"))])), 422, scope),
        (ask(json!([on("viewer", format!("project:{NOBODY}"))])), 422, scope),
        (ask(json!([on("member", format!("group:{foreign_group}"))])), 422, scope),
        (ask(json!([on("member", format!("user:{NOBODY}"))])), 422, scope),
        (ask(json!([on("parent", format!("project:{project}"))])), 400, "invalid_body"),
        (ask(json!([on("manage", format!("domain:{domain}"))])), 400, "invalid_body"),
        (ask(json!([on("", format!("domain:{domain}"))])), 400, "invalid_body"),
        (ask(json!([{ "relation": "admin" }])), 400, "invalid_body"),
        (ask(json!([{ "relation": "admin", "object": null }])), 400, "invalid_body"),
        (ask(json!([{ "relation": "admin", "object": "x", "more": 1 }])), 400, "invalid_body"),
        (
            ask(json!([on("member", format!("domain:{domain}")), on("member", format!("domain:{domain}"))])),
            400,
            "invalid_body",
        ),
        (ask(repeated), 400, "invalid_body"),
        (ask(with(json!(null))), 400, "invalid_body"),
        (ask(with(json!([]))), 400, "invalid_body"),
        (ask(with(json!({}))), 422, "invalid_caveat_context"),
        (ask(with(json!({ "allowed_cidrs": ["10.0.0.0/8"], "now": 1 }))), 422, "invalid_caveat_context"),
        (ask(with(json!({ "allowed_cidrs": 1.5 }))), 422, "invalid_caveat_context"),
        (ask(with(json!({ "allowed_cidrs": ["x".repeat(2_100)] }))), 422, "invalid_caveat_context"),
    ] {
        assert_eq!(world.post(&path, body.clone()).await.refusal(), (status, code), "{body}");
    }
    let doubled =
        r#"{"external_subject":"a","initial_tuples":[{"relation":"admin","relation":"member","object":"x"}]}"#;
    assert_eq!(raw(&world, "POST", &path, doubled).await.refusal(), (400, "invalid_body"));
    assert_eq!(raw(&world, "POST", &path, &" ".repeat(8_193)).await.refusal(), (413, "request_body_too_large"));
    let good = json!({ "external_subject": "a" });
    let nowhere = format!("/v1/domains/{NOBODY}/invitations");
    assert_eq!(world.post(&nowhere, good.clone()).await.refusal(), (404, "domain_not_found"));
    assert_eq!(world.get(&nowhere).await.refusal(), (404, "domain_not_found"));
    assert_eq!(world.post("/v1/domains/x/invitations", good).await.refusal(), (400, "invalid_domain_id"));
    assert_eq!(world.count("SELECT count(*) FROM identity.invitations").await, 0);
}

#[tokio::test]
async fn there_is_one_pending_invitation_per_subject_and_one_that_ran_out_makes_room() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let first = invited(&world, &domain, "ada@example.com", json!([])).await;
    let again = invite(&world, &domain, "ADA@example.com", json!([])).await;
    assert_eq!(again.refusal(), (409, "invitation_already_pending"));
    let id = first.rsplit('/').next().unwrap();
    assert!(again.text("detail").contains(id), "{}", again.text("detail"));
    assert_eq!(invite(&world, &domain, "auth0|ada", json!([])).await.status, 201);
    assert_eq!(invite(&world, &domain, "auth0|Ada", json!([])).await.status, 201, "an opaque subject is what it is");
    let other = world.domain("other", "11.0.0.0/8").await;
    assert_eq!(invite(&world, &other, "ada@example.com", json!([])).await.status, 201);
    world.clock.advance(Duration::from_secs(86_400));
    let second = invited(&world, &domain, "ada@example.com", json!([])).await;
    assert_ne!(first, second);
    let ended = world.get(&first).await;
    assert_eq!(ended.body["status"], "expired");
    assert!(ended.body["expired_at"].is_string());
    let told = events(&world, "InvitationExpired").await;
    assert_eq!((told.len(), told[0]["invitation_id"].as_str()), (1, Some(id)));
    assert_eq!(world.rows("invitation.expire").await.len(), 1);
    assert_eq!(world.delete(&second).await.status, 204);
    assert_eq!(invite(&world, &domain, "ada@example.com", json!([])).await.status, 201);
}

#[tokio::test]
async fn of_invitations_that_race_for_a_subject_one_is_made_and_the_others_name_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let (a, b, c) = tokio::join!(
        invite(&world, &domain, "ada", json!([])),
        invite(&world, &domain, "ada", json!([])),
        invite(&world, &domain, "ada", json!([])),
    );
    let made: Vec<&Answer> = [&a, &b, &c].into_iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(made.len(), 1);
    for answer in [&a, &b, &c] {
        if answer.status != 201 {
            assert_eq!(answer.refusal(), (409, "invitation_already_pending"));
            assert!(answer.text("detail").contains(&made[0].text("id")));
        }
    }
}

#[tokio::test]
async fn a_sign_in_takes_what_was_promised_all_at_once() {
    let world = world().await;
    let pool = world.database.pool();
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let team = group(&world, &domain, "team").await;
    let path = invited(
        &world,
        &domain,
        "ada@example.com",
        json!([
            { "relation": "member", "object": format!("domain:{domain}") },
            { "relation": "viewer", "object": format!("project:{project}"), "caveat_context": { "allowed_cidrs": ["10.0.0.0/8"] } },
            { "relation": "member", "object": format!("group:{team}") },
        ]),
    )
    .await;
    let ada = person(&world, &domain, "sub-1", 0).await;
    let accepted = sign_in(&world, &domain, ada, ("sub-1", Some("Ada@Example.com"), true)).await.unwrap();
    assert_eq!(accepted.len(), 1);
    let read = world.get(&path).await.body;
    assert_eq!((&read["status"], &read["accepted_user_id"]), (&json!("accepted"), &json!(ada.to_string())));
    assert!(read["accepted_at"].is_string() && read.get("revoked_at").is_none());
    let on = async |object: String| tuples_on(&pool, &object).await;
    assert!(on(format!("domain:{domain}")).await.contains(&format!("member@user:{ada}")));
    assert!(on(format!("project:{project}")).await.contains(&format!("viewer@user:{ada}")));
    assert_eq!(on(format!("group:{team}")).await, [format!("member@user:{ada}")]);
    let conditions = "SELECT count(*) FROM public.recorded_tuples WHERE caveat = 'from_cidr' AND relation = 'viewer'";
    assert_eq!(world.count(conditions).await, 1);
    assert_eq!(world.count("SELECT count(*) FROM identity.memberships WHERE source = 'manual'").await, 1);
    let told = events(&world, "InvitationAccepted").await;
    assert_eq!(told[0]["user_id"], ada.to_string());
    assert_eq!(events(&world, "identity.MembershipAdded").await.len(), 1);
    assert_eq!(world.rows("invitation.accept").await.len(), 1);
    // The next sign-in finds nothing, and the invitation is no longer anybody's to take back.
    assert!(sign_in(&world, &domain, ada, ("sub-1", Some("ada@example.com"), true)).await.unwrap().is_empty());
    assert_eq!(world.delete(&path).await.refusal(), (409, "invitation_already_accepted"));
    // Somebody who is in already can be given more.
    invited(&world, &domain, "sub-1", json!([{ "relation": "admin", "object": format!("domain:{domain}") }])).await;
    assert_eq!(sign_in(&world, &domain, ada, ("sub-1", None, false)).await.unwrap().len(), 1);
    assert!(on(format!("domain:{domain}")).await.contains(&format!("admin@user:{ada}")));
}

#[tokio::test]
async fn only_whom_it_is_for_takes_an_invitation() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let other = world.domain("other", "11.0.0.0/8").await;
    let path = invited(&world, &domain, "ada@example.com", json!([])).await;
    invited(&world, &domain, "auth0|ada", json!([])).await;
    let user = person(&world, &domain, "sub", 0).await;
    let elsewhere = person(&world, &other, "sub", 0).await;
    for who in [
        ("sub", Some("ada@example.com"), false),
        ("sub", Some("eve@example.com"), true),
        ("sub", None, true),
        ("AUTH0|ADA", None, false),
        // An address that is none does not stand for a subject.
        ("sub", Some("auth0|ada"), true),
    ] {
        assert!(sign_in(&world, &domain, user, who).await.unwrap().is_empty(), "{who:?}");
    }
    assert!(sign_in(&world, &other, elsewhere, ("auth0|ada", Some("ada@example.com"), true)).await.unwrap().is_empty());
    assert_eq!(world.get(&path).await.body["status"], "pending");
    // Both at once: by subject and by address.
    assert_eq!(sign_in(&world, &domain, user, ("auth0|ada", Some("ada@example.com"), true)).await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_gone_meanwhile_is_left_out_and_the_rest_is_kept() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let gone = world.project(&domain, "gone", None).await;
    let kept = world.project(&domain, "kept", None).await;
    let team = group(&world, &domain, "team").await;
    invited(
        &world,
        &domain,
        "ada",
        json!([
            { "relation": "viewer", "object": format!("project:{gone}") },
            { "relation": "viewer", "object": format!("project:{kept}") },
            { "relation": "member", "object": format!("group:{team}") },
        ]),
    )
    .await;
    assert_eq!(world.delete(&format!("/v1/projects/{gone}")).await.status, 204);
    sqlx::query("DELETE FROM identity.groups").execute(&world.database.pool()).await.unwrap();
    let ada = person(&world, &domain, "ada", 0).await;
    assert_eq!(sign_in(&world, &domain, ada, ("ada", None, false)).await.unwrap().len(), 1);
    let pool = world.database.pool();
    assert!(tuples_on(&pool, &format!("project:{gone}")).await.is_empty());
    assert!(tuples_on(&pool, &format!("group:{team}")).await.is_empty());
    assert!(tuples_on(&pool, &format!("project:{kept}")).await.contains(&format!("viewer@user:{ada}")));
    let own: Uuid = domain.parse().unwrap();
    let mut skipped = world.rows("invitation.accept.skipped").await;
    skipped.sort_unstable();
    assert_eq!(skipped, [("group".to_owned(), team.to_string(), own), ("project".to_owned(), gone, own)]);
}

#[tokio::test]
async fn a_promise_that_cannot_be_kept_fails_the_whole_sign_in() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path =
        invited(&world, &domain, "ada", json!([{ "relation": "admin", "object": format!("domain:{domain}") }])).await;
    let ada = person(&world, &domain, "ada", 0).await;
    let broken = "ALTER TABLE public.recorded_tuples ADD CONSTRAINT broken CHECK (relation <> 'admin') NOT VALID";
    sqlx::query(broken).execute(&world.database.pool()).await.unwrap();
    assert!(sign_in(&world, &domain, ada, ("ada", None, false)).await.is_err());
    assert_eq!(world.get(&path).await.body["status"], "pending");
    assert!(events(&world, "InvitationAccepted").await.is_empty());
}

#[tokio::test]
async fn of_a_sign_in_and_a_revocation_that_race_one_wins_and_the_other_says_so() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let ada = person(&world, &domain, "ada", 0).await;
    for round in 0..8 {
        let path =
            invited(&world, &domain, "ada", json!([{ "relation": "operator", "object": format!("domain:{domain}") }]))
                .await;
        let accept = async {
            let acceptor = world.identity.invitation_acceptor();
            let user = PrincipalId::from_uuid(ada);
            let actor = Actor::background(Subject::User(user), world.clock.now());
            let invitee =
                Invitee { domain: domain.parse().unwrap(), subject: "ada", email: None, email_verified: false };
            let mut tx = world.db.begin().await.unwrap();
            let accepted = acceptor.accept(&mut tx, &actor, &invitee, user).await.unwrap();
            tx.commit().await.unwrap();
            accepted.len()
        };
        let (accepted, revoked) = if round % 2 == 0 {
            tokio::join!(accept, world.delete(&path))
        } else {
            let (revoked, accepted) = tokio::join!(world.delete(&path), accept);
            (accepted, revoked)
        };
        let status = world.get(&path).await.text("status");
        match (accepted, revoked.refusal()) {
            (1, (409, "invitation_already_accepted")) => assert_eq!(status, "accepted"),
            (0, (204, _)) => assert_eq!(status, "revoked"),
            other => panic!("{other:?} {status}"),
        }
    }
    let (accepted, revoked) = (events(&world, "InvitationAccepted").await, events(&world, "InvitationRevoked").await);
    assert_eq!(accepted.len() + revoked.len(), 8);
}

#[tokio::test]
async fn a_revocation_repeats_itself_silently_and_says_how_others_ended() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = invited(&world, &domain, "ada", json!([])).await;
    assert_eq!(world.delete(&path).await.status, 204);
    let first = world.get(&path).await.body;
    assert_eq!(first["status"], "revoked");
    assert!(first["revoked_at"].is_string() && first.get("expired_at").is_none());
    world.clock.advance(Duration::from_secs(604_800));
    assert_eq!(world.delete(&path).await.status, 204);
    assert_eq!(world.get(&path).await.body, first);
    assert_eq!(events(&world, "InvitationRevoked").await.len(), 1);
    let late = invited(&world, &domain, "ada", json!([])).await;
    world.clock.advance(Duration::from_secs(86_400));
    assert_eq!(world.get(&late).await.body["status"], "pending", "nobody has looked yet");
    for _ in 0..2 {
        assert_eq!(world.delete(&late).await.refusal(), (409, "invitation_already_expired"));
    }
    assert_eq!(world.get(&late).await.body["status"], "expired");
    assert_eq!(events(&world, "InvitationExpired").await.len(), 1);
    assert_eq!(world.rows("invitation.expire").await.len(), 1);
    let ada = person(&world, &domain, "ada", 0).await;
    assert!(sign_in(&world, &domain, ada, ("ada", None, false)).await.unwrap().is_empty());
    let other = world.domain("other", "11.0.0.0/8").await;
    let id = path.rsplit('/').next().unwrap();
    for (path, status, code) in [
        (format!("/v1/domains/{other}/invitations/{id}"), 404, "invitation_not_found"),
        (format!("/v1/domains/{domain}/invitations/{NOBODY}"), 404, "invitation_not_found"),
        (format!("/v1/domains/{NOBODY}/invitations/{id}"), 404, "invitation_not_found"),
        (format!("/v1/domains/{domain}/invitations/x"), 400, "invalid_invitation_id"),
        (format!("/v1/domains/x/invitations/{id}"), 400, "invalid_domain_id"),
    ] {
        assert_eq!(world.get(&path).await.refusal(), (status, code), "{path}");
        assert_eq!(world.delete(&path).await.refusal(), (status, code), "{path}");
    }
}

#[tokio::test]
async fn a_sign_in_that_comes_too_late_ends_the_invitation() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = invited(&world, &domain, "ada", json!([])).await;
    let ada = person(&world, &domain, "ada", 0).await;
    world.clock.advance(Duration::from_secs(86_400));
    assert!(sign_in(&world, &domain, ada, ("ada", None, false)).await.unwrap().is_empty());
    assert_eq!(world.get(&path).await.body["status"], "expired");
    assert_eq!(events(&world, "InvitationExpired").await.len(), 1);
    let id = path.rsplit('/').next().unwrap().to_owned();
    assert_eq!(world.rows("invitation.expire").await, [("invitation".to_owned(), id, domain.parse().unwrap())]);
}

#[tokio::test]
async fn what_ran_out_is_swept_with_one_event_each_and_one_row_for_all() {
    let world = world().await;
    let a = world.domain("a", "10.0.0.0/8").await;
    let b = world.domain("b", "11.0.0.0/8").await;
    for (domain, subject) in [(&a, "x"), (&a, "y"), (&b, "x")] {
        invited(&world, domain, subject, json!([])).await;
    }
    let sweeper = world.identity.invitation_sweeper();
    assert_eq!(sweeper.sweep_once().await.unwrap(), 0);
    assert!(world.rows("invitation.expire-sweep").await.is_empty());
    world.clock.advance(Duration::from_secs(86_399));
    let young = invited(&world, &a, "z", json!([])).await;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(sweeper.sweep_once().await.unwrap(), 3);
    assert_eq!(sweeper.sweep_once().await.unwrap(), 0);
    assert_eq!(world.get(&young).await.body["status"], "pending");
    assert_eq!(events(&world, "InvitationExpired").await.len(), 3);
    assert_eq!(world.rows("invitation.expire-sweep").await, [("platform".into(), "plexsphere".into(), PLATFORM)]);
}

#[tokio::test]
async fn more_than_a_batch_is_swept_batch_by_batch_and_what_somebody_holds_is_left_to_him() {
    let world = world().await;
    let domain = world.domain("a", "10.0.0.0/8").await;
    let fill = "INSERT INTO identity.invitations (id, domain_id, sealed_subject, wrap_key_version, pseudonym, match_key,
            initial_tuples, created_at, expires_at)
        SELECT gen_random_uuid(), $1::uuid, 'x', 1, sha256('x'), sha256(i::text::bytea), '[]', '2020-01-01', '2020-01-02'
        FROM generate_series(1, 600) AS i";
    sqlx::query(fill).bind(&domain).execute(&world.database.pool()).await.unwrap();
    let mut holder = world.database.begin().await.unwrap();
    sqlx::query("SELECT id FROM identity.invitations LIMIT 1 FOR UPDATE").execute(&mut *holder).await.unwrap();
    let sweeper = world.identity.invitation_sweeper();
    assert_eq!(sweeper.sweep_once().await.unwrap(), 500);
    assert_eq!(sweeper.sweep_once().await.unwrap(), 99);
    holder.rollback().await.unwrap();
    assert_eq!(sweeper.sweep_once().await.unwrap(), 1);
    assert_eq!(events(&world, "InvitationExpired").await.len(), 600);
}

#[tokio::test]
async fn the_database_itself_lets_no_ended_invitation_change() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = invited(&world, &domain, "ada", json!([])).await;
    assert_eq!(world.delete(&path).await.status, 204);
    let revive = "UPDATE identity.invitations SET status = 'pending', revoked_at = NULL";
    let refused = sqlx::query(revive).execute(&world.database.pool()).await.unwrap_err().to_string();
    assert!(refused.contains("has ended"), "{refused}");
}

#[tokio::test]
async fn invitations_are_listed_newest_first_by_status() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{domain}/invitations");
    let mut made = Vec::new();
    for subject in ["a", "b", "c"] {
        world.clock.advance(Duration::from_secs(1));
        made.push(invited(&world, &domain, subject, json!([])).await);
    }
    assert_eq!(world.delete(&made[1]).await.status, 204);
    let ids = |answer: &Answer| -> Vec<String> {
        let items = answer.body["items"].as_array().unwrap();
        items.iter().map(|item| format!("{path}/{}", item["id"].as_str().unwrap())).collect()
    };
    let newest_first: Vec<String> = made.iter().rev().cloned().collect();
    assert_eq!(ids(&world.get(&path).await), newest_first);
    assert_eq!(ids(&world.get(&format!("{path}?status=all")).await), newest_first);
    assert_eq!(ids(&world.get(&format!("{path}?status=pending")).await), [made[2].clone(), made[0].clone()]);
    assert_eq!(ids(&world.get(&format!("{path}?status=revoked")).await), [made[1].clone()]);
    assert!(ids(&world.get(&format!("{path}?status=accepted")).await).is_empty());
    let first = world.get(&format!("{path}?limit=1")).await;
    let cursor = first.text("next_cursor");
    assert_eq!(ids(&world.get(&format!("{path}?limit=1&cursor={cursor}")).await), [made[1].clone()]);
    let narrowed = world.get(&format!("{path}?status=pending&cursor={cursor}")).await;
    assert_eq!(narrowed.refusal(), (400, "invalid_cursor"));
    for (query, code) in [
        ("status=", "invalid_status"),
        ("status=Pending", "invalid_status"),
        ("status=pending&status=all", "invalid_status"),
        ("limit=x", "invalid_limit"),
    ] {
        assert_eq!(world.get(&format!("{path}?{query}")).await.refusal(), (400, code), "{query}");
    }
}

#[tokio::test]
async fn reading_needs_read_and_staging_needs_manage() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let list = format!("/v1/domains/{domain}/invitations");
    let one = invited(&world, &domain, "ada", json!([])).await;
    let body = || Some(json!({ "external_subject": "bob" }));
    let held = Held::these([format!("domain:{domain}#read")]);
    let caller = Seen::by(&world, &held);
    assert_eq!(caller.call("GET", &list, None).await.status, 200);
    assert_eq!(caller.call("GET", &one, None).await.status, 200);
    assert_eq!(caller.call("POST", &list, body()).await.refusal(), (403, "permission_denied"));
    assert_eq!(caller.call("DELETE", &one, None).await.refusal(), (403, "permission_denied"));
    let caller = Held::these([format!("domain:{domain}#manage")]);
    let caller = Seen::by(&world, &caller);
    assert_eq!(caller.call("GET", &list, None).await.refusal(), (403, "permission_denied"));
    assert_eq!(caller.call("GET", &one, None).await.refusal(), (403, "permission_denied"));
    assert_eq!(caller.call("POST", &list, body()).await.status, 201);
    assert_eq!(caller.call("DELETE", &one, None).await.status, 204);
}
