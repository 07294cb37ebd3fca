//! What is believed of a token, and why one is refused.

pub(crate) mod claims;
mod id_token;
mod machine;
mod mapping;

use plexsphere_wire::Code;

pub use id_token::{Expected, IdToken, verify_id_token};
pub(crate) use machine::{ExpectedMachine, MACHINE, SVID, judge_machine, judge_svid};
pub use machine::{MachineToken, Svid};
pub use mapping::{ClaimMappings, Groups, MAX_GROUPS};

/// The clock difference that is forgiven.
pub const CLOCK_SKEW: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// The answer held none.
    #[error("there is no token")]
    Missing,
    /// Longer than any we read.
    #[error("the token is too long")]
    Oversized,
    /// No compact JWS with a JSON object inside.
    #[error("the token is malformed")]
    Malformed,
    /// Encrypted, or a token within a token.
    #[error("the token is encrypted or nested")]
    Encrypted,
    /// A header or claim occurs twice.
    #[error("a member of the token occurs twice")]
    DuplicateMember,
    /// `none`, a symmetric algorithm, or another one that is not on the list.
    #[error("the algorithm of the token is not allowed")]
    Algorithm,
    /// It asks for an extension (`crit`) that we do not have.
    #[error("the token needs an extension")]
    Critical,
    /// Its `typ` says that it is for another purpose.
    #[error("the token is of another type")]
    Type,
    /// Its issuer does not have the key it names.
    #[error("the key of the token is unknown")]
    UnknownKey,
    /// The key it names is not for its algorithm, or it names none of several.
    #[error("the key of the token does not fit")]
    UnfitKey,
    /// The signature is wrong.
    #[error("the signature of the token is wrong")]
    Signature,
    /// `iss` is not the issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// `aud` does not hold us.
    #[error("the token is for another audience")]
    Audience,
    /// `azp` is not us, or is missing where it is needed.
    #[error("the token was asked for by another party")]
    AuthorizedParty,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `iat` or `nbf` lies ahead.
    #[error("the token is from the future")]
    FromTheFuture,
    /// `nonce` is not ours.
    #[error("the nonce of the token is another")]
    Nonce,
    /// `sub` is missing, too long, or not the one that was expected.
    #[error("the subject of the token is not acceptable")]
    Subject,
    /// A claim is missing or of the wrong kind.
    #[error("the claim {0} is missing or malformed")]
    Claim(&'static str),
    /// The person was to sign in anew, and did not.
    #[error("the sign-in behind the token is not recent")]
    NotRecent,
}

impl TokenRefusal {
    /// The problem code when the token was an id token.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Nonce => Code::NonceMismatch,
            Self::NotRecent => Code::AssuranceNotMet,
            Self::Missing
            | Self::Oversized
            | Self::Malformed
            | Self::Encrypted
            | Self::DuplicateMember
            | Self::Algorithm
            | Self::Critical
            | Self::Type
            | Self::UnknownKey
            | Self::UnfitKey
            | Self::Signature
            | Self::Issuer
            | Self::Audience
            | Self::AuthorizedParty
            | Self::Expired
            | Self::FromTheFuture
            | Self::Subject
            | Self::Claim(_) => Code::IdTokenInvalid,
        }
    }
}
