use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use plexsphere_testkit as testkit;
use plexsphere_wire::directory::CredentialState;
use plexsphere_wire::envelope::EventType;
use plexsphere_wire::intake::{EVENT_GATEWAY, SystemIntake};
use plexsphere_wire::sse::{Item, Parser};
use plexsphere_wire::{DomainId, subjects};
use reqwest::Response;

use crate::harness::{self, Rig, browser, now, rig, send};

/// A stream as an agent reads it.
struct Reader {
    response: Response,
    parser: Parser,
    items: Vec<Item>,
}

impl Reader {
    async fn next(&mut self) -> Option<Item> {
        loop {
            if !self.items.is_empty() {
                return Some(self.items.remove(0));
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await;
            let chunk = chunk.expect("something arrives").ok()??;
            self.items = self.parser.feed(&chunk);
        }
    }

    async fn next_id(&mut self) -> u64 {
        loop {
            match self.next().await.expect("a frame") {
                Item::Frame { id, .. } => return id.parse().unwrap(),
                Item::Comment(_) => {}
            }
        }
    }
}

fn ask(rig: &Rig) -> reqwest::RequestBuilder {
    browser().get(rig.path("events")).header("authorization", rig.bearer())
}

async fn open(rig: &Rig, cursor: Option<u64>) -> Reader {
    let mut request = ask(rig);
    if let Some(cursor) = cursor {
        request = request.header("last-event-id", cursor.to_string());
    }
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["cache-control"], "no-cache");
    let mut reader = Reader { response, parser: Parser::default(), items: Vec::new() };
    assert_eq!(reader.next().await, Some(Item::Comment("ok".into())));
    reader
}

#[tokio::test]
async fn a_cursor_resumes_exactly_once_and_in_order_and_none_tails() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let (own, all) = (subjects::node_events(rig.domain, rig.node.node), subjects::domain_events(rig.domain));
    let mut tail = open(&rig, None).await;
    let mut sent = Vec::new();
    for round in 0..6 {
        let subject = if round % 2 == 0 { own.clone() } else { all.clone() };
        sent.push(rig.publish(subject, EventType::PeerRegistered).await);
    }
    for sequence in &sent {
        assert_eq!(tail.next_id().await, *sequence);
    }
    let mut resumed = open(&rig, Some(sent[1])).await;
    for sequence in &sent[2..] {
        assert_eq!(resumed.next_id().await, *sequence);
    }
    let live = rig.publish(own, EventType::NodeStateUpdated).await;
    assert_eq!(resumed.next_id().await, live);
    assert_eq!(tail.next_id().await, live);
}

#[tokio::test]
async fn a_cursor_that_names_nothing_is_refused() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    for bad in ["-1", "abc", "1.5", "9223372036854775808", "1000", "+1"] {
        let answer = send(ask(&rig).header("last-event-id", bad)).await;
        assert_eq!(answer.status, 400, "{bad}");
        assert_eq!(answer.json()["code"], "invalid_last_event_id");
    }
}

#[tokio::test]
async fn a_forged_message_is_dropped_and_recorded_and_the_next_one_flows() {
    let logs = testkit::logs::guard();
    logs.expect("envelope rejected");
    let rig = rig(|_| {}).await;
    let mut stream = open(&rig, None).await;
    let subject = subjects::domain_events(rig.domain);
    let forger = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    rig.publish_signed(subject.clone(), EventType::PolicyUpdated, &forger).await;
    let elsewhere = subjects::domain_events(DomainId::mint(now()));
    rig.publish(elsewhere, EventType::PolicyUpdated).await;
    let good = rig.publish(subject, EventType::PolicyUpdated).await;
    assert_eq!(stream.next_id().await, good);
    assert!(logs.saw("envelope rejected"));
    for (place, object) in [(1, format!("{}/signature", good - 2)), (2, format!("{}/scope", good - 1))] {
        let row: SystemIntake = serde_json::from_slice(&rig.audit_row(place).await).unwrap();
        assert_eq!((row.domain, row.subject, row.repeated), (None, EVENT_GATEWAY, 0));
        assert_eq!((row.relation.as_str(), row.object_type.as_str()), ("event_bus.envelope_rejected", "envelope"));
        assert_eq!(row.object_id, object);
    }
}

#[tokio::test]
async fn a_flood_under_unknown_keys_costs_one_wait_and_an_old_message_none() {
    let logs = testkit::logs::guard();
    logs.expect("envelope rejected");
    let rig = rig(|_| {}).await;
    let mut stream = open(&rig, None).await;
    let subject = subjects::domain_events(rig.domain);
    let begun = std::time::Instant::now();
    let old = now().minus(Duration::from_secs(6));
    for round in 0..40 {
        let kid = format!("k-old-{round}");
        rig.publish_under(&kid, subject.clone(), EventType::PolicyUpdated, (&rig.key, old)).await;
        rig.publish_under("k-9", subject.clone(), EventType::PolicyUpdated, (&rig.key, now())).await;
    }
    let good = rig.publish(subject.clone(), EventType::PolicyUpdated).await;
    assert_eq!(stream.next_id().await, good);
    // Eighty waits of half a second each would be forty seconds; one is left, and a slow machine's while beside it.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_idle_stream_hears_keep_alives_and_ends_at_the_drain() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.events.keep_alive_millis = 300).await;
    let mut stream = open(&rig, None).await;
    for _ in 0..3 {
        assert_eq!(stream.next().await, Some(Item::Comment("keep-alive".into())));
    }
    rig.cancel.cancel();
    while stream.next().await.is_some() {}
}

#[tokio::test]
async fn a_drain_closes_streams_evenly_and_none_loses_an_event() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.events.drain_seconds = 1).await;
    let mut readers = Vec::new();
    for _ in 0..10 {
        // Operators: a Node may have two streams only.
        let request = browser().get(rig.path("events")).header("authorization", "Bearer pat_good");
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        readers.push(Reader { response, parser: Parser::default(), items: Vec::new() });
    }
    let subject = subjects::domain_events(rig.domain);
    let mut before = Vec::new();
    for _ in 0..3 {
        before.push(rig.publish(subject.clone(), EventType::PeerRegistered).await);
    }
    let queued = || rig.metrics().contains("plexsphere_edge_frames_queued_total 30\n");
    testkit::eventually!(queued(), "every event waits for every stream");
    let applied = readers[0].next_id().await;
    assert_eq!(applied, before[0]);
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let begun = std::time::Instant::now();
    rig.cancel.cancel();
    for (number, mut reader) in readers.into_iter().enumerate() {
        let ended = ended.clone();
        tokio::spawn(async move {
            let mut heard = if number == 0 { vec![applied] } else { Vec::new() };
            while let Some(item) = reader.next().await {
                if let Item::Frame { id, .. } = item {
                    heard.push(id.parse::<u64>().unwrap());
                }
            }
            ended.send((begun.elapsed(), heard)).unwrap();
        });
    }
    drop(ended);
    let (mut during, mut at, mut heard_late) = (None, Vec::new(), 0);
    while let Some((elapsed, heard)) = ends.recv().await {
        assert_eq!(heard[..3], before, "what waited was given");
        match during {
            // The bus goes on while the edge drains: who is still open hears it.
            None => during = Some(rig.publish(subject.clone(), EventType::PeerRegistered).await),
            Some(late) if heard.len() > 3 => {
                assert_eq!(heard[3..], [late]);
                heard_late += 1;
            }
            Some(_) => {}
        }
        at.push(elapsed);
    }
    assert_eq!(at.len(), 10);
    assert!(heard_late > 0);
    at.sort();
    for (number, elapsed) in at.iter().enumerate() {
        let due = Duration::from_millis(100) * u32::try_from(number).unwrap();
        assert!(*elapsed + Duration::from_millis(20) >= due, "stream {number} was closed early: {at:?}");
    }
}

#[tokio::test]
async fn a_revocation_ends_the_stream_and_the_reconnect_is_refused() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let mut stream = open(&rig, None).await;
    let mut revoked = rig.node.clone();
    revoked.credentials[0].state = CredentialState::Revoked;
    harness::put_node(&rig.store, &revoked).await;
    let ended = tokio::time::timeout(Duration::from_secs(5), async { while stream.next().await.is_some() {} });
    ended.await.expect("closed within five seconds");
    assert_eq!(ask(&rig).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn a_node_that_is_missing_after_a_new_listing_hears_nothing_more() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let mut stream = open(&rig, None).await;
    // A bucket restored without the Node: no deletion is ever published.
    rig.jetstream.delete_key_value(subjects::DIRECTORY_BUCKET).await.unwrap();
    let bucket = async_nats::jetstream::kv::Config { bucket: subjects::DIRECTORY_BUCKET.into(), ..Default::default() };
    let store = rig.jetstream.create_key_value(bucket).await.unwrap();
    harness::put_node(&store, &harness::new_node(rig.domain)).await;
    let ended = tokio::time::timeout(Duration::from_secs(10), async { while stream.next().await.is_some() {} });
    ended.await.expect("closed soon after the listing");
}

#[tokio::test]
async fn a_node_that_only_control_knew_is_closed_once_control_knows_it_no_more() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.events.recheck_seconds = 1;
        config.directory.lookup_cache_millis = 0;
    })
    .await;
    let fresh = harness::new_node(rig.domain);
    let known = Arc::new(AtomicBool::new(true));
    let mut requests = rig.client.subscribe(subjects::DIRECTORY_LOOKUP).await.unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let (client, entry, still) = (rig.client.clone(), fresh.clone(), Arc::clone(&known));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = still.load(Ordering::SeqCst).then_some(&entry);
            let reply = serde_json::to_vec(&answer).unwrap();
            client.publish(request.reply.unwrap(), reply.into()).await.unwrap();
        }
    });
    let request = browser().get(format!("{}/v1/nodes/{}/events", rig.http(), fresh.node));
    let response = request.header("authorization", harness::bearer(fresh.node)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut stream = Reader { response, parser: Parser::default(), items: Vec::new() };
    assert_eq!(stream.next().await, Some(Item::Comment("ok".into())));
    let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    assert_eq!(stream.next_id().await, sequence);
    let before = asked.load(Ordering::SeqCst);
    let again = || asked.load(Ordering::SeqCst) >= before + 2;
    testkit::eventually!(again(), "control is asked again and again");
    known.store(false, Ordering::SeqCst);
    let ended = tokio::time::timeout(Duration::from_secs(10), async { while stream.next().await.is_some() {} });
    ended.await.expect("closed at the next look");
}

#[tokio::test]
async fn a_third_stream_of_a_node_ends_the_oldest() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let mut first = open(&rig, None).await;
    let mut second = open(&rig, None).await;
    let mut third = open(&rig, None).await;
    while first.next().await.is_some() {}
    let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    assert_eq!((second.next_id().await, third.next_id().await), (sequence, sequence));
}

#[tokio::test]
async fn a_client_that_stops_reading_is_closed_and_others_see_no_delay() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| {
        config.events.queue_frames = 4;
        config.events.keep_alive_millis = 600_000;
        config.listen.write_timeout_seconds = 1;
        config.events.write_timeout_millis = 1_000;
    })
    .await;
    // HTTP/2 with a window of zero: the client never takes a byte of the body.
    let stream = tokio::net::TcpStream::connect(rig.addresses.http.unwrap()).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    builder.initial_stream_window_size(16);
    let (mut sender, connection) = builder.handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    let gone = tokio::spawn(connection);
    let request = http::Request::get(rig.path("events"))
        .header("authorization", rig.bearer())
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let slow = sender.send_request(request).await.unwrap();
    assert_eq!(slow.status(), 200);
    let mut other = open(&rig, None).await;
    for _ in 0..20 {
        let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
        assert_eq!(other.next_id().await, sequence);
    }
    tokio::time::timeout(Duration::from_secs(15), gone).await.expect("the connection is ended").unwrap().ok();
}

#[tokio::test]
async fn an_operator_follows_when_control_says_so() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let request = |token: &str| browser().get(rig.path("events")).header("authorization", format!("Bearer {token}"));
    assert_eq!(request("pat_bad").send().await.unwrap().status(), 403);
    assert_eq!(browser().get(rig.path("events")).send().await.unwrap().status(), 401);
    let response = request("pat_good").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut reader = Reader { response, parser: Parser::default(), items: Vec::new() };
    assert_eq!(reader.next().await, Some(Item::Comment("ok".into())));
    let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    assert_eq!(reader.next_id().await, sequence);
    let seen = rig.seen.lock();
    assert!(seen.iter().all(|(_, path, ..)| path.ends_with(&format!("node-events/{}", rig.node.node))));
}

#[tokio::test]
async fn an_operator_is_known_before_his_path_is_read_and_reads_his_own_path_in_the_refusal() {
    let logs = testkit::logs::guard();
    logs.expect("control did not judge an operator");
    let rig = rig(|config| config.proxy.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let ask = async |id: &str, token: &str| {
        let request = browser().get(format!("{}/v1/nodes/{id}/events", rig.http()));
        let request = request.header("authorization", format!("Bearer {token}"));
        let response = request.header("x-forwarded-for", "192.0.2.7").send().await.unwrap();
        let status = response.status().as_u16();
        let problem: serde_json::Value = response.json().await.unwrap();
        (status, problem["code"].as_str().unwrap().to_owned(), problem["instance"].as_str().unwrap().to_owned())
    };
    let own = rig.node.node.to_string();
    for (id, token, status, code) in [
        ("no-uuid", "garbage", 401, "unauthenticated"),
        ("%ff", "garbage", 401, "unauthenticated"),
        ("no-uuid", "pat_bad", 403, "insufficient_relation"),
        ("no-uuid", "pat_good", 404, "node_not_found"),
        (&own, "garbage", 401, "unauthenticated"),
        (&own, "pat_bad", 403, "insufficient_relation"),
        (&own, "pat_lost", 503, "datastore_unavailable"),
    ] {
        let expected = (status, code.to_owned(), format!("/v1/nodes/{id}/events"));
        assert_eq!(ask(id, token).await, expected, "{id} {token}");
    }
    for (_, path, headers, _) in rig.seen.lock().iter() {
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        let named = path.trim_start_matches("/internal/v1/authorize/node-events/");
        assert!(named == own || named == "00000000-0000-0000-0000-000000000000", "{path}");
    }
}

#[tokio::test]
async fn a_stream_made_anew_closes_all_and_heals() {
    let logs = testkit::logs::guard();
    logs.expect("made anew");
    let rig = rig(|_| {}).await;
    rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    let mut stream = open(&rig, None).await;
    rig.jetstream.delete_stream(subjects::EVENTS_STREAM).await.unwrap();
    harness::create_events(&rig.jetstream).await;
    while stream.next().await.is_some() {}
    testkit::eventually!(ask(&rig).send().await.unwrap().status() == 200, "new streams open again");
}

#[tokio::test]
async fn a_node_with_an_older_key_is_told_of_the_new_one_first() {
    let _logs = testkit::logs::guard();
    let rig = rig(|_| {}).await;
    let mut old = rig.node.clone();
    old.pinned_kid = "k-0".into();
    harness::put_node(&rig.store, &old).await;
    let mut requests = rig.client.subscribe(subjects::ANNOUNCE).await.unwrap();
    let unsigned = plexsphere_wire::envelope::Unsigned {
        id: plexsphere_wire::EnvelopeId::mint(now()),
        event: EventType::SigningKeyRotated,
        domain: rig.domain,
        key_id: "k-0".into(),
        issued_at: now(),
        payload: "{}".into(),
    };
    let signer = ed25519_dalek::SigningKey::from_bytes(&[3; 32]);
    let wire = plexsphere_wire::envelope::sign(&unsigned.canonical_bytes().unwrap(), &signer);
    let client = rig.client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            client.publish(request.reply.unwrap(), wire.clone().into()).await.unwrap();
        }
    });
    let sequence = rig.publish(subjects::domain_events(rig.domain), EventType::PeerRegistered).await;
    let mut other = rig.node.clone();
    other.pinned_kid = "k-0".into();
    testkit::eventually!(
        {
            let mut stream = open(&rig, None).await;
            let item = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
            matches!(item, Ok(Some(Item::Frame { ref event, ref id, .. }))
                if event == "signing_key_rotated" && *id == sequence.to_string())
        },
        "the first frame is the announcement"
    );
}

#[tokio::test]
async fn a_node_hears_no_stale_envelope_and_an_operator_hears_all_even_from_the_stream_itself() {
    let _logs = testkit::logs::guard();
    let rig = rig(|config| config.events.ring_bytes = 0).await;
    let subject = subjects::domain_events(rig.domain);
    let mut live = open(&rig, None).await;
    let old = now().minus(Duration::from_secs(280));
    let mut sent = Vec::new();
    for round in 0..4 {
        let own = subjects::node_events(rig.domain, rig.node.node);
        let subject = if round % 2 == 0 { subject.clone() } else { own };
        sent.push(rig.publish_issued(subject, EventType::PeerRegistered, &rig.key, old).await);
    }
    sent.push(rig.publish(subject.clone(), EventType::PeerRegistered).await);
    assert_eq!(live.next_id().await, sent[4], "the stale ones were skipped live");
    sent.push(rig.publish(subject.clone(), EventType::PeerRegistered).await);
    assert_eq!(live.next_id().await, sent[5]);
    let mut replay = open(&rig, Some(0)).await;
    assert_eq!((replay.next_id().await, replay.next_id().await), (sent[4], sent[5]), "and in the replay");
    let request = browser().get(rig.path("events")).header("authorization", "Bearer pat_good");
    let response = request.header("last-event-id", "0").send().await.unwrap();
    let mut operator = Reader { response, parser: Parser::default(), items: Vec::new() };
    for sequence in &sent {
        assert_eq!(operator.next_id().await, *sequence);
    }
}
