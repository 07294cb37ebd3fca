//! References to objects and subjects: interned, 17 bytes of information each, and their text.

use uuid::Uuid;

use super::schema::{KindId, NameId, Schema, SubjectForm};

/// The longest text of a reference that is read, in bytes.
pub const MAX_REF_BYTES: usize = 128;

/// The id of an object: a UUID, or nil for a kind's only object. Its order is the UUID's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId([u64; 2]);

/// An object of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: KindId,
    /// Its id.
    pub id: ObjectId,
}

/// A subject: an object, or everybody with a name on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectKey {
    /// The object.
    pub object: ObjectKey,
    /// The name behind `#`, for a userset.
    pub name: Option<NameId>,
}

/// Why a text is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefProblem {
    /// Not `<kind>:<id>`, or too long.
    #[error("not of the form kind:id")]
    Malformed,
    /// A kind that the schema does not know.
    #[error("the kind is unknown")]
    UnknownKind,
    /// The id is no UUID in its hyphenated form, or not the id of the kind's only object.
    #[error("the id is not one of its kind")]
    BadId,
    /// The name behind `#` is not one of the kind.
    #[error("the kind has no such name")]
    UnknownName,
    /// A userset where an object is meant.
    #[error("a userset is no object")]
    NotAnObject,
}

// === impl ObjectId ===

impl ObjectId {
    /// The id of a kind's only object.
    pub const SINGLETON: Self = Self([0, 0]);

    /// From a UUID.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        let (high, low) = id.as_u64_pair();
        Self([high, low])
    }

    /// As a UUID; nil for a kind's only object.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        let Self([high, low]) = self;
        Uuid::from_u64_pair(high, low)
    }

    /// A well-mixed number for choosing buckets.
    pub(crate) const fn hash(self, kind: KindId) -> u64 {
        let Self([high, low]) = self;
        let mut hash = (high ^ ((kind.0 as u64) << 56)).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low;
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        hash ^ (hash >> 32)
    }
}

// === impl ObjectKey ===

impl ObjectKey {
    /// Reads `<kind>:<id>`.
    ///
    /// # Errors
    /// [`RefProblem`].
    pub fn parse(schema: &Schema, text: &str) -> Result<Self, RefProblem> {
        if text.len() > MAX_REF_BYTES {
            return Err(RefProblem::Malformed);
        }
        let (kind, id) = text.split_once(':').ok_or(RefProblem::Malformed)?;
        if id.contains('#') {
            return Err(RefProblem::NotAnObject);
        }
        Self::of(schema, kind, id)
    }

    /// From a kind's name and the text of an id.
    ///
    /// # Errors
    /// [`RefProblem`].
    pub fn of(schema: &Schema, kind: &str, id: &str) -> Result<Self, RefProblem> {
        let kind = schema.kind_id(kind).ok_or(RefProblem::UnknownKind)?;
        let id = match schema.kind(kind).and_then(|kind| kind.singleton.as_deref()) {
            Some(only) if only == id => ObjectId::SINGLETON,
            Some(_) => return Err(RefProblem::BadId),
            None => {
                // Braces, URNs and bare hex are no ids here.
                let uuid = Some(id).filter(|id| id.len() == 36).and_then(|id| Uuid::try_parse(id).ok());
                ObjectId::new(uuid.filter(|uuid| !uuid.is_nil()).ok_or(RefProblem::BadId)?)
            }
        };
        Ok(Self { kind, id })
    }

    /// `<kind>:<id>`.
    #[must_use]
    pub fn text(self, schema: &Schema) -> String {
        let kind = schema.kind_name(self.kind);
        match schema.kind(self.kind).and_then(|kind| kind.singleton.as_deref()) {
            Some(only) => format!("{kind}:{only}"),
            None => format!("{kind}:{}", self.id.uuid().hyphenated()),
        }
    }
}

// === impl SubjectKey ===

impl SubjectKey {
    /// The object itself as a subject.
    #[must_use]
    pub const fn object(object: ObjectKey) -> Self {
        Self { object, name: None }
    }

    /// Everybody with `name` on `object`.
    #[must_use]
    pub const fn userset(object: ObjectKey, name: NameId) -> Self {
        Self { object, name: Some(name) }
    }

    /// Reads `<kind>:<id>` or `<kind>:<id>#<name>`.
    ///
    /// # Errors
    /// [`RefProblem`].
    pub fn parse(schema: &Schema, text: &str) -> Result<Self, RefProblem> {
        match text.split_once('#') {
            None => Ok(Self::object(ObjectKey::parse(schema, text)?)),
            Some((object, name)) => {
                let object = ObjectKey::parse(schema, object)?;
                let name = schema.name_id(name).filter(|name| schema.definition(object.kind, *name).is_some());
                Ok(Self::userset(object, name.ok_or(RefProblem::UnknownName)?))
            }
        }
    }

    /// Its form, for asking the schema whether a relation admits it.
    #[must_use]
    pub const fn form(self) -> SubjectForm {
        SubjectForm { kind: self.object.kind, name: self.name }
    }

    /// `<kind>:<id>` or `<kind>:<id>#<name>`.
    #[must_use]
    pub fn text(self, schema: &Schema) -> String {
        let object = self.object.text(schema);
        self.name.map_or_else(|| object.clone(), |name| format!("{object}#{}", schema.name(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back_as_they_are_written() {
        let schema = Schema::built_in();
        for text in [
            "user:018f4e0a-0000-7000-8000-000000000001",
            "group:018f4e0a-0000-7000-8000-000000000001#member",
            "platform:plexsphere",
            "platform:plexsphere#browse",
            "managementfleet:fleet",
        ] {
            assert_eq!(SubjectKey::parse(schema, text).unwrap().text(schema), text);
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let schema = Schema::built_in();
        let id = "018f4e0a-0000-7000-8000-000000000001";
        for (text, problem) in [
            ("user".to_owned(), RefProblem::Malformed),
            ("user:*".to_owned(), RefProblem::BadId),
            ("user:00000000-0000-0000-0000-000000000000".to_owned(), RefProblem::BadId),
            (format!("user:{}", id.replace('-', "")), RefProblem::BadId),
            ("platform:other".to_owned(), RefProblem::BadId),
            (format!("robot:{id}"), RefProblem::UnknownKind),
            (format!("group:{id}#admin"), RefProblem::UnknownName),
            (format!("group:{id}#"), RefProblem::UnknownName),
            ("x".repeat(129), RefProblem::Malformed),
        ] {
            assert_eq!(SubjectKey::parse(schema, &text), Err(problem), "{text}");
        }
        assert_eq!(ObjectKey::parse(schema, &format!("group:{id}#member")), Err(RefProblem::NotAnObject));
    }
}
