//! Why a registration is refused.

use plexsphere_kernel::Fault;
use plexsphere_wire::{Code, Problem};

use crate::attempts::MayBeFault;
use crate::text;

/// Why a registration is refused, in the order in which it is judged. Every refusal leaves the token as it was.
#[derive(Debug, thiserror::Error)]
pub enum RegisterRefusal {
    /// A member is empty, too long, or no id.
    #[error("`{0}` is missing, too long or not acceptable")]
    Invalid(&'static str),
    /// Not the canonical base64 of 32 bytes that are not all zero.
    #[error("`public_key` is not the canonical base64 of a 32-byte key")]
    PublicKeyInvalid,
    /// No token of ours: malformed and unknown read alike.
    #[error("the bootstrap token is not valid")]
    TokenInvalid,
    /// The token is for another Project.
    #[error("the bootstrap token is for another project")]
    ProjectMismatch,
    /// The token was redeemed.
    #[error("the bootstrap token was consumed")]
    TokenConsumed,
    /// The token is past its end.
    #[error("the bootstrap token has expired")]
    TokenExpired,
    /// The token was revoked.
    #[error("the bootstrap token was revoked")]
    TokenRevoked,
    /// The Project is gone.
    #[error("there is no such project")]
    ProjectNotFound,
    /// The handle names no Resource of the Project.
    #[error("there is no such resource in the project")]
    ResourceNotFound,
    /// A bridge needs a bridge token, and nothing else takes one.
    #[error("the bootstrap token is for another kind of resource")]
    KindMismatch,
    /// No free address in the pool.
    #[error("the domain has no free mesh address")]
    PoolExhausted,
    /// No free address in the sub-range.
    #[error("the project has no free mesh address")]
    SubrangeExhausted,
    /// Too many registrations at once.
    #[error("too many registrations at once; try again")]
    AllocatorContention,
    /// The Domain's signing key cannot be read.
    #[error("the signing key is not available; try again")]
    SigningUnavailable,
    /// The nonce was spent in this Project.
    #[error("the nonce was used before")]
    NonceCollision,
    /// The public key is live elsewhere in the Domain.
    #[error("the public key is in use by another node")]
    PublicKeyInUse,
    /// Something broke.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl RegisterRefusal {
    /// The code on the wire.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidRegisterRequest,
            Self::PublicKeyInvalid => Code::PublicKeyInvalid,
            Self::TokenInvalid => Code::TokenInvalid,
            Self::ProjectMismatch => Code::ProjectMismatch,
            Self::TokenConsumed => Code::TokenConsumed,
            Self::TokenExpired => Code::TokenExpired,
            Self::TokenRevoked => Code::TokenRevoked,
            Self::ProjectNotFound => Code::ProjectNotFound,
            Self::ResourceNotFound => Code::ResourceNotFound,
            Self::KindMismatch => Code::KindMismatch,
            Self::PoolExhausted => Code::PoolExhausted,
            Self::SubrangeExhausted => Code::SubrangeExhausted,
            Self::AllocatorContention => Code::AllocatorContention,
            Self::SigningUnavailable => Code::SigningUnavailable,
            Self::NonceCollision => Code::NonceCollision,
            Self::PublicKeyInUse => Code::PublicKeyInUse,
            Self::Fault(_) => Code::Internal,
        }
    }
}

impl MayBeFault for RegisterRefusal {
    fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Fault(fault) => Some(fault),
            _ => None,
        }
    }
}

impl From<RegisterRefusal> for Problem {
    fn from(refusal: RegisterRefusal) -> Self {
        match refusal {
            RegisterRefusal::Fault(fault) => fault.into(),
            other => Self::new(other.code(), text::sentence(&other)),
        }
    }
}
