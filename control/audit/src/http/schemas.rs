//! What is read and written, as the document describes it.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use plexsphere_wire::{PrincipalId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::hex;
use crate::erasing::Erased;
use crate::store::reading::Entry;
use crate::verifying::Verdict;

/// How a decision ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum AuditReason {
    Granted,
    OutOfScope,
    InsufficientRelation,
    CaveatViolation,
    /// What is stored is none of the others.
    Unknown,
}

impl AuditReason {
    pub(super) const WORDS: [&str; 5] =
        ["granted", "out_of_scope", "insufficient_relation", "caveat_violation", "unknown"];

    pub(super) fn of(word: &str) -> Self {
        match word {
            "granted" => Self::Granted,
            "out_of_scope" => Self::OutOfScope,
            "insufficient_relation" => Self::InsufficientRelation,
            "caveat_violation" => Self::CaveatViolation,
            _ => Self::Unknown,
        }
    }
}

/// Who acted.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditSubject {
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pseudonym: String,
    /// Who that is; absent after an erasure.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_id_ref: Option<PrincipalId>,
}

/// On what.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditObject {
    #[serde(rename = "type")]
    kind: String,
    id: String,
}

/// The decision.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditDecision {
    result: AuditReason,
    /// Caveats that were looked at, with the names of their parameters.
    caveat_context: BTreeMap<String, Vec<String>>,
}

/// Where the request came from; empty after an erasure.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditRequestContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
}

/// One row of a chain.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEntry {
    #[schema(minimum = 1)]
    seq: i64,
    /// The chain: a Domain's id, or the fixed anchor of the platform's chain.
    #[schema(value_type = PrincipalId)]
    domain_id: Uuid,
    occurred_at: Timestamp,
    reason: AuditReason,
    subject: AuditSubject,
    relation: String,
    object: AuditObject,
    decision: AuditDecision,
    correlation_id: String,
    request_context: AuditRequestContext,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    entry_hash: String,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    prev_hash: String,
    /// The object store's word for the copy, once it has confirmed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    archive_etag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_at: Option<Timestamp>,
}

impl AuditEntry {
    pub(super) fn of(chain: Uuid, entry: Entry) -> Self {
        let reason = AuditReason::of(&entry.reason);
        let (archive_etag, archived_at) = entry.archived.unzip();
        Self {
            seq: entry.seq,
            domain_id: chain,
            occurred_at: entry.occurred_at,
            reason,
            subject: AuditSubject {
                pseudonym: hex(&entry.subject),
                identity_id_ref: entry.subject_id.map(PrincipalId::from_uuid),
            },
            relation: entry.relation,
            object: AuditObject { kind: entry.object_type, id: entry.object_id },
            decision: AuditDecision {
                result: reason,
                caveat_context: serde_json::from_str(&entry.caveat_names).unwrap_or_default(),
            },
            correlation_id: entry.correlation_id,
            request_context: AuditRequestContext { ip: entry.context.ip, user_agent: entry.context.user_agent },
            entry_hash: hex(&entry.entry_hash),
            prev_hash: hex(&entry.prev_hash),
            archive_etag,
            archived_at,
        }
    }
}

/// A page.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEntryList {
    pub(super) items: Vec<AuditEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor: Option<String>,
}

/// What an outsider needs to hash an entry again.
#[derive(Serialize, ToSchema)]
pub(super) struct Proof {
    #[schema(pattern = "^[0-9a-f]{64}$")]
    prev_hash: String,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    entry_hash: String,
    /// The bytes that were hashed, in base64.
    #[schema(format = Byte)]
    canonical_bytes: String,
}

/// An entry with its proof.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEntryProof {
    entry: AuditEntry,
    #[schema(inline)]
    proof: Proof,
}

impl AuditEntryProof {
    pub(super) fn of(chain: Uuid, entry: Entry) -> Self {
        let proof = Proof {
            prev_hash: hex(&entry.prev_hash),
            entry_hash: hex(&entry.entry_hash),
            canonical_bytes: BASE64.encode(&entry.canonical),
        };
        Self { entry: AuditEntry::of(chain, entry), proof }
    }
}

/// Which part of the chain; all of it when nothing is said.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditChainVerifyRequest {
    #[schema(minimum = 1)]
    pub(super) from_seq: Option<i64>,
    #[schema(minimum = 1)]
    pub(super) to_seq: Option<i64>,
}

/// What a verification found.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditChainVerifyResult {
    ok: bool,
    /// The first row that does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    divergent_seq: Option<i64>,
    /// The hash it should have, recomputed behind its true predecessor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    expected_hash: Option<String>,
    /// The hash that is stored; zeros for a row that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9a-f]{64}$")]
    observed_hash: Option<String>,
    #[schema(minimum = 1)]
    segment_from: i64,
    #[schema(minimum = 1)]
    segment_to: i64,
}

impl From<Verdict> for AuditChainVerifyResult {
    fn from(verdict: Verdict) -> Self {
        let found = verdict.divergence;
        Self {
            ok: found.is_none(),
            divergent_seq: found.map(|found| found.seq),
            expected_hash: found.map(|found| hex(&found.expected)),
            observed_hash: found.map(|found| hex(&found.observed)),
            segment_from: verdict.from,
            segment_to: verdict.to,
        }
    }
}

/// Who is to be erased.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditEraseIdentityRequest {
    pub(super) identity_id: PrincipalId,
}

/// What is left of them.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditEraseIdentityResponse {
    #[schema(pattern = "^[0-9a-f]{64}$")]
    subject_pseudonym: String,
    erased_at: Timestamp,
}

impl From<Erased> for AuditEraseIdentityResponse {
    fn from(erased: Erased) -> Self {
        Self { subject_pseudonym: hex(&erased.pseudonym), erased_at: erased.at }
    }
}
