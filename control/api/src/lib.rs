//! Joins the contexts' operations into one router and one API document.
//!
//! Invariants:
//! - **I1** The document describes exactly the routes of the router and of the edge, because both are made of the same
//!   list ([`document`]).
//! - **I2** Every operation has words, a success and a gate; one that lacks any does not start ([`Api::new`]).
//! - **I3** The meta operations ask no dependency: what they answer was computed before.

mod document;
mod edge_surface;
mod health;
mod meta;

pub use document::document;
pub use edge_surface::edge_operations;
pub use health::{CheckStatus, Health, HealthCheck, HealthStatus};
pub use meta::BuildInfo;

use std::sync::Arc;

use axum::Router;
use plexsphere_kernel::http::{Gates, Operation, serve};

/// Why a list of operations cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncompleteOperation {
    /// The operation's id.
    pub id: &'static str,
    /// What it lacks.
    pub lacks: &'static str,
}

impl std::fmt::Display for IncompleteOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operation {} lacks {}", self.id, self.lacks)
    }
}

impl std::error::Error for IncompleteOperation {}

/// The whole API of the control tier.
pub struct Api {
    router: Router,
    document: Arc<[u8]>,
}

impl Api {
    /// Joins the contexts' operations with the meta operations.
    ///
    /// # Errors
    /// [`IncompleteOperation`] for the first operation without words or success, and for a repeated id or route.
    pub fn new(
        mut operations: Vec<Operation>,
        gates: &Arc<Gates>,
        health: Health,
        build: BuildInfo,
    ) -> Result<Self, IncompleteOperation> {
        operations.extend(meta::described());
        let edge = edge_operations();
        let all: Vec<&Operation> = operations.iter().chain(&edge).collect();
        complete(&all)?;
        let document: Arc<[u8]> = serde_json::to_vec(&document(&all, build.version)).unwrap_or_default().into();
        operations.retain(|operation| operation.tag != "meta");
        operations.extend(meta::operations(health, build, Arc::clone(&document)));
        Ok(Self { router: serve(operations, gates), document })
    }

    /// The router, for the internal listener.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The API document as it is served.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }
}

fn complete(operations: &[&Operation]) -> Result<(), IncompleteOperation> {
    let mut seen = std::collections::HashSet::new();
    for operation in operations {
        let lacks = |lacks| IncompleteOperation { id: operation.id, lacks };
        if operation.summary.is_empty() || operation.tag.is_empty() {
            return Err(lacks("words"));
        }
        if operation.successes.is_empty() {
            return Err(lacks("a success"));
        }
        let route = format!("{} {}", operation.method, operation.path);
        if !seen.insert(operation.id.to_owned()) || !seen.insert(route) {
            return Err(lacks("an id and a route of its own"));
        }
    }
    Ok(())
}
