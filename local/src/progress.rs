//! Tells a person how far a slow step is: a bar on a terminal, one line per step elsewhere, on standard error.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use indicatif::{ProgressBar, ProgressStyle};

/// Where steps are reported. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Progress {
    kind: Arc<Kind>,
}

#[derive(Debug)]
enum Kind {
    Silent,
    Lines,
    Bars,
}

impl Progress {
    /// Bars when standard error is a terminal, else one line per step.
    #[must_use]
    pub fn stderr() -> Self {
        let kind = if std::io::stderr().is_terminal() { Kind::Bars } else { Kind::Lines };
        Self { kind: Arc::new(kind) }
    }

    /// Reports nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { kind: Arc::new(Kind::Silent) }
    }

    /// Starts a step of `total` units (bytes, when it is a download); 0 means unknown.
    pub(crate) fn step(&self, what: &str, total: u64) -> Step {
        match *self.kind {
            Kind::Silent => Step { bar: None },
            Kind::Lines => {
                // Nobody is helped by failing because standard error is closed.
                let _ = writeln!(std::io::stderr(), "{what}");
                Step { bar: None }
            }
            Kind::Bars => {
                let bar = ProgressBar::new(total);
                let template =
                    if total > 0 { "{msg:<38} {bar:30} {bytes:>10} / {total_bytes} {eta}" } else { "{spinner} {msg}" };
                if let Ok(style) = ProgressStyle::with_template(template) {
                    bar.set_style(style);
                }
                bar.set_message(what.to_owned());
                Step { bar: Some(bar) }
            }
        }
    }
}

/// One step under way; its bar goes away on drop.
#[derive(Debug)]
pub(crate) struct Step {
    bar: Option<ProgressBar>,
}

impl Step {
    pub(crate) fn reached(&self, units: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(units);
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
