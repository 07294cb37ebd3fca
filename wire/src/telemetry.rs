//! Telemetry records as Nodes send them and as the buffer streams carry them: the one strict decoder that the front
//! door runs before it answers, and that the router runs again before it renders.
//!
//! **Language.** A *batch* is one request body or one buffer message. Its *signal* says which record it holds, its
//! *shape* how records are laid out (a JSON array or NDJSON), its *encoding* how the bytes are compressed. *Wire bytes*
//! are counted before, *inflated bytes* after decompression. A *refusal* names the record's index and the rule that it
//! broke, never a value.
//!
//! The decoder knows the three record shapes and nothing else. It walks the inflated bytes once, never writes to them,
//! allocates nothing per record, and never descends into a value it does not expect, so that nesting cannot cost
//! anything. Views borrow from the inflated bytes.
//!
//! Invariants:
//!
//! - **I1** A batch passes whole or not at all, and the first problem in record order is the one reported.
//! - **I2** No unknown and no repeated member name passes; names are compared after unescaping, case-sensitively.
//! - **I3** Every view that comes out of [`Records`] obeys the caps in [`limits`]; only `message` may be longer, and
//!   then [`Summary::must_rewrite`] is true.
//! - **I4** [`rewrite`] yields a batch that decodes to the same records without the forbidden labels and with long
//!   messages cut, that needs no further rewriting, and that [`rewrite`] maps to itself.
//! - **I5** [`Inflater`] holds at most the cap and one byte of inflated data, whatever the input claims.
//!
//! ```
//! use plexsphere_wire::telemetry::{validate, Limits, LogLine, Records, Shape, Signal};
//!
//! let body = br#"{"severity":"info","message":"up","timestamp":"2026-11-24T08:00:00.5Z"}"#;
//! let summary = validate(Signal::Logs, Shape::Ndjson, body, &Limits::default()).expect("a valid batch");
//! assert_eq!(summary.records, 1);
//! for line in Records::<LogLine<'_>>::new(Shape::Ndjson, body, &Limits::default()) {
//!     assert_eq!(line.expect("validated above").message.to_cow(), "up");
//! }
//! ```

mod batch;
mod identity;
mod inflate;
pub mod limits;
mod payload;
mod record_time;
mod records;
mod refusal;
mod rewrite;
mod scanner;
mod text;

pub use batch::{Records, Summary, validate};
pub use identity::batch_id;
pub use inflate::{InflateError, Inflater};
pub use limits::Limits;
pub use payload::{Encoding, EncodingUnsupported, PayloadFormat, PayloadFormatUnknown, Shape, Signal};
pub use record_time::RecordTime;
pub use records::{
    AuditEvent, AuditSource, Labels, LogLine, MetricGroup, MetricSample, Number, Record, Severity, is_forbidden_label,
};
pub use refusal::{Field, Refusal, Rule};
pub use rewrite::rewrite;
pub use text::Text;

#[cfg(test)]
mod tests;
