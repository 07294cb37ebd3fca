//! Nodes that exist already, one per line of a file.

use std::path::Path;

use plexsphere_wire::NodeId;
use plexsphere_wire::nsk::NskBearer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::Registered;

/// What a Node opens its stream and believes its events with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The Node.
    pub node: NodeId,
    /// Its bearer, without the scheme.
    #[serde(with = "wiped")]
    pub bearer: Zeroizing<String>,
    /// The id of the key that signs its Domain's events.
    pub key_id: String,
    /// That key: standard base64 of 32 bytes.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("node", &self.node).finish_non_exhaustive()
    }
}

impl From<&Registered> for Identity {
    fn from(registered: &Registered) -> Self {
        use base64::Engine as _;
        Self {
            node: registered.node,
            bearer: plexsphere_wire::nsk::render_bearer("plexd", registered.node, &registered.nsk),
            key_id: registered.signing_key_id.clone(),
            key: base64::engine::general_purpose::STANDARD.encode(registered.signing_key.to_bytes()),
        }
    }
}

impl Identity {
    /// Reads a file of lines `<bearer> <signing key id> <signing key>`; blank lines and lines that begin with `#` are
    /// left out.
    ///
    /// # Errors
    /// The number of the first unreadable line, counted from one.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, usize> {
        let mut identities = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            identities.push(Self::parse(line).ok_or(index + 1)?);
        }
        Ok(identities)
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (bearer, key_id, key) = (words.next()?, words.next()?, words.next()?);
        let node = NskBearer::parse(bearer)?.node;
        plexsphere_wire::envelope::parse_public_key(key)?;
        words.next().is_none().then(|| Self {
            node,
            bearer: Zeroizing::new(bearer.to_owned()),
            key_id: key_id.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Writes a file that [`Self::parse_all`] reads; only its owner may read it.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_all(path: &Path, identities: &[Self]) -> std::io::Result<()> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut file = std::io::BufWriter::new(file);
        for identity in identities {
            writeln!(file, "{} {} {}", identity.bearer.as_str(), identity.key_id, identity.key)?;
        }
        file.flush()
    }
}

/// A secret text in a message to a process of our own.
mod wiped {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(deserializer).map(Zeroizing::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_identities_reads_back_and_a_broken_line_is_named() {
        let node: NodeId = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3".parse().unwrap();
        let identity = Identity {
            node,
            bearer: plexsphere_wire::nsk::render_bearer("plexd", node, &[0x2a; 32]),
            key_id: "k-1".to_owned(),
            key: "6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iw=".to_owned(),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nodes");
        Identity::write_all(&path, &[identity.clone(), identity]).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let read = Identity::parse_all(&format!("# Nodes\n\n{text}")).unwrap();
        assert_eq!((read.len(), read[1].node, read[1].key_id.as_str()), (2, node, "k-1"));
        assert_eq!(Identity::parse_all(&format!("{text}nonsense")).unwrap_err(), 3);
    }
}
