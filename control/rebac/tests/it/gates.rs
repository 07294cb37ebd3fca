//! What a gate makes of conditions, and of a database that does not answer.

use http::Method;
use plexsphere_kernel::Database;
use plexsphere_kernel::http::{Gate, Operation};
use plexsphere_rebac::RebacConfig;
use plexsphere_testkit::{logs, postgres_own};
use plexsphere_wire::DenialReason;
use serde_json::{Value, json};

use crate::served::{Served, code, grant, served, served_on, under};
use crate::world::{migrator, object, user, world_on};

const VIOLATED: Option<DenialReason> = Some(DenialReason::CaveatViolation);

fn names(served: &Served, caveat: &str) -> Vec<String> {
    let (_, names) = served.last_row();
    names.names().get(caveat).map(|names| names.iter().cloned().collect()).unwrap_or_default()
}

async fn give(served: &Served, subject: &str, name: &str, context: Value) {
    let (status, made) = served.create("u8", 2, under(grant(subject, "admin", "project:2"), name, context)).await;
    assert_eq!(status, 201, "{made}");
}

#[tokio::test]
async fn a_gate_knows_the_callers_address_itself_and_its_row_names_the_condition_without_its_values() {
    let served = served().await;
    give(&served, "user:6", "from_cidr", json!({ "allowed_cidrs": ["10.0.0.0/8"] })).await;
    // The tests call from 192.0.2.1. What the body says of an address is a condition to be stored and none that is met.
    let mut forged = grant("user:7", "viewer", "project:2");
    forged["caveat_context"] = json!({ "client_ip": "10.1.1.1" });
    let refused = served.create("u6", 2, forged).await;
    assert_eq!((code(&refused), &refused.1["reason"]), ((403, "permission_denied"), &json!("caveat_violation")));
    served.assert_row("manage", "project:2", VIOLATED);
    assert_eq!(names(&served, "from_cidr"), ["allowed_cidrs", "client_ip"]);
    assert!(!format!("{:?}", served.last_row().1).contains("10."), "{:?}", served.last_row());
}

#[tokio::test]
async fn only_a_sign_in_of_its_class_meets_a_demand_on_it() {
    let served = served().await;
    give(&served, "user:6", "requires_assurance", json!({ "any_acr": ["gold"] })).await;
    for token in ["t6", "u6"] {
        let refused = served.list(token, "").await;
        assert_eq!((code(&refused), &refused.1["reason"]), ((403, "permission_denied"), &json!("caveat_violation")));
        served.assert_row("read", "project:2", VIOLATED);
        assert_eq!(names(&served, "requires_assurance"), ["acr", "any_acr"], "{token}");
    }
    let rows = served.rows();
    assert_eq!(served.list("g6", "").await.0, 200);
    assert_eq!(served.rows(), rows + 2, "the grant that hangs on a condition, and the list");
    served.assert_row("relation-tuple.list", "project:2", None);
    let rebac_rows = served.chains("read");
    assert_eq!(rebac_rows.len(), 3, "{rebac_rows:?}");
    assert_eq!(served.create("g6", 2, grant("user:7", "viewer", "project:2")).await.0, 201);
}

#[tokio::test]
async fn a_gate_that_asks_for_what_the_schema_does_not_have_is_not_admitted() {
    let served = served().await;
    served.rebac.admit(&served.rebac.operations()).unwrap();
    let gate = |id: &'static str, gate: Gate| {
        Operation::new(id, Method::GET, "/x", gate).handler(|_| async { unreachable!("it is never served") })
    };
    let known = gate("Known", Gate::AfterRead { relation: "deploy", kind: "project" });
    let unknown = gate("Unknown", Gate::AfterRead { relation: "deploy", kind: "domain" });
    let refused = served.rebac.admit(&[known, unknown]).unwrap_err();
    assert_eq!((refused.operation, refused.kind, refused.permission), ("Unknown", "domain", "deploy"));
}

#[tokio::test]
async fn nothing_is_decided_from_memory_while_the_database_is_merely_slow() {
    let served = served().await;
    served.logs.expect("a decision cannot be made");
    served.logs.expect("the relation tuples cannot be confirmed");
    assert_eq!(served.list("u9", "").await.0, 200);
    let mut slow = served.world.db.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE rebac.generations IN ACCESS EXCLUSIVE MODE").execute(&mut *slow).await.unwrap();
    // User 9 might have lost the right meanwhile.
    let asked = served.rebac.authorizer().check(&user(9), "read", &object("project:2")).await;
    assert!(asked.is_err(), "{asked:?}");
    assert_eq!(code(&served.list("u9", "").await), (503, "authz_unavailable"));
    let check = json!({"subject": "platform:plexsphere#read", "relation": "read", "resource": "platform:plexsphere"});
    let refused = served.call("u9", Method::POST, "/v1/authz/check", Some(check)).await;
    assert_eq!(code(&refused), (503, "authz_unavailable"));
    slow.rollback().await.unwrap();
    assert_eq!(served.list("u9", "").await.0, 200);
}

#[tokio::test]
async fn without_a_database_a_recent_read_passes_its_gate_marked_and_31_s_later_none_does() {
    let logs = logs::guard();
    logs.expect("a decision cannot be made");
    logs.expect("the database cannot be reached");
    let mut server = postgres_own().await;
    let db = server.database(migrator()).await;
    let database = Database::connect(db.url(), 4).await.unwrap();
    let served = served_on(logs, world_on(db, database), RebacConfig::default()).await;
    assert_eq!(served.list("u9", "").await.0, 200);
    server.kill9().await;
    served.world.clock.advance(29);
    // Behind the gate there is no page to be had.
    assert_eq!(code(&served.list("u9", "").await), (503, "datastore_unavailable"));
    served.assert_row("read", "project:2", None);
    assert!(served.last_row().1.names()["stale_cache"].is_empty());
    let refused = served.create("u9", 2, grant("user:6", "viewer", "project:2")).await;
    assert_eq!(code(&refused), (503, "authz_unavailable"), "nothing is changed on a memory");
    served.world.clock.advance(2);
    assert_eq!(code(&served.list("u9", "").await), (503, "authz_unavailable"));
    server.restart().await;
}
