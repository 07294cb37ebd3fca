//! What questions about others tell, and to whom.

use http::Method;
use plexsphere_rebac::RebacConfig;
use plexsphere_testkit::logs;
use plexsphere_wire::DenialReason;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::served::{Served, code, grant, served, served_on, spelled};
use crate::world::{domain, world};

const RESOURCES: &str = "/v1/authz/lookup-resources";
const SUBJECTS: &str = "/v1/authz/lookup-subjects";

async fn items(served: &Served, who: &str, path: &str, body: Value) -> Vec<String> {
    let (status, answer) = served.call(who, Method::POST, path, Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    answer["items"].as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn who_may(kind: &str, relation: &str, resource: &str) -> Value {
    json!({"subject_type": kind, "relation": relation, "resource": spelled(resource)})
}

fn on_what(subject: &str, relation: &str, kind: &str) -> Value {
    json!({"subject": spelled(subject), "relation": relation, "resource_type": kind})
}

#[tokio::test]
async fn a_group_that_a_lookup_names_may_what_was_asked() {
    let served = served().await;
    served.world.grant(&["project:2#operator@group:11#member", "group:11#member@user:6"]).await;
    let groups = items(&served, "u9", SUBJECTS, who_may("group", "act", "node:4")).await;
    assert_eq!(groups, [spelled("group:11")]);
    for spelling in ["group:11", "group:11#member"] {
        assert_eq!(served.ask("u9", spelling, "act", "node:4").await, "allowed", "{spelling}");
        let nodes = items(&served, "u9", RESOURCES, on_what(spelling, "act", "node")).await;
        assert_eq!(nodes, [spelled("node:4")], "{spelling}");
    }
    // Everybody with a name on a Project is a userset too, and no Project.
    served.world.grant(&["cloud:5#parent@platform:plexsphere", "cloud:5#uses@project:2#deploy"]).await;
    served.world.grant(&["platform:plexsphere#reader@user:9"]).await;
    assert_eq!(items(&served, "u9", SUBJECTS, who_may("project", "read", "cloud:5")).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_question_about_others_ends_where_the_caller_reads_no_domain_unless_it_reads_the_platform() {
    let served = served().await;
    served.world.grant_in(50, &["project:51#admin@user:99"]).await;
    let asked = who_may("user", "manage", "project:51");
    assert_eq!(items(&served, "u9", SUBJECTS, asked.clone()).await, Vec::<String>::new());
    assert_eq!(items(&served, "u6", SUBJECTS, who_may("user", "manage", "project:2")).await, Vec::<String>::new());
    served.world.grant(&["platform:plexsphere#reader@user:6"]).await;
    assert_eq!(items(&served, "u6", SUBJECTS, asked.clone()).await, [spelled("user:99")]);
    assert_eq!(served.ask("u6", "user:99", "manage", "project:51").await, "allowed");
    let projects = on_what("user:99", "manage", "project");
    assert_eq!(items(&served, "u6", RESOURCES, projects.clone()).await, [spelled("project:51")]);
    let open = served_on(logs::guard(), world().await, RebacConfig { clamp: false, ..RebacConfig::default() }).await;
    open.world.grant_in(50, &["project:51#admin@user:99"]).await;
    assert_eq!(items(&open, "u6", SUBJECTS, asked).await, [spelled("user:99")]);
    assert_eq!(items(&open, "u6", RESOURCES, projects).await, [spelled("project:51")]);
    assert_eq!(open.ask("u6", "user:99", "manage", "project:51").await, "allowed");
}

#[tokio::test]
async fn a_refusal_for_too_many_results_counts_only_what_the_caller_may_see() {
    let served = served().await;
    served.world.grant_in(50, &["project:51#admin@user:99"]).await;
    sqlx::query(
        "INSERT INTO rebac.tuples (id, scope, object_kind, object_id, relation, subject_kind, subject_id, subject_name,
             class, created_at)
         SELECT gen_random_uuid(), $1, 'resource', gen_random_uuid(), 'parent', 'project', $2, '', 'system', now()
         FROM generate_series(1, 10001)",
    )
    .bind(Uuid::from_u128(50))
    .bind(Uuid::from_u128(51))
    .execute(&served.world.db.pool())
    .await
    .unwrap();
    served.rebac.relations().fresh().await.unwrap();
    let asked = on_what("user:99", "act", "resource");
    assert_eq!(items(&served, "u9", RESOURCES, asked.clone()).await, Vec::<String>::new());
    let refused = served.call("u99", Method::POST, RESOURCES, Some(asked)).await;
    assert_eq!(code(&refused), (400, "invalid_lookup_request"));
}

#[tokio::test]
async fn what_nothing_was_made_of_is_out_of_scope_also_for_itself() {
    let served = served().await;
    for (caller, line, answer) in [
        ("u9", ("node:4", "node-agent", "node:4"), "allowed"),
        ("u9", ("node:77", "node-agent", "node:77"), "out_of_scope"),
        ("u77", ("user:77", "read", "user:77"), "out_of_scope"),
        ("u6", ("user:6", "read", "user:6"), "allowed"),
    ] {
        assert_eq!(served.ask(caller, line.0, line.1, line.2).await, answer, "{line:?}");
    }
    assert_eq!(items(&served, "u77", RESOURCES, on_what("user:77", "read", "user")).await, Vec::<String>::new());
    assert_eq!(items(&served, "u6", RESOURCES, on_what("user:6", "read", "user")).await, [spelled("user:6")]);
}

#[tokio::test]
async fn a_check_that_touches_two_domains_stands_on_both_chains() {
    let served = served().await;
    assert_eq!(served.ask("u9", "user:99", "read", "project:2").await, "out_of_scope");
    assert_eq!(served.chains("authz.check"), [Some(domain(1)), Some(domain(50))]);
    served.assert_row("authz.check", "project:2", Some(DenialReason::OutOfScope));
    assert_eq!(served.ask("u9", "user:7", "read", "project:2").await, "allowed");
    assert_eq!(served.chains("authz.check").len(), 3, "one Domain has one row");
}

#[tokio::test]
async fn a_secret_is_read_by_nodes_that_were_given_it_and_the_check_has_its_row() {
    let served = served().await;
    served.world.grant(&["secret:5#parent@project:2", "project:2#node@node:4"]).await;
    served.world.grant(&["resource:30#parent@project:2", "node:40#parent@resource:30"]).await;
    for (subject, relation, resource, denied) in [
        ("node:4", "node-agent", "node:4", None),
        ("node:4", "node-agent", "node:40", Some(DenialReason::InsufficientRelation)),
        ("node:4", "read", "secret:5", Some(DenialReason::InsufficientRelation)),
    ] {
        let answer = served.ask("u9", subject, relation, resource).await;
        assert_eq!(answer == "allowed", denied.is_none(), "{subject} {relation} {resource}");
        served.assert_row("authz.check", resource, denied);
    }
    let (status, _) = served.create("u8", 2, grant("node:4", "secret_consumer", "project:2")).await;
    assert_eq!(status, 201);
    assert_eq!(served.ask("u9", "node:4", "read", "secret:5").await, "allowed");
    served.assert_row("authz.check", "secret:5", None);
    assert_eq!(served.ask("u9", "node:40", "read", "secret:5").await, "out_of_scope");
}

#[tokio::test]
async fn a_credential_is_used_by_deployers_until_its_assignment_is_taken_away() {
    let served = served().await;
    served.world.grant(&["platform:plexsphere#reader@user:9", "cloud:6#parent@platform:plexsphere"]).await;
    served.world.grant(&["cloud_credential:5#parent@cloud:6", "project:2#maintainer@user:6"]).await;
    let uses = ["cloud_credential:5#uses@project:2#deploy"];
    assert_eq!(served.ask("u9", "user:6", "uses", "cloud_credential:5").await, "out_of_scope");
    served.world.grant(&uses).await;
    assert_eq!(served.ask("u9", "user:6", "uses", "cloud_credential:5").await, "allowed");
    served.world.revoke(&uses).await;
    assert_eq!(served.ask("u9", "user:6", "uses", "cloud_credential:5").await, "out_of_scope");
}
