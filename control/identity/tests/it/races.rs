//! Requests that meet in the tree: one wins, and the other is told what it lost against.

use std::future::Future;

use plexsphere_identity::{Actor, Invitee};
use plexsphere_kernel::{Clock as _, Subject};
use plexsphere_wire::PrincipalId;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::callers::waiting_for_locks;
use crate::tenancy_engine::governed;
use crate::tenancy_rig::{events, patch, person};
use crate::world::{Answer, World, world};

const DOMAINS: &str = "SELECT FROM identity.domains FOR UPDATE";
const PROJECTS: &str = "SELECT FROM identity.projects FOR UPDATE";

/// Lets `first` and then `second` wait for what `lock` holds, and both go on at once, the first in front.
pub(crate) async fn queued<A, B>(
    world: &World,
    lock: &'static str,
    first: impl Future<Output = A>,
    second: impl Future<Output = B>,
) -> (A, B) {
    let mut holder = world.database.begin().await.unwrap();
    sqlx::query(lock).execute(&mut *holder).await.unwrap();
    let (first, (second, ())) = tokio::join!(first, async {
        waiting_for_locks(world, 1).await;
        tokio::join!(second, async {
            waiting_for_locks(world, 2).await;
            holder.rollback().await.unwrap();
        })
    });
    (first, second)
}

/// Status and code of both, the smaller first.
fn both<'a>(a: &'a Answer, b: &'a Answer) -> [(u16, &'a str); 2] {
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    seen
}

fn project(domain: &str, slug: &str, range: Option<&str>) -> Value {
    let mut body = json!({ "domain_id": domain, "name": slug, "slug": slug });
    if let Some(range) = range {
        body["sub_range_cidr"] = json!(range);
    }
    body
}

#[tokio::test]
async fn of_two_that_are_made_for_one_place_one_gets_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let one = world.project(&domain, "one", None).await;
    let new_domain = |pool: &str| json!({ "name": "x", "slug": "x", "mesh_cidr": pool });
    let host = json!({ "origin": "adopted", "kind": "vm", "external_ref": "host" });
    let resources = format!("/v1/projects/{one}/resources");
    for (lock, path, a, b, lost) in [
        (
            "LOCK TABLE identity.domains IN SHARE MODE",
            "/v1/domains",
            new_domain("11.0.0.0/16"),
            new_domain("12.0.0.0/16"),
            (409, "domain_slug_conflict"),
        ),
        (
            "LOCK TABLE identity.projects IN SHARE MODE",
            "/v1/projects",
            project(&domain, "two", None),
            project(&domain, "two", None),
            (409, "project_slug_conflict"),
        ),
        (
            DOMAINS,
            "/v1/projects",
            project(&domain, "three", Some("10.1.0.0/16")),
            project(&domain, "four", Some("10.1.0.0/24")),
            (409, "sub_range_overlap"),
        ),
        ("LOCK TABLE identity.resources IN SHARE MODE", &resources, host.clone(), host, (422, "external_ref_conflict")),
    ] {
        let (a, b) = queued(&world, lock, world.post(path, a), world.post(path, b)).await;
        assert_eq!(both(&a, &b), [(201, ""), lost], "{path}");
    }
}

#[tokio::test]
async fn whoever_loses_a_deadlock_over_a_pool_is_told_of_the_overlap() {
    let world = world().await;
    world.domain("far", "172.16.0.0/16").await;
    let far: Uuid =
        sqlx::query_scalar("SELECT id FROM identity.domains").fetch_one(&world.database.pool()).await.unwrap();
    let far = format!("/v1/domains/{far}");
    let take = "INSERT INTO identity.domains (id, name, slug, mesh_cidr, heartbeat_interval_ns, stale_after_ns,
             unreachable_after_ns, created_at, updated_at)
         VALUES (gen_random_uuid(), 'n', $1, $2::cidr, 30000000000, 90000000000, 300000000000, now(), now())";
    for (wanted, slugs, pools) in [
        ("10.0.0.0/8", ["a", "b"], ["10.1.0.0/16", "10.2.0.0/16"]),
        ("11.0.0.0/8", ["c", "d"], ["11.1.0.0/16", "11.2.0.0/16"]),
    ] {
        let mut holder = world.database.begin().await.unwrap();
        // The other side looks for the deadlock, and gives way.
        sqlx::query("SET LOCAL deadlock_timeout = '60s'").execute(&mut *holder).await.unwrap();
        sqlx::query(take).bind(slugs[0]).bind(pools[0]).execute(&mut *holder).await.unwrap();
        let asked = async {
            if wanted.starts_with("10.") {
                world.post("/v1/domains", json!({ "name": "x", "slug": "x", "mesh_cidr": wanted })).await
            } else {
                patch(&world, &far, json!({ "mesh_cidr": wanted })).await
            }
        };
        let (answer, ()) = tokio::join!(asked, async {
            waiting_for_locks(&world, 1).await;
            sqlx::query(take).bind(slugs[1]).bind(pools[1]).execute(&mut *holder).await.unwrap();
            holder.commit().await.unwrap();
        });
        assert_eq!(answer.refusal(), (409, "mesh_cidr_overlap"));
    }
}

#[tokio::test]
async fn a_pool_that_moves_meets_a_project_that_takes_a_part_of_it() {
    for pool_first in [true, false] {
        let world = world().await;
        let domain = world.domain("acme", "10.42.0.0/16").await;
        let path = format!("/v1/domains/{domain}");
        let moved = patch(&world, &path, json!({ "mesh_cidr": "10.43.0.0/16" }));
        let made = world.post("/v1/projects", project(&domain, "one", Some("10.42.0.0/24")));
        if pool_first {
            let (moved, made) = queued(&world, DOMAINS, moved, made).await;
            assert_eq!((moved.refusal(), made.refusal()), ((200, ""), (400, "invalid_project")));
        } else {
            let (made, moved) = queued(&world, DOMAINS, made, moved).await;
            assert_eq!((made.refusal(), moved.refusal()), ((201, ""), (422, "mesh_cidr_invalidates_subrange")));
        }
    }
}

#[tokio::test]
async fn a_domain_is_deleted_once_and_nothing_is_hung_under_it_meanwhile() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/domains/{domain}");
    let (a, b) = queued(&world, DOMAINS, world.delete(&path), world.delete(&path)).await;
    assert_eq!(both(&a, &b), [(204, ""), (404, "domain_not_found")]);
    assert_eq!(events(&world, "DomainDeleted").await.len(), 1);

    let group = |domain: &str| {
        let body = json!({ "domain_id": domain, "slug": "g", "display_name": "g", "source": "manual" });
        world.post("/v1/admin/groups", body)
    };
    let invite = async |domain: &str| {
        world.post(&format!("/v1/domains/{domain}/invitations"), json!({ "external_subject": "ada" })).await
    };
    for deleted_first in [true, false] {
        let one = world.domain("one", "10.0.0.0/16").await;
        let two = world.domain("two", "10.1.0.0/16").await;
        let three = world.domain("three", "10.2.0.0/16").await;
        let [in_one, in_two, in_three] = [&one, &two, &three].map(|id| format!("/v1/domains/{id}"));
        let made = world.post("/v1/projects", project(&three, "x", None));
        if deleted_first {
            let (deleted, made_group) = queued(&world, DOMAINS, world.delete(&in_one), group(&one)).await;
            assert_eq!((deleted.status.as_u16(), made_group.refusal()), (204, (400, "invalid_group")));
            let (deleted, invited) = queued(&world, DOMAINS, world.delete(&in_two), invite(&two)).await;
            assert_eq!((deleted.status.as_u16(), invited.refusal()), (204, (404, "domain_not_found")));
            let (deleted, made) = queued(&world, DOMAINS, world.delete(&in_three), made).await;
            assert_eq!((deleted.status.as_u16(), made.refusal()), (204, (409, "parent_domain_missing")));
        } else {
            let (made_group, deleted) = queued(&world, DOMAINS, group(&one), world.delete(&in_one)).await;
            assert_eq!((made_group.status.as_u16(), deleted.refusal()), (201, (409, "domain_not_empty")));
            assert_eq!(deleted.body["child_counts"]["groups"], 1);
            // An Invitation ends with its Domain.
            let (invited, deleted) = queued(&world, DOMAINS, invite(&two), world.delete(&in_two)).await;
            assert_eq!((invited.status.as_u16(), deleted.status.as_u16()), (201, 204));
            assert_eq!(world.count("SELECT count(*) FROM identity.invitations").await, 0);
            let (made, deleted) = queued(&world, DOMAINS, made, world.delete(&in_three)).await;
            assert_eq!((made.status.as_u16(), deleted.refusal()), (201, (409, "domain_not_empty")));
        }
    }
}

#[tokio::test]
async fn a_project_is_deleted_once() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = format!("/v1/projects/{}", world.project(&domain, "one", None).await);
    let (a, b) = queued(&world, PROJECTS, world.delete(&path), world.delete(&path)).await;
    assert_eq!(both(&a, &b), [(204, ""), (404, "project_not_found")]);
    assert_eq!(events(&world, "ProjectDeleted").await.len(), 1);
}

#[tokio::test]
async fn a_project_is_not_deleted_over_a_tuple_that_is_filed_meanwhile() {
    let world = governed().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let project = world.project(&domain, "one", None).await;
    let ada = person(&world, &domain, "ada", 0).await;
    let path = format!("/v1/projects/{project}");
    // As the tuple administration does: the tuple, and with it the Domain's turn.
    let mut holder = world.database.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO rebac.tuples (id, scope, project_id, object_kind, object_id, relation, subject_kind, subject_id,
             subject_name, class, created_at)
         VALUES (gen_random_uuid(), $1::uuid, $2::uuid, 'domain', $1::uuid, 'member', 'user', $3, '', 'assignable', now())",
    )
    .bind(&domain)
    .bind(&project)
    .bind(ada)
    .execute(&mut *holder)
    .await
    .unwrap();
    let (deleted, ()) = tokio::join!(world.delete(&path), async {
        waiting_for_locks(&world, 1).await;
        holder.commit().await.unwrap();
    });
    assert_eq!(deleted.refusal(), (409, "project_not_empty"));
    assert_eq!(deleted.body["project_child_counts"], json!({ "resources": 0, "nodes": 0, "relation_tuples": 1 }));
    assert_eq!(world.get(&path).await.status, 200, "and it is where it was");
}

async fn invitation(world: &World, domain: &str, subject: &str) -> String {
    let path = format!("/v1/domains/{domain}/invitations");
    let made = world.post(&path, json!({ "external_subject": subject })).await;
    assert_eq!(made.status, 201, "{}", made.body);
    format!("{path}/{}", made.text("id"))
}

const INVITATIONS: &str = "SELECT FROM identity.invitations FOR UPDATE";

#[tokio::test]
async fn an_invitation_is_revoked_once_and_expires_once() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let path = invitation(&world, &domain, "ada").await;
    let (a, b) = queued(&world, INVITATIONS, world.delete(&path), world.delete(&path)).await;
    assert_eq!((a.status.as_u16(), b.status.as_u16()), (204, 204));
    assert_eq!(events(&world, "InvitationRevoked").await.len(), 1);

    // The sweeper is first: the revocation hears of it and says nothing more.
    let path = invitation(&world, &domain, "bob").await;
    world.clock.advance(std::time::Duration::from_secs(86_400));
    let mut sweep = world.database.begin().await.unwrap();
    sqlx::query("UPDATE identity.invitations SET status = 'expired', expired_at = now() WHERE status = 'pending'")
        .execute(&mut *sweep)
        .await
        .unwrap();
    let (revoked, ()) = tokio::join!(world.delete(&path), async {
        waiting_for_locks(&world, 1).await;
        sweep.commit().await.unwrap();
    });
    assert_eq!(revoked.refusal(), (409, "invitation_already_expired"));
    assert!(events(&world, "InvitationExpired").await.is_empty());

    // Whoever is first, it expires once.
    let sweeper = world.identity.invitation_sweeper();
    for subject in ["cleo", "dora", "eve"] {
        let path = invitation(&world, &domain, subject).await;
        world.clock.advance(std::time::Duration::from_secs(86_400));
        let told = events(&world, "InvitationExpired").await.len();
        let (revoked, swept) = tokio::join!(world.delete(&path), sweeper.sweep_once());
        assert_eq!(revoked.refusal(), (409, "invitation_already_expired"));
        assert!(swept.unwrap() <= 1);
        assert_eq!(events(&world, "InvitationExpired").await.len(), told + 1);
    }
    let rows = world.rows("invitation.expire").await.len() + world.rows("invitation.expire-sweep").await.len();
    assert_eq!(rows, 3, "one row each, by whoever found it");
}

/// What a sign-in of this person does; how many Invitations it takes.
async fn accept(world: &World, domain: &str, user: Uuid, (subject, email): (&str, Option<&str>)) -> usize {
    let acceptor = world.identity.invitation_acceptor();
    let user = PrincipalId::from_uuid(user);
    let actor = Actor::background(Subject::User(user), world.clock.now());
    let invitee = Invitee { domain: domain.parse().unwrap(), subject, email, email_verified: true };
    let mut tx = world.db.begin().await.unwrap();
    let accepted = acceptor.accept(&mut tx, &actor, &invitee, user).await.unwrap();
    tx.commit().await.unwrap();
    accepted.len()
}

#[tokio::test]
async fn of_two_people_whom_an_invitation_may_mean_one_takes_it() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let by_subject = person(&world, &domain, "by-subject", 0).await;
    let by_email = person(&world, &domain, "by-email", 1).await;
    let path = invitation(&world, &domain, "ada@example.com").await;
    let (first, second) = queued(
        &world,
        INVITATIONS,
        accept(&world, &domain, by_subject, ("ada@example.com", None)),
        accept(&world, &domain, by_email, ("other", Some("ada@example.com"))),
    )
    .await;
    assert_eq!((first, second), (1, 0));
    assert_eq!(world.get(&path).await.text("accepted_user_id"), by_subject.to_string());
    assert_eq!(events(&world, "InvitationAccepted").await.len(), 1);
}
