//! The rules once more, as slowly and plainly as can be: who holds what, by going round until nothing is added.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::caveat::CaveatInputs;
use crate::model::graph::Tuple;
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::{NameId, Schema, Term};

pub(super) struct Naive<'a> {
    schema: &'a Schema,
    tuples: Vec<&'a Tuple>,
    all: &'a [Tuple],
    holders: BTreeMap<(ObjectKey, NameId), BTreeSet<SubjectKey>>,
}

impl<'a> Naive<'a> {
    /// With `inputs`, only tuples whose caveats hold count; without, all do.
    pub(super) fn new(
        schema: &'a Schema,
        all: &'a [Tuple],
        objects: &[ObjectKey],
        inputs: Option<&CaveatInputs>,
    ) -> Self {
        let counts = |tuple: &&Tuple| match (&tuple.caveat, inputs) {
            (Some(caveat), Some(inputs)) => caveat.holds(inputs),
            _ => true,
        };
        let mut naive = Self { schema, tuples: all.iter().filter(counts).collect(), all, holders: BTreeMap::new() };
        while naive.round(objects) {}
        naive
    }

    fn round(&mut self, objects: &[ObjectKey]) -> bool {
        let mut grown = false;
        for object in objects {
            for definition in &self.schema.kind(object.kind).unwrap().definitions {
                let mut found = BTreeSet::from([SubjectKey::userset(*object, definition.name)]);
                for tuple in self.on(*object, definition.name) {
                    found.insert(tuple.subject);
                    if let Some(name) = tuple.subject.name {
                        found.extend(self.holders(tuple.subject.object, name));
                    }
                }
                for term in &definition.rule {
                    match *term {
                        Term::Own => {
                            found.insert(SubjectKey::object(*object));
                        }
                        Term::Name(name) => found.extend(self.holders(*object, name)),
                        Term::Arrow(over, to) => {
                            for tuple in self.on(*object, over) {
                                found.extend(self.holders(tuple.subject.object, to));
                            }
                        }
                    }
                }
                let held = self.holders.entry((*object, definition.name)).or_default();
                let before = held.len();
                held.extend(found);
                grown |= held.len() > before;
            }
        }
        grown
    }

    fn on(&self, object: ObjectKey, relation: NameId) -> Vec<&'a Tuple> {
        self.tuples.iter().copied().filter(|tuple| (tuple.object, tuple.relation) == (object, relation)).collect()
    }

    pub(super) fn holders(&self, object: ObjectKey, name: NameId) -> BTreeSet<SubjectKey> {
        self.holders.get(&(object, name)).cloned().unwrap_or_default()
    }

    pub(super) fn may(&self, subject: SubjectKey, name: NameId, object: ObjectKey) -> bool {
        self.holders(object, name).contains(&subject)
    }

    /// Whether any tuple ties the subject to the object or to something above it. Asked of a state where all count.
    pub(super) fn tied(&self, subject: SubjectKey, object: ObjectKey) -> bool {
        let mut above = BTreeSet::from([object]);
        loop {
            let mut more = above.clone();
            for tuple in self.all {
                let kind = self.schema.kind(tuple.object.kind).unwrap();
                let terms = kind.definitions.iter().flat_map(|definition| &definition.rule);
                let followed =
                    terms.clone().any(|term| matches!(term, Term::Arrow(over, _) if *over == tuple.relation));
                if above.contains(&tuple.object) && followed {
                    more.insert(tuple.subject.object);
                }
            }
            if more == above {
                break;
            }
            above = more;
        }
        above.iter().any(|object| SubjectKey::object(*object) == subject)
            || self.all.iter().filter(|tuple| above.contains(&tuple.object)).any(|tuple| {
                tuple.subject == subject
                    || tuple.subject.name.is_some_and(|name| self.may(subject, name, tuple.subject.object))
            })
    }
}
