use std::sync::Arc;

use plexsphere_audit::{Audit, AuditParts, CursorKey};
use plexsphere_kernel::seams::DomainEntries;
use prometheus_client::registry::Registry;

use crate::rig::Rig;

#[tokio::test]
async fn the_reference_page_names_every_metric_of_the_context_with_its_type() {
    let (rig, mut registry) = (Rig::new().await, Registry::default());
    let parts = AuditParts {
        log: Arc::clone(&rig.log),
        domains: Arc::clone(&rig.world) as Arc<dyn DomainEntries>,
        cursor_key: CursorKey::new([3; 32]),
        mirror: None,
    };
    let _audit = Audit::new(parts, &mut registry);
    let mut served = String::new();
    prometheus_client::encoding::text::encode(&mut served, &registry).unwrap();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut registered = 0;
    for (name, kind) in served.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')) {
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        assert!(page.contains(&format!("\n| `{name}` | {kind} | ")), "the page lacks {name}, a {kind}");
        registered += 1;
    }
    let listed = page.matches("\n| `plexsphere_control_audit_").count();
    // The intake registers its own.
    assert_eq!(listed, registered + 1);
}
