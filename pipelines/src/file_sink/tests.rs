use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use plexsphere_wire::telemetry::Signal;
use proptest::prelude::*;

use super::*;
use crate::batch::tests::{batch, origin};

fn config(folder: &Path) -> FileSinkConfig {
    FileSinkConfig { folder: folder.to_owned(), lock_seconds: 0, ..FileSinkConfig::default() }
}

fn open(config: &FileSinkConfig) -> Result<FileSink, FileSinkError> {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(FileSink::open(config))
}

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(1_795_507_200)
}

/// The `n`-th batch: `1 + n % 3` records that name it.
fn nth(n: usize) -> Slice {
    let line = |record: usize| {
        format!("{{\"severity\":\"info\",\"message\":\"{n}/{record}\",\"timestamp\":\"2026-11-24T08:00:00Z\"}}\n")
    };
    let body: String = (0..=n % 3).map(line).collect();
    Slice::whole(Arc::new(batch(Signal::Logs, &origin(1), &body)))
}

/// How often each record is there.
fn counts(root: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for record in read_records(root).unwrap() {
        let (_, record) = record.unwrap();
        *counts.entry(record.record["message"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

fn once(batches: impl IntoIterator<Item = usize>) -> BTreeMap<String, usize> {
    batches.into_iter().flat_map(|n| (0..=n % 3).map(move |record| (format!("{n}/{record}"), 1))).collect()
}

fn segments_of(root: &Path) -> Vec<PathBuf> {
    let folder = root.join(origin(1).domain.to_string()).join("logs");
    partition::list(&folder).unwrap().into_iter().map(|(_, path)| path).collect()
}

#[test]
fn a_stored_record_has_its_place_in_front_and_its_own_members_behind() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&config(folder.path())).unwrap();
    sink.write(&[nth(1)], now()).unwrap();
    let (signal, record) = read_records(folder.path()).unwrap().nth(1).unwrap().unwrap();
    assert_eq!((signal, record.index), (Signal::Logs, 1));
    assert_eq!((record.domain_id, record.node_id), (origin(1).domain, origin(1).node));
    assert_eq!(record.batch_id, nth(1).batch().batch_id);
    assert_eq!(record.record["severity"], "info");
    assert_eq!(record.record["timestamp"], "2026-11-24T08:00:00.000000000Z");
}

#[test]
fn a_segment_is_a_zstd_file_that_any_tool_decompresses() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&config(folder.path())).unwrap();
    sink.write(&[nth(0)], now()).unwrap();
    sink.write(&[nth(1), nth(2)], now()).unwrap();
    let [segment] = segments_of(folder.path()).try_into().unwrap();
    let text = String::from_utf8(zstd::stream::decode_all(fs::File::open(segment).unwrap()).unwrap()).unwrap();
    assert_eq!(text.lines().count(), 6);
    assert!(text.starts_with(&format!("{{\"batch_id\":\"{}\",\"index\":0,\"domain_id\":", nth(0).batch().batch_id)));
}

#[test]
fn a_batch_delivered_twice_is_written_once_even_within_one_call_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&config(folder.path())).unwrap();
    assert_eq!(sink.write(&[nth(1), nth(1), nth(2)], now()).unwrap(), Written { batches: 2, duplicates: 1 });
    assert_eq!(sink.write(&[nth(2)], now()).unwrap(), Written { batches: 0, duplicates: 1 });
    drop(sink);
    let sink = open(&config(folder.path())).unwrap();
    assert_eq!(sink.write(&[nth(1), nth(3)], now()).unwrap(), Written { batches: 1, duplicates: 1 });
    assert_eq!(counts(folder.path()), once([1, 2, 3]));
}

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(&config(folder.path())).unwrap();
    assert!(matches!(open(&config(folder.path())), Err(FileSinkError::Busy(_))));
    drop(first);
    assert!(open(&config(folder.path())).is_ok());
}

#[test]
fn a_segment_that_is_full_or_old_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&FileSinkConfig { segment_bytes: 1, ..config(folder.path()) }).unwrap();
    sink.write(&[nth(1)], now()).unwrap();
    sink.write(&[nth(2)], now()).unwrap();
    assert_eq!(segments_of(folder.path()).len(), 2);
    drop(sink);
    let sink = open(&FileSinkConfig { segment_seconds: 60, ..config(folder.path()) }).unwrap();
    sink.write(&[nth(3)], now()).unwrap();
    sink.write(&[nth(4)], now().plus(Duration::from_secs(59))).unwrap();
    sink.write(&[nth(5)], now().plus(Duration::from_secs(60))).unwrap();
    assert_eq!(segments_of(folder.path()).len(), 3);
    assert_eq!(counts(folder.path()), once(1..=5));
}

#[test]
fn an_idle_partition_gives_its_memory_back_and_still_knows_its_batches_and_its_age() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&FileSinkConfig { segment_seconds: 3_600, ..config(folder.path()) }).unwrap();
    let minutes = |minutes: u64| now().plus(Duration::from_secs(60 * minutes));
    let audit = || {
        let line = r#"{"source":"auditd","action":"a","outcome":"ok","timestamp":"2026-11-24T08:00:00Z"}"#;
        Slice::whole(Arc::new(batch(Signal::Audit, &origin(1), &format!("{line}\n"))))
    };
    let partition = sink.partition((origin(1).domain, Signal::Logs));
    let loaded = || partition.lock().is_loaded();
    sink.write(&[nth(1)], now()).unwrap();
    sink.write(&[audit()], minutes(10)).unwrap();
    assert!(loaded());
    sink.write(&[audit()], minutes(11)).unwrap();
    assert!(!loaded());
    assert_eq!(sink.write(&[nth(1)], minutes(12)).unwrap(), Written { batches: 0, duplicates: 1 });
    sink.write(&[audit()], minutes(30)).unwrap();
    assert!(!loaded());
    sink.write(&[nth(2)], minutes(60)).unwrap();
    assert_eq!(segments_of(folder.path()).len(), 2);
}

#[test]
fn segments_past_their_retention_are_deleted_when_the_next_one_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let daily = FileSinkConfig { segment_bytes: 1, retention_days: 1, ..config(folder.path()) };
    let sink = open(&daily).unwrap();
    let written = crate::Clock::system().now();
    sink.write(&[nth(1)], written).unwrap();
    sink.write(&[nth(2)], written.plus(Duration::from_secs(3_600))).unwrap();
    assert_eq!(counts(folder.path()), once([1, 2]));
    sink.write(&[nth(3)], written.plus(Duration::from_secs(2 * 86_400))).unwrap();
    assert_eq!(counts(folder.path()), once([3]));
}

#[test]
fn only_the_newest_batches_are_remembered_and_whole_segments_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let few = FileSinkConfig { segment_bytes: 1, remembered_batches: 2, ..config(folder.path()) };
    let sink = open(&few).unwrap();
    for n in 0..4 {
        sink.write(&[nth(n)], now()).unwrap();
    }
    assert_eq!(sink.write(&[nth(3), nth(2)], now()).unwrap().duplicates, 2);
    drop(sink);
    let sink = open(&few).unwrap();
    assert_eq!(sink.write(&[nth(3), nth(2)], now()).unwrap().duplicates, 2);
    assert_eq!(sink.write(&[nth(0)], now()).unwrap().duplicates, 0);
}

#[test]
fn a_write_that_fails_promises_nothing_and_the_next_one_starts_behind_the_last_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&config(folder.path())).unwrap();
    sink.write(&[nth(1)], now()).unwrap();
    // The folder vanishes under the writer, and a file stands in its way.
    let logs = folder.path().join(origin(1).domain.to_string()).join("logs");
    let key = (origin(1).domain, Signal::Logs);
    sink.partition(key).lock().close();
    let away = folder.path().join("away");
    fs::rename(&logs, &away).unwrap();
    fs::write(&logs, b"").unwrap();
    assert!(sink.write(&[nth(2)], now()).is_err());
    fs::remove_file(&logs).unwrap();
    fs::rename(&away, &logs).unwrap();
    assert_eq!(sink.write(&[nth(1), nth(2)], now()).unwrap(), Written { batches: 1, duplicates: 1 });
    assert_eq!(counts(folder.path()), once([1, 2]));
}

#[test]
fn a_tail_shows_each_record_once_as_groups_become_whole() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&config(folder.path())).unwrap();
    sink.write(&[nth(0)], now()).unwrap();
    let mut all = Tail::from_start(folder.path(), TailFilter::default());
    let mut new = Tail::from_now(folder.path(), TailFilter::default()).unwrap();
    let filter = TailFilter { signal: Some(Signal::Audit), ..TailFilter::default() };
    let mut audit = Tail::from_start(folder.path(), filter);
    assert_eq!(all.poll().unwrap().len(), 1);
    sink.write(&[nth(2)], now()).unwrap();
    // Half of a group that is being written.
    let [segment] = segments_of(folder.path()).try_into().unwrap();
    let whole = fs::read(&segment).unwrap();
    let group = frame::encode(&[(frame::key(&nth(1).batch().batch_id).unwrap(), &nth(1))]).unwrap();
    fs::write(&segment, [whole.as_slice(), &group[..group.len() / 2]].concat()).unwrap();
    assert_eq!(all.poll().unwrap().len(), 3);
    assert_eq!(new.poll().unwrap().len(), 3);
    fs::write(&segment, [whole, group].concat()).unwrap();
    assert_eq!(all.poll().unwrap().len(), 2);
    assert!(audit.poll().unwrap().is_empty());
}

#[test]
fn a_segment_that_cannot_be_read_takes_nothing_from_a_tail_that_was_read_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let sink = open(&config(folder.path())).unwrap();
    sink.write(&[nth(0)], now()).unwrap();
    let mut tail = Tail::from_start(folder.path(), TailFilter::default());
    let [segment] = segments_of(folder.path()).try_into().unwrap();
    let next = segment.with_file_name("000000000009.ndjson.zst");
    fs::create_dir(&next).unwrap();
    assert!(tail.poll().is_err());
    fs::remove_dir(&next).unwrap();
    assert_eq!(tail.poll().unwrap().len(), 1);
    // A segment that is gone is forgotten, and one that cannot be found between listing and reading is no failure.
    std::os::unix::fs::symlink(segment.with_file_name("nowhere"), &next).unwrap();
    assert!(tail.poll().unwrap().is_empty());
    fs::remove_file(&segment).unwrap();
    assert!(tail.poll().unwrap().is_empty());
    assert!(tail.offsets.is_empty());
}

/// One step of a life under fire.
#[derive(Clone, Debug)]
enum Step {
    /// Deliver these batches.
    Deliver(Vec<usize>),
    /// The process dies between writes.
    Kill,
    /// The process dies while it writes this batch; so many per mille of the group reach the disk, and then so many bytes
    /// of garbage.
    KillInWrite { batch: usize, per_mille: usize, garbage: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..20_usize, 1..5).prop_map(Step::Deliver),
        1 => Just(Step::Kill),
        3 => (0..20_usize, 0..=1_000_usize, 0..40_usize)
            .prop_map(|(batch, per_mille, garbage)| Step::KillInWrite { batch, per_mille, garbage }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// I3: whatever is killed and delivered again, each acknowledged record is there exactly once.
    #[test]
    fn every_record_is_there_exactly_once_whenever_the_writer_dies(
        steps in prop::collection::vec(step(), 1..20),
        segment_bytes in 1..2_000_u64,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let config = FileSinkConfig { segment_bytes, ..config(folder.path()) };
        let mut sink = Some(open(&config).unwrap());
        let mut delivered = std::collections::BTreeSet::new();
        for step in steps {
            match step {
                Step::Deliver(batches) => {
                    let slices: Vec<Slice> = batches.iter().copied().map(nth).collect();
                    sink.as_ref().unwrap().write(&slices, now()).unwrap();
                    delivered.extend(batches);
                }
                Step::Kill => {
                    drop(sink.take());
                    sink = Some(open(&config).unwrap());
                }
                Step::KillInWrite { batch, per_mille, garbage } => {
                    drop(sink.take());
                    let whole = torn_write(folder.path(), batch, per_mille, garbage, &delivered);
                    if whole {
                        // It was on disk before anybody was told: it counts as stored.
                        delivered.insert(batch);
                    }
                    sink = Some(open(&config).unwrap());
                }
            }
        }
        // Everything comes again, as after a crash of the bus.
        let slices: Vec<Slice> = (0..20).map(nth).collect();
        for chunk in slices.chunks(7) {
            sink.as_ref().unwrap().write(chunk, now()).unwrap();
        }
        prop_assert_eq!(counts(folder.path()), once(0..20));
    }
}

/// What a process leaves behind that dies in the middle of a write; whether the group became whole.
fn torn_write(
    root: &Path,
    batch: usize,
    per_mille: usize,
    garbage: usize,
    delivered: &std::collections::BTreeSet<usize>,
) -> bool {
    let folder = root.join(origin(1).domain.to_string()).join("logs");
    fs::create_dir_all(&folder).unwrap();
    let last = partition::list(&folder).unwrap().last().map_or(0, |(number, _)| *number);
    let path = partition::path(&folder, last);
    let slice = nth(batch);
    let group = frame::encode(&[(frame::key(&slice.batch().batch_id).unwrap(), &slice)]).unwrap();
    // The writer would not have begun to write a batch that it knows.
    let cut = if delivered.contains(&batch) { 0 } else { group.len() * per_mille / 1_000 };
    let mut bytes = fs::read(&path).unwrap_or_default();
    bytes.extend(&group[..cut]);
    bytes.extend(std::iter::repeat_n(0x50, garbage));
    fs::write(&path, bytes).unwrap();
    cut == group.len()
}
