//! Who may give and take which grants, and what their rows say.

use plexsphere_wire::DenialReason;
use serde_json::{Value, json};

use crate::served::{Served, code, grant, served, spelled, under};

const INSUFFICIENT: Option<DenialReason> = Some(DenialReason::InsufficientRelation);
const OUT_OF_SCOPE: Option<DenialReason> = Some(DenialReason::OutOfScope);

async fn made(served: &Served, who: &str, body: Value) -> Value {
    let (status, made) = served.create(who, 2, body).await;
    assert_eq!(status, 201, "{made}");
    made["id"].clone()
}

fn from(prefix: &str) -> Value {
    json!({ "allowed_cidrs": [prefix] })
}

#[tokio::test]
async fn the_last_administrator_cannot_be_conditioned_away_and_may_hand_over() {
    let served = served().await;
    let (first, admin) =
        (made(&served, "u9", grant("user:7", "admin", "domain:1")).await, ("user:7", "admin", "domain:1"));
    served.world.revoke(&["domain:1#admin@user:9"]).await;
    // A condition, a Group without members, and an administrator who has none of them but a condition, are none.
    let conditional = under(grant("user:8", "admin", "domain:1"), "from_cidr", from("192.0.2.0/24"));
    let other = made(&served, "u7", conditional).await;
    let empty = made(&served, "u7", grant("group:11#member", "admin", "domain:1")).await;
    for to in [
        Some(under(grant(admin.0, admin.1, admin.2), "from_cidr", from("192.0.2.0/24"))),
        Some(under(
            grant(admin.0, admin.1, admin.2),
            "within_time_window",
            json!({"not_after": "2020-01-01T00:00:00Z"}),
        )),
        Some(grant("user:7", "member", "domain:1")),
        None,
    ] {
        let refused = served.change("u7", &first, to.clone()).await;
        assert_eq!(code(&refused), (400, "invalid_relation_tuple"), "{to:?}");
    }
    assert_eq!(served.ask("u7", "user:7", "manage", "domain:1").await, "allowed");
    let handed = served.change("u7", &first, Some(grant("user:6", "admin", "domain:1"))).await;
    assert_eq!(handed.0, 200, "{}", handed.1);
    // With somebody in it the Group is an administrator, so that the others may go.
    served.world.grant(&["group:11#member@user:6"]).await;
    assert_eq!(served.change("u6", &other, None).await.0, 204);
    assert_eq!(served.change("u6", &first, None).await.0, 204);
    let refused = served.change("u6", &empty, None).await;
    assert_eq!(code(&refused), (400, "invalid_relation_tuple"));
}

#[tokio::test]
async fn what_code_granted_is_filed_by_granting_it_again_and_can_be_taken_away() {
    let served = served().await;
    served.world.grant(&["project:2#operator@user:6"]).await;
    let before: (uuid::Uuid, i64) =
        sqlx::query_as("SELECT id, (SELECT count(*) FROM rebac.tuples) FROM rebac.tuples WHERE relation = 'operator'")
            .fetch_one(&served.world.db.pool())
            .await
            .unwrap();
    let refused = served.change("u8", &json!(before.0), None).await;
    assert_eq!(code(&refused), (404, "relation_tuple_not_found"), "it is filed nowhere yet");
    let other = under(grant("user:6", "operator", "project:2"), "from_cidr", from("192.0.2.0/24"));
    assert_eq!(code(&served.create("u8", 2, other).await), (400, "invalid_relation_tuple"));
    let id = made(&served, "u8", grant("user:6", "operator", "project:2")).await;
    served.assert_row("relation-tuple.create", "project:2", None);
    assert_eq!(id, json!(before.0), "it is the same grant");
    let tuples: i64 =
        sqlx::query_scalar("SELECT count(*) FROM rebac.tuples").fetch_one(&served.world.db.pool()).await.unwrap();
    assert_eq!(tuples, before.1);
    let (_, page) = served.list("u8", "").await;
    assert_eq!(page["items"][0]["id"], id, "{page}");
    assert_eq!(served.ask("u9", "user:6", "act", "project:2").await, "allowed");
    assert_eq!(served.change("u8", &id, None).await.0, 204);
    assert_eq!(served.ask("u9", "user:6", "act", "project:2").await, "out_of_scope");
    assert_eq!(served.events().await, ["RelationTupleCreated", "RelationTupleDeleted"]);
    // The maker of the Domain too, once there is another administrator.
    let own = made(&served, "u9", grant("user:9", "admin", "domain:1")).await;
    assert_eq!(code(&served.change("u9", &own, None).await), (400, "invalid_relation_tuple"));
    made(&served, "u9", grant("user:7", "admin", "domain:1")).await;
    assert_eq!(served.change("u9", &own, None).await.0, 204);
}

#[tokio::test]
async fn every_way_up_is_refused_in_a_new_grant_and_in_the_place_of_an_old_one() {
    let served = served().await;
    let old = made(&served, "u8", grant("user:6", "viewer", "project:2")).await;
    for (subject, relation, resource, status) in [
        ("user:8", "admin", "domain:1", 403),
        ("user:8", "auditor", "domain:1", 403),
        ("user:8", "emergency_approver", "domain:1", 403),
        ("group:11#member", "approver", "domain:1", 403),
        ("user:8", "admin", "platform:plexsphere", 400),
        ("user:8", "reader", "platform:plexsphere", 400),
        ("user:8", "admin", "domain:50", 400),
        ("user:8", "admin", "project:51", 400),
        ("user:8", "admin", "project:5", 400),
        ("domain:1", "parent", "project:2", 400),
        ("user:8", "parent", "user:9", 400),
        ("node:4", "agent", "node:4", 400),
        ("project:2#deploy", "uses", "cloud_credential:5", 400),
        ("user:8", "uses", "cloud:5", 400),
        ("user:8", "read", "project:2", 400),
        ("user:8", "manage", "project:2", 400),
        ("user:8", "member", "group:11", 400),
        ("user:*", "viewer", "project:2", 400),
        ("user:99", "viewer", "project:2", 400),
    ] {
        let line = format!("{resource}#{relation}@{subject}");
        let body = grant(subject, relation, resource);
        for refused in [served.create("u8", 2, body.clone()).await, served.change("u8", &old, Some(body)).await] {
            if status == 403 {
                assert_eq!(code(&refused), (403, "permission_denied"), "{line}");
                served.assert_row("manage", "domain:1", OUT_OF_SCOPE);
            } else {
                assert_eq!(code(&refused), (400, "invalid_relation_tuple"), "{line}");
            }
        }
    }
    assert_eq!(served.list("u8", "").await.1["items"].as_array().unwrap().len(), 1);
    assert_eq!(served.events().await, ["RelationTupleCreated"]);
}

#[tokio::test]
async fn a_refusal_on_a_tuple_says_no_more_than_its_caller_may_know_and_has_its_row() {
    let served = served().await;
    let id = made(&served, "u8", grant("user:6", "operator", "project:2")).await;
    let domains = made(&served, "u9", grant("user:6", "approver", "domain:1")).await;
    let viewer = grant("user:6", "viewer", "project:2");
    for to in [Some(viewer), None] {
        let hidden = served.change("u99", &id, to.clone()).await;
        assert_eq!(code(&hidden), (404, "relation_tuple_not_found"), "{to:?}");
        served.assert_row("read", "project:2", OUT_OF_SCOPE);
        let refused = served.change("u7", &id, to.clone()).await;
        assert_eq!(code(&refused), (403, "permission_denied"), "{to:?}");
        served.assert_row("manage", "project:2", INSUFFICIENT);
        // On the Domain the administrator of a Project neither takes nor replaces.
        let above = served.change("u8", &domains, to.clone()).await;
        assert_eq!(code(&above), (403, "permission_denied"), "{to:?}");
        served.assert_row("manage", "domain:1", OUT_OF_SCOPE);
    }
    let nobody = json!("0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3");
    let rows = served.rows();
    for to in [Some(grant("user:6", "viewer", "project:2")), None] {
        assert_eq!(code(&served.change("u9", &nobody, to).await), (404, "relation_tuple_not_found"));
    }
    assert_eq!(served.rows(), rows, "nothing was decided about what is not there");
    let refused = served.create("u7", 2, grant("user:6", "viewer", "project:2")).await;
    assert_eq!(code(&refused), (403, "permission_denied"));
    served.assert_row("manage", "project:2", INSUFFICIENT);
    let refused = served.list("u99", "").await;
    assert_eq!(code(&refused), (403, "permission_denied"));
    served.assert_row("read", "project:2", OUT_OF_SCOPE);
    let refused = served.list("u99", "&cursor=x").await;
    assert_eq!(code(&refused), (400, "invalid_cursor"), "what is malformed is so for everybody");
    assert_eq!(served.ask("u9", "user:6", "act", "project:2").await, "allowed");
    assert_eq!(served.list("u9", "").await.1["items"][1]["subject"], json!(spelled("user:6")));
}
