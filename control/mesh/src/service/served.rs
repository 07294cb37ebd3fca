//! Which versions Nodes were served, gathered in memory and written in batches: a pull that brings nothing new writes
//! nothing.

use std::collections::HashMap;

use moka::sync::Cache;
use parking_lot::Mutex;
use plexsphere_wire::NodeId;
use sqlx::PgPool;

use crate::store::reachability;

/// Nodes that wait to be written. Beyond it a pull goes unrecorded, which costs its Node one more pull.
const MAX_PENDING: usize = 100_000;
/// Nodes whose last written versions are remembered.
const MAX_WRITTEN: u64 = 200_000;
/// Rows of one statement.
const MAX_ROWS: usize = 2_000;

/// A mesh version and a Node version.
type Versions = (i64, i64);

/// The versions that pulls of this replica carried.
#[derive(Debug)]
pub(crate) struct ServedVersions {
    pending: Mutex<HashMap<NodeId, Versions>>,
    written: Cache<NodeId, Versions>,
}

impl ServedVersions {
    pub(crate) fn new() -> Self {
        Self { pending: Mutex::default(), written: Cache::new(MAX_WRITTEN) }
    }

    /// Takes note of a pull.
    pub(crate) fn note(&self, node: NodeId, mesh: i64, own: i64) {
        if self.written.get(&node) == Some((mesh, own)) {
            return;
        }
        let mut pending = self.pending.lock();
        if pending.len() < MAX_PENDING || pending.contains_key(&node) {
            pending.insert(node, (mesh, own));
        }
    }

    /// Writes what has gathered; what cannot be written is kept.
    ///
    /// # Errors
    /// [`sqlx::Error`].
    pub(crate) async fn flush(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let taken: Vec<(NodeId, i64, i64)> =
            self.pending.lock().drain().map(|(node, (mesh, own))| (node, mesh, own)).collect();
        let mut rest = taken.as_slice();
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at(rest.len().min(MAX_ROWS));
            if let Err(error) = reachability::served(pool, chunk).await {
                let mut pending = self.pending.lock();
                for (node, mesh, own) in rest {
                    // A pull that came meanwhile is newer.
                    pending.entry(*node).or_insert((*mesh, *own));
                }
                return Err(error);
            }
            for (node, mesh, own) in chunk {
                self.written.insert(*node, (*mesh, *own));
            }
            rest = behind;
        }
        Ok(())
    }
}
