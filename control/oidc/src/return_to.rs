//! Where a browser may be sent after signing in. Pure.

use std::fmt;

use plexsphere_wire::Code;
use url::Url;

/// The longest target, in bytes.
pub const MAX_RETURN_TO_BYTES: usize = 2_048;

/// Scheme, host and port of a web origin (RFC 6454), in the one spelling in which origins compare.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(String);

/// A text that is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an origin: scheme, host and port of an http or https address")]
pub struct OriginError;

impl Origin {
    /// Reads `https://host[:port]`: no path, no wildcard, never `null`.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        let url = Url::parse(text).map_err(|_| OriginError)?;
        let origin = Self::of(&url).ok_or(OriginError)?;
        // What follows scheme, host and port is empty exactly when there is no slash after them.
        let bare = text.splitn(4, '/').count() == 3 && !text.contains(['\\', '?', '#', '@', '*']);
        if bare { Ok(origin) } else { Err(OriginError) }
    }

    fn of(url: &Url) -> Option<Self> {
        let web = matches!(url.scheme(), "http" | "https") && url.host().is_some();
        (web && url.username().is_empty() && url.password().is_none()).then(|| Self(url.origin().ascii_serialization()))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A target that was judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnTo(String);

impl ReturnTo {
    /// Where it goes without being asked.
    #[must_use]
    pub fn home() -> Self {
        Self("/".to_owned())
    }

    /// Judges a target: a path on this site, or an address on one of `allowed`. Fit for a `Location` header.
    ///
    /// # Errors
    /// [`ReturnToRefused`].
    pub fn parse(text: &str, allowed: &[Origin]) -> Result<Self, ReturnToRefused> {
        // Browsers drop tabs and line feeds out of addresses before they read them, so that `/\t/host` is `//host`.
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.is_empty() || text.len() > MAX_RETURN_TO_BYTES || !printable {
            return Err(ReturnToRefused);
        }
        if text.starts_with('/') {
            let here = !text.starts_with("//") && !text.starts_with("/\\") && stays_here(text);
            return if here { Ok(Self(text.to_owned())) } else { Err(ReturnToRefused) };
        }
        let url = Url::parse(text).map_err(|_| ReturnToRefused)?;
        let allowed = Origin::of(&url).is_some_and(|origin| allowed.contains(&origin));
        // In the spelling in which it was judged: what is no complete address reads otherwise beside another address.
        if allowed { Ok(Self(url.into())) } else { Err(ReturnToRefused) }
    }

    /// The target.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the path as a browser would, against a site that cannot be named.
fn stays_here(path: &str) -> bool {
    let Ok(here) = Url::parse("https://here.invalid/") else { return false };
    here.join(path).is_ok_and(|url| url.origin() == here.origin())
}

/// A target that leads elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a path of this site and not on an allowed origin")]
pub struct ReturnToRefused;

impl ReturnToRefused {
    /// The problem code for a caller.
    #[must_use]
    pub fn code(self) -> Code {
        Code::InvalidReturnTo
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowed() -> Vec<Origin> {
        ["https://console.example", "http://127.0.0.1:8080"].map(|text| Origin::parse(text).unwrap()).to_vec()
    }

    fn admits(text: &str) -> bool {
        ReturnTo::parse(text, &allowed()).is_ok()
    }

    #[test]
    fn paths_of_this_site_and_addresses_on_allowed_origins_pass() {
        for text in [
            "/",
            "/nodes?x=1#y",
            "/a//b",
            "/a/\\b",
            "/%2f/evil",
            "https://console.example/x",
            "HTTPS://Console.Example",
        ] {
            assert!(admits(text), "{text}");
        }
        let target = ReturnTo::parse("https:console.example:443\\x", &allowed()).unwrap();
        assert_eq!(target.as_str(), "https://console.example/x");
        assert!(admits("https://console.example:443/x"));
        assert!(admits("http://127.0.0.1:8080/?q"));
    }

    #[test]
    fn everything_that_a_browser_would_take_elsewhere_is_refused() {
        for text in [
            "",
            "x",
            "//evil.example",
            "/\\evil",
            "\\\\evil",
            "/\t/evil",
            "/\n//evil",
            " /x",
            "/x\r\nSet-Cookie: a=b",
            "/é",
            "https://evil.example",
            "https://console.example.evil",
            "https://console.example@evil.example/",
            "https://u:p@console.example/",
            "http://console.example/",
            "https://console.example:444/",
            "javascript:alert(1)",
            "data:text/html,x",
            "//console.example",
            "http://127.0.0.1:8081/",
            "null",
        ] {
            assert!(!admits(text), "{text:?}");
        }
        assert!(!admits(&format!("/{}", "x".repeat(MAX_RETURN_TO_BYTES))));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_in_one_spelling() {
        let parse = |text| Origin::parse(text).map(|origin| origin.to_string());
        assert_eq!(parse("HTTPS://Example.COM:443"), Ok("https://example.com".to_owned()));
        assert_eq!(parse("http://[::1]:80"), Ok("http://[::1]".to_owned()));
        for text in [
            "null",
            "*",
            "https://*.example.com",
            "https://x/",
            "https://x/y",
            "https://x?y",
            "https://x#y",
            "https://u@x",
            "ftp://x",
            "file:///x",
            "x",
            "",
            "https://",
            "https:x",
            "https:\\\\x",
        ] {
            assert_eq!(parse(text), Err(OriginError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_admitted_path_never_leaves_the_site(text in "[/\\\\ -~\\t\\n]{0,24}") {
            if let Ok(target) = ReturnTo::parse(&text, &[]) {
                let here = Url::parse("https://site.example/v1/auth/callback").unwrap();
                prop_assert_eq!(here.join(target.as_str()).unwrap().origin(), here.origin());
            }
        }

        #[test]
        fn any_admitted_target_is_on_an_allowed_origin(text in "(https?:)?[/\\\\]{0,3}[a-z@:.]{0,12}(console\\.example|evil\\.example)[ -~]{0,8}") {
            if let Ok(target) = ReturnTo::parse(&text, &allowed()) {
                let here = Url::parse("https://site.example/v1/auth/callback").unwrap();
                let origin = Origin::of(&here.join(target.as_str()).unwrap());
                prop_assert!(origin == Origin::of(&here) || origin.is_some_and(|origin| allowed().contains(&origin)));
            }
        }
    }
}
