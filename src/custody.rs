//! The keys that a control process is given: a root, from which peppers and cursor keys are derived, and two rings.

use std::path::Path;

use hkdf::Hkdf;
use plexsphere_kernel::KekRing;
use rand::RngCore as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::CustodyConfig;

/// What control needs to open what it has sealed.
pub(crate) struct Keys {
    root: Zeroizing<[u8; 32]>,
    /// Seals Node Secret Keys and mesh seeds.
    pub(crate) nsk_ring: KekRing,
    /// Seals signing keys.
    pub(crate) signing_ring: KekRing,
}

impl Keys {
    /// Reads the three files.
    ///
    /// # Errors
    /// One sentence naming the key of the configuration.
    pub(crate) fn load(config: &CustodyConfig) -> Result<Self, String> {
        let root = read("custody.root_key_file", config.root_key_file.as_deref())?;
        let mut key = Zeroizing::new([0u8; 32]);
        let bytes = Zeroizing::new(
            data_encoding::HEXLOWER_PERMISSIVE
                .decode(root.trim().as_bytes())
                .map_err(|_| "`custody.root_key_file` must hold 64 hex digits".to_owned())?,
        );
        if bytes.len() != key.len() {
            return Err("`custody.root_key_file` must hold 64 hex digits".to_owned());
        }
        key.copy_from_slice(&bytes);
        Ok(Self {
            root: key,
            nsk_ring: ring("custody.nsk_ring_file", config.nsk_ring_file.as_deref())?,
            signing_ring: ring("custody.signing_ring_file", config.signing_ring_file.as_deref())?,
        })
    }

    /// The key for one purpose (HKDF-SHA256, RFC 5869).
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0u8; 32]);
        let info = format!("plexsphere/{purpose}/v1");
        // Only a length above 8,160 bytes can fail.
        let _ = Hkdf::<Sha256>::new(None, self.root.as_slice()).expand(info.as_bytes(), key.as_mut_slice());
        key
    }
}

/// Makes the files that are not there, readable by their owner only.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn create_missing(folder: &Path) -> std::io::Result<CustodyConfig> {
    let mut root = Zeroizing::new([0u8; 32]);
    rand::rng().fill_bytes(root.as_mut_slice());
    let root = Zeroizing::new(data_encoding::HEXLOWER.encode(root.as_slice()));
    let config = CustodyConfig {
        root_key_file: Some(folder.join("root.key")),
        nsk_ring_file: Some(folder.join("nsk.ring")),
        signing_ring_file: Some(folder.join("signing.ring")),
    };
    create(config.root_key_file.as_deref(), &root)?;
    create(config.nsk_ring_file.as_deref(), &KekRing::generate())?;
    create(config.signing_ring_file.as_deref(), &KekRing::generate())?;
    Ok(config)
}

/// Keeps a secret in a file that only its owner can read, unless the file is there already.
///
/// # Errors
/// The I/O error.
pub(crate) fn create(path: Option<&Path>, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let Some(path) = path else { return Ok(()) };
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn read(key: &str, path: Option<&Path>) -> Result<Zeroizing<String>, String> {
    let path = path.ok_or_else(|| format!("`{key}` must be set for this role"))?;
    std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| format!("`{key}` cannot be read: {error}"))
}

fn ring(key: &str, path: Option<&Path>) -> Result<KekRing, String> {
    KekRing::parse(&read(key, path)?).map_err(|error| format!("`{key}` is not usable: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_finds_its_keys_and_each_purpose_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let config = create_missing(folder.path()).unwrap();
        let first = Keys::load(&config).unwrap();
        create_missing(folder.path()).unwrap();
        let second = Keys::load(&config).unwrap();
        assert_eq!(first.derive("cursor"), second.derive("cursor"));
        assert_ne!(first.derive("cursor"), first.derive("token"));
    }
}
