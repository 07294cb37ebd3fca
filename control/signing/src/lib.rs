//! Signing: one Ed25519 key line per Domain, lent to the event relay.
//!
//! Language: a **key line** is all keys of a Domain in version order; the **current** key is the newest, the
//! **previous** one is believed until its transition is over; the **announced** key is the one events are signed with,
//! and trails the current one until `signing_key_rotated` is on the stream; the **pinned** key is what a Node received
//! at registration; an **announcement** is a fresh `signing_key_rotated` for Nodes that pin an older key.
//!
//! Invariants:
//! - **I1** Exactly one current key per Domain with keys, at most one previous key; versions only grow.
//! - **I2** A key never returns to an earlier state ([`KeyState::after`]).
//! - **I3** A wrapped seed opens only for its own deployment, Domain and kid; a key in OpenBao cannot be exported.
//! - **I4** Nothing is signed that is not a canonical envelope of the key's own Domain, about now.
//! - **I5** A process whose deployment is not the database's signs nothing.
//!
//! Seams: offers [`plexsphere_kernel::EnvelopeSigner`], `SigningKeys` and `DomainEntries`; needs a wrap-key ring of its
//! own, OpenBao's transit engine where keys rest there, `PinnedKeys`, the outbox, the audit log and the clock.

mod announcer;
mod metrics;
mod model;
mod service;
mod store;
mod tasks;

pub use announcer::SigningAnnouncer;
pub use metrics::SigningMetrics;
pub use model::{Custody, KeyEvent, KeyLineError, KeyState, NoTransition, kid_for};
pub use service::{
    DestroyError, Destruction, Disbelief, KeyInfo, RotateError, Rotated, Rotation, Signing, SigningConfig, SigningParts,
};
#[doc(hidden)]
pub use store::statements;
pub use tasks::{SigningRetireSweeper, SigningRotation, SigningSelfcheck};
