//! Thousands of Nodes of one Domain, as registrations would have left them.
//!
//! A registration costs a password hash, by design. Here the rows of all Nodes are written in one transaction: Resource,
//! Node and sealed key, address, Peer and sealed seed, reachability, and the mark for the edge directory. What a
//! registration leaves besides is not there: relation tuples, the redeemed token, audit entries and events.

use plexsphere_kernel::{Database, KekRing};
use plexsphere_load::clock;
use plexsphere_load::streams::Identity;
use plexsphere_wire::nsk::{CredentialDigest, render_bearer};
use plexsphere_wire::{NodeId, PeerId, ResourceId, TokenId};
use rand::RngCore as _;
use uuid::Uuid;

use crate::installation::{EnrolledNode, Installation};

/// Addresses of the Domain's range in front of the seeded Nodes', for Nodes that register.
const FIRST_ADDRESS: usize = 4_096;

/// One row per Node, from which all others are made.
const GATHER: &str = "
    CREATE TEMPORARY TABLE seed ON COMMIT DROP AS
    SELECT $1::uuid AS domain, $2::uuid AS project, $3::text AS pinned, $4::int AS version, rows.*
    FROM unnest($5::uuid[], $6::uuid[], $7::uuid[], $8::bytea[], $9::inet[], $10::text[], $11::bytea[], $12::bytea[],
        $13::text[], $14::bytea[])
        AS rows (node, resource, peer, public_key, address, kid, wrapped, digest, seed_kid, sealed)";

const SPREAD: [&str; 9] = [
    "INSERT INTO identity.resources (id, project_id, domain_id, kind, origin, external_ref, created_at, updated_at)
        SELECT resource, project, domain, 'vm', 'adopted', 'seed-' || node, now(), now() FROM seed",
    "INSERT INTO identity.nodes
        (id, domain_id, project_id, resource_id, public_key, mesh_ip, pinned_signing_key_id, created_at)
        SELECT node, domain, project, resource, public_key, address, pinned, now() FROM seed",
    "INSERT INTO identity.node_secret_keys (kid, node_id, wrapped, wrap_key_version, digest, created_at)
        SELECT kid, node, wrapped, version, digest, now() FROM seed",
    "INSERT INTO mesh.allocations (domain_id, ip, node_id, allocated_at) SELECT domain, address, node, now() FROM seed",
    "INSERT INTO mesh.peers
        (peer_id, node_id, domain_id, project_id, public_key, mesh_ip, node_version_at, created_at)
        SELECT peer, node, domain, project, public_key, address, now(), now() FROM seed",
    "INSERT INTO mesh.psk_epochs (kid, peer_id, sealed, wrap_key_version, created_at)
        SELECT seed_kid, peer, sealed, version, now() FROM seed",
    "INSERT INTO mesh.reachability (node_id, domain_id, state, changed_at, told_state)
        SELECT node, domain, 'unreachable', now(), 'unreachable' FROM seed",
    "INSERT INTO kernel.directory_changes (key) SELECT 'node.' || node FROM seed",
    "SELECT pg_notify('plexsphere_directory', '')",
];

/// The columns of [`GATHER`].
#[derive(Default)]
struct Columns {
    nodes: Vec<Uuid>,
    resources: Vec<Uuid>,
    peers: Vec<Uuid>,
    public_keys: Vec<Vec<u8>>,
    addresses: Vec<String>,
    kids: Vec<String>,
    wrapped: Vec<Vec<u8>>,
    digests: Vec<Vec<u8>>,
    seed_kids: Vec<String>,
    seeds: Vec<Vec<u8>>,
}

/// Puts `count` Nodes beside one that has registered, and waits until every edge was told of them.
pub(super) async fn nodes(installation: &Installation, beside: &EnrolledNode, count: usize) -> Vec<Identity> {
    let db = Database::connect(&installation.database_url, 2).await.unwrap();
    let (domain, project): (Uuid, Uuid) =
        sqlx::query_as("SELECT domain_id, project_id FROM identity.nodes WHERE id = $1")
            .bind(beside.node.uuid())
            .fetch_one(db.pool())
            .await
            .unwrap();
    let deployment: Uuid =
        sqlx::query_scalar("SELECT deployment_id FROM kernel.installation").fetch_one(db.pool()).await.unwrap();
    let ring = KekRing::parse(&std::fs::read_to_string(installation.path("nsk.ring")).unwrap()).unwrap();
    let network: String = sqlx::query_scalar("SELECT host(mesh_cidr) FROM identity.domains WHERE id = $1")
        .bind(domain)
        .fetch_one(db.pool())
        .await
        .unwrap();
    let network: std::net::Ipv4Addr = network.parse().unwrap();
    let (mut columns, mut identities) = (Columns::default(), Vec::with_capacity(count));
    for number in 0..count {
        let address = u32::from(network) + u32::try_from(FIRST_ADDRESS + number).unwrap();
        let node = columns.push(&ring, deployment, address.into());
        identities.push(Identity {
            node: node.0,
            bearer: render_bearer("plexd", node.0, &node.1),
            key_id: beside.answer["signing_key_id"].as_str().unwrap().to_owned(),
            key: beside.signing_key.clone(),
        });
    }
    let pinned = beside.answer["signing_key_id"].as_str().unwrap();
    let mut tx = db.begin().await.unwrap();
    sqlx::query("SET LOCAL statement_timeout = '10min'").execute(&mut *tx).await.unwrap();
    columns.gather(&mut tx, (domain, project), (pinned, ring.newest())).await;
    for statement in SPREAD {
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    told(installation, &db, count).await;
    identities
}

impl Columns {
    /// Makes one Node and its key.
    fn push(&mut self, ring: &KekRing, deployment: Uuid, address: std::net::Ipv4Addr) -> (NodeId, [u8; 32]) {
        let now = clock::now();
        let (node, peer) = (NodeId::mint(now), PeerId::mint(now));
        let random = || {
            let mut bytes = [0u8; 32];
            rand::rng().fill_bytes(&mut bytes);
            bytes
        };
        let (key, kid) = (random(), format!("nsk-{}", TokenId::mint(now)));
        let seed_kid = format!("psk-{}", TokenId::mint(now));
        let sealed = |bytes: &[u8], place: &str| ring.seal(bytes, place).unwrap().1;
        self.wrapped.push(sealed(&key, &format!("plexsphere/nsk/v1|{deployment}|{node}|{kid}")));
        self.seeds.push(sealed(&random(), &plexsphere_mesh::psk_aad(deployment, peer, &seed_kid)));
        self.digests.push(CredentialDigest::of(node, &key).as_bytes().to_vec());
        self.nodes.push(node.uuid());
        self.resources.push(ResourceId::mint(now).uuid());
        self.peers.push(peer.uuid());
        self.public_keys.push(random().to_vec());
        self.addresses.push(address.to_string());
        self.kids.push(kid);
        self.seed_kids.push(seed_kid);
        (node, key)
    }

    async fn gather(self, tx: &mut plexsphere_kernel::Tx, place: (Uuid, Uuid), (pinned, version): (&str, i32)) {
        sqlx::query(GATHER)
            .bind(place.0)
            .bind(place.1)
            .bind(pinned)
            .bind(version)
            .bind(self.nodes)
            .bind(self.resources)
            .bind(self.peers)
            .bind(self.public_keys)
            .bind(self.addresses)
            .bind(self.kids)
            .bind(self.wrapped)
            .bind(self.digests)
            .bind(self.seed_kids)
            .bind(self.seeds)
            .execute(&mut **tx)
            .await
            .unwrap();
    }
}

/// Waits until the projector has written every mark and each edge knows as many Nodes.
async fn told(installation: &Installation, db: &Database, count: usize) {
    let begun = std::time::Instant::now();
    let deadline = begun + std::time::Duration::from_secs(600);
    let marks = "SELECT count(*) FROM kernel.directory_changes";
    while sqlx::query_scalar::<_, i64>(marks).fetch_one(db.pool()).await.unwrap() > 0
        || !known(installation, count).await
    {
        assert!(std::time::Instant::now() < deadline, "the edges do not learn of {count} Nodes");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    println!("{count} Nodes seeded, known to every edge {:?} later", begun.elapsed());
}

async fn known(installation: &Installation, count: usize) -> bool {
    for edge in installation.edges() {
        if installation.metric(edge, "plexsphere_edge_directory_nodes", "").await < count as u64 {
            return false;
        }
    }
    true
}
