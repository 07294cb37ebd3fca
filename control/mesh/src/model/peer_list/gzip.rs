//! One gzip member out of deflated pieces (RFC 1951, RFC 1952).

use std::sync::LazyLock;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Magic, deflate, no flags, no time, no hints, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty final block with fixed codes.
const FINAL_BLOCK: [u8; 2] = [0x03, 0x00];

/// For pieces that serve a whole Domain.
pub(crate) const SHARED: Compression = Compression::new(6);
/// For pieces of one answer.
const OWN: Compression = Compression::new(1);

/// What stands between two pieces that are shared.
pub(crate) static COMMA: LazyLock<Deflated> = LazyLock::new(|| Deflated::new(b",", OWN));

/// A piece of text as deflate blocks that refer to nothing before them and end on a byte boundary.
#[derive(Debug)]
pub(crate) struct Deflated {
    blocks: Vec<u8>,
    crc: Crc,
}

impl Deflated {
    /// Deflates a piece.
    pub(crate) fn new(text: &[u8], level: Compression) -> Self {
        let mut crc = Crc::new();
        crc.update(text);
        let mut compress = Compress::new(level, false);
        let mut blocks = Vec::with_capacity(text.len() / 2 + 64);
        let mut rest = text;
        loop {
            let before = compress.total_in();
            // Compression cannot fail on valid state: the only error of the library is misuse of its parameters.
            let status = compress.compress_vec(rest, &mut blocks, FlushCompress::Full);
            let taken = usize::try_from(compress.total_in() - before).unwrap_or(rest.len());
            rest = rest.get(taken..).unwrap_or_default();
            let has_room = blocks.len() < blocks.capacity();
            if !matches!(status, Ok(Status::Ok)) || (rest.is_empty() && has_room) {
                break;
            }
            blocks.reserve(1_024);
        }
        Self { blocks, crc }
    }
}

/// A gzip member being put together.
pub(crate) struct Member {
    out: Vec<u8>,
    crc: Crc,
}

impl Member {
    /// Begins one with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let mut out = Vec::with_capacity(capacity);
        out.extend_from_slice(&HEADER);
        Self { out, crc: Crc::new() }
    }

    /// Adds a piece that was deflated before.
    pub(crate) fn append(&mut self, piece: &Deflated) {
        self.out.extend_from_slice(&piece.blocks);
        self.crc.combine(&piece.crc);
    }

    /// Deflates and adds what has gathered in `plain`, and empties it.
    pub(crate) fn flush_plain(&mut self, plain: &mut Vec<u8>) {
        if !plain.is_empty() {
            self.append(&Deflated::new(plain, OWN));
            plain.clear();
        }
    }

    /// Ends the member with its checksum and length.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(&FINAL_BLOCK);
        self.out.extend_from_slice(&self.crc.sum().to_le_bytes());
        self.out.extend_from_slice(&self.crc.amount().to_le_bytes());
        self.out
    }
}
