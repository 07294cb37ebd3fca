//! The gate against forged requests: what a browser sends by itself proves nothing about who wanted it.

use http::HeaderMap;
use plexsphere_wire::{Code, Problem};
use subtle::ConstantTimeEq as _;

use super::cookies::cookie;

/// The header that must equal the cookie [`COOKIE`].
const HEADER: &str = "x-plexsphere-csrf";
/// The cookie that a page's script can read and a foreign page cannot.
pub const COOKIE: &str = "plexsphere_csrf";

/// Which pages may change things by cookie.
#[derive(Clone, Debug, Default)]
pub struct AllowedOrigins(Vec<String>);

/// A text that is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no origin: scheme://host, with a port where it is not the scheme's own")]
pub struct OriginError(String);

impl AllowedOrigins {
    /// Reads origins such as `https://console.example.org`; case does not matter, a wildcard is none.
    ///
    /// # Errors
    /// [`OriginError`] with the first that is none.
    pub fn parse<'a>(origins: impl IntoIterator<Item = &'a str>) -> Result<Self, OriginError> {
        let fold = |text: &str| fold(text).ok_or_else(|| OriginError(text.to_owned()));
        origins.into_iter().map(fold).collect::<Result<_, _>>().map(Self)
    }

    fn contains(&self, origin: &str) -> bool {
        fold(origin).is_some_and(|origin| self.0.contains(&origin))
    }

    /// Judges an unsafe request that authenticated by cookie.
    ///
    /// # Errors
    /// 403 `csrf_origin_not_configured`, `csrf_origin_mismatch` or `csrf_token_mismatch`, in this order.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if self.0.is_empty() {
            return Err(Problem::new(
                Code::CsrfOriginNotConfigured,
                "This installation allows no page to change things by cookie; use a bearer credential.",
            ));
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let same_site = text("sec-fetch-site") == Some("same-origin");
        if !same_site && !text("origin").is_some_and(|origin| self.contains(origin)) {
            return Err(Problem::new(Code::CsrfOriginMismatch, "The page that sent this request is not allowed to."));
        }
        let (sent, expected) = (text(HEADER).unwrap_or(""), cookie(headers, COOKIE).unwrap_or(""));
        if sent.is_empty() || !bool::from(sent.as_bytes().ct_eq(expected.as_bytes())) {
            return Err(Problem::new(
                Code::CsrfTokenMismatch,
                "The header `X-Plexsphere-CSRF` does not equal the cookie `plexsphere_csrf`.",
            ));
        }
        Ok(())
    }
}

/// Scheme, host and port with the scheme's own port left out; `None` for anything else, `null` included.
fn fold(origin: &str) -> Option<String> {
    let lower = origin.trim().to_ascii_lowercase();
    let (scheme, authority) = lower.split_once("://")?;
    let own_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let authority = authority.strip_suffix(own_port).unwrap_or(authority);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    (!authority.is_empty() && authority.bytes().all(plain)).then(|| format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judge(origins: &[&str], headers: &[(&'static str, &'static str)]) -> Result<(), Code> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_static(value));
        }
        let origins = AllowedOrigins::parse(origins.iter().copied()).unwrap();
        origins.check(&map).map_err(|problem| problem.code())
    }

    const PAIR: [(&str, &str); 2] = [("cookie", "a=b; plexsphere_csrf=t0ken"), ("x-plexsphere-csrf", "t0ken")];
    const ORIGIN: &str = "https://console.example.org";

    #[test]
    fn without_configured_origins_every_change_by_cookie_is_refused() {
        let headers = [PAIR[0], PAIR[1], ("origin", ORIGIN)];
        assert_eq!(judge(&[], &headers), Err(Code::CsrfOriginNotConfigured));
    }

    #[test]
    fn an_allowed_origin_or_the_same_site_passes_and_nothing_else_does() {
        for (origin, expected) in [
            (Some("https://console.example.org"), Ok(())),
            (Some("HTTPS://Console.Example.org:443"), Ok(())),
            (Some("https://console.example.org:8443"), Err(Code::CsrfOriginMismatch)),
            (Some("http://console.example.org"), Err(Code::CsrfOriginMismatch)),
            (Some("https://evil.example"), Err(Code::CsrfOriginMismatch)),
            (Some("https://console.example.org.evil.example"), Err(Code::CsrfOriginMismatch)),
            (Some("null"), Err(Code::CsrfOriginMismatch)),
            (None, Err(Code::CsrfOriginMismatch)),
        ] {
            let mut headers = PAIR.to_vec();
            headers.extend(origin.map(|origin| ("origin", origin)));
            assert_eq!(judge(&[ORIGIN], &headers), expected, "{origin:?}");
        }
        assert_eq!(judge(&[ORIGIN], &[PAIR[0], PAIR[1], ("sec-fetch-site", "same-origin")]), Ok(()));
        let cross = [PAIR[0], PAIR[1], ("sec-fetch-site", "cross-site")];
        assert_eq!(judge(&[ORIGIN], &cross), Err(Code::CsrfOriginMismatch));
    }

    #[test]
    fn the_header_must_equal_the_cookie_and_neither_may_be_empty() {
        for headers in [
            vec![("origin", ORIGIN)],
            vec![("origin", ORIGIN), PAIR[0]],
            vec![("origin", ORIGIN), PAIR[1]],
            vec![("origin", ORIGIN), PAIR[0], ("x-plexsphere-csrf", "t0ke")],
            vec![("origin", ORIGIN), PAIR[0], ("x-plexsphere-csrf", "T0KEN")],
            vec![("origin", ORIGIN), ("cookie", "plexsphere_csrf="), ("x-plexsphere-csrf", "")],
        ] {
            assert_eq!(judge(&[ORIGIN], &headers), Err(Code::CsrfTokenMismatch), "{headers:?}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_when_the_installation_starts() {
        for text in ["*", "null", "console.example.org", "https://", "https://a/b", "ftp://a", "https://*.example.org"]
        {
            assert!(AllowedOrigins::parse([text]).is_err(), "{text}");
        }
    }
}
