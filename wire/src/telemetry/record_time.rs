//! The time of a record: RFC 3339 in, UTC nanoseconds out.

use super::Rule;

/// An instant in UTC between the years 0000 and 9999, to the nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordTime {
    seconds: i64,
    nanos: u32,
}

const SECONDS_PER_DAY: i64 = 86_400;
/// `0000-01-01T00:00:00Z`.
const FIRST_SECOND: i64 = -62_167_219_200;
/// `9999-12-31T23:59:59Z`.
const LAST_SECOND: i64 = 253_402_300_799;
/// `0001-01-01T00:00:00Z`, what a Go program sends when it never set the time.
const ZERO_SECOND: i64 = -62_135_596_800;

impl RecordTime {
    /// Reads an RFC 3339 time with its offset. `T` and `Z` may be lowercase; a blank instead of `T` is refused. Digits
    /// after the ninth of a fraction are dropped. A leap second counts as the last nanosecond before it.
    ///
    /// # Errors
    ///
    /// [`Rule::NotATime`], or [`Rule::ZeroTime`] for the zero instant in any offset.
    pub fn parse(text: &str) -> Result<Self, Rule> {
        let time = Self::read(text.as_bytes()).ok_or(Rule::NotATime)?;
        if time.seconds == ZERO_SECOND && time.nanos == 0 { Err(Rule::ZeroTime) } else { Ok(time) }
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::unix_seconds`], below 1,000,000,000.
    pub const fn subsec_nanos(self) -> u32 {
        self.nanos
    }

    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub fn unix_nanos(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanos)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, rounded down.
    pub fn unix_millis(self) -> i64 {
        self.seconds * 1_000 + i64::from(self.nanos / 1_000_000)
    }

    /// Appends the canonical form: UTC, nine fraction digits, `Z`.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        let (year, month, day) = civil_from_days(self.seconds.div_euclid(SECONDS_PER_DAY));
        let second = self.seconds.rem_euclid(SECONDS_PER_DAY);
        write_digits(out, year, 4);
        out.push(b'-');
        write_digits(out, month, 2);
        out.push(b'-');
        write_digits(out, day, 2);
        out.push(b'T');
        write_digits(out, second / 3_600, 2);
        out.push(b':');
        write_digits(out, second / 60 % 60, 2);
        out.push(b':');
        write_digits(out, second % 60, 2);
        out.push(b'.');
        write_digits(out, i64::from(self.nanos), 9);
        out.push(b'Z');
    }

    fn read(text: &[u8]) -> Option<Self> {
        #[rustfmt::skip]
        let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T' | b't', h0, h1, b':', n0, n1, b':', s0, s1, rest @ ..] = text
        else {
            return None;
        };
        let year = pair(*y0, *y1)? * 100 + pair(*y2, *y3)?;
        let (month, day) = (pair(*m0, *m1)?, pair(*d0, *d1)?);
        let (hour, minute, second) = (pair(*h0, *h1)?, pair(*n0, *n1)?, pair(*s0, *s1)?);
        if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let (nanos, rest) = fraction(rest)?;
        let offset = offset_seconds(rest)?;
        let leap = second == 60;
        let of_day = hour * 3_600 + minute * 60 + second - i64::from(leap);
        let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + of_day - offset;
        if !(FIRST_SECOND..=LAST_SECOND).contains(&seconds) || (leap && !ends_a_month(seconds)) {
            return None;
        }
        Some(Self { seconds, nanos: if leap { 999_999_999 } else { nanos } })
    }
}

/// The nanoseconds of an optional fraction, and what follows it.
fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let [b'.', digits @ ..] = text else { return Some((0, text)) };
    let (mut nanos, mut weight, mut rest) = (0, 100_000_000, digits);
    while let [byte @ b'0'..=b'9', after @ ..] = rest {
        nanos += u32::from(byte - b'0') * weight;
        weight /= 10;
        rest = after;
    }
    (rest.len() < digits.len()).then_some((nanos, rest))
}

/// Seconds east of UTC; the offset must be the end of the text.
fn offset_seconds(text: &[u8]) -> Option<i64> {
    match text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (pair(*h0, *h1)?, pair(*m0, *m1)?);
            let east = hours * 3_600 + minutes * 60;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -east } else { east })
        }
        _ => None,
    }
}

fn pair(tens: u8, ones: u8) -> Option<i64> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whether this is the last second of a month in UTC, the only place where a leap second can follow.
fn ends_a_month(seconds: i64) -> bool {
    let next = seconds + 1;
    next.rem_euclid(SECONDS_PER_DAY) == 0 && civil_from_days(next.div_euclid(SECONDS_PER_DAY)).2 == 1
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar, for years from 0 on. Years are counted from March, so that
/// the leap day is the last of a year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`]: year, month, day.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * march_month + 2) / 5 + 1)
}

/// Appends the last `width` decimal digits of a number that is not negative.
fn write_digits(out: &mut Vec<u8>, number: i64, width: u32) {
    for place in (0..width).rev() {
        let digit = number / 10_i64.pow(place) % 10;
        out.push(b'0' + u8::try_from(digit).unwrap_or(0));
    }
}
