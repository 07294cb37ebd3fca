//! What a binding may point at: URLs of its provider, and the reference to its secret.

use plexsphere_wire::DomainId;
use url::Url;

/// The most scalar values of a free text.
pub(super) const MAX_TEXT: usize = 4_096;

/// Whether `text` is a free text: 1 to [`MAX_TEXT`] scalar values without control characters, and not blank.
pub(super) fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.chars().count()) && !text.chars().any(char::is_control) && !text.trim().is_empty()
}

/// An absolute https URL, or http where `insecure` allows it, with a host and without credentials or fragment. Kept as
/// written: an issuer is compared byte for byte.
pub(super) fn is_url(text: &str, insecure: bool) -> bool {
    // The parser drops spaces and line breaks that the kept text would still have.
    if !is_text(text) || text.contains(char::is_whitespace) || text.contains('\\') {
        return false;
    }
    let Ok(url) = Url::parse(text) else { return false };
    let scheme = url.scheme() == "https" || (insecure && url.scheme() == "http");
    // `https:host` and `https:///host` are mended by the parser and are no absolute URL.
    let absolute = text
        .get(url.scheme().len()..)
        .is_some_and(|rest| rest.strip_prefix("://").is_some_and(|host| !host.is_empty() && !host.starts_with('/')));
    let bare = url.username().is_empty() && url.password().is_none() && !text.contains('#');
    scheme && absolute && bare && url.host_str().is_some_and(|host| !host.is_empty())
}

/// An issuer: a URL without a query.
pub(super) fn is_issuer(text: &str, insecure: bool) -> bool {
    is_url(text, insecure) && !text.contains('?')
}

/// Whether a secret reference stays within its owner's reach. A Domain reaches `secret:<its id>/<path>` alone: whoever
/// administers it chooses where the secret is sent. The platform reaches `env:NAME` and `file:/path`.
pub(super) fn is_within_reach(reference: &str, owner: Option<DomainId>) -> bool {
    if !is_text(reference) {
        return false;
    }
    match owner {
        Some(domain) => reference.strip_prefix(&format!("secret:{domain}/")).is_some_and(is_plain_path),
        None => {
            reference.strip_prefix("env:").is_some_and(is_variable)
                || reference.strip_prefix("file:/").is_some_and(is_file_path)
        }
    }
}

/// Segments of `[A-Za-z0-9_-]`, none of them empty: nothing that a resolver could climb with or decode.
fn is_plain_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    path.split('/').all(|segment| !segment.is_empty() && segment.bytes().all(plain))
}

fn is_file_path(path: &str) -> bool {
    path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

fn is_variable(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(fits)
}
