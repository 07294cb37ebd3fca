//! PostgreSQL: one pool per role, `READ COMMITTED`, explicit locks, one transaction per use case.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{PgPool, Postgres, Transaction};
use tracing::Instrument as _;

use crate::Fault;

/// The forward-only migrations, one ordered list for all contexts.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// A transaction. Dropped without a commit, it rolls back.
pub type Tx = Transaction<'static, Postgres>;

/// A handle on the database.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
}

impl Database {
    /// Wraps a pool that exists, as tests have one.
    #[must_use]
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Connects with at most `max_connections` connections, waiting at most 5 s for one.
    ///
    /// # Errors
    /// [`Fault`] when the URL is malformed or the server does not answer.
    pub async fn connect(url: &str, max_connections: u32) -> Result<Self, Fault> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("plexsphere").options([
            ("statement_timeout", "15s"),
            ("idle_in_transaction_session_timeout", "30s"),
            ("lock_timeout", "5s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await?;
        Ok(Self { pool })
    }

    /// The pool, for reads of one statement.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Opens a transaction. A caller that stops waiting, such as a request whose client went away, leaves none open.
    ///
    /// # Errors
    /// [`Fault`] when no connection is to be had.
    pub async fn begin(&self) -> Result<Tx, Fault> {
        let pool = self.pool.clone();
        // In a task of its own, which runs to its end: sqlx counts a transaction only once the server has answered, so a
        // connection whose `BEGIN` is dropped half way would go back to the pool with a transaction that nobody ends.
        let begun = tokio::spawn(async move { pool.begin().await }.in_current_span());
        // A task does not come back only if the runtime is going down.
        Ok(begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))?)
    }

    /// Opens a read-only transaction that sees one state of the database throughout.
    ///
    /// # Errors
    /// [`Fault`] when no connection is to be had.
    pub async fn snapshot(&self) -> Result<Tx, Fault> {
        let mut tx = self.begin().await?;
        sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").execute(&mut *tx).await?;
        Ok(tx)
    }

    /// Applies the migrations that are missing.
    ///
    /// # Errors
    /// [`sqlx::migrate::MigrateError`] when one fails or the database is newer than the build.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        MIGRATOR.run(&self.pool).await
    }
}

/// Runs one attempt at a transaction and once more when PostgreSQL asks for it (serialisation failure or deadlock).
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(inner)
        if inner.code().is_some_and(|code| matches!(code.as_ref(), "40001" | "40P01")))
}

/// The name of the constraint that an error reports, if it is a constraint violation.
#[must_use]
pub fn violated_constraint(error: &sqlx::Error) -> Option<&str> {
    match error {
        sqlx::Error::Database(inner) => inner.constraint(),
        _ => None,
    }
}
