//! SQL over the tables of the schema `mesh`, and nothing else.

pub(crate) mod allocations;
pub(crate) mod domains;
pub(crate) mod endpoints;
pub(crate) mod entries;
pub(crate) mod epochs;
pub(crate) mod listing;
pub(crate) mod peers;
pub(crate) mod reachability;
pub(crate) mod rotations;
pub(crate) mod topology;

/// Every statement of this crate, for the test that prepares them all.
pub const STATEMENTS: &[&str] = &[
    allocations::BUDGET,
    allocations::LOCK,
    allocations::UNBUDGET,
    allocations::FLOOR,
    allocations::LOWEST_FREE,
    allocations::INSERT,
    allocations::RAISE_FLOOR,
    allocations::COOL,
    allocations::DUE,
    allocations::FREE,
    domains::SET_POLICY,
    domains::BUMP,
    domains::FORGET,
    endpoints::GROUND,
    endpoints::REFRESH,
    endpoints::LOCK_PEER,
    endpoints::LOCK,
    endpoints::WRITE,
    endpoints::FORGET,
    endpoints::SWEEP,
    listing::OTHERS,
    listing::LIST,
    listing::CHANGED,
    entries::READ,
    entries::HOLDS,
    entries::TOUCH,
    entries::PUT_REPORT,
    entries::LOCK,
    entries::DELETE_REPORT,
    entries::LOCK_PEERS,
    entries::PUT_MANY,
    entries::DELETE_MANY,
    entries::FORGET_VERSIONS,
    entries::FORGET,
    epochs::SEALED_BELOW,
    epochs::REWRAP,
    peers::INSERT,
    peers::INSERT_EPOCH,
    peers::FOREIGN_EPOCH,
    peers::SHARE,
    peers::HOLD,
    peers::DOMAIN_OF,
    peers::DEREGISTER,
    peers::DROP_EPOCHS,
    peers::HEAD,
    peers::BUMP_NODES,
    reachability::MATERIALISE,
    reachability::FORGET,
    reachability::FORGET_SERVED,
    reachability::BEAT,
    reachability::SERVED,
    reachability::SWEEP,
    topology::READ,
    rotations::REQUEST,
    rotations::PENDING,
    rotations::INSTALLED_BY,
    rotations::COMPLETE,
    rotations::CANCEL,
    rotations::KEY_ELSEWHERE,
    rotations::INSTALL,
    rotations::OUTLOOK,
    rotations::OTHER_NODES,
];
