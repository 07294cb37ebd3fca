use plexsphere_rebac::{STATEMENTS, Schema};
use plexsphere_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};

use crate::world::{TREE, migrator, world};

#[tokio::test]
async fn every_statement_prepares_for_the_role_of_this_context() {
    let db = TestDatabase::with(migrator()).await;
    let pool = db.pool_as("rebac").await;
    for statement in STATEMENTS {
        let sql = AssertSqlSafe((*statement).to_owned()).into_sql_str();
        if let Err(error) = pool.prepare(sql).await {
            panic!("{error}\n{statement}");
        }
    }
}

#[tokio::test]
async fn the_table_allows_what_the_schemas_text_allows() {
    let db = TestDatabase::with(migrator()).await;
    let sql = "SELECT object_kind, relation, subject_kind, subject_name, class FROM rebac.relations";
    let mut stored: Vec<(String, String, String, String, String)> =
        sqlx::query_as(sql).fetch_all(&db.pool()).await.unwrap();
    let forms = Schema::built_in().forms().into_iter();
    let mut expected: Vec<_> = forms.map(|(a, b, c, d, class)| (a, b, c, d, class.as_str().to_owned())).collect();
    stored.sort();
    expected.sort();
    assert_eq!(stored, expected);
}

#[tokio::test]
async fn the_table_refuses_permissions_foreign_forms_other_classes_and_changes() {
    let world = world().await;
    world.grant(&TREE).await;
    let pool = world.database.pool();
    let insert = "INSERT INTO rebac.tuples (id, scope, project_id, object_kind, object_id, relation, subject_kind,
        subject_id, subject_name, class, created_at) VALUES (gen_random_uuid(), gen_random_uuid(), $1::uuid,
        $2, gen_random_uuid(), $3, $4, gen_random_uuid(), $5, $6, now())";
    let filed = Some("018f4e0a-0000-7000-8000-000000000001");
    for (project, kind, relation, subject, name, class, constraint) in [
        (None, "project", "read", "user", "", "assignable", "tuples_form_fkey"),
        (None, "node", "agent", "node", "", "system", "tuples_form_fkey"),
        (None, "secret", "reader", "user", "", "assignable", "tuples_form_fkey"),
        (None, "project", "parent", "domain", "", "assignable", "tuples_form_fkey"),
        (filed, "project", "parent", "domain", "", "system", "tuples_filed_check"),
        (None, "domain", "parent", "platform", "", "system", "tuples_singleton_check"),
    ] {
        let query = sqlx::query(insert).bind(project).bind(kind).bind(relation).bind(subject).bind(name).bind(class);
        let refused = query.execute(pool).await.unwrap_err().to_string();
        assert!(refused.contains(constraint), "{kind}#{relation}: {refused}");
    }
    for change in ["UPDATE rebac.tuples SET relation = 'admin'", "TRUNCATE rebac.tuples"] {
        let refused = sqlx::query(change).execute(pool).await.unwrap_err().to_string();
        assert!(refused.contains("written and deleted, never changed"), "{refused}");
    }
    let refused = sqlx::query("SELECT * FROM kernel.outbox").execute(pool).await.unwrap_err().to_string();
    assert!(refused.contains("permission denied"), "{refused}");
}

#[tokio::test]
async fn hot_statements_walk_their_index() {
    let db = TestDatabase::with(migrator()).await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *tx).await.unwrap();
    for (sql, index) in [
        ("EXPLAIN SELECT scope, generation FROM rebac.generations WHERE moved_by >= '7'::xid8", "generations_moved"),
        (
            "EXPLAIN SELECT * FROM rebac.tuples WHERE project_id = gen_random_uuid()
             AND (created_at, id) > (now(), gen_random_uuid()) ORDER BY created_at, id LIMIT 50",
            "tuples_filed",
        ),
        (
            "EXPLAIN DELETE FROM rebac.tuples WHERE subject_id = gen_random_uuid() AND subject_kind = 'user'",
            "tuples_by_subject",
        ),
        (
            "EXPLAIN DELETE FROM rebac.tuples t USING unnest(ARRAY['node'], ARRAY[gen_random_uuid()]) AS gone (kind, id)
             WHERE (t.object_id = gone.id AND t.object_kind = gone.kind)
                OR (t.subject_id = gone.id AND t.subject_kind = gone.kind)",
            "BitmapOr",
        ),
        ("EXPLAIN SELECT * FROM rebac.changes WHERE scope = gen_random_uuid() AND generation > 7", "changes_pkey"),
        ("EXPLAIN SELECT * FROM rebac.changes WHERE changed_at < now() ORDER BY changed_at LIMIT 9", "changes_by_age"),
    ] {
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut *tx).await.unwrap();
        assert!(plan.join("\n").contains(index), "{}", plan.join("\n"));
    }
}
