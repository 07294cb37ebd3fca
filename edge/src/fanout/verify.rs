//! Believes a message of the event stream, or says why not. Once per message and edge.

use bytes::Bytes;
use plexsphere_wire::envelope::{Envelope, EnvelopeError};
use plexsphere_wire::subjects::parse_event_subject;
use plexsphere_wire::{DomainId, sse};

use super::hub::EventFrame;
use crate::directory::Directory;

/// Why a message is not forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Its subject is none of ours.
    #[error("subject")]
    Subject,
    /// It is no envelope.
    #[error("envelope: {0}")]
    Envelope(EnvelopeError),
    /// It speaks for another Domain than its subject names.
    #[error("scope")]
    Scope,
    /// Its message id is not the envelope's.
    #[error("message id")]
    MessageId,
    /// Its key is none of the Domain's.
    #[error("unknown key")]
    Key,
}

impl Rejection {
    /// The reason's word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Envelope(EnvelopeError::Signature) => "signature",
            Self::Envelope(EnvelopeError::UnknownType) => "type",
            Self::Envelope(_) => "form",
            Self::Scope => "scope",
            Self::MessageId => "message_id",
            Self::Key => "key",
        }
    }
}

/// Verifies a message and encodes its frame.
///
/// # Errors
/// [`Rejection`].
pub fn verify(
    directory: &Directory,
    subject: &str,
    message_id: Option<&str>,
    sequence: u64,
    wire: &[u8],
) -> Result<EventFrame, Rejection> {
    let (domain, target) = parse_event_subject(subject).ok_or(Rejection::Subject)?;
    let envelope = Envelope::parse(wire).map_err(Rejection::Envelope)?;
    let unsigned = &envelope.unsigned;
    if unsigned.domain != domain {
        return Err(Rejection::Scope);
    }
    if message_id.is_some_and(|id| id != unsigned.id.to_string()) {
        return Err(Rejection::MessageId);
    }
    let record = directory.domain(domain).ok_or(Rejection::Key)?;
    let key = record.key(&unsigned.key_id).ok_or(Rejection::Key)?;
    envelope.verify(key).map_err(Rejection::Envelope)?;
    let bytes = Bytes::from(sse::frame(sequence, unsigned.event.as_str(), wire));
    Ok(EventFrame { sequence, domain, target, issued_at: unsigned.issued_at, bytes })
}

/// Checks the form of an announcement made for one connection. The Node pins the key that signed it, which may be older
/// than any that the directory lists; a key that is listed is verified.
///
/// # Errors
/// [`Rejection`].
pub fn verify_announcement(directory: &Directory, domain: DomainId, wire: &[u8]) -> Result<&'static str, Rejection> {
    let envelope = Envelope::parse(wire).map_err(Rejection::Envelope)?;
    if envelope.unsigned.domain != domain {
        return Err(Rejection::Scope);
    }
    if let Some(record) = directory.domain(domain)
        && let Some(key) = record.key(&envelope.unsigned.key_id)
    {
        envelope.verify(key).map_err(Rejection::Envelope)?;
    }
    Ok(envelope.unsigned.event.as_str())
}
