//! Strict JSON: no unknown or duplicate key, no trailing bytes, valid UTF-8, no NUL, at most 32 levels, `null` only where
//! the operation says so.

use std::collections::HashSet;
use std::fmt;

use plexsphere_wire::Problem;
use serde::de::{DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, de};

use super::BodyRules;

/// The deepest nesting of a body.
pub const MAX_DEPTH: usize = 32;

/// Decodes a body under the operation's rules. The type refuses unknown members (`deny_unknown_fields`), unless the
/// operation tolerates them.
///
/// # Errors
/// 400 with the operation's malformed code; the detail names the rule and the place, never a value.
pub fn decode<T: DeserializeOwned>(body: &[u8], rules: &BodyRules) -> Result<T, Problem> {
    let body: &[u8] = if rules.optional && body.iter().all(u8::is_ascii_whitespace) { b"{}" } else { body };
    let refuse = |detail: String| Problem::new(rules.malformed, detail);
    let text = std::str::from_utf8(body).map_err(|_| refuse("The body is not valid UTF-8.".to_owned()))?;
    check(text, rules).map_err(|error| refuse(format!("The body is not acceptable JSON: {}.", describe(&error))))?;
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

fn check(text: &str, rules: &BodyRules) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let walk = Walk { depth: 0, rules, place: Place::Top };
    walk.deserialize(&mut deserializer)?;
    deserializer.end()
}

#[derive(Clone, Copy)]
enum Place {
    Top,
    Member { nullable: bool, free: bool },
    Inside { free: bool },
}

struct Walk<'r> {
    depth: usize,
    rules: &'r BodyRules,
    place: Place,
}

impl Walk<'_> {
    fn free(&self) -> bool {
        matches!(self.place, Place::Member { free: true, .. } | Place::Inside { free: true })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > MAX_DEPTH {
            return Err(de::Error::custom("nested too deeply"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("json")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') { Err(E::custom("a string holds NUL")) } else { Ok(()) }
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        match self.place {
            Place::Member { nullable: true, .. } => Ok(()),
            _ if self.free() => Ok(()),
            _ => Err(E::custom("`null` stands where a value is needed")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        loop {
            let inner = Walk { depth: self.depth + 1, rules: self.rules, place: Place::Inside { free: self.free() } };
            if items.next_element_seed(inner)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if name.contains('\0') {
                return Err(de::Error::custom("a member's name holds NUL"));
            }
            let place = match self.place {
                Place::Top => Place::Member {
                    nullable: self.rules.nullable.contains(&name.as_str()),
                    free: self.rules.free_form.contains(&name.as_str()),
                },
                Place::Member { .. } | Place::Inside { .. } => Place::Inside { free: self.free() },
            };
            if !seen.insert(name) {
                return Err(de::Error::custom("a member stands twice"));
            }
            members.next_value_seed(Walk { depth: self.depth + 1, rules: self.rules, place })?;
        }
        Ok(())
    }
}
