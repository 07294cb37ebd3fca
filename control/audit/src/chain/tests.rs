use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const SUBJECT: [u8; 32] = [0xab; 32];
const CTX: [u8; 32] = [0x01; 32];

fn row(seq: i64) -> Row<'static> {
    Row {
        chain: Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0007),
        seq,
        subject: &SUBJECT,
        relation: "domain.create",
        object_type: "domain",
        object_id: "x",
        reason: "granted",
        caveat_names: r#"{"from_cidr":["allowed_cidrs"]}"#,
        correlation_id: "c-1",
        ctx: &CTX,
        occurred_at: 1_777_716_000_123_456,
        repeated: 0,
    }
}

fn encoded(row: &Row<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    row.encode(&mut out);
    out
}

/// Canonical bytes, previous hash, own hash.
fn chain(rows: &[Row<'_>]) -> Vec<(Vec<u8>, Hash, Hash)> {
    let mut prev = GENESIS;
    rows.iter()
        .map(|row| {
            let canonical = encoded(row);
            let own = link(&prev, &canonical);
            let made = (canonical, prev, own);
            prev = own;
            made
        })
        .collect()
}

fn walk(rows: &[Row<'_>], made: &[(Vec<u8>, Hash, Hash)]) -> Result<Head, Divergence> {
    let mut check = ChainCheck::from_genesis();
    for (row, (canonical, prev, own)) in rows.iter().zip(made) {
        check.entry(&Stored { row: *row, prev_hash: prev, entry_hash: own, canonical })?;
    }
    Ok(check.last())
}

#[test]
fn the_canonical_bytes_are_those_of_the_documented_example() {
    let text = String::from_utf8(encoded(&row(17))).unwrap();
    let expected = format!(
        "{{\"caveat_context\":{{\"from_cidr\":[\"allowed_cidrs\"]}},\
         \"chain\":\"01930000-0000-7000-8000-000000000007\",\"correlation_id\":\"c-1\",\"ctx\":\"{}\",\
         \"object\":{{\"id\":\"x\",\"type\":\"domain\"}},\"occurred_at\":\"2026-05-02T10:00:00.123456Z\",\
         \"reason\":\"granted\",\"relation\":\"domain.create\",\"seq\":17,\"subject\":\"{}\",\"v\":1}}",
        "01".repeat(32),
        "ab".repeat(32),
    );
    assert_eq!(text, expected);
}

#[test]
fn the_hashes_are_those_that_another_implementation_computed() {
    // `sha256(bytes(32) + sha256(b"{}").digest())` of Python's hashlib.
    let expected = "961af672d320bfb80e482edf9e092930b12b6f10f28ac4913d1d64c49219da68";
    assert_eq!(data_encoding::HEXLOWER.encode(&link(&GENESIS, b"{}")), expected);
}

#[test]
fn a_row_that_stands_for_others_says_so_in_its_bytes() {
    let repeated = Row { repeated: 4, ..row(1) };
    let text = String::from_utf8(encoded(&repeated)).unwrap();
    assert!(text.contains("\"relation\":\"domain.create\",\"repeated\":4,\"seq\":1,"), "{text}");
}

proptest! {
    /// The reference is a JSON library with sorted members, which for strings and integers is RFC 8785.
    #[test]
    fn the_canonical_bytes_are_what_a_sorting_json_writer_writes(
        object_id in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", relation in "[a-z][a-z0-9_.-]{0,20}",
        seq in 1i64..(1 << 53), micros in -62_167_219_200_000_000i64..253_402_300_800_000_000, repeated in 0i32..5,
    ) {
        let row = Row { object_id: &object_id, relation: &relation, seq, occurred_at: micros, repeated, ..row(1) };
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap();
        let format = time::macros::format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        );
        let mut reference = serde_json::json!({
            "caveat_context": { "from_cidr": ["allowed_cidrs"] },
            "chain": row.chain.to_string(),
            "correlation_id": "c-1",
            "ctx": "01".repeat(32),
            "object": { "id": object_id, "type": "domain" },
            "occurred_at": at.format(&format).unwrap(),
            "reason": "granted",
            "relation": relation,
            "seq": seq,
            "subject": "ab".repeat(32),
            "v": 1,
        });
        if repeated > 0 {
            reference["repeated"] = repeated.into();
        }
        // Members of a `serde_json` object are sorted unless a feature says otherwise; sorting them again says so here.
        let sorted: std::collections::BTreeMap<String, serde_json::Value> =
            reference.as_object().unwrap().clone().into_iter().collect();
        prop_assert_eq!(String::from_utf8(encoded(&row)).unwrap(), serde_json::to_string(&sorted).unwrap());
    }

    #[test]
    fn a_whole_chain_holds_and_any_changed_bit_is_found_at_its_own_row(
        length in 1usize..12, at in any::<prop::sample::Index>(), part in 0u8..3, bit in any::<prop::sample::Index>(),
    ) {
        let rows: Vec<Row<'_>> = (1..).map(row).take(length).collect();
        let mut made = chain(&rows);
        prop_assert_eq!(walk(&rows, &made).map(|head| head.hash), Ok(made[length - 1].2));
        let at = at.index(length);
        let (canonical, prev, own) = &mut made[at];
        let bytes: &mut [u8] = match part { 0 => canonical, 1 => prev, _ => own };
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let found = walk(&rows, &made).map_err(|divergence| divergence.seq);
        prop_assert_eq!(found, Err(i64::try_from(at).unwrap() + 1));
    }

    #[test]
    fn two_rows_that_changed_places_and_a_row_that_is_gone_are_found_at_the_first_of_them(
        length in 3usize..12, one in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(),
    ) {
        let rows: Vec<Row<'_>> = (1..).map(row).take(length).collect();
        let (one, other) = (one.index(length), other.index(length));
        prop_assume!(one < other);
        let mut swapped = rows.clone();
        swapped.swap(one, other);
        let (first, second) = (swapped[one].seq, swapped[other].seq);
        swapped[one].seq = second;
        swapped[other].seq = first;
        let mut made = chain(&rows);
        made.swap(one, other);
        prop_assert_eq!(walk(&swapped, &made).map_err(|found| found.seq), Err(i64::try_from(one).unwrap() + 1));

        let mut rows = rows;
        let mut made = chain(&rows);
        rows.remove(one);
        made.remove(one);
        let found = walk(&rows, &made);
        prop_assert_eq!(found.map_err(|found| (found.seq, found.observed)), Err((i64::try_from(one).unwrap() + 1, GENESIS)));
    }
}

#[test]
fn the_head_shows_a_tail_that_was_cut_and_a_tail_that_was_added() {
    let rows: Vec<Row<'_>> = (1..=5).map(row).collect();
    let made = chain(&rows);
    let head = walk(&rows, &made).unwrap();
    let mut check = ChainCheck::from_genesis();
    for (row, (canonical, prev, own)) in rows.iter().zip(&made).take(4) {
        check.entry(&Stored { row: *row, prev_hash: prev, entry_hash: own, canonical }).unwrap();
    }
    assert_eq!(check.end(&head), Err(Divergence { seq: 5, expected: head.hash, observed: GENESIS }));
    let shorter = Head { seq: 3, hash: made[2].2 };
    assert_eq!(check.end(&shorter).map_err(|found| found.seq), Err(4));
    let other = Head { seq: 4, hash: [9; 32] };
    assert_eq!(check.end(&other).map_err(|found| found.seq), Err(4));
}

#[test]
fn a_line_of_another_chain_or_place_does_not_pass_although_its_hash_is_right() {
    let rows = [row(1)];
    let made = chain(&rows);
    let (canonical, prev, own) = &made[0];
    let entry = Exported { seq: 1, prev_hash: prev, entry_hash: own, canonical };
    ChainCheck::from_genesis().exported(rows[0].chain, &entry).unwrap();
    assert!(ChainCheck::from_genesis().exported(Uuid::from_u128(1), &entry).is_err());
}
