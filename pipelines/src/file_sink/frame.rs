//! One group of a segment: a skippable zstd frame (RFC 8878 section 3.1.2) that describes the data frame behind it.
//!
//! ```text
//! magic u32 │ size u32 │ version u8 │ data length u32 │ data digest 16 │ count u32 │ (batch id 32 │ records u32)* │ own digest 16
//! ```
//!
//! Integers are little endian; digests are the first 16 bytes of SHA-256. A group is whole only when both digests hold,
//! so that a torn write is never taken for data.

use std::io::{self, Read};

use sha2::{Digest, Sha256};

use crate::batch::Slice;

const MAGIC: u32 = 0x184D_2A50;
const VERSION: u8 = 1;
const LEVEL: i32 = 3;
const PREFIX_BYTES: usize = 8;
const FIXED_BYTES: usize = 1 + 4 + 16 + 4;
const ENTRY_BYTES: usize = 32 + 4;
const DIGEST_BYTES: usize = 16;
/// No honest header is larger: a fetch holds 256 messages.
const MAX_HEADER_BYTES: usize = FIXED_BYTES + 4_096 * ENTRY_BYTES + DIGEST_BYTES;

/// The 32 bytes of a batch id.
pub(super) type BatchKey = [u8; 32];

/// What a group says about itself.
#[derive(Debug)]
pub(super) struct GroupHeader {
    pub(super) batches: Vec<BatchKey>,
    pub(super) data_bytes: u32,
    data_digest: [u8; DIGEST_BYTES],
}

/// What stands at a place of a segment.
pub(super) enum Found {
    /// The end of the file.
    End,
    /// Bytes that are no whole group.
    Torn,
    /// A whole group: its header, its data frame, and its length in the file.
    Group { header: GroupHeader, data: Vec<u8>, bytes: u64 },
}

/// What stands at a place of a segment whose data is not looked at.
pub(super) enum FoundHeader {
    /// The end of the file.
    End,
    /// Bytes that are no header.
    Torn,
    /// A header and its length in the file.
    Header(GroupHeader, u64),
}

/// The key of a batch, `None` when its id is no SHA-256.
pub(super) fn key(batch_id: &str) -> Option<BatchKey> {
    data_encoding::HEXLOWER.decode(batch_id.as_bytes()).ok()?.try_into().ok()
}

/// The bytes of a group.
pub(super) fn encode(batches: &[(BatchKey, &Slice)]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for (_, part) in batches {
        write_lines(part, &mut lines);
    }
    let data = zstd::bulk::compress(&lines, LEVEL)?;
    let too_large = |_| io::Error::new(io::ErrorKind::InvalidInput, "group is too large");
    let mut body = vec![VERSION];
    body.extend(u32::try_from(data.len()).map_err(too_large)?.to_le_bytes());
    body.extend(digest(&data));
    body.extend(u32::try_from(batches.len()).map_err(too_large)?.to_le_bytes());
    for (key, part) in batches {
        body.extend(key);
        body.extend(u32::try_from(part.len()).map_err(too_large)?.to_le_bytes());
    }
    body.extend(digest(&body));
    let mut group = Vec::with_capacity(PREFIX_BYTES + body.len() + data.len());
    group.extend(MAGIC.to_le_bytes());
    group.extend(u32::try_from(body.len()).map_err(too_large)?.to_le_bytes());
    group.extend(body);
    group.extend(data);
    Ok(group)
}

/// Reads what stands at the reader's place. The data is read and checked, but not decompressed.
pub(super) fn decode(reader: &mut impl Read) -> io::Result<Found> {
    let (header, header_bytes) = match decode_header(reader)? {
        FoundHeader::End => return Ok(Found::End),
        FoundHeader::Torn => return Ok(Found::Torn),
        FoundHeader::Header(header, bytes) => (header, bytes),
    };
    let mut data = Vec::new();
    reader.take(u64::from(header.data_bytes)).read_to_end(&mut data)?;
    if data.len() != usize::try_from(header.data_bytes).unwrap_or(usize::MAX) || digest(&data) != header.data_digest {
        return Ok(Found::Torn);
    }
    let bytes = header_bytes + u64::from(header.data_bytes);
    Ok(Found::Group { header, data, bytes })
}

/// Reads a header and leaves the reader in front of the data.
pub(super) fn decode_header(reader: &mut impl Read) -> io::Result<FoundHeader> {
    let mut prefix = [0; PREFIX_BYTES];
    match fill(reader, &mut prefix)? {
        0 => return Ok(FoundHeader::End),
        PREFIX_BYTES => {}
        _ => return Ok(FoundHeader::Torn),
    }
    let [m0, m1, m2, m3, s0, s1, s2, s3] = prefix;
    let size = usize::try_from(u32::from_le_bytes([s0, s1, s2, s3])).unwrap_or(usize::MAX);
    let honest = (FIXED_BYTES + DIGEST_BYTES..=MAX_HEADER_BYTES).contains(&size);
    if u32::from_le_bytes([m0, m1, m2, m3]) != MAGIC || !honest {
        return Ok(FoundHeader::Torn);
    }
    let mut body = vec![0; size];
    if fill(reader, &mut body)? != size {
        return Ok(FoundHeader::Torn);
    }
    let bytes = u64::try_from(PREFIX_BYTES + size).unwrap_or(u64::MAX);
    Ok(parse(&body).map_or(FoundHeader::Torn, |header| FoundHeader::Header(header, bytes)))
}

fn parse(body: &[u8]) -> Option<GroupHeader> {
    let (signed, own_digest) = body.split_at_checked(body.len().checked_sub(DIGEST_BYTES)?)?;
    if digest(signed) != own_digest {
        return None;
    }
    let (version, rest) = signed.split_first()?;
    let (data_bytes, rest) = rest.split_first_chunk::<4>()?;
    let (data_digest, rest) = rest.split_first_chunk::<DIGEST_BYTES>()?;
    let (count, entries) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    if *version != VERSION || entries.len() != count.checked_mul(ENTRY_BYTES)? {
        return None;
    }
    let batches = entries.chunks_exact(ENTRY_BYTES).filter_map(|entry| entry.first_chunk::<32>().copied()).collect();
    Some(GroupHeader { batches, data_bytes: u32::from_le_bytes(*data_bytes), data_digest: *data_digest })
}

fn digest(bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    let mut short = [0; DIGEST_BYTES];
    for (to, from) in short.iter_mut().zip(Sha256::digest(bytes)) {
        *to = from;
    }
    short
}

/// Fills the buffer as far as the reader goes.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The slice's records with their place and origin in front. The members are known to need no escape, and the canonical
/// record starts with `{` and is never empty.
fn write_lines(part: &Slice, out: &mut Vec<u8>) {
    let batch = part.batch();
    let place = format!(
        ",\"domain_id\":\"{}\",\"project_id\":\"{}\",\"node_id\":\"{}\",\"accepted_at\":\"{}\",",
        batch.origin.domain, batch.origin.project, batch.origin.node, batch.accepted_at
    );
    for (index, line) in part.lines() {
        out.extend_from_slice(b"{\"batch_id\":\"");
        out.extend_from_slice(batch.batch_id.as_bytes());
        out.extend_from_slice(b"\",\"index\":");
        out.extend_from_slice(index.to_string().as_bytes());
        out.extend_from_slice(place.as_bytes());
        out.extend_from_slice(line.strip_prefix(b"{").unwrap_or(line));
        out.push(b'\n');
    }
}
