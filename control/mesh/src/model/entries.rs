//! State entries: what is known about a Node under a key, and how that reads in a pull.

use std::sync::Arc;

use serde::Serialize;

/// The most reports that one Node keeps.
pub(crate) const MAX_REPORTS: i64 = 256;
/// The grammar of a key, for the API document.
pub(crate) const KEY_PATTERN: &str = "^[a-z][a-z0-9._-]{0,127}$";
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 128;
/// The longest value and the longest workload tag, in bytes.
const MAX_TEXT_BYTES: usize = 4_096;

/// Who writes an entry: `metadata` and `data` the platform, `report` the Node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Metadata,
    Data,
    Report,
}

impl EntryKind {
    const ALL: [Self; 3] = [Self::Metadata, Self::Data, Self::Report];

    /// The word in the database.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Data => "data",
            Self::Report => "report",
        }
    }

    /// Reads the word back.
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Whether a key fits [`KEY_PATTERN`].
pub(crate) fn is_key(key: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    key.len() <= MAX_KEY_BYTES && key.starts_with(|first: char| first.is_ascii_lowercase()) && key.bytes().all(rest)
}

/// Whether a value or a workload tag is short enough, and one that the database takes.
pub(crate) fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.contains('\0')
}

/// A report as a Node sends it.
pub(crate) struct Report<'r> {
    pub(crate) key: &'r str,
    pub(crate) value: &'r str,
    /// Empty for none.
    pub(crate) workload_tag: &'r str,
}

/// An entry as it is kept.
pub(crate) struct Entry {
    pub(crate) kind: EntryKind,
    pub(crate) key: String,
    pub(crate) value: String,
    /// Empty for none.
    pub(crate) workload_tag: String,
}

/// A Node's entries at one version, as the JSON text of the blocks `state` and `reports`.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntriesText {
    version: i64,
    text: Option<Arc<str>>,
}

#[derive(Serialize)]
struct Block<'e> {
    metadata: Vec<View<'e>>,
    data: Vec<View<'e>>,
    reports: Vec<View<'e>>,
}

#[derive(Serialize)]
struct View<'e> {
    key: &'e str,
    value: &'e str,
    #[serde(skip_serializing_if = "str::is_empty")]
    workload_tag: &'e str,
}

impl EntriesText {
    /// Renders entries, which come by key.
    ///
    /// # Errors
    /// [`serde_json::Error`] when they have no JSON form.
    pub(crate) fn render(version: i64, entries: &[Entry]) -> Result<Self, serde_json::Error> {
        let of = |kind: EntryKind| {
            let views = entries.iter().filter(|entry| entry.kind == kind).map(|entry| View {
                key: &entry.key,
                value: &entry.value,
                workload_tag: &entry.workload_tag,
            });
            views.collect()
        };
        let block =
            Block { metadata: of(EntryKind::Metadata), data: of(EntryKind::Data), reports: of(EntryKind::Report) };
        Ok(Self { version, text: Some(serde_json::to_string(&block)?.into()) })
    }

    /// The version it was read at; 0 where the Node never had an entry.
    pub(crate) const fn version(&self) -> i64 {
        self.version
    }

    /// How many bytes are kept of it.
    pub(crate) fn len(&self) -> usize {
        self.text.as_deref().map_or(0, str::len)
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        self.text.as_deref().unwrap_or(r#"{"metadata":[],"data":[],"reports":[]}"#)
    }
}

#[cfg(test)]
mod tests;
