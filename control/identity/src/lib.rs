//! Identity: who calls, whose everything is, and how a machine becomes a Node.
//!
//! Language: a **User** is a person; an **API token** is a long-lived credential of one; a **Domain** is the top tenancy
//! boundary, a **Project** the unit of work in it, a **Resource** something managed, a **Node** an enrolled agent bound to
//! one; a **bootstrap token** is good for one registration; the **Node Secret Key** authenticates a Node ever after.
//!
//! Invariants:
//! - **I1** No secret is stored in clear: of tokens there are digests, of Node Secret Keys sealed bytes and digests.
//! - **I2** Of two registrations that race for one token, exactly one commits.
//! - **I3** A refused registration leaves everything as it was, its token included.
//! - **I4** No two Domains' pools overlap, and no two sub-ranges of a Domain; constraints say so, not code.
//! - **I5** A database that does not answer is 503, never 401, 403 or 404.
//! - **I6** All authority starts with the first administrator, whose token is shown to exactly one caller.
//!
//! Needs: `MeshMembership`, `SigningKeys`, `AuditLog`, a `KekRing`, a [`TokenPepper`], and where there is an edge
//! directory a [`DirectoryFlush`]. Offers through [`Identity`]: operations, `Authenticator`, `NodeEntries`,
//! [`NodeLifecycle`], [`NskCustodian`], [`FirstAdministrator`] and sweepers.

mod attempts;
mod bindings;
mod denials;
mod devices;
mod enrolment;
mod erasure;
mod events;
mod face;
mod groups;
mod journal;
mod pages;
mod pepper;
mod principals;
mod scope;
mod sealed;
mod sessions;
mod signin;
mod sweepers;
mod tenancy;
mod text;

pub use bindings::{
    BindingEvent, BindingOwner, BindingRefusal, BindingStatus, Bindings, IdpBinding, IdpHealthProbe, JitPolicy,
};
pub use enrolment::{
    BootstrapToken, BootstrapTokenRefusal, BootstrapTokenText, BootstrapTokens, DirectoryFlush, NodeLifecycle,
    NodeReader, NskCustodian, RegisterRefusal, Registration, TokenKind, TokenState,
};
pub use erasure::{ChainErasure, Departed, DepartureRefusal, Departures, DeparturesNeeds};
pub use events::EventName;
#[doc(hidden)]
pub use face::indexed_statements;
pub use face::{Deps, Identity, IdentityConfig};
pub use groups::{Group, GroupRefusal, GroupSource, Groups, MemberKind, Membership};
pub use journal::{Actor, Journal};
pub use pepper::TokenPepper;
pub use principals::{
    ApiTokenText, ApiTokens, DeliveryFault, FirstAdministrator, GrantRefusal, Grantee, PgAuthenticator, PlatformGrants,
    PlatformRight, Revocation, TokenRefusal,
};
pub use sessions::Sessions;
pub use signin::{ClientSecrets, Secret, SecretFault, SignIns};
pub use sweepers::Sweeper;
pub use tenancy::{
    CidrRefusal, Domain, DomainPatch, DomainRefusal, Domains, FederationKind, Identities, IdentityRefusal, Invitation,
    InvitationAcceptor, InvitationExpirySweeper, InvitationRefusal, InvitationStatus, Invitations, Invitee, NewDomain,
    NewInvitation, NewProject, NewResource, NewServiceIdentity, NodeSummaries, Origin, Project, ProjectPatch,
    ProjectRefusal, Projects, Resource, ResourceRefusal, Resources, ServiceIdentity, StagedObject, StagedTuple,
    TenancyTupleRepair,
};
