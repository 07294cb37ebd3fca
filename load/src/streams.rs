//! Very many event streams, held by a crew of processes, and what they cost the platform.
//!
//! A *crew* orders *workers* about; each is a process of its own. A *wave* is one Domain-wide event on its way to all
//! streams. A *herd* is all streams coming back at once.

mod bare;
mod book;
mod crew;
mod exchange;
mod figures;
mod follow;
mod ground;
mod identity;
mod link;
mod message;
mod parts;
pub mod process;
mod worker;

pub use book::STAMP;
pub use crew::{Crew, CrewError, STREAMS_PER_WORKER, WorkerProgram};
pub use figures::{Figure, per_mille};
pub use ground::Ground;
pub use identity::Identity;
pub use message::{Habits, Missing, Mode, Report, Wave, Written};
pub use parts::{
    BareTls, Begun, Broadcast, Cast, Herd, Site, Source, bare_handshakes, bare_writes, broadcast,
    everybody_has_a_cursor, herd, idle, steady,
};
pub use worker::serve as serve_orders;
