//! The mesh's rules, without any I/O: which addresses are to be had, how reachability moves, how a peer list reads.

pub(crate) mod addresses;
pub(crate) mod peer_list;
pub(crate) mod reachability;
pub(crate) mod rotation;
