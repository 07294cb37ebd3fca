//! What the three servers share: start, wait until ready, start again elsewhere when a free port was snatched.

use std::future::Future;
use std::time::Duration;

use crate::error::LocalError;
use crate::supervise::{Child, ChildSpec, join_last};

/// How long a server may take to be ready. Recovery after a crash is the slowest start.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Starts `spec` and returns when `ready` says so. `ready` gets the child's process id.
pub(crate) async fn start<F, Fut>(what: &'static str, spec: ChildSpec, ready: F) -> Result<Child, LocalError>
where
    F: Fn(u32) -> Fut,
    Fut: Future<Output = bool>,
{
    let child = Child::spawn(spec)?;
    let until_ready = async {
        while !ready(child.pid()).await {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        exit = child.exited() => Err(LocalError::DiedAtStart { what: what.to_owned(), exit }),
        () = until_ready => Ok(child),
        () = tokio::time::sleep(READY_WITHIN) => {
            let last_lines = join_last(&child.tail());
            child.kill().await;
            Err(LocalError::NotReady { what, seconds: READY_WITHIN.as_secs(), last_lines })
        }
    }
}

/// Whether a start failed because its port was taken between choosing and binding it.
pub(crate) fn lost_its_port(error: &LocalError) -> bool {
    match error {
        LocalError::DiedAtStart { exit, .. } => {
            exit.tail.iter().any(|line| line.to_ascii_lowercase().contains("address already in use"))
        }
        _ => false,
    }
}
