//! Requests about bindings that meet.

use serde_json::json;

use crate::bindings::{made, of_domain, patch, with};
use crate::callers::waiting_for_locks;
use crate::people::{holding, home, meet, switch_off};
use crate::world::world;

#[tokio::test]
async fn of_two_changes_that_read_the_same_version_one_wins() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let id = made(&world, of_domain(&domain, "https://idp.example")).await;
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query("SELECT id FROM identity.idp_bindings FOR UPDATE").execute(&mut *holder).await.unwrap();
    let (a, b, ()) = tokio::join!(
        patch(&world, &id, json!({ "alias": "a" })),
        patch(&world, &id, json!({ "jit_policy": "deny" })),
        async {
            waiting_for_locks(&world, 2).await;
            holder.rollback().await.unwrap();
        },
    );
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(200, ""), (409, "binding_conflict")]);
    let read = world.get(&format!("/v1/admin/idp/{id}")).await.body;
    assert_eq!(read, if a.status == 200 { a.body } else { b.body });
    assert_eq!(world.count("SELECT version FROM identity.idp_bindings").await, 2);
    assert_eq!(world.rows("idp-binding.update").await.len(), 1);
}

#[tokio::test]
async fn a_change_loses_against_a_switch_and_a_deletion_in_between() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    for (index, sql) in [
        "UPDATE identity.idp_bindings SET status = 'deactivated', version = version + 1",
        "DELETE FROM identity.idp_bindings",
    ]
    .into_iter()
    .enumerate()
    {
        let id = made(&world, of_domain(&domain, &format!("https://{index}.example"))).await;
        let mut holder = world.database.pool().begin().await.unwrap();
        sqlx::query(sql).execute(&mut *holder).await.unwrap();
        let (changed, ()) = tokio::join!(patch(&world, &id, json!({ "alias": "a" })), async {
            waiting_for_locks(&world, 1).await;
            holder.commit().await.unwrap();
        });
        assert_eq!(changed.refusal(), (409, "binding_conflict"), "{sql}");
    }
}

#[tokio::test]
async fn of_two_bindings_that_race_for_one_place_one_is_made() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let body = |issuer: &str| with(of_domain(&domain, issuer), json!({ "primary": true }));
    let (a, b) = tokio::join!(
        world.post("/v1/admin/idp", body("https://a.example")),
        world.post("/v1/admin/idp", body("https://b.example")),
    );
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(201, ""), (409, "primary_conflict")]);
}

#[tokio::test]
async fn of_a_binding_and_a_group_of_it_that_race_none_outlives_the_other() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let group = |slug: &str, binding: &str| {
        json!({
            "domain_id": domain, "slug": slug, "display_name": slug, "source": "idp",
            "idp_binding_id": binding, "idp_claim_value": "ops",
        })
    };
    // The binding goes first: the Group finds none.
    let id = made(&world, of_domain(&domain, "https://a.example")).await;
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query("DELETE FROM identity.idp_bindings").execute(&mut *holder).await.unwrap();
    let (created, ()) = tokio::join!(world.post("/v1/admin/groups", group("a", &id)), async {
        waiting_for_locks(&world, 1).await;
        holder.commit().await.unwrap();
    });
    assert_eq!(created.refusal(), (400, "invalid_group"));
    // The Group goes first: it goes with the binding, which waited for it.
    let id = made(&world, of_domain(&domain, "https://b.example")).await;
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query(
        "INSERT INTO identity.groups
             (id, domain_id, slug, display_name, source, idp_binding_id, idp_claim_value, created_at, updated_at)
         VALUES (gen_random_uuid(), $1::uuid, 'b', 'b', 'idp', $2::uuid, 'ops', now(), now())",
    )
    .bind(&domain)
    .bind(&id)
    .execute(&mut *holder)
    .await
    .unwrap();
    let path = format!("/v1/admin/idp/{id}");
    let (deleted, ()) = tokio::join!(world.delete(&path), async {
        waiting_for_locks(&world, 1).await;
        holder.commit().await.unwrap();
    });
    assert_eq!(deleted.status, 204, "{}", deleted.body);
    assert_eq!(world.count("SELECT count(*) FROM identity.groups").await, 0);
}

#[tokio::test]
async fn a_binding_of_a_domain_that_goes_meanwhile_is_not_made() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let mut holder = world.database.pool().begin().await.unwrap();
    sqlx::query("DELETE FROM identity.domains").execute(&mut *holder).await.unwrap();
    let (created, ()) = tokio::join!(world.post("/v1/admin/idp", of_domain(&domain, "https://a.example")), async {
        waiting_for_locks(&world, 1).await;
        holder.commit().await.unwrap();
    });
    assert_eq!(created.refusal(), (400, "invalid_idp_binding"));
}

#[tokio::test]
async fn of_two_bindings_that_come_back_for_one_place_one_does() {
    let world = world().await;
    let domain = world.domain("acme", "10.0.0.0/8").await;
    let mut ids = Vec::new();
    for issuer in ["https://a.example", "https://b.example"] {
        let id = made(&world, of_domain(&domain, issuer)).await;
        for (tail, body) in [("/status", json!({ "status": "deactivated" })), ("", json!({ "primary": true }))] {
            let path = format!("/v1/admin/idp/{id}{tail}");
            assert_eq!(world.call_as(&world.admin, "PATCH", &path, Some(body)).await.status, 200);
        }
        ids.push(id);
    }
    let activate = |id: String| {
        let world = &world;
        async move {
            let path = format!("/v1/admin/idp/{id}/status");
            world.call_as(&world.admin, "PATCH", &path, Some(json!({ "status": "active" }))).await
        }
    };
    let (a, b) = tokio::join!(activate(ids[0].clone()), activate(ids[1].clone()));
    let mut seen = [a.refusal(), b.refusal()];
    seen.sort_unstable();
    assert_eq!(seen, [(200, ""), (409, "primary_conflict")]);
}

#[tokio::test]
async fn of_two_requests_to_switch_a_binding_off_one_does_and_the_other_finds_it_done() {
    let world = world().await;
    let (_, binding) = home(&world).await;
    let holder = holding(&world, "SELECT id FROM identity.idp_bindings FOR UPDATE").await;
    let (one, two) = meet(&world, holder, switch_off(&world, &binding), switch_off(&world, &binding)).await;
    assert_eq!((one.status.as_u16(), two.status.as_u16()), (200, 200));
    assert_eq!(one.body, two.body);
    let changes = "SELECT count(*) FROM kernel.outbox WHERE event_name = 'identity.IdPBindingStatusChanged'";
    assert_eq!(world.count(changes).await, 1);
    assert_eq!(world.count("SELECT version FROM identity.idp_bindings").await, 2);
}
