use plexsphere_identity::Identity;
use plexsphere_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _};

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

/// A vacuum in the middle would have the planner weigh some tables by what it saw and others not.
const UNDISTURBED: &str = "DO $$ DECLARE wide text; BEGIN
    FOR wide IN SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'identity' LOOP
        EXECUTE 'ALTER TABLE ' || wide || ' SET (autovacuum_enabled = false)';
    END LOOP; END $$";

/// Rows enough that a plan which reads them all is the dearer one.
const MANY: [&str; 7] = [
    "INSERT INTO identity.domains (id, name, slug, mesh_cidr, heartbeat_interval_ns, stale_after_ns,
         unreachable_after_ns, created_at, updated_at)
     SELECT gen_random_uuid(), 'n', 's' || i, ('10.' || i / 256 || '.' || i % 256 || '.0/24')::cidr,
         30000000000, 90000000000, 300000000000, now(), now()
     FROM generate_series(0, 4999) AS i",
    "INSERT INTO identity.projects (id, domain_id, name, slug, created_at, updated_at)
     SELECT gen_random_uuid(), d.id, 'n', 'p' || i, now(), now()
     FROM (SELECT id FROM identity.domains LIMIT 50) AS d, generate_series(1, 200) AS i",
    "INSERT INTO identity.resources (id, project_id, domain_id, kind, origin, external_ref, created_at, updated_at)
     SELECT gen_random_uuid(), p.id, p.domain_id, 'vm', 'adopted', 'r' || i, now() + i * interval '1 second', now()
     FROM (SELECT * FROM identity.projects LIMIT 100) AS p, generate_series(1, 200) AS i",
    "INSERT INTO identity.bootstrap_tokens (id, project_id, domain_id, kind, env_prefix, hash, lookup_tag, issued_at,
         expires_at, issued_by_user_id)
     SELECT gen_random_uuid(), p.id, p.domain_id, 'node', 'dev', 'h', sha256((p.id || '/' || i)::bytea),
         now() + i * interval '1 second', now(), gen_random_uuid()
     FROM (SELECT * FROM identity.projects LIMIT 100) AS p, generate_series(1, 200) AS i",
    "INSERT INTO identity.nodes (id, domain_id, project_id, resource_id, public_key, mesh_ip, pinned_signing_key_id,
         created_at)
     SELECT gen_random_uuid(), domain_id, project_id, id, sha256(id::text::bytea), '10.0.0.0'::inet + row_number() OVER (),
         'k', now()
     FROM identity.resources",
    "INSERT INTO identity.node_secret_keys (kid, node_id, wrapped, wrap_key_version, digest, created_at)
     SELECT id, id, 'x', 1, sha256(id::text::bytea), now() FROM identity.nodes",
    "ANALYZE identity.domains, identity.projects, identity.resources, identity.bootstrap_tokens, identity.nodes,
         identity.node_secret_keys",
];

#[tokio::test]
async fn pages_are_ranges_of_their_index_however_deep() {
    let db = TestDatabase::with(MIGRATOR).await;
    let mut connection = db.acquire().await.unwrap();
    for sql in std::iter::once(UNDISTURBED).chain(MANY).chain(crate::rows::MANY).chain(crate::tenancy_rig::MANY) {
        sqlx::raw_sql(sql).execute(&mut *connection).await.unwrap();
    }
    let mut strayed = Vec::new();
    for (statement, index) in plexsphere_identity::indexed_statements() {
        assert!(Identity::statements().contains(&statement), "a statement that runs: {statement}");
        // The plan for any parameters, as a prepared statement has it after a few runs.
        let explain = AssertSqlSafe(format!("EXPLAIN (GENERIC_PLAN) {statement}")).into_sql_str();
        let rows = sqlx::raw_sql(explain).fetch_all(&mut *connection).await.unwrap();
        let plan: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        let used = plan.split_once(index).map(|(_, rest)| rest.lines().nth(1).unwrap_or(""));
        if !used.is_some_and(|line| line.contains("Index Cond")) {
            strayed.push(format!("{index}\n{statement}\n{plan}"));
        }
    }
    assert!(strayed.is_empty(), "{}", strayed.join("\n\n"));
}
