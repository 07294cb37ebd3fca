//! Reads what COPY sends in binary form, tuple by tuple, out of the bytes as they come.

use plexsphere_kernel::Fault;
use uuid::Uuid;

use crate::chain::{Row, Stored};
use crate::store::verifying::COLUMNS;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Microseconds from 1970 to 2000, from where PostgreSQL counts.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
const MALFORMED: Fault = Fault::Invariant("an audit row that is stored can be decoded");

/// A reader of one COPY.
#[derive(Default)]
pub(crate) struct Copied {
    /// The beginning of a tuple whose rest has not come yet.
    rest: Vec<u8>,
    began: bool,
}

/// One tuple's columns.
type Fields<'a> = [&'a [u8]; COLUMNS];

#[expect(clippy::large_enum_variant, reason = "it lives for one turn of a loop, and a box would cost each row")]
enum Next<'a> {
    Tuple(Fields<'a>, usize),
    End,
    Incomplete,
}

impl Copied {
    /// Hands every whole tuple in `chunk` and what came before it to `entry`, until that returns `false`.
    ///
    /// # Errors
    /// [`Fault`] when the bytes are not what the statement sends.
    pub(crate) fn feed(
        &mut self,
        chain: Uuid,
        chunk: &[u8],
        mut entry: impl FnMut(&Stored<'_>) -> bool,
    ) -> Result<(), Fault> {
        let carried = std::mem::take(&mut self.rest);
        let joined;
        let mut bytes = if carried.is_empty() {
            chunk
        } else {
            joined = [carried.as_slice(), chunk].concat();
            &joined
        };
        if !self.began {
            // The signature, flags, and the length of an extension that nobody sends.
            let Some((header, tuples)) = bytes.split_at_checked(SIGNATURE.len() + 8) else {
                self.rest = bytes.to_vec();
                return Ok(());
            };
            if !header.starts_with(SIGNATURE) || header.get(SIGNATURE.len()..) != Some([0u8; 8].as_slice()) {
                return Err(MALFORMED);
            }
            (bytes, self.began) = (tuples, true);
        }
        loop {
            match next(bytes)? {
                Next::Tuple(fields, length) => {
                    if !entry(&stored(chain, &fields)?) {
                        return Ok(());
                    }
                    bytes = bytes.get(length..).unwrap_or(&[]);
                }
                Next::End => return Ok(()),
                Next::Incomplete => {
                    self.rest = bytes.to_vec();
                    return Ok(());
                }
            }
        }
    }
}

fn next(bytes: &[u8]) -> Result<Next<'_>, Fault> {
    let Some((count, mut rest)) = bytes.split_first_chunk::<2>() else { return Ok(Next::Incomplete) };
    match i16::from_be_bytes(*count) {
        -1 => return Ok(Next::End),
        count if usize::try_from(count) == Ok(COLUMNS) => {}
        _ => return Err(MALFORMED),
    }
    let mut fields: Fields<'_> = [&[]; COLUMNS];
    for field in &mut fields {
        let Some((length, behind)) = rest.split_first_chunk::<4>() else { return Ok(Next::Incomplete) };
        // NULL has no length and stands nowhere in an entry: read as nothing, it fits no canonical bytes.
        let length = usize::try_from(i32::from_be_bytes(*length).max(0)).map_err(|_| MALFORMED)?;
        let Some((value, behind)) = behind.split_at_checked(length) else { return Ok(Next::Incomplete) };
        (*field, rest) = (value, behind);
    }
    Ok(Next::Tuple(fields, bytes.len() - rest.len()))
}

fn stored<'a>(chain: Uuid, fields: &Fields<'a>) -> Result<Stored<'a>, Fault> {
    let [
        seq,
        subject,
        relation,
        object_type,
        object_id,
        reason,
        caveat_names,
        correlation_id,
        ctx,
        occurred_at,
        repeated,
        prev_hash,
        entry_hash,
        canonical,
    ] = *fields;
    let row = Row {
        chain,
        seq: long(seq)?,
        subject,
        relation: text(relation)?,
        object_type: text(object_type)?,
        object_id: text(object_id)?,
        reason: text(reason)?,
        caveat_names: text(caveat_names)?,
        correlation_id: text(correlation_id)?,
        ctx,
        occurred_at: if occurred_at.is_empty() { i64::MIN } else { long(occurred_at)?.saturating_add(EPOCH_MICROS) },
        repeated: match repeated {
            [] => -1,
            bytes => i32::from_be_bytes(bytes.try_into().map_err(|_| MALFORMED)?),
        },
    };
    Ok(Stored { row, prev_hash, entry_hash, canonical })
}

fn long(bytes: &[u8]) -> Result<i64, Fault> {
    Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| MALFORMED)?))
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| MALFORMED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(seq: i64) -> Vec<u8> {
        let values: [&[u8]; COLUMNS] = [
            &seq.to_be_bytes(),
            b"s",
            b"domain.read",
            b"domain",
            b"x",
            b"granted",
            b"{}",
            b"c",
            b"ctx",
            &0i64.to_be_bytes(),
            &0i32.to_be_bytes(),
            b"prev",
            b"own",
            b"{}",
        ];
        let mut bytes = i16::try_from(COLUMNS).unwrap().to_be_bytes().to_vec();
        for value in values {
            bytes.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend(value);
        }
        bytes
    }

    #[test]
    fn the_same_rows_come_out_however_the_bytes_are_cut() {
        let whole = [SIGNATURE, &[0; 8], &tuple(1), &tuple(2), &tuple(3), &[0xff, 0xff]].concat();
        for size in 1..whole.len() {
            let (mut copied, mut seen) = (Copied::default(), Vec::new());
            for chunk in whole.chunks(size) {
                copied
                    .feed(Uuid::nil(), chunk, |stored| {
                        seen.push((stored.row.seq, stored.row.occurred_at, stored.entry_hash.to_vec()));
                        true
                    })
                    .unwrap();
            }
            let row = |seq| (seq, EPOCH_MICROS, b"own".to_vec());
            assert_eq!(seen, [row(1), row(2), row(3)], "{size}");
        }
    }
}
