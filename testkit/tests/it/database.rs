use plexsphere_testkit::{TestDatabase, eventually, postgres, postgres_own};
use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;

static MIGRATOR: Migrator = sqlx::migrate!("tests/it/migrations");

async fn names(database: &TestDatabase) -> Vec<String> {
    sqlx::query_scalar("SELECT name FROM identity.principal ORDER BY name").fetch_all(&database.pool()).await.unwrap()
}

async fn insert(database: &TestDatabase, name: &str) {
    sqlx::query("INSERT INTO identity.principal (name) VALUES ($1)")
        .bind(name)
        .execute(&database.pool())
        .await
        .unwrap();
}

#[tokio::test]
async fn two_tests_never_see_each_others_rows() {
    let (one, two) = tokio::join!(TestDatabase::with(&MIGRATOR), TestDatabase::with(&MIGRATOR));
    insert(&one, "ada").await;
    insert(&two, "bob").await;
    assert_eq!(names(&one).await, ["ada"]);
    assert_eq!(names(&two).await, ["bob"]);
    assert_ne!(one.name(), two.name());
}

#[tokio::test]
async fn the_server_is_shared_and_sorts_by_code_point() {
    assert_eq!(postgres().await.pid(), postgres().await.pid());
    let database = TestDatabase::with(&MIGRATOR).await;
    for name in ["b", "B", "ä"] {
        insert(&database, name).await;
    }
    assert_eq!(names(&database).await, ["B", "b", "ä"]);
}

#[tokio::test]
async fn a_contexts_role_writes_its_own_schema_and_the_outbox() {
    let database = TestDatabase::with(&MIGRATOR).await;
    let identity = database.pool_as("identity").await;
    let mut transaction = identity.begin().await.unwrap();
    sqlx::query("INSERT INTO identity.principal (name) VALUES ('eve')").execute(&mut *transaction).await.unwrap();
    sqlx::query("INSERT INTO kernel.outbox (body) VALUES ('made')").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(names(&database).await, ["eve"]);
}

#[tokio::test]
async fn another_contexts_table_is_a_permission_error() {
    let database = TestDatabase::with(&MIGRATOR).await;
    let identity = database.pool_as("identity").await;
    for forbidden in [
        "SELECT count(*) FROM mesh.peer",
        "SELECT count(*) FROM kernel.lease",
        "SELECT body FROM kernel.outbox",
        "DELETE FROM kernel.outbox",
        "CREATE TABLE mesh.other (id int)",
        "CREATE TABLE public.other (id int)",
    ] {
        let refused = sqlx::query(forbidden).execute(&identity).await.unwrap_err();
        let code = refused.as_database_error().and_then(|error| error.code().map(|code| code.into_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}: {refused}");
    }
}

#[tokio::test]
async fn roles_of_several_contexts_are_let_in_at_once_also_in_an_own_server() {
    let server = postgres_own().await;
    let database = server.database(&MIGRATOR).await;
    let (identity, mesh) = tokio::join!(database.pool_as("identity"), database.pool_as("mesh"));
    sqlx::query("INSERT INTO identity.principal (name) VALUES ('ada')").execute(&identity).await.unwrap();
    sqlx::query("INSERT INTO mesh.peer DEFAULT VALUES").execute(&mesh).await.unwrap();
}

#[tokio::test]
async fn the_database_of_a_test_that_ended_is_dropped_by_the_next_one() {
    let server = postgres_own().await;
    let ended = server.database(&MIGRATOR).await;
    insert(&ended, "ada").await;
    let name = ended.name().to_owned();
    drop(ended);
    let next = server.database(&MIGRATOR).await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_database WHERE datname = $1")
        .bind(name)
        .fetch_one(&next.pool())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_was_committed_survives_a_kill_and_a_restart() {
    let mut server = postgres_own().await;
    let database = server.database(&MIGRATOR).await;
    insert(&database, "ada").await;
    let before = server.pid();
    server.kill9().await;
    // A pool would wait for the server; one connection says at once that it is away.
    assert!(PgConnection::connect(database.url()).await.is_err());
    server.restart().await;
    assert_ne!(server.pid(), before);
    eventually!(
        sqlx::query("SELECT 1").execute(&database.pool()).await.is_ok(),
        "the pool reaches the restarted server"
    );
    assert_eq!(names(&database).await, ["ada"]);
}
