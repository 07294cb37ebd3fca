//! Questions to a graph: may this subject, on what may it, and who may. Pure; each question is answered from one state.
//!
//! Rules are unions only, so a permission is reachability: every walk goes breadth first over (object, name) places,
//! visits each once, and is exact in the presence of circles. A walk that would exceed its limits is an error, never an
//! answer.

mod check;
mod memberships;
mod resources;
mod subjects;
mod visited;

use plexsphere_wire::DenialReason;

use crate::model::caveat::{CaveatInputs, CaveatNames};
use crate::model::graph::Found;
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::{KindId, NameId, Schema};

pub use check::check;
pub use resources::resources;
pub use subjects::subjects;

/// How far a walk may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tuples between the object and the subject.
    pub depth: u16,
    /// Tuples looked at.
    pub edges: u32,
    /// Results of a lookup.
    pub results: usize,
}

impl Limits {
    /// Of a check.
    pub const CHECK: Self = Self { depth: 32, edges: 50_000, results: 0 };
    /// Of a lookup, which goes through everything there is to find.
    pub const LOOKUP: Self = Self { depth: 32, edges: 1_000_000, results: 10_000 };
}

/// A limit was reached before there was an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// Too many tuples in a row.
    #[error("the tuples go deeper than the limit")]
    Depth,
    /// Too many tuples in all.
    #[error("more tuples had to be looked at than the limit")]
    Edges,
    /// More results than a lookup gives.
    #[error("there are more results than the limit")]
    Results,
}

/// What is asked of a check.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who.
    pub subject: SubjectKey,
    /// The relation or permission.
    pub name: NameId,
    /// On what.
    pub object: ObjectKey,
    /// What caveats compare with.
    pub inputs: &'a CaveatInputs,
}

/// A step of a path: a relation on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The object.
    pub object: ObjectKey,
    /// The relation.
    pub relation: NameId,
}

/// The answer of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why not, or `None` when allowed.
    pub denied: Option<DenialReason>,
    /// From the grant to the object: of the grant when allowed, of the path that a caveat broke, or of what ties the
    /// subject to the object. Empty for a direct grant of the very relation, and for `out_of_scope`.
    pub path: Vec<Hop>,
    /// The caveats that were judged on the way.
    pub caveats: CaveatNames,
}

impl Verdict {
    /// Whether the answer is yes.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.denied.is_none()
    }

    /// The path as text: `<kind>:<id>#<relation>` each.
    #[must_use]
    pub fn path_text(&self, schema: &Schema) -> Vec<String> {
        self.path.iter().map(|hop| format!("{}#{}", hop.object.text(schema), schema.name(hop.relation))).collect()
    }
}

/// What is asked of a lookup for objects.
#[derive(Clone, Copy, Debug)]
pub struct ResourcesQuestion<'a> {
    /// Who.
    pub subject: SubjectKey,
    /// The relation or permission.
    pub name: NameId,
    /// On objects of this kind.
    pub kind: KindId,
    /// What caveats compare with.
    pub inputs: &'a CaveatInputs,
}

/// What is asked of a lookup for subjects.
#[derive(Clone, Copy, Debug)]
pub struct SubjectsQuestion<'a> {
    /// Subjects of this kind. A kind of usersets, such as Groups, yields the objects whose usersets may.
    pub kind: KindId,
    /// The relation or permission.
    pub name: NameId,
    /// On what.
    pub object: ObjectKey,
    /// What caveats compare with.
    pub inputs: &'a CaveatInputs,
}

/// What a walk has left of its edges.
struct Budget {
    left: u32,
}

impl Budget {
    const fn of(limits: Limits) -> Self {
        Self { left: limits.edges }
    }

    fn spend(&mut self) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(1).ok_or(Exhausted::Edges)?;
        Ok(())
    }
}

/// Whether the condition of a tuple holds; one without a condition does.
fn holds(found: &Found<'_>, inputs: &CaveatInputs) -> bool {
    found.caveat.is_none_or(|caveat| caveat.holds(inputs))
}

#[cfg(test)]
mod tests;
