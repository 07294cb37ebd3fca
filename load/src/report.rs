//! The report of a run: one HTML file that needs nothing else, readable in light and dark.

mod page;
mod plot;

pub use page::html;
