//! Writing the tuples of memberships anew where they are missing, as the tree's are.

use std::collections::BTreeMap;

use plexsphere_kernel::{Database, Fault, RelationTuple, TupleWriter};
use plexsphere_wire::DomainId;

use super::model::Membership;
use super::store::{self, Homed};

/// How many memberships are gone through in one transaction.
const BATCH: i64 = 500;

/// Goes through every membership once. How many were looked after, missing or not.
///
/// # Errors
/// [`Fault`].
pub(crate) async fn repair(db: &Database, tuples: &dyn TupleWriter) -> Result<u64, Fault> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = batch(db, tuples, after.as_ref()).await?;
        count += u64::try_from(page.len()).unwrap_or(u64::MAX);
        match page.into_iter().next_back() {
            Some((_, last)) => after = Some(last),
            None => return Ok(count),
        }
    }
}

/// One batch behind `after`. Nothing is locked: a membership that ends meanwhile is looked for again before the commit.
async fn batch(db: &Database, tuples: &dyn TupleWriter, after: Option<&Membership>) -> Result<Vec<Homed>, Fault> {
    let mut tx = db.begin().await?;
    let page = store::page(&mut tx, after, BATCH).await?;
    for (domain, written) in by_domain(&page) {
        tuples.write(&mut tx, Some(domain), &written).await?;
    }
    let left = store::left(&mut tx, &page).await?;
    let gone: Vec<Homed> = page.iter().zip(left).filter(|(_, left)| !left).map(|(homed, _)| homed.clone()).collect();
    for (domain, gone) in by_domain(&gone) {
        tuples.remove(&mut tx, Some(domain), &gone).await?;
    }
    tx.commit().await?;
    Ok(page)
}

fn by_domain(page: &[Homed]) -> BTreeMap<DomainId, Vec<RelationTuple>> {
    let mut homes: BTreeMap<DomainId, Vec<RelationTuple>> = BTreeMap::new();
    for (domain, membership) in page {
        homes.entry(*domain).or_default().push(membership.tuple());
    }
    homes
}
