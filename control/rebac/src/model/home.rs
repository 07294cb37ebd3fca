//! Where an object belongs, read off the tuples that its creation wrote.

use std::collections::VecDeque;

use super::graph::Graph;
use super::refs::{ObjectId, ObjectKey};

/// Objects above an object that are looked at.
const MAX_ANCESTORS: usize = 64;

/// Where an object belongs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// The Domain at or above it.
    pub domain: Option<ObjectId>,
    /// The Project at or above it.
    pub project: Option<ObjectId>,
}

/// The relations that lead to what an object belongs to. `parent` without an arrow over it is one too: a Domain's leads to
/// the platform.
const PLACES: [&str; 3] = ["parent", "scope", "fleet"];

/// Whether an object exists, as [`home`] knows it.
#[must_use]
pub fn exists(graph: &Graph, object: ObjectKey) -> bool {
    let schema = graph.schema();
    let mut places = PLACES.into_iter().filter_map(|name| schema.name_id(name));
    schema.kind(object.kind).is_some_and(|kind| kind.singleton.is_some())
        || places.any(|name| graph.of_relation(object, name).next().is_some())
}

/// Where an object belongs; `None` when it does not exist: its creation writes a tuple to what it belongs to, and its end
/// takes it away. The only object of a kind always exists.
#[must_use]
pub fn home(graph: &Graph, object: ObjectKey) -> Option<Home> {
    let schema = graph.schema();
    let mut home = Home::default();
    let mut known = vec![object];
    let mut queue = VecDeque::from([object]);
    while let Some(object) = queue.pop_front() {
        match schema.kind_name(object.kind) {
            "domain" => home.domain = home.domain.or(Some(object.id)),
            "project" => home.project = home.project.or(Some(object.id)),
            _ => {}
        }
        for name in PLACES.into_iter().filter_map(|name| schema.name_id(name)) {
            for found in graph.of_relation(object, name) {
                let above = found.edge.subject_object();
                if !known.contains(&above) && known.len() < MAX_ANCESTORS {
                    known.push(above);
                    queue.push_back(above);
                }
            }
        }
    }
    let only = schema.kind(object.kind).is_some_and(|kind| kind.singleton.is_some());
    (only || known.len() > 1).then_some(home)
}
