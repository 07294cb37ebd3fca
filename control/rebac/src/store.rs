//! SQL over the tables of the schema `rebac`, and nothing else.

pub(crate) mod feed;
pub(crate) mod orphans;
pub(crate) mod reach;
pub(crate) mod rows;
pub(crate) mod tuples;

/// Every statement of this crate, for the test that prepares them all.
pub const STATEMENTS: &[&str] = &[
    feed::HEADS,
    feed::CHANGES,
    feed::GENERATIONS,
    feed::MOVED_HERE,
    feed::TUPLES,
    feed::FORMS,
    feed::TRIM,
    tuples::OUTDATE,
    tuples::WRITE,
    tuples::REVOKE,
    tuples::FORGET,
    tuples::INSERT,
    tuples::BY_TRIPLE,
    tuples::BY_ID,
    tuples::LOCK,
    tuples::DELETE,
    tuples::FILED,
    tuples::COUNT_FILED,
    tuples::DIFFERING,
    tuples::HOLD,
    tuples::HOLD_OF,
    tuples::ADMINISTERED,
    tuples::MISSING,
    orphans::PAGE,
    orphans::HOLD,
    orphans::REMOVE,
    tuples::HOLD_ADMINISTERED,
    tuples::ADMINISTERED_ALONE,
];
