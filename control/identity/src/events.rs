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
    /// A binding to an identity provider was made.
    IdpBindingCreated,
    /// A binding was changed.
    IdpBindingUpdated,
    /// A binding was switched on or off, or the probe found it otherwise.
    IdpBindingStatusChanged,
    /// A binding was deleted.
    IdpBindingDeleted,
    /// A Group was made.
    GroupCreated,
    /// A Group was renamed.
    GroupUpdated,
    /// A Group was deleted, its memberships with it.
    GroupDeleted,
    /// A principal became a member of a Group.
    MembershipAdded,
    /// A principal ceased to be a member of a Group.
    MembershipRemoved,
    /// A machine principal was made.
    ServiceIdentityProvisioned,
    /// An invitation was made.
    InvitationCreated,
    /// An invitation was taken back.
    InvitationRevoked,
    /// A sign-in took an invitation.
    InvitationAccepted,
    /// An invitation's time ran out.
    InvitationExpired,
    /// A person signed in.
    UserSignedIn,
    /// A person was seen for the first time.
    UserProvisioned,
    /// A person ended one or all of their sessions.
    UserSignedOut,
    /// A person approved a device.
    DeviceSessionApproved,
    /// A service identity got an access token.
    ServiceIdentityAuthenticated,
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
            Self::IdpBindingCreated => "identity.IdPBindingCreated",
            Self::IdpBindingUpdated => "identity.IdPBindingUpdated",
            Self::IdpBindingStatusChanged => "identity.IdPBindingStatusChanged",
            Self::IdpBindingDeleted => "identity.IdPBindingDeleted",
            Self::GroupCreated => "identity.GroupCreated",
            Self::GroupUpdated => "identity.GroupUpdated",
            Self::GroupDeleted => "identity.GroupDeleted",
            Self::MembershipAdded => "identity.MembershipAdded",
            Self::MembershipRemoved => "identity.MembershipRemoved",
            Self::ServiceIdentityProvisioned => "ServiceIdentityProvisioned",
            Self::InvitationCreated => "InvitationCreated",
            Self::InvitationRevoked => "InvitationRevoked",
            Self::InvitationAccepted => "InvitationAccepted",
            Self::InvitationExpired => "InvitationExpired",
            Self::UserSignedIn => "identity.UserSignedIn",
            Self::UserProvisioned => "identity.UserProvisioned",
            Self::UserSignedOut => "identity.UserSignedOut",
            Self::DeviceSessionApproved => "identity.DeviceSessionApproved",
            Self::ServiceIdentityAuthenticated => "identity.ServiceIdentityAuthenticated",
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
