//! Groups: named sets of the principals of a Domain, filled by hand or by an identity provider.

mod http;
mod members;
mod model;
mod service;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use members::repair as repair_members;
pub use members::{MemberKind, Membership};
pub(crate) use model::object;
pub use model::{Group, GroupRefusal, GroupSource};
pub use service::Groups;

use http::operations as of_groups;
use plexsphere_kernel::http::Operation;
use plexsphere_kernel::paging::CursorCodec;

/// Every statement, in lists.
pub(crate) const STATEMENTS: &[&[&str]] = &[store::STATEMENTS, members::STATEMENTS];

/// The pages and look-ups, each with the index that it walks.
pub(crate) const PAGES: &[&[(&str, &str)]] = &[store::PAGES, members::PAGES];

/// The operations of Groups and of their members.
pub(crate) fn operations(groups: &Groups, cursors: &CursorCodec) -> Vec<Operation> {
    let mut all = of_groups(groups, cursors);
    all.extend(members::operations(groups));
    all
}
