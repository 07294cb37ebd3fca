//! Tests of the whole program: its roles as processes, over real servers.

mod architecture;
mod events;
mod hostile;
mod installation;
mod kills;
mod surface;
mod tour;
