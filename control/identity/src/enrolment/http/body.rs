//! The body of a registration, which is read more kindly than all others: agents of several ages call it.

use plexsphere_kernel::http::strict;
use plexsphere_wire::strict_json::{self, Rules};
use plexsphere_wire::{Code, Problem};
use serde::Deserialize;
use utoipa::ToSchema;

/// The members that are known; whatever stands in others, `null` too, is ignored.
const KNOWN: [&str; 6] =
    ["project_id", "resource_handle", "bootstrap_token", "nonce", "public_key", "requested_resource_id"];
/// Known members that may be `null`.
pub(super) const NULLABLE: &[&str] = &["requested_resource_id"];

/// Unknown members are ignored, so that a newer agent can still enrol.
#[derive(Deserialize, ToSchema)]
#[schema(as = RegisterRequest)]
pub(super) struct RegisterBody {
    #[schema(format = "uuid")]
    pub(super) project_id: String,
    /// Names the Resource inside the Project: its id or its `external_ref`.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) resource_handle: String,
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) bootstrap_token: String,
    /// Spent with the token; never good twice in a Project.
    #[schema(min_length = 1, max_length = 4096)]
    pub(super) nonce: String,
    /// The Curve25519 key: canonical base64 of 32 bytes.
    #[schema(min_length = 44, max_length = 44, pattern = "^[A-Za-z0-9+/]{43}=$")]
    pub(super) public_key: String,
    /// Takes the place of `resource_handle` when it is not empty.
    #[schema(max_length = 4096)]
    pub(super) requested_resource_id: Option<String>,
}

/// Decodes by the rules of every body (no duplicate member, no trailing bytes, no NUL, bounded depth), with `null`
/// admitted in members that are not known.
///
/// # Errors
/// 400 `malformed_register_request`; the detail never quotes a value.
pub(super) fn decode(body: &[u8]) -> Result<RegisterBody, Problem> {
    let refuse = |detail: String| Problem::new(Code::MalformedRegisterRequest, detail);
    let text = std::str::from_utf8(body).map_err(|_| refuse("The body is not valid UTF-8.".to_owned()))?;
    let names = strict::member_names(body);
    let unknown: Vec<&str> = names.iter().map(String::as_str).filter(|name| !KNOWN.contains(name)).collect();
    let nullable: Vec<&str> = NULLABLE.iter().chain(&unknown).copied().collect();
    strict_json::check(text, &Rules { nullable: &nullable, lists: &unknown, free_form: &unknown })
        .map_err(|error| refuse(format!("The body is not acceptable JSON: {}.", fault(&error))))?;
    serde_json::from_str(text).map_err(|error| refuse(format!("The body does not fit: {}.", fault(&error))))
}

/// What is wrong, without the value that serde quotes when a type is: it may be the token.
fn fault(error: &serde_json::Error) -> String {
    let text = error.to_string();
    if text.starts_with("invalid type") || text.starts_with("invalid value") {
        return format!("a member has the wrong type at line {} column {}", error.line(), error.column());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(more: &str) -> String {
        format!(
            r#"{{"project_id":"p","resource_handle":"h","bootstrap_token":"t","nonce":"n","public_key":"k"{more}}}"#
        )
    }

    #[test]
    fn null_is_ignored_where_nothing_is_known_and_refused_where_something_is() {
        for good in ["", r#","requested_resource_id":null"#, r#","x":null"#, r#","x":{"y":[null,{"z":null}]}"#] {
            assert!(decode(body(good).as_bytes()).is_ok(), "{good}");
        }
        let twice = r#","x":null,"x":null"#;
        let deep = format!(r#","x":{}null{}"#, "[".repeat(40), "]".repeat(40));
        for bad in [twice, &deep, r#","x":"\u0000""#, r#","nonce":"m""#] {
            let refused = decode(body(bad).as_bytes()).err().unwrap();
            assert_eq!(refused.code(), Code::MalformedRegisterRequest, "{bad}");
        }
        for member in ["project_id", "resource_handle", "bootstrap_token", "nonce", "public_key"] {
            let without = body("").replace(&format!(r#""{member}":""#), &format!(r#""{member}":null,"_{member}":""#));
            assert!(decode(without.as_bytes()).is_err(), "{without}");
        }
    }

    #[test]
    fn a_refusal_quotes_no_value() {
        let refused = decode(br#"{"project_id":"p","resource_handle":8001,"bootstrap_token":"secret"}"#).err().unwrap();
        let shown = format!("{refused:?}");
        assert!(!shown.contains("secret") && !shown.contains("8001"), "{shown}");
    }
}
