//! Labels of a metric sample.

use crate::telemetry::limits::{LABEL_KEY_BYTES, LABEL_VALUE_BYTES, LABELS};
use crate::telemetry::refusal::{Field, Rule};
use crate::telemetry::scanner::Scanner;
use crate::telemetry::text::Text;

/// Keys that could name a person.
const PERSONAL: [&str; 10] = [
    "email",
    "user_email",
    "sub",
    "subject",
    "identity",
    "identity_id",
    "principal",
    "principal_id",
    "user",
    "username",
];

/// Keys that the platform sets itself from the Node's credential.
const PLATFORM: [&str; 5] = ["domain_id", "project_id", "node_id", "group", "signal"];

/// The labels of a sample: checked, and read from the batch again each time somebody iterates.
#[derive(Debug, Clone, Copy, Default)]
pub struct Labels<'a> {
    /// The object from brace to brace; empty when the sample has no labels.
    raw: &'a str,
    len: usize,
    forbidden: usize,
}

/// Whether a label must not leave the front door: it could name a person, shadow what the platform says about the
/// sample, or starts with `__`. Compared ASCII case-insensitively.
pub fn is_forbidden_label(key: &str) -> bool {
    key.starts_with("__") || PERSONAL.iter().chain(&PLATFORM).any(|forbidden| key.eq_ignore_ascii_case(forbidden))
}

impl<'a> Labels<'a> {
    /// Number of labels.
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there is no label.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// Number of labels that [`is_forbidden_label`] names. Zero in a batch that the front door let pass unchanged.
    pub const fn forbidden(self) -> usize {
        self.forbidden
    }

    /// Keys and values as received, in the order of the batch.
    pub fn iter(self) -> impl Iterator<Item = (Text<'a>, Text<'a>)> {
        let mut scanner = Scanner::new(self.raw, true);
        (0..self.len).map_while(move |_| {
            // The cursor is on the opening brace or on a comma.
            scanner.step();
            scanner.skip_space();
            let key = scanner.string().ok()?;
            scanner.skip_space();
            scanner.step();
            scanner.skip_space();
            let value = scanner.string().ok()?;
            scanner.skip_space();
            Some((key, value))
        })
    }

    /// Reads the object that `labels` must be.
    pub(super) fn read(scanner: &mut Scanner<'a>) -> Result<Self, Rule> {
        if scanner.peek() != Some(b'{') {
            return Err(scanner.other_than(Rule::WrongType(Field::Labels)));
        }
        let start = scanner.position();
        let mut keys = [Text::new("", false); LABELS];
        let (mut len, mut forbidden) = (0, 0);
        scanner.object(|scanner, key| {
            if keys.get(..len).is_some_and(|earlier| earlier.contains(&key)) {
                return Err(Rule::DuplicateLabel);
            }
            *keys.get_mut(len).ok_or(Rule::TooManyLabels)? = key;
            if key.is_longer_than(LABEL_KEY_BYTES) {
                return Err(Rule::LabelKeyTooLong);
            }
            if scanner.peek() != Some(b'"') {
                return Err(scanner.other_than(Rule::LabelValueType));
            }
            if scanner.string()?.is_longer_than(LABEL_VALUE_BYTES) {
                return Err(Rule::LabelValueTooLong);
            }
            len += 1;
            forbidden += usize::from(is_forbidden_label(&key.to_cow()));
            Ok(())
        })?;
        Ok(Self { raw: scanner.since(start), len, forbidden })
    }
}
