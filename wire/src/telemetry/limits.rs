//! Every size the decoder bounds, with its unit last in the name.

/// Largest request body as received, still compressed: 1 MiB.
pub const WIRE_BYTES: usize = 1_048_576;
/// Largest batch after inflation: 10 MiB.
pub const INFLATED_BYTES: usize = 10_485_760;
/// Most records in one batch.
pub const RECORDS: usize = 5_000;

/// Longest metric `name`, in bytes of UTF-8 after unescaping.
pub const NAME_BYTES: usize = 256;
/// Most labels on one sample, counted as received (forbidden ones too).
pub const LABELS: usize = 20;
/// Longest label key, in bytes.
pub const LABEL_KEY_BYTES: usize = 128;
/// Longest label value, in bytes.
pub const LABEL_VALUE_BYTES: usize = 1_024;
/// Longest `unit`, `hostname`, `action` or `outcome`, in bytes.
pub const FIELD_BYTES: usize = 512;
/// Longest `message` that travels uncut, in bytes. A longer one is cut, not refused, so that one huge line cannot cost
/// its sender the rest of the batch.
pub const MESSAGE_BYTES: usize = 65_536;
/// What a cut message ends with. It counts towards [`MESSAGE_BYTES`], so that a cut message is not cut again.
pub const TRUNCATED: &str = "[truncated]";

/// Largest window a zstd frame may ask for, as a power of two: 8 MiB, what RFC 8878 recommends every decoder support.
pub const ZSTD_WINDOW_LOG: u32 = 23;

/// The caps that a deployment may set. The caps on single members are constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body as received, in bytes. The decoder does not see it; the front door reads this field.
    pub wire_bytes: usize,
    /// Largest batch after inflation, in bytes.
    pub inflated_bytes: usize,
    /// Most records in one batch.
    pub records: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { wire_bytes: WIRE_BYTES, inflated_bytes: INFLATED_BYTES, records: RECORDS }
    }
}
