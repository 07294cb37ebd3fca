//! Canonical bytes, version 1: JSON under RFC 8785, so that anybody can make them again.
//!
//! Members in their order: `caveat_context`, `chain`, `correlation_id`, `ctx`, `object` (`id`, `type`), `occurred_at`,
//! `reason`, `relation`, `repeated` (only when the row stands for further ones), `seq`, `subject`, `v`.

use data_encoding::HEXLOWER;
use uuid::Uuid;

const MICROS_OF_DAY: i64 = 86_400_000_000;

/// What the canonical bytes of an entry say, borrowed from wherever the entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// The chain's anchor.
    pub chain: Uuid,
    /// The place in the chain, from 1.
    pub seq: i64,
    /// The subject's pseudonym.
    pub subject: &'a [u8],
    /// A relation, or a dotted action name.
    pub relation: &'a str,
    /// The object's kind.
    pub object_type: &'a str,
    /// The object's id, or its pseudonym where it is a person.
    pub object_id: &'a str,
    /// The decision.
    pub reason: &'a str,
    /// A JSON object in canonical form: caveat names with arrays of parameter names.
    pub caveat_names: &'a str,
    /// The request.
    pub correlation_id: &'a str,
    /// The commitment to where the request came from.
    pub ctx: &'a [u8],
    /// When it was decided: microseconds since 1970, UTC.
    pub occurred_at: i64,
    /// How many further decisions of the same kind the row stands for.
    pub repeated: i32,
}

impl Row<'_> {
    /// Appends the canonical bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"caveat_context\":");
        out.extend_from_slice(self.caveat_names.as_bytes());
        out.extend_from_slice(b",\"chain\":\"");
        let mut uuid = Uuid::encode_buffer();
        out.extend_from_slice(self.chain.hyphenated().encode_lower(&mut uuid).as_bytes());
        out.extend_from_slice(b"\",\"correlation_id\":");
        text(self.correlation_id, out);
        out.extend_from_slice(b",\"ctx\":\"");
        hex(self.ctx, out);
        out.extend_from_slice(b"\",\"object\":{\"id\":");
        text(self.object_id, out);
        out.extend_from_slice(b",\"type\":");
        text(self.object_type, out);
        out.extend_from_slice(b"},\"occurred_at\":\"");
        time(self.occurred_at, out);
        out.extend_from_slice(b"\",\"reason\":");
        text(self.reason, out);
        out.extend_from_slice(b",\"relation\":");
        text(self.relation, out);
        if self.repeated != 0 {
            out.extend_from_slice(b",\"repeated\":");
            integer(i64::from(self.repeated), out);
        }
        out.extend_from_slice(b",\"seq\":");
        integer(self.seq, out);
        out.extend_from_slice(b",\"subject\":\"");
        hex(self.subject, out);
        out.extend_from_slice(b"\",\"v\":1}");
    }
}

/// A string as RFC 8785 has it: only quotes, backslashes and control characters are escaped.
fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, tail)) = tail.split_first() else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            control => {
                out.extend_from_slice(b"\\u00");
                hex(&[*control], out);
            }
        }
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + 2 * bytes.len(), 0);
    if let Some(digits) = out.get_mut(from..) {
        HEXLOWER.encode_mut(bytes, digits);
    }
}

fn integer(value: i64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        if let Some(place) = digits.get_mut(at) {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(at..).unwrap_or(&[]));
}

/// `2026-05-02T10:00:00.123456Z`: always six digits behind the point. Years are those of four digits.
fn time(micros: i64, out: &mut Vec<u8>) {
    let (days, of_day) = (micros.div_euclid(MICROS_OF_DAY), micros.rem_euclid(MICROS_OF_DAY));
    let (year, month, day) = civil(days);
    padded(year, 4, out);
    out.push(b'-');
    padded(month, 2, out);
    out.push(b'-');
    padded(day, 2, out);
    out.push(b'T');
    let seconds = of_day / 1_000_000;
    padded(seconds / 3_600, 2, out);
    out.push(b':');
    padded(seconds / 60 % 60, 2, out);
    out.push(b':');
    padded(seconds % 60, 2, out);
    out.push(b'.');
    padded(of_day % 1_000_000, 6, out);
    out.push(b'Z');
}

/// Year, month and day of a day since 1970-01-01, in the proleptic Gregorian calendar: years are counted from March, so
/// that the leap day ends one.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn padded(value: i64, width: u32, out: &mut Vec<u8>) {
    for power in (0..width).rev() {
        out.push(b'0' + u8::try_from(value.rem_euclid(10i64.pow(power + 1)) / 10i64.pow(power)).unwrap_or(0));
    }
}
