//! The schema: kinds, relations, permissions, and what follows from what, compiled for walking.

mod compile;
mod parse;

use std::collections::HashMap;
use std::fmt;
use std::sync::LazyLock;

/// The text that this build decides by.
pub const SCHEMA_TEXT: &str = include_str!("../../schema.txt");

/// The most kinds and the most names a schema may have: each fits a byte.
pub const MAX_SYMBOLS: usize = 250;

/// A kind of object, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindId(pub(crate) u8);

/// The name of a relation or permission, interned over all kinds; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameId(pub(crate) u8);

/// Who writes the tuples of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Code only, as a consequence of something else.
    System,
    /// A subcommand on the server.
    Server,
    /// The tuple administration and Invitations.
    Assignable,
    /// The Groups API.
    Members,
}

/// A form that a tuple's subject may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubjectForm {
    /// The subject's kind.
    pub kind: KindId,
    /// The name behind `#`, for a userset.
    pub name: Option<NameId>,
}

/// A term of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// The object itself, as a subject.
    Own,
    /// A name of the same kind.
    Name(NameId),
    /// `relation->name`.
    Arrow(NameId, NameId),
}

/// A relation or permission of a kind.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name.
    pub name: NameId,
    /// Who writes its tuples; `None` for a permission.
    pub class: Option<Class>,
    /// The subjects that its tuples may have.
    pub subjects: Vec<SubjectForm>,
    /// Its rule.
    pub rule: Vec<Term>,
    /// What holding it comes down to on this object.
    pub(crate) expansion: Expansion,
    /// Every name of this kind that follows from it, itself included.
    pub(crate) implied: Vec<NameId>,
    /// Whether usersets are made of it, and tuples alone say who belongs to them: then it is known from the subject's side.
    pub(crate) plain: bool,
}

/// A name, resolved within its kind down to tuples, arrows and identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expansion {
    pub(crate) relations: Vec<NameId>,
    pub(crate) arrows: Vec<(NameId, NameId)>,
    pub(crate) own: bool,
}

/// A kind of object.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its name.
    pub name: String,
    /// The id of its only object, for kinds that have one.
    pub singleton: Option<String>,
    /// Its relations and permissions in the order of the text.
    pub definitions: Vec<Definition>,
    /// Where each name stands in `definitions`, by name.
    pub(crate) places: Vec<Option<u8>>,
    /// Relations that arrows follow, each with (target, name it gives) pairs.
    pub(crate) arrows: Vec<(NameId, Vec<(NameId, NameId)>)>,
}

/// A parsed and validated schema.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) names: Vec<String>,
    /// Every plain userset.
    pub(crate) plain: Vec<(KindId, NameId)>,
    kinds_by_name: HashMap<String, KindId>,
    names_by_name: HashMap<String, NameId>,
}

/// What is wrong with a schema's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaProblem {
    /// Neither a kind, nor a relation, nor a permission.
    #[error("expected `kind`, `permission`, or a class of relation, found `{0}`")]
    UnknownWord(String),
    /// A line that belongs to a kind stands before the first one.
    #[error("a name stands outside any kind")]
    OutsideKind,
    /// A name of a kind, relation or permission outside its pattern.
    #[error("`{0}` is no name: it must match [a-z][a-z0-9_-]{{0,62}}")]
    BadName(String),
    /// A line that ends too early or goes on too long.
    #[error("expected {0}")]
    Expected(&'static str),
    /// Two kinds of one name.
    #[error("the kind `{0}` is declared twice")]
    KindTwice(String),
    /// Two definitions of one name on a kind.
    #[error("`{0}` is declared twice on its kind")]
    NameTwice(String),
    /// The same subject or term twice.
    #[error("`{0}` is listed twice")]
    ListedTwice(String),
    /// A kind that is not declared.
    #[error("there is no kind `{0}`")]
    NoKind(String),
    /// A name that is not declared on a kind.
    #[error("the kind `{kind}` has no name `{name}`")]
    NoName {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// An arrow over a permission.
    #[error("the arrow `{0}` must follow a relation: a permission points to nothing")]
    ArrowOverPermission(String),
    /// An arrow over a relation that holds usersets.
    #[error("the arrow `{0}` must follow a relation whose subjects are objects, not usersets")]
    ArrowOverUserset(String),
    /// Names of one kind that follow from each other in a circle.
    #[error("`{0}` follows from itself")]
    Circle(String),
    /// More kinds or names than a byte can tell apart.
    #[error("more than {MAX_SYMBOLS} kinds or names")]
    TooMany,
}

/// A schema's text is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct SchemaError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    #[source]
    pub problem: SchemaProblem,
}

// === impl Class ===

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::System, Self::Server, Self::Assignable, Self::Members];

    /// The word in the schema's text and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Server => "server",
            Self::Assignable => "assignable",
            Self::Members => "members",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Kind ===

impl Kind {
    /// The definition of a name, if the kind has it.
    #[must_use]
    pub fn definition(&self, name: NameId) -> Option<&Definition> {
        let place = (*self.places.get(usize::from(name.0))?)?;
        self.definitions.get(usize::from(place))
    }

    /// Relations of this kind that arrows follow: they lead to its ancestors.
    pub(crate) fn ancestor_relations(&self) -> impl Iterator<Item = NameId> + '_ {
        self.arrows.iter().map(|(relation, _)| *relation)
    }

    /// The (target, name it gives) pairs of the arrows over a relation.
    pub(crate) fn arrows_over(&self, relation: NameId) -> &[(NameId, NameId)] {
        self.arrows.iter().find(|(over, _)| *over == relation).map_or(&[], |(_, pairs)| pairs)
    }
}

// === impl Schema ===

impl Schema {
    /// Parses and validates a schema's text.
    ///
    /// # Errors
    /// [`SchemaError`] with the line.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        compile::compile(parse::parse(text)?)
    }

    /// The schema of this build. A test holds its text to be valid.
    #[must_use]
    pub fn built_in() -> &'static Self {
        static BUILT_IN: LazyLock<Schema> =
            LazyLock::new(|| Schema::parse(SCHEMA_TEXT).unwrap_or_else(|error| unreachable!("schema.txt: {error}")));
        &BUILT_IN
    }

    /// Every kind, in the order of the text.
    pub fn kinds(&self) -> impl Iterator<Item = (KindId, &Kind)> {
        (0..).map(KindId).zip(&self.kinds)
    }

    /// The kind of a name, if there is one.
    #[must_use]
    pub fn kind_id(&self, name: &str) -> Option<KindId> {
        self.kinds_by_name.get(name).copied()
    }

    /// A kind.
    #[must_use]
    pub fn kind(&self, id: KindId) -> Option<&Kind> {
        self.kinds.get(usize::from(id.0))
    }

    /// The interned form of a name, if any kind has it.
    #[must_use]
    pub fn name_id(&self, name: &str) -> Option<NameId> {
        self.names_by_name.get(name).copied()
    }

    /// A kind's name; empty for an id of another schema.
    #[must_use]
    pub fn kind_name(&self, id: KindId) -> &str {
        self.kind(id).map_or("", |kind| &kind.name)
    }

    /// A name's text; empty for an id of another schema.
    #[must_use]
    pub fn name(&self, id: NameId) -> &str {
        self.names.get(usize::from(id.0)).map_or("", String::as_str)
    }

    /// A name on a kind, if the kind has it.
    #[must_use]
    pub fn definition(&self, kind: KindId, name: NameId) -> Option<&Definition> {
        self.kind(kind)?.definition(name)
    }

    /// Whether a kind has a relation or permission of this name: what a gate asks for must be one.
    #[must_use]
    pub fn knows(&self, kind: &str, name: &str) -> bool {
        self.kind_id(kind).zip(self.name_id(name)).is_some_and(|(kind, name)| self.definition(kind, name).is_some())
    }

    /// Whether tuples of this relation on this kind may have such a subject.
    #[must_use]
    pub fn admits(&self, kind: KindId, relation: NameId, subject: SubjectForm) -> bool {
        self.definition(kind, relation).is_some_and(|definition| definition.subjects.contains(&subject))
    }

    /// Every (kind, relation, subject kind, subject name or "", class) that tuples may have, as the table
    /// `rebac.relations` lists them.
    #[must_use]
    pub fn forms(&self) -> Vec<(String, String, String, String, Class)> {
        let mut forms = Vec::new();
        for kind in &self.kinds {
            for definition in &kind.definitions {
                let Some(class) = definition.class else { continue };
                for subject in &definition.subjects {
                    let userset = subject.name.map_or("", |name| self.name(name)).to_owned();
                    let subject = self.kind_name(subject.kind).to_owned();
                    forms.push((kind.name.clone(), self.name(definition.name).to_owned(), subject, userset, class));
                }
            }
        }
        forms
    }
}

#[cfg(test)]
mod tests;
