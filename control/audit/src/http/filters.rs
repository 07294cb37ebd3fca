//! What a list is narrowed to.

use data_encoding::HEXLOWER;
use plexsphere_kernel::http::{OperationBuilder, Query};
use plexsphere_wire::{Code, Problem, Timestamp};
use utoipa::PartialSchema as _;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Ref, Schema, Type};

use super::schemas::AuditReason;
use crate::store::reading::Filters;

const NAMES: [&str; 8] = ["subject", "relation", "object_type", "object_id", "reason", "from", "to", "correlation_id"];
/// Longer texts name nothing.
const MAX_TEXT: usize = 4_096;

/// Declares the filters of a list.
pub(super) fn declare(builder: OperationBuilder) -> OperationBuilder {
    let text = || RefOr::T(Schema::from(ObjectBuilder::new().schema_type(Type::String).build()));
    let pseudonym = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9a-f]{64}$")).build();
    builder
        .schema::<AuditReason>()
        .query("subject", "A pseudonym: 64 lower-case hex digits. Never an id in clear.", RefOr::T(pseudonym.into()))
        .query("relation", "A relation or action.", text())
        .query("object_type", "The kind of an object.", text())
        .query("object_id", "The id of an object.", text())
        .query("reason", "A decision.", RefOr::Ref(Ref::from_schema_name("AuditReason")))
        .query("from", "Not decided before.", Timestamp::schema())
        .query("to", "Not decided after.", Timestamp::schema())
        .query("correlation_id", "A request.", text())
}

/// The filters of a request, and a text that is the same for the same filters.
pub(super) fn read(query: &Query) -> Result<(Filters, String), Problem> {
    let mut values = Vec::with_capacity(NAMES.len());
    for name in NAMES {
        let value = query.one(name, Code::InvalidAuditFilter)?;
        if value.is_some_and(|text| text.len() > MAX_TEXT || text.contains('\0')) {
            return Err(refusal(name, "is no text that an entry could have"));
        }
        values.push((name, value.map(str::to_owned)));
    }
    let digest = serde_json::to_string(&values).map_err(|_| Problem::internal())?;
    let mut next = values.into_iter().map(|(_, value)| value);
    let mut take = || next.next().flatten();
    let subject = take().map(|text| pseudonym(&text)).transpose()?;
    let (relation, object_type, object_id, reason) = (take(), take(), take(), take());
    if reason.as_deref().is_some_and(|word| !AuditReason::WORDS.contains(&word)) {
        return Err(refusal("reason", "is none of the decisions"));
    }
    let from = take().map(|text| time("from", &text)).transpose()?;
    let to = take().map(|text| time("to", &text)).transpose()?;
    if from.zip(to).is_some_and(|(from, to)| to < from) {
        return Err(refusal("to", "lies before `from`"));
    }
    let correlation_id = take();
    Ok((Filters { subject, relation, object_type, object_id, reason, from, to, correlation_id }, digest))
}

fn pseudonym(text: &str) -> Result<[u8; 32], Problem> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| refusal("subject", "must be a pseudonym of 64 lower-case hex digits"))
}

fn time(name: &str, text: &str) -> Result<Timestamp, Problem> {
    Timestamp::parse(text).map_err(|_| refusal(name, "must be a time such as `2026-05-02T10:00:00Z`"))
}

fn refusal(name: &str, what: &str) -> Problem {
    Problem::new(Code::InvalidAuditFilter, format!("`{name}` {what}."))
}
