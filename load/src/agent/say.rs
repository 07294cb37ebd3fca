//! What an agent tells, one line each.

use std::fmt;

use plexsphere_wire::{NodeId, Timestamp};
use serde::Serialize;

use crate::api::ApiError;
use crate::events::{Order, StreamEvent};

/// One thing that happened to an agent.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Happening {
    /// It joined.
    Registered {
        /// The Node.
        node: NodeId,
        /// Its mesh address.
        mesh_ip: String,
        /// The Domain's range.
        domain_mesh_cidr: String,
        /// Peers that were there already.
        peers: usize,
    },
    /// It goes on as the Node that it was.
    Resumed {
        /// The Node.
        node: NodeId,
        /// Its mesh address.
        mesh_ip: String,
    },
    /// A heartbeat was taken.
    Heartbeat {
        /// When.
        accepted_at: Timestamp,
        /// Whether a pull was asked for.
        reconcile: bool,
        /// Whether a key rotation waits.
        rotate_keys: bool,
    },
    /// The state was pulled.
    State {
        /// Peers in the snapshot.
        peers: usize,
        /// Whether a policy applies.
        policy: bool,
        /// Size of the snapshot.
        bytes: usize,
    },
    /// The event stream is open.
    StreamOpened {
        /// The cursor that was sent.
        resumed_from: Option<u64>,
    },
    /// The event stream ended; it is tried again.
    StreamInterrupted {
        /// Why.
        reason: String,
        /// Milliseconds until the next attempt.
        wait_millis: u128,
    },
    /// The platform ended event delivery, or refused the cursor.
    StreamRefused {
        /// Why.
        reason: String,
    },
    /// A believed event.
    Event {
        /// Its sequence.
        sequence: Option<u64>,
        /// Its id.
        id: String,
        /// Its type.
        event: &'static str,
        /// Milliseconds since it was signed; signing times are whole seconds.
        age_millis: u128,
        /// False when its sequence is not above all before.
        in_order: bool,
    },
    /// An event that is not believed.
    EventDistrusted {
        /// Its sequence.
        sequence: Option<u64>,
        /// Why.
        reason: String,
    },
    /// A batch is durable.
    Sent {
        /// Which signal.
        signal: &'static str,
        /// Records sent.
        records: usize,
        /// Records that the platform counted.
        counted: Option<u64>,
        /// Size of the body as sent.
        bytes: usize,
        /// How it was compressed.
        encoding: &'static str,
        /// Attempts it took.
        attempts: u32,
        /// Milliseconds from due to durable.
        millis: u128,
    },
    /// A batch was not accepted.
    Refused {
        /// Which signal.
        signal: &'static str,
        /// Records in it.
        records: usize,
        /// The problem code, or what went wrong on the way.
        code: String,
        /// `kept`, `halved` or `dropped`.
        then: &'static str,
    },
    /// The mesh key was replaced.
    KeyRotated {
        /// The rotation; absent when the platform had the key already.
        rotation_id: Option<String>,
    },
    /// Something else failed.
    Fault {
        /// Where.
        at: String,
        /// Why.
        reason: String,
    },
    /// It stopped because it was told to.
    Stopped,
}

impl Happening {
    pub(super) fn failed(at: &str, error: &ApiError) -> Self {
        Self::Fault { at: at.to_owned(), reason: error.to_string() }
    }

    /// Counts what a snapshot holds; a snapshot that is no JSON object is a fault.
    pub(super) fn state(snapshot: &[u8]) -> Self {
        let value = serde_json::from_slice::<serde_json::Value>(snapshot).ok();
        let peers = value.as_ref().and_then(|value| value.get("peers")?.as_array().map(Vec::len));
        match (value, peers) {
            (Some(value), Some(peers)) => {
                let policy = value.get("policy").is_some_and(|policy| !policy.is_null());
                Self::State { peers, policy, bytes: snapshot.len() }
            }
            _ => Self::Fault { at: "state".to_owned(), reason: "the snapshot has no list of peers".to_owned() },
        }
    }

    /// `None` for a comment, which is no news.
    pub(super) fn of_stream(event: StreamEvent) -> Option<Self> {
        Some(match event {
            StreamEvent::Comment => return None,
            StreamEvent::Connected { resumed_from } => Self::StreamOpened { resumed_from },
            StreamEvent::Event { sequence, envelope, order } => Self::Event {
                sequence,
                id: envelope.unsigned.id.to_string(),
                event: envelope.unsigned.event.as_str(),
                age_millis: crate::clock::now().since(envelope.unsigned.issued_at).as_millis(),
                in_order: order == Order::Next,
            },
            StreamEvent::Distrusted { sequence, reason } => {
                Self::EventDistrusted { sequence, reason: reason.to_string() }
            }
            StreamEvent::CursorRefused => {
                Self::StreamRefused { reason: "the cursor was refused; starting at the end".to_owned() }
            }
            StreamEvent::Interrupted { reason, wait } => {
                Self::StreamInterrupted { reason, wait_millis: wait.as_millis() }
            }
            StreamEvent::Ended { reason } => Self::StreamRefused { reason },
        })
    }
}

/// One line of text: the word, then `name=value` pairs as in the JSON form.
impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = serde_json::to_value(self).map_err(|_| fmt::Error)?;
        let members = value.as_object().ok_or(fmt::Error)?;
        f.write_str(members.get("what").and_then(serde_json::Value::as_str).unwrap_or("?"))?;
        for (name, value) in members.iter().filter(|(name, value)| *name != "what" && !value.is_null()) {
            match value.as_str() {
                Some(text) if text.contains(char::is_whitespace) => write!(f, " {name}={text:?}")?,
                Some(text) => write!(f, " {name}={text}")?,
                None => write!(f, " {name}={value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_happening_is_one_line_in_either_form() {
        let happening = Happening::Refused { signal: "logs", records: 3, code: "http_502".into(), then: "kept" };
        let json = serde_json::to_string(&happening).unwrap();
        assert_eq!(json, r#"{"what":"refused","signal":"logs","records":3,"code":"http_502","then":"kept"}"#);
        assert_eq!(happening.to_string(), "refused code=http_502 records=3 signal=logs then=kept");
        let fault = Happening::Fault { at: "state".into(), reason: "two\nlines".into() };
        assert_eq!(fault.to_string(), r#"fault at=state reason="two\nlines""#);
    }

    #[test]
    fn a_snapshot_is_counted_and_anything_else_is_a_fault() {
        let snapshot = br#"{"peers":[{},{}],"policy":null}"#;
        assert_eq!(Happening::state(snapshot), Happening::State { peers: 2, policy: false, bytes: snapshot.len() });
        assert!(matches!(Happening::state(b"[]"), Happening::Fault { .. }));
    }
}
