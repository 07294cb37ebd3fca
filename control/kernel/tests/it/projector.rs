use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::jetstream::kv::Store;
use async_trait::async_trait;
use parking_lot::Mutex;
use plexsphere_kernel::Fault;
use plexsphere_kernel::directory::{mark_domain, mark_node};
use plexsphere_kernel::projector::{DirectoryFlush, DirectoryLookup, DirectoryProjector, ProjectorParts};
use plexsphere_kernel::seams::{DomainEntries, NodeEntries};
use plexsphere_kernel::tasks::{Task as _, Tasks};
use plexsphere_testkit::eventually;
use plexsphere_wire::directory::{DomainEntry, NodeEntry, domain_key, node_key};
use plexsphere_wire::subjects::{DIRECTORY_BUCKET, DIRECTORY_LOOKUP};
use plexsphere_wire::{DomainId, NodeId, ProjectId, ResourceId};
use tokio::sync::Semaphore;

use crate::rig::{Rig, driver, now};

#[derive(Default)]
struct Entries {
    nodes: Mutex<BTreeMap<NodeId, NodeEntry>>,
    domains: Mutex<BTreeMap<DomainId, DomainEntry>>,
}

fn page<K: Ord + Copy, V: Clone>(all: &BTreeMap<K, V>, after: Option<K>, limit: i64) -> Vec<V> {
    let limit = usize::try_from(limit).unwrap();
    all.iter().filter(|(key, _)| after.is_none_or(|after| **key > after)).map(|(_, v)| v.clone()).take(limit).collect()
}

#[async_trait]
impl NodeEntries for Entries {
    async fn node_entry(&self, node: NodeId) -> Result<Option<NodeEntry>, Fault> {
        Ok(self.nodes.lock().get(&node).cloned())
    }

    async fn node_entries(&self, after: Option<NodeId>, limit: i64) -> Result<Vec<NodeEntry>, Fault> {
        Ok(page(&self.nodes.lock(), after, limit))
    }
}

#[async_trait]
impl DomainEntries for Entries {
    async fn domain_entry(&self, domain: DomainId) -> Result<Option<DomainEntry>, Fault> {
        Ok(self.domains.lock().get(&domain).cloned())
    }

    async fn domain_entries(&self, after: Option<DomainId>, limit: i64) -> Result<Vec<DomainEntry>, Fault> {
        Ok(page(&self.domains.lock(), after, limit))
    }
}

/// Entries that are read and then held back, as by a process that stands still.
struct HeldBack {
    entries: Arc<Entries>,
    read: Semaphore,
    go_on: Semaphore,
}

#[async_trait]
impl NodeEntries for HeldBack {
    async fn node_entry(&self, node: NodeId) -> Result<Option<NodeEntry>, Fault> {
        let entry = self.entries.node_entry(node).await;
        self.read.add_permits(1);
        drop(self.go_on.acquire().await.unwrap());
        entry
    }

    async fn node_entries(&self, after: Option<NodeId>, limit: i64) -> Result<Vec<NodeEntry>, Fault> {
        self.entries.node_entries(after, limit).await
    }
}

fn node_entry() -> NodeEntry {
    NodeEntry {
        node: NodeId::mint(now()),
        domain: DomainId::mint(now()),
        project: ProjectId::mint(now()),
        resource: ResourceId::mint(now()),
        credentials: Vec::new(),
        deregistered: false,
        pinned_kid: "k-1".to_owned(),
    }
}

struct Projection {
    rig: Rig,
    entries: Arc<Entries>,
    tasks: Tasks,
    flush: DirectoryFlush,
}

impl Projection {
    async fn start(seeded: usize) -> Self {
        let (rig, entries) = (Rig::new().await, Arc::new(Entries::default()));
        for entry in std::iter::repeat_with(node_entry).take(seeded) {
            entries.nodes.lock().insert(entry.node, entry);
        }
        let parts = ProjectorParts {
            db: rig.db.clone(),
            bus: rig.bus.clone(),
            nodes: Arc::clone(&entries) as Arc<dyn NodeEntries>,
            domains: Arc::clone(&entries) as Arc<dyn DomainEntries>,
            replicas: 1,
        };
        let projector = Arc::new(DirectoryProjector::new(parts));
        let flush = projector.flush();
        let mut tasks = driver(&rig.db, &rig.probes);
        tasks.add(projector, DirectoryProjector::schedule());
        let nodes = Arc::clone(&entries) as Arc<dyn NodeEntries>;
        tasks.serve(Arc::new(DirectoryLookup::new(rig.bus.clone(), nodes)));
        tasks.start();
        eventually!(rig.probes.ready(), "the projector is ready");
        Self { rig, entries, tasks, flush }
    }

    async fn bucket(&self) -> Store {
        self.rig.nats.jetstream().await.get_key_value(DIRECTORY_BUCKET).await.unwrap()
    }

    async fn mark(&self, node: NodeId) {
        let mut tx = self.rig.db.begin().await.unwrap();
        mark_node(&mut tx, node).await.unwrap();
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_marked_node_is_in_the_bucket_when_the_flush_returns_and_gone_when_it_is_unknown() {
    let projection = Projection::start(0).await;
    let entry = node_entry();
    projection.entries.nodes.lock().insert(entry.node, entry.clone());
    projection.mark(entry.node).await;
    assert!(projection.flush.node(entry.node).await.unwrap());
    let bucket = projection.bucket().await;
    let stored = bucket.get(node_key(entry.node)).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<NodeEntry>(&stored).unwrap(), entry);
    projection.entries.nodes.lock().clear();
    projection.mark(entry.node).await;
    assert!(projection.flush.node(entry.node).await.unwrap());
    assert_eq!(bucket.get(node_key(entry.node)).await.unwrap(), None);
}

/// Both run at once, which they do only when one has lost its lock without knowing.
#[tokio::test]
async fn a_projector_that_stood_still_with_an_old_reading_overwrites_and_revives_nothing() {
    let (rig, entries) = (Rig::new().await, Arc::new(Entries::default()));
    let (changed, ended) = (node_entry(), node_entry());
    for entry in [&changed, &ended] {
        entries.nodes.lock().insert(entry.node, entry.clone());
    }
    let projector = |nodes: Arc<dyn NodeEntries>| {
        let domains = Arc::clone(&entries) as Arc<dyn DomainEntries>;
        DirectoryProjector::new(ProjectorParts {
            db: rig.db.clone(),
            bus: rig.bus.clone(),
            nodes,
            domains,
            replicas: 1,
        })
    };
    let mark = async || {
        let mut tx = rig.db.begin().await.unwrap();
        for entry in [&changed, &ended] {
            mark_node(&mut tx, entry.node).await.unwrap();
        }
        tx.commit().await.unwrap();
    };
    let held_back =
        Arc::new(HeldBack { entries: Arc::clone(&entries), read: Semaphore::new(0), go_on: Semaphore::new(0) });
    let late = projector(Arc::clone(&held_back) as Arc<dyn NodeEntries>);
    let prompt = projector(Arc::clone(&entries) as Arc<dyn NodeEntries>);
    mark().await;
    let late = tokio::spawn(async move { late.run().await });
    drop(held_back.read.acquire_many(2).await.unwrap());
    entries.nodes.lock().get_mut(&changed.node).unwrap().pinned_kid = "k-2".to_owned();
    entries.nodes.lock().remove(&ended.node);
    mark().await;
    prompt.run().await.unwrap();
    held_back.go_on.add_permits(100);
    late.await.unwrap().unwrap();
    let bucket = rig.nats.jetstream().await.get_key_value(DIRECTORY_BUCKET).await.unwrap();
    let stored = bucket.get(node_key(changed.node)).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<NodeEntry>(&stored).unwrap().pinned_kid, "k-2");
    assert_eq!(bucket.get(node_key(ended.node)).await.unwrap(), None);
}

#[tokio::test]
async fn a_deleted_bucket_is_made_again_with_every_entry_and_nothing_else() {
    let projection = Projection::start(30).await;
    let jetstream = projection.rig.nats.jetstream().await;
    jetstream.delete_key_value(DIRECTORY_BUCKET).await.unwrap();
    let known: Vec<_> = projection.entries.nodes.lock().keys().copied().collect();
    eventually!(
        match jetstream.get_key_value(DIRECTORY_BUCKET).await {
            Ok(bucket) => {
                let mut there = 0;
                for node in &known {
                    there += usize::from(matches!(bucket.get(node_key(*node)).await, Ok(Some(_))));
                }
                there == known.len()
            }
            Err(_) => false,
        },
        "the bucket is rebuilt"
    );
}

#[tokio::test]
async fn a_start_removes_what_should_not_be_there_and_mends_what_differs() {
    let rig_nats = plexsphere_testkit::nats().await;
    let projection = Projection::start(3).await;
    drop(rig_nats);
    let bucket = projection.bucket().await;
    assert!(projection.tasks.drain(crate::rig::GRACE).await);
    let (stranger, node) = (NodeId::mint(now()), *projection.entries.nodes.lock().keys().next().unwrap());
    bucket.put(node_key(stranger), "{}".into()).await.unwrap();
    bucket.put(node_key(node), "{}".into()).await.unwrap();
    let parts = ProjectorParts {
        db: projection.rig.db.clone(),
        bus: projection.rig.bus.clone(),
        nodes: Arc::clone(&projection.entries) as Arc<dyn NodeEntries>,
        domains: Arc::clone(&projection.entries) as Arc<dyn DomainEntries>,
        replicas: 1,
    };
    let mut tasks = driver(&projection.rig.db, &projection.rig.probes);
    tasks.add(Arc::new(DirectoryProjector::new(parts)), DirectoryProjector::schedule());
    tasks.start();
    eventually!(bucket.get(node_key(stranger)).await.unwrap().is_none(), "the stranger is removed");
    let stored = bucket.get(node_key(node)).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<NodeEntry>(&stored).unwrap().node, node);
}

#[tokio::test]
async fn a_domain_is_projected_and_a_lookup_answers_an_entry_or_null() {
    let projection = Projection::start(1).await;
    let domain = DomainId::mint(now());
    let entry = DomainEntry { domain, keys: Vec::new(), announced_kid: "k-1".to_owned(), announced_seq: 4 };
    projection.entries.domains.lock().insert(domain, entry.clone());
    let mut tx = projection.rig.db.begin().await.unwrap();
    mark_domain(&mut tx, domain).await.unwrap();
    tx.commit().await.unwrap();
    let bucket = projection.bucket().await;
    eventually!(bucket.get(domain_key(domain)).await.unwrap().is_some(), "the domain is projected");

    let known = projection.entries.nodes.lock().values().next().cloned().unwrap();
    let client = projection.rig.nats.client().await;
    let ask = async |body: String| client.request(DIRECTORY_LOOKUP, body.into()).await.unwrap().payload;
    assert_eq!(serde_json::from_slice::<NodeEntry>(&ask(known.node.to_string()).await).unwrap(), known);
    assert_eq!(ask(NodeId::mint(now()).to_string()).await, "null");
    assert_eq!(ask("no id".to_owned()).await, "null");
}
