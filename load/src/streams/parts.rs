//! The measurements: each over streams of a crew, each beside what a bare program needs for the same.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::crew::{Crew, CrewError};
use super::figures::{Figure, per_mille, real};
use super::identity::Identity;
use super::message::{Habits, Report};
use super::process::Usage;
use crate::clock;

/// How long streams may take to open, and events to arrive.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a process is left alone before it is measured.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a process without streams is watched.
const ALONE: Duration = Duration::from_secs(2);

/// What a figure is measured on.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where streams go, and how they behave.
    pub habits: Habits,
    /// The processes of the edges behind it, when they run on this machine.
    pub edges: Vec<u32>,
    /// Kilobytes per stream that an edge is to stay below.
    pub memory_mark: Option<f64>,
}

impl Site {
    fn usage(&self) -> Result<Usage, CrewError> {
        Ok(Usage::of_all(&self.edges)?)
    }
}

/// Where events come from that concern every Node of the Domain.
pub trait Source {
    /// Has one event written.
    fn emit(&self) -> impl Future<Output = Result<(), CrewError>> + Send;

    /// How many envelopes so many events make at least.
    fn envelopes(&self, events: u32) -> u64;
}

fn ratio(part: f64, whole: u64) -> f64 {
    part / real(whole.max(1))
}

/// Opens a stream for every Node, leaves them idle for `rest`, and says what each costs the edges. The streams stay open.
///
/// # Errors
/// [`CrewError`].
pub async fn idle(
    crew: &mut Crew,
    site: &Site,
    identities: &[Identity],
    rest: Duration,
) -> Result<Vec<Figure>, CrewError> {
    sleep(SETTLE).await;
    let alone = site.usage()?;
    sleep(ALONE).await;
    let empty = site.usage()?;
    let begun = Instant::now();
    crew.open(&site.habits, identities).await?;
    let opened = crew.all_live(PATIENCE).await?;
    let took = begun.elapsed();
    sleep(SETTLE).await;
    let (still, comments) = (site.usage()?, crew.report().await?.comments);
    sleep(rest).await;
    let (idle, report) = (site.usage()?, crew.report().await?);
    let streams = report.live;
    let mut figures = vec![
        Figure::count("idle streams", streams),
        Figure::new("opening them", took.as_secs_f64(), "s"),
        Figure::millis("connect, p99", opened.connect.per_mille(990)),
        Figure::count("keep-alives while idle", report.comments.saturating_sub(comments)),
        Figure::count("streams that were lost while idle", report.opened.saturating_sub(streams)),
    ];
    if !site.edges.is_empty() {
        let grown = real(idle.pss_bytes.saturating_sub(empty.pss_bytes));
        let share = |from: Usage, to: Usage, time: Duration| {
            to.cpu.saturating_sub(from.cpu).as_secs_f64() / time.as_secs_f64().max(f64::EPSILON)
        };
        let (without, with) = (share(alone, empty, ALONE), share(still, idle, rest));
        let memory = Figure::new("memory of the edges per stream (PSS)", ratio(grown / 1_000.0, streams), "KB");
        figures.push(site.memory_mark.map_or(memory.clone(), |mark| memory.at_most(mark)));
        let cpu = ratio((with - without).max(0.0) * 1e6, streams);
        figures.push(Figure::new("processor time of the edges per second without a stream", without * 1e3, "ms"));
        figures.push(Figure::new("processor time of the edges per second with them, idle", with * 1e3, "ms"));
        figures.push(Figure::new("processor time per idle stream and second", cpu, "µs"));
    }
    Ok(figures)
}

/// How events are sent in a broadcast.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    /// How many.
    pub events: u32,
    /// The pause behind each.
    pub pause: Duration,
    /// How many streams read; the others may be behind. `None` when all do.
    pub readers: Option<u64>,
}

/// What a broadcast was.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// The figures.
    pub figures: Vec<Figure>,
    /// What the streams saw.
    pub report: Report,
    /// The edges' processor time per delivery, in nanoseconds.
    pub nanos_per_delivery: f64,
    /// From the writing of an event, or from its first frame where it does not say, to its last frame: p99.
    pub last_p99: Duration,
}

/// Sends events to open streams and says what each delivery takes. The streams stay open.
///
/// # Errors
/// [`CrewError`]; `Late` when an event did not reach every stream.
pub async fn broadcast(crew: &mut Crew, site: &Site, cast: Cast, source: &impl Source) -> Result<Broadcast, CrewError> {
    everybody_has_a_cursor(crew, source).await?;
    let before = site.usage()?;
    for _ in 0..cast.events {
        source.emit().await?;
        sleep(cast.pause).await;
    }
    // Events may be merged on their way: what counts is that every stream has what any has.
    let seen = source.envelopes(cast.events);
    let report = crew
        .until(PATIENCE, |report| {
            let events: u64 = report.waves.values().map(|wave| wave.frames).sum();
            let readers = cast.readers.unwrap_or(report.streams);
            report.waves.len() as u64 >= seen
                && !report.waves.is_empty()
                && events >= readers * report.waves.len() as u64
        })
        .await?;
    sleep(SETTLE).await;
    let report = Report { connect: report.connect, ..crew.report().await? };
    let cpu = site.usage()?.cpu.saturating_sub(before.cpu);
    let nanos_per_delivery = ratio(cpu.as_secs_f64() * 1e9, report.frames);
    let (last, spread) = lasts(&report);
    let mut figures = vec![
        Figure::count("events broadcast", report.waves.len() as u64),
        Figure::count("deliveries", report.frames),
        Figure::count("bytes of the largest frame", report.frame_bytes as u64),
        Figure::millis("from an event's first frame to its last, p99", spread),
    ];
    if report.latency.count() > 0 {
        figures.push(Figure::millis("from the writing of an event to its last frame, p99", last));
    }
    if !site.edges.is_empty() {
        figures.push(Figure::new("processor time of the edges per delivery", nanos_per_delivery / 1_000.0, "µs"));
    }
    Ok(Broadcast { figures, report, nanos_per_delivery, last_p99: last })
}

/// A stream that was cut before it heard anything tails on its return, as it should, so nobody is cut before that.
///
/// # Errors
/// [`CrewError`].
pub async fn everybody_has_a_cursor(crew: &mut Crew, source: &impl Source) -> Result<(), CrewError> {
    source.emit().await?;
    crew.until(PATIENCE, |report| report.with_cursor == report.streams).await?;
    // The event behind it may be one of two that go out together.
    sleep(SETTLE).await;
    crew.forget().await
}

/// The p99 over events of the time to the last frame: from the writing, and from the first frame.
fn lasts(report: &Report) -> (Duration, Duration) {
    let sorted = |from: fn(&super::Wave) -> u64| {
        let mut all: Vec<u64> = report.waves.values().map(|wave| wave.last_micros.saturating_sub(from(wave))).collect();
        all.sort_unstable();
        Duration::from_micros(per_mille(&all, 990))
    };
    (sorted(|wave| wave.written_micros.unwrap_or(wave.first_micros)), sorted(|wave| wave.first_micros))
}

/// Nanoseconds of processor time per write of a bare program that writes frames of `frame_bytes` to `count` sockets.
/// `server` is a crew of its own; the crew's streams may be open meanwhile, as far as descriptors reach.
///
/// # Errors
/// [`CrewError`].
pub async fn bare_writes(
    crew: &mut Crew,
    server: &mut Crew,
    count: usize,
    (frame_bytes, cast): (usize, Cast),
) -> Result<f64, CrewError> {
    let address: SocketAddr = server.serve(None).await?;
    crew.connect(address, count, 256, None).await?;
    // A chunk of HTTP/1.1, as the edge writes it.
    let bytes = format!("{frame_bytes:x}\r\n{}\r\n", "x".repeat(frame_bytes));
    // The last connections may still be on their way into the accepting program.
    let deadline = Instant::now() + PATIENCE;
    while server.write(&bytes, 1, SETTLE).await?.writes < count as u64 && Instant::now() < deadline {}
    let written = server.write(&bytes, cast.events, cast.pause).await?;
    server.close().await?;
    if written.short > 0 || written.writes != u64::from(cast.events) * count as u64 {
        return Err(CrewError::Failed(format!("the bare program did not write everything: {written:?}")));
    }
    Ok(ratio(real(written.cpu_nanos), written.writes))
}

/// What a bare TLS server is: its certificate's chain, its key, and the authority by which clients believe it.
#[derive(Clone, Debug)]
pub struct BareTls {
    /// The chain, for `localhost`.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authority; a certificate that vouches for itself is its own.
    pub ca_cert: PathBuf,
}

/// How long `count` bare TLS handshakes take between two programs that do nothing else, opened as streams are.
///
/// # Errors
/// [`CrewError`].
pub async fn bare_handshakes(
    crew: &mut Crew,
    server: &mut Crew,
    (count, at_once): (usize, usize),
    tls: BareTls,
) -> Result<Duration, CrewError> {
    let address = server.serve(Some((tls.certificate, tls.key))).await?;
    let begun = Instant::now();
    crew.connect(address, count, at_once, Some(tls.ca_cert)).await?;
    let took = begun.elapsed();
    server.close().await?;
    Ok(took)
}

/// What a herd was.
#[derive(Clone, Debug)]
pub struct Herd {
    /// The figures.
    pub figures: Vec<Figure>,
    /// Until 99 % of the streams were live and had seen what was to be seen.
    pub most: Duration,
}

/// How a herd began.
#[derive(Clone, Debug)]
pub struct Begun {
    /// When the time began to run, in microseconds of UNIX time.
    pub at_micros: u64,
    /// The processes of the edges that the herd comes to, when they run on this machine.
    pub edges: Vec<u32>,
}

/// Waits until all streams have come back and have seen what is watched for. They were broken right before, by whoever
/// calls, behind [`Crew::watch`].
///
/// # Errors
/// [`CrewError`].
pub async fn herd(crew: &mut Crew, begun: Begun) -> Result<Herd, CrewError> {
    let before = Usage::of_all(&begun.edges)?;
    let streams = crew.report().await?.streams;
    let wanted = usize::try_from(streams).unwrap_or(usize::MAX);
    let deadline = Instant::now() + PATIENCE;
    let moments = loop {
        let moments = crew.caught().await?;
        if moments.len() >= wanted {
            break moments;
        }
        if Instant::now() > deadline {
            return Err(CrewError::Late(PATIENCE, format!("{} of {wanted} streams caught up", moments.len())));
        }
        sleep(Duration::from_millis(100)).await;
    };
    let since = |moment: u64| Duration::from_micros(moment.saturating_sub(begun.at_micros));
    let most = since(per_mille(&moments, 990));
    let report = crew.report().await?;
    let mut figures = vec![
        Figure::count("streams that came back", streams),
        Figure::new("until half were live and caught up", since(per_mille(&moments, 500)).as_secs_f64(), "s"),
        Figure::new("until 99 % were live and caught up", most.as_secs_f64(), "s"),
        Figure::new("until all were live and caught up", since(per_mille(&moments, 1_000)).as_secs_f64(), "s"),
        Figure::millis("connect, p99", report.connect.per_mille(990)),
    ];
    let refused = report.happened.iter().filter(|(word, _)| word.starts_with("http_"));
    figures.extend(refused.map(|(word, count)| Figure::count(format!("answers {word}"), *count)));
    if !begun.edges.is_empty() {
        let cpu = Usage::of_all(&begun.edges)?.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e3;
        figures.push(Figure::new("processor time of the edges per stream that came back", ratio(cpu, streams), "ms"));
    }
    Ok(Herd { figures, most })
}

/// Watches streams that are cut again and again, for `time`.
///
/// # Errors
/// [`CrewError`].
pub async fn steady(crew: &mut Crew, site: &Site, time: Duration) -> Result<Vec<Figure>, CrewError> {
    crew.forget().await?;
    let (before, begun) = (site.usage()?, clock::unix_micros());
    sleep(time).await;
    let (after, report) = (site.usage()?, crew.report().await?);
    let seconds = Duration::from_micros(clock::unix_micros().saturating_sub(begun)).as_secs_f64();
    let mut figures = vec![
        Figure::new("connects per second", real(report.opened) / seconds, "1/s"),
        Figure::millis("connect, p50", report.connect.per_mille(500)),
        Figure::millis("connect, p99", report.connect.per_mille(990)).at_most(250.0),
    ];
    if !site.edges.is_empty() {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        figures.push(Figure::new("processors that the edges use", cpu / seconds, ""));
        figures.push(Figure::new("processor time of the edges per connect", ratio(cpu * 1e6, report.opened), "µs"));
    }
    Ok(figures)
}
