//! The `streams` command.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use plexsphere_wire::ProjectId;
use url::Url;

use super::fleet::{failure as enrolment, first_line, read};
use super::{Failure, duration, print};
use crate::streams::{
    self, BareTls, Begun, Cast, Crew, CrewError, Figure, Ground, Habits, Identity, STREAMS_PER_WORKER, Site,
    WorkerProgram,
};
use crate::transport::{Protocol, Trust};
use crate::{clock, descriptors};

/// How long streams may take to open.
const PATIENCE: Duration = Duration::from_secs(600);

/// A measurement. Those given run one behind the other, over the same streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Memory and processor time of streams that carry nothing but keep-alives
    Idle,
    /// Processor time and latency of events that concern every stream
    Broadcast,
    /// All streams come back at once
    Herd,
    /// Every stream comes back every `--cut-streams`
    Steady,
}

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What is measured
    #[arg(required = true)]
    parts: Vec<Part>,
    /// Where the platform is; given several times, streams are spread over them
    #[arg(long = "url", required = true)]
    urls: Vec<Url>,
    /// Enrol so many Nodes and hold a stream for each
    #[arg(long, required_unless_present = "identities", conflicts_with = "identities")]
    nodes: Option<usize>,
    /// Lines of `<bearer> <signing key id> <signing key>`: Nodes of one Domain that exist already
    #[arg(long, value_name = "FILE")]
    identities: Option<PathBuf>,
    /// Write the Nodes that were enrolled to such a file
    #[arg(long, value_name = "FILE", requires = "nodes")]
    save_identities: Option<PathBuf>,
    /// A Project of the Domain of `--identities`, in which Nodes join to make events
    #[arg(long, value_name = "ID", requires = "identities")]
    project: Option<ProjectId>,
    /// An operator's token; Domain, Project, Resources and bootstrap tokens are made with it
    #[arg(long, env = "PLEXSPHERE_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    /// A file whose first line is an operator's token
    #[arg(long, value_name = "FILE", conflicts_with = "admin_token")]
    admin_token_file: Option<PathBuf>,
    /// Believe these certificate authorities and no other
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
    /// h1 or h2
    #[arg(long = "http", default_value = "h1")]
    protocol: Protocol,
    /// The process of an edge on this machine, to see what it uses (repeatable)
    #[arg(long = "edge-pid", value_name = "PID")]
    edges: Vec<u32>,
    /// How long streams are left idle, and how long `steady` watches
    #[arg(long, default_value = "60s", value_parser = duration)]
    rest: Duration,
    /// Events of `broadcast`: so many Nodes join
    #[arg(long, default_value_t = 10)]
    events: u32,
    /// The pause behind each event
    #[arg(long, default_value = "1s", value_parser = duration)]
    pause: Duration,
    /// How often every stream of `steady` is cut
    #[arg(long, default_value = "30s", value_parser = duration)]
    cut_streams: Duration,
    /// A certificate for `localhost` that the clients believe, and its key: `herd` is compared with bare TLS handshakes
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    bare_tls: Option<Vec<PathBuf>>,
}

impl Args {
    pub(super) async fn run(self) -> Result<u8, Failure> {
        if self.protocol == Protocol::H3 {
            return Err(Failure::mistake("streams are held over h1 or h2"));
        }
        descriptors::raise_limit();
        let program = WorkerProgram {
            program: std::env::current_exe().map_err(|error| Failure::mistake(error.to_string()))?,
            arguments: vec!["stream-worker".into()],
        };
        let (identities, ground) = self.nodes().await?;
        let urls = self.urls.iter().map(|url| url.as_str().trim_end_matches('/').to_owned()).collect();
        let mut run = Run {
            crew: Crew::hire(&program, identities.len(), 2).map_err(|error| failure(&error))?,
            server: Crew::hire(&program, 0, 1).map_err(|error| failure(&error))?.numbered_from(100),
            site: Site {
                habits: Habits::new(urls, self.ca_cert.clone(), self.protocol),
                edges: self.edges.clone(),
                memory_mark: None,
            },
            identities,
            ground,
            args: self,
            frame_bytes: 0,
        };
        let mut all = Vec::new();
        for part in run.args.parts.clone() {
            let figures = Box::pin(run.part(part)).await.map_err(|error| failure(&error))?;
            let mut out = std::io::stderr().lock();
            for figure in &figures {
                let _ = writeln!(out, "{figure}");
            }
            all.extend(figures);
        }
        print(&serde_json::to_string_pretty(&all).map_err(|error| Failure::remote(error.to_string()))?);
        Ok(if all.iter().all(Figure::holds) { 0 } else { 2 })
    }

    async fn nodes(&self) -> Result<(Vec<Identity>, Option<Ground>), Failure> {
        let token = match (&self.admin_token, &self.admin_token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => Some(first_line(file)?),
            (None, None) => None,
        };
        let first = self.urls.first().ok_or_else(|| Failure::mistake("give a url"))?;
        let trust = Trust::from_option(self.ca_cert.clone());
        if let Some(file) = &self.identities {
            let identities = Identity::parse_all(&read(file)?)
                .map_err(|line| Failure::mistake(format!("{}, line {line}: unreadable", file.display())))?;
            let ground = match (self.project, &token) {
                (Some(project), Some(token)) => Some(Ground::of_project(first, trust, token, project)),
                _ => None,
            };
            return Ok((identities, ground.transpose().map_err(|error| enrolment(&error))?));
        }
        let token = token.ok_or_else(|| Failure::mistake("give an operator's token or a file of identities"))?;
        let begun = Instant::now();
        let ground = Box::pin(Ground::enrol(first, trust, &token, self.nodes.unwrap_or(0))).await;
        let ground = ground.map_err(|error| enrolment(&error))?;
        let identities = ground.identities();
        let (count, took) = (identities.len(), begun.elapsed());
        let project = ground.project().map(|project| format!(" in Project {project}")).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "{count} Nodes enrolled{project}, within {took:?}");
        if let Some(file) = &self.save_identities {
            Identity::write_all(file, &identities)
                .map_err(|error| Failure::mistake(format!("{}: {error}", file.display())))?;
        }
        Ok((identities, Some(ground)))
    }
}

/// A run's crew and what it stands on.
struct Run {
    args: Args,
    crew: Crew,
    /// The bare programs.
    server: Crew,
    site: Site,
    identities: Vec<Identity>,
    ground: Option<Ground>,
    frame_bytes: usize,
}

impl Run {
    async fn part(&mut self, part: Part) -> Result<Vec<Figure>, CrewError> {
        match part {
            Part::Idle => streams::idle(&mut self.crew, &self.site, &self.identities, self.args.rest).await,
            Part::Broadcast => self.broadcast().await,
            Part::Herd => self.herd().await,
            Part::Steady => self.steady().await,
        }
    }

    async fn open(&mut self) -> Result<(), CrewError> {
        let open = self.crew.report().await.is_ok_and(|report| report.live == report.streams);
        if !open || self.site.habits.cut_after_millis.take().is_some() {
            self.crew.open(&self.site.habits, &self.identities).await?;
        }
        self.crew.all_live(PATIENCE).await.map(drop)
    }

    async fn broadcast(&mut self) -> Result<Vec<Figure>, CrewError> {
        self.open().await?;
        let cast = Cast { events: self.args.events, pause: self.args.pause, readers: None };
        let ground = self.ground.as_ref().ok_or_else(|| CrewError::Failed(NO_SOURCE.to_owned()))?;
        let broadcast = streams::broadcast(&mut self.crew, &self.site, cast, ground).await?;
        let mut figures = broadcast.figures;
        self.frame_bytes = broadcast.report.frame_bytes;
        let bare_cast = Cast { events: 50, pause: Duration::from_millis(50), readers: None };
        let count = self.identities.len().min(2 * STREAMS_PER_WORKER);
        let bare = streams::bare_writes(&mut self.crew, &mut self.server, count, (self.frame_bytes, bare_cast)).await?;
        figures.push(Figure::new("processor time of a bare program per write", bare / 1_000.0, "µs"));
        if !self.site.edges.is_empty() {
            figures.push(Figure::new("delivery beside a bare write", broadcast.nanos_per_delivery / bare, "times"));
        }
        Ok(figures)
    }

    async fn herd(&mut self) -> Result<Vec<Figure>, CrewError> {
        self.open().await?;
        self.crew.forget().await?;
        self.crew.watch(0).await?;
        let begun = Begun { at_micros: clock::unix_micros(), edges: self.site.edges.clone() };
        self.crew.cut().await?;
        let herd = streams::herd(&mut self.crew, begun).await?;
        let mut figures = herd.figures;
        if let Some([certificate, key]) = self.args.bare_tls.as_deref() {
            let at_once = self.site.habits.connects_at_once;
            let ca_cert = self.args.ca_cert.as_ref().unwrap_or(certificate).clone();
            let tls = BareTls { certificate: certificate.clone(), key: key.clone(), ca_cert };
            let count = self.identities.len();
            self.crew.close().await?;
            let bare = streams::bare_handshakes(&mut self.crew, &mut self.server, (count, at_once), tls).await?;
            figures.push(Figure::new("as many bare TLS handshakes", bare.as_secs_f64(), "s"));
            figures.push(Figure::new("99 % back beside them", herd.most.as_secs_f64() / bare.as_secs_f64(), "times"));
            self.crew.close().await?;
        }
        Ok(figures)
    }

    async fn steady(&mut self) -> Result<Vec<Figure>, CrewError> {
        self.site.habits.cut_after_millis = u64::try_from(self.args.cut_streams.as_millis()).ok();
        self.crew.open(&self.site.habits, &self.identities).await?;
        self.crew.all_live(PATIENCE).await?;
        streams::steady(&mut self.crew, &self.site, self.args.rest).await
    }
}

const NO_SOURCE: &str = "events come from Nodes that join: give an operator's token, and --project with --identities";

fn failure(error: &CrewError) -> Failure {
    Failure::remote(error.to_string())
}

/// Takes the orders of a crew until its socket closes.
pub(super) async fn worker() -> Result<u8, Failure> {
    // Its runtime is its own, and small.
    let served = tokio::task::spawn_blocking(streams::serve_orders).await;
    served.map_err(|error| Failure::remote(error.to_string()))?.map_err(|error| Failure::mistake(error.to_string()))?;
    Ok(0)
}
