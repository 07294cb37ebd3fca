//! Seeds move to the newest wrap key.

use std::collections::BTreeMap;
use std::sync::Arc;

use plexsphere_kernel::tasks::Task as _;
use plexsphere_kernel::{Changes, KekRing};
use plexsphere_mesh::{Blocks, Mesh, MeshConfig, MeshParts, psk_aad};
use plexsphere_testkit::logs;
use plexsphere_wire::PeerId;
use uuid::Uuid;

use crate::world::{DEPLOYMENT, World, world_sealing};

const OLD: &str = "1:1111111111111111111111111111111111111111111111111111111111111111";
const NEW: &str = "2:2222222222222222222222222222222222222222222222222222222222222222";

fn ring(lines: &[&str]) -> Arc<KekRing> {
    Arc::new(KekRing::parse(&lines.join("\n")).unwrap())
}

/// The mesh of this world after a restart with both wrap keys.
fn restarted(world: &World) -> Mesh {
    let parts = MeshParts {
        changes: Changes::new(),
        handshakes: None,
        db: world.database.clone(),
        clock: world.clock.clone(),
        keks: ring(&[OLD, NEW]),
        audit: world.audit.clone(),
        blocks: Blocks::default(),
    };
    Mesh::new(MeshConfig::new(DEPLOYMENT), parts)
}

/// Every seed in clear, by name, as far as `ring` opens it.
async fn seeds(world: &World, ring: &KekRing) -> BTreeMap<String, Vec<u8>> {
    let rows: Vec<(String, Uuid, Vec<u8>, i32)> =
        sqlx::query_as("SELECT kid, peer_id, sealed, wrap_key_version FROM mesh.psk_epochs")
            .fetch_all(&world.db.pool())
            .await
            .unwrap();
    let open = |(kid, peer, sealed, version): (String, Uuid, Vec<u8>, i32)| {
        let aad = psk_aad(DEPLOYMENT, PeerId::from_uuid(peer), &kid);
        let seed = ring.open(version, &sealed, &aad).ok()?;
        Some((kid, seed.to_vec()))
    };
    rows.into_iter().filter_map(open).collect()
}

/// A thousand seeds beside those of the Nodes, so that a run has more than one batch.
async fn fill(world: &World, ring: &KekRing) {
    let (mut peers, mut kids, mut sealed) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..1_000 {
        let (peer, kid) = (Uuid::from_u128(1 << 100 | index), format!("psk-{index:04}"));
        sealed.push(ring.seal(&index.to_be_bytes(), &psk_aad(DEPLOYMENT, PeerId::from_uuid(peer), &kid)).unwrap().1);
        peers.push(peer);
        kids.push(kid);
    }
    let sql = "
        WITH peers AS (
            INSERT INTO mesh.peers (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
            SELECT id, id, $4, $4, uuid_send(id) || uuid_send(id), '10.0.0.1', now(), now() FROM unnest($1::uuid[]) id
        )
        INSERT INTO mesh.psk_epochs (kid, peer_id, sealed, wrap_key_version, created_at)
        SELECT kid, id, sealed, 1, now() FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS s (id, kid, sealed)";
    let query = sqlx::query(sql).bind(peers).bind(kids).bind(sealed).bind(Uuid::from_u128(9));
    query.execute(&world.db.pool()).await.unwrap();
}

#[tokio::test]
async fn every_seed_moves_to_the_newest_wrap_key_and_a_run_that_moved_some_has_one_row() {
    let _logs = logs::guard();
    let world = world_sealing(ring(&[OLD])).await;
    world.join().await;
    fill(&world, &world.keks).await;
    let before = seeds(&world, &world.keks).await;
    assert_eq!(before.len(), 1_001);
    let mesh = restarted(&world);
    assert_eq!(mesh.psk_rewrap().run().await.unwrap().done, 1_001);
    assert_eq!(seeds(&world, &ring(&[NEW])).await, before, "the old wrap key can go");
    let rows = world.audit.taken();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].domain, rows[0].relation.as_str()), (None, "psk.rewrap"));
    assert_eq!(rows[0].object.to_string(), "wrap_key:2");
    assert_eq!(mesh.psk_rewrap().run().await.unwrap().done, 0);
    // Whoever still runs with the old ring touches nothing.
    assert_eq!(world.mesh.psk_rewrap().run().await.unwrap().done, 0);
    assert!(world.audit.taken().is_empty());
}

#[tokio::test]
async fn a_seed_that_does_not_open_stays_and_one_that_is_held_waits_for_the_next_run() {
    let logs = logs::guard();
    logs.expect("a sealed value does not open and keeps its wrap key");
    let world = world_sealing(ring(&[OLD])).await;
    for _ in 0..3 {
        world.join().await;
    }
    let kids: Vec<String> =
        sqlx::query_scalar("SELECT kid FROM mesh.psk_epochs ORDER BY kid").fetch_all(&world.db.pool()).await.unwrap();
    let damage = "UPDATE mesh.psk_epochs SET sealed = '\\x01' WHERE kid = $1";
    sqlx::query(damage).bind(&kids[0]).execute(&world.db.pool()).await.unwrap();
    let mut holder = world.db.pool().begin().await.unwrap();
    let hold = "SELECT kid FROM mesh.psk_epochs WHERE kid = $1 FOR UPDATE";
    sqlx::query(hold).bind(&kids[1]).execute(&mut *holder).await.unwrap();
    let mesh = restarted(&world);
    assert_eq!(mesh.psk_rewrap().run().await.unwrap().done, 1);
    holder.rollback().await.unwrap();
    assert_eq!(mesh.psk_rewrap().run().await.unwrap().done, 1);
    let moved = seeds(&world, &ring(&[NEW])).await;
    assert_eq!(moved.keys().collect::<Vec<_>>(), [&kids[1], &kids[2]]);
}
