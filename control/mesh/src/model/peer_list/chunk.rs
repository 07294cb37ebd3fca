//! A run of entries that the lists of several versions share.

use std::borrow::Cow;
use std::sync::OnceLock;

use plexsphere_wire::NodeId;

use super::gzip::{self, Deflated};

/// One Node and its JSON text.
pub(super) type Entry<'a> = (NodeId, Cow<'a, [u8]>);

/// Entries of a chunk on average: the work of one answer is about one chunk's compression. A power of two.
pub(super) const MEAN_ENTRIES: u8 = 128;

/// Whether a chunk begins with this Node's entry: the end of its id, which is random, says so.
pub(super) fn begins(node: NodeId) -> bool {
    node.as_bytes().last().is_some_and(|byte| byte.is_multiple_of(MEAN_ENTRIES))
}

/// The entries and, once it was asked for, their compressed form.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The entries, a comma between them.
    text: Vec<u8>,
    /// Each entry's Node and where it begins in `text`.
    starts: Vec<(NodeId, usize)>,
    deflated: OnceLock<Deflated>,
}

impl Chunk {
    /// A chunk of entries in the order of their Nodes.
    pub(super) fn of(entries: &[Entry<'_>]) -> Self {
        let mut chunk = Self::default();
        chunk.text.reserve(entries.iter().map(|(_, text)| text.len() + 1).sum());
        for (node, text) in entries {
            if !chunk.text.is_empty() {
                chunk.text.push(b',');
            }
            chunk.starts.push((*node, chunk.text.len()));
            chunk.text.extend_from_slice(text);
        }
        chunk
    }

    /// The first Node.
    pub(super) fn first(&self) -> Option<NodeId> {
        self.starts.first().map(|(node, _)| *node)
    }

    /// The entries as they read in a list.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Where a Node's entry stands.
    pub(super) fn position(&self, node: NodeId) -> Option<usize> {
        self.starts.binary_search_by_key(&node, |(node, _)| *node).ok()
    }

    /// Each entry.
    pub(super) fn entries(&self) -> impl Iterator<Item = (NodeId, &[u8])> {
        self.starts.iter().enumerate().map(|(index, (node, _))| (*node, self.slice(index, index + 1)))
    }

    /// The entries before and behind a Node's, either possibly none.
    pub(super) fn without(&self, node: NodeId) -> [&[u8]; 2] {
        match self.position(node) {
            Some(own) => [self.slice(0, own), self.slice(own + 1, self.starts.len())],
            None => [&self.text, &[]],
        }
    }

    /// The compressed form; the first call makes it.
    pub(super) fn deflated(&self) -> &Deflated {
        self.deflated.get_or_init(|| Deflated::new(&self.text, gzip::SHARED))
    }

    /// Whether the compressed form is there already.
    pub(super) fn is_deflated(&self) -> bool {
        self.deflated.get().is_some()
    }

    /// Entries `first..end` with the commas between them.
    fn slice(&self, first: usize, end: usize) -> &[u8] {
        if first >= end {
            return &[];
        }
        let begin = |entry: usize| self.starts.get(entry).map(|(_, start)| *start);
        let behind = begin(end).map_or(self.text.len(), |start| start.saturating_sub(1));
        begin(first).and_then(|start| self.text.get(start..behind)).unwrap_or_default()
    }
}
