//! The mesh: who the Peers of a Domain are, which address each has, whether their Nodes are alive, and the pull by which a
//! Node learns all of it.
//!
//! Language: a **Peer** is the mesh face of one Node; an **allocation** is one address of a Domain bound to one Node; the
//! **mesh version** counts changes of a Domain's peer projection, a **Node version** changes of what one Node pulls
//! besides; an **endpoint** is where a Node saw itself from outside, fresh or stale; a **state entry** is a value about a
//! Node under a kind and a key; a **heartbeat** is the fact that drives **reachability**; a **pull** is the answer of
//! `GetNodeState`; a **rotation** is one request to replace a Node's key.
//!
//! Invariants:
//! - **I1** An address of a Domain has at most one holder, cooling addresses included, and is never a network or
//!   broadcast address, nor inside another Project's sub-range.
//! - **I2** A Node has at most one live Peer, and a public key at most one in its Domain.
//! - **I3** `last_heartbeat_at` never moves backwards; reads judge by the timestamps, not by the sweeper.
//! - **I4** A heartbeat is answered after its commit, and writes neither event nor audit row.
//! - **I5** Every member of a pull is always present; two pulls over one state are byte-equal.
//! - **I6** A pull shows one state of the database, which is behind it by no more than a notification takes; only its peer
//!   list may be another moment's, and then a newer one. What changed of it between two versions is read and rendered once,
//!   and a pull waits for two readings at most. A list that was brought up to date is byte-equal with one that was read
//!   anew.
//! - **I7** No seed of a pre-shared key leaves this context, and none rests unsealed.
//! - **I8** Whatever changes what others program for a Peer counts the mesh version, marks the Peer with it and tells the
//!   others, all in the transaction of the change; a report of the same endpoint, or of an older one, does none of it.
//! - **I9** State entries of one kind have one writer: `metadata` and `data` the platform, `report` the Node. A report is
//!   told to nobody and is no reason to reconcile; the next pull shows it.
//! - **I10** A Peer has one seed while it lives and none afterwards, and at most one pending rotation. A rotation that was
//!   completed was told once, and its receipt never changes.
//!
//! Seams: offers [`plexsphere_kernel::seams::MeshMembership`], [`plexsphere_kernel::seams::NodeStateWriter`], operations,
//! tasks; needs [`PolicyBlock`], [`BridgeBlock`], [`ExecutionsBlock`], [`SessionsBlock`] and [`EdgeHandshakes`] where those
//! contexts exist.

mod blocks;
mod events;
mod http;
mod mesh;
mod model;
mod service;
mod store;

pub use blocks::{Blocks, BridgeBlock, ExecutionsBlock, PolicyBlock, SessionsBlock};
pub use mesh::{Mesh, MeshConfig, MeshParts, bump_nodes};
pub use model::endpoints::FallbackFill;
pub use model::reachability::{Reachability, ReachabilityState, state_of};
pub use service::endpoints::PeerEndpointSweeper;
pub use service::heartbeats::{ERROR_DATASTORE, ERROR_MALFORMED, HEADER_ERROR, HeartbeatResponder, Heartbeats};
pub use service::membership::{Membership, psk_aad};
pub use service::node_state::{NodeStates, Pull, Puller, ReadRefusal};
pub use service::sweepers::{AllocationSweeper, ReachabilitySweeper};
pub use service::topology::EdgeHandshakes;
pub use store::STATEMENTS;
