use plexsphere_kernel::Fault;
use plexsphere_testkit::TestDatabase;

#[tokio::test]
async fn a_row_that_breaks_a_rule_is_not_logged_with_its_values() {
    let database = TestDatabase::with(&plexsphere_kernel::MIGRATOR).await;
    let pool = database.pool();
    sqlx::raw_sql("CREATE TABLE people (email text, age int CONSTRAINT grown CHECK (age > 17))")
        .execute(&pool)
        .await
        .unwrap();
    let refused = sqlx::query("INSERT INTO people VALUES ('ada@example.com', 3)").execute(&pool).await.unwrap_err();
    let logged = format!("{:?}", Fault::from(refused));
    for named in ["23514", "people", "grown"] {
        assert!(logged.contains(named), "{logged}");
    }
    assert!(!logged.contains("ada@example.com"), "{logged}");
}
