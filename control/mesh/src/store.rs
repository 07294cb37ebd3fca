//! SQL over the tables of the schema `mesh`, and nothing else.

pub(crate) mod allocations;
pub(crate) mod domains;
pub(crate) mod epochs;
pub(crate) mod peers;
pub(crate) mod reachability;
pub(crate) mod rotations;

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
    epochs::SEALED_BELOW,
    epochs::REWRAP,
    peers::INSERT,
    peers::INSERT_EPOCH,
    peers::FOREIGN_EPOCH,
    peers::OTHERS,
    peers::LIST,
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
    rotations::SHARE_PEER,
    rotations::HOLD_PEER,
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
