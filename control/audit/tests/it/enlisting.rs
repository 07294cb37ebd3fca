use plexsphere_audit::{PLATFORM_ANCHOR, PgAuditLog};
use plexsphere_kernel::audit::CaveatNames;
use plexsphere_kernel::{AuditLog as _, Database, ObjectRef, Outcome, Subject, SystemClock};
use plexsphere_wire::{DenialReason, DomainId, PrincipalId};
use sha2::{Digest as _, Sha256};
use sqlx::Row as _;
use uuid::Uuid;

use crate::rig::{Rig, key, now, record, somebody};

/// I1: with the change or not at all.
#[tokio::test]
async fn a_row_stands_or_falls_with_the_transaction_of_its_change() {
    let rig = Rig::new().await;
    let subject = Subject::User(PrincipalId::mint(now()));
    let mut tx = rig.db.begin().await.unwrap();
    rig.log.record(&mut tx, record(None, subject)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(rig.rows().await, 0);
    let mut tx = rig.db.begin().await.unwrap();
    rig.log.record(&mut tx, record(None, subject)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(rig.rows().await, 1);
    rig.log.record_alone(record(None, subject)).await.unwrap();
    assert_eq!(rig.rows().await, 2);
}

/// I2: what is to be hashed names nobody; the commitment can be recomputed from the erasable side.
#[tokio::test]
async fn an_entry_holds_pseudonyms_and_a_commitment_and_no_person_or_address() {
    let rig = Rig::new().await;
    let (domain, person) = (DomainId::mint(now()), PrincipalId::mint(now()));
    let mut about = record(Some(domain), Subject::User(person));
    about.object = ObjectRef { kind: "user", id: person.to_string() };
    about.outcome = Outcome::Denied(DenialReason::OutOfScope);
    rig.log.record_alone(about).await.unwrap();
    let row = sqlx::query("SELECT * FROM audit.pending").fetch_one(&rig.database.pool()).await.unwrap();
    let pseudonym = key().pepper(domain.uuid()).pseudonym(person.uuid());
    assert_eq!(row.get::<Vec<u8>, _>("subject"), pseudonym);
    assert_eq!(row.get::<Uuid, _>("chain"), domain.uuid());
    assert_eq!(row.get::<String, _>("reason"), "out_of_scope");
    let mut bytes = row.get::<Vec<u8>, _>("salt");
    for text in [row.get::<String, _>("ip"), row.get("user_agent")] {
        bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.bytes());
    }
    assert_eq!(row.get::<Vec<u8>, _>("ctx"), Sha256::digest(&bytes).as_slice());
    rig.sequence().await;
    let everything: String =
        sqlx::query_scalar("SELECT entries::text FROM audit.entries").fetch_one(&rig.database.pool()).await.unwrap();
    for personal in [person.to_string().as_str(), "192.0.2.7", "agent/1"] {
        assert!(!everything.contains(personal), "{everything}");
    }
}

/// I3: a tombstone keeps the mapping away.
#[tokio::test]
async fn an_erased_person_who_acts_again_is_not_mapped_again() {
    let rig = Rig::new().await;
    let subject = Subject::User(PrincipalId::mint(now()));
    rig.log.record_alone(record(None, subject)).await.unwrap();
    let mapped = || async {
        sqlx::query_scalar::<_, Option<Uuid>>("SELECT subject_id FROM audit.subject_pii WHERE chain = $1")
            .bind(PLATFORM_ANCHOR)
            .fetch_all(&rig.database.pool())
            .await
            .unwrap()
    };
    rig.sequence().await;
    assert_eq!(mapped().await, [Some(subject.uuid())]);
    sqlx::query("UPDATE audit.subject_pii SET subject_id = NULL, erased_at = now()")
        .execute(&rig.database.pool())
        .await
        .unwrap();
    rig.log.record_alone(record(None, subject)).await.unwrap();
    rig.sequence().await;
    assert_eq!(mapped().await, [None]);
}

#[tokio::test]
async fn a_relation_that_is_no_name_fails_the_operation() {
    let rig = Rig::new().await;
    let mut free = record(None, Subject::System(Uuid::from_u128(1)));
    free.relation = "alice@example.com did it".to_owned();
    assert!(rig.log.record_alone(free).await.is_err());
    assert_eq!(rig.rows().await, 0);
}

#[tokio::test]
async fn another_contexts_role_enlists_rows_and_can_neither_change_nor_delete_them() {
    let rig = Rig::new().await;
    let pool = rig.database.pool_as("kernel").await;
    let log = PgAuditLog::new(Database::new(pool.clone()), key(), std::sync::Arc::new(SystemClock));
    log.record_alone(record(None, Subject::System(Uuid::from_u128(1)))).await.unwrap();
    for forbidden in ["UPDATE audit.pending SET reason = 'granted'", "DELETE FROM audit.pending"] {
        let error = sqlx::query(forbidden).execute(&pool).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
}

/// The names of caveats are all that is kept of them: there is no place for a value.
#[tokio::test]
async fn a_decision_keeps_the_names_of_its_caveats() {
    let rig = Rig::new().await;
    let mut caveats = CaveatNames::default();
    caveats.add("from_cidr", "allowed_cidrs").unwrap();
    assert!(caveats.add("from_cidr", "10.0.0.0/8").is_err());
    rig.log.record_decision(record(None, somebody()), caveats).await.unwrap();
    rig.sequence().await;
    rig.world.caller("auditor", &["auditor"]);
    let entry = rig.get("auditor", "/v1/platform/audit/entries/1").await;
    let names = serde_json::json!({ "from_cidr": ["allowed_cidrs"] });
    assert_eq!(entry.body["entry"]["decision"]["caveat_context"], names);
}

#[tokio::test]
async fn many_rows_are_enlisted_in_their_order_and_a_creation_goes_to_its_own_domain() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let mut created = record(None, somebody());
    created.relation = "domain.create".to_owned();
    created.object = ObjectRef::domain(domain);
    let mut key_made = record(Some(domain), somebody());
    key_made.relation = "signing_key.create".to_owned();
    let mut denied = created.clone();
    denied.outcome = Outcome::Denied(DenialReason::OutOfScope);
    let mut tx = rig.db.begin().await.unwrap();
    rig.log.record_many(&mut tx, vec![key_made, created, denied]).await.unwrap();
    rig.log.record_many(&mut tx, Vec::new()).await.unwrap();
    tx.commit().await.unwrap();
    rig.sequence().await;
    let rows: Vec<(Uuid, i64, String, String)> =
        sqlx::query_as("SELECT chain, seq, relation, reason FROM audit.entries ORDER BY chain = $1, chain, seq")
            .bind(domain.uuid())
            .fetch_all(&rig.database.pool())
            .await
            .unwrap();
    let row = |chain, seq, relation: &str, reason: &str| (chain, seq, relation.to_owned(), reason.to_owned());
    assert_eq!(
        rows,
        [
            row(PLATFORM_ANCHOR, 1, "domain.create", "out_of_scope"),
            row(domain.uuid(), 1, "domain.create", "granted"),
            row(domain.uuid(), 2, "signing_key.create", "granted"),
        ]
    );
}
