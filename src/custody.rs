//! The keys that a control process is given: a root, from which peppers and cursor keys are derived, and two rings.

use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use plexsphere_kernel::KekRing;
use rand::RngCore as _;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::config::{CustodyConfig, OpenBaoConfig};

/// How a text begins that OpenBao's transit engine has made.
const SEALED_PREFIX: &str = "vault:v";

/// What control needs to open what it has sealed.
pub(crate) struct Keys {
    root: Zeroizing<[u8; 32]>,
    /// Seals Node Secret Keys and mesh seeds.
    pub(crate) nsk_ring: KekRing,
    /// Seals signing keys.
    pub(crate) signing_ring: KekRing,
}

impl Keys {
    /// Reads the three texts, and has OpenBao decrypt those that it made, in one call. From here on the process leaves no
    /// core dump.
    ///
    /// # Errors
    /// One sentence naming the key of the configuration.
    pub(crate) async fn load(config: &CustodyConfig, openbao: &OpenBaoConfig) -> Result<Self, String> {
        forbid_dumps()?;
        let [root, nsk, signing] = Source::all(config);
        let mut texts = [root.read()?, nsk.read()?, signing.read()?];
        decrypt(&mut texts, &config.transit_key, openbao).await?;
        let [root_text, nsk_text, signing_text] = &texts;
        let (nsk_ring, signing_ring) = (nsk.ring(nsk_text)?, signing.ring(signing_text)?);
        if nsk_ring.shares_a_key_with(&signing_ring) {
            return Err("the rings of Node Secret Keys and of signing keys must not share a key".to_owned());
        }
        Ok(Self { root: root.root(root_text)?, nsk_ring, signing_ring })
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
        ..CustodyConfig::default()
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

/// Keeps what this process holds in memory out of core dumps, and from other processes of the same user.
fn forbid_dumps() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    // SAFETY: prctl with integers touches no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(format!("core dumps cannot be forbidden: {}", std::io::Error::last_os_error()));
    }
    Ok(())
}

/// Where one of the texts comes from.
struct Source<'c> {
    /// The file's key in the configuration, without `_file`.
    name: &'static str,
    file: Option<&'c Path>,
    variable: Option<&'c str>,
}

impl<'c> Source<'c> {
    fn all(config: &'c CustodyConfig) -> [Self; 3] {
        let of = |name, file: &'c Option<PathBuf>, variable: &'c Option<String>| Self {
            name,
            file: file.as_deref(),
            variable: variable.as_deref(),
        };
        [
            of("custody.root_key", &config.root_key_file, &config.root_key_variable),
            of("custody.nsk_ring", &config.nsk_ring_file, &config.nsk_ring_variable),
            of("custody.signing_ring", &config.signing_ring_file, &config.signing_ring_variable),
        ]
    }

    fn read(&self) -> Result<Zeroizing<String>, String> {
        let name = self.name;
        match (self.file, self.variable) {
            (Some(path), None) => std::fs::read_to_string(path)
                .map(Zeroizing::new)
                .map_err(|error| format!("`{name}_file` cannot be read: {error}")),
            (None, Some(variable)) => std::env::var(variable)
                .map(Zeroizing::new)
                .map_err(|_| format!("the variable that `{name}_variable` names is not set")),
            (None, None) => Err(format!("`{name}_file` or `{name}_variable` must be set for this role")),
            (Some(_), Some(_)) => Err(format!("`{name}_file` and `{name}_variable` must not both be set")),
        }
    }

    fn root(&self, text: &str) -> Result<Zeroizing<[u8; 32]>, String> {
        let digits = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).map(Zeroizing::new);
        let key = digits.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        key.map(Zeroizing::new).ok_or_else(|| format!("`{}` must hold 64 hex digits", self.name))
    }

    fn ring(&self, text: &str) -> Result<KekRing, String> {
        KekRing::parse(text).map_err(|error| format!("`{}` is not usable: {error}", self.name))
    }
}

/// Puts what OpenBao decrypts in the place of the texts that it made.
async fn decrypt(texts: &mut [Zeroizing<String>], key: &str, openbao: &OpenBaoConfig) -> Result<(), String> {
    let sealed: Vec<&mut Zeroizing<String>> =
        texts.iter_mut().filter(|text| text.trim_start().starts_with(SEALED_PREFIX)).collect();
    if sealed.is_empty() {
        return Ok(());
    }
    let transit = crate::openbao::transit(openbao)?
        .ok_or("a key of `custody` is sealed by openbao: `openbao.url` and `openbao.token_file` must be set")?;
    let ciphertexts: Vec<&str> = sealed.iter().map(|text| text.trim()).collect();
    let opened = transit.decrypt(key, &ciphertexts).await;
    let opened = opened.map_err(|fault| format!("the keys of `custody` cannot be decrypted: {fault}"))?;
    for (text, opened) in sealed.into_iter().zip(opened) {
        let opened =
            std::str::from_utf8(&opened).map_err(|_| "openbao decrypted a key of `custody` that is no text")?;
        *text = Zeroizing::new(opened.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;
    use plexsphere_kernel::custody::openbao::OpenBao;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_second_start_finds_its_keys_and_each_purpose_has_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let config = create_missing(folder.path()).unwrap();
        let first = Keys::load(&config, &OpenBaoConfig::default()).await.unwrap();
        create_missing(folder.path()).unwrap();
        let second = Keys::load(&config, &OpenBaoConfig::default()).await.unwrap();
        assert_eq!(first.derive("cursor"), second.derive("cursor"));
        assert_ne!(first.derive("cursor"), first.derive("token"));
        // SAFETY: prctl with integers touches no memory of ours.
        #[cfg(target_os = "linux")]
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0, "and leaves no core dump");
    }

    #[tokio::test]
    async fn rings_that_share_a_key_and_a_text_with_two_sources_or_none_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let whole = create_missing(folder.path()).unwrap();
        let refusal = async |change: fn(&mut CustodyConfig)| {
            let mut config = whole.clone();
            change(&mut config);
            Keys::load(&config, &OpenBaoConfig::default()).await.err().unwrap()
        };
        assert!(
            refusal(|config| config.nsk_ring_file = config.signing_ring_file.clone()).await.contains("share a key")
        );
        assert!(refusal(|config| config.signing_ring_file = None).await.contains("`custody.signing_ring_file` or"));
        let two = refusal(|config| config.nsk_ring_variable = Some("PATH".to_owned())).await;
        assert!(two.contains("must not both be set"), "{two}");
        let unset = |config: &mut CustodyConfig| {
            config.nsk_ring_file = None;
            config.nsk_ring_variable = Some("NO_SUCH_VARIABLE".to_owned());
        };
        assert!(refusal(unset).await.contains("`custody.nsk_ring_variable` names is not set"));
        // Of this process: a text that is there and no ring.
        let no_ring = |config: &mut CustodyConfig| {
            config.nsk_ring_file = None;
            config.nsk_ring_variable = Some("PATH".to_owned());
        };
        let no_ring = refusal(no_ring).await;
        assert!(no_ring.contains("`custody.nsk_ring` is not usable"), "{no_ring}");
    }

    #[tokio::test]
    async fn keys_that_openbao_sealed_are_opened_by_it_at_the_start_and_by_nobody_else() {
        let (server, folder) = (plexsphere_testkit::openbao().await, tempfile::tempdir().unwrap());
        let token_file = folder.path().join("token");
        std::fs::write(&token_file, server.token()).unwrap();
        let openbao = OpenBaoConfig {
            url: server.url().parse().ok(),
            token_file: Some(token_file.clone()),
            transit_mount: server.transit_mount().to_owned(),
            ..OpenBaoConfig::default()
        };
        let config = create_missing(folder.path()).unwrap();
        let plain = Keys::load(&config, &openbao).await.unwrap();
        let bao = OpenBao::new(&server.url(), &token_file).unwrap();
        let at = |path: &str| format!("{}/{path}/plexsphere-keks", server.transit_mount());
        bao.write(&at("keys"), &json!({ "type": "aes256-gcm96" })).await.unwrap();
        for path in [&config.root_key_file, &config.nsk_ring_file, &config.signing_ring_file] {
            let path = path.as_ref().unwrap();
            let text = BASE64.encode(&std::fs::read(path).unwrap());
            let answer = bao.write(&at("encrypt"), &json!({ "plaintext": text })).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            std::fs::write(path, format!("{}\n", answer["data"]["ciphertext"].as_str().unwrap())).unwrap();
        }
        let sealed = Keys::load(&config, &openbao).await.unwrap();
        assert_eq!(sealed.derive("cursor"), plain.derive("cursor"));
        assert!(sealed.nsk_ring.shares_a_key_with(&plain.nsk_ring));
        assert!(sealed.signing_ring.shares_a_key_with(&plain.signing_ring));
        let without = Keys::load(&config, &OpenBaoConfig::default()).await.err().unwrap();
        assert!(without.contains("`openbao.url` and `openbao.token_file` must be set"), "{without}");
        std::fs::write(&token_file, "s.unknown").unwrap();
        let refused = Keys::load(&config, &openbao).await.err().unwrap();
        assert!(refused.contains("cannot be decrypted: openbao refuses: status 403"), "{refused}");
    }
}
