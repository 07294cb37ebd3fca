//! A Domain's peer list as JSON text that is shared by all its Nodes: each reads it without its own entry.
//!
//! The list is cut into chunks, and each version shares with the last one those in which no entry changed, their
//! compressed form included. Where a chunk begins is a property of its first entry alone, so a list is cut the same way
//! whatever it was made from, and a change moves no border but its own.
//!
//! Chunks are deflated independently and end on byte boundaries, so a Node's answer is its neighbours' chunks copied and
//! one chunk deflated anew. The result is one ordinary gzip member, because not every client reads several.

mod chunk;
mod gzip;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use plexsphere_kernel::seams::PeerView;
use plexsphere_wire::NodeId;

use chunk::{Chunk, Entry};

/// What changed of one Node in a Domain's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerChange {
    /// The Node.
    pub(crate) node: NodeId,
    /// Its entry; `None` when it left.
    pub(crate) view: Option<PeerView>,
}

/// The peers of a Domain at one mesh version, by Node id.
#[derive(Debug)]
pub(crate) struct PeerList {
    mesh_version: i64,
    /// None is empty.
    chunks: Vec<Arc<Chunk>>,
}

impl PeerList {
    /// Renders a list from all its peers, in any order.
    ///
    /// # Errors
    /// [`serde_json::Error`] when an entry has no JSON form.
    pub(crate) fn render(mesh_version: i64, peers: Vec<PeerView>) -> Result<Self, serde_json::Error> {
        let change = |view: PeerView| PeerChange { node: view.node_id, view: Some(view) };
        Self { mesh_version: 0, chunks: Vec::new() }.next(mesh_version, peers.into_iter().map(change).collect())
    }

    /// The list of a later version: this one with the changes since, in any order. Of several changes of one Node, the
    /// last one counts.
    ///
    /// # Errors
    /// [`serde_json::Error`] when an entry has no JSON form.
    pub(crate) fn next(&self, mesh_version: i64, mut changes: Vec<PeerChange>) -> Result<Self, serde_json::Error> {
        changes.sort_by_key(|change| change.node);
        let nothing = [Arc::new(Chunk::default())];
        let before = if self.chunks.is_empty() { &nothing[..] } else { &self.chunks };
        let mut chunks = Vec::with_capacity(before.len());
        let mut rest = changes.as_slice();
        for (index, chunk) in before.iter().enumerate() {
            let end = before.get(index + 1).and_then(|behind| behind.first());
            let count = end.map_or(rest.len(), |end| rest.partition_point(|change| change.node < end));
            let (own, behind) = rest.split_at(count);
            rest = behind;
            if !own.is_empty() {
                cut(&mut chunks, &merged(chunk, own)?);
            } else if chunk.first().is_some() {
                chunks.push(Arc::clone(chunk));
            }
        }
        Ok(Self { mesh_version, chunks })
    }

    /// The same list with those chunks of another that are the same, which may be compressed already.
    pub(crate) fn sharing(mut self, other: &Self) -> Self {
        let mut theirs = other.chunks.iter().peekable();
        for chunk in &mut self.chunks {
            while theirs.next_if(|theirs| theirs.first() < chunk.first()).is_some() {}
            if let Some(same) = theirs.next_if(|theirs| theirs.text() == chunk.text()) {
                *chunk = Arc::clone(same);
            }
        }
        self
    }

    /// The version it was read at.
    pub(crate) const fn mesh_version(&self) -> i64 {
        self.mesh_version
    }

    /// How many bytes the text has.
    pub(crate) fn len(&self) -> usize {
        let commas = self.chunks.len().saturating_sub(1);
        self.chunks.iter().map(|chunk| chunk.text().len()).sum::<usize>() + commas
    }

    /// The answer in identity coding: `head`, the entries but `own`, `tail`.
    pub(crate) fn compose(&self, own: NodeId, head: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(head.len() + self.len() + tail.len());
        out.extend_from_slice(head);
        let mut is_first = true;
        for chunk in &self.chunks {
            for piece in chunk.without(own) {
                append(&mut out, piece, &mut is_first);
            }
        }
        out.extend_from_slice(tail);
        out
    }

    /// The same answer as one gzip member. Compresses the chunks that no call compressed before, see
    /// [`Self::uncompressed`].
    pub(crate) fn compose_gzip(&self, own: NodeId, head: &[u8], tail: &[u8]) -> Vec<u8> {
        let mut member = gzip::Member::with_capacity(self.len() / 2);
        let mut plain = head.to_vec();
        let mut is_first = true;
        for chunk in &self.chunks {
            if chunk.position(own).is_some() {
                for piece in chunk.without(own) {
                    append(&mut plain, piece, &mut is_first);
                }
                continue;
            }
            if !is_first && plain.is_empty() {
                member.append(&gzip::COMMA);
            } else if !is_first {
                plain.push(b',');
            }
            member.flush_plain(&mut plain);
            member.append(chunk.deflated());
            is_first = false;
        }
        plain.extend_from_slice(tail);
        member.flush_plain(&mut plain);
        member.finish()
    }

    /// How many chunks have no compressed form yet: each takes its reader about a millisecond.
    pub(crate) fn uncompressed(&self) -> usize {
        self.chunks.iter().filter(|chunk| !chunk.is_deflated()).count()
    }
}

/// A chunk's entries after changes, which lie in its range and in the order of Nodes.
fn merged<'a>(chunk: &'a Chunk, changes: &[PeerChange]) -> Result<Vec<Entry<'a>>, serde_json::Error> {
    let mut entries: BTreeMap<NodeId, Cow<'a, [u8]>> =
        chunk.entries().map(|(node, text)| (node, Cow::Borrowed(text))).collect();
    for change in changes {
        match &change.view {
            Some(view) => entries.insert(change.node, Cow::Owned(serde_json::to_vec(view)?)),
            None => entries.remove(&change.node),
        };
    }
    Ok(entries.into_iter().collect())
}

/// Adds entries as chunks. Those before the first border belong to the chunk that is the last so far.
fn cut(chunks: &mut Vec<Arc<Chunk>>, entries: &[Entry<'_>]) {
    let mut runs = entries.chunk_by(|_, (node, _)| !chunk::begins(*node)).peekable();
    if let Some(run) = runs.next_if(|run| run.first().is_some_and(|(node, _)| !chunk::begins(*node))) {
        let grown = match chunks.pop() {
            Some(last) => {
                let before = last.entries().map(|(node, text)| (node, Cow::Borrowed(text)));
                Chunk::of(&before.chain(run.iter().cloned()).collect::<Vec<_>>())
            }
            None => Chunk::of(run),
        };
        chunks.push(Arc::new(grown));
    }
    chunks.extend(runs.map(|run| Arc::new(Chunk::of(run))));
}

/// Appends entries behind a comma, unless they are the first; no entries leave nothing.
fn append(out: &mut Vec<u8>, entries: &[u8], is_first: &mut bool) {
    if entries.is_empty() {
        return;
    }
    if !*is_first {
        out.push(b',');
    }
    out.extend_from_slice(entries);
    *is_first = false;
}

#[cfg(test)]
mod tests;
