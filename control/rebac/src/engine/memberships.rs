//! What plain usersets a subject belongs to, such as Groups: found from the subject's side, where they are few, and not
//! from the side of an object, where everybody is.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::visited::{Mixed, Place};
use super::{Budget, Exhausted, Hop, holds};
use crate::model::caveat::{CaveatInputs, CaveatNames};
use crate::model::graph::Graph;
use crate::model::refs::SubjectKey;

/// The most usersets of one subject; with more, a walk goes from the object's side after all.
const MAX_MEMBERSHIPS: usize = 512;
/// Up to this many are looked through one by one.
const FEW: usize = 16;

/// The usersets of a subject, each with the one it was reached through.
#[derive(Default)]
pub(super) struct Memberships {
    /// A place, the place before it, and the tuples between it and the subject.
    all: Vec<(Place, Option<u32>, u16)>,
    index: HashMap<Place, u32, BuildHasherDefault<Mixed>>,
    /// Whether these are all.
    pub(super) complete: bool,
    /// Whether a caveat was in the way.
    pub(super) broken: bool,
}

/// How memberships are read.
pub(super) struct Reading<'a> {
    pub(super) graph: &'a Graph,
    pub(super) subject: SubjectKey,
    /// `None` to go through every caveat.
    pub(super) inputs: Option<&'a CaveatInputs>,
}

impl Memberships {
    pub(super) fn read(
        reading: &Reading<'_>,
        budget: &mut Budget,
        caveats: &mut CaveatNames,
    ) -> Result<Self, Exhausted> {
        let mut memberships = Self { all: Vec::with_capacity(FEW), complete: true, ..Self::default() };
        memberships.extend(reading, (reading.subject, None, 1), budget, caveats)?;
        let mut next = 0;
        while let Some((place, _, depth)) = memberships.all.get(next).copied() {
            let from = u32::try_from(next).ok();
            let userset = SubjectKey::userset(place.object, place.name);
            memberships.extend(reading, (userset, from, depth.saturating_add(1)), budget, caveats)?;
            next += 1;
        }
        Ok(memberships)
    }

    /// Adds the usersets that `subject` belongs to by a tuple of its own.
    fn extend(
        &mut self,
        reading: &Reading<'_>,
        (subject, from, depth): (SubjectKey, Option<u32>, u16),
        budget: &mut Budget,
        caveats: &mut CaveatNames,
    ) -> Result<(), Exhausted> {
        let schema = reading.graph.schema();
        for (kind, name) in &schema.plain {
            if !schema.admits(*kind, *name, subject.form()) {
                continue;
            }
            for found in reading.graph.of_subject_on(subject, *kind) {
                if found.edge.relation() != *name {
                    continue;
                }
                budget.spend()?;
                if let (Some(caveat), Some(inputs)) = (found.caveat, reading.inputs) {
                    caveats.note(caveat);
                    if !holds(&found, inputs) {
                        self.broken = true;
                        continue;
                    }
                }
                if self.all.len() >= MAX_MEMBERSHIPS {
                    self.complete = false;
                    return Ok(());
                }
                self.add(Place { object: found.edge.object_key(), name: *name }, from, depth);
            }
        }
        Ok(())
    }

    fn add(&mut self, place: Place, from: Option<u32>, depth: u16) {
        if self.find(place).is_some() {
            return;
        }
        let Ok(number) = u32::try_from(self.all.len()) else { return };
        self.all.push((place, from, depth));
        if self.all.len() > FEW {
            if self.index.is_empty() {
                self.index.extend((0..).zip(&self.all).map(|(number, (place, ..))| (*place, number)));
            } else {
                self.index.insert(place, number);
            }
        }
    }

    /// The number of a userset that the subject belongs to.
    fn find(&self, place: Place) -> Option<u32> {
        if self.index.is_empty() {
            let number = self.all.iter().position(|(known, ..)| *known == place)?;
            u32::try_from(number).ok()
        } else {
            self.index.get(&place).copied()
        }
    }

    /// How many tuples lie between the subject and a userset, if it belongs to it.
    pub(super) fn depth(&self, place: Place) -> Option<u16> {
        let number = usize::try_from(self.find(place)?).ok()?;
        self.all.get(number).map(|(.., depth)| *depth)
    }

    /// The way from the subject's own tuple to a userset it belongs to.
    pub(super) fn path(&self, place: Place) -> Vec<Hop> {
        let mut path = Vec::new();
        let mut number = self.find(place);
        while let Some((place, from, _)) = number.and_then(|number| self.all.get(usize::try_from(number).ok()?)) {
            path.push(Hop { object: place.object, relation: place.name });
            number = *from;
        }
        path.reverse();
        path
    }
}
