use plexsphere_audit::{PLATFORM_ANCHOR, PgAuditLog};
use plexsphere_kernel::{AuditLog as _, Database, ObjectRef, Outcome, Subject, SystemClock};
use plexsphere_wire::{DenialReason, DomainId, PrincipalId};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use crate::rig::{Rig, key, now, record};

#[tokio::test]
async fn every_statement_fits_the_migrated_schema() {
    let rig = Rig::new().await;
    for (number, statement) in plexsphere_audit::STATEMENTS.iter().enumerate() {
        sqlx::raw_sql(AssertSqlSafe(format!("PREPARE s{number} AS {statement}")))
            .execute(&rig.database.pool())
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

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
async fn a_row_holds_pseudonyms_and_a_commitment_and_no_person_or_address() {
    let rig = Rig::new().await;
    let (domain, person) = (DomainId::mint(now()), PrincipalId::mint(now()));
    let mut about = record(Some(domain), Subject::User(person));
    about.object = ObjectRef { kind: "user", id: person.to_string() };
    about.outcome = Outcome::Denied(DenialReason::OutOfScope);
    rig.log.record_alone(about).await.unwrap();
    let row = sqlx::query("SELECT *, pending::text AS everything FROM audit.pending")
        .fetch_one(&rig.database.pool())
        .await
        .unwrap();
    let pseudonym = key().pepper(domain.uuid()).pseudonym(person.uuid());
    assert_eq!(row.get::<Vec<u8>, _>("subject"), pseudonym);
    assert_eq!(row.get::<Uuid, _>("chain"), domain.uuid());
    assert_eq!(row.get::<String, _>("reason"), "out_of_scope");
    let everything: String = row.get("everything");
    for personal in [person.to_string().as_str(), "192.0.2.7", "agent/1"] {
        assert!(!everything.contains(personal), "{everything}");
    }
    let side = sqlx::query("SELECT salt, ip, user_agent FROM audit.request_contexts WHERE entry = $1")
        .bind(row.get::<Uuid, _>("id"))
        .fetch_one(&rig.database.pool())
        .await
        .unwrap();
    let mut bytes = side.get::<Vec<u8>, _>("salt");
    for text in [side.get::<String, _>("ip"), side.get("user_agent")] {
        bytes.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        bytes.extend(text.bytes());
    }
    assert_eq!(row.get::<Vec<u8>, _>("ctx"), Sha256::digest(&bytes).as_slice());
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
    assert_eq!(mapped().await, [Some(subject.uuid())]);
    sqlx::query("UPDATE audit.subject_pii SET subject_id = NULL, erased_at = now()")
        .execute(&rig.database.pool())
        .await
        .unwrap();
    rig.log.record_alone(record(None, subject)).await.unwrap();
    assert_eq!(mapped().await, [None]);
    assert_eq!(rig.rows().await, 2);
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
