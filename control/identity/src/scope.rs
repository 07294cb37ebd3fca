//! The gate of an object that a read found: what a caller has no path to reads as missing.

use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::Call;
use plexsphere_wire::{DenialReason, Problem};

/// Asks for `relation` on `object`. Out of scope is `missing`, so that an id cannot be probed; a caller that reaches the
/// object by another relation is told so.
///
/// # Errors
/// `missing`, 403 `permission_denied`, or 503 `authz_unavailable`.
pub(crate) async fn gate(
    call: &Call,
    relation: &str,
    object: &ObjectRef,
    missing: impl Into<Problem>,
) -> Result<(), Problem> {
    match call.authorize(relation, object).await {
        Err(problem) if problem.denial().is_some_and(|denial| denial.reason == DenialReason::OutOfScope) => {
            Err(missing.into())
        }
        verdict => verdict,
    }
}
