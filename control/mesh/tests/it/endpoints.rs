use std::io::Write as _;
use std::time::Duration;

use plexsphere_kernel::seams::ReachabilityPolicy;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_kernel::{Clock as _, ObjectRef, Outcome, Subject};
use plexsphere_mesh::{FallbackFill, MeshConfig, PeerEndpointSweeper, Puller};
use plexsphere_testkit::logs;
use plexsphere_wire::{DenialReason, NodeId, Timestamp};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::callers::{gates, watched};
use crate::world::{DEPLOYMENT, World, world};

/// An answer: status, and code or body.
type Answer = (u16, Value);

async fn send(world: &World, node: NodeId, body: Vec<u8>, encoding: Option<&str>) -> Answer {
    let headers = [("content-type", Some("application/json")), ("content-encoding", encoding)];
    send_with(world, node, body, &headers).await
}

async fn send_with(world: &World, node: NodeId, body: Vec<u8>, headers: &[(&str, Option<&str>)]) -> Answer {
    let mut request =
        http::Request::put(format!("/v1/nodes/{node}/endpoint")).header("authorization", format!("Bearer nsk_{node}"));
    for (name, value) in headers.iter().filter_map(|(name, value)| value.map(|value| (*name, value))) {
        request = request.header(name, value);
    }
    let request = request.body(axum::body::Body::from(body)).unwrap();
    let response = watched(world.mesh.operations(), &gates(world)).oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    (status, if status == 200 { body } else { body["code"].clone() })
}

fn report(endpoint: &str, nat_type: &str, reported_at: Timestamp) -> Vec<u8> {
    json!({ "endpoint": endpoint, "nat_type": nat_type, "reported_at": reported_at }).to_string().into_bytes()
}

impl World {
    async fn put(&self, node: NodeId, endpoint: &str, nat_type: &str) -> Answer {
        send(self, node, report(endpoint, nat_type, self.clock.now()), None).await
    }

    async fn put_at(&self, node: NodeId, reported_at: Timestamp) -> Answer {
        send(self, node, report("192.0.2.1:51820", "full_cone", reported_at), None).await
    }

    /// The payloads of the endpoint events so far.
    async fn told(&self) -> Vec<Value> {
        let events = self.events().await.into_iter().filter(|(name, _)| name == "peer_endpoint_changed");
        events.map(|(_, payload)| payload["peers"][0].clone()).collect()
    }

    async fn mesh_version(&self) -> i64 {
        sqlx::query_scalar("SELECT mesh_version FROM mesh.domains").fetch_one(&self.db.pool()).await.unwrap()
    }

    async fn sweep(&self) -> u64 {
        self.mesh.endpoint_sweeper().run().await.unwrap().done
    }

    /// What `by` is to program for its one peer.
    async fn programmed(&self, by: NodeId) -> Value {
        serde_json::from_str::<Value>(&self.pull(by).await).unwrap()["peers"][0]["fallback_endpoint"].clone()
    }
}

fn refused(status: u16, code: &str) -> Answer {
    (status, json!(code))
}

#[tokio::test]
async fn a_report_is_told_once_and_the_same_again_only_keeps_it_fresh() {
    let _logs = logs::guard();
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    let version = world.mesh_version().await;
    let (status, answer) = world.put(a, "192.0.2.1:51820", "full_cone").await;
    assert_eq!(status, 200);
    assert_eq!(answer, json!({ "accepted_at": "2027-01-15T08:00:00Z", "stale_after": "2027-01-15T08:05:00Z" }));
    let told = json!({
        "node_id": a, "endpoint": "192.0.2.1:51820", "nat_type": "full_cone", "stale": false,
        "fallback_endpoint": "192.0.2.1:51820",
    });
    assert_eq!(world.told().await, [told]);
    assert_eq!(world.mesh_version().await, version + 1);
    assert_eq!(world.programmed(b).await, "192.0.2.1:51820");

    world.clock.advance(60);
    let (status, answer) = world.put(a, "192.0.2.1:51820", "full_cone").await;
    assert_eq!((status, &answer["stale_after"]), (200, &json!("2027-01-15T08:06:00Z")));
    assert_eq!((world.told().await.len(), world.mesh_version().await), (1, version + 1));
    // Fresh for another minute by that.
    world.clock.advance(299);
    assert_eq!(world.sweep().await, 0);

    for (changes, (endpoint, nat)) in
        (2..).zip([("192.0.2.1:51821", "full_cone"), ("192.0.2.2:51821", "full_cone"), ("192.0.2.2:51821", "unknown")])
    {
        assert_eq!(world.put(a, endpoint, nat).await.0, 200);
        assert_eq!((world.told().await.len(), world.mesh_version().await), (changes, version + 1 + changes as i64 - 1));
        assert_eq!(world.programmed(b).await, endpoint);
    }
    let rows = world.audit.take();
    assert_eq!(rows.len(), 4);
    for (row, _) in rows {
        assert_eq!((row.relation.as_str(), row.outcome), ("node.endpoint", Outcome::Granted));
        assert_eq!((row.subject, row.object, row.domain), (Subject::Node(a), ObjectRef::node(a), Some(world.domain)));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_reported_again_goes_stale_once_and_comes_back() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    world.put(a, "192.0.2.1:51820", "full_cone").await;
    world.clock.advance(299);
    assert_eq!(world.sweep().await, 0);
    world.clock.advance(1);
    let version = world.mesh_version().await;
    assert_eq!((world.sweep().await, world.sweep().await), (1, 0));
    let told = world.told().await;
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], json!({ "node_id": a, "endpoint": null, "nat_type": "full_cone", "stale": true }));
    assert_eq!(world.mesh_version().await, version + 1);
    assert_eq!(world.programmed(b).await, Value::Null);

    assert_eq!(world.put(a, "192.0.2.1:51820", "full_cone").await.0, 200);
    let told = world.told().await;
    assert_eq!((told.len(), &told[2]["endpoint"], &told[2]["stale"]), (3, &json!("192.0.2.1:51820"), &json!(false)));
    assert_eq!(world.programmed(b).await, "192.0.2.1:51820");
}

#[tokio::test]
async fn a_sweep_takes_no_more_than_its_batch_and_counts_once_per_domain() {
    let world = world().await;
    world.join().await;
    let fill = "
        WITH peers AS (
            INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
            SELECT gen_random_uuid(), gen_random_uuid(), $1, $1, decode(lpad(to_hex(n), 64, '0'), 'hex'),
                   '100.65.0.0'::inet + n, now(), now() FROM generate_series(1, 700) n
            RETURNING peer_id
        )
        INSERT INTO mesh.endpoints (peer_id, host, port, nat_type, reported_at, accepted_at, stale_after)
        SELECT peer_id, '192.0.2.1', 1, 'unknown', $2, $2, $2 FROM peers";
    let (domain, now) = (world.domain.uuid(), world.clock.now().inner());
    sqlx::query(fill).bind(domain).bind(now).execute(&world.db.pool()).await.unwrap();
    let version = world.mesh_version().await;
    let sweeper = world.mesh.endpoint_sweeper();
    assert_eq!(sweeper.kind().probe(), Some("mesh-endpoint-sweeper"));
    let schedule = PeerEndpointSweeper::SCHEDULE;
    assert_eq!((schedule.period, schedule.patience), (Duration::from_secs(15), 6));
    let first = sweeper.run().await.unwrap();
    assert_eq!((first.done, first.again_in), (500, Some(Duration::ZERO)));
    let second = world.mesh.endpoint_sweeper().run().await.unwrap();
    assert_eq!((second.done, second.again_in), (200, None));
    assert_eq!((world.told().await.len(), world.mesh_version().await), (700, version + 2));
}

#[tokio::test]
async fn what_is_no_endpoint_or_no_report_changes_nothing() {
    let world = world().await;
    let a = world.join().await;
    let mut tx = world.database.begin().await.unwrap();
    let pool = "100.64.0.0/10".parse().unwrap();
    world.members.set_policy(&mut tx, world.domain, ReachabilityPolicy::default(), pool).await.unwrap();
    tx.commit().await.unwrap();
    for endpoint in [
        "127.0.0.1:1",
        "169.254.1.1:5",
        "[::]:9",
        "host:0",
        "192.0.2.1:0",
        "example.org:51820",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "[fe80::1%eth0]:1",
        "[::ffff:192.0.2.1]:1",
        "",
        "100.64.0.9:51820",
    ] {
        assert_eq!(world.put(a, endpoint, "unknown").await, refused(400, "endpoint_unparseable"), "{endpoint}");
    }
    let now = world.clock.now();
    let malformed = [
        "{".to_owned(),
        "[]".to_owned(),
        json!({ "endpoint": "192.0.2.1:1", "nat_type": "unknown" }).to_string(),
        json!({ "endpoint": "192.0.2.1:1", "reported_at": now }).to_string(),
        json!({ "nat_type": "unknown", "reported_at": now }).to_string(),
        json!({ "endpoint": "192.0.2.1:1", "nat_type": "cone", "reported_at": now }).to_string(),
        json!({ "endpoint": "192.0.2.1:1", "nat_type": "unknown", "reported_at": "yesterday" }).to_string(),
        json!({ "endpoint": "192.0.2.1:1", "nat_type": "unknown", "reported_at": now, "more": 1 }).to_string(),
        json!({ "endpoint": null, "nat_type": "unknown", "reported_at": now }).to_string(),
    ];
    for body in malformed {
        let answer = send(&world, a, body.clone().into_bytes(), None).await;
        assert_eq!(answer, refused(400, "malformed_endpoint_request"), "{body}");
    }
    assert!(world.told().await.is_empty() && world.audit.take().is_empty());
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mesh.endpoints").fetch_one(&world.db.pool()).await.unwrap();
    assert_eq!(kept, 0);
    // What the report says is judged before what it is about.
    let stranger = NodeId::mint(now);
    assert_eq!(world.put(stranger, "host:0", "unknown").await, refused(400, "endpoint_unparseable"));
    assert_eq!(world.put(stranger, "100.64.0.9:51820", "unknown").await, refused(400, "endpoint_unparseable"));
    assert_eq!(world.put(stranger, "192.0.2.1:1", "unknown").await, refused(404, "endpoint_peer_not_found"));
    world.leave(a).await;
    assert_eq!(world.put(a, "192.0.2.1:1", "unknown").await, refused(404, "endpoint_peer_not_found"));
}

#[tokio::test]
async fn a_body_is_measured_inflated_and_before_it_is_decoded() {
    let world = world().await;
    let a = world.join().await;
    let gzip = |body: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let large = vec![b'x'; 5_000];
    let packed = gzip(&large);
    assert!(packed.len() < 100);
    assert_eq!(send(&world, a, large, None).await, refused(413, "endpoint_body_too_large"));
    assert_eq!(send(&world, a, packed, Some("gzip")).await, refused(413, "endpoint_body_too_large"));
    let mut good = report("192.0.2.1:51820", "full_cone", world.clock.now());
    good.resize(4_096, b' ');
    assert_eq!(send(&world, a, gzip(&good), Some("gzip")).await.0, 200);
    let cut = gzip(&good);
    let cut = cut[..cut.len() - 4].to_vec();
    assert_eq!(send(&world, a, cut, Some("gzip")).await, refused(400, "malformed_endpoint_request"));
    let text = [("content-type", Some("text/plain"))];
    assert_eq!(send_with(&world, a, good, &text).await, refused(415, "unsupported_media_type"));
}

#[tokio::test]
async fn only_the_node_itself_reports() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    let body = report("192.0.2.1:51820", "full_cone", world.clock.now());
    let put = async |bearer: Option<String>| {
        let mut request =
            http::Request::put(format!("/v1/nodes/{a}/endpoint")).header("content-type", "application/json");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let request = request.body(axum::body::Body::from(body.clone())).unwrap();
        let response = watched(world.mesh.operations(), &gates(&world)).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap()["code"].clone())
    };
    assert_eq!(put(None).await, refused(401, "unauthorized"));
    assert_eq!(put(Some(format!("nsk_{b}"))).await, refused(403, "node_id_mismatch"));
    assert!(world.told().await.is_empty());
    assert_eq!(put(Some(format!("nsk_{a}"))).await.0, 200);
}

#[tokio::test]
async fn a_clock_too_far_off_is_refused_and_audited_once_a_minute() {
    let world = world().await;
    let a = world.join().await;
    let now = world.clock.now();
    let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
    for far in [now.plus(minute + second), now.minus(minute + second)] {
        assert_eq!(world.put_at(a, far).await, refused(400, "endpoint_clock_skew"));
    }
    let rows = world.audit.take();
    assert_eq!(rows.len(), 1, "one row a minute");
    assert_eq!(rows[0].0.relation, "node.endpoint");
    assert_eq!(rows[0].0.outcome, Outcome::Denied(DenialReason::CaveatViolation));
    let reason = |row: &plexsphere_kernel::audit::CaveatNames| row.names().keys().cloned().collect::<Vec<_>>();
    assert_eq!(reason(&rows[0].1), ["reported_at_outside_max_endpoint_skew_window"]);
    assert_eq!(world.put_at(a, now.minus(minute)).await.0, 200);
    assert_eq!(world.put_at(a, now.plus(minute)).await.0, 200);
    world.audit.take();

    // Both reasons have one code, and share the row of the minute.
    sqlx::query("UPDATE mesh.domains SET endpoint_ttl_ms = 30000").execute(&world.db.pool()).await.unwrap();
    world.clock.advance(60);
    let late = world.clock.now().minus(Duration::from_secs(31));
    assert_eq!(world.put_at(a, late).await, refused(400, "endpoint_clock_skew"));
    assert_eq!(world.put_at(a, now).await, refused(400, "endpoint_clock_skew"));
    let rows = world.audit.take();
    assert_eq!(
        (rows.len(), reason(&rows[0].1)),
        (1, vec!["reported_at_older_than_per_domain_endpoint_ttl".to_owned()])
    );
    // No skew hides that the Node has no Peer, unless it is the clock's.
    let stranger = NodeId::mint(now);
    assert_eq!(world.put_at(stranger, late).await, refused(404, "endpoint_peer_not_found"));
    let (status, answer) = world.put(a, "192.0.2.9:1", "unknown").await;
    assert_eq!((status, &answer["stale_after"]), (200, &json!("2027-01-15T08:01:30Z")));
}

#[tokio::test]
async fn a_report_older_than_the_last_is_passed_over() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    let (_, first) = world.put(a, "192.0.2.1:51820", "full_cone").await;
    let before = world.clock.now().minus(Duration::from_secs(1));
    world.clock.advance(5);
    for older in ["192.0.2.1:51820", "192.0.2.7:7"] {
        let answer = send(&world, a, report(older, "symmetric", before), None).await;
        assert_eq!(answer, (200, first.clone()));
    }
    assert_eq!((world.told().await.len(), world.programmed(b).await), (1, json!("192.0.2.1:51820")));
}

#[tokio::test]
async fn what_others_program_depends_on_the_nat_and_the_setting() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    assert_eq!(world.put(a, "192.0.2.1:51820", "symmetric").await.0, 200);
    assert_eq!(world.told().await[0].get("fallback_endpoint"), None);
    assert_eq!(world.programmed(b).await, Value::Null);
    assert_eq!(world.put(a, "[2001:db8::1]:51820", "restricted").await.0, 200);
    assert_eq!(world.programmed(b).await, "[2001:db8::1]:51820");
    let joined = world.try_join(world.joining("100.64.0.0/10")).await.unwrap();
    let snapshot = joined.peers.iter().find(|peer| peer.node_id == a).unwrap();
    assert_eq!(snapshot.fallback_endpoint.as_deref(), Some("[2001:db8::1]:51820"));
    let config = MeshConfig { fallback_fill: FallbackFill::BridgeOnly, ..MeshConfig::new(DEPLOYMENT) };
    let pulled = world.replica(config).states().pull(b, Puller::Node, false).await.unwrap().body;
    assert!(!String::from_utf8(pulled).unwrap().contains("fallback_endpoint"));
}

#[tokio::test]
async fn a_peer_that_ends_between_check_and_write_is_gone() {
    let world = world().await;
    let a = world.join().await;
    for has_endpoint in [false, true] {
        let a = if has_endpoint { world.join().await } else { a };
        if has_endpoint {
            assert_eq!(world.put(a, "192.0.2.1:51820", "full_cone").await.0, 200);
        }
        let told = world.told().await.len();
        let mut leaving = world.database.begin().await.unwrap();
        let reason = plexsphere_kernel::seams::LeaveReason::Operator;
        world.members.leave(&mut leaving, a, reason, world.clock.now()).await.unwrap();
        let finish = async {
            world.waiting_for_locks(1).await;
            leaving.commit().await.unwrap();
        };
        let (answer, ()) = tokio::join!(world.put(a, "192.0.2.1:51820", "full_cone"), finish);
        assert_eq!(answer, refused(410, "endpoint_peer_gone"));
        assert_eq!(world.told().await.len(), told);
    }
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM mesh.endpoints").fetch_one(&world.db.pool()).await.unwrap();
    assert_eq!(kept, 0);
}

/// The sweeper has marked the endpoint and not committed: the same report is a return from staleness, not a refresh.
#[tokio::test]
async fn a_report_that_waits_for_the_sweep_is_told_behind_the_tombstone() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    world.put(a, "192.0.2.1:51820", "full_cone").await;
    world.clock.advance(300);
    // The sweep reaches the Domain's row last, and waits there with the endpoint in hand.
    let mut holder = world.database.begin().await.unwrap();
    world.members.request_reconcile(&mut holder, world.domain, world.clock.now()).await.unwrap();
    let release = async {
        world.waiting_for_locks(1).await;
        let ((status, _), ()) = tokio::join!(world.put(a, "192.0.2.1:51820", "full_cone"), async {
            world.waiting_for_locks(2).await;
            holder.commit().await.unwrap();
        });
        assert_eq!(status, 200);
    };
    let (swept, ()) = tokio::join!(world.sweep(), release);
    assert_eq!(swept, 1);
    let stale: Vec<Value> = world.told().await.iter().map(|peer| peer["stale"].clone()).collect();
    assert_eq!(stale, [json!(false), json!(true), json!(false)]);
    assert_eq!(world.programmed(b).await, "192.0.2.1:51820");
}

#[tokio::test]
async fn racing_reports_of_one_node_leave_the_newest() {
    let world = world().await;
    let (a, b) = (world.join().await, world.join().await);
    let now = world.clock.now();
    let body = |second: u64| {
        report(&format!("192.0.2.1:{}", 1_000 + second), "unknown", now.plus(Duration::from_secs(second)))
    };
    let answers = (0..12).map(|second| send(&world, a, body(second), None));
    for (status, _) in futures_util::future::join_all(answers).await {
        assert_eq!(status, 200);
    }
    assert_eq!(world.programmed(b).await, "192.0.2.1:1011");
}
