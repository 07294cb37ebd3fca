//! The decoder against the reference, on batches that are odd, wrong and damaged.

use proptest::prelude::*;

use super::generator::{Noise, Quality, batch, mutate};
use super::reference::{self, Plain, Verdict};
use crate::telemetry::limits::MESSAGE_BYTES;
use crate::telemetry::{
    AuditEvent, Limits, LogLine, MetricSample, Record, Records, Shape, Signal, is_forbidden_label, rewrite, validate,
};

fn decode(signal: Signal, shape: Shape, bytes: &[u8], limits: &Limits) -> Verdict {
    fn collect<'a, R: Record<'a> + Into<Plain>>(records: Records<'a, R>) -> Verdict {
        match records.map(|record| record.map(Into::into)).collect() {
            Ok(records) => Verdict::Records(records),
            Err(refusal) => refusal.into(),
        }
    }
    match signal {
        Signal::Metrics => collect(Records::<MetricSample<'_>>::new(shape, bytes, limits)),
        Signal::Logs => collect(Records::<LogLine<'_>>::new(shape, bytes, limits)),
        Signal::Audit => collect(Records::<AuditEvent<'_>>::new(shape, bytes, limits)),
    }
}

/// `serde_json` may be one unit in the last place off; everything else must be equal.
fn same(ours: &Verdict, theirs: &Verdict) -> bool {
    let (Verdict::Records(ours), Verdict::Records(theirs)) = (ours, theirs) else { return ours == theirs };
    ours.len() == theirs.len()
        && ours.iter().zip(theirs).all(|(ours, theirs)| {
            let near = match (ours.value, theirs.value) {
                (Some(left), Some(right)) => (left - right).abs() <= left.abs() * 1e-15,
                (left, right) => left == right,
            };
            near && *ours == Plain { value: ours.value, ..theirs.clone() }
        })
}

fn agree(signal: Signal, shape: Shape, bytes: &[u8]) -> Result<Verdict, TestCaseError> {
    let limits = Limits { records: 4, ..Limits::default() };
    let ours = decode(signal, shape, bytes, &limits);
    let theirs = reference::decode(signal, shape, bytes, limits.records);
    prop_assert!(same(&ours, &theirs), "ours {ours:?}\ntheirs {theirs:?}\nfor {:?}", String::from_utf8_lossy(bytes));
    match (validate(signal, shape, bytes, &limits), &ours) {
        (Ok(summary), Verdict::Records(records)) => prop_assert_eq!(summary.records, records.len()),
        (Ok(_), _) => prop_assert!(false, "validate and the views disagree"),
        (Err(refusal), verdict) => prop_assert_eq!(&Verdict::from(refusal), verdict),
    }
    Ok(ours)
}

fn signals_and_shapes() -> impl Iterator<Item = (Signal, Shape)> {
    Signal::ALL.into_iter().flat_map(|signal| [(signal, Shape::Array), (signal, Shape::Ndjson)])
}

/// What a record must be after rewriting.
fn permitted(mut record: Plain) -> Plain {
    record.labels.retain(|key, _| !is_forbidden_label(key));
    if let Some(message) = record.texts.get_mut("message")
        && message.len() > MESSAGE_BYTES
    {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES - "[truncated]".len()));
        message.push_str("[truncated]");
    }
    record
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn valid_batches_decode_to_what_the_reference_reads(seed in any::<u64>()) {
        for (signal, shape) in signals_and_shapes() {
            let text = batch(&mut Noise::new(seed), signal, shape, 4, Quality { bad_one_in: 0 });
            let verdict = agree(signal, shape, text.as_bytes())?;
            prop_assert!(matches!(verdict, Verdict::Records(_)), "{verdict:?} for {text}");
        }
    }

    #[test]
    fn faulty_batches_are_refused_where_the_reference_refuses_them(seed in any::<u64>()) {
        for (signal, shape) in signals_and_shapes() {
            let text = batch(&mut Noise::new(seed), signal, shape, 6, Quality { bad_one_in: 25 });
            agree(signal, shape, text.as_bytes())?;
        }
    }

    #[test]
    fn damaged_batches_are_judged_as_the_reference_judges_them(seed in any::<u64>()) {
        for (signal, shape) in signals_and_shapes() {
            let mut noise = Noise::new(seed);
            let mut bytes = batch(&mut noise, signal, shape, 5, Quality { bad_one_in: 0 }).into_bytes();
            mutate(&mut noise, &mut bytes);
            agree(signal, shape, &bytes)?;
        }
    }

    #[test]
    fn rewriting_keeps_everything_that_may_stay(seed in any::<u64>()) {
        let limits = Limits::default();
        for (signal, shape) in signals_and_shapes() {
            let text = batch(&mut Noise::new(seed), signal, shape, 4, Quality { bad_one_in: 0 });
            let rewritten = rewrite(signal, shape, text.as_bytes(), &limits).expect("a valid batch");
            let Verdict::Records(before) = decode(signal, shape, text.as_bytes(), &limits) else { unreachable!() };
            let expected: Vec<Plain> = before.into_iter().map(permitted).collect();
            let after = decode(signal, Shape::Ndjson, &rewritten, &limits);
            prop_assert_eq!(after, Verdict::Records(expected), "{}", text);
            let summary = validate(signal, Shape::Ndjson, &rewritten, &limits).expect("a valid batch");
            prop_assert!(!summary.must_rewrite());
            prop_assert_eq!(rewrite(signal, Shape::Ndjson, &rewritten, &limits), Ok(rewritten));
        }
    }
}

/// The longer hunt: `cargo test -p plexsphere-wire --release -- --ignored a_long_hunt`.
#[test]
#[ignore = "takes a minute; for whoever changes the scanner"]
fn a_long_hunt_finds_no_disagreement() {
    for seed in 0..400_000_u64 {
        let (signal, shape) = signals_and_shapes().nth(usize::try_from(seed % 6).unwrap()).unwrap();
        let mut noise = Noise::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let quality = Quality { bad_one_in: if seed % 4 == 0 { 20 } else { 0 } };
        let mut bytes = batch(&mut noise, signal, shape, 5, quality).into_bytes();
        mutate(&mut noise, &mut bytes);
        if let Err(disagreement) = agree(signal, shape, &bytes) {
            panic!("seed {seed}: {disagreement}");
        }
    }
}
