//! PostgreSQL for tests: one server per process, one database per test, one role per context.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use data_encoding::HEXLOWER;
use plexsphere_local::{Artifact, Postgres, PostgresOptions, PostgresTuning};
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::{Mutex, OnceCell};

use crate::servers::{installed, new_folder, paths, started};
use crate::walls;

/// Connections one test's pool may hold. The server takes 200.
const POOL: u32 = 8;
/// The password of every context's role: these servers are on loopback and hold nothing.
const ROLE_PASSWORD: &str = "test";

/// A PostgreSQL server of this test process.
#[derive(Debug)]
pub struct TestPostgres {
    server: Postgres,
    /// Names of the template databases made so far. Making one holds the lock.
    templates: Mutex<HashSet<String>>,
    /// Roles made so far; roles belong to the server, not to a database.
    roles: Mutex<HashSet<String>>,
    next: AtomicU32,
}

/// The server this process shares. It is started by the first call, in less than a second once a fresh cluster is in
/// the cache.
///
/// # Panics
/// When it cannot be started; the message says why.
pub async fn postgres() -> &'static TestPostgres {
    static SHARED: OnceCell<TestPostgres> = OnceCell::const_new();
    SHARED.get_or_init(postgres_own).await
}

/// A server for one test, which may kill it. It ends when the value is dropped.
///
/// # Panics
/// When it cannot be started; the message says why.
pub async fn postgres_own() -> TestPostgres {
    let installed = installed(Artifact::Postgres).await;
    let version = started("postgres", installed.get(Artifact::Postgres)).version;
    let options = PostgresOptions {
        data: new_folder("postgres"),
        port: None,
        tuning: PostgresTuning::Throwaway,
        template: Some(paths().cache.join("testkit").join(format!("cluster-{version}"))),
    };
    TestPostgres {
        server: started("postgres", Postgres::start(installed, options).await),
        templates: Mutex::default(),
        roles: Mutex::default(),
        next: AtomicU32::new(0),
    }
}

impl TestPostgres {
    /// The connection string of the superuser. Databases of tests have their own.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.handle().pid()
    }

    /// Kills the server and all its backends, as a crash would.
    pub async fn kill9(&self) {
        self.server.kill9().await;
    }

    /// Starts it again on the same port and data; returns when it accepts connections.
    ///
    /// # Panics
    /// When it does not start again.
    pub async fn restart(&mut self) {
        started("postgres", self.server.restart().await);
    }

    /// A new database in this server, with the migrations applied.
    ///
    /// # Panics
    /// When a migration fails.
    pub async fn database(&self, migrator: &'static Migrator) -> TestDatabase {
        let template = self.template(migrator).await;
        let name = format!("test_{}", self.next.fetch_add(1, Ordering::Relaxed));
        let mut admin = self.connect("postgres").await;
        run(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = self.server.url_for("plexsphere", self.server.password(), &name);
        let pool = lazy_pool(&url);
        TestDatabase { url, name, pool }
    }

    /// The name of the migrated database that tests' databases are copied from, made once per server and set of
    /// migrations.
    async fn template(&self, migrator: &'static Migrator) -> String {
        let mut hasher = Sha256::new();
        for migration in migrator.iter() {
            hasher.update(migration.version.to_be_bytes());
            hasher.update(&migration.checksum);
        }
        let hash = HEXLOWER.encode(&hasher.finalize());
        let name = format!("template_{}", hash.get(..16).unwrap_or(&hash));
        let mut made = self.templates.lock().await;
        if made.contains(&name) {
            return name;
        }
        let mut admin = self.connect("postgres").await;
        // A test that failed in here before has left half a template.
        run(&mut admin, &format!("DROP DATABASE IF EXISTS {name}")).await;
        run(&mut admin, &format!("CREATE DATABASE {name}")).await;
        let mut connection = self.connect(&name).await;
        migrator.run(&mut connection).await.unwrap_or_else(|error| panic!("the migrations fail: {error}"));
        connection.close().await.expect("the migrated template is left");
        made.insert(name.clone());
        name
    }

    async fn connect(&self, database: &str) -> PgConnection {
        let url = self.server.url_for("plexsphere", self.server.password(), database);
        PgConnection::connect(&url).await.unwrap_or_else(|error| panic!("connecting to {database}: {error}"))
    }

    async fn role(&self, context: &str) -> String {
        let role = format!("context_{context}");
        let mut made = self.roles.lock().await;
        if made.insert(role.clone()) {
            let mut admin = self.connect("postgres").await;
            run(&mut admin, &format!("CREATE ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'")).await;
        }
        role
    }
}

/// A database of one test, in the shared server or in one of its own.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    name: String,
    pool: PgPool,
}

impl TestDatabase {
    /// A new database in the shared server, with the migrations applied (tens of milliseconds).
    ///
    /// # Panics
    /// When the server cannot be started or a migration fails.
    pub async fn with(migrator: &'static Migrator) -> Self {
        postgres().await.database(migrator).await
    }

    /// The connection string of the superuser.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The superuser's pool: for arranging and looking, not for the code under test.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        self.pool.clone()
    }

    /// The connection string of the role of one context: it may use the schema of that name, and what
    /// [`WALLS`](crate::WALLS) opens. Shared server only.
    ///
    /// # Panics
    /// When the migrations make no such schema.
    pub async fn url_as(&self, context: &str) -> String {
        self.url_as_in(postgres().await, context).await
    }

    /// As [`TestDatabase::url_as`], connected.
    ///
    /// # Panics
    /// As [`TestDatabase::url_as`].
    pub async fn pool_as(&self, context: &str) -> PgPool {
        lazy_pool(&self.url_as(context).await)
    }

    /// As [`TestDatabase::url_as`], for a database in a server of one's own.
    ///
    /// # Panics
    /// As [`TestDatabase::url_as`].
    pub async fn url_as_in(&self, server: &TestPostgres, context: &str) -> String {
        let role = server.role(context).await;
        let mut connection = server.connect(&self.name).await;
        let tables: Vec<(String, String)> = sqlx::query_as(
            "SELECT schemaname::text, tablename::text FROM pg_catalog.pg_tables ORDER BY schemaname, tablename",
        )
        .fetch_all(&mut connection)
        .await
        .expect("the list of tables");
        for statement in walls::statements(&role, context, &tables) {
            run(&mut connection, &statement).await;
        }
        server.server.url_for(&role, ROLE_PASSWORD, &self.name)
    }
}

impl Deref for TestDatabase {
    type Target = PgPool;

    fn deref(&self) -> &PgPool {
        &self.pool
    }
}

fn lazy_pool(url: &str) -> PgPool {
    PgPoolOptions::new()
        .max_connections(POOL)
        .acquire_timeout(Duration::from_secs(20))
        .connect_lazy(url)
        .expect("a connection string of our own")
}

/// Runs a statement made of names of our own.
async fn run(connection: &mut PgConnection, statement: &str) {
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned()))
        .execute(connection)
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
}
