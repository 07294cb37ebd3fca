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

use std::time::{Duration, Instant};

use plexsphere_wire::DenialReason;

use crate::model::caveat::{CaveatInputs, CaveatNames};
use crate::model::graph::{Found, Graph};
use crate::model::home::exists;
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
    /// How long it may take.
    pub time: Duration,
}

impl Limits {
    /// Of every question that is asked of this system.
    pub const USUAL: Self = Self { depth: 32, edges: 50_000, time: Duration::from_millis(250) };
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
    /// Too slow.
    #[error("the walk took longer than the limit")]
    Time,
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
    /// No, and nothing ties the subject to the object.
    #[must_use]
    pub fn out_of_scope() -> Self {
        Self { denied: Some(DenialReason::OutOfScope), path: Vec::new(), caveats: CaveatNames::default() }
    }

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
    /// Subjects of this kind; `group` yields the Groups whose members may.
    pub kind: KindId,
    /// The relation or permission.
    pub name: NameId,
    /// On what.
    pub object: ObjectKey,
    /// What caveats compare with.
    pub inputs: &'a CaveatInputs,
}

/// Answers a check of an object that may not exist. One that does not is out of everybody's scope, whatever its rules say
/// of itself.
///
/// # Errors
/// As [`check`].
pub fn check_existing(graph: &Graph, question: &Question<'_>, limits: Limits) -> Result<Verdict, Exhausted> {
    if exists(graph, question.object) { check(graph, question, limits) } else { Ok(Verdict::out_of_scope()) }
}

/// What a walk has left of its edges and of its time.
struct Budget {
    left: u32,
    time: Duration,
    until: Option<Instant>,
}

/// The clock is looked at once in this many edges, so that a short walk never does.
const EDGES_PER_LOOK: u32 = 1_024;

impl Budget {
    const fn of(limits: Limits) -> Self {
        Self { left: limits.edges, time: limits.time, until: None }
    }

    fn spend(&mut self) -> Result<(), Exhausted> {
        self.left = self.left.checked_sub(1).ok_or(Exhausted::Edges)?;
        if self.left.is_multiple_of(EDGES_PER_LOOK) { self.look_at_the_clock() } else { Ok(()) }
    }

    fn look_at_the_clock(&mut self) -> Result<(), Exhausted> {
        let now = Instant::now();
        match self.until {
            Some(until) if now >= until => Err(Exhausted::Time),
            Some(_) => Ok(()),
            None => {
                self.until = now.checked_add(self.time);
                Ok(())
            }
        }
    }
}

/// Whether the condition of a tuple holds; one without a condition does.
fn holds(found: &Found<'_>, inputs: &CaveatInputs) -> bool {
    found.caveat.is_none_or(|caveat| caveat.holds(inputs))
}

#[cfg(test)]
mod tests;
