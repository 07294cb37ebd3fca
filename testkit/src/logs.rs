//! Fails a test that logs an unexpected WARN or ERROR line.
//!
//! A line belongs to the guard of the thread it is written on; else to the guard of the thread on which a span around
//! it was opened; else to the only guard there is. With several guards and none of the three, it belongs to nobody.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Warnings of libraries that say nothing of our code: how slow this machine is today, that a pooled connection died with
/// a server that a test killed, which is seen or not as the moment falls, and that a `COMMIT` nobody waited for any more
/// had its effect before the `ROLLBACK` that sqlx sends after it. Target, and a part of the message.
const NOISE: &[(&str, &str)] = &[
    ("sqlx::query", "slow statement"),
    ("sqlx::pool::acquire", "slow"),
    ("sqlx_core::pool::connection", "testing the connection on-release"),
    ("sqlx::postgres::notice", "there is no transaction in progress"),
];
/// How many lines one guard keeps, so that a loop that logs does not eat the memory; later lines are dropped.
const KEPT_LINES: usize = 10_000;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Record>>> = const { RefCell::new(None) };
}

#[derive(Debug, Default)]
struct Record {
    lines: Mutex<Vec<Line>>,
    expected: Mutex<Vec<String>>,
}

/// One recorded line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How grave it is.
    pub level: Level,
    /// The module that wrote it.
    pub target: String,
    /// Its message and its fields, `message key=value …`.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.level, self.target, self.text)
    }
}

/// Watches the log of one test. Hold it until the end of the test.
#[derive(Debug)]
pub struct Guard {
    record: Arc<Record>,
    /// It speaks for the thread it was made on.
    _not_send: PhantomData<*const ()>,
}

/// Starts to watch the log of the present test, on the present thread. DEBUG and graver lines of every crate are
/// recorded; `RUST_LOG` chooses what is also printed.
#[must_use]
pub fn guard() -> Guard {
    install();
    let record = Arc::new(Record::default());
    CURRENT.with(|current| *current.borrow_mut() = Some(Arc::clone(&record)));
    let mut guards = guards().lock();
    guards.retain(|guard| guard.strong_count() > 0);
    guards.push(Arc::downgrade(&record));
    Guard { record, _not_send: PhantomData }
}

impl Guard {
    /// Allows WARN and ERROR lines that contain this text (level, target, message and fields), earlier and later ones.
    pub fn expect(&self, part: impl Into<String>) -> &Self {
        self.record.expected.lock().push(part.into());
        self
    }

    /// Everything recorded so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.record.lines.lock().clone()
    }

    /// Whether a line contains this text.
    #[must_use]
    pub fn saw(&self, part: &str) -> bool {
        self.record.lines.lock().iter().any(|line| line.to_string().contains(part))
    }

    /// The WARN and ERROR lines nobody expected.
    #[must_use]
    pub fn unexpected(&self) -> Vec<Line> {
        let expected = self.record.expected.lock().clone();
        let lines = self.record.lines.lock();
        let grave = lines.iter().filter(|line| line.level <= Level::WARN);
        let grave =
            grave.filter(|line| !NOISE.iter().any(|(target, part)| line.target == *target && line.text.contains(part)));
        grave.filter(|line| !expected.iter().any(|part| line.to_string().contains(part.as_str()))).cloned().collect()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        CURRENT.with(|current| *current.borrow_mut() = None);
        let unexpected = self.unexpected();
        if unexpected.is_empty() || std::thread::panicking() {
            return;
        }
        let mut text = String::new();
        for line in unexpected {
            let _ = write!(text, "\n  {line}");
        }
        panic!("the test logged what it did not expect:{text}");
    }
}

fn guards() -> &'static Mutex<Vec<Weak<Record>>> {
    static GUARDS: Mutex<Vec<Weak<Record>>> = Mutex::new(Vec::new());
    &GUARDS
}

fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let shown = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
        let print = tracing_subscriber::fmt::layer().with_test_writer().with_filter(shown);
        let subscriber = Registry::default().with(Recorder.with_filter(LevelFilter::DEBUG)).with(print);
        // A test binary that has its own subscriber keeps it; its guards then see nothing and say so.
        if let Err(error) = tracing::subscriber::set_global_default(subscriber) {
            panic!("the log cannot be watched: {error}");
        }
    });
}

struct Recorder;

impl<S> Layer<S> for Recorder
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let owner = current().or_else(|| {
            let parent = span.parent()?;
            let extensions = parent.extensions();
            extensions.get::<Weak<Record>>()?.upgrade()
        });
        if let Some(owner) = owner {
            span.extensions_mut().insert(Arc::downgrade(&owner));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let around = || {
            let mut scope = context.event_scope(event)?;
            scope.find_map(|span| span.extensions().get::<Weak<Record>>().and_then(Weak::upgrade))
        };
        let Some(owner) = current().or_else(around).or_else(only) else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let line = Line {
            level: *event.metadata().level(),
            target: event.metadata().target().to_owned(),
            text: format!("{}{}", text.message, text.fields),
        };
        let mut lines = owner.lines.lock();
        if lines.len() < KEPT_LINES {
            lines.push(line);
        }
    }
}

fn current() -> Option<Arc<Record>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
}

fn only() -> Option<Arc<Record>> {
    let guards = guards().lock();
    let mut alive = guards.iter().filter_map(Weak::upgrade);
    let first = alive.next()?;
    alive.next().is_none().then_some(first)
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            let _ = write!(self.fields, " {}={value}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let _ = write!(self.fields, " {}={value:?}", field.name());
        }
    }
}
