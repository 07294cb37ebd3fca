//! Names on the bus: subjects, streams, buckets and headers. Built from typed ids only.

use crate::telemetry::Signal;
use crate::{DomainId, NodeId, ProjectId};

/// The stream of signed envelopes; its sequence is the SSE `id`.
pub const EVENTS_STREAM: &str = "PLEX_EVENTS";
/// Every subject of the event stream.
pub const EVENTS_ALL: &str = "plexsphere.events.v1.>";
/// The key-value bucket of the edge directory.
pub const DIRECTORY_BUCKET: &str = "plexsphere_directory";
/// Request: a Node id as text. Reply: a `NodeEntry` as JSON, or `null`.
pub const DIRECTORY_LOOKUP: &str = "plexsphere.directory.v1.lookup";
/// Request: an `AnnouncementRequest` as JSON. Reply: an envelope, or nothing.
pub const ANNOUNCE: &str = "plexsphere.signing.v1.announce";
/// Between replicas of control: the `HeartbeatVerdicts` of a batch that one of them has written, as JSON.
pub const HEARTBEATS_WRITTEN: &str = "plexsphere.control.v1.heartbeats";
/// Every heartbeat shard.
pub const HEARTBEATS_ALL: &str = "plexsphere.heartbeats.v1.*";
/// The queue group in which control replicas share requests.
pub const CONTROL_QUEUE: &str = "control";
/// The stream by which edges hand audit rows to control.
pub const AUDIT_INTAKE_STREAM: &str = "PLEXSPHERE_AUDIT_INTAKE";
/// The only subject of the audit intake stream.
pub const AUDIT_INTAKE: &str = "plexsphere.audit.v1.intake";
/// The stream of telemetry that no sink would take.
pub const DEAD_STREAM: &str = "PLEXSPHERE_OBS_DEAD";
/// Every subject of the dead-letter stream.
pub const DEAD_ALL: &str = "plexsphere.obs.dead.*.*";
/// Prefix of internal domain events, followed by `<context>.<Event>`.
pub const DOMAIN_EVENTS_PREFIX: &str = "plexsphere.domain.v1";

/// Header: `domain=<uuid>;project=<uuid>;node=<uuid>`, equal to the subject.
pub const HEADER_ORIGIN: &str = "Plexsphere-Origin";
/// Header: the signal's word.
pub const HEADER_SIGNAL: &str = "Plexsphere-Signal";
/// Header: the dedupe key of the batch, equal to `Nats-Msg-Id`.
pub const HEADER_BATCH_ID: &str = "Plexsphere-Batch-Id";
/// Header: how many records the batch holds, decimal.
pub const HEADER_RECORDS: &str = "Plexsphere-Records";
/// Header: RFC 3339, when the agent sent the batch.
pub const HEADER_SENT_AT: &str = "Plexsphere-Sent-At";
/// Header: RFC 3339, just before the batch was published.
pub const HEADER_ACCEPTED_AT: &str = "Plexsphere-Accepted-At";
/// Header: how the payload is encoded, see `telemetry::PayloadFormat`.
pub const HEADER_PAYLOAD: &str = "Plexsphere-Payload";
/// Header of JetStream: the dedupe key of a message.
pub const HEADER_MSG_ID: &str = "Nats-Msg-Id";

/// Subject of events that every Node of a Domain hears.
#[must_use]
pub fn domain_events(domain: DomainId) -> String {
    format!("plexsphere.events.v1.{domain}.all")
}

/// Subject of events for one Node.
#[must_use]
pub fn node_events(domain: DomainId, node: NodeId) -> String {
    format!("plexsphere.events.v1.{domain}.node.{node}")
}

/// Whom an event subject addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventTarget {
    /// Every Node of the Domain.
    Domain,
    /// One Node of the Domain.
    Node(NodeId),
}

/// Reads an event subject back; `None` when it has another form.
#[must_use]
pub fn parse_event_subject(subject: &str) -> Option<(DomainId, EventTarget)> {
    let rest = subject.strip_prefix("plexsphere.events.v1.")?;
    let mut tokens = rest.split('.');
    let domain = tokens.next()?.parse().ok()?;
    let target = match (tokens.next()?, tokens.next(), tokens.next()) {
        ("all", None, None) => EventTarget::Domain,
        ("node", Some(node), None) => EventTarget::Node(node.parse().ok()?),
        _ => return None,
    };
    Some((domain, target))
}

/// Subject of the heartbeat batches of one shard.
#[must_use]
pub fn heartbeats(shard: u16) -> String {
    format!("plexsphere.heartbeats.v1.{shard}")
}

/// Subject of an internal domain event.
#[must_use]
pub fn domain_event(context: &str, event: &str) -> String {
    format!("{DOMAIN_EVENTS_PREFIX}.{context}.{event}")
}

/// The server-resolved place a batch comes from; never read from a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The Domain.
    pub domain: DomainId,
    /// The Project.
    pub project: ProjectId,
    /// The Node.
    pub node: NodeId,
}

impl Origin {
    /// The value of [`HEADER_ORIGIN`].
    #[must_use]
    pub fn header(&self) -> String {
        format!("domain={};project={};node={}", self.domain, self.project, self.node)
    }

    /// Reads [`HEADER_ORIGIN`] back; `None` when it has another form.
    #[must_use]
    pub fn parse_header(value: &str) -> Option<Self> {
        let mut parts = value.split(';');
        let origin = Self {
            domain: parts.next()?.strip_prefix("domain=")?.parse().ok()?,
            project: parts.next()?.strip_prefix("project=")?.parse().ok()?,
            node: parts.next()?.strip_prefix("node=")?.parse().ok()?,
        };
        parts.next().is_none().then_some(origin)
    }
}

/// The buffer stream of a signal.
#[must_use]
pub const fn telemetry_stream(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "PLEXSPHERE_OBS_METRICS",
        Signal::Logs => "PLEXSPHERE_OBS_LOGS",
        Signal::Audit => "PLEXSPHERE_OBS_AUDIT",
    }
}

/// The subject of a batch.
#[must_use]
pub fn telemetry(signal: Signal, origin: &Origin) -> String {
    format!("plexsphere.obs.{}.{}.{}.{}", signal.as_str(), origin.domain, origin.project, origin.node)
}

/// What the buffer stream of a signal subscribes to: exactly three tokens behind the signal.
#[must_use]
pub fn telemetry_all(signal: Signal) -> String {
    format!("plexsphere.obs.{}.*.*.*", signal.as_str())
}

/// Reads a batch's subject back; `None` when it has another form.
#[must_use]
pub fn parse_telemetry(subject: &str) -> Option<(Signal, Origin)> {
    let rest = subject.strip_prefix("plexsphere.obs.")?;
    let mut tokens = rest.split('.');
    let signal = Signal::parse(tokens.next()?)?;
    let origin = Origin {
        domain: tokens.next()?.parse().ok()?,
        project: tokens.next()?.parse().ok()?,
        node: tokens.next()?.parse().ok()?,
    };
    tokens.next().is_none().then_some((signal, origin))
}

/// The dead-letter subject of a consumer; `_` stands for a Domain that cannot be trusted.
#[must_use]
pub fn dead_letter(durable: &str, domain: Option<DomainId>) -> String {
    match domain {
        Some(domain) => format!("plexsphere.obs.dead.{durable}.{domain}"),
        None => format!("plexsphere.obs.dead.{durable}._"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;

    #[test]
    fn subjects_read_back_as_what_they_were_built_from() {
        let now = Timestamp::from_unix_seconds(1_700_000_000);
        let (domain, project, node) = (DomainId::mint(now), ProjectId::mint(now), NodeId::mint(now));
        let origin = Origin { domain, project, node };
        assert_eq!(parse_event_subject(&domain_events(domain)), Some((domain, EventTarget::Domain)));
        assert_eq!(parse_event_subject(&node_events(domain, node)), Some((domain, EventTarget::Node(node))));
        assert_eq!(parse_event_subject("plexsphere.events.v1.x.all"), None);
        assert_eq!(parse_event_subject(&format!("{}.x", domain_events(domain))), None);
        assert_eq!(Origin::parse_header(&origin.header()), Some(origin));
        for signal in Signal::ALL {
            assert_eq!(parse_telemetry(&telemetry(signal, &origin)), Some((signal, origin)));
        }
        assert_eq!(parse_telemetry(&format!("{}.x", telemetry(Signal::Logs, &origin))), None);
    }
}
