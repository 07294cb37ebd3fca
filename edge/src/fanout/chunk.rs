//! The chunked transfer coding (RFC 9112, section 7.1) of frames that leave together. Pure.

use std::collections::VecDeque;
use std::io::{IoSlice, Write as _};

use bytes::Bytes;

/// The most frames of one chunk, so that one write takes them all.
pub(super) const MAX_FRAMES: usize = 64;
const LINE_END: &[u8] = b"\r\n";

/// A chunk under way: the first frames of a queue, and how many bytes of the whole have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    frames: usize,
    payload: usize,
    written: usize,
}

impl Chunk {
    /// What waits, as far as one chunk holds it; of nothing it is the last chunk, which ends the response.
    pub(super) fn of(frames: &VecDeque<Bytes>) -> Self {
        let taken = frames.len().min(MAX_FRAMES);
        Self { frames: taken, payload: frames.iter().take(taken).map(Bytes::len).sum(), written: 0 }
    }

    /// The same chunk, of which so many bytes have left.
    pub(super) const fn past(self, written: usize) -> Self {
        Self { written, ..self }
    }

    /// How many frames it carries.
    pub(super) const fn frames(&self) -> usize {
        self.frames
    }

    /// Whether it ends the response.
    pub(super) const fn last(&self) -> bool {
        self.frames == 0
    }

    /// Whether a part of it has left, so that the rest must follow.
    pub(super) const fn begun(&self) -> bool {
        self.written > 0
    }

    /// Gives `write` what has not left yet; says whether everything has then.
    pub(super) fn write<E>(
        &mut self,
        frames: &VecDeque<Bytes>,
        write: impl FnOnce(&[IoSlice<'_>]) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let mut space = [0u8; 2 * size_of::<usize>() + LINE_END.len()];
        let head = size_line(&mut space, self.payload);
        let frames = frames.iter().take(self.frames).map(AsRef::as_ref);
        let parts = std::iter::once(head).chain(frames).chain(std::iter::once(LINE_END));
        let mut slices = [IoSlice::new(&[]); MAX_FRAMES + 2];
        slices.iter_mut().zip(parts).for_each(|(slice, part)| *slice = IoSlice::new(part));
        let mut rest = slices.get_mut(..self.frames + 2).unwrap_or_default();
        IoSlice::advance_slices(&mut rest, self.written);
        self.written += write(rest)?;
        Ok(self.written >= head.len() + self.payload + LINE_END.len())
    }
}

fn size_line(space: &mut [u8], size: usize) -> &[u8] {
    let whole = space.len();
    let mut rest = &mut space[..];
    // There is room for the longest number.
    let _ = write!(rest, "{size:X}\r\n");
    let used = whole - rest.len();
    space.get(..used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Writes the whole chunk to a socket that takes at most so many bytes at a time.
    fn sent(frames: &VecDeque<Bytes>, takes: &mut impl Iterator<Item = usize>) -> (Chunk, Vec<u8>) {
        let (mut chunk, mut sent) = (Chunk::of(frames), Vec::new());
        loop {
            let take = takes.next().unwrap();
            let done = chunk.write(frames, |slices| {
                let left = slices.iter().flat_map(|slice| slice.iter().copied());
                let before = sent.len();
                sent.extend(left.take(take));
                Ok::<_, Infallible>(sent.len() - before)
            });
            if done.unwrap() {
                return (chunk, sent);
            }
        }
    }

    #[test]
    fn frames_that_wait_together_are_one_chunk_and_none_is_the_last() {
        let frames = VecDeque::from([Bytes::from_static(b"id: 1\n\n"), Bytes::from_static(b"id: 2\n\n")]);
        let (chunk, bytes) = sent(&frames, &mut std::iter::repeat(1_000));
        assert_eq!((chunk.last(), bytes.as_slice()), (false, &b"E\r\nid: 1\n\nid: 2\n\n\r\n"[..]));
        let (chunk, bytes) = sent(&VecDeque::new(), &mut std::iter::repeat(2));
        assert_eq!((chunk.last(), bytes.as_slice()), (true, &b"0\r\n\r\n"[..]));
    }

    proptest! {
        #[test]
        fn a_chunk_leaves_whole_in_whatever_pieces_the_socket_takes_it(
            lengths in prop::collection::vec(1usize..300, 1..100),
            takes in prop::collection::vec(1usize..200, 1..20),
        ) {
            let frames: VecDeque<Bytes> = lengths.iter().map(|length| Bytes::from(vec![b'x'; *length])).collect();
            let (chunk, bytes) = sent(&frames, &mut takes.into_iter().cycle());
            let payload: usize = lengths.iter().take(MAX_FRAMES).sum();
            prop_assert_eq!(chunk.frames(), lengths.len().min(MAX_FRAMES));
            prop_assert_eq!(bytes, format!("{payload:X}\r\n{}\r\n", "x".repeat(payload)).into_bytes());
        }
    }
}
