//! What becomes of keys that are retired, and of Nodes whose key is gone.

use std::sync::Arc;
use std::time::Duration;

use plexsphere_kernel::seams::SigningKeys as _;
use plexsphere_kernel::tasks::Task as _;
use plexsphere_kernel::{EnvelopeSigner as _, SignerFault};
use plexsphere_signing::{KeyState, SigningMetrics, SigningRetireSweeper};
use plexsphere_wire::DomainId;
use prometheus_client::registry::Registry;

use crate::rig::{Rig, destroy, now, rotate};

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A Domain with a retired and a current key, and the retired one's name.
async fn retired(rig: &Rig) -> (DomainId, String) {
    let domain = rig.domain().await;
    let rotated = rotate(rig, domain, false).await.unwrap();
    rig.announce(domain, &rotated.kid, 1).await;
    rig.wait(DAY + Duration::from_secs(1));
    sweep(rig).await;
    assert_eq!(rig.states(domain).await, [KeyState::Retired, KeyState::Current]);
    (domain, rotated.previous_kid)
}

async fn sweep(rig: &Rig) {
    SigningRetireSweeper::new(Arc::clone(&rig.signing)).run().await.unwrap();
}

fn pin(rig: &Rig, kid: &str, nodes: u64) {
    rig.pins.0.lock().unwrap().insert(kid.to_owned(), nodes);
}

#[tokio::test]
async fn a_retired_key_is_destroyed_thirty_days_after_a_node_last_pinned_it() {
    let rig = Rig::new().await;
    let (domain, kid) = retired(&rig).await;
    pin(&rig, &kid, 1);
    for _ in 0..40 {
        rig.wait(DAY);
        sweep(&rig).await;
    }
    assert_eq!(rig.states(domain).await, [KeyState::Retired, KeyState::Current], "it is pinned");
    assert!(rig.signing.announce(domain, &kid).await.unwrap().is_some());
    rig.pins.0.lock().unwrap().clear();
    rig.wait(29 * DAY);
    sweep(&rig).await;
    assert_eq!(rig.states(domain).await, [KeyState::Retired, KeyState::Current], "29 days ago");
    rig.wait(2 * DAY);
    sweep(&rig).await;
    assert_eq!(rig.states(domain).await, [KeyState::Destroyed, KeyState::Current]);
    let row: (bool, String) =
        sqlx::query_as("SELECT wrapped_seed IS NULL, destroy_reason FROM signing.keys WHERE kid = $1")
            .bind(&kid)
            .fetch_one(&rig.database.pool())
            .await
            .unwrap();
    assert_eq!(row, (true, "unpinned".to_owned()));
    let acts = rig.audit.0.lock().unwrap().clone();
    assert_eq!(acts.iter().filter(|act| *act == "signing_key.destroy").count(), 1);
}

#[tokio::test]
async fn an_installation_that_keeps_no_retired_keys_destroys_them_though_they_are_pinned_and_counts_the_nodes() {
    let mut registry = Registry::default();
    let metrics = SigningMetrics::register(&mut registry);
    let rig = Rig::of(|opening| (opening.keep_retired, opening.metrics) = (false, metrics)).await;
    let domain = rig.domain().await;
    let rotated = rotate(&rig, domain, false).await.unwrap();
    pin(&rig, &rotated.previous_kid, 3);
    rig.announce(domain, &rotated.kid, 1).await;
    rig.wait(DAY + Duration::from_secs(1));
    sweep(&rig).await;
    assert_eq!(rig.states(domain).await, [KeyState::Destroyed, KeyState::Current]);
    assert!(served(&registry).contains("plexsphere_control_nodes_unannounceable 3"), "{}", served(&registry));
}

#[tokio::test]
async fn nodes_that_pin_a_destroyed_key_are_given_no_announcement_and_are_counted() {
    let mut registry = Registry::default();
    let metrics = SigningMetrics::register(&mut registry);
    let rig = Rig::of(|opening| opening.metrics = metrics).await;
    let domain = rig.domain().await;
    let kid = rig.kid(domain).await;
    pin(&rig, &kid, 5);
    sweep(&rig).await;
    assert!(served(&registry).contains("plexsphere_control_nodes_unannounceable 0"));
    destroy(&rig, domain, &kid).await.unwrap();
    assert_eq!(rig.signing.announce(domain, &kid).await.unwrap(), None);
    sweep(&rig).await;
    assert!(served(&registry).contains("plexsphere_control_nodes_unannounceable 5"), "{}", served(&registry));
    pin(&rig, &kid, 0);
    sweep(&rig).await;
    assert!(served(&registry).contains("plexsphere_control_nodes_unannounceable 0"), "they enrolled again");
}

/// The relay may be late: the key under which it still signs is not taken from it.
#[tokio::test]
async fn the_announced_key_is_not_destroyed_however_old_it_is() {
    let rig = Rig::new().await;
    let domain = rig.domain().await;
    rotate(&rig, domain, false).await.unwrap();
    rig.wait(60 * DAY);
    sweep(&rig).await;
    sweep(&rig).await;
    assert_eq!(rig.states(domain).await, [KeyState::Retired, KeyState::Current]);
}

#[tokio::test]
async fn a_domain_that_is_deleted_takes_all_its_keys_with_it_in_the_same_transaction() {
    let rig = Rig::new().await;
    let (domain, other) = (rig.domain().await, rig.domain().await);
    rotate(&rig, domain, false).await.unwrap();
    rotate(&rig, domain, true).await.unwrap();
    let seeds = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM signing.keys WHERE wrapped_seed IS NOT NULL AND domain_id = $1")
            .bind(domain.uuid())
            .fetch_one(&rig.database.pool())
            .await
            .unwrap()
    };
    let mut tx = rig.db.begin().await.unwrap();
    rig.signing.forget(&mut tx, domain, now()).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(seeds().await, 3, "nothing went with a transaction that was rolled back");
    let mut tx = rig.db.begin().await.unwrap();
    rig.signing.forget(&mut tx, domain, now()).await.unwrap();
    rig.signing.forget(&mut tx, DomainId::mint(now()), now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(seeds().await, 0);
    let reasons: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT destroy_reason FROM signing.keys WHERE domain_id = $1")
            .bind(domain.uuid())
            .fetch_all(&rig.database.pool())
            .await
            .unwrap();
    assert_eq!(reasons, ["domain_deleted"]);
    let another = rig.another().await;
    assert_eq!(another.announced_kid(domain).await, Err(SignerFault::NoKey));
    assert!(another.announced_kid(other).await.is_ok());
}

fn served(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    text
}

#[tokio::test]
async fn the_reference_page_names_every_metric_of_the_context_with_its_type() {
    let mut registry = Registry::default();
    let rig = Rig::of(|opening| opening.metrics = SigningMetrics::register(&mut registry)).await;
    // A family is served with its first member only.
    let domain = rig.domain().await;
    let kid = rig.kid(domain).await;
    rig.signing.sign(domain, &kid, &crate::rig::unsigned(domain, &kid).canonical_bytes().unwrap()).await.unwrap();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut registered = 0;
    for (name, kind) in served(&registry).lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(page.contains(&format!("\n| `{name}` | {kind} | ")), "the page lacks {name}, a {kind}");
        registered += 1;
    }
    assert_eq!(registered, 3);
}
