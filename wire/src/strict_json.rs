//! Strict JSON: an object, no duplicate key, no trailing bytes, no NUL, at most 32 levels, `null` and lists only where they
//! are admitted.
//!
//! What members there may be is the business of the type that is decoded afterwards. That of lists cannot be: a decoder
//! takes a list for a structure whose members it names in their order.

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
    /// Top-level members that may be lists.
    pub lists: &'r [&'r str],
    /// Top-level members inside which anything may stand; whether they themselves may be `null` is said above.
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
    Member { nullable: bool, list: bool, free: bool },
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

    /// What is no object is good anywhere but at the top.
    fn scalar<E: de::Error>(&self) -> Result<(), E> {
        if matches!(self.place, Place::Top) { Err(E::custom("an object is needed")) } else { Ok(()) }
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

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.scalar()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.scalar()
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if text.contains('\0') { Err(E::custom("a string holds NUL")) } else { self.scalar() }
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        match self.place {
            Place::Member { nullable: true, .. } | Place::Inside { free: true } => Ok(()),
            Place::Top => self.scalar(),
            Place::Member { .. } | Place::Inside { .. } => Err(E::custom("`null` stands where a value is needed")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        match self.place {
            Place::Top => self.scalar()?,
            Place::Member { list: false, .. } | Place::Inside { free: false } => {
                return Err(de::Error::custom("a list stands where another type is needed"));
            }
            Place::Member { .. } | Place::Inside { free: true } => {}
        }
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
                    list: self.rules.lists.contains(&name.as_str()),
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
