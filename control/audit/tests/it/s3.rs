//! The mirror against an S3 server. Without one, these tests say loudly that they were skipped.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload};
use plexsphere_audit::{MirrorPlace, verify_export};
use plexsphere_kernel::AuditLog as _;
use plexsphere_kernel::tasks::{Health, Task as _};
use plexsphere_testkit::{TestS3, s3, s3_own};
use plexsphere_wire::DomainId;

use crate::rig::{Rig, record, somebody};

fn place(s3: &TestS3) -> MirrorPlace {
    MirrorPlace::parse("s3://audit-{chain}").unwrap().with_variables(s3.variables())
}

/// The bucket of a Domain's chain, as somebody else's client sees it.
struct Bucket(AmazonS3);

impl Bucket {
    async fn made(s3: &TestS3, domain: DomainId) -> Self {
        let name = format!("audit-{domain}");
        s3.bucket(&name).await;
        let builder = AmazonS3Builder::new()
            .with_endpoint(s3.url())
            .with_allow_http(true)
            .with_access_key_id(s3.access_key())
            .with_secret_access_key(s3.secret_key());
        Self(builder.with_bucket_name(name).build().unwrap())
    }

    async fn objects(&self) -> Vec<ObjectMeta> {
        let mut objects: Vec<ObjectMeta> = self.0.list(None).try_collect().await.unwrap();
        objects.sort_by(|one, other| one.location.cmp(&other.location));
        objects
    }

    async fn names(&self) -> Vec<String> {
        self.objects().await.iter().map(|object| object.location.to_string()).collect()
    }

    /// Every object, as a file of the same name under `folder`.
    async fn download(&self, folder: &Path) {
        for object in self.objects().await {
            let path = folder.join(object.location.as_ref());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, self.0.get(&object.location).await.unwrap().bytes().await.unwrap()).unwrap();
        }
    }
}

async fn forget_uploads(rig: &Rig) {
    rig.tamper("UPDATE audit.segments SET etag = NULL, archived_at = NULL").await;
}

#[tokio::test]
async fn a_bucket_has_byte_for_byte_what_a_folder_has_and_its_download_verifies() {
    let Some(s3) = s3().await else { return };
    let (rig, copies) = (Rig::new().await, tempfile::tempdir().unwrap());
    rig.world.caller("auditor", &["auditor"]);
    let domain = rig.domain(somebody(), 2_300).await;
    let bucket = Bucket::made(&s3, domain).await;
    assert_eq!(rig.audit.mirror(Some(place(&s3))).run().await.unwrap().done, 2_300);
    let names = bucket.names().await;
    let last = "segments/00000000000000002001-2300.ndjson";
    assert_eq!(names, ["segments/00000000000000000001-1000.ndjson", "segments/00000000000000001001-2000.ndjson", last]);
    let entry = rig.get("auditor", &format!("/v1/domains/{domain}/audit/entries/2300")).await;
    let tag = bucket.objects().await.last().unwrap().e_tag.clone().unwrap();
    assert_eq!(entry.body["entry"]["archive_etag"], tag.as_str());

    let (downloaded, local) = (copies.path().join("downloaded"), copies.path().join("local"));
    bucket.download(&downloaded).await;
    let found = verify_export(&downloaded).unwrap();
    assert_eq!((found[0].chain, found[0].from, found[0].to, found[0].divergence), (domain.uuid(), 1, 2_300, None));
    forget_uploads(&rig).await;
    std::fs::create_dir(&local).unwrap();
    let folder = MirrorPlace::parse(&format!("file://{}/{{chain}}", local.display())).unwrap();
    assert_eq!(rig.audit.mirror(Some(folder)).run().await.unwrap().done, 2_300);
    for name in names {
        let written = std::fs::read(local.join(domain.to_string()).join(&name)).unwrap();
        assert!(std::fs::read(downloaded.join(&name)).unwrap() == written, "{name} differs");
    }
}

#[tokio::test]
async fn a_bucket_is_never_written_over_and_only_other_bytes_are_a_divergence() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("the copy of an audit chain differs");
    let Some(s3) = s3().await else { return };
    let rig = Rig::new().await;
    let domain = rig.domain(somebody(), 3).await;
    let bucket = Bucket::made(&s3, domain).await;
    assert_eq!(rig.audit.mirror(Some(place(&s3))).run().await.unwrap().done, 3);
    let before = bucket.objects().await;
    // The server itself refuses, so two replicas at once would not overwrite each other either.
    let again = bucket.0.put_opts(&before[0].location, PutPayload::from("other"), PutMode::Create.into()).await;
    assert!(matches!(again, Err(object_store::Error::AlreadyExists { .. })), "{again:?}");
    forget_uploads(&rig).await;
    let again = rig.audit.mirror(Some(place(&s3))).run().await.unwrap();
    assert_eq!((again.done, again.health), (3, Health::Good));
    assert_eq!(bucket.objects().await, before);

    bucket.0.put(&before[0].location, PutPayload::from("other")).await.unwrap();
    forget_uploads(&rig).await;
    let again = rig.audit.mirror(Some(place(&s3))).run().await.unwrap();
    assert_eq!((again.done, again.health), (0, Health::Degraded("copies are behind")));
    let there = bucket.0.get(&before[0].location).await.unwrap().bytes().await.unwrap();
    assert_eq!(there, "other");
    assert_eq!(rig.count("SELECT count(*) FROM kernel.outbox WHERE event_name = 'DivergenceFound'").await, 1);
}

#[tokio::test]
async fn a_chain_without_a_bucket_rests_and_holds_no_other_one_back() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("was not copied and is tried again");
    let Some(s3) = s3().await else { return };
    let rig = Rig::new().await;
    let (without, with) = (rig.domain(somebody(), 2).await, rig.domain(somebody(), 3).await);
    let bucket = Bucket::made(&s3, with).await;
    let mirror = rig.audit.mirror(Some(place(&s3)));
    let progress = mirror.run().await.unwrap();
    assert_eq!((progress.done, progress.health), (3, Health::Degraded("copies are behind")));
    assert_eq!(bucket.names().await.len(), 1);
    let bucket = Bucket::made(&s3, without).await;
    rig.clock.advance(Duration::from_secs(1));
    let progress = mirror.run().await.unwrap();
    assert_eq!((progress.done, progress.health), (2, Health::Good));
    assert_eq!(bucket.names().await, ["segments/00000000000000000001-2.ndjson"]);
}

/// The server is killed and comes back; the mirror meanwhile gives up soon, for its other chains' sake.
#[tokio::test]
async fn a_killed_server_is_caught_up_with_in_order() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("was not copied and is tried again");
    let Some(mut s3) = s3_own().await else { return };
    let rig = Rig::new().await;
    let domain = rig.domain(somebody(), 5).await;
    let bucket = Bucket::made(&s3, domain).await;
    let mirror = rig.audit.mirror(Some(place(&s3)));
    assert_eq!(mirror.run().await.unwrap().done, 5);
    s3.kill9().await;
    let mut waited = Duration::ZERO;
    for _ in 0..4 {
        rig.log.record_alone(record(Some(domain), somebody())).await.unwrap();
        rig.sequence().await;
        let asked = Instant::now();
        let progress = mirror.run().await.unwrap();
        waited += asked.elapsed();
        assert_eq!((progress.done, progress.health), (0, Health::Degraded("copies are behind")));
        rig.clock.advance(Duration::from_secs(3_600));
    }
    // A client with its usual patience takes twice as long.
    assert!(waited < Duration::from_secs(8), "four runs took {waited:?}");
    s3.restart().await;
    let progress = mirror.run().await.unwrap();
    assert_eq!((progress.done, progress.health), (4, Health::Good));
    let objects = bucket.objects().await;
    assert!(objects.is_sorted_by_key(|object| object.last_modified), "{objects:?}");
    let copy = tempfile::tempdir().unwrap();
    bucket.download(copy.path()).await;
    let found = verify_export(copy.path()).unwrap();
    assert_eq!((objects.len(), found[0].from, found[0].to, found[0].divergence), (3, 1, 9, None));
}
