use plexsphere_kernel::{AuditLog as _, Subject};
use plexsphere_wire::PrincipalId;
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::rig::{Rig, now, record};

struct Erased {
    rig: Rig,
    person: PrincipalId,
    path: String,
}

/// A Domain with five rows of a person, and an operator who may erase.
async fn person_on_a_chain() -> Erased {
    let rig = Rig::new().await;
    let person = PrincipalId::mint(now());
    let domain = rig.domain(Subject::User(person), 5).await;
    rig.world.caller("manager", &["manage", "auditor"]);
    rig.world.caller("auditor", &["auditor"]);
    Erased { rig, person, path: format!("/v1/domains/{domain}/audit") }
}

impl Erased {
    async fn erase(&self, bearer: &str, id: &str) -> crate::rig::Answer {
        self.rig.post(bearer, &format!("{}/erase-identity", self.path), json!({ "identity_id": id })).await
    }

    async fn entries(&self) -> Vec<serde_json::Value> {
        let page = self.rig.get("auditor", &format!("{}/entries", self.path)).await;
        page.body["items"].as_array().unwrap().clone()
    }

    async fn verifies(&self) -> bool {
        let verdict = self.rig.call("auditor", "POST", &format!("{}/verify", self.path), None).await;
        verdict.body["ok"].as_bool().unwrap()
    }
}

#[tokio::test]
async fn an_erasure_forgets_the_person_and_the_addresses_and_no_hash() {
    let world = person_on_a_chain().await;
    let before = world.entries().await;
    assert_eq!(before[0]["subject"]["identity_id_ref"], json!(world.person));
    assert_eq!(before[0]["request_context"]["ip"], "192.0.2.7");
    let answer = world.erase("manager", &world.person.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.raw);
    assert_eq!(answer.body["subject_pseudonym"], before[0]["subject"]["pseudonym"]);
    assert!(world.verifies().await);
    world.rig.sequence().await;
    let after = world.entries().await;
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(
            (&old["entry_hash"], &old["subject"]["pseudonym"]),
            (&new["entry_hash"], &new["subject"]["pseudonym"])
        );
        assert_eq!(new["subject"].get("identity_id_ref"), None);
        assert_eq!(new["request_context"], json!({}));
    }
    let own = after.iter().find(|entry| entry["relation"] == "audit.erase-identity").unwrap();
    let object = json!({ "type": "audit_subject", "id": answer.body["subject_pseudonym"] });
    assert_eq!((&own["object"], &own["occurred_at"]), (&object, &answer.body["erased_at"]));
    assert_eq!(own["request_context"]["ip"], "198.51.100.4", "the operator's own row keeps where it came from");
    let everything = format!("SELECT count(*) FROM audit.subject_pii WHERE subject_id = '{}'", world.person.uuid());
    assert_eq!(world.rig.count(&everything).await, 0);
    assert_eq!(world.rig.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'IdentityErased'").await, 1);
}

#[tokio::test]
async fn a_chain_that_forgot_a_person_is_still_found_for_whoever_goes_on_erasing() {
    let world = person_on_a_chain().await;
    let (eraser, person) = (world.rig.audit.eraser(), world.person.uuid());
    let named = eraser.chains_of(person).await.unwrap();
    assert_eq!((named.len(), eraser.chains_ever_of(person).await.unwrap()), (1, named.clone()));
    assert_eq!(world.erase("manager", &world.person.to_string()).await.status, 200);
    assert!(eraser.chains_of(person).await.unwrap().is_empty());
    assert_eq!(eraser.chains_ever_of(person).await.unwrap(), named);
    assert!(eraser.chains_ever_of(PrincipalId::mint(now()).uuid()).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_erasure_is_repeatable_and_tells_nobody_who_was_ever_there() {
    let world = person_on_a_chain().await;
    for id in [world.person.to_string(), world.person.to_string(), PrincipalId::mint(now()).to_string()] {
        assert_eq!(world.erase("manager", &id).await.status, 200);
    }
    assert!(world.verifies().await);
}

/// I9, also for rows that were enlisted before and commit after.
#[tokio::test]
async fn an_erased_person_who_acts_again_keeps_the_pseudonym_and_is_not_mapped_again() {
    let world = person_on_a_chain().await;
    let rig = &world.rig;
    let domain = world.path.split('/').nth(3).unwrap().parse().unwrap();
    let mut late = rig.db.begin().await.unwrap();
    rig.log.record(&mut late, record(Some(domain), Subject::User(world.person))).await.unwrap();
    rig.log.record_alone(record(Some(domain), Subject::User(world.person))).await.unwrap();
    let erased = world.erase("manager", &world.person.to_string()).await;
    late.commit().await.unwrap();
    rig.clock.advance(std::time::Duration::from_secs(1));
    let mut again = record(Some(domain), Subject::User(world.person));
    again.occurred_at = plexsphere_kernel::Clock::now(rig.clock.as_ref());
    rig.log.record_alone(again).await.unwrap();
    rig.sequence().await;
    let entries = world.entries().await;
    let of_person: Vec<_> =
        entries.iter().filter(|entry| entry["subject"]["pseudonym"] == erased.body["subject_pseudonym"]).collect();
    assert_eq!(of_person.len(), 8);
    assert!(of_person.iter().all(|entry| entry["subject"].get("identity_id_ref").is_none()));
    let with_address = of_person.iter().filter(|entry| entry["request_context"].get("ip").is_some()).count();
    assert_eq!(with_address, 1, "only what came after the erasure brings an address");
    assert!(world.verifies().await);
}

#[tokio::test]
async fn who_erases_themselves_leaves_nothing_behind_either() {
    let world = person_on_a_chain().await;
    let own = world.rig.world.caller("self", &["manage"]);
    assert_eq!(world.erase("self", &own.to_string()).await.status, 200);
    let row = world.entries().await.into_iter().find(|entry| entry["relation"] == "audit.erase-identity").unwrap();
    assert_eq!((row["subject"].get("identity_id_ref"), &row["request_context"]), (None, &json!({})));
    let left = format!("SELECT count(*) FROM audit.subject_pii WHERE subject_id = '{}'", own.uuid());
    assert_eq!(world.rig.count(&left).await, 0);
}

#[tokio::test]
async fn an_auditor_may_not_erase_and_a_request_that_names_nobody_is_refused() {
    let world = person_on_a_chain().await;
    assert_eq!(world.erase("auditor", &world.person.to_string()).await.refusal(), (403, "permission_denied"));
    let path = format!("{}/erase-identity", world.path);
    for bad in [
        json!({}),
        json!({ "identity_id": "alice" }),
        json!({ "identity_id": "00000000-0000-0000-0000-000000000000" }),
        json!({ "identity_id": null }),
        json!({ "identity_id": world.person, "reason": "asked" }),
        json!([]),
    ] {
        let answer = world.rig.post("manager", &path, bad.clone()).await;
        assert_eq!(answer.refusal(), (400, "invalid_erase_request"), "{bad}");
    }
    let empty = world.rig.call("manager", "POST", &path, Some(String::new())).await;
    assert_eq!(empty.refusal(), (400, "invalid_erase_request"));
    let unknown = format!("/v1/domains/{}/audit/erase-identity", PrincipalId::mint(now()));
    let body = json!({ "identity_id": world.person });
    assert_eq!(world.rig.post("manager", &unknown, body.clone()).await.refusal(), (404, "domain_not_found"));
    assert_eq!(world.rig.post("auditor", &unknown, body.clone()).await.refusal(), (403, "permission_denied"));
    assert_eq!(world.rig.post("manager", "/v1/platform/audit/erase-identity", body).await.status, 200);
    let mapped =
        AssertSqlSafe(format!("SELECT count(*) FROM audit.subject_pii WHERE subject_id = '{}'", world.person.uuid()));
    let left: i64 = sqlx::query_scalar(mapped).fetch_one(&world.rig.database.pool()).await.unwrap();
    assert_eq!(left, 1, "the platform's chain is another one");
}

#[tokio::test]
async fn the_same_person_has_another_pseudonym_on_another_chain() {
    let rig = Rig::new().await;
    let person = Subject::User(PrincipalId::mint(now()));
    rig.domain(person, 1).await;
    rig.domain(person, 1).await;
    assert_eq!(rig.count("SELECT count(DISTINCT subject) FROM audit.entries").await, 2);
}

/// The entries of a busy person are dropped a few at a time, and the head is free in between.
#[tokio::test]
async fn a_busy_person_is_erased_in_stretches_and_a_repetition_ends_what_was_begun() {
    let rig = Rig::new().await;
    let person = PrincipalId::mint(now());
    let domain = rig.domain(Subject::User(person), 23).await;
    let other = rig.log.record_alone(record(Some(domain), crate::rig::somebody()));
    other.await.unwrap();
    rig.sequence().await;
    let erasure = move || plexsphere_audit::Erasure {
        chain: domain.uuid(),
        identity: person.uuid(),
        operator: crate::rig::somebody(),
        correlation_id: plexsphere_wire::CorrelationId::mint(now()),
        context: plexsphere_kernel::audit::RequestContext::default(),
        now: now(),
    };
    // The last stretches meet a row that somebody holds, and give up.
    let held = "SELECT 1 FROM audit.request_contexts WHERE entry = (SELECT entry FROM audit.entries WHERE seq = 22) FOR UPDATE";
    let mut holder = rig.database.pool().begin().await.unwrap();
    sqlx::query(held).execute(&mut *holder).await.unwrap();
    let eraser = rig.audit.eraser().by(5);
    let first = tokio::spawn(async move { eraser.erase(erasure()).await });
    let left = "SELECT count(*) FROM audit.request_contexts";
    plexsphere_testkit::eventually!(rig.count(left).await == 3 + 1 + 1, "all but the last stretch are through");
    assert_eq!(rig.count("SELECT last_seq FROM audit.chain_heads").await, 25, "the row that says so is there");
    rig.log.record_alone(record(Some(domain), crate::rig::somebody())).await.unwrap();
    assert_eq!(rig.sequence().await, 1, "the head is free");
    first.abort();
    let _ = first.await;
    holder.rollback().await.unwrap();
    let erased = rig.audit.eraser().by(5).erase(erasure()).await.unwrap();
    let of_person = sqlx::query_scalar::<_, i64>(
        "SELECT count(*) FROM audit.request_contexts c JOIN audit.entries e USING (entry) WHERE e.subject = $1",
    );
    assert_eq!(of_person.bind(erased.pseudonym.as_slice()).fetch_one(&rig.database.pool()).await.unwrap(), 0);
    assert_eq!(rig.count(left).await, 4, "those of others stay: one row before, one behind, and two erasures");
    assert_eq!(rig.verify(domain.uuid()).await.divergence, None);
}

/// I7, also when the chain has not begun.
#[tokio::test]
async fn an_erasure_on_a_chain_that_has_not_begun_stands_behind_its_creation() {
    let rig = Rig::new().await;
    rig.world.caller("manager", &["manage"]);
    let (domain, person) = (plexsphere_wire::DomainId::mint(now()), PrincipalId::mint(now()));
    rig.world.domains.lock().unwrap().insert(domain);
    for relation in ["signing_key.create", "domain.create"] {
        let row = plexsphere_kernel::AuditRecord {
            relation: relation.to_owned(),
            ..record(Some(domain), Subject::User(person))
        };
        rig.log.record_alone(row).await.unwrap();
    }
    let path = format!("/v1/domains/{domain}/audit/erase-identity");
    assert_eq!(rig.post("manager", &path, json!({ "identity_id": person })).await.status, 200);
    let rows: Vec<String> = sqlx::query_scalar("SELECT relation FROM audit.entries ORDER BY seq")
        .fetch_all(&rig.database.pool())
        .await
        .unwrap();
    assert_eq!(rows, ["domain.create", "signing_key.create", "audit.erase-identity"]);
    assert_eq!(rig.count("SELECT count(*) FROM audit.request_contexts").await, 1, "the operator's");
    assert_eq!(rig.count("SELECT count(*) FROM audit.subject_pii WHERE subject_id IS NOT NULL").await, 1);
    assert_eq!(rig.verify(domain.uuid()).await.divergence, None);
}
