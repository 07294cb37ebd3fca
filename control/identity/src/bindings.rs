//! Bindings to identity providers: whom a Domain, or the platform, lets say who a person is.

mod http;
mod lookup;
mod model;
mod probe;
mod reach;
mod service;
mod status;
mod store;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use model::Settings;
pub use model::{BindingOwner, BindingRefusal, IdpBinding, JitPolicy};
pub use probe::IdpHealthProbe;
pub use service::Bindings;
pub use status::{BindingEvent, BindingStatus};

pub(crate) use http::operations;
pub(crate) use store::{PAGES, STATEMENTS};
