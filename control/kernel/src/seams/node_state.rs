//! Writing what Nodes pull about themselves.

use std::fmt;

use async_trait::async_trait;
use plexsphere_wire::NodeId;

use crate::{Actor, Fault, Tx};

/// The kinds of state entry that the platform writes. Reports are the Nodes' own, and nobody else writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateKind {
    /// What the Node is.
    Metadata,
    /// What workloads on it need.
    Data,
}

impl StateKind {
    /// The word in the database, in events and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Data => "data",
        }
    }
}

/// One entry to be.
#[derive(Clone, PartialEq, Eq)]
pub struct StateWrite {
    /// The Node that pulls it.
    pub node: NodeId,
    /// Its kind.
    pub kind: StateKind,
    /// Its key: `^[a-z][a-z0-9._-]{0,127}$`.
    pub key: String,
    /// At most 4096 bytes without NUL; `None` takes the entry away.
    pub value: Option<String>,
}

/// Values are nobody's business who reads a log.
impl fmt::Debug for StateWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = if self.value.is_some() { "put" } else { "delete" };
        write!(f, "{op} {} {} of {}", self.kind.as_str(), self.key, self.node)
    }
}

/// Why entries cannot be written; the caller rolls back.
#[derive(Debug, thiserror::Error)]
pub enum StateRefusal {
    /// A key breaks its grammar.
    #[error("the key of a state entry breaks its grammar")]
    BadKey,
    /// A value is longer than 4096 bytes, or holds NUL.
    #[error("the value of a state entry is too long or holds NUL")]
    BadValue,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Writes entries of the kinds `metadata` and `data`. Implemented by the mesh context.
///
/// In the caller's transaction, every Node whose entries change gets one `node_state_updated` and one audit row
/// `node.state.write`, and is asked to reconcile. A write that changes nothing does nothing, and neither does one about a
/// Node without a live Peer. There is one event per call: whoever changes several entries says so in one [`Self::write`].
#[async_trait]
pub trait NodeStateWriter: Send + Sync + 'static {
    /// Writes many entries of many Nodes; of two about one entry the later counts.
    ///
    /// # Errors
    /// [`StateRefusal`].
    async fn write(&self, tx: &mut Tx, actor: &Actor, writes: Vec<StateWrite>) -> Result<(), StateRefusal>;

    /// Writes one entry.
    ///
    /// # Errors
    /// [`StateRefusal`].
    async fn put(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        (node, kind, key): (NodeId, StateKind, &str),
        value: String,
    ) -> Result<(), StateRefusal> {
        self.write(tx, actor, vec![StateWrite { node, kind, key: key.to_owned(), value: Some(value) }]).await
    }

    /// Takes one entry away; one that is not there is left alone.
    ///
    /// # Errors
    /// [`StateRefusal`].
    async fn delete(
        &self,
        tx: &mut Tx,
        actor: &Actor,
        (node, kind, key): (NodeId, StateKind, &str),
    ) -> Result<(), StateRefusal> {
        self.write(tx, actor, vec![StateWrite { node, kind, key: key.to_owned(), value: None }]).await
    }
}
