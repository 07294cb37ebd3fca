//! The closed set of events that this context writes. All of them stay inside; what Nodes hear is appended by the mesh
//! context in the same transaction.

/// The name of an event in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventName {
    /// The first administrator was made.
    AdminBootstrapped,
    /// An API token was issued.
    ApiTokenIssued,
    /// An API token got a new secret.
    ApiTokenRotated,
    /// An API token was revoked.
    ApiTokenRevoked,
    /// A Domain was created.
    DomainCreated,
    /// A Domain was changed.
    DomainUpdated,
    /// A Domain was deleted.
    DomainDeleted,
    /// A Project was created.
    ProjectCreated,
    /// A Project was changed.
    ProjectUpdated,
    /// A Project was deleted.
    ProjectDeleted,
    /// A Resource was created.
    ResourceCreated,
    /// A Resource was deleted.
    ResourceDeleted,
    /// A bootstrap token was issued.
    BootstrapTokenIssued,
    /// A bootstrap token was revoked.
    BootstrapTokenRevoked,
    /// A bootstrap token was redeemed.
    BootstrapTokenConsumed,
    /// A Node was enrolled.
    NodeRegistered,
    /// A Node ended.
    NodeDeregistered,
}

impl EventName {
    /// The word in the outbox.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AdminBootstrapped => "identity.AdminBootstrapped",
            Self::ApiTokenIssued => "identity.APITokenIssued",
            Self::ApiTokenRotated => "identity.APITokenRotated",
            Self::ApiTokenRevoked => "identity.APITokenRevoked",
            Self::DomainCreated => "DomainCreated",
            Self::DomainUpdated => "DomainUpdated",
            Self::DomainDeleted => "DomainDeleted",
            Self::ProjectCreated => "ProjectCreated",
            Self::ProjectUpdated => "ProjectUpdated",
            Self::ProjectDeleted => "ProjectDeleted",
            Self::ResourceCreated => "ResourceCreated",
            Self::ResourceDeleted => "ResourceDeleted",
            Self::BootstrapTokenIssued => "BootstrapTokenIssued",
            Self::BootstrapTokenRevoked => "BootstrapTokenRevoked",
            Self::BootstrapTokenConsumed => "BootstrapTokenConsumed",
            Self::NodeRegistered => "NodeRegistered",
            Self::NodeDeregistered => "NodeDeregistered",
        }
    }
}
