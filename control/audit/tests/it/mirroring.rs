use std::path::Path;
use std::time::Duration;

use plexsphere_audit::{ExportFault, MirrorPlace, verify_export};
use plexsphere_kernel::AuditLog as _;
use plexsphere_kernel::tasks::{Health, Task as _};

use crate::rig::{Rig, record, somebody};

fn place(folder: &Path) -> MirrorPlace {
    MirrorPlace::parse(&format!("file://{}/audit-{{chain}}", folder.display())).unwrap()
}

fn segments(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder.join("segments")) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn entries_go_up_in_order_once_and_say_so() {
    let (rig, folder) = (Rig::new().await, tempfile::tempdir().unwrap());
    rig.world.caller("auditor", &["auditor"]);
    let domain = rig.domain(somebody(), 2_300).await;
    let mirror = rig.audit.mirror(Some(place(folder.path())));
    while mirror.run().await.unwrap().done > 0 {}
    let chain = folder.path().join(format!("audit-{domain}"));
    assert_eq!(
        segments(&chain),
        ["00000000000000000001-1000.ndjson", "00000000000000001001-2000.ndjson", "00000000000000002001-2300.ndjson"]
    );
    let found = verify_export(&chain).unwrap();
    assert_eq!((found[0].chain, found[0].from, found[0].to, found[0].divergence), (domain.uuid(), 1, 2_300, None));
    let entry = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries/1500")).await;
    assert!(entry.body["entry"]["archive_etag"].is_string() && entry.body["entry"]["archived_at"].is_string());
    rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
    rig.sequence().await;
    let fresh = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries/2301")).await;
    assert_eq!(fresh.body["entry"].get("archive_etag"), None);
    assert_eq!(mirror.run().await.unwrap().done, 1);
    assert_eq!(segments(&chain).len(), 4);
    assert_eq!(verify_export(folder.path()).unwrap()[0].to, 2_301);
}

/// The store is away, then the process dies between an upload and its note, then everything catches up.
#[tokio::test]
async fn an_outage_holds_nothing_back_and_what_was_begun_is_ended_with_the_same_bytes() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("was not copied and is tried again");
    let (rig, folder) = (Rig::new().await, tempfile::tempdir().unwrap());
    let domain = rig.domain(somebody(), 5).await;
    let mirror = rig.audit.mirror(Some(place(folder.path())));
    let chain = folder.path().join(format!("audit-{domain}"));
    // A file where the folder belongs: the store fails.
    std::fs::write(&chain, "").unwrap();
    for _ in 0..3 {
        assert_eq!(mirror.run().await.unwrap().health, Health::Degraded("copies are behind"));
        rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
        rig.sequence().await;
        rig.clock.advance(Duration::from_secs(3_600));
    }
    assert_eq!(rig.verify(domain.uuid()).await.to, 8);
    std::fs::remove_file(&chain).unwrap();
    let progress = mirror.run().await.unwrap();
    assert_eq!((progress.done, progress.health), (8, Health::Good));
    assert_eq!(segments(&chain), ["00000000000000000001-5.ndjson", "00000000000000000006-8.ndjson"]);
    rig.tamper("UPDATE audit.segments SET etag = NULL, archived_at = NULL WHERE first_seq = 6").await;
    assert_eq!(rig.audit.mirror(Some(place(folder.path()))).run().await.unwrap().done, 3);
    assert_eq!(segments(&chain).len(), 2);
}

#[tokio::test]
async fn a_chain_whose_store_fails_rests_longer_each_time_and_holds_no_other_one_back() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("was not copied and is tried again");
    let (rig, folder) = (Rig::new().await, tempfile::tempdir().unwrap());
    let (broken, whole) = (rig.domain(somebody(), 2).await, rig.domain(somebody(), 3).await);
    std::fs::write(folder.path().join(format!("audit-{broken}")), "").unwrap();
    let mirror = rig.audit.mirror(Some(place(folder.path())));
    assert_eq!(mirror.run().await.unwrap().done, 3);
    std::fs::remove_file(folder.path().join(format!("audit-{broken}"))).unwrap();
    assert_eq!(mirror.run().await.unwrap().done, 0, "it rests");
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(mirror.run().await.unwrap().done, 2);
    assert_eq!(verify_export(folder.path()).unwrap().len(), 2);
    let _ = whole;
}

#[tokio::test]
async fn a_copy_with_other_bytes_is_a_divergence_and_is_not_overwritten() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("the copy of an audit chain differs");
    let (rig, folder) = (Rig::new().await, tempfile::tempdir().unwrap());
    let domain = rig.domain(somebody(), 2).await;
    let segment = folder.path().join(format!("audit-{domain}/segments"));
    std::fs::create_dir_all(&segment).unwrap();
    let segment = segment.join("00000000000000000001-2.ndjson");
    std::fs::write(&segment, "other").unwrap();
    let mirror = rig.audit.mirror(Some(place(folder.path())));
    assert_eq!(mirror.run().await.unwrap().done, 0);
    assert_eq!(std::fs::read_to_string(&segment).unwrap(), "other");
    assert_eq!(rig.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'DivergenceFound'").await, 1);
}

#[tokio::test]
async fn without_an_object_store_the_mirror_is_disabled_and_ready() {
    let rig = Rig::new().await;
    rig.domain(somebody(), 2).await;
    assert_eq!(rig.audit.mirror(None).run().await.unwrap().health, Health::Degraded("disabled"));
}

/// The export is judged by itself: no database, no key.
#[tokio::test]
async fn an_export_that_was_changed_is_found_at_its_first_row() {
    let (rig, folder) = (Rig::new().await, tempfile::tempdir().unwrap());
    let domain = rig.domain(somebody(), 1_200).await;
    let mirror = rig.audit.mirror(Some(place(folder.path())));
    while mirror.run().await.unwrap().done > 0 {}
    let second = folder.path().join(format!("audit-{domain}/segments/00000000000000001001-1200.ndjson"));
    let text = std::fs::read_to_string(&second).unwrap();
    let found = || verify_export(folder.path()).unwrap()[0].divergence.map(|found| found.seq);
    let alone = verify_export(&second).unwrap();
    assert_eq!((alone[0].from, alone[0].to, alone[0].divergence), (1_001, 1_200, None));
    let lines: Vec<&str> = text.lines().collect();
    let without = [&lines[..50], &lines[51..]].concat().join("\n");
    std::fs::write(&second, without).unwrap();
    assert_eq!(found(), Some(1_051));
    let mut swapped = lines.clone();
    swapped.swap(10, 11);
    std::fs::write(&second, swapped.join("\n")).unwrap();
    assert_eq!(found(), Some(1_011));
    let hash = &lines[7][lines[7].find("\"entry_hash\":\"").unwrap() + 14..][..8];
    std::fs::write(&second, text.replacen(hash, "00000000", 1)).unwrap();
    assert_eq!(found(), Some(1_008));
    std::fs::write(&second, "{}").unwrap();
    assert!(matches!(verify_export(folder.path()), Err(ExportFault::Malformed { line: 1, .. })));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(verify_export(empty.path()), Err(ExportFault::Empty(_))));
}

#[tokio::test]
async fn a_divergence_is_told_once_also_when_an_upload_failed_before() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("was not copied and is tried again");
    guard.expect("the copy of an audit chain differs");
    let (rig, folder) = (Rig::new().await, tempfile::tempdir().unwrap());
    let domain = rig.domain(somebody(), 2).await;
    let chain = folder.path().join(format!("audit-{domain}"));
    std::fs::write(&chain, "").unwrap();
    let mirror = rig.audit.mirror(Some(place(folder.path())));
    mirror.run().await.unwrap();
    std::fs::remove_file(&chain).unwrap();
    std::fs::create_dir_all(chain.join("segments")).unwrap();
    std::fs::write(chain.join("segments/00000000000000000001-2.ndjson"), "other").unwrap();
    for _ in 0..3 {
        rig.clock.advance(Duration::from_secs(3_600));
        assert_eq!(mirror.run().await.unwrap().done, 0);
    }
    assert_eq!(rig.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'DivergenceFound'").await, 1);
}

/// A copy of what does not hold would vouch for it, under a lock that nobody can take away.
#[tokio::test]
async fn rows_that_do_not_hold_are_not_copied() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("the copy of an audit chain differs");
    for change in [
        "UPDATE audit.entries SET canonical = 'x' WHERE seq = 5",
        "DELETE FROM audit.entries WHERE seq = 5",
        "UPDATE audit.entries SET entry_hash = sha256('x') WHERE seq = 4",
    ] {
        let (rig, folder) = (Rig::new().await, tempfile::tempdir().unwrap());
        let domain = rig.domain(somebody(), 3).await;
        let mirror = rig.audit.mirror(Some(place(folder.path())));
        assert_eq!(mirror.run().await.unwrap().done, 3);
        for _ in 0..3 {
            rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
        }
        rig.sequence().await;
        rig.tamper(change).await;
        assert_eq!(mirror.run().await.unwrap().done, 0, "{change}");
        assert_eq!(segments(&folder.path().join(format!("audit-{domain}"))).len(), 1, "{change}");
        assert_eq!(rig.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'DivergenceFound'").await, 1);
    }
}
