//! Who calls, and what they name.

use std::fmt;

use async_trait::async_trait;
use plexsphere_wire::{
    CorrelationId, DomainId, NodeId, PrincipalId, Problem, ProjectId, ResourceId, Timestamp, TokenId,
};
use uuid::Uuid;

use crate::audit::RequestContext;

/// Whether a principal belongs to one Domain or to none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalScope {
    /// Belongs to the platform.
    Platform,
    /// Belongs to one Domain.
    Domain(DomainId),
}

/// The one domain-side spelling of what a principal is; the wire's four spellings are mapped at the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A person.
    User(PrincipalId),
    /// A machine principal.
    Service(PrincipalId),
    /// An enrolled Node, proven by its key.
    Node(NodeId),
    /// A part of this system, such as a sweeper, with a fixed id.
    System(Uuid),
}

impl Subject {
    /// The UUID, whichever kind it is.
    #[must_use]
    pub const fn uuid(&self) -> Uuid {
        match self {
            Self::User(id) | Self::Service(id) => id.uuid(),
            Self::Node(id) => id.uuid(),
            Self::System(id) => *id,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => write!(f, "user:{id}"),
            Self::Service(id) => write!(f, "serviceaccount:{id}"),
            Self::Node(id) => write!(f, "node:{id}"),
            Self::System(id) => write!(f, "system:{id}"),
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who.
    pub subject: Subject,
    /// Where it belongs.
    pub scope: PrincipalScope,
}

/// A proven Node's place in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlace {
    /// The Node.
    pub node: NodeId,
    /// Its Domain.
    pub domain: DomainId,
    /// Its Project.
    pub project: ProjectId,
    /// Its Resource.
    pub resource: ResourceId,
}

/// What a person proved at sign-in, as the identity provider said it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assurance {
    /// The authentication context class.
    pub acr: Option<String>,
    /// The methods, such as `pwd` and `otp`; at most 16.
    pub amr: Vec<String>,
    /// When the person authenticated.
    pub auth_time: Option<Timestamp>,
}

/// By what an operator was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A long-lived token.
    ApiToken {
        /// Which.
        id: TokenId,
        /// When it ends.
        expires_at: Timestamp,
    },
    /// A short-lived token of the device or service flow.
    AccessToken(Assurance),
    /// A browser session: the only credential that is interactive.
    Session(Assurance),
}

impl Credential {
    /// What was proved at sign-in; nothing for an API token.
    #[must_use]
    pub const fn assurance(&self) -> Option<&Assurance> {
        match self {
            Self::ApiToken { .. } => None,
            Self::AccessToken(assurance) | Self::Session(assurance) => Some(assurance),
        }
    }
}

/// What authentication yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authenticated {
    /// An operator: a person or a service.
    Operator {
        /// Who.
        principal: Principal,
        /// By what the caller was recognised.
        credential: Credential,
    },
    /// A Node by its key.
    Node(NodePlace),
}

impl Authenticated {
    /// The caller as a principal.
    #[must_use]
    pub fn principal(&self) -> Principal {
        match self {
            Self::Operator { principal, .. } => principal.clone(),
            Self::Node(place) => {
                Principal { subject: Subject::Node(place.node), scope: PrincipalScope::Domain(place.domain) }
            }
        }
    }
}

/// Turns credentials into callers. `bearer` is the text behind `Bearer `, never empty.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Authenticates an operator's bearer.
    ///
    /// # Errors
    /// A 401 Problem, or 503 when it cannot be decided.
    async fn operator(&self, bearer: &str) -> Result<Authenticated, Problem>;

    /// Authenticates an operator by the id in a browser session's cookie.
    ///
    /// # Errors
    /// A 401 Problem, or 503 when it cannot be decided.
    async fn session(&self, id: &str) -> Result<Authenticated, Problem>;

    /// Authenticates a Node by the text behind `Bearer `.
    ///
    /// # Errors
    /// 401 `unauthorized`, `nsk_invalid` or `nsk_revoked`; 503 `datastore_unavailable` when it cannot be decided.
    async fn node(&self, bearer: &str) -> Result<Authenticated, Problem>;

    /// [`Self::node`] for a request that is known, so that the audit row of a refusal can say where it came from.
    ///
    /// # Errors
    /// As [`Self::node`].
    async fn node_of(
        &self,
        bearer: &str,
        _correlation_id: &CorrelationId,
        _context: &RequestContext,
    ) -> Result<Authenticated, Problem> {
        self.node(bearer).await
    }
}

/// An object of the relation graph: `<kind>:<id>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectRef {
    /// The kind, such as `domain`.
    pub kind: &'static str,
    /// The id: a UUID, or a singleton's name.
    pub id: String,
}

impl ObjectRef {
    /// The platform singleton.
    #[must_use]
    pub fn platform() -> Self {
        Self { kind: "platform", id: "plexsphere".to_owned() }
    }

    /// `domain:<id>`.
    #[must_use]
    pub fn domain(id: DomainId) -> Self {
        Self { kind: "domain", id: id.to_string() }
    }

    /// `project:<id>`.
    #[must_use]
    pub fn project(id: ProjectId) -> Self {
        Self { kind: "project", id: id.to_string() }
    }

    /// `resource:<id>`.
    #[must_use]
    pub fn resource(id: ResourceId) -> Self {
        Self { kind: "resource", id: id.to_string() }
    }

    /// `node:<id>`.
    #[must_use]
    pub fn node(id: NodeId) -> Self {
        Self { kind: "node", id: id.to_string() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}
