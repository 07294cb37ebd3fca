use std::borrow::Cow;
use std::sync::LazyLock;

use plexsphere_audit::PLATFORM_ANCHOR;
use plexsphere_testkit::TestDatabase;
use sqlx::migrate::Migrator;

use crate::rig::{Rig, SCHEMA};

/// As it was while rows were only enlisted.
static BEFORE: LazyLock<Migrator> = LazyLock::new(|| {
    let own = plexsphere_kernel::MIGRATOR.iter().filter(|migration| matches!(migration.version, 1 | 3)).cloned();
    Migrator { migrations: Cow::Owned(own.collect()), ..Migrator::DEFAULT }
});

#[tokio::test]
async fn rows_that_waited_before_there_were_chains_are_chained_with_what_is_known_of_them() {
    let database = TestDatabase::with(&BEFORE).await;
    let person = uuid::Uuid::from_u128(5);
    let pseudonym = crate::rig::key().pepper(PLATFORM_ANCHOR).pseudonym(person);
    let old = "
        WITH rows AS (SELECT n, gen_random_uuid() AS id FROM generate_series(1, 40) n),
        side AS (
            INSERT INTO audit.request_contexts (entry, chain, subject, salt, ip, user_agent)
            SELECT id, $1, $2, sha256(n::text::bytea), '192.0.2.' || n, NULL FROM rows)
        INSERT INTO audit.pending (id, chain, subject, relation, object_type, object_id, reason, correlation_id, ctx, occurred_at)
        SELECT id, $1, $2, 'domain.read', 'domain', n::text, 'granted', 'c-' || n,
            sha256(sha256(n::text::bytea) || int4send(length('192.0.2.' || n)) || ('192.0.2.' || n)::bytea || int4send(0)),
            now() FROM rows ORDER BY rows.n";
    sqlx::query(old).bind(PLATFORM_ANCHOR).bind(pseudonym.as_slice()).execute(&database.pool()).await.unwrap();
    sqlx::query("INSERT INTO audit.subject_pii (chain, pseudonym, subject_id) VALUES ($1, $2, $3)")
        .bind(PLATFORM_ANCHOR)
        .bind(pseudonym.as_slice())
        .bind(person)
        .execute(&database.pool())
        .await
        .unwrap();
    SCHEMA.run(&database.pool()).await.unwrap();
    let rig = Rig::over(database);
    assert_eq!(rig.sequence().await, 40);
    assert_eq!(rig.rows().await, 0);
    assert_eq!(rig.verify(PLATFORM_ANCHOR).await.divergence, None);
    rig.world.caller("auditor", &["auditor"]);
    let page = rig.get("auditor", "/v1/platform/audit/entries").await;
    let entry = &page.body["items"][6];
    assert_eq!(entry["object"]["id"], "7", "in the order in which they were enlisted");
    assert_eq!(entry["request_context"]["ip"], "192.0.2.7");
    assert_eq!(entry["subject"]["identity_id_ref"], person.to_string());
}
