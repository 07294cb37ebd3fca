//! The RFC 9457 error document and its closed catalogue of codes.

mod code;

pub use code::Code;

use serde::{Deserialize, Serialize};

use crate::CorrelationId;

/// The media type of every error document.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// The node agent reads at most this many bytes of an error body, so every Problem stays below it.
pub const MAX_PROBLEM_BYTES: usize = 4_096;

/// The longest `detail` that is sent, in bytes; the other members fit in the rest of [`MAX_PROBLEM_BYTES`].
const MAX_DETAIL_BYTES: usize = 1_024;

/// The longest `instance` that is sent, in bytes.
const MAX_INSTANCE_BYTES: usize = 1_024;

/// Why an authorisation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenialReason {
    /// The caller has no path to the object at all.
    OutOfScope,
    /// The caller reaches the object, but not with the relation that is needed.
    InsufficientRelation,
    /// A relation is there and its condition does not hold.
    CaveatViolation,
}

/// The members that an authorisation refusal adds to a Problem (`PermissionDenied`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Why it was refused.
    pub reason: DenialReason,
    /// The relations walked; empty for `out_of_scope`.
    pub relation_path: Vec<String>,
}

/// How many children keep a Domain from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = DomainChildCounts)]
pub struct ChildCounts {
    /// Projects of the Domain.
    #[schema(minimum = 0)]
    pub projects: i64,
    /// Groups of the Domain.
    #[schema(minimum = 0)]
    pub groups: i64,
    /// Users and ServiceIdentities of the Domain.
    #[schema(minimum = 0)]
    pub identities: i64,
    /// Identity-provider bindings of the Domain.
    #[schema(minimum = 0)]
    pub idp_bindings: i64,
    /// Live Nodes of the Domain.
    #[schema(minimum = 0)]
    pub nodes: i64,
}

/// How many children keep a Project from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProjectChildCounts {
    /// Resources of the Project.
    #[schema(minimum = 0)]
    pub resources: i64,
    /// Live Nodes of the Project.
    #[schema(minimum = 0)]
    pub nodes: i64,
    /// Relation tuples filed under the Project.
    #[schema(minimum = 0)]
    pub relation_tuples: i64,
}

/// An error document before it is bound to a request.
///
/// `detail` is text for people. It may name a field, a limit or an id the caller already supplied; it never holds SQL,
/// dependency errors, secrets or another tenant's data.
///
/// One pointer wide, so that it costs nothing in a `Result`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(Box<Members>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Members {
    code: Code,
    detail: String,
    retry_after: Option<u64>,
    denial: Option<Denial>,
    dimension: Option<&'static str>,
    child_counts: Option<ChildCounts>,
    project_child_counts: Option<ProjectChildCounts>,
}

/// The `instance` member for a request path: the path without its query, cut to 1,024 bytes.
#[must_use]
pub fn instance(path: &str) -> String {
    let mut instance = path.to_owned();
    cut(&mut instance, MAX_INSTANCE_BYTES);
    instance
}

impl Problem {
    /// A Problem with its code and a sentence for people, cut to 1,024 bytes.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        cut(&mut detail, MAX_DETAIL_BYTES);
        let retry_after = (code.status_u16() == 503).then_some(5);
        Self(Box::new(Members {
            code,
            detail,
            retry_after,
            denial: None,
            dimension: None,
            child_counts: None,
            project_child_counts: None,
        }))
    }

    /// A fault of ours: 500 with a constant sentence; the cause goes to the log only.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(Code::Internal, "The request could not be completed because of an internal fault.")
    }

    /// An authorisation refusal (`PermissionDenied`) under `code`.
    #[must_use]
    pub fn denied(code: Code, reason: DenialReason, relation_path: Vec<String>) -> Self {
        let mut problem = Self::new(code, "The caller may not do this.");
        problem.0.denial = Some(Denial { reason, relation_path });
        problem
    }

    /// Sets `Retry-After`, whole seconds, at least 1.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds.max(1));
        self
    }

    /// Sets the `dimension` member, which goes with `capacity_exceeded` only.
    #[must_use]
    pub fn dimension(mut self, dimension: &'static str) -> Self {
        self.0.dimension = Some(dimension);
        self
    }

    /// Sets the `child_counts` member, which goes with `domain_not_empty` only.
    #[must_use]
    pub fn child_counts(mut self, counts: ChildCounts) -> Self {
        self.0.child_counts = Some(counts);
        self
    }

    /// Sets the `project_child_counts` member, which goes with `project_not_empty` only.
    #[must_use]
    pub fn project_child_counts(mut self, counts: ProjectChildCounts) -> Self {
        self.0.project_child_counts = Some(counts);
        self
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The value of `Retry-After` in seconds, if one is sent.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.0.retry_after
    }

    /// The authorisation part, if this is a `PermissionDenied`.
    #[must_use]
    pub fn denial(&self) -> Option<&Denial> {
        self.0.denial.as_ref()
    }

    /// The JSON body for a request: `instance` is its path without the query, below 4,096 bytes in total.
    #[must_use]
    pub fn body(&self, instance: &str, correlation_id: &CorrelationId) -> Vec<u8> {
        let instance = self::instance(instance);
        let mut document = Document {
            r#type: self.0.code.type_uri(),
            title: self.0.code.title(),
            status: self.0.code.status_u16(),
            detail: self.0.detail.clone(),
            instance,
            code: self.0.code.as_str(),
            reason: self.0.denial.as_ref().map(|denial| denial.reason),
            relation_path: self.0.denial.as_ref().map(|denial| denial.relation_path.clone()),
            correlation_id: correlation_id.as_str(),
            dimension: self.0.dimension,
            child_counts: self.0.child_counts,
            project_child_counts: self.0.project_child_counts,
        };
        let mut body = serde_json::to_vec(&document).unwrap_or_default();
        // JSON escapes can inflate a text sixfold, so the limits above are not enough by themselves.
        while body.len() >= MAX_PROBLEM_BYTES {
            if document.relation_path.as_ref().is_some_and(|path| !path.is_empty()) {
                document.relation_path = Some(Vec::new());
            } else if document.detail.len() > 64 {
                let half = document.detail.len() / 2;
                cut(&mut document.detail, half);
            } else {
                let half = document.instance.len() / 2;
                cut(&mut document.instance, half);
            }
            body = serde_json::to_vec(&document).unwrap_or_default();
        }
        body
    }
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    instance: String,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<DenialReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    relation_path: Option<Vec<String>>,
    correlation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    child_counts: Option<ChildCounts>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project_child_counts: Option<ProjectChildCounts>,
}

fn cut(text: &mut String, limit: usize) {
    if text.len() > limit {
        let mut end = limit;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn correlation() -> CorrelationId {
        CorrelationId::accept("c-1").unwrap()
    }

    #[test]
    fn a_problem_has_the_members_of_the_contract() {
        let body = Problem::new(Code::DomainNotFound, "No such Domain.").body("/v1/domains/x", &correlation());
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(value["type"], "https://plexsphere.com/errors/domain-not-found");
        assert_eq!(value["title"], "Domain Not Found");
        assert_eq!(value["status"], 404);
        assert_eq!(value["instance"], "/v1/domains/x");
        assert_eq!(value["code"], "domain_not_found");
        assert_eq!(value["correlation_id"], "c-1");
        assert!(value.get("reason").is_none());
    }

    #[test]
    fn a_refusal_names_its_reason_and_an_empty_path() {
        let problem = Problem::denied(Code::NodeIdMismatch, DenialReason::InsufficientRelation, Vec::new());
        let value: serde_json::Value = serde_json::from_slice(&problem.body("/", &correlation())).unwrap();
        assert_eq!(value["reason"], "insufficient_relation");
        assert_eq!(value["relation_path"], serde_json::json!([]));
    }

    #[test]
    fn the_worst_detail_and_instance_stay_below_what_an_agent_reads() {
        let hostile = "\u{1}\"\\".repeat(4_000);
        let mut path = vec!["r".repeat(100); 100];
        path.push(hostile.clone());
        let mut problem = Problem::denied(Code::PermissionDenied, DenialReason::OutOfScope, path);
        problem.0.detail = Problem::new(Code::Internal, hostile.clone()).0.detail;
        assert!(problem.body(&hostile, &correlation()).len() < MAX_PROBLEM_BYTES);
    }

    #[test]
    fn words_are_short_printable_and_never_repeated_with_one_status() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(code.as_str().len() <= 128 && code.as_str().bytes().all(|b| b.is_ascii_graphic()));
            assert!(seen.insert((code.as_str(), code.status_u16())), "{} stands twice", code.as_str());
            assert!(code.status_u16() >= 400);
        }
    }
}
