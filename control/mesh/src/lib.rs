//! The mesh: who the Peers of a Domain are, which address each has, whether their Nodes are alive, and the pull by which a
//! Node learns all of it.
//!
//! Language: a **Peer** is the mesh face of one Node; an **allocation** is one address of a Domain bound to one Node; the
//! **mesh version** counts changes of a Domain's peer projection, a **Node version** changes of what one Node pulls
//! besides; a **heartbeat** is the fact that drives **reachability**; a **pull** is the answer of `GetNodeState`;
//! a **rotation** is one request to replace a Node's key.
//!
//! Invariants:
//! - **I1** An address of a Domain has at most one holder, cooling addresses included, and is never a network or
//!   broadcast address, nor inside another Project's sub-range.
//! - **I2** A Node has at most one live Peer, and a public key at most one in its Domain.
//! - **I3** `last_heartbeat_at` never moves backwards; reads judge by the timestamps, not by the sweeper.
//! - **I4** A heartbeat is answered after its commit, and writes neither event nor audit row.
//! - **I5** Every member of a pull is always present; two pulls over one state are byte-equal.
//! - **I6** A pull shows one state of the database; only its peer list may be another moment's, and never one from before
//!   the pull. The list of a version is read and rendered once, and a pull waits for two readings at most.
//! - **I7** No seed of a pre-shared key leaves this context, and none rests unsealed.
//! - **I8** A Peer has one seed while it lives and none afterwards, and at most one pending rotation. A rotation that was
//!   completed was told once, and its receipt never changes.
//!
//! Seams: offers [`plexsphere_kernel::seams::MeshMembership`], operations, tasks; needs [`PolicyBlock`],
//! [`BridgeBlock`], [`ExecutionsBlock`] and [`SessionsBlock`] where those contexts exist.

mod blocks;
mod events;
mod http;
mod mesh;
mod model;
mod service;
mod store;

pub use blocks::{Blocks, BridgeBlock, ExecutionsBlock, PolicyBlock, SessionsBlock};
pub use mesh::{Mesh, MeshConfig, MeshParts, bump_nodes};
pub use model::reachability::{Reachability, ReachabilityState, state_of};
pub use service::heartbeats::{ERROR_DATASTORE, ERROR_MALFORMED, HEADER_ERROR, HeartbeatResponder, Heartbeats};
pub use service::membership::{Membership, psk_aad};
pub use service::node_state::{NodeStates, Pull, Puller, ReadRefusal};
pub use service::sweepers::{AllocationSweeper, ReachabilitySweeper};
pub use store::STATEMENTS;
