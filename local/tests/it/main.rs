//! What a user of this crate relies on.
