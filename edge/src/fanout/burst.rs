//! Frames of one Domain that leave together: written out once, and the same bytes for every stream of the Domain.

use std::io::{IoSlice, Write as _};
use std::sync::Arc;

use super::chunk::{Chunk, MAX_FRAMES};
use super::hub::EventFrame;

/// The most bytes of a burst, unless its first frame is longer: it must fit into the queue of a stream that does not take
/// it at once.
const MAX_BYTES: usize = 128 * 1024;

/// A frame for the Domain that streams on lines of their own have not been offered.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) frame: Arc<EventFrame>,
    /// Whether Nodes shall not have it for its age.
    pub(super) stale: bool,
}

/// Frames and their chunk.
#[derive(Debug)]
pub(super) struct Burst {
    frames: Vec<Pending>,
    wire: Vec<u8>,
}

impl Burst {
    /// Bursts of these frames, in order.
    pub(super) fn of(pending: &[Pending]) -> Vec<Self> {
        let mut bursts = Vec::new();
        let mut rest = pending;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |pending: &&Pending| {
                bytes += pending.frame.bytes.len();
                bytes <= MAX_BYTES
            };
            let count = rest.iter().take(MAX_FRAMES).take_while(fits).count().max(1);
            let (frames, behind) = rest.split_at(count);
            bursts.push(Self::whole(frames));
            rest = behind;
        }
        bursts
    }

    fn whole(frames: &[Pending]) -> Self {
        let bytes = frames.iter().map(|pending| pending.frame.bytes.clone()).collect();
        let mut wire = Vec::new();
        // Memory takes everything at once.
        let _ = Chunk::of(&bytes).write(&bytes, |slices| wire.write_vectored(slices));
        Self { frames: frames.to_vec(), wire }
    }

    /// The frames, in order.
    pub(super) fn frames(&self) -> &[Pending] {
        &self.frames
    }

    /// The whole chunk.
    pub(super) fn wire(&self) -> [IoSlice<'_>; 1] {
        [IoSlice::new(&self.wire)]
    }

    /// How many bytes the whole chunk has.
    pub(super) const fn len(&self) -> usize {
        self.wire.len()
    }

    /// Whether all of it is for a stream that was offered everything up to `heard`.
    pub(super) fn suits(&self, heard: u64, by_node: bool) -> bool {
        self.frames.first().is_some_and(|first| first.frame.sequence > heard)
            && !(by_node && self.frames.iter().any(|pending| pending.stale))
    }

    /// The sequence of the last frame.
    pub(super) fn last(&self) -> u64 {
        self.frames.last().map_or(0, |last| last.frame.sequence)
    }
}
