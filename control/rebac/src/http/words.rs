//! The texts of requests, read by the schema. The API spells the kind `serviceaccount` also as `service-identity`, and
//! answers in the spelling of the request.

use plexsphere_wire::{Code, Problem};
use serde_json::{Map, Value};

use crate::model::caveat::CaveatInputs;
use crate::model::refs::{ObjectKey, SubjectKey};
use crate::model::schema::{KindId, NameId, Schema};

/// The longest text of a member, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;
const ALIAS: &str = "service-identity";
const ALIASED: &str = "serviceaccount";

/// Reads the members of one request; every refusal has the request's own code.
pub(super) struct Reader {
    pub(super) schema: &'static Schema,
    pub(super) code: Code,
}

/// A kind in the spelling of a request.
pub(super) struct SpelledKind<'a> {
    pub(super) id: KindId,
    spelling: &'a str,
}

impl Reader {
    fn refuse(&self, member: &str, why: impl std::fmt::Display) -> Problem {
        Problem::new(self.code, format!("`{member}` is invalid: {why}."))
    }

    fn bounded<'a>(&self, member: &str, text: &'a str) -> Result<&'a str, Problem> {
        if (1..=MAX_TEXT_BYTES).contains(&text.len()) {
            Ok(text)
        } else {
            Err(self.refuse(member, format!("it must have 1 to {MAX_TEXT_BYTES} bytes")))
        }
    }

    pub(super) fn subject(&self, text: &str) -> Result<SubjectKey, Problem> {
        let text = self.bounded("subject", text)?;
        let canonical = text.strip_prefix(ALIAS).filter(|rest| rest.starts_with(':'));
        let canonical = canonical.map_or_else(|| text.to_owned(), |rest| format!("{ALIASED}{rest}"));
        SubjectKey::parse(self.schema, &canonical).map_err(|problem| self.refuse("subject", problem))
    }

    /// The subject of a question: a Group stands for its members, as in the answer of a lookup.
    pub(super) fn asked(&self, text: &str) -> Result<SubjectKey, Problem> {
        let subject = self.subject(text)?;
        let member = self.schema.name_id("member").filter(|_| self.schema.kind_name(subject.object.kind) == "group");
        Ok(match (subject.name, member) {
            (None, Some(member)) => SubjectKey::userset(subject.object, member),
            _ => subject,
        })
    }

    pub(super) fn resource(&self, text: &str) -> Result<ObjectKey, Problem> {
        let text = self.bounded("resource", text)?;
        let canonical = text.strip_prefix(ALIAS).filter(|rest| rest.starts_with(':'));
        let canonical = canonical.map_or_else(|| text.to_owned(), |rest| format!("{ALIASED}{rest}"));
        ObjectKey::parse(self.schema, &canonical).map_err(|problem| self.refuse("resource", problem))
    }

    pub(super) fn kind<'a>(&self, member: &str, text: &'a str) -> Result<SpelledKind<'a>, Problem> {
        let text = self.bounded(member, text)?;
        let canonical = if text == ALIAS { ALIASED } else { text };
        let id = self.schema.kind_id(canonical).ok_or_else(|| self.refuse(member, "the kind is unknown"))?;
        Ok(SpelledKind { id, spelling: text })
    }

    /// A relation or permission of a kind.
    pub(super) fn relation(&self, kind: KindId, text: &str) -> Result<NameId, Problem> {
        let name = self.schema.name_id(self.bounded("relation", text)?);
        let name = name.filter(|name| self.schema.definition(kind, *name).is_some());
        name.ok_or_else(|| self.refuse("relation", "the kind has no such name"))
    }

    /// The inputs that a request supplies for somebody else's check.
    pub(super) fn inputs(&self, context: Option<&Map<String, Value>>) -> Result<CaveatInputs, Problem> {
        let Some(context) = context else { return Ok(CaveatInputs::default()) };
        CaveatInputs::parse(context).map_err(|problem| self.refuse("caveat_context", problem))
    }
}

impl SpelledKind<'_> {
    /// An object of this kind, in the spelling of the request.
    pub(super) fn item(&self, schema: &Schema, object: ObjectKey) -> String {
        let text = object.text(schema);
        let id = text.split_once(':').map_or("", |(_, id)| id);
        format!("{}:{id}", self.spelling)
    }
}

/// A subject in the spelling of the request that named it.
pub(super) fn respell(asked: &str, canonical: String) -> String {
    if asked.starts_with(ALIAS) { canonical.replacen(ALIASED, ALIAS, 1) } else { canonical }
}
