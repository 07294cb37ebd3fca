use std::sync::Arc;

use plexsphere_kernel::custody::{SealedRows, WrapKeyRing};
use plexsphere_kernel::seams::{DomainEntries as _, SigningKeys as _};
use plexsphere_kernel::tasks::{Task as _, Tasks, TasksContext};
use plexsphere_kernel::{EnvelopeSigner as _, KekRing, Probes, SignerFault, SystemClock};
use plexsphere_signing::SigningSelfcheck;
use plexsphere_testkit::{TestDatabase, eventually};
use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::parse_public_key;
use prometheus_client::registry::Registry;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::rig::{Rig, SCHEMA, now, open, unsigned};

#[tokio::test]
async fn every_statement_fits_the_migrated_schema() {
    let db = TestDatabase::with(&SCHEMA).await;
    for (number, statement) in plexsphere_signing::statements().enumerate() {
        sqlx::raw_sql(AssertSqlSafe(format!("PREPARE s{number} AS {statement}")))
            .execute(&db.pool())
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

#[tokio::test]
async fn a_domain_has_one_current_key_however_often_and_at_once_it_is_ensured() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let ensure = || async {
        let mut tx = rig.db.begin().await.unwrap();
        rig.signing.ensure(&mut tx, domain, now()).await.unwrap();
        let key = rig.signing.current(&mut tx, domain).await.unwrap();
        tx.commit().await.unwrap();
        key
    };
    let (one, two, three) = tokio::join!(ensure(), ensure(), ensure());
    assert!(one == two && two == three, "{one:?} {two:?} {three:?}");
    assert!(one.kid.starts_with("did:web:cp.example.org#") && one.kid.ends_with("-1"), "{}", one.kid);
    assert_eq!(one.public_key.len(), 44);
    parse_public_key(&one.public_key).unwrap();
    let entry = rig.signing.domain_entry(domain).await.unwrap().unwrap();
    assert_eq!((entry.announced_kid, entry.announced_seq, entry.keys.len()), (one.kid, 0, 1));
    assert_eq!(*rig.audit.0.lock().unwrap(), ["signing_key.provision"]);
    assert_eq!(rig.signing.domain_entries(None, 10).await.unwrap().len(), 1);
    assert!(rig.signing.domain_entries(Some(domain), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_rolled_back_domain_has_no_key() {
    let rig = Rig::new().await;
    let domain = DomainId::mint(now());
    let mut tx = rig.db.begin().await.unwrap();
    rig.signing.ensure(&mut tx, domain, now()).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(rig.signing.domain_entry(domain).await.unwrap(), None);
    assert_eq!(rig.signing.announced_kid(domain).await, Err(SignerFault::NoKey));
}

/// I3: another row, another Domain.
#[tokio::test]
async fn a_wrapped_seed_copied_to_another_domain_does_not_open() {
    let rig = Rig::new().await;
    let (one, two) = (rig.domain().await, rig.domain().await);
    sqlx::query(
        "UPDATE signing.keys t SET wrapped_seed = s.wrapped_seed FROM signing.keys s \
         WHERE t.domain_id = $1 AND s.domain_id = $2",
    )
    .bind(two.uuid())
    .bind(one.uuid())
    .execute(&rig.database.pool())
    .await
    .unwrap();
    let kid = rig.kid(two).await;
    let bytes = unsigned(two, &kid).canonical_bytes().unwrap();
    assert!(matches!(rig.signing.sign(two, &kid, &bytes).await, Err(SignerFault::Unavailable(_))));
    assert!(SigningSelfcheck::new(Arc::clone(&rig.signing)).run().await.is_err());
}

/// I3 and I5: another deployment, and the same one without its ring.
#[tokio::test]
async fn a_restored_copy_in_another_deployment_signs_nothing_and_is_not_ready() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("another deployment");
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    let kid = rig.kid(domain).await;
    let bytes = unsigned(domain, &kid).canonical_bytes().unwrap();
    assert!(rig.signing.sign(domain, &kid, &bytes).await.is_ok() && rig.probes.ready());

    let probes = Probes::default();
    let elsewhere = open(&rig.db, &rig.audit, &probes, &rig.ring, Uuid::from_u128(78)).await;
    assert!(!probes.ready());
    assert!(matches!(elsewhere.sign(domain, &kid, &bytes).await, Err(SignerFault::Unavailable(_))));
    // Even when the recorded deployment is altered with the copy, the seeds stay bound to the old one.
    sqlx::query("UPDATE kernel.installation SET deployment_id = $1")
        .bind(Uuid::from_u128(78))
        .execute(&rig.database.pool())
        .await
        .unwrap();
    let forged = open(&rig.db, &rig.audit, &Probes::default(), &rig.ring, Uuid::from_u128(78)).await;
    assert!(matches!(forged.sign(domain, &kid, &bytes).await, Err(SignerFault::Unavailable(_))));

    let ringless = open(&rig.db, &rig.audit, &probes, &KekRing::generate(), Uuid::from_u128(78)).await;
    assert!(matches!(ringless.sign(domain, &kid, &bytes).await, Err(SignerFault::Unavailable(_))));
}

#[tokio::test]
async fn the_self_check_finds_a_public_half_that_does_not_fit() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("does not fit its public half");
    let rig = Rig::new().await;
    rig.domain().await;
    let check = SigningSelfcheck::new(Arc::clone(&rig.signing));
    assert_eq!(check.run().await.unwrap().done, 1);
    sqlx::query("UPDATE signing.keys SET public_key = decode(repeat('07', 32), 'hex')")
        .execute(&rig.database.pool())
        .await
        .unwrap();
    assert_ne!(check.run().await.unwrap().health, plexsphere_kernel::tasks::Health::Good);
}

#[tokio::test]
async fn every_key_may_be_in_the_sample_of_the_self_check() {
    let rig = Rig::new().await;
    for _ in 0..24 {
        rig.domain().await;
    }
    // The oldest one, which a look at the newest alone never finds.
    sqlx::query(
        "UPDATE signing.keys SET wrapped_seed = '\\x0100' WHERE id = (SELECT id FROM signing.keys ORDER BY id LIMIT 1)",
    )
    .execute(&rig.database.pool())
    .await
    .unwrap();
    let check = SigningSelfcheck::new(Arc::clone(&rig.signing));
    // A third of the keys each time: not to find it in 60 goes happens once in 10^10.
    for _ in 0..60 {
        match check.run().await {
            Ok(progress) => assert_eq!(progress.done, 8, "the sample is bounded"),
            Err(_) => return,
        }
    }
    panic!("the key that does not open is in no sample");
}

#[tokio::test]
async fn a_key_under_a_wrap_key_that_is_not_loaded_fails_the_probe() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("a wrap key that is not loaded");
    let rig = Rig::new().await;
    rig.domain().await;
    let probes = Probes::default();
    let context = TasksContext { db: rig.db.clone(), clock: Arc::new(SystemClock), probes: probes.clone() };
    let mut tasks = Tasks::new(context, &mut Registry::default(), CancellationToken::new());
    let rows = Arc::clone(&rig.signing) as Arc<dyn SealedRows>;
    let task = tasks.add(Arc::new(WrapKeyRing::new(vec![rows])), WrapKeyRing::schedule());
    tasks.start();
    let reading = || probes.readings().into_iter().find(|reading| reading.name == "wrap-key-ring").unwrap();
    eventually!(reading().ready, "the ring holds what is stored");
    sqlx::query("UPDATE signing.keys SET wrap_key_version = 2").execute(&rig.database.pool()).await.unwrap();
    task.nudge();
    eventually!(!reading().ready && reading().detail.contains("not in the ring"), "the ring lacks a key");
}

#[tokio::test]
async fn the_contexts_own_role_can_do_all_its_work_and_another_one_none() {
    let rig = Rig::new().await;
    let db = plexsphere_kernel::Database::new(rig.database.pool_as("signing").await);
    let signing = open(&db, &rig.audit, &Probes::default(), &rig.ring, rig.deployment).await;
    let domain = DomainId::mint(now());
    let mut tx = db.begin().await.unwrap();
    signing.ensure(&mut tx, domain, now()).await.unwrap();
    tx.commit().await.unwrap();
    let kid = signing.announced_kid(domain).await.unwrap();
    let bytes = unsigned(domain, &kid).canonical_bytes().unwrap();
    signing.sign(domain, &kid, &bytes).await.unwrap();
    let stranger = rig.database.pool_as("kernel").await;
    for forbidden in ["SELECT wrapped_seed FROM signing.keys", "UPDATE signing.domains SET announced_seq = 1"] {
        let error = sqlx::query(forbidden).execute(&stranger).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
}
