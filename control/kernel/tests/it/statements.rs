use plexsphere_testkit::TestDatabase;
use sqlx::AssertSqlSafe;

#[tokio::test]
async fn every_statement_fits_the_migrated_schema() {
    let db = TestDatabase::with(&crate::rig::SCHEMA).await;
    let all = plexsphere_kernel::relay::STATEMENTS
        .iter()
        .chain(&plexsphere_kernel::projector::STATEMENTS)
        .chain(&plexsphere_kernel::installation::STATEMENTS);
    for (number, statement) in all.enumerate() {
        sqlx::raw_sql(AssertSqlSafe(format!("PREPARE s{number} AS {statement}")))
            .execute(&db.pool())
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}
