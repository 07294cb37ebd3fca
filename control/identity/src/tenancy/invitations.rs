//! Invitations: staged promises of rights for one external subject, kept at its sign-in.

mod accept;
mod http;
mod model;
mod service;
mod store;
mod sweeper;

pub use accept::{InvitationAcceptor, Invitee};
pub use model::{Invitation, InvitationRefusal, InvitationStatus, NewInvitation, StagedObject, StagedTuple};
pub use service::Invitations;
pub use sweeper::InvitationExpirySweeper;

pub(crate) use http::operations;
pub(crate) use service::Needs as InvitationNeeds;
pub(crate) use store::{PAGES, STATEMENTS};
#[cfg(test)]
mod tests;
