//! The mesh against real PostgreSQL and NATS.
