use std::sync::Arc;
use std::time::Duration;

use plexsphere_kernel::relay::{Relay, RelayParts};
use plexsphere_kernel::seams::DomainEntries as _;
use plexsphere_kernel::tasks::{Task as _, Tasks, TasksContext};
use plexsphere_kernel::{AuditLog, EnvelopeSigner, Event, EventAudience, Outbox, Probes, SystemClock};
use plexsphere_signing::{KeyState, RotateError, SigningAnnouncer, SigningRetireSweeper, SigningRotation};
use plexsphere_testkit::{TestNats, eventually};
use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::{Envelope, EventType, parse_public_key};
use plexsphere_wire::signing::AnnouncementRequest;
use plexsphere_wire::subjects::{ANNOUNCE, EVENTS_STREAM};
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, now, rotate};

async fn append(rig: &Rig, domain: DomainId, n: u32) {
    let event = Event {
        domain: Some(domain),
        context: "mesh",
        name: "Happened",
        audience: EventAudience::Domain(EventType::NodeStateUpdated),
        payload: json!({ "n": n }),
    };
    let mut tx = rig.db.begin().await.unwrap();
    Outbox.append(&mut tx, event, now()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn relay(rig: &Rig, nats: &TestNats) -> Tasks {
    let parts = RelayParts {
        db: rig.db.clone(),
        bus: nats.client().await,
        signer: Arc::clone(&rig.signing) as Arc<dyn EnvelopeSigner>,
        audit: Arc::clone(&rig.audit) as Arc<dyn AuditLog>,
        clock: Arc::new(SystemClock),
        replicas: 1,
    };
    let context = TasksContext { db: rig.db.clone(), clock: Arc::new(SystemClock), probes: Probes::default() };
    let mut tasks = Tasks::new(context, &mut Registry::default(), CancellationToken::new());
    tasks.add(Arc::new(Relay::new(parts, &mut Registry::default())), Relay::schedule());
    tasks.serve(Arc::new(SigningAnnouncer::new(nats.client().await, Arc::clone(&rig.signing))));
    tasks.start();
    tasks
}

async fn published(nats: &TestNats, count: u64) -> Vec<Envelope> {
    let jetstream = nats.jetstream().await;
    eventually!(
        match jetstream.get_stream(EVENTS_STREAM).await {
            Ok(mut stream) => stream.info().await.unwrap().state.last_sequence >= count,
            Err(_) => false,
        },
        "{count} envelopes are published"
    );
    let stream = jetstream.get_stream(EVENTS_STREAM).await.unwrap();
    let mut all = Vec::new();
    for sequence in 1..=count {
        all.push(Envelope::parse(&stream.get_raw_message(sequence).await.unwrap().payload).unwrap());
    }
    all
}

#[tokio::test]
async fn what_waits_goes_out_under_the_old_key_with_the_rotation_and_everything_later_under_the_new_one() {
    let (rig, nats) = (Rig::new().await, plexsphere_testkit::nats().await);
    let domain = rig.domain().await;
    let old = rig.kid(domain).await;
    append(&rig, domain, 1).await;
    let rotated = rotate(&rig, domain, false).await.unwrap();
    append(&rig, domain, 2).await;
    assert_eq!(rig.kid(domain).await, old, "nothing is announced before it is on the stream");
    let _tasks = relay(&rig, &nats).await;
    let all = published(&nats, 3).await;
    let kids: Vec<_> = all.iter().map(|envelope| envelope.unsigned.key_id.as_str()).collect();
    assert_eq!(kids, [old.as_str(), old.as_str(), rotated.kid.as_str()]);
    assert_eq!(all[1].unsigned.event, EventType::SigningKeyRotated);
    let payload: Value = serde_json::from_str(&all[1].unsigned.payload).unwrap();
    assert_eq!(payload["key_id"], rotated.kid);
    assert_eq!(payload["previous_key_id"], old);

    let entry = rig.signing.domain_entry(domain).await.unwrap().unwrap();
    assert_eq!((entry.announced_kid.as_str(), entry.announced_seq), (rotated.kid.as_str(), 2));
    for envelope in &all {
        let key = entry.keys.iter().find(|key| key.kid == envelope.unsigned.key_id).unwrap();
        envelope.verify(&parse_public_key(&key.public_key).unwrap()).unwrap();
    }
    assert_eq!(payload["public_key"], entry.keys.iter().find(|key| key.kid == rotated.kid).unwrap().public_key);
}

#[tokio::test]
async fn a_repeated_rotation_row_keeps_its_id_and_the_new_key_stays_announced() {
    let (rig, nats) = (Rig::new().await, plexsphere_testkit::nats().await);
    let domain = rig.domain().await;
    let rotated = rotate(&rig, domain, false).await.unwrap();
    let tasks = relay(&rig, &nats).await;
    published(&nats, 1).await;
    eventually!(rig.kid(domain).await == rotated.kid, "the announced key moves");
    assert!(tasks.drain(Duration::from_secs(10)).await);
    drop(tasks);
    // As after a crash between publication and mark.
    let pool = rig.database.pool();
    sqlx::query("UPDATE kernel.outbox SET published_at = NULL WHERE wire_type IS NOT NULL")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("UPDATE signing.domains SET announced_kid = $1, announced_seq = 0")
        .bind(&rotated.previous_kid)
        .execute(&pool)
        .await
        .unwrap();
    let _tasks = relay(&rig, &nats).await;
    append(&rig, domain, 1).await;
    let all = published(&nats, 2).await;
    assert_eq!(all[1].unsigned.key_id, rotated.kid);
    assert_eq!(rig.signing.domain_entry(domain).await.unwrap().unwrap().announced_seq, 1);
}

#[tokio::test]
async fn a_second_rotation_in_the_transition_is_refused_and_forced_retires_the_older_key() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let first = rotate(&rig, domain, false).await.unwrap();
    assert!(matches!(rotate(&rig, domain, false).await, Err(RotateError::InTransition { .. })));
    let second = rotate(&rig, domain, true).await.unwrap();
    assert_eq!(second.previous_kid, first.kid);
    let states: Vec<String> = sqlx::query_scalar("SELECT state FROM signing.keys ORDER BY version")
        .fetch_all(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(states, ["retired", "previous", "current"]);
    let (one, two) = tokio::join!(rotate(&rig, domain, false), rotate(&rig, domain, false));
    assert!(one.is_err() && two.is_err());
    assert!(matches!(rotate(&rig, DomainId::mint(now()), false).await, Err(RotateError::NoKey)));
}

#[tokio::test]
async fn a_node_that_missed_two_rotations_is_announced_the_newest_key_under_its_pinned_one() {
    let (rig, nats) = (Rig::new().await, plexsphere_testkit::nats().await);
    let domain = rig.domain().await;
    let pinned = rig.kid(domain).await;
    let _tasks = relay(&rig, &nats).await;
    let first = rotate(&rig, domain, false).await.unwrap();
    eventually!(rig.kid(domain).await == first.kid, "the first rotation is announced");
    let client = nats.client().await;
    let ask = async |kid: &str| {
        let body = serde_json::to_vec(&AnnouncementRequest { domain, pinned_kid: kid.to_owned() }).unwrap();
        client.request(ANNOUNCE, body.into()).await.unwrap().payload
    };
    let verify = async |bytes: &[u8]| -> Value {
        let envelope = Envelope::parse(bytes).unwrap();
        assert_eq!(envelope.unsigned.key_id, pinned);
        let key: Vec<u8> = sqlx::query_scalar("SELECT public_key FROM signing.keys WHERE kid = $1")
            .bind(&pinned)
            .fetch_one(&rig.database.pool())
            .await
            .unwrap();
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
        envelope.verify(&key).unwrap();
        serde_json::from_str(&envelope.unsigned.payload).unwrap()
    };
    let in_window = verify(&ask(&pinned).await).await;
    assert_eq!((&in_window["key_id"], &in_window["previous_key_id"]), (&json!(first.kid), &json!(pinned)));
    assert!(in_window["transition_expires"].is_string());

    let second = rotate(&rig, domain, true).await.unwrap();
    eventually!(rig.kid(domain).await == second.kid, "the second rotation is announced");
    let past_window = verify(&ask(&pinned).await).await;
    assert_eq!(past_window["key_id"], json!(second.kid));
    // The pinned key was retired at once, so it is given no grace.
    assert!(past_window.get("previous_key_id").is_none() && past_window.get("transition_expires").is_none());
    assert!(ask(&second.kid).await.is_empty(), "the announced key needs no announcement");
    assert!(ask("did:web:elsewhere#x-1").await.is_empty());
}

#[tokio::test]
async fn the_sweeper_retires_a_key_whose_transition_is_over() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    rotate(&rig, domain, false).await.unwrap();
    let sweeper = SigningRetireSweeper::new(Arc::clone(&rig.signing));
    assert_eq!(sweeper.run().await.unwrap().done, 0);
    let past = now().minus(Duration::from_secs(1));
    sqlx::query("UPDATE signing.keys SET transition_expires = $1 WHERE state = 'previous'")
        .bind(past.inner())
        .execute(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(sweeper.run().await.unwrap().done, 1);
    assert!(rig.audit.0.lock().unwrap().contains(&"signing_key.retire".to_owned()));
    rotate(&rig, domain, false).await.unwrap();
}

#[tokio::test]
async fn keys_of_the_greatest_age_are_rotated_by_schedule_twenty_an_hour_and_never_in_a_transition() {
    let rig = Rig::new().await;
    let mut old = Vec::new();
    for _ in 0..21 {
        old.push(rig.domain().await);
    }
    let (young, in_transition) = (rig.domain().await, rig.domain().await);
    rotate(&rig, in_transition, false).await.unwrap();
    let aged = now().minus(Duration::from_secs(91 * 24 * 3_600));
    let age = "UPDATE signing.keys SET activated_at = $1 WHERE state = 'current' AND domain_id <> $2";
    sqlx::query(age).bind(aged.inner()).bind(young.uuid()).execute(&rig.database.pool()).await.unwrap();

    let rotation = SigningRotation::new(Arc::clone(&rig.signing));
    assert_eq!(rotation.run().await.unwrap().done, 20);
    assert_eq!(rotation.run().await.unwrap().done, 0, "the hour is full");
    let past = now().minus(Duration::from_secs(3_601));
    let earlier = "UPDATE signing.keys SET created_at = $1 WHERE version > 1";
    sqlx::query(earlier).bind(past.inner()).execute(&rig.database.pool()).await.unwrap();
    assert_eq!(rotation.run().await.unwrap().done, 1);
    for domain in old {
        let keys = rig.signing.keys(domain).await.unwrap();
        let states: Vec<_> = keys.iter().map(|key| (key.version, key.state, key.is_announced)).collect();
        assert_eq!(states, [(1, KeyState::Previous, true), (2, KeyState::Current, false)]);
    }
    assert_eq!(rig.signing.keys(young).await.unwrap().len(), 1);
    assert_eq!(rig.signing.keys(in_transition).await.unwrap().len(), 2);
    let announced = "SELECT count(*) FROM kernel.outbox WHERE wire_type = 'signing_key_rotated'";
    assert_eq!(sqlx::query_scalar::<_, i64>(announced).fetch_one(&rig.database.pool()).await.unwrap(), 22);
    let recorded = rig.audit.0.lock().unwrap().iter().filter(|action| *action == "signing_key.rotate").count();
    assert_eq!(recorded, 22);
}
