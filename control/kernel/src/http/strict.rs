//! Strict JSON: no unknown or duplicate key, no trailing bytes, valid UTF-8, no NUL, at most 32 levels, `null` only where
//! the operation says so.

use plexsphere_wire::Problem;
use plexsphere_wire::strict_json::{self, Rules};
use serde::de::DeserializeOwned;

use super::BodyRules;

/// Decodes a body under the operation's rules. The type refuses unknown members (`deny_unknown_fields`), unless the
/// operation tolerates them.
///
/// # Errors
/// 400 with the operation's malformed code; the detail names the rule and the place, never a value.
pub fn decode<T: DeserializeOwned>(body: &[u8], rules: &BodyRules) -> Result<T, Problem> {
    let body: &[u8] = if rules.optional && body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    let refuse = |detail: String| Problem::new(rules.malformed, detail);
    let text = std::str::from_utf8(body).map_err(|_| refuse("The body is not valid UTF-8.".to_owned()))?;
    let lists: Vec<&str> = rules.lists.iter().map(String::as_str).collect();
    let admitted = Rules { nullable: rules.nullable, lists: &lists, free_form: rules.free_form };
    strict_json::check(text, &admitted)
        .map_err(|error| refuse(format!("The body is not acceptable JSON: {}.", describe(&error))))?;
    serde_json::from_str(text).map_err(|error| refuse(format!("The body does not fit: {}.", describe(&error))))
}

/// The names of the top-level members of an object; empty for anything else.
#[must_use]
pub fn member_names(body: &[u8]) -> Vec<String> {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body)
        .map(|members| members.into_iter().map(|(name, _)| name).collect())
        .unwrap_or_default()
}

/// What serde says, without the values that it quotes: a body may hold a secret.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let keep = if text.starts_with("invalid type") || text.starts_with("invalid value") {
        let expected = text.rsplit_once(", expected ").map_or("another type", |(_, expected)| expected);
        format!("a member has the wrong type, expected {expected}")
    } else {
        text
    };
    keep.chars().filter(|c| !c.is_control()).take(300).collect()
}
