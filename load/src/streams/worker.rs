//! A process of a crew: a process may hold only so many descriptors, and one thread can read so many streams.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::bare;
use super::book::Book;
use super::follow::{Follower, Shared};
use super::identity::Identity;
use super::link::Route;
use super::message::{Answer, Habits, Mode, Order};

/// Takes orders from the socket that is this process's standard input until it closes.
///
/// # Errors
/// When standard input is no socket, or breaks.
pub fn serve() -> io::Result<()> {
    let socket = std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Says at once whether this is the socket of a crew.
    socket.peer_addr()?;
    crate::descriptors::raise_limit();
    // Two threads: bare servers are compared with an edge, which has one per core.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async move {
        socket.set_nonblocking(true)?;
        let (read, mut write) = UnixStream::from_std(socket)?.into_split();
        let (mut lines, mut worker) = (BufReader::new(read).lines(), Worker::default());
        while let Some(line) = lines.next_line().await? {
            let answer = match serde_json::from_str(&line) {
                Ok(order) => worker.obey(order).await.unwrap_or_else(|error| Answer::Failed(error.to_string())),
                Err(error) => Answer::Failed(error.to_string()),
            };
            let mut line = serde_json::to_vec(&answer).map_err(io::Error::other)?;
            line.push(b'\n');
            write.write_all(&line).await?;
        }
        Ok(())
    })
}

#[derive(Default)]
struct Worker {
    shared: Option<Arc<Shared>>,
    mode: watch::Sender<Mode>,
    streams: JoinSet<()>,
    server: bare::Server,
}

impl Worker {
    async fn obey(&mut self, order: Order) -> io::Result<Answer> {
        Ok(match order {
            Order::Open { habits, identities, number } => {
                self.open(habits, identities, number).await?;
                Answer::Done
            }
            Order::Behave(mode) => {
                self.mode.send_replace(mode);
                Answer::Done
            }
            Order::Report => Answer::Report(Box::new(self.shared()?.book().report())),
            Order::Forget => {
                self.shared()?.book().forget();
                Answer::Done
            }
            Order::Watch(sequence) => {
                self.shared()?.book().watch(sequence);
                Answer::Done
            }
            Order::Caught => Answer::Caught(self.shared()?.book().caught()),
            Order::Missing(expected) => Answer::Missing(self.shared()?.book().missing(&expected)),
            Order::Serve { tls } => Answer::Serving(self.server.serve(tls)?),
            Order::Write { bytes, rounds, pause_millis } => {
                let pause = Duration::from_millis(pause_millis);
                Answer::Written(self.server.write(bytes.into_bytes(), rounds, pause).await?)
            }
            Order::Connect { address, count, number, at_once, ca_cert } => {
                let route = Route::bare(address, ca_cert, number)?;
                bare::connect(route, (count, at_once), &mut self.streams).await?;
                Answer::Done
            }
            Order::Close => {
                self.streams.shutdown().await;
                self.server = bare::Server::default();
                self.shared = None;
                Answer::Done
            }
        })
    }

    fn shared(&self) -> io::Result<&Arc<Shared>> {
        self.shared.as_ref().ok_or_else(|| io::Error::other("no stream was opened"))
    }

    async fn open(&mut self, habits: Habits, identities: Vec<Identity>, number: usize) -> io::Result<()> {
        self.streams.shutdown().await;
        let mut routes = Vec::new();
        for url in &habits.urls {
            routes.push(Route::to(url, habits.ca_cert.clone(), habits.http2, number).await?);
        }
        let (book, connects) = (Mutex::new(Book::new(&identities)), Semaphore::new(habits.connects_at_once.max(1)));
        let shared = Arc::new(Shared { habits, routes, book, connects });
        self.mode = watch::Sender::new(Mode::default());
        for (index, identity) in identities.into_iter().enumerate() {
            let (shared, mode) = (Arc::clone(&shared), self.mode.subscribe());
            self.streams.spawn(Follower { shared, index, identity, mode }.run());
        }
        self.shared = Some(shared);
        Ok(())
    }
}
