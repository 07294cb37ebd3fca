use data_encoding::{BASE64, HEXLOWER};
use plexsphere_audit::PLATFORM_ANCHOR;
use plexsphere_audit::chain::link;
use plexsphere_kernel::{AuditLog as _, Outcome, Subject};
use plexsphere_wire::{CorrelationId, DenialReason, DomainId, PrincipalId};
use serde_json::{Value, json};

use crate::rig::{Rig, now, record, somebody};

async fn rig() -> Rig {
    let rig = Rig::new().await;
    rig.world.caller("auditor", &["auditor"]);
    rig.world.caller("stranger", &["manage"]);
    rig
}

fn seqs(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|entry| entry["seq"].as_i64().unwrap()).collect()
}

const PLATFORM: &str = "/v1/platform/audit/verify";

#[tokio::test]
async fn a_write_is_in_the_list_that_is_asked_for_right_after_it() {
    let mut rig = rig().await;
    let context = plexsphere_kernel::tasks::TasksContext {
        db: rig.db.clone(),
        clock: std::sync::Arc::new(plexsphere_kernel::SystemClock),
        probes: plexsphere_kernel::Probes::default(),
    };
    let cancel = tokio_util::sync::CancellationToken::new();
    let mut tasks =
        plexsphere_kernel::tasks::Tasks::new(context, &mut prometheus_client::registry::Registry::default(), cancel);
    rig.audit.add_tasks(&mut tasks);
    tasks.start();
    let domain = DomainId::mint(now());
    rig.world.domains.lock().unwrap().insert(domain);
    for count in 1..=5 {
        rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
        plexsphere_testkit::eventually!(
            seqs(&rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries")).await.body).len() == count,
            "the row is there"
        );
    }
}

#[tokio::test]
async fn paging_by_one_ends_behind_the_last_full_page_with_an_empty_one() {
    let rig = rig().await;
    let domain = rig.domain(somebody(), 3).await;
    let path = format!("/v1/domains/{domain}/audit/entries?limit=1");
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    for _ in 0..10 {
        let page = rig.get("auditor", &format!("{path}&cursor={cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.raw);
        seen.push(seqs(&page.body));
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, [vec![1], vec![2], vec![3], vec![]]);
    let whole = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries?limit=4")).await;
    assert_eq!((seqs(&whole.body), whole.body.get("next_cursor")), (vec![1, 2, 3], None));
    assert_eq!(rig.rows().await, 0, "a granted list writes no row");
}

#[tokio::test]
async fn a_cursor_is_good_for_every_auditor_of_its_chain_with_its_filters() {
    let rig = rig().await;
    rig.world.caller("colleague", &["auditor"]);
    let (one, other) = (rig.domain(somebody(), 3).await, rig.domain(somebody(), 3).await);
    let list = |domain: DomainId, rest: &str| format!("/v1/domains/{domain}/audit/entries?limit=2{rest}");
    let first = rig.get("auditor", &list(one, "&reason=granted")).await;
    let cursor = first.body["next_cursor"].as_str().unwrap();
    let colleague = rig.get("colleague", &list(one, &format!("&reason=granted&cursor={cursor}"))).await;
    assert_eq!(seqs(&colleague.body), [3]);
    for foreign in [
        list(other, &format!("&reason=granted&cursor={cursor}")),
        list(one, &format!("&cursor={cursor}")),
        list(one, &format!("&reason=out_of_scope&cursor={cursor}")),
        list(one, &format!("&reason=granted&cursor=A{cursor}")),
        format!("/v1/platform/audit/entries?reason=granted&cursor={cursor}"),
    ] {
        assert_eq!(rig.get("auditor", &foreign).await.refusal(), (400, "invalid_cursor"), "{foreign}");
    }
    for limit in ["0", "201", "x", "1&limit=2", "-1", ""] {
        for log in [format!("/v1/domains/{one}"), "/v1/platform".to_owned()] {
            let path = format!("{log}/audit/entries?limit={limit}");
            assert_eq!(rig.get("auditor", &path).await.refusal(), (400, "invalid_limit"), "{log} {limit}");
        }
    }
}

#[tokio::test]
async fn filters_are_exact_and_all_of_them_hold() {
    let rig = rig().await;
    let (alice, bob) = (somebody(), somebody());
    let domain = rig.domain(alice, 2).await;
    for (at, (subject, outcome)) in [
        (bob, Outcome::Granted),
        (alice, Outcome::Denied(DenialReason::OutOfScope)),
        (bob, Outcome::Denied(DenialReason::InsufficientRelation)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut row = record(Some(domain), subject);
        row.outcome = outcome;
        row.relation = format!("node.do-{at}");
        row.object.id = format!("thing-{at}");
        row.object.kind = "secret";
        row.correlation_id = CorrelationId::accept(&format!("request-{at}")).unwrap();
        row.occurred_at = now().plus(std::time::Duration::from_secs(60 * (at as u64 + 1)));
        rig.log.record_alone(row).await.unwrap();
        rig.sequence().await;
    }
    let list = async |filters: &str| {
        let page = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries?{filters}")).await;
        assert_eq!(page.status, 200, "{filters}: {}", page.raw);
        seqs(&page.body)
    };
    let pseudonym =
        |subject: Subject| HEXLOWER.encode(&crate::rig::key().pepper(domain.uuid()).pseudonym(subject.uuid()));
    let (at_one, at_two) =
        (now().plus(std::time::Duration::from_secs(60)), now().plus(std::time::Duration::from_secs(120)));
    assert_eq!(list(&format!("subject={}", pseudonym(bob))).await, [3, 5]);
    assert_eq!(list(&format!("subject={}&reason=granted", pseudonym(bob))).await, [3]);
    assert_eq!(list("reason=out_of_scope").await, [4]);
    assert_eq!(list("reason=granted").await, [1, 2, 3]);
    assert_eq!(list("reason=unknown").await, Vec::<i64>::new());
    assert_eq!(list("relation=node.do-1").await, [4]);
    assert_eq!(list("object_type=secret").await, [3, 4, 5]);
    assert_eq!(list("object_id=thing-2").await, [5]);
    assert_eq!(list("object_id=thing").await, Vec::<i64>::new());
    assert_eq!(list("correlation_id=request-0").await, [3]);
    assert_eq!(list("correlation_id=request-0&reason=out_of_scope").await, Vec::<i64>::new());
    assert_eq!(list(&format!("from={at_one}&to={at_two}")).await, [3, 4]);
    assert_eq!(list(&format!("to={}", now())).await, [1, 2]);
    for bad in [
        "subject=alice@example.com".to_owned(),
        format!("subject={}", "AB".repeat(32)),
        format!("subject={}", "ab".repeat(31)),
        "reason=maybe".to_owned(),
        "from=yesterday".to_owned(),
        format!("from={at_two}&to={at_one}"),
        "relation=a&relation=b".to_owned(),
        "object_id=%00".to_owned(),
        format!("object_id={}", "x".repeat(4_097)),
    ] {
        for log in [format!("/v1/domains/{domain}"), "/v1/platform".to_owned()] {
            let answer = rig.get("auditor", &format!("{log}/audit/entries?{bad}")).await;
            assert_eq!(answer.refusal(), (400, "invalid_audit_filter"), "{log} {bad}");
        }
    }
}

#[tokio::test]
async fn a_proof_can_be_checked_without_us() {
    let rig = rig().await;
    let domain = rig.domain(somebody(), 2).await;
    let answer = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries/2")).await;
    let proof = &answer.body["proof"];
    let bytes = BASE64.decode(proof["canonical_bytes"].as_str().unwrap().as_bytes()).unwrap();
    let prev = HEXLOWER.decode(proof["prev_hash"].as_str().unwrap().as_bytes()).unwrap();
    let own = HEXLOWER.encode(&link(&prev.try_into().unwrap(), &bytes));
    assert_eq!(proof["entry_hash"], json!(own));
    let (entry, said): (_, Value) = (&answer.body["entry"], serde_json::from_slice(&bytes).unwrap());
    assert_eq!((&said["seq"], &said["chain"]), (&json!(2), &json!(domain)));
    assert_eq!(said["subject"], entry["subject"]["pseudonym"]);
    assert_eq!((&entry["entry_hash"], &entry["prev_hash"]), (&proof["entry_hash"], &proof["prev_hash"]));
    assert_eq!((entry.get("archive_etag"), entry.get("archived_at")), (None, None));
    let parsed = |value: &Value| plexsphere_wire::Timestamp::parse(value.as_str().unwrap()).unwrap();
    assert_eq!(parsed(&said["occurred_at"]), parsed(&entry["occurred_at"]));
}

/// I8: byte for byte, apart from the path.
#[tokio::test]
async fn nobody_without_the_relation_can_tell_a_taken_place_from_a_free_one() {
    let rig = rig().await;
    let domain = rig.domain(somebody(), 5).await;
    let longer = rig.domain(somebody(), 9).await;
    let get = async |bearer: &'static str, domain: DomainId, seq: i64| {
        let path = format!("/v1/domains/{domain}/audit/entries/{seq}");
        let answer = rig.get(bearer, &path).await;
        let headers: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| *name != "content-length")
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        (answer.status.as_u16(), headers, answer.raw.replace(&path, "*"))
    };
    let free = get("auditor", domain, 999_999).await;
    assert_eq!(free.0, 404);
    assert!(free.2.contains("audit_entry_not_found"), "{}", free.2);
    assert_eq!(get("auditor", domain, 7).await, free, "it is taken on another chain only");
    assert_eq!(get("stranger", domain, 5).await, free);
    assert_eq!(get("stranger", domain, 999_999).await, free);
    assert_eq!(get("stranger", DomainId::mint(now()), 1).await, free);
    assert_eq!(get("auditor", longer, 7).await.0, 200);
    let denied = rig.count("SELECT count(*) FROM audit.pending WHERE reason = 'insufficient_relation'").await;
    assert_eq!(denied, 3, "each refusal is recorded");
    for bad in ["0", "-1", "x", "1.0", "+1", "9223372036854775808", "%31x"] {
        let path = format!("/v1/domains/{domain}/audit/entries/{bad}");
        assert_eq!(rig.get("auditor", &path).await.refusal(), (400, "invalid_seq"), "{bad}");
    }
}

#[tokio::test]
async fn the_lists_are_refused_before_anything_is_looked_up() {
    let rig = rig().await;
    let domain = DomainId::mint(now());
    let path = |rest: &str| format!("/v1/domains/{domain}/audit/{rest}");
    assert_eq!(rig.get("stranger", &path("entries")).await.refusal(), (403, "permission_denied"));
    assert_eq!(rig.call("stranger", "POST", &path("verify"), None).await.refusal(), (403, "permission_denied"));
    assert_eq!(rig.get("stranger", "/v1/platform/audit/entries").await.refusal(), (403, "permission_denied"));
    assert_eq!(rig.get("auditor", &path("entries")).await.refusal(), (404, "domain_not_found"));
    assert_eq!(rig.call("auditor", "POST", &path("verify"), None).await.refusal(), (404, "domain_not_found"));
    assert_eq!(rig.get("auditor", &path("entries/1")).await.refusal(), (404, "domain_not_found"));
    assert_eq!(rig.get("nobody", &path("entries")).await.refusal(), (401, "unauthenticated"));
    for bad in ["x", "00000000-0000-0000-0000-000000000000"] {
        for rest in ["entries", "entries/1"] {
            let answer = rig.get("auditor", &format!("/v1/domains/{bad}/audit/{rest}")).await;
            assert_eq!(answer.refusal(), (400, "invalid_domain_id"));
        }
    }
    rig.world.domains.lock().unwrap().insert(domain);
    assert_eq!(rig.get("auditor", &path("entries")).await.body, json!({ "items": [] }));
}

#[tokio::test]
async fn a_verification_says_what_it_looked_at_and_writes_its_own_row() {
    let rig = rig().await;
    let domain = rig.domain(somebody(), 6).await;
    let path = format!("/v1/domains/{domain}/audit/verify");
    let whole = rig.call("auditor", "POST", &path, None).await;
    assert_eq!(whole.body, json!({ "ok": true, "segment_from": 1, "segment_to": 6 }));
    rig.sequence().await;
    let part = rig.post("auditor", &path, json!({ "from_seq": 2, "to_seq": 4 })).await;
    assert_eq!(part.body, json!({ "ok": true, "segment_from": 2, "segment_to": 4 }));
    assert_eq!(rig.post("auditor", &path, json!({ "to_seq": 4_000 })).await.body["segment_to"], 7);
    rig.sequence().await;
    let rows = rig.count("SELECT count(*) FROM audit.entries WHERE relation = 'audit.verify'").await;
    assert_eq!(rows, 3);
    for bad in [
        json!({ "from_seq": 0 }),
        json!({ "from_seq": 5, "to_seq": 4 }),
        json!({ "from_seq": 99 }),
        json!({ "to_seq": -1 }),
    ] {
        for path in [path.as_str(), PLATFORM] {
            let refused = rig.post("auditor", path, bad.clone()).await;
            assert_eq!(refused.refusal(), (400, "invalid_verify_range"), "{path} {bad}");
        }
    }
    for path in [path.as_str(), PLATFORM] {
        assert_eq!(rig.post("auditor", path, json!({ "seq": 1 })).await.refusal(), (400, "invalid_body"), "{path}");
    }
    rig.tamper("UPDATE audit.entries SET object_id = 'else' WHERE seq = 4").await;
    let broken = rig.call("auditor", "POST", &path, None).await;
    assert_eq!(
        (broken.status.as_u16(), &broken.body["ok"], &broken.body["divergent_seq"]),
        (200, &json!(false), &json!(4))
    );
    assert_ne!(broken.body["expected_hash"], broken.body["observed_hash"]);
    let list = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries")).await;
    assert_eq!(list.status, 200, "a chain that does not hold is read all the same");
}

#[tokio::test]
async fn the_platforms_chain_has_the_same_operations_under_its_fixed_anchor() {
    let rig = rig().await;
    rig.log.record_alone(record(None, somebody())).await.unwrap();
    rig.sequence().await;
    let list = rig.get("auditor", "/v1/platform/audit/entries").await;
    assert_eq!(list.body["items"][0]["domain_id"], json!(PLATFORM_ANCHOR));
    assert_eq!(rig.get("auditor", "/v1/platform/audit/entries/1").await.status, 200);
    assert_eq!(rig.get("stranger", "/v1/platform/audit/entries/1").await.refusal(), (404, "audit_entry_not_found"));
    assert_eq!(rig.call("auditor", "POST", "/v1/platform/audit/verify", None).await.body["ok"], true);
}

#[tokio::test]
async fn hostile_texts_are_cut_and_escaped_and_break_no_chain() {
    let rig = rig().await;
    let domain = rig.domain(somebody(), 1).await;
    let mut row = record(Some(domain), somebody());
    row.context.user_agent = Some("\u{1}\"\\\n\0é".repeat(20_000));
    row.object.kind = "node";
    row.object.id = "\u{7}\"\\\r\n\t\u{8}\u{c}\u{0}é\u{2028}😀".to_owned();
    rig.log.record_alone(row).await.unwrap();
    let mut person = record(Some(domain), somebody());
    let id = PrincipalId::mint(now());
    person.object.kind = "user";
    person.object.id = id.to_string();
    rig.log.record_alone(person).await.unwrap();
    rig.sequence().await;
    assert_eq!(rig.verify(domain.uuid()).await.divergence, None);
    let page = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries")).await;
    let agent = page.body["items"][1]["request_context"]["user_agent"].as_str().unwrap();
    assert!(agent.len() <= 256 && agent.starts_with("\u{1}\"\\\n?é"), "{agent}");
    assert!(!page.raw.contains(&id.to_string()));
}

/// Bytes that are no ASCII, a text that is too long, an address that is none, and a correlation id that names a person.
#[tokio::test]
async fn what_a_request_says_of_itself_is_cut_and_kept_and_a_correlation_id_that_is_none_is_replaced() {
    let rig = rig().await;
    let agent = [b"caf\xe9 \x09".as_slice(), &vec![b'a'; 100 * 1_024]].concat();
    for hops in ["203.0.113.9, 198.51.100.4", "203.0.113.9, nowhere"] {
        let request = http::Request::get("/v1/platform/audit/entries")
            .header("authorization", "Bearer stranger")
            .header("user-agent", agent.as_slice())
            .header("x-forwarded-for", hops)
            .header("x-correlation-id", "alice@example.com {1}")
            .body(axum::body::Body::empty())
            .unwrap();
        let answer = tower::ServiceExt::oneshot(rig.router.clone(), request).await.unwrap();
        assert_eq!(answer.status(), 403);
        rig.sequence().await;
        let id = answer.headers()["x-correlation-id"].to_str().unwrap();
        assert!(!id.contains("alice"), "{id}");
        let page = rig.get("auditor", &format!("/v1/platform/audit/entries?correlation_id={id}")).await;
        let row = &page.body["items"][0];
        assert_eq!(row["reason"], "insufficient_relation", "{}", page.raw);
        let kept = row["request_context"]["user_agent"].as_str().unwrap();
        assert!(kept.starts_with("caf\u{fffd} \taaa") && kept.len() == 256, "{kept}");
        let address = hops.ends_with('4').then_some("198.51.100.4");
        assert_eq!(row["request_context"]["ip"].as_str(), address);
    }
    assert_eq!(rig.verify(PLATFORM_ANCHOR).await.divergence, None);
}
