//! Relation tuples as the contexts write them. The relation engine implements both seams; what a relation means is its
//! schema's matter.

use std::collections::BTreeMap;

use async_trait::async_trait;
use plexsphere_wire::{DomainId, ProjectId};
use serde_json::Value;

use crate::{Fault, ObjectRef, Tx};

/// Whom a tuple is about: an object, or everybody with a relation on it (`group:<id>#member`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SubjectRef {
    /// The object.
    pub object: ObjectRef,
    /// The name behind `#`, for a userset.
    pub relation: Option<String>,
}

impl SubjectRef {
    /// Everybody with `relation` on `object`.
    #[must_use]
    pub fn userset(object: ObjectRef, relation: &str) -> Self {
        Self { object, relation: Some(relation.to_owned()) }
    }
}

impl From<ObjectRef> for SubjectRef {
    fn from(object: ObjectRef) -> Self {
        Self { object, relation: None }
    }
}

/// A predicate that must hold whenever a tuple is used, with the values that were stored with it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCaveat {
    /// The caveat's name.
    pub name: String,
    /// Parameter by parameter.
    pub context: BTreeMap<String, Value>,
}

/// `subject` has `relation` on `object`.
#[derive(Clone, Debug, PartialEq)]
pub struct RelationTuple {
    /// The object.
    pub object: ObjectRef,
    /// The relation; one of the schema, never a permission.
    pub relation: String,
    /// The subject.
    pub subject: SubjectRef,
    /// The condition, if any.
    pub caveat: Option<StoredCaveat>,
}

impl RelationTuple {
    /// A tuple without a condition.
    #[must_use]
    pub fn new(object: ObjectRef, relation: &str, subject: impl Into<SubjectRef>) -> Self {
        Self { object, relation: relation.to_owned(), subject: subject.into(), caveat: None }
    }

    /// The edge from an object to what it belongs to.
    #[must_use]
    pub fn parent(object: ObjectRef, parent: ObjectRef) -> Self {
        Self::new(object, "parent", parent)
    }
}

/// Writes tuples in the caller's transaction. What commits is visible to every check that begins afterwards.
#[async_trait]
pub trait TupleWriter: Send + Sync + 'static {
    /// Stores tuples of one Domain, or of the platform. A triple that is stored already stays as it is, whoever wrote it.
    /// The answer is the tuples that were left alone because their triple stands under another condition: they are not in
    /// force as they were asked for.
    ///
    /// # Errors
    /// [`Fault`], also for a tuple that the schema does not know: the caller judges input before.
    async fn write(
        &self,
        tx: &mut Tx,
        domain: Option<DomainId>,
        tuples: &[RelationTuple],
    ) -> Result<Vec<RelationTuple>, Fault>;

    /// As [`Self::write`], in the place of what stands under another condition, for a writer who has the last word.
    ///
    /// # Errors
    /// As [`Self::write`].
    async fn overwrite(&self, tx: &mut Tx, domain: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault>;

    /// Whether a Domain has somebody who administers it without a condition, as the transaction sees it. Asked behind a
    /// write of the Domain's tuples, which holds off every other one until the transaction ends, the answer stays true.
    ///
    /// # Errors
    /// [`Fault`].
    async fn has_administrator(&self, tx: &mut Tx, domain: DomainId) -> Result<bool, Fault>;

    /// Removes tuples, whatever their caveat; one that is not there is left alone.
    ///
    /// # Errors
    /// [`Fault`].
    async fn remove(&self, tx: &mut Tx, domain: Option<DomainId>, tuples: &[RelationTuple]) -> Result<(), Fault>;

    /// Removes every tuple on `object` and every tuple whose subject it is, for an object that ends.
    ///
    /// # Errors
    /// [`Fault`].
    async fn forget(&self, tx: &mut Tx, object: &ObjectRef) -> Result<(), Fault>;

    /// [`Self::forget`] for many objects that end together. A writer that can do so in one statement does so.
    ///
    /// # Errors
    /// [`Fault`].
    async fn forget_many(&self, tx: &mut Tx, objects: &[ObjectRef]) -> Result<(), Fault> {
        for object in objects {
            self.forget(tx, object).await?;
        }
        Ok(())
    }

    /// A Domain that these subjects administer and nobody else does. Who administers a Domain of theirs cannot be taken
    /// away until the transaction ends.
    ///
    /// # Errors
    /// [`Fault`].
    async fn administered_alone(&self, tx: &mut Tx, subjects: &[ObjectRef]) -> Result<Option<DomainId>, Fault>;

    /// How many tuples the tuple administration filed under a Project; system tuples do not count. Until the transaction
    /// ends there are no more.
    ///
    /// # Errors
    /// [`Fault`].
    async fn filed_under(&self, tx: &mut Tx, project: ProjectId) -> Result<i64, Fault>;
}

/// What may be granted: the schema as the contexts ask it.
pub trait GrantRules: Send + Sync + 'static {
    /// Whether operators may grant `relation` on objects of `kind` to a single user.
    fn is_assignable(&self, kind: &str, relation: &str) -> bool;

    /// Whether `context` fits the caveat `name`: known, with every parameter of its type and no other.
    fn caveat_fits(&self, name: &str, context: &BTreeMap<String, Value>) -> bool;
}
