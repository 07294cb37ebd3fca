use plexsphere_mesh::STATEMENTS;
use plexsphere_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _};

use crate::world::{migrator, world};

#[tokio::test]
async fn every_statement_prepares_for_the_role_of_this_context() {
    let db = TestDatabase::with(migrator()).await;
    let pool = db.pool_as("mesh").await;
    for statement in STATEMENTS {
        let sql = AssertSqlSafe((*statement).to_owned()).into_sql_str();
        if let Err(error) = pool.prepare(sql).await {
            panic!("{error}\n{statement}");
        }
    }
}

#[tokio::test]
async fn the_wall_around_the_schema_stands() {
    let world = world().await;
    let refused = sqlx::query("SELECT * FROM kernel.outbox").execute(world.database.pool()).await;
    assert!(refused.unwrap_err().to_string().contains("permission denied"));
}

#[tokio::test]
async fn the_peer_list_and_the_search_for_an_address_walk_an_index() {
    let world = world().await;
    let pool = world.db.pool();
    let fill = "
        WITH domain AS (SELECT gen_random_uuid() AS id, n AS d FROM generate_series(1, 20) n),
        host AS (SELECT id, (d * 1000 + n) AS n, '10.0.0.0'::inet + n AS ip FROM domain, generate_series(1, 500) n),
        peers AS (
            INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
            SELECT gen_random_uuid(), gen_random_uuid(), id, id, decode(lpad(to_hex(n), 64, '0'), 'hex'), ip, now(), now()
            FROM host
        )
        INSERT INTO mesh.allocations (domain_id, ip, node_id, allocated_at) SELECT id, ip, id, now() FROM host";
    sqlx::query(fill).execute(&pool).await.unwrap();
    let endpoints = "
        INSERT INTO mesh.endpoints (peer_id, host, port, nat_type, reported_at, accepted_at, stale_after)
        SELECT peer_id, '192.0.2.1', 1, 'unknown', now(), now(), now() + interval '1 hour' FROM mesh.peers";
    sqlx::query(endpoints).execute(&pool).await.unwrap();
    let entries = "
        INSERT INTO mesh.state_entries (node_id, kind, key, value, written_at)
        SELECT node_id, 'report', 'k' || n, '', now() FROM mesh.peers, generate_series(1, 4) n";
    sqlx::query(entries).execute(&pool).await.unwrap();
    for table in ["peers", "allocations", "endpoints", "state_entries"] {
        sqlx::raw_sql(AssertSqlSafe(format!("VACUUM ANALYZE mesh.{table}"))).execute(&pool).await.unwrap();
    }
    let explain = async |part: &str| {
        let mut found = STATEMENTS.iter().filter(|statement| statement.contains(part));
        let statement = found.next().unwrap();
        assert!(found.next().is_none(), "{part} is in one statement");
        let sql = AssertSqlSafe(format!("EXPLAIN (GENERIC_PLAN) {statement}"));
        let rows = sqlx::raw_sql(sql).fetch_all(&pool).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>().join("\n")
    };
    let list = explain("AND p.deregistered_at IS NULL ORDER BY p.node_id").await;
    assert!(list.contains("Index Only Scan using peers_live_list") && !list.contains("Sort"), "{list}");
    let changed = explain("p.changed_version > $2").await;
    assert!(changed.contains("peers_changed") && !changed.contains("Seq Scan"), "{changed}");
    let sweep = explain("e.stale_after <= $1").await;
    assert!(sweep.contains("Index Scan using endpoints_due") && !sweep.contains("Seq Scan"), "{sweep}");
    let search = explain("AS free").await;
    assert!(search.contains("allocations_pkey") && !search.contains("Seq Scan"), "{search}");
    let entries = explain("SELECT kind, key, value, workload_tag").await;
    assert!(entries.contains("state_entries_pkey") && !entries.contains("Seq Scan"), "{entries}");
    let head = explain("SELECT p.domain_id, d.mesh_version").await;
    assert!(head.contains("peers_live_node"), "{head}");
}
