//! Points in time: RFC 3339, UTC, `Z`, at most microseconds.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// A point in time in UTC, kept to the microsecond because the database keeps no more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

/// Why a text is no point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time with an offset")]
pub struct TimestampError;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(OffsetDateTime::UNIX_EPOCH);

    /// Takes a time of any offset, converts it to UTC and cuts it to the microsecond. A time whose UTC lies outside the
    /// calendar becomes 1970; [`Self::parse`] refuses such texts before.
    #[must_use]
    pub fn new(time: OffsetDateTime) -> Self {
        let utc = time.checked_to_offset(UtcOffset::UTC).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let micros = utc.nanosecond() / 1_000;
        Self(utc.replace_nanosecond(micros * 1_000).unwrap_or(utc))
    }

    /// Whole seconds since 1970; a value outside the calendar becomes 1970.
    #[must_use]
    pub fn from_unix_seconds(seconds: i64) -> Self {
        Self(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Nanoseconds since 1970, cut to the microsecond; a value outside the calendar becomes 1970.
    #[must_use]
    pub fn from_unix_nanos(nanos: i128) -> Self {
        Self::new(OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// Parses RFC 3339 with any offset and any fraction.
    ///
    /// # Errors
    /// [`TimestampError`] when the text is anything else, or its time in UTC lies outside the years 0000 to 9999, which
    /// no text could say again.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        if text.len() > 64 {
            return Err(TimestampError);
        }
        OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .and_then(|time| time.checked_to_offset(UtcOffset::UTC))
            .filter(|utc| (0..=9_999).contains(&utc.year()))
            .map(Self::new)
            .ok_or(TimestampError)
    }

    /// The value as the `time` crate has it.
    #[must_use]
    pub const fn inner(self) -> OffsetDateTime {
        self.0
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn unix_nanos(self) -> i128 {
        self.0.unix_timestamp_nanos()
    }

    /// Whole seconds since 1970.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// The same time without its fraction of a second.
    #[must_use]
    pub fn whole_second(self) -> Self {
        Self(self.0.replace_nanosecond(0).unwrap_or(self.0))
    }

    /// How long `self` lies after `earlier`; zero when it lies before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::try_from(self.0 - earlier.0).unwrap_or(Duration::ZERO)
    }

    /// How far the two lie apart, whichever comes first.
    #[must_use]
    pub fn distance(self, other: Self) -> Duration {
        (self.0 - other.0).unsigned_abs()
    }

    /// `self + duration`, at most the end of the calendar.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.checked_add(duration.try_into().unwrap_or(time::Duration::MAX)).unwrap_or(self.0))
    }

    /// `self − duration`, at least the start of the calendar.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.checked_sub(duration.try_into().unwrap_or(time::Duration::MAX)).unwrap_or(self.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        crate::schema::string("date-time")
    }
}

impl utoipa::ToSchema for Timestamp {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Borrowed(crate::schema::DATE_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_converted_and_the_fraction_cut_to_microseconds() {
        let parsed = Timestamp::parse("2026-05-27T12:00:00.123456789+02:00").unwrap();
        assert_eq!(parsed.to_string(), "2026-05-27T10:00:00.123456Z");
        assert_eq!(parsed.whole_second().to_string(), "2026-05-27T10:00:00Z");
        assert!(Timestamp::parse("2026-05-27T10:00:00").is_err());
        assert!(Timestamp::parse("yesterday").is_err());
    }

    #[test]
    fn an_offset_that_leads_out_of_the_calendar_is_refused_and_does_not_panic() {
        assert!(Timestamp::parse("9999-12-31T23:59:59-00:01").is_err());
        assert!(Timestamp::parse("0000-01-01T00:00:00+00:01").is_err());
        let last = Timestamp::parse("9999-12-31T23:59:59Z").unwrap();
        assert_eq!(last.to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(last.plus(Duration::from_secs(u64::MAX)), last);
    }
}
