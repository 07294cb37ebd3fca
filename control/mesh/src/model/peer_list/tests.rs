use std::io::Read as _;

use plexsphere_wire::Timestamp;
use proptest::prelude::*;

use super::gzip::Deflated;
use super::*;

fn peers(count: usize) -> Vec<PeerView> {
    let now = Timestamp::from_unix_seconds(1_800_000_000);
    let mut peers: Vec<PeerView> = (0..count)
        .map(|index| PeerView {
            node_id: NodeId::mint(now),
            mesh_ip: format!("10.0.{}.{}", index / 256, index % 256),
            public_key: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=".to_owned(),
            fallback_endpoint: index.is_multiple_of(3).then(|| "192.0.2.1:51820".to_owned()),
        })
        .collect();
    peers.sort_by_key(|peer| peer.node_id);
    peers
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // One member only: what stands behind it would be lost.
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// A reading of the list that nothing is shared with.
fn plain(peers: &[PeerView], own: NodeId) -> String {
    let others: Vec<&PeerView> = peers.iter().filter(|peer| peer.node_id != own).collect();
    format!("{{\"peers\":{}}}", serde_json::to_string(&others).unwrap())
}

fn compose(list: &PeerList, own: NodeId) -> String {
    let composed = list.compose(own, b"{\"peers\":[", b"]}");
    let packed = list.compose_gzip(own, b"{\"peers\":[", b"]}");
    assert_eq!(gunzip(&packed), composed);
    String::from_utf8(composed).unwrap()
}

#[test]
fn both_codings_hold_the_list_without_oneself() {
    for count in [0, 1, 2, 3, 40, 600] {
        let peers = peers(count);
        let list = PeerList::render(7, peers.clone()).unwrap();
        assert_eq!(list.mesh_version(), 7);
        let stranger = NodeId::mint(Timestamp::from_unix_seconds(1));
        for own in peers.iter().map(|peer| peer.node_id).chain([stranger]) {
            assert_eq!(compose(&list, own), plain(&peers, own), "{count} peers");
        }
        assert_eq!(list.len(), plain(&peers, stranger).len() - "{\"peers\":[]}".len());
    }
}

#[test]
fn one_change_leaves_all_chunks_but_its_own_as_they_are() {
    let mut peers = peers(2_000);
    let list = PeerList::render(1, peers.clone()).unwrap();
    compose(&list, peers[0].node_id);
    compose(&list, peers[1_999].node_id);
    assert!(list.chunks.len() > 4 && list.uncompressed() == 0);
    peers[1_000].fallback_endpoint = Some("198.51.100.7:9".to_owned());
    let change = PeerChange { node: peers[1_000].node_id, view: Some(peers[1_000].clone()) };
    let next = list.next(2, vec![change]).unwrap();
    let changed = list.chunks.iter().zip(&next.chunks).filter(|(before, after)| !Arc::ptr_eq(before, after)).count();
    assert_eq!((changed, next.uncompressed(), next.chunks.len()), (1, 1, list.chunks.len()));
    assert_eq!(compose(&next, peers[7].node_id), plain(&peers, peers[7].node_id));
    let anew = PeerList::render(3, peers.clone()).unwrap().sharing(&list);
    assert_eq!((anew.uncompressed(), anew.mesh_version()), (1, 3));
    assert_eq!(compose(&anew, peers[7].node_id), plain(&peers, peers[7].node_id));
}

#[derive(Clone, Debug)]
enum Step {
    Join { begins: bool, place: u64 },
    Leave(prop::sample::Index),
    Change(prop::sample::Index, u16),
}

/// A Node somewhere among the others, at a border or not.
fn joining(begins: bool, place: u64) -> PeerView {
    let id = u128::from(place) << 64 | 0x8000_0000_0000_0000 | u128::from(u8::from(!begins));
    PeerView {
        node_id: NodeId::from_uuid(uuid::Uuid::from_u128(id)),
        mesh_ip: place.to_string(),
        public_key: String::new(),
        fallback_endpoint: None,
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop::bool::weighted(0.3), 0u64..200).prop_map(|(begins, place)| Step::Join { begins, place }),
        3 => any::<prop::sample::Index>().prop_map(Step::Leave),
        3 => any::<(prop::sample::Index, u16)>().prop_map(|(peer, port)| Step::Change(peer, port)),
    ]
}

proptest! {
    #[test]
    fn any_history_of_changes_reads_as_a_list_made_at_once(
        versions in proptest::collection::vec(proptest::collection::vec(step(), 1..12), 1..24)
    ) {
        let mut peers: BTreeMap<NodeId, PeerView> = BTreeMap::new();
        let mut list = PeerList::render(0, Vec::new()).unwrap();
        for (version, steps) in (1..).zip(versions) {
            let mut changes = Vec::new();
            for step in steps {
                let chosen = |index: prop::sample::Index| {
                    (!peers.is_empty()).then(|| peers.values().nth(index.index(peers.len())).cloned()).flatten()
                };
                let (node, view) = match step {
                    Step::Join { begins, place } => {
                        let view = joining(begins, place);
                        (view.node_id, Some(view))
                    }
                    Step::Leave(index) => match chosen(index) {
                        Some(view) => (view.node_id, None),
                        None => continue,
                    },
                    Step::Change(index, port) => match chosen(index) {
                        Some(view) => (view.node_id, Some(PeerView { fallback_endpoint: Some(port.to_string()), ..view })),
                        None => continue,
                    },
                };
                changes.push(PeerChange { node, view: view.clone() });
                match view {
                    Some(view) => peers.insert(node, view),
                    None => peers.remove(&node),
                };
            }
            list = list.next(version, changes).unwrap();
            let naive: Vec<PeerView> = peers.values().cloned().collect();
            let own = naive.get(naive.len() / 2).map_or(joining(true, 999).node_id, |peer| peer.node_id);
            prop_assert_eq!(compose(&list, own), plain(&naive, own));
            let at_once = PeerList::render(version, naive).unwrap();
            prop_assert_eq!(list.compose_gzip(own, b"[", b"]"), at_once.compose_gzip(own, b"[", b"]"));
        }
    }
}

#[test]
fn a_large_piece_of_noise_survives_deflation() {
    let mut noise = Vec::new();
    let mut state = 88_172_645_463_325_252u64;
    for _ in 0..200_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.push(state.to_le_bytes()[3]);
    }
    let mut member = gzip::Member::with_capacity(0);
    member.append(&Deflated::new(&noise, gzip::SHARED));
    member.append(&Deflated::new(b"end", gzip::SHARED));
    let mut expected = noise;
    expected.extend_from_slice(b"end");
    assert_eq!(gunzip(&member.finish()), expected);
}
