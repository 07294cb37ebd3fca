//! Caveats: conditions on a tuple. A tuple stores part of what is compared, the check supplies the rest; what is missing
//! makes the caveat false.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr as _;

use ipnet::IpNet;
use plexsphere_wire::Timestamp;
use serde_json::{Map, Value, json};

/// The most bytes of a stored context in compact JSON.
pub const MAX_CONTEXT_BYTES: usize = 2_048;
/// The most prefixes of a `from_cidr`.
pub const MAX_CIDRS: usize = 16;
/// The most classes or methods that are listed.
const MAX_LISTED: usize = 16;

/// A stored condition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caveat {
    /// `not_before` ≤ now < `not_after`; at least one is there.
    WithinTimeWindow {
        /// The first moment.
        not_before: Option<Timestamp>,
        /// The moment behind the last.
        not_after: Option<Timestamp>,
    },
    /// Some prefix contains the client's address.
    FromCidr {
        /// 1 to 16 prefixes.
        allowed_cidrs: Vec<IpNet>,
    },
    /// Each stored demand on the sign-in holds; at least one is there.
    RequiresAssurance {
        /// One of these classes.
        any_acr: Option<Vec<String>>,
        /// All of these methods.
        all_amr: Option<Vec<String>>,
        /// A sign-in at most this old, in seconds.
        max_age_seconds: Option<u32>,
    },
}

/// What a check supplies. At a gate the server fills it in; nothing of it comes from the client then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaveatInputs {
    /// The present moment.
    pub now: Option<Timestamp>,
    /// The client's address.
    pub client_ip: Option<IpAddr>,
    /// The assurance class of the sign-in; none for tokens.
    pub acr: Option<String>,
    /// The methods of the sign-in; none for tokens.
    pub amr: Option<Vec<String>>,
    /// When the sign-in was.
    pub auth_time: Option<Timestamp>,
}

/// Why a name and a context make no caveat, or a context no inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaveatProblem {
    /// No caveat of that name.
    #[error("there is no such caveat")]
    UnknownName,
    /// A context without a caveat.
    #[error("a context needs the name of its caveat")]
    ContextWithoutName,
    /// A parameter that the caveat does not have.
    #[error("the parameter `{0}` is unknown")]
    UnknownParameter(String),
    /// A value of another type, or outside its limits.
    #[error("the value of `{0}` is not one of its kind")]
    BadValue(&'static str),
    /// Nothing is stored, so the caveat would say nothing.
    #[error("the caveat stores nothing")]
    Empty,
    /// The context is too long.
    #[error("the context is longer than {MAX_CONTEXT_BYTES} bytes")]
    TooLong,
}

// === impl Caveat ===

impl Caveat {
    /// The names of all caveats.
    pub const NAMES: [&'static str; 3] = ["within_time_window", "from_cidr", "requires_assurance"];

    /// Reads a caveat from its name and stored context.
    ///
    /// # Errors
    /// [`CaveatProblem`].
    pub fn parse(name: &str, context: &Map<String, Value>) -> Result<Self, CaveatProblem> {
        let known: &[&str] = match name {
            "within_time_window" => &["not_before", "not_after"],
            "from_cidr" => &["allowed_cidrs"],
            "requires_assurance" => &["any_acr", "all_amr", "max_age_seconds"],
            _ => return Err(CaveatProblem::UnknownName),
        };
        if let Some(unknown) = context.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(CaveatProblem::UnknownParameter(unknown.chars().take(64).collect()));
        }
        if context.is_empty() {
            return Err(CaveatProblem::Empty);
        }
        if serde_json::to_string(context).map_or(true, |text| text.len() > MAX_CONTEXT_BYTES) {
            return Err(CaveatProblem::TooLong);
        }
        match name {
            "within_time_window" => Ok(Self::WithinTimeWindow {
                not_before: read(context, "not_before", time)?,
                not_after: read(context, "not_after", time)?,
            }),
            "from_cidr" => {
                let allowed_cidrs = read(context, "allowed_cidrs", cidrs)?.ok_or(CaveatProblem::Empty)?;
                Ok(Self::FromCidr { allowed_cidrs })
            }
            _ => Ok(Self::RequiresAssurance {
                any_acr: read(context, "any_acr", words)?,
                all_amr: read(context, "all_amr", words)?,
                max_age_seconds: read(context, "max_age_seconds", seconds)?,
            }),
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        let [window, cidr, assurance] = Self::NAMES;
        match self {
            Self::WithinTimeWindow { .. } => window,
            Self::FromCidr { .. } => cidr,
            Self::RequiresAssurance { .. } => assurance,
        }
    }

    /// The stored context.
    #[must_use]
    pub fn context(&self) -> Map<String, Value> {
        let pairs = match self {
            Self::WithinTimeWindow { not_before, not_after } => vec![
                ("not_before", not_before.map(|time| json!(time))),
                ("not_after", not_after.map(|time| json!(time))),
            ],
            Self::FromCidr { allowed_cidrs } => vec![("allowed_cidrs", Some(json!(allowed_cidrs)))],
            Self::RequiresAssurance { any_acr, all_amr, max_age_seconds } => vec![
                ("any_acr", any_acr.as_ref().map(|words| json!(words))),
                ("all_amr", all_amr.as_ref().map(|words| json!(words))),
                ("max_age_seconds", max_age_seconds.map(|seconds| json!(seconds))),
            ],
        };
        pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// The names of the parameters it compares, stored and supplied: what audit may know of it.
    #[must_use]
    pub fn parameters(&self) -> Vec<&'static str> {
        match self {
            Self::WithinTimeWindow { not_before, not_after } => {
                let mut names = vec!["now"];
                names.extend(not_before.map(|_| "not_before"));
                names.extend(not_after.map(|_| "not_after"));
                names
            }
            Self::FromCidr { .. } => vec!["allowed_cidrs", "client_ip"],
            Self::RequiresAssurance { any_acr, all_amr, max_age_seconds } => {
                let mut names = Vec::new();
                if any_acr.is_some() {
                    names.extend(["acr", "any_acr"]);
                }
                if all_amr.is_some() {
                    names.extend(["all_amr", "amr"]);
                }
                if max_age_seconds.is_some() {
                    names.extend(["auth_time", "max_age_seconds", "now"]);
                }
                names
            }
        }
    }

    /// Whether it holds for these inputs.
    #[must_use]
    pub fn holds(&self, inputs: &CaveatInputs) -> bool {
        match self {
            Self::WithinTimeWindow { not_before, not_after } => inputs.now.is_some_and(|now| {
                not_before.is_none_or(|from| from <= now) && not_after.is_none_or(|until| now < until)
            }),
            Self::FromCidr { allowed_cidrs } => inputs
                .client_ip
                .map(|ip| ip.to_canonical())
                .is_some_and(|ip| allowed_cidrs.iter().any(|prefix| prefix.contains(&ip))),
            Self::RequiresAssurance { any_acr, all_amr, max_age_seconds } => {
                let class = any_acr.as_ref().is_none_or(|any| inputs.acr.as_ref().is_some_and(|acr| any.contains(acr)));
                let methods = all_amr.as_ref().is_none_or(|all| {
                    inputs.amr.as_ref().is_some_and(|amr| all.iter().all(|method| amr.contains(method)))
                });
                let age = max_age_seconds.is_none_or(|max| match (inputs.now, inputs.auth_time) {
                    (Some(now), Some(then)) => {
                        (0..=i128::from(max) * 1_000_000_000).contains(&(now.unix_nanos() - then.unix_nanos()))
                    }
                    _ => false,
                });
                class && methods && age
            }
        }
    }
}

// === impl CaveatInputs ===

impl CaveatInputs {
    /// Reads the `caveat_context` of a check. Stored parameters may stand in it, as in a context that is passed on
    /// whole, and are ignored: what is stored wins.
    ///
    /// # Errors
    /// [`CaveatProblem`] for a parameter that no caveat has, or a value of another type.
    pub fn parse(context: &Map<String, Value>) -> Result<Self, CaveatProblem> {
        const STORED: [&str; 6] = ["not_before", "not_after", "allowed_cidrs", "any_acr", "all_amr", "max_age_seconds"];
        const SUPPLIED: [&str; 5] = ["now", "client_ip", "acr", "amr", "auth_time"];
        let unknown = context.keys().find(|key| !STORED.contains(&key.as_str()) && !SUPPLIED.contains(&key.as_str()));
        if let Some(unknown) = unknown {
            return Err(CaveatProblem::UnknownParameter(unknown.chars().take(64).collect()));
        }
        Ok(Self {
            now: read(context, "now", time)?,
            client_ip: read(context, "client_ip", |value| value.as_str()?.parse().ok())?,
            acr: read(context, "acr", |value| Some(value.as_str()?.to_owned()))?,
            amr: read(context, "amr", words)?,
            auth_time: read(context, "auth_time", time)?,
        })
    }
}

/// The caveats that a decision looked at, with the names of their parameters, both sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaveatNames(BTreeMap<&'static str, Vec<&'static str>>);

impl CaveatNames {
    /// Adds a caveat with its parameters.
    pub(crate) fn note(&mut self, caveat: &Caveat) {
        let names = self.0.entry(caveat.name()).or_default();
        names.extend(caveat.parameters());
        names.sort_unstable();
        names.dedup();
    }

    /// Whether no caveat was looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Caveats with their parameters, both in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[&'static str])> {
        self.0.iter().map(|(name, parameters)| (*name, parameters.as_slice()))
    }
}

fn read<T>(
    context: &Map<String, Value>,
    name: &'static str,
    reader: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, CaveatProblem> {
    let Some(value) = context.get(name) else { return Ok(None) };
    reader(value).map(Some).ok_or(CaveatProblem::BadValue(name))
}

fn time(value: &Value) -> Option<Timestamp> {
    Timestamp::parse(value.as_str()?).ok()
}

fn seconds(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

fn words(value: &Value) -> Option<Vec<String>> {
    let words = value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
    (1..=MAX_LISTED).contains(&words.len()).then_some(words)
}

fn cidrs(value: &Value) -> Option<Vec<IpNet>> {
    let prefixes = value.as_array()?.iter().map(|prefix| IpNet::from_str(prefix.as_str()?).ok());
    let prefixes = prefixes.collect::<Option<Vec<_>>>()?;
    (1..=MAX_CIDRS).contains(&prefixes.len()).then_some(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caveat(name: &str, context: Value) -> Result<Caveat, CaveatProblem> {
        Caveat::parse(name, context.as_object().unwrap())
    }

    fn inputs(context: Value) -> CaveatInputs {
        CaveatInputs::parse(context.as_object().unwrap()).unwrap()
    }

    #[test]
    fn a_window_is_closed_at_its_start_and_open_at_its_end() {
        let window = caveat(
            "within_time_window",
            json!({"not_before": "2026-01-01T00:00:00Z", "not_after": "2026-01-02T00:00:00Z"}),
        )
        .unwrap();
        for (now, holds) in [
            ("2025-12-31T23:59:59.999999999Z", false),
            ("2026-01-01T00:00:00Z", true),
            ("2026-01-01T23:59:59Z", true),
            ("2026-01-02T00:00:00Z", false),
        ] {
            assert_eq!(window.holds(&inputs(json!({ "now": now }))), holds, "{now}");
        }
        assert!(!window.holds(&CaveatInputs::default()), "a missing input makes it false");
    }

    #[test]
    fn an_address_is_compared_in_its_canonical_form() {
        let cidr = caveat("from_cidr", json!({"allowed_cidrs": ["10.0.0.0/8", "2001:db8::/32"]})).unwrap();
        for (ip, holds) in [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("192.0.2.1", false), ("2001:db8::1", true)]
        {
            assert_eq!(cidr.holds(&inputs(json!({ "client_ip": ip }))), holds, "{ip}");
        }
    }

    #[test]
    fn every_stored_demand_on_the_sign_in_must_hold() {
        let demands = json!({"any_acr": ["gold", "silver"], "all_amr": ["pwd", "otp"], "max_age_seconds": 60});
        let caveat = caveat("requires_assurance", demands).unwrap();
        let good = json!({"acr": "gold", "amr": ["otp", "pwd", "hwk"], "now": "2026-01-01T00:01:00Z",
            "auth_time": "2026-01-01T00:00:00Z"});
        assert!(caveat.holds(&inputs(good.clone())));
        for (name, value) in [
            ("acr", json!("bronze")),
            ("amr", json!(["pwd"])),
            ("auth_time", json!("2025-12-31T23:59:59Z")),
            ("auth_time", json!("2026-01-01T00:01:01Z")),
        ] {
            let mut bad = good.clone();
            bad[name] = value;
            assert!(!caveat.holds(&inputs(bad)), "{name}");
        }
        assert!(!caveat.holds(&CaveatInputs::default()), "a token carries no assurance");
    }

    #[test]
    fn a_stored_context_reads_back_and_nonsense_is_refused() {
        for (name, context) in [
            ("within_time_window", json!({"not_after": "2026-01-02T00:00:00Z"})),
            ("from_cidr", json!({"allowed_cidrs": ["10.0.0.0/8"]})),
            ("requires_assurance", json!({"any_acr": ["gold"], "max_age_seconds": 60})),
        ] {
            assert_eq!(Value::Object(caveat(name, context.clone()).unwrap().context()), context);
        }
        let many: Vec<String> = (0..17).map(|n| format!("10.{n}.0.0/16")).collect();
        for (name, context) in [
            ("office_hours", json!({})),
            ("from_cidr", json!({})),
            ("from_cidr", json!({"allowed_cidrs": []})),
            ("from_cidr", json!({ "allowed_cidrs": many })),
            ("from_cidr", json!({"allowed_cidrs": ["10.0.0.0/8"], "now": "2026-01-02T00:00:00Z"})),
            ("within_time_window", json!({"not_after": 7})),
            ("requires_assurance", json!({"any_acr": ["x".repeat(3_000)]})),
        ] {
            assert!(caveat(name, context.clone()).is_err(), "{name} {context}");
        }
        assert!(CaveatInputs::parse(json!({"colour": 1}).as_object().unwrap()).is_err());
        assert!(CaveatInputs::parse(json!({"client_ip": "here"}).as_object().unwrap()).is_err());
    }
}
