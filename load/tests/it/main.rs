//! The library against strict stand-in servers over real sockets.

mod agent;
mod fleet;
mod platform;
mod streams;
mod transport;
