use plexsphere_kernel::authz::Circumstances;
use plexsphere_kernel::{Authorizer as _, Decision, Principal, PrincipalScope, Subject};
use plexsphere_testkit::logs;
use plexsphere_wire::{DenialReason, NodeId};
use uuid::Uuid;

use crate::world::{TREE, object, user, world};

#[tokio::test]
async fn a_decision_says_its_path_or_its_reason() {
    let world = world().await;
    world.grant(&TREE).await;
    world.grant(&["domain:1#admin@user:9"]).await;
    let authorizer = world.authorizer(&world.replica().await);
    let path = |text: &[&str]| -> Vec<String> {
        text.iter()
            .map(|hop| {
                let (left, relation) = hop.split_once('#').unwrap();
                format!("{}#{relation}", object(left))
            })
            .collect()
    };
    let allowed = authorizer.check(&user(9), "manage", &object("project:2")).await.unwrap();
    assert_eq!(allowed, Decision::Allowed { relation_path: path(&["domain:1#admin", "project:2#parent"]) });
    let denied = authorizer.check(&user(9), "auditor", &object("domain:1")).await.unwrap();
    let reason = DenialReason::InsufficientRelation;
    assert_eq!(denied, Decision::Denied { reason, relation_path: path(&["domain:1#admin"]) });
    let stranger = authorizer.check(&user(8), "read", &object("project:2")).await.unwrap();
    assert_eq!(stranger, Decision::Denied { reason: DenialReason::OutOfScope, relation_path: Vec::new() });
}

#[tokio::test]
async fn a_node_is_its_own_agent_and_parts_of_the_system_hold_nothing() {
    let world = world().await;
    world.grant(&TREE).await;
    let authorizer = world.authorizer(&world.replica().await);
    let node = NodeId::from_uuid(Uuid::from_u128(4));
    let node = Principal { subject: Subject::Node(node), scope: PrincipalScope::Domain(world.domain) };
    assert!(authorizer.check(&node, "node-agent", &object("node:4")).await.unwrap().is_allowed());
    assert!(!authorizer.check(&node, "node-agent", &object("node:5")).await.unwrap().is_allowed());
    let system = Principal { subject: Subject::System(Uuid::from_u128(4)), scope: PrincipalScope::Platform };
    assert!(!authorizer.check(&system, "node-agent", &object("node:4")).await.unwrap().is_allowed());
}

#[tokio::test]
async fn rows_are_filtered_from_one_state_and_a_name_outside_the_schema_is_denied() {
    let logs = logs::guard();
    logs.expect("a gate asks for a permission that the schema does not have");
    let world = world().await;
    world.grant(&TREE).await;
    world.grant(&["project:5#parent@domain:1", "project:2#member@user:9"]).await;
    let authorizer = world.authorizer(&world.replica().await);
    let rows = [object("project:5"), object("project:2"), object("project:77")];
    let context = Circumstances::default();
    let allowed = async |name: &str| authorizer.check_many(&user(9), name, &rows, &context).await.unwrap().allowed;
    assert_eq!(allowed("read").await, [false, true, false]);
    assert_eq!(allowed("levitate").await, [false; 3]);
}
