//! Cookies of a request (RFC 6265, section 4.2).

use http::HeaderMap;
use http::header::COOKIE;

/// The value of a cookie; `None` when it is absent, and when it stands more than once, so that nobody can choose for us.
#[must_use]
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"'));
    let first = values.next();
    if values.next().is_some() { None } else { first }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_and_a_repeated_one_is_none() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; plexsphere_session=xyz"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        assert_eq!(cookie(&headers, "plexsphere_session"), Some("xyz"));
        assert_eq!(cookie(&headers, "b"), Some("2"));
        assert_eq!(cookie(&headers, "session"), None);
        headers.append(COOKIE, HeaderValue::from_static("plexsphere_session=other"));
        assert_eq!(cookie(&headers, "plexsphere_session"), None);
    }
}
