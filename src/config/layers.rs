//! Layering: where each value comes from, and refusing what nobody knows.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Config;

/// The prefix of every environment variable.
const PREFIX: &str = "PLEXSPHERE_";

/// Variables with the prefix that are no keys of the tree.
const OTHER_VARIABLES: [&str; 4] =
    ["PLEXSPHERE_CONFIG", "PLEXSPHERE_CACHE_DIR", "PLEXSPHERE_DATA_DIR", "PLEXSPHERE_TEST_PATIENCE"];

/// Names that deployments of this kind are used to, beside the name that a key has by its place.
const ALIASES: [(&str, &str); 11] = [
    ("PLEXSPHERE_OBS_NATS_URL", "nats.url"),
    ("PLEXSPHERE_OBS_MIMIR_URL", "pipelines.mimir.url"),
    ("PLEXSPHERE_OBS_LOKI_URL", "pipelines.loki.url"),
    ("PLEXSPHERE_OBS_SIEM_URL", "pipelines.siem.url"),
    ("PLEXSPHERE_OBS_SIEM_LOGS", "pipelines.siem.logs"),
    ("PLEXSPHERE_OBS_ROUTING_ENABLED", "pipelines.routing_enabled"),
    ("PLEXSPHERE_PUBLIC_BASE_URL", "control.public_base_url"),
    ("PLEXSPHERE_BOOTSTRAP_TOKEN_FILE", "control.bootstrap_token_file"),
    ("PLEXSPHERE_PLATFORM_ADMINS", "auth.platform_admins"),
    ("PLEXSPHERE_CSRF_ALLOWED_ORIGINS", "auth.csrf_allowed_origins"),
    ("PLEXSPHERE_REPLICAS", "edge.quota.replicas"),
];

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// `--set`.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// Why there is no configuration. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file {0} cannot be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// The file is no TOML.
    #[error("the configuration file {0} is malformed: {1}")]
    Malformed(PathBuf, String),
    /// A key that nobody knows.
    #[error("unknown configuration key `{key}` from {origin}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it was named.
        origin: Origin,
    },
    /// `--set` without `=`.
    #[error("`--set {0}` must have the form key=value")]
    MalformedFlag(String),
    /// A value of the wrong type or outside its limits.
    #[error("the configuration does not hold: {0}")]
    Invalid(String),
}

/// A configuration and the origin of each of its keys.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Every key in dotted form with its value and origin.
    pub keys: BTreeMap<String, (Value, Origin)>,
}

/// Loads the configuration.
///
/// `variables` is the process's environment, `flags` the `key=value` texts of `--set`.
///
/// # Errors
/// [`ConfigError`], one sentence.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: &[String],
) -> Result<Loaded, ConfigError> {
    let defaults = serde_json::to_value(Config::default()).map_err(|error| ConfigError::Invalid(error.to_string()))?;
    let mut keys = BTreeMap::new();
    flatten("", &defaults, &mut |key, value| {
        keys.insert(key, (value.clone(), Origin::Default));
    });
    if let Some(path) = file {
        apply_file(path, &mut keys)?;
    }
    apply_environment(variables, &mut keys)?;
    for flag in flags {
        let (key, text) = flag.split_once('=').ok_or_else(|| ConfigError::MalformedFlag(flag.clone()))?;
        set(&mut keys, key.trim(), text, &Origin::Flag)?;
    }
    let tree = unflatten(&keys);
    let config: Config = serde_json::from_value(tree).map_err(|error| ConfigError::Invalid(error.to_string()))?;
    config.check().map_err(ConfigError::Invalid)?;
    Ok(Loaded { config, keys })
}

type Keys = BTreeMap<String, (Value, Origin)>;

fn apply_file(path: &Path, keys: &mut Keys) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable(path.to_owned(), error))?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|error| ConfigError::Malformed(path.to_owned(), error.message().to_owned()))?;
    let value =
        serde_json::to_value(table).map_err(|error| ConfigError::Malformed(path.to_owned(), error.to_string()))?;
    let origin = Origin::File(path.to_owned());
    let mut unknown = None;
    flatten("", &value, &mut |key, value| match keys.get_mut(&key) {
        Some(slot) => *slot = (value.clone(), origin.clone()),
        None => unknown = unknown.take().or(Some(key)),
    });
    unknown.map_or(Ok(()), |key| Err(ConfigError::UnknownKey { key, origin }))
}

fn apply_environment(
    variables: impl IntoIterator<Item = (String, String)>,
    keys: &mut Keys,
) -> Result<(), ConfigError> {
    let aliases = ALIASES.iter().map(|(name, key)| ((*name).to_owned(), (*key).to_owned()));
    let names: BTreeMap<String, String> = keys.keys().map(|key| (variable(key), key.clone())).chain(aliases).collect();
    for (name, text) in variables {
        if !name.starts_with(PREFIX) || OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let origin = Origin::Environment(name.clone());
        match names.get(&name) {
            Some(key) => set(keys, key, &text, &origin)?,
            None => return Err(ConfigError::UnknownKey { key: name, origin }),
        }
    }
    Ok(())
}

/// The variable of a key.
fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Sets a key from text: the default's type says how the text is read; a list is separated by commas.
fn set(keys: &mut Keys, key: &str, text: &str, origin: &Origin) -> Result<(), ConfigError> {
    let Some(slot) = keys.get_mut(key) else {
        return Err(ConfigError::UnknownKey { key: key.to_owned(), origin: origin.clone() });
    };
    let invalid = || ConfigError::Invalid(format!("`{key}` from {origin} has the wrong type"));
    let value = match &slot.0 {
        Value::Bool(_) => Value::Bool(text.parse().map_err(|_| invalid())?),
        Value::Number(number) if number.is_f64() => Value::from(text.parse::<f64>().map_err(|_| invalid())?),
        Value::Number(_) => Value::from(text.parse::<i64>().map_err(|_| invalid())?),
        Value::Array(_) => text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect(),
        Value::Null if text.is_empty() => Value::Null,
        Value::Null | Value::String(_) => Value::from(text),
        Value::Object(_) => return Err(invalid()),
    };
    *slot = (value, origin.clone());
    Ok(())
}

fn flatten(prefix: &str, value: &Value, found: &mut impl FnMut(String, &Value)) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                flatten(&key, member, found);
            }
        }
        leaf => found(prefix.to_owned(), leaf),
    }
}

fn unflatten(keys: &Keys) -> Value {
    let mut root = Map::new();
    for (key, (value, _)) in keys {
        let mut place = &mut root;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                place.insert(part.to_owned(), value.clone());
                break;
            }
            let slot = place.entry(part).or_insert_with(|| Value::Object(Map::new()));
            match slot {
                Value::Object(inner) => place = inner,
                _ => break,
            }
        }
    }
    Value::Object(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, "[database]\nmax_connections = 3\n").unwrap();
        let of = |loaded: &Loaded| loaded.config.database.max_connections;
        let variables = env(&[("PLEXSPHERE_DATABASE_MAX_CONNECTIONS", "4")]);
        let flags = ["database.max_connections=5".to_owned()];
        assert_eq!(of(&load(Some(&file), [], &[]).unwrap()), 3);
        assert_eq!(of(&load(Some(&file), variables.clone(), &[]).unwrap()), 4);
        let loaded = load(Some(&file), variables, &flags).unwrap();
        assert_eq!(of(&loaded), 5);
        assert_eq!(loaded.keys["database.max_connections"].1, Origin::Flag);
    }

    #[test]
    fn a_key_that_nobody_knows_refuses_to_start_wherever_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, "[database]\nurll = 'x'\n").unwrap();
        assert!(matches!(load(Some(&file), [], &[]), Err(ConfigError::UnknownKey { .. })));
        assert!(matches!(load(None, env(&[("PLEXSPHERE_NO", "1")]), &[]), Err(ConfigError::UnknownKey { .. })));
        assert!(matches!(load(None, [], &["no=1".to_owned()]), Err(ConfigError::UnknownKey { .. })));
        assert!(matches!(load(None, [], &["database.max_connections=x".to_owned()]), Err(ConfigError::Invalid(_))));
    }

    #[test]
    fn names_that_deployments_are_used_to_set_the_keys_that_have_others_by_their_place() {
        let variables = env(&[
            ("PLEXSPHERE_PLATFORM_ADMINS", "https://idp.example|ada, https://idp.example|bob"),
            ("PLEXSPHERE_CSRF_ALLOWED_ORIGINS", "https://console.example"),
        ]);
        let auth = load(None, variables, &[]).unwrap().config.auth;
        assert_eq!(auth.platform_admins, ["https://idp.example|ada", "https://idp.example|bob"]);
        assert_eq!(auth.csrf_allowed_origins, ["https://console.example"]);
    }

    #[test]
    fn the_shipped_file_is_the_defaults() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/plexsphere.toml"));
        let shipped = load(Some(path), [], &[]).unwrap();
        let defaults = load(None, [], &[]).unwrap();
        let missing: Vec<&String> = shipped
            .keys
            .iter()
            .filter(|(_, (value, origin))| *origin == Origin::Default && !value.is_null())
            .map(|(key, _)| key)
            .collect();
        assert!(missing.is_empty(), "the shipped file does not spell out {missing:?}");
        for (key, (value, _)) in &shipped.keys {
            assert_eq!(*value, defaults.keys[key].0, "{key}");
        }
    }
}
