//! The probes `database` and `migrations`.

use std::time::{Duration, Instant};

use plexsphere_kernel::{Database, MIGRATOR, Probes};
use tokio_util::sync::CancellationToken;

/// How often the database is asked.
const PERIOD: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// A write-capable connection answers, and the newest migration is the build's.
const ASK: &str =
    "SELECT NOT pg_is_in_recovery(), coalesce((SELECT max(version) FROM _sqlx_migrations WHERE success), 0)";

/// Watches the database until cancelled.
pub(super) fn watch(db: &Database, probes: &Probes, cancel: CancellationToken) {
    let (database, migrations) = (probes.register("database"), probes.register("migrations"));
    let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    let db = db.clone();
    tokio::spawn(async move {
        while !cancel.is_cancelled() {
            let begun = Instant::now();
            let ask = sqlx::query_as::<_, (bool, i64)>(ASK).fetch_one(db.pool());
            match tokio::time::timeout(PATIENCE, ask).await {
                Ok(Ok((true, version))) => {
                    database.pass(format!("reachable in {} ms", begun.elapsed().as_millis()));
                    if version == newest {
                        migrations.pass("up to date");
                    } else {
                        migrations.fail("the schema is not the build's; run `plexsphere migrate`");
                    }
                }
                Ok(Ok((false, _))) => database.fail("read-only"),
                Ok(Err(_)) | Err(_) => database.fail("not reachable"),
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
    });
}
