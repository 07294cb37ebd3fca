use super::*;

fn beat(node: NodeId, received_at: Timestamp, version: &str) -> Heartbeat {
    Heartbeat {
        node,
        received_at,
        binary_checksum: "ab".repeat(32),
        binary_version: version.to_owned(),
        nat_summary: "{}".to_owned(),
    }
}

#[test]
fn the_newest_of_a_node_counts_and_times_stay_near_ours() {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    let second = Duration::from_secs(1);
    let (a, b, c) = (NodeId::mint(now), NodeId::mint(now), NodeId::mint(now));
    let kept = newest_of_each(
        vec![
            beat(a, now, "new"),
            beat(a, now.minus(second), "old"),
            beat(b, now.plus(second * 3_600), "ah\0ead"),
            beat(c, now.minus(second * 3_600), "behind"),
        ],
        now,
    );
    assert!(kept.is_sorted_by_key(|beat| beat.node));
    let of = |node| kept.iter().find(|beat| beat.node == node).unwrap();
    assert_eq!((kept.len(), of(a).binary_version.as_str(), of(a).received_at), (3, "new", now));
    assert_eq!((of(b).binary_version.as_str(), of(b).received_at), ("ah\u{fffd}ead", now));
    assert_eq!(of(c).received_at, now.minus(MAX_LAG));
}
