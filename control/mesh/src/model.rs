//! The mesh's rules, without any I/O: which addresses are to be had, how reachability moves, how a peer list and the
//! entries of a Node read, what an endpoint is.

pub(crate) mod addresses;
pub(crate) mod endpoints;
pub(crate) mod entries;
pub(crate) mod peer_list;
pub(crate) mod reachability;
pub(crate) mod rotation;
pub(crate) mod topology;
