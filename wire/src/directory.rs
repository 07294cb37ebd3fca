//! The edge directory: what an edge must know of every Node and Domain, projected by control into a key-value bucket.

use serde::{Deserialize, Serialize};

use crate::nsk::CredentialDigest;
use crate::{DomainId, NodeId, ProjectId, ResourceId, Timestamp};

/// The bucket key of a Node.
#[must_use]
pub fn node_key(node: NodeId) -> String {
    format!("node.{node}")
}

/// The bucket key of a Domain.
#[must_use]
pub fn domain_key(domain: DomainId) -> String {
    format!("domain.{domain}")
}

/// What a bucket key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DirectoryKey {
    /// A Node.
    Node(NodeId),
    /// A Domain.
    Domain(DomainId),
}

impl DirectoryKey {
    /// Reads a bucket key; `None` when it has another form.
    #[must_use]
    pub fn parse(key: &str) -> Option<Self> {
        match key.split_once('.')? {
            ("node", id) => id.parse().ok().map(Self::Node),
            ("domain", id) => id.parse().ok().map(Self::Domain),
            _ => None,
        }
    }
}

/// Whether a key still authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CredentialState {
    /// Authenticates.
    Live,
    /// Recognised and refused with `nsk_revoked`.
    Revoked,
}

/// One key of a Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// By which it is recognised.
    pub digest: CredentialDigest,
    /// Whether it still authenticates.
    pub state: CredentialState,
}

/// What an edge knows of one Node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// The Node.
    pub node: NodeId,
    /// Its Domain.
    pub domain: DomainId,
    /// Its Project.
    pub project: ProjectId,
    /// Its Resource.
    pub resource: ResourceId,
    /// Its keys: at most two live ones, and revoked ones for 30 days.
    pub credentials: Vec<Credential>,
    /// Whether the Node has ended; its keys then read as revoked.
    pub deregistered: bool,
    /// The kid of the signing key that the Node received at registration.
    pub pinned_kid: String,
}

/// How a credential was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialVerdict {
    /// The key is the Node's and lives.
    Live,
    /// The key is the Node's and was revoked, or the Node has ended.
    Revoked,
    /// The key is none of the Node's.
    Unknown,
}

impl NodeEntry {
    /// Judges a presented key. Every stored key is compared, in constant time each.
    #[must_use]
    pub fn judge(&self, presented: &CredentialDigest) -> CredentialVerdict {
        let mut verdict = CredentialVerdict::Unknown;
        for credential in &self.credentials {
            if credential.digest.matches(presented) {
                verdict = match credential.state {
                    CredentialState::Live if !self.deregistered => CredentialVerdict::Live,
                    CredentialState::Live | CredentialState::Revoked => CredentialVerdict::Revoked,
                };
            }
        }
        verdict
    }
}

/// A public signing key of a Domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainKey {
    /// Its name on the wire.
    pub kid: String,
    /// Its place in the Domain's key line, from 1.
    pub version: i32,
    /// The raw 32 bytes, standard-padded base64.
    pub public_key: String,
    /// Until when it is believed; `None` for the current key.
    pub believed_until: Option<Timestamp>,
}

/// What an edge knows of one Domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainEntry {
    /// The Domain.
    pub domain: DomainId,
    /// The keys under which its envelopes may be signed: current and previous.
    pub keys: Vec<DomainKey>,
    /// The kid under which the relay signs now.
    pub announced_kid: String,
    /// The stream sequence of the last `signing_key_rotated`, 0 if there was none.
    pub announced_seq: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: CredentialState, deregistered: bool) -> (NodeEntry, CredentialDigest) {
        let now = Timestamp::from_unix_seconds(1_700_000_000);
        let node = NodeId::mint(now);
        let digest = CredentialDigest::of(node, &[7; 32]);
        let entry = NodeEntry {
            node,
            domain: DomainId::mint(now),
            project: ProjectId::mint(now),
            resource: ResourceId::mint(now),
            credentials: vec![Credential { digest, state }],
            deregistered,
            pinned_kid: "k-1".into(),
        };
        (entry, digest)
    }

    #[test]
    fn a_key_is_live_revoked_or_unknown_and_an_ended_node_revokes_all() {
        let (live, digest) = entry(CredentialState::Live, false);
        assert_eq!(live.judge(&digest), CredentialVerdict::Live);
        assert_eq!(live.judge(&CredentialDigest::of(live.node, &[8; 32])), CredentialVerdict::Unknown);
        let (revoked, digest) = entry(CredentialState::Revoked, false);
        assert_eq!(revoked.judge(&digest), CredentialVerdict::Revoked);
        let (ended, digest) = entry(CredentialState::Live, true);
        assert_eq!(ended.judge(&digest), CredentialVerdict::Revoked);
    }

    #[test]
    fn keys_of_the_bucket_read_back() {
        let (entry, _) = entry(CredentialState::Live, false);
        assert_eq!(DirectoryKey::parse(&node_key(entry.node)), Some(DirectoryKey::Node(entry.node)));
        assert_eq!(DirectoryKey::parse(&domain_key(entry.domain)), Some(DirectoryKey::Domain(entry.domain)));
        assert_eq!(DirectoryKey::parse("node.x"), None);
        let json = serde_json::to_vec(&entry).unwrap();
        assert_eq!(serde_json::from_slice::<NodeEntry>(&json).unwrap(), entry);
    }
}
