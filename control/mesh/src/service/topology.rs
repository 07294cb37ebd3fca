//! The graph of a Domain's mesh, as JSON text that is made while it is read.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream;
use plexsphere_kernel::{Clock, Database, Fault};
use plexsphere_wire::{DomainId, NodeId, Timestamp};
use serde::Serialize;

use crate::model::topology::{Topology, TopologyNode};
use crate::store::topology;

/// A piece ends with the first row of edges that takes it beyond this, and a row has at most one edge per Node.
const PIECE_BYTES: usize = 64 * 1_024;

/// The handshakes that Nodes report of their tunnels, from the observability context.
#[async_trait]
pub trait EdgeHandshakes: Send + Sync + 'static {
    /// The newest handshake that `source` has seen with each of its peers; peers without one are absent.
    ///
    /// # Errors
    /// [`Fault`]; edges are then judged by their ends.
    async fn seen_by(&self, domain: DomainId, source: NodeId) -> Result<HashMap<NodeId, Timestamp>, Fault>;
}

/// Reads meshes.
pub(crate) struct Topologies {
    pub(crate) db: Database,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) handshakes: Option<Arc<dyn EdgeHandshakes>>,
}

impl Topologies {
    /// A Domain's mesh in pieces; `None` for a Domain that there is not. Everything but handshakes is read before this
    /// returns, and of the edges one row at a time is in memory.
    ///
    /// # Errors
    /// [`Fault`].
    pub(crate) async fn pieces(&self, domain: DomainId) -> Result<Option<impl Stream<Item = Bytes> + use<>>, Fault> {
        let Some(topology) = topology::read(self.db.pool(), domain, self.clock.now()).await? else { return Ok(None) };
        let text = Text { topology, handshakes: self.handshakes.clone(), next: Next::Nodes };
        Ok(Some(stream::unfold(text, async |mut text| {
            let piece = text.piece().await?;
            Some((piece.into(), text))
        })))
    }
}

/// What is written next.
#[derive(Clone, Copy)]
enum Next {
    Nodes,
    /// The edges from this place on; whether there was one before.
    Edges(usize, bool),
    Nothing,
}

struct Text {
    topology: Topology,
    handshakes: Option<Arc<dyn EdgeHandshakes>>,
    next: Next,
}

impl Text {
    async fn piece(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match self.next {
            Next::Nodes => {
                self.nodes(&mut piece);
                self.next = Next::Edges(0, false);
            }
            Next::Edges(place, any_before) => self.next = self.edges(&mut piece, place, any_before).await,
            Next::Nothing => return None,
        }
        Some(piece)
    }

    fn nodes(&self, piece: &mut Vec<u8>) {
        let Topology { domain, generated_at, nodes, .. } = &self.topology;
        piece.extend_from_slice(br#"{"domain_id":"#);
        write(piece, domain);
        piece.extend_from_slice(br#","generated_at":"#);
        write(piece, generated_at);
        piece.extend_from_slice(br#","nodes":"#);
        write(piece, nodes);
        piece.extend_from_slice(br#","edges":["#);
    }

    async fn edges(&mut self, piece: &mut Vec<u8>, first: usize, any_before: bool) -> Next {
        let mut any = any_before;
        let mut place = first;
        while let Some(source) = self.topology.nodes.get(place).cloned() {
            if piece.len() >= PIECE_BYTES {
                return Next::Edges(place, any);
            }
            let handshakes = self.handshakes_of(&source).await;
            for edge in self.topology.edges_from(&source, &handshakes) {
                if any {
                    piece.push(b',');
                }
                write(piece, &edge);
                any = true;
            }
            place += 1;
        }
        piece.extend_from_slice(b"]}");
        Next::Nothing
    }

    /// Whoever cannot say it once is not asked again: the rest of the answer goes by the ends.
    async fn handshakes_of(&mut self, source: &TopologyNode) -> HashMap<NodeId, Timestamp> {
        let Some(handshakes) = &self.handshakes else { return HashMap::new() };
        match handshakes.seen_by(self.topology.domain, source.node_id).await {
            Ok(known) => known,
            Err(fault) => {
                tracing::warn!(domain = %self.topology.domain, cause = ?fault, "a topology goes without handshakes");
                self.handshakes = None;
                HashMap::new()
            }
        }
    }
}

/// Ids, words and times have a JSON form, and memory takes what is written.
fn write(piece: &mut Vec<u8>, value: &impl Serialize) {
    if let Err(error) = serde_json::to_writer(piece, value) {
        tracing::error!(%error, "a part of a topology has no json form");
    }
}
