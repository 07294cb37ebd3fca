//! Entries against a map, through any history of writes by the platform and by the Node.

use std::collections::BTreeMap;

use plexsphere_kernel::seams::{StateKind, StateWrite};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

use crate::entries::{actor, delete, put};
use crate::world::{World, world};

#[derive(Clone, Debug)]
enum Step {
    Report(usize, &'static str, &'static str),
    DropReport(usize),
    Platform(Vec<(StateKind, usize, Option<&'static str>)>),
    Pull,
}

const KEYS: [&str; 5] = ["a", "a-b", "a.b", "a0", "ab"];

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS.len();
    let value = || prop::sample::select(vec!["", "v", "\"", "ä"]);
    let kind = prop::sample::select(vec![StateKind::Metadata, StateKind::Data]);
    let write = (kind, key(), prop::option::of(value()));
    prop_oneof![
        4 => (key(), value(), value()).prop_map(|(key, value, tag)| Step::Report(key, value, tag)),
        2 => key().prop_map(Step::DropReport),
        3 => prop::collection::vec(write, 1..5).prop_map(Step::Platform),
        3 => Just(Step::Pull),
    ]
}

/// Entries by kind and key: value and tag.
type Model = BTreeMap<(&'static str, &'static str), (&'static str, &'static str)>;

fn rebuilt(model: &Model) -> String {
    let of = |kind: &str| {
        let entries = model.iter().filter(|((of, _), _)| *of == kind).map(|((_, key), (value, tag))| {
            let tag = if tag.is_empty() { String::new() } else { format!(r#","workload_tag":{}"#, json!(tag)) };
            format!(r#"{{"key":{},"value":{}{tag}}}"#, json!(key), json!(value))
        });
        entries.collect::<Vec<_>>().join(",")
    };
    format!(r#"{{"metadata":[{}],"data":[{}],"reports":[{}]}}"#, of("metadata"), of("data"), of("report"))
}

async fn follow(world: &World, steps: Vec<Step>) {
    let node = world.join().await;
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Report(key, value, tag) => {
                let body = json!({ "value": value, "workload_tag": tag });
                assert_eq!(put(world, node, KEYS[key], body).await.status, 200);
                model.insert(("report", KEYS[key]), (value, tag));
            }
            Step::DropReport(key) => {
                let was_there = model.remove(&("report", KEYS[key])).is_some();
                assert_eq!(delete(world, node, KEYS[key]).await.status, if was_there { 204 } else { 404 });
            }
            Step::Platform(writes) => {
                let mut all = Vec::new();
                for (kind, key, value) in writes {
                    let key = KEYS[key];
                    match value {
                        Some(value) => model.insert((kind.as_str(), key), (value, "")),
                        None => model.remove(&(kind.as_str(), key)),
                    };
                    all.push(StateWrite { node, kind, key: key.to_owned(), value: value.map(str::to_owned) });
                }
                let mut tx = world.database.begin().await.unwrap();
                world.mesh.state_writer().write(&mut tx, &actor(world), all).await.unwrap();
                tx.commit().await.unwrap();
            }
            Step::Pull => shows(&world.pull(node).await, &model),
        }
    }
    shows(&world.pull(node).await, &model);
}

/// Byte for byte, so that the order of members and entries counts.
fn shows(pulled: &str, model: &Model) {
    let block = rebuilt(model);
    assert!(pulled.contains(&format!(r#""state":{block},"reports":{block},"#)), "{pulled}\n{block}");
}

#[test]
fn a_pull_shows_what_a_rebuild_from_all_writes_shows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let world = runtime.block_on(world());
    runner
        .run(&prop::collection::vec(step(), 1..25), |steps| {
            runtime.block_on(follow(&world, steps));
            Ok(())
        })
        .unwrap();
}
