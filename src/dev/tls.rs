//! The private CA of a data folder, and a certificate for loopback under it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// Files with what a TLS listener needs.
pub(crate) struct TlsFiles {
    /// The CA's certificate, for clients.
    pub(crate) ca_cert: PathBuf,
    /// The server's certificate.
    pub(crate) cert: PathBuf,
    /// The server's key, mode 0600.
    pub(crate) key: PathBuf,
}

/// Finds the CA of `folder` or makes it, and makes a fresh server certificate under it (ECDSA P-256, 90 days).
///
/// # Errors
/// One sentence.
pub(crate) fn prepare(folder: &Path, now: OffsetDateTime) -> Result<TlsFiles, String> {
    let files =
        TlsFiles { ca_cert: folder.join("ca.pem"), cert: folder.join("server.pem"), key: folder.join("server.key") };
    let ca_key_path = folder.join("ca.key");
    let fault = |error: rcgen::Error| format!("the certificates cannot be made: {error}");
    if !ca_key_path.exists() || !files.ca_cert.exists() {
        let key = KeyPair::generate().map_err(fault)?;
        let certificate = ca_params(now).self_signed(&key).map_err(fault)?;
        write(&ca_key_path, &key.serialize_pem(), 0o600)?;
        write(&files.ca_cert, &certificate.pem(), 0o644)?;
    }
    let ca_key = KeyPair::from_pem(&read(&ca_key_path)?).map_err(fault)?;
    // A certificate names its issuer by name and key only, and both are those of the file.
    let issuer = Issuer::new(ca_params(now), ca_key);
    let key = KeyPair::generate().map_err(fault)?;
    let certificate = server_params(now).map_err(fault)?.signed_by(&key, &issuer).map_err(fault)?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.cert, &certificate.pem(), 0o644)?;
    Ok(files)
}

fn ca_params(now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("plexsphere dev CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(3_650);
    params
}

fn server_params(now: OffsetDateTime) -> Result<CertificateParams, rcgen::Error> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = name("plexsphere dev");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(90);
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let attempt = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())
    };
    attempt().map_err(|error| format!("{} cannot be written: {error}", path.display()))
}
