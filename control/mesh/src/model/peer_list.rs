//! A Domain's peer list as JSON text that is shared by all its Nodes: each reads it without its own entry.
//!
//! The text is made once per mesh version, and so is its compressed form: the list is cut into chunks that are deflated
//! independently and end on byte boundaries, so a Node's answer is its neighbours' chunks copied and one chunk deflated
//! anew. The result is one ordinary gzip member, because not every client reads several.

mod gzip;

use std::sync::OnceLock;

use plexsphere_kernel::seams::PeerView;
use plexsphere_wire::NodeId;

pub(crate) use gzip::Deflated;

/// Entries per chunk: the work of one answer is at most one chunk's compression. At least two.
const CHUNK_PEERS: usize = 128;

/// The peers of a Domain at one mesh version, by Node id.
#[derive(Debug)]
pub(crate) struct PeerList {
    mesh_version: i64,
    /// The entries, a comma before each but the first.
    text: Vec<u8>,
    /// Each entry's Node and where it begins in `text`, its comma included.
    starts: Vec<(NodeId, usize)>,
    chunks: OnceLock<Vec<Deflated>>,
}

impl PeerList {
    /// Renders the list; `peers` are in ascending order of Node id.
    ///
    /// # Errors
    /// [`serde_json::Error`] when an entry has no JSON form.
    pub(crate) fn render(mesh_version: i64, peers: &[PeerView]) -> Result<Self, serde_json::Error> {
        let mut text = Vec::with_capacity(peers.len() * 176);
        let mut starts = Vec::with_capacity(peers.len());
        for peer in peers {
            starts.push((peer.node_id, text.len()));
            if !text.is_empty() {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, peer)?;
        }
        Ok(Self { mesh_version, text, starts, chunks: OnceLock::new() })
    }

    /// The version it was read at.
    pub(crate) const fn mesh_version(&self) -> i64 {
        self.mesh_version
    }

    /// How many bytes the text has.
    pub(crate) const fn len(&self) -> usize {
        self.text.len()
    }

    /// The answer in identity coding: `head`, the entries but `own`, `tail`.
    pub(crate) fn compose(&self, own: NodeId, head: &[u8], tail: &[u8]) -> Vec<u8> {
        let (before, after) = self.around(self.position(own), 0, self.starts.len());
        [head, before, after, tail].concat()
    }

    /// The same answer as one gzip member. The first call of a version compresses the whole list: call it where that
    /// may take tens of milliseconds.
    pub(crate) fn compose_gzip(&self, own: NodeId, head: &[u8], tail: &[u8]) -> Vec<u8> {
        let chunks = self.chunks.get_or_init(|| self.deflate_chunks());
        let own = self.position(own);
        let mut member = gzip::Member::with_capacity(self.text.len() / 2);
        let mut plain = head.to_vec();
        for (index, chunk) in chunks.iter().enumerate() {
            let (first, end) = (index * CHUNK_PEERS, ((index + 1) * CHUNK_PEERS).min(self.starts.len()));
            if own.is_some_and(|own| (first..end).contains(&own)) {
                let (before, after) = self.around(own, first, end);
                plain.extend_from_slice(before);
                plain.extend_from_slice(after);
            } else {
                member.flush_plain(&mut plain);
                member.append(chunk);
            }
        }
        plain.extend_from_slice(tail);
        member.flush_plain(&mut plain);
        member.finish()
    }

    /// Whether the compressed form is there already.
    pub(crate) fn is_compressed(&self) -> bool {
        self.chunks.get().is_some()
    }

    fn deflate_chunks(&self) -> Vec<Deflated> {
        (0..self.starts.len())
            .step_by(CHUNK_PEERS)
            .map(|first| {
                let end = (first + CHUNK_PEERS).min(self.starts.len());
                Deflated::new(self.slice(first, end), gzip::SHARED)
            })
            .collect()
    }

    fn position(&self, own: NodeId) -> Option<usize> {
        self.starts.binary_search_by_key(&own, |(node, _)| *node).ok()
    }

    /// The text of entries `first..end`.
    fn slice(&self, first: usize, end: usize) -> &[u8] {
        let offset = |entry: usize| self.starts.get(entry).map_or(self.text.len(), |(_, start)| *start);
        self.text.get(offset(first)..offset(end)).unwrap_or_default()
    }

    /// The text of entries `first..end` on both sides of `own`. Where `own` is the list's first, what follows it stands
    /// in the same chunk and loses its comma.
    fn around(&self, own: Option<usize>, first: usize, end: usize) -> (&[u8], &[u8]) {
        match own.filter(|own| (first..end).contains(own)) {
            Some(0) => {
                let after = self.slice(1, end);
                (&[], after.strip_prefix(b",").unwrap_or(after))
            }
            Some(own) => (self.slice(first, own), self.slice(own + 1, end)),
            None => (self.slice(first, end), &[]),
        }
    }
}

#[cfg(test)]
mod tests;
