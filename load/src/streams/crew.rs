//! Processes that hold streams together, ordered about from one.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use plexsphere_wire::NodeId;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::identity::Identity;
use super::message::{Answer, Habits, Missing, Mode, Order, Report, Written};

/// The most streams that one worker holds: a process may have 20,000 descriptors in some places.
pub const STREAMS_PER_WORKER: usize = 9_000;
/// How often a crew is asked while something is waited for.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The program that a worker is; it calls [`super::serve_orders`].
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// Why a crew could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// A worker could not be started, or is gone.
    #[error("a worker process: {0}")]
    Process(#[from] io::Error),
    /// A worker says why.
    #[error("a worker: {0}")]
    Failed(String),
    /// It did not come to pass in time; what was there instead.
    #[error("not within {0:?}: {1}")]
    Late(Duration, String),
}

struct Worker {
    _process: Child,
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Worker {
    fn start(program: &WorkerProgram) -> io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let process = Command::new(&program.program)
            .args(&program.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        ours.set_nonblocking(true)?;
        let (read, write) = UnixStream::from_std(ours)?.into_split();
        Ok(Self { _process: process, lines: BufReader::new(read).lines(), write })
    }

    async fn ask(&mut self, order: &Order) -> Result<Answer, CrewError> {
        let mut line = serde_json::to_vec(order).map_err(io::Error::other)?;
        line.push(b'\n');
        self.write.write_all(&line).await?;
        let line = self.lines.next_line().await?.ok_or_else(|| io::Error::other("it ended"))?;
        match serde_json::from_str(&line).map_err(io::Error::other)? {
            Answer::Failed(why) => Err(CrewError::Failed(why)),
            answer => Ok(answer),
        }
    }
}

/// Processes that hold streams. They end with it.
pub struct Crew {
    workers: Vec<Worker>,
    mode: Mode,
    /// In front of the workers' numbers, so that two crews on one machine have different addresses.
    first_number: usize,
}

impl std::fmt::Debug for Crew {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crew").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Crew {
    /// Starts as many workers as `streams` need, at least `least`.
    ///
    /// # Errors
    /// [`CrewError::Process`].
    pub fn hire(program: &WorkerProgram, streams: usize, least: usize) -> Result<Self, CrewError> {
        let count = streams.div_ceil(STREAMS_PER_WORKER).max(least).max(1);
        let workers = (0..count).map(|_| Worker::start(program)).collect::<io::Result<_>>()?;
        Ok(Self { workers, mode: Mode::default(), first_number: 0 })
    }

    /// As a second crew beside another one.
    #[must_use]
    pub const fn numbered_from(mut self, number: usize) -> Self {
        self.first_number = number;
        self
    }

    /// Gives every worker the order made for its place; their answers.
    async fn tell(&mut self, make: impl Fn(usize) -> Order) -> Result<Vec<Answer>, CrewError> {
        let mut answers = Vec::with_capacity(self.workers.len());
        let mut tasks = JoinSet::new();
        for (place, mut worker) in self.workers.drain(..).enumerate() {
            let order = make(place);
            tasks.spawn(async move {
                let answer = worker.ask(&order).await;
                (place, worker, answer)
            });
        }
        while let Some(told) = tasks.join_next().await {
            answers.push(told.map_err(io::Error::other)?);
        }
        answers.sort_by_key(|(place, ..)| *place);
        let (mut given, mut failed) = (Vec::new(), None);
        for (_, worker, answer) in answers {
            self.workers.push(worker);
            match answer {
                Ok(answer) => given.push(answer),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(given), Err)
    }

    /// Opens a stream for every Node, spread over the workers; does not wait for them.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn open(&mut self, habits: &Habits, identities: &[Identity]) -> Result<(), CrewError> {
        let (parts, first) = (self.parts(identities), self.first_number);
        self.mode = Mode::default();
        let order = |place: usize| Order::Open {
            habits: habits.clone(),
            identities: parts.get(place).copied().unwrap_or_default().to_vec(),
            number: first + place,
        };
        self.tell(order).await.map(drop)
    }

    fn parts<'i>(&self, identities: &'i [Identity]) -> Vec<&'i [Identity]> {
        identities.chunks(identities.len().div_ceil(self.workers.len()).max(1)).collect()
    }

    /// Whose streams can be stalled, when `every` so many-th of a worker's can.
    #[must_use]
    pub fn stallable(&self, identities: &[Identity], every: usize) -> Vec<NodeId> {
        let of_parts = self.parts(identities).into_iter().flat_map(|part| part.iter().step_by(every.max(1)));
        of_parts.map(|identity| identity.node).collect()
    }

    /// What all streams saw.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn report(&mut self) -> Result<Report, CrewError> {
        let mut sum = Report::default();
        for answer in self.tell(|_| Order::Report).await? {
            if let Answer::Report(report) = answer {
                sum.merge(&report);
            }
        }
        Ok(sum)
    }

    /// Waits until a report is as wanted, and returns it.
    ///
    /// # Errors
    /// [`CrewError::Late`] with what there was instead.
    pub async fn until(&mut self, patience: Duration, wanted: impl Fn(&Report) -> bool) -> Result<Report, CrewError> {
        let deadline = Instant::now() + patience;
        loop {
            let report = self.report().await?;
            if wanted(&report) {
                return Ok(report);
            }
            if Instant::now() > deadline {
                let (live, all, frames) = (report.live, report.streams, report.frames);
                let text = format!("{live} of {all} streams live, {frames} frames, {:?}", report.happened);
                return Err(CrewError::Late(patience, text));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Waits until every stream is open.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn all_live(&mut self, patience: Duration) -> Result<Report, CrewError> {
        self.until(patience, |report| report.live == report.streams).await
    }

    /// Cuts every stream; each comes back at once with its cursor.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn cut(&mut self) -> Result<(), CrewError> {
        self.mode.cuts += 1;
        self.behave().await
    }

    /// Has the stallable streams read nothing, or read on.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn stall(&mut self, stalled: bool) -> Result<(), CrewError> {
        self.mode.stalled = stalled;
        self.behave().await
    }

    async fn behave(&mut self) -> Result<(), CrewError> {
        let mode = self.mode;
        self.tell(|_| Order::Behave(mode)).await.map(drop)
    }

    /// Forgets what was counted; cursors stay.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn forget(&mut self) -> Result<(), CrewError> {
        self.tell(|_| Order::Forget).await.map(drop)
    }

    /// From now on notes the moment at which each stream is live and has seen `sequence`.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn watch(&mut self, sequence: u64) -> Result<(), CrewError> {
        self.tell(|_| Order::Watch(sequence)).await.map(drop)
    }

    /// The moments of [`Self::watch`] in microseconds of UNIX time, in order.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn caught(&mut self) -> Result<Vec<u64>, CrewError> {
        let mut moments = Vec::new();
        for answer in self.tell(|_| Order::Caught).await? {
            if let Answer::Caught(some) = answer {
                moments.extend(some);
            }
        }
        moments.sort_unstable();
        Ok(moments)
    }

    /// Which of these Domain-wide events are missing on the streams.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn missing(&mut self, expected: &[u64]) -> Result<Missing, CrewError> {
        let mut sum = Missing::default();
        for answer in self.tell(|_| Order::Missing(expected.to_vec())).await? {
            if let Answer::Missing(missing) = answer {
                sum.streams += missing.streams;
                sum.events += missing.events;
            }
        }
        Ok(sum)
    }

    /// Has the first worker accept bare connections; where.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn serve(&mut self, tls: Option<(PathBuf, PathBuf)>) -> Result<SocketAddr, CrewError> {
        match self.tell_first(&Order::Serve { tls }).await? {
            Answer::Serving(address) => Ok(address),
            other => Err(CrewError::Failed(format!("{other:?} to an order to serve"))),
        }
    }

    /// Has the first worker write to its bare connections.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn write(&mut self, bytes: &str, rounds: u32, pause: Duration) -> Result<Written, CrewError> {
        let pause_millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        match self.tell_first(&Order::Write { bytes: bytes.to_owned(), rounds, pause_millis }).await? {
            Answer::Written(written) => Ok(written),
            other => Err(CrewError::Failed(format!("{other:?} to an order to write"))),
        }
    }

    async fn tell_first(&mut self, order: &Order) -> Result<Answer, CrewError> {
        let first = self.workers.first_mut().ok_or_else(|| CrewError::Failed("nobody is there".to_owned()))?;
        first.ask(order).await
    }

    /// Opens `count` bare connections to `address`, as many at a time as streams are opened; returns when all are open.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn connect(
        &mut self,
        address: SocketAddr,
        count: usize,
        at_once: usize,
        ca_cert: Option<PathBuf>,
    ) -> Result<(), CrewError> {
        let (workers, first) = (self.workers.len(), self.first_number);
        let order = |place: usize| Order::Connect {
            address,
            count: count / workers + usize::from(place < count % workers),
            number: first + place,
            at_once,
            ca_cert: ca_cert.clone(),
        };
        self.tell(order).await.map(drop)
    }

    /// Closes every stream and every bare connection.
    ///
    /// # Errors
    /// [`CrewError`].
    pub async fn close(&mut self) -> Result<(), CrewError> {
        self.tell(|_| Order::Close).await.map(drop)
    }
}
