//! One stream: opens it, reads it, comes back with the cursor.

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plexsphere_wire::sse::{Item, Parser};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};

use super::book::Book;
use super::exchange::{Asked, Broken, Exchange};
use super::identity::Identity;
use super::link::{Link, Route};
use super::message::{Habits, Mode};
use crate::events::IDLE_LIMIT;
use crate::transport::{Backoff, CONNECT_TIMEOUT};

/// How long a request may wait for `:ok`, behind its connection.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// What the streams of a worker share.
pub(super) struct Shared {
    pub(super) habits: Habits,
    pub(super) routes: Vec<Route>,
    pub(super) book: Mutex<Book>,
    pub(super) connects: Semaphore,
}

impl Shared {
    pub(super) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How one connection ended.
enum Ending {
    /// Cleanly, or cut by us: come back at once.
    Clean(&'static str),
    /// Broken, refused or silent: come back after a wait.
    Broken(String),
    /// The platform wants no more of this Node.
    Ended,
}

/// One stream of a worker.
pub(super) struct Follower {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) identity: Identity,
    pub(super) mode: watch::Receiver<Mode>,
}

impl Follower {
    /// Follows until the platform ends it, or for ever.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(self.shared.habits.backoff());
        let mut first = true;
        loop {
            let wait = match Box::pin(self.follow_once(std::mem::take(&mut first), &mut backoff)).await {
                Ending::Clean(why) => {
                    self.shared.book().closed(self.index, why);
                    continue;
                }
                Ending::Broken(why) => {
                    self.shared.book().closed(self.index, &why);
                    backoff.wait()
                }
                Ending::Ended => return,
            };
            sleep(wait).await;
        }
    }

    async fn follow_once(&mut self, first: bool, backoff: &mut Backoff) -> Ending {
        let cuts = self.mode.borrow_and_update().cuts;
        let mut reader = match self.open().await {
            Ok(reader) => reader,
            Err(ending) => return ending,
        };
        backoff.reset();
        let mut cut_at = self.cut_at(first);
        loop {
            tokio::select! {
                read = timeout(IDLE_LIMIT, reader.read(&self.shared, self.index)) => match read {
                    Ok(Ok(())) => {}
                    Ok(Err(ending)) => return ending,
                    Err(_) => return Ending::Broken("silent".to_owned()),
                },
                () = until(&mut cut_at) => return Ending::Clean("cut"),
                changed = self.mode.changed() => {
                    if changed.is_err() || self.mode.borrow_and_update().cuts != cuts {
                        return Ending::Clean("cut");
                    }
                    self.stall(cuts).await;
                }
            }
        }
    }

    /// Reads nothing for as long as it is told to.
    async fn stall(&mut self, cuts: u64) {
        if self.is_stallable() {
            let _ = self.mode.wait_for(|mode| !mode.stalled || mode.cuts != cuts).await;
        }
    }

    fn is_stallable(&self) -> bool {
        self.shared.habits.stallable.is_some_and(|every| self.index.is_multiple_of(every.max(1)))
    }

    /// The first time within the whole period, so that a fleet's cuts are spread evenly.
    fn cut_at(&self, first: bool) -> Option<Instant> {
        let period = Duration::from_millis(self.shared.habits.cut_after_millis?);
        let share = if first { rand::random::<f64>() } else { 1.0 };
        Some(Instant::now() + period.mul_f64(share))
    }

    async fn open(&self) -> Result<Reader, Ending> {
        let shared = &self.shared;
        let route = shared.routes.get(self.index % shared.routes.len().max(1));
        let route = route.ok_or_else(|| Ending::Broken("no route".to_owned()))?;
        let _permit = shared.connects.acquire().await;
        let begun = Instant::now();
        let link = within(CONNECT_TIMEOUT, route.connect(self.is_stallable())).await?;
        let exchange = if shared.habits.http2 { Exchange::h2() } else { Exchange::h1() };
        let mut reader = Reader { link, exchange, parser: Parser::default() };
        let request = reader.exchange.request(&Asked {
            authority: &route.authority,
            path: &format!("/v1/nodes/{}/events", self.identity.node),
            bearer: &self.identity.bearer,
            cursor: shared.book().cursor(self.index),
            tls: route.is_tls(),
        });
        within(OPEN_TIMEOUT, reader.link.write_all(&request)).await?;
        let opened = timeout(OPEN_TIMEOUT, async {
            loop {
                // The opening comment and the first frames may come in one piece: the stream is live before they are read.
                match reader.exchange.status() {
                    None => reader.read(shared, self.index).await?,
                    Some(200) => return Ok(()),
                    Some(status) => {
                        let ends = shared.book().refused(self.index, status);
                        return Err(if ends { Ending::Ended } else { Ending::Broken("refused".to_owned()) });
                    }
                }
            }
        });
        opened.await.map_err(|_| Ending::Broken("no answer".to_owned()))??;
        shared.book().opened(self.index, begun.elapsed());
        Ok(reader)
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> Result<T, Ending> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(|error| Ending::Broken(format!("{:?}", error.kind()))),
        Err(_) => Err(Ending::Broken("TimedOut".to_owned())),
    }
}

async fn until(at: &mut Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(*at).await,
        None => std::future::pending().await,
    }
}

/// An open connection and how far it was read.
struct Reader {
    link: Link,
    exchange: Exchange,
    parser: Parser,
}

impl Reader {
    /// Waits for bytes and enters what they complete.
    async fn read(&mut self, shared: &Shared, index: usize) -> Result<(), Ending> {
        let (exchange, parser) = (&mut self.exchange, &mut self.parser);
        let mut reply = Vec::new();
        let read = self.link.read(|bytes| {
            if bytes.is_empty() {
                return Err(Broken::Reset);
            }
            let mut body = Vec::new();
            exchange.feed(bytes, &mut body, &mut reply)?;
            enter(shared, index, parser.feed(&body));
            Ok(())
        });
        match read.await {
            Err(error) => return Err(Ending::Broken(format!("{:?}", error.kind()))),
            Ok(Err(broken)) => return Err(Ending::Broken(broken.to_string())),
            Ok(Ok(())) => {}
        }
        if !reply.is_empty() {
            within(OPEN_TIMEOUT, self.link.write_all(&reply)).await?;
        }
        if self.exchange.ended() && self.exchange.status() == Some(200) { Err(Ending::Clean("closed")) } else { Ok(()) }
    }
}

fn enter(shared: &Shared, index: usize, items: Vec<Item>) {
    if items.is_empty() {
        return;
    }
    let mut book = shared.book();
    for item in items {
        match item {
            Item::Comment(_) => book.commented(),
            Item::Frame { id, event, data } => book.frame(index, &id, &event, &data),
        }
    }
}
