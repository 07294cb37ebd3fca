//! State entries over HTTP and through the port for other contexts.

use std::io::{Read as _, Write as _};

use axum::body::Body;
use plexsphere_kernel::Actor;
use plexsphere_kernel::Clock as _;
use plexsphere_kernel::Subject;
use plexsphere_kernel::seams::{StateKind, StateRefusal, StateWrite};
use plexsphere_mesh::Puller;
use plexsphere_testkit::{eventually, logs};
use plexsphere_wire::NodeId;
use serde_json::{Value, json};

use crate::callers::{Told, ask, get};
use crate::world::{World, world};

pub(crate) fn own(node: NodeId) -> String {
    format!("nsk_{node}")
}

fn path(node: NodeId, key: &str) -> String {
    format!("/v1/nodes/{node}/state/reports/{key}")
}

async fn put_bytes(world: &World, node: NodeId, key: &str, (coding, body): (&str, Vec<u8>)) -> Told {
    let request = http::Request::put(path(node, key)).header("content-type", "application/json");
    let request = if coding.is_empty() { request } else { request.header("content-encoding", coding) };
    ask(world, request, (&own(node), Body::from(body))).await
}

pub(crate) async fn put(world: &World, node: NodeId, key: &str, body: Value) -> Told {
    put_bytes(world, node, key, ("", body.to_string().into_bytes())).await
}

pub(crate) async fn delete(world: &World, node: NodeId, key: &str) -> Told {
    ask(world, http::Request::delete(path(node, key)), (&own(node), Body::empty())).await
}

pub(crate) fn actor(world: &World) -> Actor {
    Actor::background(Subject::System(uuid::Uuid::from_u128(9)), world.clock.now())
}

fn write(node: NodeId, kind: StateKind, key: &str, value: Option<&str>) -> StateWrite {
    StateWrite { node, kind, key: key.to_owned(), value: value.map(str::to_owned) }
}

async fn platform(world: &World, writes: Vec<StateWrite>) -> Result<(), StateRefusal> {
    let mut tx = world.database.begin().await.unwrap();
    world.mesh.state_writer().write(&mut tx, &actor(world), writes).await?;
    tx.commit().await.unwrap();
    Ok(())
}

async fn count(world: &World, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&world.db.pool()).await.unwrap()
}

const REPORTS: &str = "SELECT count(*) FROM mesh.state_entries WHERE kind = 'report'";

async fn waiting_for_locks(world: &World, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually!(count(world, waiting).await >= sessions, "{sessions} sessions wait for a lock");
}

#[tokio::test]
async fn a_report_shows_in_both_mirrors_of_the_next_pull_and_is_told_to_nobody() {
    let world = world().await;
    let node = world.join().await;
    let events = world.events().await.len();
    let state = format!("/v1/nodes/{node}/state");
    world.clock.advance(60);
    get(&world, &state, &own(node)).await;
    for (key, body) in [
        ("b", json!({ "value": "", "workload_tag": " as it is " })),
        ("a.b_c-9", json!({ "value": "naïve \" \u{1}" })),
        ("b2", json!({ "value": "old", "workload_tag": "w" })),
        ("b2", json!({ "value": "new", "workload_tag": "" })),
    ] {
        let told = put(&world, node, key, body).await;
        assert_eq!((told.status, told.json()), (200, json!({ "accepted_at": world.clock.now(), "key": key })));
    }
    let expected = json!({ "metadata": [], "data": [], "reports": [
        { "key": "a.b_c-9", "value": "naïve \" \u{1}" },
        { "key": "b", "value": "", "workload_tag": " as it is " },
        { "key": "b2", "value": "new" },
    ] });
    let pulled = world.pull(node).await;
    assert_eq!(pulled, world.pull(node).await, "two pulls are byte-equal");
    let pulled: Value = serde_json::from_str(&pulled).unwrap();
    assert_eq!((&pulled["state"], &pulled["reports"]), (&expected, &expected));
    assert_eq!(world.events().await.len(), events);
    assert!(world.audit.taken().is_empty());
    world.mesh.heartbeats().flush_served().await.unwrap();
    put(&world, node, "c", json!({ "value": "x" })).await;
    world.clock.advance(60);
    assert!(!world.accept(vec![world.beat(node)]).await[0].reconcile, "its own report is no news to a Node");
    assert_eq!(delete(&world, node, "c").await.status, 204);
    assert_eq!(serde_json::from_str::<Value>(&world.pull(node).await).unwrap()["state"], expected);
    let other = world.join().await;
    assert!(world.pull(other).await.contains(r#""reports":{"metadata":[],"data":[],"reports":[]}"#));
}

#[tokio::test]
async fn a_report_is_refused_by_size_then_by_shape_and_changes_nothing() {
    let world = world().await;
    let node = world.join().await;
    let value = |length: usize| json!({ "value": "v".repeat(length) });
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let long = format!(r#"{{"value":"{}"}}"#, "v".repeat(32 * 1_024));
    for (key, coding, body) in [("a", "", long.clone().into_bytes()), ("A", "gzip", gzip(long.as_bytes()))] {
        let told = put_bytes(&world, node, key, (coding, body)).await;
        assert_eq!(told.refusal(), (413, "payload_too_large".into()), "{key} {coding}");
    }
    let invalid = (400, "invalid_report".to_owned());
    for key in ["A", "9", "a%20b", "a%2fb", "%C3%A4", "a%00", &"k".repeat(129)] {
        assert_eq!(put(&world, node, key, value(1)).await.refusal(), invalid, "{key}");
        assert_eq!(delete(&world, node, key).await.refusal(), (404, "report_not_found".into()), "{key}");
    }
    for body in [
        json!({}),
        json!([]),
        json!({ "value": null }),
        json!({ "value": 1 }),
        json!({ "value": "\u{0}" }),
        json!({ "value": "v", "workload_tag": null }),
        json!({ "value": "v", "key": "a" }),
        json!({ "value": "v", "workload_tag": "t".repeat(4_097) }),
        json!({ "value": "ä".repeat(2_049) }),
        value(4_097),
    ] {
        assert_eq!(put(&world, node, "a", body.clone()).await.refusal(), invalid, "{body}");
    }
    assert_eq!(put_bytes(&world, node, "a", ("", b"{\"value\":\"\xff\"}".to_vec())).await.refusal(), invalid);
    let text = http::Request::put(path(node, "a")).header("content-type", "text/plain");
    let told = ask(&world, text, (&own(node), Body::from(value(1).to_string()))).await;
    assert_eq!(told.refusal(), (415, "unsupported_media_type".into()));
    assert_eq!(count(&world, REPORTS).await, 0);
    // The largest report, as an agent escapes it.
    let escaped = format!(r#"{{"value":"{}"}}"#, r"\u0001".repeat(4_096));
    assert_eq!(put_bytes(&world, node, &"k".repeat(128), ("", escaped.into_bytes())).await.status, 200);
    let largest = json!({ "value": "ä".repeat(2_048), "workload_tag": "t".repeat(4_096) }).to_string();
    assert_eq!(put_bytes(&world, node, "a", ("gzip", gzip(largest.as_bytes()))).await.status, 200);
    assert_eq!(count(&world, REPORTS).await, 2);
}

#[tokio::test]
async fn only_a_live_node_itself_reports() {
    let world = world().await;
    let (node, other) = (world.join().await, world.join().await);
    for method in ["PUT", "DELETE"] {
        for (bearer, expected) in [(own(other), (403, "node_id_mismatch")), ("admin".to_owned(), (401, "unauthorized"))]
        {
            let request = http::Request::builder().method(method).uri(path(node, "a"));
            let request = request.header("content-type", "application/json");
            let told = ask(&world, request, (&bearer, Body::from(r#"{"value":"v"}"#))).await;
            assert_eq!(told.refusal(), (expected.0, expected.1.to_owned()), "{method} {bearer}");
        }
    }
    assert_eq!(delete(&world, node, "a").await.refusal(), (404, "report_not_found".into()));
    assert_eq!(put(&world, node, "a", json!({ "value": "v" })).await.status, 200);
    platform(&world, vec![write(node, StateKind::Data, "d", Some("v"))]).await.unwrap();
    world.leave(node).await;
    assert_eq!(put(&world, node, "a", json!({ "value": "v" })).await.refusal(), (404, "node_not_found".into()));
    assert_eq!(put(&world, node, "b", json!({ "value": "v" })).await.refusal(), (404, "node_not_found".into()));
    assert_eq!(delete(&world, node, "a").await.refusal(), (404, "report_not_found".into()));
    assert_eq!(count(&world, "SELECT count(*) FROM mesh.state_entries").await, 0, "entries end with their Node");
    assert_eq!(count(&world, "SELECT count(*) FROM mesh.state_versions").await, 0);
}

#[tokio::test]
async fn a_report_that_meets_the_end_of_its_node_leaves_nothing() {
    let world = world().await;
    let node = world.join().await;
    let mut ending = world.database.begin().await.unwrap();
    let reason = plexsphere_kernel::seams::LeaveReason::Operator;
    world.members.leave(&mut ending, node, reason, world.clock.now()).await.unwrap();
    let (told, ()) = tokio::join!(put(&world, node, "a", json!({ "value": "v" })), async {
        waiting_for_locks(&world, 1).await;
        ending.commit().await.unwrap();
    });
    assert_eq!(told.refusal(), (404, "node_not_found".into()));
    assert_eq!(count(&world, REPORTS).await, 0);
}

#[tokio::test]
async fn a_node_keeps_256_reports_and_may_overwrite_each() {
    let world = world().await;
    let node = world.join().await;
    let fill = "
        INSERT INTO mesh.state_entries (node_id, kind, key, value, written_at)
        SELECT $1, kind, 'k' || n, 'v', now() FROM generate_series(1, 300) n, unnest(ARRAY['data', 'report']) kind
        WHERE kind = 'data' OR n <= 255";
    sqlx::query(fill).bind(node.uuid()).execute(&world.db.pool()).await.unwrap();
    assert_eq!(put(&world, node, "k256", json!({ "value": "v" })).await.status, 200);
    let refused = put(&world, node, "k257", json!({ "value": "v" })).await;
    assert_eq!(refused.refusal(), (409, "report_quota_exceeded".into()));
    assert_eq!(put(&world, node, "k1", json!({ "value": "other" })).await.status, 200);
    assert_eq!(delete(&world, node, "k2").await.status, 204);
    assert_eq!(delete(&world, node, "k2").await.status, 404);
    assert_eq!(put(&world, node, "k257", json!({ "value": "v" })).await.status, 200);
    assert_eq!(count(&world, REPORTS).await, 256);
}

#[tokio::test]
async fn of_sixteen_new_reports_at_once_the_last_place_goes_to_one() {
    let world = world().await;
    let node = world.join().await;
    let fill = "
        INSERT INTO mesh.state_entries (node_id, kind, key, value, written_at)
        SELECT $1, 'report', 'k' || n, 'v', now() FROM generate_series(1, 255) n";
    sqlx::query(fill).bind(node.uuid()).execute(&world.db.pool()).await.unwrap();
    let mut holder = world.db.pool().begin().await.unwrap();
    let hold = "INSERT INTO mesh.state_versions (node_id, version) VALUES ($1, 1)";
    sqlx::query(hold).bind(node.uuid()).execute(&mut *holder).await.unwrap();
    let keys: Vec<String> = (0..16).map(|n| format!("new-{n}")).collect();
    let puts = keys.iter().map(|key| put(&world, node, key, json!({ "value": "v" })));
    let (told, ()) = tokio::join!(futures_util::future::join_all(puts), async {
        waiting_for_locks(&world, 8).await;
        holder.rollback().await.unwrap();
    });
    let taken = told.iter().filter(|told| told.status == 200).count();
    let refused = told.iter().filter(|told| told.refusal() == (409, "report_quota_exceeded".into())).count();
    assert_eq!((taken, refused), (1, 15));
    assert_eq!(count(&world, REPORTS).await, 256);
}

#[tokio::test]
async fn a_report_that_is_there_already_is_not_written_again() {
    let world = world().await;
    let node = world.join().await;
    let rows = "SELECT (SELECT string_agg(xmin::text, ' ') FROM mesh.state_entries)
                    || (SELECT string_agg(version::text, ' ') FROM mesh.state_versions)";
    let rows = async || sqlx::query_scalar::<_, String>(rows).fetch_one(&world.db.pool()).await.unwrap();
    let body = |tag: &str| json!({ "value": "v", "workload_tag": tag });
    put(&world, node, "a", body("t")).await;
    let before = rows().await;
    world.clock.advance(5);
    let told = put(&world, node, "a", body("t")).await;
    assert_eq!((told.status, &told.json()["accepted_at"]), (200, &json!(world.clock.now())));
    assert_eq!(rows().await, before);
    put(&world, node, "a", body("u")).await;
    assert_ne!(rows().await, before, "another tag is another report");
}

#[tokio::test]
async fn entries_are_read_once_per_change_and_compressed_as_they_are() {
    let world = world().await;
    let node = world.join().await;
    for n in 0..40 {
        let value: String = (0..2_000u32).map(|i| char::from(b'a' + u8::try_from((i * i + n) % 26).unwrap())).collect();
        put(&world, node, &format!("k{n}"), json!({ "value": value })).await;
    }
    let first = world.pull(node).await;
    // Without their rows, only a text read before can answer: the version has not moved.
    sqlx::query("DELETE FROM mesh.state_entries").execute(&world.db.pool()).await.unwrap();
    assert_eq!(world.pull(node).await, first);
    let packed = world.mesh.states().pull(node, Puller::Node, true).await.unwrap();
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert!(packed.gzip && packed.body.len() < first.len());
    assert_eq!(unpacked, first);
    put(&world, node, "new", json!({ "value": "v" })).await;
    let pulled: Value = serde_json::from_str(&world.pull(node).await).unwrap();
    assert_eq!(pulled["reports"]["reports"], json!([{ "key": "new", "value": "v" }]));
}

#[tokio::test]
async fn what_the_platform_writes_is_told_once_recorded_and_pulled() {
    let world = world().await;
    let mut nodes = [world.join().await, world.join().await];
    // Events come by Node id.
    nodes.sort_unstable();
    let [a, b] = nodes;
    world.clock.advance(60);
    for node in [a, b] {
        world.pull(node).await;
    }
    world.mesh.heartbeats().flush_served().await.unwrap();
    let reconciles = async |node| world.accept(vec![world.beat(node)]).await[0].reconcile;
    assert!(!reconciles(a).await);
    put(&world, a, "same", json!({ "value": "a report" })).await;
    let events = world.events().await.len();
    let writes = vec![
        write(a, StateKind::Data, "same", Some("1")),
        write(a, StateKind::Metadata, "same", Some("old")),
        write(b, StateKind::Metadata, "z", Some("of b")),
        write(a, StateKind::Metadata, "same", Some("new")),
        write(a, StateKind::Data, "absent", None),
        write(NodeId::mint(world.clock.now()), StateKind::Data, "k", Some("of nobody")),
    ];
    platform(&world, writes.clone()).await.unwrap();
    let told: Vec<(String, Value)> = world.events().await.split_off(events);
    let changes = [
        json!([{ "kind": "data", "key": "same", "op": "put" }, { "kind": "metadata", "key": "same", "op": "put" }]),
        json!([{ "kind": "metadata", "key": "z", "op": "put" }]),
    ];
    let expected: Vec<(String, Value)> = [a, b]
        .into_iter()
        .zip(&changes)
        .map(|(node, changed)| {
            ("node_state_updated".to_owned(), json!({ "node_id": node, "revision": 2, "changed": changed }))
        })
        .collect();
    assert_eq!(told, expected);
    let rows = world.audit.taken();
    let seen: Vec<_> = rows.iter().map(|row| (row.domain, row.relation.as_str(), row.object.id.clone())).collect();
    let row = |node: NodeId| (Some(world.domain), "node.state.write", node.to_string());
    assert_eq!(seen, [row(a), row(b)]);
    let pulled: Value = serde_json::from_str(&world.pull(a).await).unwrap();
    let entry = |value: &str| json!([{ "key": "same", "value": value }]);
    let block = json!({ "metadata": entry("new"), "data": entry("1"), "reports": entry("a report") });
    assert_eq!((&pulled["state"], &pulled["reports"]), (&block, &block));
    world.clock.advance(30);
    assert!(reconciles(b).await, "a lost event is made good");

    let events = world.events().await.len();
    platform(&world, writes).await.unwrap();
    assert_eq!((world.events().await.len(), world.audit.taken().len()), (events, 0), "nothing has changed");
    let mut tx = world.database.begin().await.unwrap();
    let writer = world.mesh.state_writer();
    writer.put(&mut tx, &actor(&world), (a, StateKind::Data, "k"), "v".to_owned()).await.unwrap();
    writer.delete(&mut tx, &actor(&world), (a, StateKind::Data, "same")).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(world.events().await.len(), events);
    platform(&world, vec![write(a, StateKind::Data, "same", None)]).await.unwrap();
    let changed = json!([{ "kind": "data", "key": "same", "op": "delete" }]);
    assert_eq!(world.events().await[events].1, json!({ "node_id": a, "revision": 3, "changed": changed }));
    let pulled: Value = serde_json::from_str(&world.pull(a).await).unwrap();
    assert_eq!((&pulled["state"]["data"], &pulled["state"]["reports"]), (&json!([]), &entry("a report")));
}

#[tokio::test]
async fn what_breaks_a_rule_is_not_written_for_the_platform_either() {
    let _logs = logs::guard();
    let world = world().await;
    let node = world.join().await;
    let good = write(node, StateKind::Data, "good", Some("v"));
    let too_long = "v".repeat(4_097);
    for bad in ["Bad", ""] {
        let writes = vec![good.clone(), write(node, StateKind::Data, bad, Some("v"))];
        assert!(matches!(platform(&world, writes).await, Err(StateRefusal::BadKey)), "{bad}");
    }
    for bad in ["\0", &too_long] {
        let writes = vec![good.clone(), write(node, StateKind::Data, "k", Some(bad))];
        assert!(matches!(platform(&world, writes).await, Err(StateRefusal::BadValue)));
    }
    assert_eq!(count(&world, "SELECT count(*) FROM mesh.state_entries").await, 0);
    assert!(!format!("{good:?}").contains('v'), "a value is in no log");
}
