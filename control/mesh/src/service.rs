//! The use cases: one transaction each.

pub(crate) mod endpoints;
pub(crate) mod entries;
pub(crate) mod heads;
pub(crate) mod heartbeats;
pub(crate) mod membership;
pub(crate) mod node_state;
pub(crate) mod peer_lists;
pub(crate) mod rewrap;
pub(crate) mod rotation;
pub(crate) mod served;
pub(crate) mod sweepers;
pub(crate) mod topology;
