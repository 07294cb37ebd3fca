//! OpenBao, where the configuration names one.

use plexsphere_kernel::custody::openbao::{OpenBao, Transit};

use crate::config::OpenBaoConfig;

/// A client, where a server and a token are named.
///
/// # Errors
/// A sentence when no TLS client can be made.
pub(crate) fn client(config: &OpenBaoConfig) -> Result<Option<OpenBao>, String> {
    let (Some(url), Some(token_file)) = (&config.url, &config.token_file) else { return Ok(None) };
    OpenBao::new(url.as_str(), token_file).map(Some)
}

/// The transit engine, where a server and a token are named.
///
/// # Errors
/// As for [`client`].
pub(crate) fn transit(config: &OpenBaoConfig) -> Result<Option<Transit>, String> {
    Ok(client(config)?.map(|client| Transit::new(client, &config.transit_mount)))
}
