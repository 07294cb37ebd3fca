//! Why a batch is refused, in words that carry no byte of it.

/// Why a batch is refused. `Display` is fit for a problem's `detail`: it names the record and the rule, never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The batch holds more records than the cap (`ingest_batch_too_many_records`).
    #[error("batch holds more than {cap} records")]
    TooManyRecords {
        /// The cap that was passed.
        cap: usize,
    },
    /// A record, or the frame around the records, breaks a rule (`ingest_batch_malformed`).
    #[error("record {record}: {rule}")]
    Malformed {
        /// Index of the record in the batch, from zero, counting array elements or non-blank lines.
        record: usize,
        /// The rule it breaks.
        rule: Rule,
    },
}

/// A structural rule of the record schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rule {
    /// The bytes are not UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// The batch starts with a byte-order mark.
    #[error("byte-order mark at the start")]
    ByteOrderMark,
    /// The bytes are not JSON at this place.
    #[error("not valid JSON")]
    Syntax,
    /// The batch holds no record.
    #[error("batch holds no record")]
    NoRecords,
    /// The top level is not a JSON array.
    #[error("top level must be a JSON array")]
    NotAnArray,
    /// The record is not a JSON object.
    #[error("record must be a JSON object")]
    NotAnObject,
    /// Something other than whitespace follows the array, or the object on its line.
    #[error("only whitespace may follow")]
    TrailingData,
    /// A member that the schema does not have.
    #[error("unknown member")]
    UnknownMember,
    /// A member that appears twice.
    #[error("member {0} appears twice")]
    DuplicateMember(Field),
    /// A required member that is absent.
    #[error("member {0} is required")]
    Missing(Field),
    /// A value of another JSON type than the schema's.
    #[error("member {0} has the wrong type")]
    WrongType(Field),
    /// A value outside the member's closed set.
    #[error("member {0} is not one of its allowed values")]
    NotAllowed(Field),
    /// An empty value where text is required.
    #[error("member {0} must not be empty")]
    Empty(Field),
    /// A value longer than its cap.
    #[error("member {0} is too long")]
    TooLong(Field),
    /// A number that no finite double can hold.
    #[error("member value must be a finite number")]
    NotFinite,
    /// A time that is not RFC 3339 with an offset, or whose instant lies outside the years 0000 to 9999.
    #[error("member timestamp must be an RFC 3339 time with an offset")]
    NotATime,
    /// The zero instant `0001-01-01T00:00:00Z`.
    #[error("member timestamp must not be the zero instant")]
    ZeroTime,
    /// More labels than the cap.
    #[error("too many labels")]
    TooManyLabels,
    /// A label key that appears twice.
    #[error("label key appears twice")]
    DuplicateLabel,
    /// A label key longer than its cap.
    #[error("label key is too long")]
    LabelKeyTooLong,
    /// A label value that is not a string.
    #[error("label value must be a string")]
    LabelValueType,
    /// A label value longer than its cap.
    #[error("label value is too long")]
    LabelValueTooLong,
}

/// A member of a record schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the member of that name")]
pub enum Field {
    Group,
    Name,
    Value,
    Labels,
    Timestamp,
    Severity,
    Unit,
    Hostname,
    Message,
    Source,
    Action,
    Outcome,
}

impl Field {
    /// The member's name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Name => "name",
            Self::Value => "value",
            Self::Labels => "labels",
            Self::Timestamp => "timestamp",
            Self::Severity => "severity",
            Self::Unit => "unit",
            Self::Hostname => "hostname",
            Self::Message => "message",
            Self::Source => "source",
            Self::Action => "action",
            Self::Outcome => "outcome",
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
