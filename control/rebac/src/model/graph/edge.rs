//! A tuple in 40 bytes, and its two orders.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::caveat::Caveat;
use crate::model::refs::{ObjectId, ObjectKey, SubjectKey};
use crate::model::schema::{KindId, NameId};

use super::Tuple;

/// A tuple. `caveat` is 0, or the place of its condition in its run, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    object: ObjectId,
    subject: ObjectId,
    object_kind: KindId,
    relation: NameId,
    subject_kind: KindId,
    /// 0 for an object.
    subject_name: u8,
    pub(super) caveat: u32,
}

const _: () = assert!(size_of::<Edge>() == 40, "the memory budget counts on it");

impl Edge {
    pub(crate) fn new(object: ObjectKey, relation: NameId, subject: SubjectKey) -> Self {
        Self {
            object: object.id,
            subject: subject.object.id,
            object_kind: object.kind,
            relation,
            subject_kind: subject.object.kind,
            subject_name: subject.name.map_or(0, |name| name.0),
            caveat: 0,
        }
    }

    pub(super) fn of(tuple: Tuple) -> (Self, Option<Arc<Caveat>>) {
        (Self::new(tuple.object, tuple.relation, tuple.subject), tuple.caveat)
    }

    pub(crate) const fn object_key(&self) -> ObjectKey {
        ObjectKey { kind: self.object_kind, id: self.object }
    }

    pub(crate) const fn relation(&self) -> NameId {
        self.relation
    }

    pub(crate) fn subject_key(&self) -> SubjectKey {
        SubjectKey { object: self.subject_object(), name: self.subject_name() }
    }

    pub(crate) const fn subject_object(&self) -> ObjectKey {
        ObjectKey { kind: self.subject_kind, id: self.subject }
    }

    pub(crate) const fn subject_name(&self) -> Option<NameId> {
        if self.subject_name == 0 { None } else { Some(NameId(self.subject_name)) }
    }

    /// Where this edge stands to all edges of a relation on an object.
    pub(super) fn relation_order(&self, object: ObjectKey, relation: NameId) -> Ordering {
        self.object_key().cmp(&object).then(self.relation.cmp(&relation))
    }

    /// Where this edge of an object stands to those of a relation whose subject is a userset; objects come first.
    pub(super) fn usersets_order(&self, relation: NameId) -> Ordering {
        let last = if self.subject_name == 0 { Ordering::Less } else { Ordering::Equal };
        self.relation.cmp(&relation).then(last)
    }

    /// Where this edge of an object stands to the one of a relation and a subject.
    pub(super) fn direct_order(&self, relation: NameId, subject: SubjectKey) -> Ordering {
        let name = subject.name.map_or(0, |name| name.0);
        (self.relation, self.subject_name, self.subject_kind, self.subject).cmp(&(
            relation,
            name,
            subject.object.kind,
            subject.object.id,
        ))
    }
}

/// An order of edges, and by which end they are found.
pub(super) trait Side: Clone + std::fmt::Debug {
    fn hash(edge: &Edge) -> u64;
    fn order(one: &Edge, other: &Edge) -> Ordering;
}

/// By object, relation, then subject with objects before usersets.
#[derive(Clone, Debug)]
pub(super) struct ByObject;

/// By subject, then object and relation.
#[derive(Clone, Debug)]
pub(super) struct BySubject;

impl Side for ByObject {
    fn hash(edge: &Edge) -> u64 {
        edge.object.hash(edge.object_kind)
    }

    fn order(one: &Edge, other: &Edge) -> Ordering {
        let key = |edge: &Edge| (edge.relation, edge.subject_name, edge.subject_kind, edge.subject);
        one.object_key().cmp(&other.object_key()).then_with(|| key(one).cmp(&key(other)))
    }
}

impl Side for BySubject {
    fn hash(edge: &Edge) -> u64 {
        edge.subject.hash(edge.subject_kind)
    }

    fn order(one: &Edge, other: &Edge) -> Ordering {
        let key = |edge: &Edge| (edge.object_kind, edge.object, edge.relation);
        one.subject_key().cmp(&other.subject_key()).then_with(|| key(one).cmp(&key(other)))
    }
}
