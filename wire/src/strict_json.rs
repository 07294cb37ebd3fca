//! Strict JSON: no duplicate key, no trailing bytes, no NUL, at most 32 levels, `null` only where it is admitted.
//!
//! What members there may be is the business of the type that is decoded afterwards.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

/// The deepest nesting of a body.
pub const MAX_DEPTH: usize = 32;

/// What a body admits beyond the rule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'r> {
    /// Top-level members that may be `null`.
    pub nullable: &'r [&'r str],
    /// Top-level members inside which `null` may stand anywhere.
    pub free_form: &'r [&'r str],
}

/// Walks a body once and builds nothing of it.
///
/// # Errors
/// The first fault; its text names the rule, and of the body at most a position.
pub fn check(text: &str, rules: &Rules<'_>) -> Result<(), serde_json::Error> {
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
    rules: &'r Rules<'r>,
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
