//! Record times against the `time` crate and against a table.

use proptest::prelude::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::telemetry::{RecordTime, Rule};

fn canonical(time: RecordTime) -> String {
    let mut out = Vec::new();
    time.write_rfc3339(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn times_with_an_offset_are_read_to_the_nanosecond() {
    for (text, utc) in [
        ("2026-11-24T08:00:00Z", "2026-11-24T08:00:00.000000000Z"),
        ("2026-11-24t08:00:00.5z", "2026-11-24T08:00:00.500000000Z"),
        ("2026-11-24T08:00:00.123456789+01:30", "2026-11-24T06:30:00.123456789Z"),
        ("2026-11-24T08:00:00.1234567899999-00:00", "2026-11-24T08:00:00.123456789Z"),
        ("2024-02-29T23:59:59-23:59", "2024-03-01T23:58:59.000000000Z"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999999Z"),
        ("2017-01-01T00:59:60.5+01:00", "2016-12-31T23:59:59.999999999Z"),
        ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000000000Z"),
        ("0001-01-01T00:00:00.000000001Z", "0001-01-01T00:00:00.000000001Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("1969-12-31T23:59:59.75Z", "1969-12-31T23:59:59.750000000Z"),
    ] {
        let time = RecordTime::parse(text).unwrap_or_else(|rule| panic!("{text}: {rule}"));
        assert_eq!(canonical(time), utc, "{text}");
    }
}

#[test]
fn everything_else_is_no_time() {
    for text in [
        "",
        "now",
        "2026-11-24",
        "2026-11-24T08:00:00",
        "2026-11-24 08:00:00Z",
        "2026-11-24T08:00Z",
        "26-11-24T08:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T12:00:60Z",
        "2026-01-15T23:59:60Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00,5Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00+01:60",
        "2026-01-01T00:00:00+0100",
        "2026-01-01T00:00:00+01",
        "2026-01-01T00:00:00Z ",
        " 2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00UTC",
        "2026-1-01T00:00:00Z",
        "+2026-01-01T00:00:00Z",
        "1764000000",
        "9999-12-31T23:59:59-00:01",
        "0000-01-01T00:00:00+00:01",
        "2026-01-01T00:00:00\u{2212}01:00",
    ] {
        assert_eq!(RecordTime::parse(text), Err(Rule::NotATime), "{text}");
    }
}

#[test]
fn the_zero_instant_is_refused_in_any_offset() {
    for text in [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00.000Z",
        "0001-01-01T00:00:00.0000000009Z",
        "0001-01-01T05:00:00+05:00",
        "0000-12-31T22:30:00-01:30",
    ] {
        assert_eq!(RecordTime::parse(text), Err(Rule::ZeroTime), "{text}");
    }
}

#[test]
fn every_day_of_eight_centuries_survives_the_round_trip() {
    let mut day = time::Date::from_calendar_date(1600, time::Month::January, 1).unwrap();
    while day.year() < 2401 {
        let text = format!("{:04}-{:02}-{:02}T12:34:56.000000007Z", day.year(), u8::from(day.month()), day.day());
        let time = RecordTime::parse(&text).unwrap();
        assert_eq!(canonical(time), text);
        let expected = day.with_hms(12, 34, 56).unwrap().assume_utc().unix_timestamp();
        assert_eq!(time.unix_seconds(), expected);
        day = day.next_day().unwrap();
    }
}

#[test]
fn the_units_agree_before_and_after_the_epoch() {
    for text in ["1969-12-31T23:59:59.999Z", "2026-11-24T08:00:00.123456789Z"] {
        let time = RecordTime::parse(text).unwrap();
        let nanos = OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp_nanos();
        assert_eq!(time.unix_nanos(), nanos);
        assert_eq!(i128::from(time.unix_millis()), nanos.div_euclid(1_000_000));
        assert_eq!(time.subsec_nanos(), u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap());
    }
}

proptest! {
    #[test]
    fn the_time_crate_reads_the_same_instants(
        text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:([0-5][0-9]|59|60)(\\.[0-9]{1,12})?(Z|z|[+-][0-2][0-9]:[0-6][0-9])"
    ) {
        let reference = OffsetDateTime::parse(&text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp_nanos);
        match RecordTime::parse(&text) {
            Ok(time) => prop_assert_eq!(Some(time.unix_nanos()), reference),
            Err(Rule::ZeroTime) => prop_assert_eq!(reference, Some(-62_135_596_800_000_000_000)),
            // Instants before the year 0 and after 9999 exist only through their offset.
            Err(_) => prop_assert!(reference.is_none_or(|nanos| {
                !(-62_167_219_200..=253_402_300_799).contains(&nanos.div_euclid(1_000_000_000))
            }), "{} is {:?}", text, reference),
        }
    }
}
