use std::sync::Arc;

use plexsphere_kernel::custody::SealedRows as _;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_kernel::{EnvelopeSigner as _, KekRing};
use plexsphere_signing::Signing;
use plexsphere_wire::DomainId;

use crate::rig::{Rig, unsigned};

/// The rig's ring with a fresh key of version 2 behind.
fn two_keys(rig: &Rig, mark: &str) -> String {
    let fresh = KekRing::generate();
    format!("{}2:{}{mark}\n", rig.ring, fresh.trim().strip_prefix("1:").unwrap())
}

async fn with_ring(rig: &Rig, ring: &str) -> Arc<Signing> {
    rig.another_of(|opening| opening.ring = ring.to_owned()).await
}

/// How many seeds rest under which wrap key.
async fn versions(rig: &Rig) -> Vec<(i32, i64)> {
    let sql =
        "SELECT wrap_key_version, count(*) FROM signing.keys WHERE wrapped_seed IS NOT NULL GROUP BY 1 ORDER BY 1";
    sqlx::query_as(sql).fetch_all(&rig.database.pool()).await.unwrap()
}

async fn signs(signing: &Signing, domain: DomainId) {
    let kid = signing.announced_kid(domain).await.unwrap();
    signing.sign(domain, &kid, &unsigned(domain, &kid).canonical_bytes().unwrap()).await.unwrap();
}

fn rewraps(rig: &Rig) -> usize {
    rig.audit.0.lock().unwrap().iter().filter(|action| *action == "signing_key.rewrap").count()
}

/// More than two batches, with signers that remember nothing at work all the while: old ones with the new key standing
/// by, and new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_sign_call_fails_while_seeds_move_to_a_new_wrap_key() {
    let rig = Rig::new().await;
    let mut domains = Vec::new();
    for _ in 0..8 {
        domains.push(rig.domain().await);
    }
    // The same seeds under further kids would not open; so further keys are made by as many rotations.
    for domain in &domains {
        for _ in 0..51 {
            crate::rig::rotate(&rig, *domain, true).await.unwrap();
        }
    }
    let (before, after) = (two_keys(&rig, ":standby"), two_keys(&rig, ""));
    let after = after
        .lines()
        .next()
        .map(|first| format!("{first}\n{}", before.lines().nth(1).unwrap().trim_end_matches(":standby")))
        .unwrap();
    assert_eq!(versions(&rig).await, [(1, 8 * 52)]);
    let rewrap = with_ring(&rig, &after).await.rewrap();
    let signing = async {
        let mut rounds = 0;
        while versions(&rig).await != [(2, 8 * 52)] || rounds < 3 {
            let (old, new) = (with_ring(&rig, &before).await, with_ring(&rig, &after).await);
            for domain in &domains {
                signs(&old, *domain).await;
                signs(&new, *domain).await;
            }
            rounds += 1;
        }
    };
    let ((), done) = tokio::join!(signing, rewrap.run());
    assert_eq!(done.unwrap().done, 8 * 52);
    assert_eq!(rewraps(&rig), 1, "one row for the run");
    // The old key is named by nobody and can go.
    let alone = after.lines().nth(1).unwrap();
    let alone = with_ring(&rig, alone).await;
    assert_eq!(alone.foreign_version().await.unwrap(), None);
    for domain in &domains {
        signs(&alone, *domain).await;
    }
    assert_eq!(rewrap.run().await.unwrap().done, 0);
    assert_eq!(rewraps(&rig), 1, "a run with nothing to do leaves none");
}

#[tokio::test]
async fn a_key_that_stands_by_seals_nothing_and_an_older_ring_takes_nothing_back() {
    let rig = Rig::new().await;
    rig.domain().await;
    let waiting = with_ring(&rig, &two_keys(&rig, ":standby")).await;
    assert_eq!(waiting.rewrap().run().await.unwrap().done, 0);
    assert_eq!(versions(&rig).await, [(1, 1)]);
    assert_eq!(with_ring(&rig, &two_keys(&rig, "")).await.rewrap().run().await.unwrap().done, 1);
    assert_eq!(rig.signing.rewrap().run().await.unwrap().done, 0);
    assert_eq!(versions(&rig).await, [(2, 1)]);
}

#[tokio::test]
async fn a_seed_that_does_not_open_stays_as_it_is_and_holds_no_other_back() {
    let guard = plexsphere_testkit::logs::guard();
    guard.expect("does not open and keeps its wrap key");
    let rig = Rig::new().await;
    let (spoilt, sound) = (rig.domain().await, rig.domain().await);
    sqlx::query("UPDATE signing.keys SET wrapped_seed = '\\x0100' WHERE domain_id = $1")
        .bind(spoilt.uuid())
        .execute(&rig.database.pool())
        .await
        .unwrap();
    let signing = with_ring(&rig, &two_keys(&rig, "")).await;
    assert_eq!(signing.rewrap().run().await.unwrap().done, 1);
    assert_eq!(versions(&rig).await, [(1, 1), (2, 1)]);
    signs(&signing, sound).await;
}
