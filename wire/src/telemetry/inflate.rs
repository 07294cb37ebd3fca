//! Inflation into one reused buffer, bounded by a cap whatever the input claims.

use flate2::{Crc, Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, get_frame_content_size};

use super::Encoding;
use super::limits::ZSTD_WINDOW_LOG;

/// Why a body does not inflate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// Not one complete stream of the stated encoding, or something follows it (`ingest_encoding_invalid`).
    #[error("body is not a complete stream of its content encoding")]
    Invalid,
    /// More inflated bytes than the cap (`ingest_body_too_large`).
    #[error("body inflates to more than {cap} bytes")]
    TooLarge {
        /// The cap that was passed.
        cap: usize,
    },
}

/// Decompressors and their output buffer, kept between batches.
///
/// The buffer grows to the largest batch seen, at most the cap and one byte, and stays: hold as many inflaters as there
/// are threads that inflate, not one per connection. Beside the buffer it holds a constant: 40 KiB for gzip and up to
/// 8 MiB of window plus 300 KiB for zstd frames that do not state their size.
#[derive(Default)]
pub struct Inflater {
    output: Output,
    gzip: Option<Decompress>,
    zstd: Option<DCtx<'static>>,
}

/// Bytes that were once zeroed and are then overwritten batch after batch; `filled` of them belong to the current one.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    filled: usize,
}

const FIRST_BUFFER_BYTES: usize = 65_536;

// === impl Inflater ===

impl Inflater {
    /// An inflater without buffers; they come with the first batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The inflated bytes of `wire`, which for [`Encoding::Identity`] are `wire` itself, not a copy.
    ///
    /// Concatenated gzip members and zstd frames are legal; header fields and check sums are verified.
    ///
    /// # Errors
    ///
    /// [`InflateError::Invalid`] when `wire` is empty, truncated, corrupt or followed by anything else (identity is never
    /// invalid); [`InflateError::TooLarge`] when more than `cap` bytes come out, noticed at the first byte too many.
    pub fn inflate<'a>(&'a mut self, encoding: Encoding, wire: &'a [u8], cap: usize) -> Result<&'a [u8], InflateError> {
        self.output.filled = 0;
        match encoding {
            Encoding::Identity if wire.len() > cap => return Err(InflateError::TooLarge { cap }),
            Encoding::Identity => return Ok(wire),
            Encoding::Gzip => self.gunzip(wire, cap)?,
            Encoding::Zstd => self.unzstd(wire, cap)?,
        }
        self.output.bytes.get(..self.output.filled).ok_or(InflateError::Invalid)
    }

    /// Frees the buffer when it has grown past `bytes`, so that one huge batch does not pin memory for ever.
    pub fn release_above(&mut self, bytes: usize) {
        if self.output.bytes.len() > bytes {
            self.output = Output::default();
        }
    }

    /// Bytes that the output buffer holds at the moment.
    pub fn buffer_bytes(&self) -> usize {
        self.output.bytes.len()
    }

    fn gunzip(&mut self, wire: &[u8], cap: usize) -> Result<(), InflateError> {
        let inflate = self.gzip.get_or_insert_with(|| Decompress::new(false));
        let mut rest = wire;
        loop {
            rest = after_gzip_header(rest).ok_or(InflateError::Invalid)?;
            rest = inflate_member(inflate, &mut self.output, rest, cap)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn unzstd(&mut self, wire: &[u8], cap: usize) -> Result<(), InflateError> {
        if wire.is_empty() {
            return Err(InflateError::Invalid);
        }
        let mut context = self.zstd_context()?;
        // A frame that states its size and finds room for it is inflated straight into the buffer, without a window.
        if let Ok(Some(size)) = get_frame_content_size(wire) {
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            self.output.ensure(size.saturating_add(1), cap);
        }
        let mut input = InBuffer::around(wire);
        loop {
            let room = self.output.room(cap)?;
            let room_bytes = room.len();
            let mut output = OutBuffer::around(room);
            let step = context.decompress_stream(&mut output, &mut input);
            let produced = output.pos();
            self.output.filled += produced;
            let missing = match step {
                Ok(missing) => missing,
                Err(_) => return Err(InflateError::Invalid),
            };
            if input.pos() == wire.len() {
                if missing == 0 {
                    self.output.check(cap)?;
                    self.zstd = Some(context);
                    return Ok(());
                }
                if produced < room_bytes {
                    return Err(InflateError::Invalid);
                }
            }
        }
    }

    /// Takes the context out, reset; a context that failed is not put back.
    fn zstd_context(&mut self) -> Result<DCtx<'static>, InflateError> {
        let mut context = match self.zstd.take() {
            Some(context) => context,
            None => {
                let mut context = DCtx::try_create().ok_or(InflateError::Invalid)?;
                context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG)).map_err(|_| InflateError::Invalid)?;
                context
            }
        };
        context.reset(ResetDirective::SessionOnly).map_err(|_| InflateError::Invalid)?;
        Ok(context)
    }
}

// === impl Output ===

impl Output {
    /// Grows to at least `bytes`, but never past the cap and one byte.
    fn ensure(&mut self, bytes: usize, cap: usize) {
        let bytes = bytes.min(cap.saturating_add(1));
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
    }

    /// Room for at least one more byte.
    fn room(&mut self, cap: usize) -> Result<&mut [u8], InflateError> {
        self.check(cap)?;
        if self.filled == self.bytes.len() {
            self.ensure(self.bytes.len().saturating_mul(2).max(FIRST_BUFFER_BYTES), cap);
        }
        let end = self.bytes.len().min(cap.saturating_add(1));
        self.bytes.get_mut(self.filled..end).ok_or(InflateError::TooLarge { cap })
    }

    fn check(&self, cap: usize) -> Result<(), InflateError> {
        if self.filled > cap { Err(InflateError::TooLarge { cap }) } else { Ok(()) }
    }
}

/// Inflates one gzip member whose header was read, checks its trailer, and returns what follows.
fn inflate_member<'w>(
    inflate: &mut Decompress,
    output: &mut Output,
    deflated: &'w [u8],
    cap: usize,
) -> Result<&'w [u8], InflateError> {
    inflate.reset(false);
    let mut crc = Crc::new();
    let mut rest = deflated;
    loop {
        let room = output.room(cap)?;
        let (read, written) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(rest, room, FlushDecompress::None).map_err(|_| InflateError::Invalid)?;
        let read = usize::try_from(inflate.total_in() - read).map_err(|_| InflateError::Invalid)?;
        let written = usize::try_from(inflate.total_out() - written).map_err(|_| InflateError::Invalid)?;
        crc.update(room.get(..written).ok_or(InflateError::Invalid)?);
        output.filled += written;
        rest = rest.get(read..).ok_or(InflateError::Invalid)?;
        match status {
            Status::StreamEnd => break,
            Status::Ok | Status::BufError if read == 0 && written == 0 => return Err(InflateError::Invalid),
            Status::Ok | Status::BufError => {}
        }
    }
    output.check(cap)?;
    let (trailer, rest) = rest.split_first_chunk::<8>().ok_or(InflateError::Invalid)?;
    let [c0, c1, c2, c3, s0, s1, s2, s3] = *trailer;
    let sum_matches = u32::from_le_bytes([c0, c1, c2, c3]) == crc.sum();
    // `amount` counts modulo 2³², as the trailer does.
    let size_matches = u32::from_le_bytes([s0, s1, s2, s3]) == crc.amount();
    if sum_matches && size_matches { Ok(rest) } else { Err(InflateError::Invalid) }
}

/// What follows the member header of RFC 1952 section 2.3, or nothing when there is none.
fn after_gzip_header(member: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 0x02;
    const EXTRA: u8 = 0x04;
    const NAME: u8 = 0x08;
    const COMMENT: u8 = 0x10;
    const RESERVED: u8 = 0xe0;

    let (fixed, mut rest) = member.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else { return None };
    if flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    if flags & NAME != 0 {
        rest = after_zero(rest)?;
    }
    if flags & COMMENT != 0 {
        rest = after_zero(rest)?;
    }
    if flags & HEADER_CRC != 0 {
        let header = member.get(..member.len() - rest.len())?;
        let (stated, after) = rest.split_first_chunk::<2>()?;
        let mut crc = Crc::new();
        crc.update(header);
        if u32::from(u16::from_le_bytes(*stated)) != crc.sum() & 0xffff {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

fn after_zero(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    bytes.get(end + 1..)
}
