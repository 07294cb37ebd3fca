//! Progress on stderr: a moving line on a terminal, one line per second elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::result::Point;

/// How progress shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A moving line on a terminal, lines elsewhere.
    Auto,
    /// Lines, also on a terminal.
    Lines,
    /// Not at all.
    Silent,
}

/// A running display.
#[derive(Debug)]
pub(crate) enum Display {
    Bar(ProgressBar),
    Lines,
    Silent,
}

impl Progress {
    pub(crate) fn start(self) -> Display {
        match self {
            Self::Silent => Display::Silent,
            Self::Auto if std::io::stderr().is_terminal() => {
                let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("{prefix:>12.cyan} {wide_bar:.cyan/dim} {msg}") {
                    bar.set_style(style);
                }
                bar.enable_steady_tick(Duration::from_millis(200));
                Display::Bar(bar)
            }
            Self::Auto | Self::Lines => Display::Lines,
        }
    }
}

impl Display {
    fn line(text: &str) {
        // Progress that nobody can read any more is no reason to stop.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// `done` of `all` of a step of the set-up.
    pub(super) fn step(&self, step: &'static str, done: u64, all: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_prefix(step);
                bar.set_length(all);
                bar.set_position(done);
                bar.set_message(format!("{done}/{all}"));
            }
            // A line per tenth is enough where lines stay.
            Self::Lines if done == all || done.is_multiple_of((all / 10).max(1)) => {
                Self::line(&format!("{step} {done}/{all}"))
            }
            Self::Lines | Self::Silent => {}
        }
    }

    /// One second of a phase of `length` seconds.
    pub(super) fn point(&self, protocol: &'static str, length: u64, point: &Point, waiting: u64) {
        let text = format!(
            "{} records/s, {:.1} MiB/s, p50 {:.1} ms, p99 {:.1} ms, {} failed, {waiting} waiting",
            point.records,
            mebibytes(point.wire_bytes),
            point.p50,
            point.p99,
            point.errors,
        );
        match self {
            Self::Bar(bar) => {
                bar.set_prefix(protocol);
                bar.set_length(length);
                bar.set_position(Duration::try_from_secs_f64(point.seconds).unwrap_or_default().as_secs().min(length));
                bar.set_message(text);
            }
            Self::Lines => Self::line(&format!("{protocol} {:>4.0} s: {text}", point.seconds)),
            Self::Silent => {}
        }
    }

    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}
