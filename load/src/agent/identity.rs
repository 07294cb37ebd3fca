//! What a Node keeps across restarts: its id, its key and the signing key that it pinned.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plexsphere_wire::NodeId;
use plexsphere_wire::envelope::parse_public_key;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::api::Registered;

/// The state folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file system.
    #[error("state folder {0}")]
    Io(PathBuf, #[source] io::Error),
    /// The file holds no identity.
    #[error("{0} holds no identity")]
    Unreadable(PathBuf),
}

/// A folder that only its owner may read.
#[derive(Clone, Debug)]
pub struct StateDir {
    file: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    node_id: NodeId,
    mesh_ip: String,
    domain_mesh_cidr: String,
    signing_public_key: String,
    signing_key_id: String,
    nsk: String,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.nsk.zeroize();
    }
}

impl StateDir {
    /// Creates the folder when it is not there.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn open(folder: PathBuf) -> Result<Self, IdentityError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| IdentityError::Io(folder.clone(), error))?;
        Ok(Self { file: folder.join("identity.json") })
    }

    /// The kept identity, if there is one.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(&self) -> Result<Option<Registered>, IdentityError> {
        let text = match fs::read(&self.file) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IdentityError::Io(self.file.clone(), error)),
        };
        let unreadable = || IdentityError::Unreadable(self.file.clone());
        let kept: Kept = serde_json::from_slice(&text).map_err(|_| unreadable())?;
        let key = Zeroizing::new(STANDARD.decode(&kept.nsk).map_err(|_| unreadable())?);
        let nsk = Zeroizing::new(<[u8; 32]>::try_from(key.as_slice()).map_err(|_| unreadable())?);
        Ok(Some(Registered {
            node: kept.node_id,
            mesh_ip: kept.mesh_ip.clone(),
            domain_mesh_cidr: kept.domain_mesh_cidr.clone(),
            signing_key: parse_public_key(&kept.signing_public_key).ok_or_else(unreadable)?,
            signing_key_id: kept.signing_key_id.clone(),
            nsk,
            peers: 0,
        }))
    }

    /// Keeps an identity: written beside, then renamed, so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn save(&self, registered: &Registered) -> Result<(), IdentityError> {
        let kept = Kept {
            node_id: registered.node,
            mesh_ip: registered.mesh_ip.clone(),
            domain_mesh_cidr: registered.domain_mesh_cidr.clone(),
            signing_public_key: STANDARD.encode(registered.signing_key.to_bytes()),
            signing_key_id: registered.signing_key_id.clone(),
            nsk: STANDARD.encode(*registered.nsk),
        };
        let text = Zeroizing::new(serde_json::to_vec_pretty(&kept).unwrap_or_default());
        let beside = self.file.with_extension("new");
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &self.file)
        };
        write().map_err(|error| IdentityError::Io(self.file.clone(), error))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_identity_is_kept_for_its_owner_only_and_comes_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path().join("state")).unwrap();
        assert!(state.load().unwrap().is_none());
        let registered = Registered {
            node: NodeId::from_bytes([7; 16]).unwrap(),
            mesh_ip: "100.64.0.1".into(),
            domain_mesh_cidr: "100.64.0.0/10".into(),
            signing_key: ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key(),
            signing_key_id: "k-1".into(),
            nsk: Zeroizing::new([0x2a; 32]),
            peers: 3,
        };
        state.save(&registered).unwrap();
        let kept = state.load().unwrap().unwrap();
        assert_eq!((kept.node, kept.nsk, kept.signing_key), (registered.node, registered.nsk, registered.signing_key));
        let mode = fs::metadata(&state.file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&state.file, "{}").unwrap();
        assert!(matches!(state.load(), Err(IdentityError::Unreadable(_))));
    }
}
