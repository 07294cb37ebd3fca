use std::sync::Arc;

use plexsphere_kernel::relay::{Relay, RelayParts};
use plexsphere_kernel::tasks::{Tasks, TasksContext};
use plexsphere_kernel::{AuditLog, EnvelopeSigner, SystemClock};
use plexsphere_testkit::eventually;
use plexsphere_wire::DomainId;
use plexsphere_wire::envelope::EventType::NodeStateUpdated;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::rig::{Rig, now};

#[tokio::test]
async fn the_reference_page_names_every_metric_of_the_kernel_with_its_type() {
    let (rig, mut registry) = (Rig::new().await, Registry::default());
    let clock = Arc::new(SystemClock);
    let context = TasksContext { db: rig.db.clone(), clock: clock.clone(), probes: rig.probes.clone() };
    let mut tasks = Tasks::new(context, &mut registry, CancellationToken::new());
    let parts = RelayParts {
        db: rig.db.clone(),
        bus: rig.bus.clone(),
        signer: Arc::clone(&rig.signer) as Arc<dyn EnvelopeSigner>,
        audit: Arc::clone(&rig.audit) as Arc<dyn AuditLog>,
        clock,
        replicas: 1,
    };
    tasks.add(Arc::new(Relay::new(parts, &mut registry)), Relay::schedule());
    tasks.start();
    rig.append(DomainId::mint(now()), NodeStateUpdated, json!({})).await;
    let served = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    // A family is served with its first member only.
    for family in ["task_runs", "task_run_seconds", "outbox_published"] {
        eventually!(served().contains(&format!("# TYPE plexsphere_control_{family} ")), "{family} has a member");
    }
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Control\n")).unwrap();
    let mut registered = 0;
    for (name, kind) in served().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let name = format!("{name}{}", if kind == "counter" { "_total" } else { "" });
        assert!(section.contains(&format!("\n| `{name}` | {kind} |")), "{name} ({kind}) is not on the page");
        registered += 1;
    }
    assert_eq!(registered, 7);
}
