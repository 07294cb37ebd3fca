use plexsphere_identity::Identity;
use plexsphere_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::world::MIGRATOR;

#[tokio::test]
async fn every_statement_prepares_for_the_role_of_this_context() {
    let db = TestDatabase::with(MIGRATOR).await;
    let pool = db.pool_as("identity").await;
    for statement in Identity::statements() {
        let sql = AssertSqlSafe(statement.to_owned()).into_sql_str();
        if let Err(error) = pool.prepare(sql).await {
            panic!("{error}\n{statement}");
        }
    }
}

#[tokio::test]
async fn the_role_of_this_context_reads_no_other_contexts_table() {
    let db = TestDatabase::with(MIGRATOR).await;
    let pool = db.pool_as("identity").await;
    for foreign in ["SELECT * FROM mesh.peers", "SELECT * FROM signing.keys", "SELECT * FROM kernel.outbox"] {
        let refused = sqlx::query(foreign).execute(&pool).await.unwrap_err().to_string();
        assert!(refused.contains("permission denied"), "{foreign}: {refused}");
    }
}

#[tokio::test]
async fn hot_lists_walk_their_index() {
    let db = TestDatabase::with(MIGRATOR).await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *tx).await.unwrap();
    for (sql, index) in [
        (
            "EXPLAIN SELECT * FROM identity.bootstrap_tokens WHERE project_id = gen_random_uuid()
             AND (issued_at, id) > (now(), gen_random_uuid()) ORDER BY issued_at, id LIMIT 50",
            "bootstrap_tokens_by_issue",
        ),
        (
            "EXPLAIN SELECT * FROM identity.resources WHERE project_id = gen_random_uuid()
             AND (created_at, id) > (now(), gen_random_uuid()) ORDER BY created_at, id LIMIT 50",
            "resources_by_creation",
        ),
        ("EXPLAIN SELECT * FROM identity.domains WHERE slug > 'a' ORDER BY slug LIMIT 50", "domains_slug_key"),
        ("EXPLAIN SELECT * FROM identity.bootstrap_tokens WHERE lookup_tag = '\\x00'", "lookup_tag_key"),
    ] {
        let plan: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *tx).await.unwrap();
        assert!(plan.join("\n").contains(index), "{}", plan.join("\n"));
    }
}
