//! How one Domain's rows become envelopes: which are merged, which must wait, in which order. Pure.

use std::collections::HashSet;
use std::time::Duration;

use plexsphere_wire::envelope::EventType;
use plexsphere_wire::{EnvelopeId, NodeId, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The most peers that one envelope carries.
const MAX_PEERS: usize = 100;

/// A row of the outbox that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) context: String,
    pub(super) name: String,
    pub(super) wire_type: Option<String>,
    pub(super) target: Option<NodeId>,
    pub(super) payload: String,
    pub(super) created_at: Timestamp,
    /// The envelope it was sealed into, and its payload.
    pub(super) sealed: Option<(EnvelopeId, String)>,
}

/// An envelope to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Draft {
    /// Present once sealed.
    pub(super) id: Option<EnvelopeId>,
    pub(super) event: EventType,
    pub(super) target: Option<NodeId>,
    pub(super) payload: String,
    pub(super) rows: Vec<Uuid>,
    /// When the oldest of its rows was written.
    pub(super) created_at: Timestamp,
}

/// What is published at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// For the internal bus.
    Internal(Row),
    /// For the Nodes.
    Envelope(Draft),
    /// Of a type outside the taxonomy; can only be parked.
    Unknown(Row),
}

/// The steps of one Domain, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// How long what is not among the steps waits for company.
    pub(super) held_for: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersPayload<'a> {
    #[serde(borrow)]
    peers: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct PeerName {
    node_id: String,
}

/// The peers of broadcasts that become one envelope.
struct Peers {
    entries: Vec<String>,
    nodes: HashSet<String>,
}

/// A step while rows may still join it.
struct Group {
    step: Step,
    peers: Option<Peers>,
}

/// Plans rows that stand in commit order. `rest` says how long a type still rests after its last broadcast.
pub(super) fn plan(rows: Vec<Row>, rest: impl Fn(EventType) -> Option<Duration>) -> Plan {
    let mut groups: Vec<Group> = Vec::new();
    for row in rows {
        place(&mut groups, row);
    }
    let mut plan = Plan::default();
    for Group { mut step, peers } in groups {
        if let (Step::Envelope(draft), Some(peers)) = (&mut step, peers) {
            if let Some(wait) = rest(draft.event).filter(|_| peers.entries.len() < MAX_PEERS) {
                plan.held_for = Some(wait);
                break;
            }
            draft.payload = format!(r#"{{"peers":[{}]}}"#, peers.entries.join(","));
        }
        plan.steps.push(step);
    }
    plan
}

fn place(groups: &mut Vec<Group>, row: Row) {
    let Some(word) = &row.wire_type else {
        groups.push(Group { step: Step::Internal(row), peers: None });
        return;
    };
    let Some(event) = EventType::parse(word) else {
        groups.push(Group { step: Step::Unknown(row), peers: None });
        return;
    };
    if let Some((id, payload)) = row.sealed {
        let same = groups.iter_mut().find_map(|group| match &mut group.step {
            Step::Envelope(draft) if draft.id == Some(id) => Some(draft),
            _ => None,
        });
        if let Some(draft) = same {
            draft.rows.push(row.id);
        } else {
            let draft = Draft {
                id: Some(id),
                event,
                target: row.target,
                payload,
                rows: vec![row.id],
                created_at: row.created_at,
            };
            groups.push(Group { step: Step::Envelope(draft), peers: None });
        }
        return;
    }
    let peers = peers_of(&row, event);
    if let Some(peers) = &peers
        && let Some(home) = home_of(groups, event, peers)
    {
        if let (Step::Envelope(draft), Some(own)) = (&mut home.step, &mut home.peers) {
            draft.rows.push(row.id);
            own.entries.extend(peers.entries.iter().cloned());
            own.nodes.extend(peers.nodes.iter().cloned());
        }
        return;
    }
    let draft = Draft {
        id: None,
        event,
        target: row.target,
        payload: row.payload,
        rows: vec![row.id],
        created_at: row.created_at,
    };
    groups.push(Group { step: Step::Envelope(draft), peers });
}

/// The group that a broadcast may join. It may pass over other broadcasts that concern other Nodes, and over nothing
/// else: what a Node hears about another one keeps its order.
fn home_of<'a>(groups: &'a mut [Group], event: EventType, joining: &Peers) -> Option<&'a mut Group> {
    for group in groups.iter_mut().rev() {
        let peers = group.peers.as_ref()?;
        let Step::Envelope(draft) = &group.step else { return None };
        if draft.event == event {
            return (peers.entries.len() + joining.entries.len() <= MAX_PEERS).then_some(group);
        }
        if !peers.nodes.is_disjoint(&joining.nodes) {
            return None;
        }
    }
    None
}

/// The peers of a row that may be merged: a Domain broadcast whose payload is exactly `{"peers":[…]}` with named Nodes.
fn peers_of(row: &Row, event: EventType) -> Option<Peers> {
    if row.target.is_some() || !event.carries_peers() {
        return None;
    }
    let payload: PeersPayload<'_> = serde_json::from_str(&row.payload).ok()?;
    let mut peers = Peers { entries: Vec::with_capacity(payload.peers.len()), nodes: HashSet::new() };
    for entry in payload.peers {
        let name: PeerName = serde_json::from_str(entry.get()).ok()?;
        peers.entries.push(entry.get().to_owned());
        peers.nodes.insert(name.node_id);
    }
    Some(peers)
}

#[cfg(test)]
mod tests;
