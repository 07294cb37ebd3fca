//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends at once.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::output::tell;

/// The exit code of a program ended by the user: 128 + SIGINT.
const INTERRUPTED: i32 = 130;

/// Cancels `token` on the first signal and ends the process on the second.
///
/// # Errors
/// When the signals cannot be listened to.
pub(crate) fn on_signal(token: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tell("Stopping in order; once more ends at once.");
        token.cancel();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(INTERRUPTED);
    });
    Ok(())
}
