//! SQL of reads: pages and single entries, with what is joined at read time.

use plexsphere_kernel::Fault;
use plexsphere_kernel::audit::RequestContext;
use plexsphere_wire::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgPool, Row as _};
use uuid::Uuid;

use crate::chain::{Hash, fixed};
use crate::model::commitment;

macro_rules! joined {
    () => {
        "LEFT JOIN audit.subject_pii m ON m.chain = e.chain AND m.pseudonym = e.subject \
         LEFT JOIN audit.request_contexts c ON c.entry = e.entry \
         LEFT JOIN LATERAL (SELECT g.last_seq, g.etag, g.archived_at FROM audit.segments g \
         WHERE g.chain = e.chain AND g.first_seq <= e.seq ORDER BY g.first_seq DESC LIMIT 1) s ON s.last_seq >= e.seq"
    };
}

pub(super) const STATEMENTS: &[&str] = &[GET];

/// One page out of the log, then what is joined. `$1` chain, `$2` behind this place, `$3` limit; then a parameter for each
/// filter there is, in the order of [`CONDITIONS`]. Conditions that are not asked for are not written, because a planner
/// that does not know them to be void takes them for narrow, and sorts the whole chain.
const PAGE: [&str; 2] = [
    "SELECT e.seq, e.subject, e.relation, e.object_type, e.object_id, e.reason, e.caveat_names, e.correlation_id, \
     e.ctx, e.occurred_at, e.prev_hash, e.entry_hash, ''::bytea AS canonical, m.subject_id, c.salt, c.ip, \
     c.user_agent, s.etag, s.archived_at FROM (SELECT * FROM audit.entries WHERE chain = $1 AND seq > $2",
    concat!(" ORDER BY seq LIMIT $3) e ", joined!(), " ORDER BY e.seq"),
];
const CONDITIONS: [&str; 8] = [
    "subject =",
    "relation =",
    "object_type =",
    "object_id =",
    "reason =",
    "occurred_at >=",
    "occurred_at <=",
    "correlation_id =",
];
/// Finds entries whose reason is none of the closed set.
const UNKNOWN: &str = " AND reason NOT IN ('granted', 'out_of_scope', 'insufficient_relation', 'caveat_violation')";
const UNKNOWN_WORD: &str = "unknown";
/// Lets a list of refusals walk their own index.
const REFUSED: &str = " AND reason <> 'granted'";
const GET: &str = concat!(
    "SELECT e.seq, e.subject, e.relation, e.object_type, e.object_id, e.reason, e.caveat_names, e.correlation_id, \
     e.ctx, e.occurred_at, e.prev_hash, e.entry_hash, e.canonical, m.subject_id, c.salt, c.ip, c.user_agent, s.etag, \
     s.archived_at FROM (SELECT * FROM audit.entries WHERE chain = $1 AND seq = $2) e ",
    joined!()
);

/// What a page is narrowed to; all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters {
    /// A pseudonym.
    pub subject: Option<Hash>,
    /// A relation or action.
    pub relation: Option<String>,
    /// An object's kind.
    pub object_type: Option<String>,
    /// An object's id.
    pub object_id: Option<String>,
    /// A decision.
    pub reason: Option<String>,
    /// Not decided before.
    pub from: Option<Timestamp>,
    /// Not decided after.
    pub to: Option<Timestamp>,
    /// A request.
    pub correlation_id: Option<String>,
}

/// An entry as it is read: the row, and what is known of it beside the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its place.
    pub seq: i64,
    /// The subject's pseudonym.
    pub subject: Hash,
    /// Who that is; absent after an erasure.
    pub subject_id: Option<Uuid>,
    /// A relation or action.
    pub relation: String,
    /// The object's kind.
    pub object_type: String,
    /// The object's id.
    pub object_id: String,
    /// The decision.
    pub reason: String,
    /// Caveats with their parameters' names, as JSON.
    pub caveat_names: String,
    /// The request.
    pub correlation_id: String,
    /// When it was decided.
    pub occurred_at: Timestamp,
    /// The predecessor's hash.
    pub prev_hash: Hash,
    /// Its own hash.
    pub entry_hash: Hash,
    /// The bytes that were hashed; empty in pages.
    pub canonical: Vec<u8>,
    /// Where the request came from; empty after an erasure, and when it does not fit the commitment.
    pub context: RequestContext,
    /// The object store's word for the copy, and when it confirmed it.
    pub archived: Option<(String, Timestamp)>,
}

impl Filters {
    /// Which of [`CONDITIONS`] there are.
    fn present(&self) -> [bool; CONDITIONS.len()] {
        [
            self.subject.is_some(),
            self.relation.is_some(),
            self.object_type.is_some(),
            self.object_id.is_some(),
            self.stored_reason().is_some(),
            self.from.is_some(),
            self.to.is_some(),
            self.correlation_id.is_some(),
        ]
    }

    /// The reason as it is stored: `unknown` stands for every other one.
    fn stored_reason(&self) -> Option<&str> {
        self.reason.as_deref().filter(|reason| *reason != UNKNOWN_WORD)
    }

    fn statement(&self) -> String {
        match self.reason.as_deref() {
            Some(UNKNOWN_WORD) => list(self.present(), &[UNKNOWN, REFUSED]),
            Some(reason) if reason != "granted" => list(self.present(), &[REFUSED]),
            Some(_) | None => list(self.present(), &[]),
        }
    }
}

/// The statement of a page, made of our own words only.
fn list(present: [bool; CONDITIONS.len()], more: &[&str]) -> String {
    let [head, tail] = PAGE;
    let mut sql = head.to_owned();
    let conditions = CONDITIONS.into_iter().zip(present).filter(|(_, present)| *present);
    for ((condition, _), number) in conditions.zip(4..) {
        sql.push_str(&format!(" AND {condition} ${number}"));
    }
    more.iter().for_each(|condition| sql.push_str(condition));
    sql + tail
}

/// The lists that are asked for most, for the tests that prepare and explain statements: without filters, with each alone,
/// of refusals, and with all.
pub(crate) fn lists() -> Vec<String> {
    let none = [false; CONDITIONS.len()];
    let mut all = vec![list(none, &[]), list(none, &[UNKNOWN, REFUSED]), list([true; CONDITIONS.len()], &[REFUSED])];
    for at in 0..CONDITIONS.len() {
        let mut one = none;
        if let Some(present) = one.get_mut(at) {
            *present = true;
        }
        all.push(list(one, &[]));
        all.push(list(one, &[REFUSED]));
    }
    all
}

/// A page of a chain behind `after`, by place.
pub(crate) async fn page(
    pool: &PgPool,
    chain: Uuid,
    (after, limit): (i64, i64),
    filters: &Filters,
) -> Result<Vec<Entry>, Fault> {
    let mut query = sqlx::query(AssertSqlSafe(filters.statement())).bind(chain).bind(after).bind(limit);
    let Filters { subject, relation, object_type, object_id, from, to, correlation_id, .. } = filters;
    if let Some(subject) = subject {
        query = query.bind(subject.as_slice());
    }
    let texts = [relation, object_type, object_id].map(Option::as_deref);
    for text in texts.into_iter().chain([filters.stored_reason()]).flatten() {
        query = query.bind(text);
    }
    for time in [from, to].into_iter().flatten() {
        query = query.bind(time.inner());
    }
    if let Some(correlation_id) = correlation_id {
        query = query.bind(correlation_id);
    }
    let rows = query.fetch_all(pool).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// One entry.
pub(crate) async fn get(pool: &PgPool, chain: Uuid, seq: i64) -> Result<Option<Entry>, Fault> {
    let row = sqlx::query(GET).bind(chain).bind(seq).fetch_optional(pool).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

fn read(row: &PgRow) -> Result<Entry, sqlx::Error> {
    let etag: Option<String> = row.try_get("etag")?;
    let archived_at: Option<time::OffsetDateTime> = row.try_get("archived_at")?;
    Ok(Entry {
        seq: row.try_get("seq")?,
        subject: fixed(row.try_get("subject")?),
        subject_id: row.try_get("subject_id")?,
        relation: row.try_get("relation")?,
        object_type: row.try_get("object_type")?,
        object_id: row.try_get("object_id")?,
        reason: row.try_get("reason")?,
        caveat_names: row.try_get("caveat_names")?,
        correlation_id: row.try_get("correlation_id")?,
        occurred_at: Timestamp::new(row.try_get("occurred_at")?),
        prev_hash: fixed(row.try_get("prev_hash")?),
        entry_hash: fixed(row.try_get("entry_hash")?),
        canonical: row.try_get("canonical")?,
        context: context(row)?,
        archived: etag.zip(archived_at.map(Timestamp::new)),
    })
}

/// The context, when it is there and is the one that was committed to.
fn context(row: &PgRow) -> Result<RequestContext, sqlx::Error> {
    let Some(salt) = row.try_get::<Option<&[u8]>, _>("salt")? else { return Ok(RequestContext::default()) };
    let context = RequestContext { ip: row.try_get("ip")?, user_agent: row.try_get("user_agent")? };
    if commitment(&fixed(salt), &context) == fixed(row.try_get("ctx")?) {
        return Ok(context);
    }
    tracing::error!(
        seq = row.try_get::<i64, _>("seq")?,
        "the request context of an audit entry does not fit its commitment"
    );
    Ok(RequestContext::default())
}
