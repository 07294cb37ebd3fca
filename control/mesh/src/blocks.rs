//! The parts of a pull that other contexts own. A provider that is not installed is a context that this installation
//! does not have: its part has the empty form, which is the truth. A provider that fails fails the pull, because an
//! agent takes an empty part for an order to tear down; only unknown sessions can be said (`null`).

use std::sync::Arc;

use async_trait::async_trait;
use plexsphere_kernel::{Fault, Tx};
use plexsphere_wire::NodeId;
use serde_json::value::RawValue;

/// The compiled policy of a Node, from the policy context.
#[async_trait]
pub trait PolicyBlock: Send + Sync + 'static {
    /// `NodeStatePolicy` as compact JSON; `None` when no policy has the Node.
    ///
    /// # Errors
    /// [`Fault`]; the pull fails with it.
    async fn for_node(&self, tx: &mut Tx, node: NodeId) -> Result<Option<Box<RawValue>>, Fault>;
}

/// What a Node does as a bridge, from the bridge context.
#[async_trait]
pub trait BridgeBlock: Send + Sync + 'static {
    /// `NodeStateBridge` as compact JSON; `None` when the Node serves no bridge Resource.
    ///
    /// # Errors
    /// [`Fault`]; the pull fails with it.
    async fn for_node(&self, tx: &mut Tx, node: NodeId) -> Result<Option<Box<RawValue>>, Fault>;
}

/// Invocations that wait for a Node or run on it, from the actions context.
#[async_trait]
pub trait ExecutionsBlock: Send + Sync + 'static {
    /// A JSON array, by time of request and id.
    ///
    /// # Errors
    /// [`Fault`]; the pull fails with it.
    async fn for_node(&self, tx: &mut Tx, node: NodeId) -> Result<Box<RawValue>, Fault>;
}

/// Live sessions of a Node, from the access context.
#[async_trait]
pub trait SessionsBlock: Send + Sync + 'static {
    /// A JSON array, by time of issue and id.
    ///
    /// # Errors
    /// [`Fault`]; the pull then says `null`, and the agent keeps the sessions it has.
    async fn for_node(&self, tx: &mut Tx, node: NodeId) -> Result<Box<RawValue>, Fault>;
}

/// The providers that this installation has. None is the default, and true of an installation without those contexts.
#[derive(Clone, Default)]
pub struct Blocks {
    /// The policy context.
    pub policy: Option<Arc<dyn PolicyBlock>>,
    /// The bridge context.
    pub bridge: Option<Arc<dyn BridgeBlock>>,
    /// The actions context.
    pub executions: Option<Arc<dyn ExecutionsBlock>>,
    /// The access context.
    pub sessions: Option<Arc<dyn SessionsBlock>>,
}

/// What the providers said of a Node.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockTexts {
    policy: Option<Box<RawValue>>,
    bridge: Option<Box<RawValue>>,
    executions: Executions,
    sessions: Sessions,
}

#[derive(Clone, Debug, Default)]
enum Executions {
    #[default]
    None,
    Some(Box<RawValue>),
}

#[derive(Clone, Debug, Default)]
enum Sessions {
    #[default]
    None,
    Unknown,
    Some(Box<RawValue>),
}

impl Blocks {
    /// Whether there is anyone to ask.
    pub(crate) const fn is_empty(&self) -> bool {
        self.policy.is_none() && self.bridge.is_none() && self.executions.is_none() && self.sessions.is_none()
    }

    /// Asks all providers in one snapshot; sessions last, because a failed statement ends the transaction.
    pub(crate) async fn read(&self, tx: &mut Tx, node: NodeId) -> Result<BlockTexts, Fault> {
        let mut texts = BlockTexts::default();
        if let Some(policy) = &self.policy {
            texts.policy = policy.for_node(tx, node).await?;
        }
        if let Some(bridge) = &self.bridge {
            texts.bridge = bridge.for_node(tx, node).await?;
        }
        if let Some(executions) = &self.executions {
            texts.executions = Executions::Some(executions.for_node(tx, node).await?);
        }
        if let Some(sessions) = &self.sessions {
            texts.sessions = match sessions.for_node(tx, node).await {
                Ok(text) => Sessions::Some(text),
                Err(fault) => {
                    tracing::warn!(%node, cause = ?fault, "a pull goes without sessions");
                    Sessions::Unknown
                }
            };
        }
        Ok(texts)
    }
}

impl BlockTexts {
    /// The same for a read from memory: what runs and who is connected is not known, so executions are left to the next
    /// good pull and sessions are kept.
    pub(crate) fn stale(self) -> Self {
        Self { executions: Executions::None, sessions: Sessions::Unknown, ..self }
    }

    pub(crate) fn policy(&self) -> &str {
        self.policy.as_deref().map_or("null", RawValue::get)
    }

    pub(crate) fn bridge(&self) -> &str {
        self.bridge.as_deref().map_or("null", RawValue::get)
    }

    pub(crate) fn executions(&self) -> &str {
        match &self.executions {
            Executions::None => "[]",
            Executions::Some(text) => text.get(),
        }
    }

    pub(crate) fn sessions(&self) -> &str {
        match &self.sessions {
            Sessions::None => "[]",
            Sessions::Unknown => "null",
            Sessions::Some(text) => text.get(),
        }
    }
}
