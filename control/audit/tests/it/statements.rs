use plexsphere_audit::statements;
use plexsphere_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _};

use crate::rig::{Rig, SCHEMA, somebody};

#[tokio::test]
async fn every_statement_prepares_for_the_role_of_this_context() {
    let db = TestDatabase::with(&SCHEMA).await;
    let pool = db.pool_as("audit").await;
    for statement in statements() {
        let sql = AssertSqlSafe(statement.clone()).into_sql_str();
        if let Err(error) = pool.prepare(sql).await {
            panic!("{error}\n{statement}");
        }
    }
}

/// The wall around the log: the role that serves it adds and reads, and so does everybody else.
#[tokio::test]
async fn the_role_of_this_context_can_neither_change_nor_remove_an_entry_nor_turn_a_head_back() {
    let rig = Rig::new().await;
    rig.domain(somebody(), 2).await;
    let pool = rig.database.pool_as("audit").await;
    for forbidden in [
        "UPDATE audit.entries SET reason = 'granted'",
        "DELETE FROM audit.entries",
        "DELETE FROM audit.entries WHERE false",
        "TRUNCATE audit.entries",
        "UPDATE audit.chain_heads SET last_seq = 1",
        "UPDATE audit.chain_heads SET last_hash = decode(repeat('11', 32), 'hex')",
        "DELETE FROM audit.chain_heads",
    ] {
        let error = sqlx::query(forbidden).execute(&pool).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
}

/// The constants that the code runs, planned without knowing their parameters.
#[tokio::test]
async fn lists_proofs_and_the_queue_walk_their_indexes() {
    let rig = Rig::new().await;
    let fill = "
        INSERT INTO audit.entries SELECT ('00000000-0000-7000-8000-00000000000' || n % 8)::uuid, n / 8 + 1,
            gen_random_uuid(), sha256(n::text::bytea), 'domain.read', 'domain', n::text,
            CASE n % 50 WHEN 0 THEN 'out_of_scope' ELSE 'granted' END, '{}', n::text, sha256('c'),
            now() + n * interval '1 second', 0, sha256('p'), sha256('h'), 'x'
        FROM generate_series(0, 39999) n;
        INSERT INTO audit.pending (id, chain, subject, relation, object_type, object_id, reason, correlation_id, ctx, occurred_at)
        SELECT gen_random_uuid(), ('00000000-0000-7000-8000-00000000000' || n % 8)::uuid, sha256('s'), 'domain.read',
            'domain', 'x', 'granted', 'c', sha256('c'), now() FROM generate_series(0, 19999) n;";
    rig.tamper(fill).await;
    for table in ["entries", "pending", "segments", "request_contexts", "subject_pii", "chain_heads"] {
        let vacuum = AssertSqlSafe(format!("VACUUM ANALYZE audit.{table}"));
        sqlx::raw_sql(vacuum).execute(&rig.database.pool()).await.unwrap();
    }
    let explain = async |part: &str| {
        let all = statements();
        let mut found = all.iter().filter(|statement| statement.contains(part));
        let statement = found.next().unwrap_or_else(|| panic!("{part} is in a statement"));
        assert!(found.next().is_none(), "{part} is in one statement");
        let sql = AssertSqlSafe(format!("EXPLAIN (GENERIC_PLAN) {statement}"));
        let rows = sqlx::raw_sql(sql).fetch_all(&rig.database.pool()).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n")
    };
    for (part, index) in [
        ("seq > $2 ORDER BY", "entries_pkey"),
        ("seq > $2 AND subject = $4 ORDER BY", "entries_subject"),
        ("seq > $2 AND object_id = $4 ORDER BY", "entries_object"),
        ("seq > $2 AND correlation_id = $4 ORDER BY", "entries_correlation"),
        ("seq > $2 AND reason = $4 AND reason <> 'granted' ORDER BY", "entries_refused"),
        ("seq > $2 AND relation = $4 ORDER BY", "entries_pkey"),
        ("chain = $1 AND seq = $2) e", "entries_pkey"),
        ("(SELECT ctid FROM audit.pending WHERE chain = $1 AND n > $3 ORDER BY n LIMIT $2)", "pending_pkey"),
        ("SELECT max(n)", "pending_pkey"),
        ("AND n <= $2", "pending_pkey"),
        ("WITH RECURSIVE chains", "pending_pkey"),
    ] {
        let plan = explain(part).await;
        assert!(plan.contains(index) && !plan.contains("Sort Key: entries.seq"), "{index}\n{plan}");
        let scanned = plan.contains("Seq Scan on entries") || plan.contains("Seq Scan on pending");
        assert!(!scanned, "{plan}");
    }
}
