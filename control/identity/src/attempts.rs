//! Trying again when PostgreSQL asks for it.

use std::time::Duration;

use plexsphere_kernel::Fault;
use plexsphere_kernel::database::is_transient;

/// Whoever was let through has passed by then, or the second attempt would meet it again.
const PAUSE: Duration = Duration::from_millis(100);

/// A refusal that may stand for a fault.
pub(crate) trait MayBeFault {
    /// The fault behind it, if that is what it is.
    fn fault(&self) -> Option<&Fault>;
}

/// Makes an attempt at a transaction, and another when PostgreSQL gave up the first for others (deadlock, serialisation
/// failure): nothing of it is left then, and what it lost against is there to be seen.
pub(crate) async fn twice<T, E, F>(attempt: impl Fn() -> F) -> Result<T, E>
where
    E: MayBeFault,
    F: Future<Output = Result<T, E>>,
{
    match attempt().await {
        Err(refusal) if matches!(refusal.fault(), Some(Fault::Database(error)) if is_transient(error)) => {
            tokio::time::sleep(PAUSE).await;
            attempt().await
        }
        result => result,
    }
}
