//! Rows for `COPY … FROM STDIN (FORMAT binary)`: PostgreSQL, "COPY", section "Binary Format".
//!
//! Neither side builds arrays for it, and the server places the rows by pages.

use bytes::{BufMut as _, BytesMut};
use plexsphere_kernel::{Fault, Tx};
use time::OffsetDateTime;
use time::macros::datetime;
use tracing::Instrument as _;
use uuid::Uuid;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const EPOCH: OffsetDateTime = datetime!(2000-01-01 00:00 UTC);

/// Rows of `COLUMNS` columns each.
pub(super) struct Rows<const COLUMNS: usize> {
    buffer: BytesMut,
}

/// A value of one column.
#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Int4(i32),
    Int8(i64),
    Bytes(&'a [u8]),
    Text(&'a str),
    Uuid(Uuid),
    /// Carried in microseconds.
    Instant(OffsetDateTime),
}

impl<const COLUMNS: usize> Rows<COLUMNS> {
    /// Space for `rows` of them of about `bytes` each.
    pub(super) fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(HEADER.len() + rows.saturating_mul(bytes));
        buffer.put_slice(HEADER);
        Self { buffer }
    }

    pub(super) fn push(&mut self, values: [Value<'_>; COLUMNS]) {
        // A table has at most 1600 columns.
        self.buffer.put_i16(i16::try_from(COLUMNS).unwrap_or(i16::MAX));
        for value in values {
            match value {
                Value::Null => self.buffer.put_i32(-1),
                Value::Int4(number) => self.field(&number.to_be_bytes()),
                Value::Int8(number) => self.field(&number.to_be_bytes()),
                Value::Bytes(bytes) => self.field(bytes),
                Value::Text(text) => self.field(text.as_bytes()),
                Value::Uuid(id) => self.field(id.as_bytes()),
                Value::Instant(at) => {
                    // The years that the type can carry fit with room to spare.
                    let micros = (at - EPOCH).whole_microseconds();
                    self.field(&i64::try_from(micros).unwrap_or(i64::MAX).to_be_bytes());
                }
            }
        }
    }

    fn field(&mut self, bytes: &[u8]) {
        // A message of the protocol, and so a field, is shorter than 1 GiB; the server refuses what is not.
        self.buffer.put_i32(i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        self.buffer.put_slice(bytes);
    }

    /// Runs `statement`, a `COPY` into as many columns, with these rows. The transaction is lost with an error, and a
    /// caller that stops waiting loses it as well.
    pub(super) async fn into_table(mut self, mut tx: Tx, statement: &'static str) -> Result<Tx, Fault> {
        self.buffer.put_i16(-1);
        // In a task of its own, which runs to its end: sqlx does not count the answers to a `COPY`, so a connection whose
        // `COPY` is dropped half way would go back to the pool out of step with its server.
        let copied = tokio::spawn(
            async move {
                let mut copy = tx.copy_in_raw(statement).await?;
                copy.send(self.buffer).await?;
                copy.finish().await?;
                Ok(tx)
            }
            .in_current_span(),
        );
        // A task does not come back only if the runtime is going down.
        Ok(copied.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))?)
    }
}
