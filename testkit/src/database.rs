//! PostgreSQL for tests: one server per process, one database per test, one role per context.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use data_encoding::HEXLOWER;
use plexsphere_local::{Artifact, Postgres, PostgresOptions, PostgresTuning};
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::{Mutex, OnceCell};

use crate::servers::{installed, new_fast_folder, paths, started};
use crate::walls;

/// The superuser.
const OWNER: &str = "plexsphere";
/// Connections one test's pool may hold. The server takes 200.
const POOL: u32 = 8;
/// The password of every context's role: these servers are on loopback and hold nothing.
const ROLE_PASSWORD: &str = "test";

/// A PostgreSQL server of this test process.
#[derive(Debug)]
pub struct TestPostgres {
    server: Postgres,
    shared: bool,
    access: Arc<Access>,
}

/// What the databases of one server share. Port and password outlive a restart of the server.
#[derive(Debug)]
struct Access {
    port: u16,
    password: String,
    /// Names of the template databases made so far. Making one holds the lock.
    templates: Mutex<HashSet<String>>,
    /// Roles made so far; roles belong to the server, not to a database. Granting holds the lock, because
    /// concurrent grants on one schema fail.
    roles: Mutex<HashSet<String>>,
    /// Databases of tests that have ended, to be dropped by the next test: an empty one takes 8 MB.
    ended: parking_lot::Mutex<Vec<String>>,
    next: AtomicU32,
}

/// The server this process shares. It is started by the first call, in less than a second once a fresh cluster is in
/// the cache.
///
/// # Panics
/// When it cannot be started; the message says why.
pub async fn postgres() -> &'static TestPostgres {
    static SHARED: OnceCell<TestPostgres> = OnceCell::const_new();
    SHARED.get_or_init(|| start(true)).await
}

/// A server for one test, which may kill it. It ends when the value is dropped.
///
/// # Panics
/// When it cannot be started; the message says why.
pub async fn postgres_own() -> TestPostgres {
    start(false).await
}

async fn start(shared: bool) -> TestPostgres {
    let installed = installed(Artifact::Postgres).await;
    let version = started("postgres", installed.get(Artifact::Postgres)).version;
    let options = PostgresOptions {
        data: new_fast_folder("postgres"),
        port: None,
        tuning: PostgresTuning::Throwaway,
        template: Some(paths().cache.join("testkit").join(format!("postgres-{version}"))),
    };
    let server = started("postgres", Postgres::start(installed, options).await);
    let access = Access {
        port: server.port(),
        password: server.password().to_owned(),
        templates: Mutex::default(),
        roles: Mutex::default(),
        ended: parking_lot::Mutex::default(),
        next: AtomicU32::new(0),
    };
    TestPostgres { server, shared, access: Arc::new(access) }
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
    ///
    /// # Panics
    /// When the server is the shared one: other tests stand on it.
    pub async fn kill9(&self) {
        assert!(!self.shared, "the shared server is not to be killed: use postgres_own()");
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
        let access = &self.access;
        let template = access.template(migrator).await;
        let name = format!("test_{}", access.next.fetch_add(1, Ordering::Relaxed));
        let mut admin = access.connect("postgres").await;
        let ended = std::mem::take(&mut *access.ended.lock());
        for ended in ended {
            run(&mut admin, &format!("DROP DATABASE IF EXISTS {ended} WITH (FORCE)")).await;
        }
        run(&mut admin, &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
        let url = access.url(OWNER, &access.password, &name);
        let pool = lazy_pool(&url);
        TestDatabase { url, name, pool, access: Arc::clone(access) }
    }
}

impl Access {
    fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
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
        PgConnection::connect(&self.url(OWNER, &self.password, database))
            .await
            .unwrap_or_else(|error| panic!("connecting to {database}: {error}"))
    }

    /// Makes the role of a context, once per server, and lets it into one database.
    async fn url_as(&self, database: &str, context: &str) -> String {
        let role = format!("context_{context}");
        let mut made = self.roles.lock().await;
        let mut connection = self.connect(database).await;
        if made.insert(role.clone()) {
            run(&mut connection, &format!("CREATE ROLE {role} LOGIN PASSWORD '{ROLE_PASSWORD}'")).await;
        }
        let tables: Vec<(String, String)> = sqlx::query_as(
            "SELECT schemaname::text, tablename::text FROM pg_catalog.pg_tables ORDER BY schemaname, tablename",
        )
        .fetch_all(&mut connection)
        .await
        .expect("the list of tables");
        for statement in walls::statements(&role, context, &tables) {
            run(&mut connection, &statement).await;
        }
        self.url(&role, ROLE_PASSWORD, database)
    }
}

/// A database of one test, in the shared server or in one of its own.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    name: String,
    pool: PgPool,
    access: Arc<Access>,
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
    /// [`WALLS`](crate::WALLS) opens.
    ///
    /// # Panics
    /// When the migrations make no such schema.
    pub async fn url_as(&self, context: &str) -> String {
        self.access.url_as(&self.name, context).await
    }

    /// As [`TestDatabase::url_as`], connected.
    ///
    /// # Panics
    /// As [`TestDatabase::url_as`].
    pub async fn pool_as(&self, context: &str) -> PgPool {
        lazy_pool(&self.url_as(context).await)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        self.access.ended.lock().push(std::mem::take(&mut self.name));
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
        .acquire_timeout(Duration::from_secs(10))
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
