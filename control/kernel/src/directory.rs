//! Marking what changed for the edge directory, in the transaction that changes it.

use plexsphere_wire::directory::{domain_key, node_key};
use plexsphere_wire::{DomainId, NodeId};

use crate::{Fault, Tx};

const MARK: &str = "INSERT INTO kernel.directory_changes (key) VALUES ($1)";

/// Marks a Node's entry as changed; the projector reads it after the commit.
///
/// # Errors
/// [`Fault`].
pub async fn mark_node(tx: &mut Tx, node: NodeId) -> Result<(), Fault> {
    mark(tx, node_key(node)).await
}

/// Marks a Domain's entry as changed; the projector reads it after the commit.
///
/// # Errors
/// [`Fault`].
pub async fn mark_domain(tx: &mut Tx, domain: DomainId) -> Result<(), Fault> {
    mark(tx, domain_key(domain)).await
}

async fn mark(tx: &mut Tx, key: String) -> Result<(), Fault> {
    sqlx::query(MARK).bind(key).execute(&mut **tx).await?;
    sqlx::query("SELECT pg_notify('plexsphere_directory', '')").execute(&mut **tx).await?;
    Ok(())
}
