use std::io::Write as _;

use super::*;
use crate::ledger::{Entry, LedgerWriter};

const DOMAIN: &str = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a1";

struct Rig {
    folder: tempfile::TempDir,
    node: NodeId,
}

impl Rig {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), node: NodeId::from_bytes([7; 16]).unwrap() }
    }

    fn ledger(&self, batches: &[(&[usize], Settled, u32)]) -> PathBuf {
        let path = self.folder.path().join("ledger.ndjson");
        let mut writer = LedgerWriter::create(&path).unwrap();
        for (lines, settled, attempts) in batches {
            let keys = lines.iter().map(|line| {
                let record = serde_json::json!({ "message": format!("line {line}") }).to_string();
                RecordKey::of_json(Signal::Logs, self.node, record.as_bytes()).unwrap()
            });
            let entry = Entry {
                node_id: self.node,
                signal: Signal::Logs,
                batch_id: "b".into(),
                attempts: *attempts,
                settled: *settled,
                code: None,
                keys: keys.collect(),
                unkeyed: 0,
            };
            writer.write(&entry).unwrap();
        }
        writer.flush().unwrap();
        path
    }

    fn segment(&self, name: &str, node: NodeId, lines: &[usize]) -> PathBuf {
        let folder = self.folder.path().join("sink").join(DOMAIN).join("logs");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(name);
        let mut encoder = zstd::stream::write::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
        for (index, line) in lines.iter().enumerate() {
            let row = serde_json::json!({
                "batch_id": "b", "index": index, "domain_id": DOMAIN, "node_id": node,
                "message": format!("line {line}"), "severity": "info",
            });
            writeln!(encoder, "{row}").unwrap();
        }
        encoder.finish().unwrap();
        path
    }

    fn compare(&self, ledger: &Path) -> Counts {
        compare(ledger, &self.folder.path().join("sink")).unwrap()
    }
}

#[test]
fn sent_acknowledged_arrived_missing_and_duplicated_are_counted_per_record() {
    let rig = Rig::new();
    let ledger = rig.ledger(&[
        (&[1, 2, 3], Settled::Acknowledged, 1),
        (&[4, 5], Settled::Unsettled, 3),
        (&[6], Settled::Unsettled, 0),
    ]);
    rig.segment("a.ndjson.zst", rig.node, &[1, 2, 4]);
    rig.segment("b.ndjson.zst", rig.node, &[2, 2, 99]);
    rig.segment("c.ndjson.zst", NodeId::from_bytes([8; 16]).unwrap(), &[1, 1]);
    rig.segment("notes.txt", rig.node, &[3]);
    let counts = rig.compare(&ledger);
    let expected = SignalCounts {
        made: 6,
        sent: 5,
        acknowledged: 3,
        arrived: 3,
        missing: 1,
        duplicated: 2,
        unknown: 1,
        unkeyed: 0,
    };
    assert_eq!(counts.signals["logs"], expected);
    assert_eq!((counts.files, counts.unreadable_lines, counts.unfinished_files), (3, 0, 0));
    assert!(!counts.holds());
    assert!(counts.table().contains("logs"));
}

#[test]
fn a_run_whose_acknowledged_records_all_arrived_once_holds() {
    let rig = Rig::new();
    let ledger = rig.ledger(&[(&[1, 2], Settled::Acknowledged, 1), (&[3], Settled::Unsettled, 1)]);
    rig.segment("a.ndjson.zst", rig.node, &[1, 2, 3]);
    assert!(rig.compare(&ledger).holds());
}

#[test]
fn a_comparison_that_proves_nothing_does_not_hold() {
    let rig = Rig::new();
    assert!(!rig.compare(&rig.ledger(&[])).holds(), "an empty ledger");
    let ledger = rig.ledger(&[(&[1], Settled::Unsettled, 0)]);
    assert!(!rig.compare(&ledger).holds(), "nothing acknowledged");
    let ledger = rig.ledger(&[(&[1], Settled::Acknowledged, 1)]);
    rig.segment("a.ndjson.zst", rig.node, &[1]);
    rig.segment("b.ndjson.zst", NodeId::from_bytes([8; 16]).unwrap(), &[7]);
    let good = rig.compare(&ledger);
    assert!(good.holds(), "rows of another run's Nodes are none of ours");
    let logs = good.signals["logs"];
    for counts in [SignalCounts { unkeyed: 1, ..logs }, SignalCounts { acknowledged: 0, ..logs }] {
        let signals = [("logs".to_owned(), logs), ("audit".to_owned(), counts)].into();
        assert!(!Counts { signals, ..good.clone() }.holds(), "{counts:?}");
    }
    rig.segment("b.ndjson.zst", rig.node, &[7]);
    assert!(!rig.compare(&ledger).holds(), "a row that the ledger does not name");
    let path = rig.segment("b.ndjson.zst", rig.node, &[]);
    fs::write(&path, zstd::bulk::compress(b"no row\n", 1).unwrap()).unwrap();
    let counts = rig.compare(&ledger);
    assert!(!counts.holds() && counts.unreadable_lines == 1, "{counts:?}");
    fs::write(&path, zstd::bulk::compress(b"{\"node_id\":", 1).unwrap()).unwrap();
    let counts = rig.compare(&ledger);
    assert!(counts.holds() && (counts.unreadable_lines, counts.unfinished_files) == (0, 1), "{counts:?}");
}

#[test]
fn records_without_a_key_are_counted_and_fail_the_comparison() {
    let rig = Rig::new();
    let path = rig.ledger(&[(&[1], Settled::Acknowledged, 1)]);
    rig.segment("a.ndjson.zst", rig.node, &[1]);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end().replacen('{', "{\"unkeyed\":2,", 1) + "\n").unwrap();
    let counts = rig.compare(&path);
    assert!(!counts.holds() && counts.signals["logs"].unkeyed == 2, "{counts:?}");
}

#[test]
fn frames_that_a_reader_skips_may_stand_between_the_data() {
    let rig = Rig::new();
    let ledger = rig.ledger(&[(&[1, 2], Settled::Acknowledged, 1)]);
    let path = rig.segment("a.ndjson.zst", rig.node, &[1]);
    let first = fs::read(&path).unwrap();
    let second = fs::read(rig.segment("a.ndjson.zst", rig.node, &[2])).unwrap();
    let skipped = [&0x184D_2A50_u32.to_le_bytes()[..], &5u32.to_le_bytes()[..], b"12345"].concat();
    fs::write(&path, [&skipped[..], &first, &skipped, &second].concat()).unwrap();
    let counts = rig.compare(&ledger);
    assert!(counts.holds() && counts.signals["logs"].arrived == 2 && counts.unfinished_files == 0, "{counts:?}");
    fs::write(&path, [&first[..], &second, b"\0\0garbage\0\0"].concat()).unwrap();
    let counts = rig.compare(&ledger);
    assert!(counts.holds() && counts.unfinished_files == 1, "{counts:?}");
}

#[test]
fn an_absent_sink_misses_everything_and_a_cut_segment_counts_up_to_its_cut() {
    let rig = Rig::new();
    let ledger = rig.ledger(&[(&[1], Settled::Acknowledged, 1)]);
    assert_eq!(rig.compare(&ledger).signals["logs"].missing, 1);
    let path = rig.segment("a.ndjson.zst", rig.node, &[1]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..whole.len() / 2]].concat()).unwrap();
    let counts = rig.compare(&ledger);
    assert_eq!((counts.signals["logs"].arrived, counts.unfinished_files), (1, 1));
}
