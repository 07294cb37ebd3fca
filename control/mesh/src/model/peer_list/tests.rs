use std::io::Read as _;

use plexsphere_wire::Timestamp;

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

#[test]
fn both_codings_hold_the_list_without_oneself() {
    for count in [0, 1, 2, CHUNK_PEERS - 1, CHUNK_PEERS, CHUNK_PEERS + 1, 2 * CHUNK_PEERS + 1, 1_000] {
        let peers = peers(count);
        let list = PeerList::render(7, &peers).unwrap();
        assert_eq!(list.mesh_version(), 7);
        let stranger = NodeId::mint(Timestamp::from_unix_seconds(1));
        let chosen = [0, 1, CHUNK_PEERS - 1, CHUNK_PEERS, count.saturating_sub(2), count.saturating_sub(1)];
        let nodes = chosen.iter().filter_map(|index| peers.get(*index)).map(|peer| peer.node_id);
        for own in nodes.chain([stranger]) {
            let others: Vec<&PeerView> = peers.iter().filter(|peer| peer.node_id != own).collect();
            let expected = format!("{{\"peers\":{}}}", serde_json::to_string(&others).unwrap());
            let plain = list.compose(own, b"{\"peers\":[", b"]}");
            assert_eq!(String::from_utf8(plain).unwrap(), expected);
            let packed = list.compose_gzip(own, b"{\"peers\":[", b"]}");
            assert_eq!(String::from_utf8(gunzip(&packed)).unwrap(), expected, "{count} peers");
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
