//! Rows as they stand in the tables, and what they mean to the schema.

use std::sync::Arc;

use plexsphere_kernel::Fault;
use plexsphere_wire::DomainId;
use serde_json::{Map, Value};
use sqlx::types::Json;
use uuid::Uuid;

use crate::model::caveat::Caveat;
use crate::model::graph::{Scope, Tuple};
use crate::model::refs::{ObjectId, ObjectKey, SubjectKey};
use crate::model::schema::Schema;

/// The scope of platform objects: the anchor of the platform's audit chain, which no Domain has.
const PLATFORM: Uuid = Uuid::from_u128(0x0000_0000_0000_7000_8000_0000_0000_0001);

impl Scope {
    /// The platform.
    pub const PLATFORM: Self = Self(None);

    /// As it stands in the tables.
    pub(crate) fn uuid(self) -> Uuid {
        self.0.map_or(PLATFORM, |domain| domain.uuid())
    }

    pub(crate) fn from_uuid(uuid: Uuid) -> Self {
        Self((uuid != PLATFORM).then(|| DomainId::from_uuid(uuid)))
    }
}

/// The columns that make a tuple.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct TupleRow {
    pub(crate) object_kind: String,
    pub(crate) object_id: Uuid,
    pub(crate) relation: String,
    pub(crate) subject_kind: String,
    pub(crate) subject_id: Uuid,
    pub(crate) subject_name: String,
    pub(crate) caveat: Option<String>,
    pub(crate) caveat_context: Option<Json<Map<String, Value>>>,
}

impl TupleRow {
    /// The tuple that the row says.
    ///
    /// # Errors
    /// [`Fault`] when the schema of this build does not know its names, or its caveat.
    pub(crate) fn tuple(&self, schema: &Schema) -> Result<Tuple, Fault> {
        const FOREIGN: Fault = Fault::Invariant("a stored tuple is one that the schema allows");
        let kind = |name: &str| schema.kind_id(name).ok_or(FOREIGN);
        let object = ObjectKey { kind: kind(&self.object_kind)?, id: ObjectId::new(self.object_id) };
        let subject = ObjectKey { kind: kind(&self.subject_kind)?, id: ObjectId::new(self.subject_id) };
        let relation = schema.name_id(&self.relation).ok_or(FOREIGN)?;
        let subject = match self.subject_name.as_str() {
            "" => SubjectKey::object(subject),
            name => SubjectKey::userset(subject, schema.name_id(name).ok_or(FOREIGN)?),
        };
        if !schema.admits(object.kind, relation, subject.form()) {
            return Err(FOREIGN);
        }
        let caveat = match (&self.caveat, &self.caveat_context) {
            (Some(name), Some(Json(context))) => Some(Arc::new(Caveat::parse(name, context).map_err(|_| FOREIGN)?)),
            _ => None,
        };
        Ok(Tuple { object, relation, subject, caveat })
    }
}
