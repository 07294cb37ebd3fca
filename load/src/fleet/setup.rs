//! Makes what a run needs and enrols its Nodes, a few at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use plexsphere_wire::{DomainId, ProjectId};
use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::progress::Display;
use super::{Access, FleetConfig, FleetError, TokenLine};
use crate::api::{ApiError, OperatorApi, Registered, Registration, register};
use crate::histogram::Histogram;
use crate::transport::{Client, Dialer, Protocol};

/// Registrations under way at once: each costs the platform a memory-hard hash.
const AT_ONCE: usize = 8;
/// Ranges that are tried for one Domain: no two Domains may overlap, and earlier runs left some behind.
const RANGES_TRIED: usize = 256;
/// Life of a bootstrap token.
const TOKEN_SECONDS: u32 = 3_600;

/// An enrolled Node of the fleet.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) index: usize,
    pub(crate) registered: Registered,
}

/// What all phases stand on.
#[derive(Debug)]
pub(crate) struct Ground {
    /// Names this run in markers, handles and slugs.
    pub(crate) run: String,
    pub(crate) members: Vec<Member>,
    pub(crate) operator: Option<OperatorApi>,
    pub(crate) projects: Vec<ProjectId>,
    registration: Histogram,
}

impl Ground {
    /// A Project in which Nodes may join; none of this run is there yet.
    pub(crate) fn of_project(name: &str, operator: OperatorApi, project: ProjectId) -> Self {
        Self {
            run: run_name(name),
            members: Vec::new(),
            operator: Some(operator),
            projects: vec![project],
            registration: Histogram::default(),
        }
    }

    pub(crate) const fn registration(&self) -> &Histogram {
        &self.registration
    }
}

/// A name that no earlier run has.
fn run_name(name: &str) -> String {
    format!("{name}-{:06x}", rand::rng().random_range(0..0x0100_0000))
}

struct Enroller {
    dialer: Arc<Dialer>,
    config: Arc<FleetConfig>,
    protocol: Protocol,
    operator: Option<OperatorApi>,
}

pub(crate) async fn prepare(
    config: &Arc<FleetConfig>,
    dialer: &Arc<Dialer>,
    operator: Option<OperatorApi>,
    display: &Arc<Display>,
) -> Result<Ground, FleetError> {
    let run = run_name(&config.name);
    let projects = projects(config, operator.as_ref(), &run, display).await?;
    let protocol = config.protocols.first().copied().unwrap_or(Protocol::H1);
    let enroller = Arc::new(Enroller {
        dialer: Arc::clone(dialer),
        config: Arc::clone(config),
        protocol,
        operator: operator.clone(),
    });
    let (permits, done) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(AtomicU64::new(0)));
    let all = u64::try_from(config.nodes).unwrap_or(u64::MAX);
    let mut tasks = JoinSet::new();
    for index in 0..config.nodes {
        let project = index.checked_rem(projects.len()).and_then(|slot| projects.get(slot)).copied();
        let (enroller, permits, done) = (Arc::clone(&enroller), Arc::clone(&permits), Arc::clone(&done));
        let (handle, display) = (format!("{run}-{index}"), Arc::clone(display));
        tasks.spawn(async move {
            let _permit = permits.acquire().await;
            let enrolled = enroller.enrol(index, project, handle).await?;
            display.step("registering", done.fetch_add(1, Ordering::Relaxed) + 1, all);
            Ok::<_, FleetError>(enrolled)
        });
    }
    let mut registration = Histogram::default();
    let mut members = Vec::with_capacity(config.nodes);
    while let Some(task) = tasks.join_next().await {
        let (member, took) = task.map_err(|_| FleetError::Config("a registration was cancelled"))??;
        registration.record(took);
        members.push(member);
    }
    members.sort_by_key(|member| member.index);
    Ok(Ground { run, members, operator, projects, registration })
}

async fn projects(
    config: &FleetConfig,
    operator: Option<&OperatorApi>,
    run: &str,
    display: &Display,
) -> Result<Vec<ProjectId>, FleetError> {
    let (Access::Admin { domains, .. }, Some(operator)) = (&config.access, operator) else { return Ok(Vec::new()) };
    let domains = (*domains).max(1);
    let mut projects = Vec::with_capacity(domains);
    for index in 0..domains {
        let slug = format!("{run}-d{index}");
        let failed = |step| move |source| FleetError::SetUp { step, source };
        let domain = create_domain(operator, &slug).await.map_err(failed("domain"))?;
        projects.push(operator.create_project(domain, &slug).await.map_err(failed("project"))?);
        let (done, all) = (u64::try_from(index + 1).unwrap_or(0), u64::try_from(domains).unwrap_or(0));
        display.step("domains", done, all);
    }
    Ok(projects)
}

/// A Domain with a free range of 65,534 addresses.
async fn create_domain(operator: &OperatorApi, slug: &str) -> Result<DomainId, ApiError> {
    let first = rand::rng().random_range(0..RANGES_TRIED);
    let mut tried = 0;
    loop {
        let range = format!("10.{}.0.0/16", (first + tried) % RANGES_TRIED);
        tried += 1;
        match operator.create_domain(slug, &range).await {
            Err(ApiError::Refused(refused)) if refused.code == "mesh_cidr_overlap" && tried < RANGES_TRIED => {}
            outcome => return outcome,
        }
    }
}

impl Enroller {
    async fn enrol(
        &self,
        index: usize,
        project: Option<ProjectId>,
        handle: String,
    ) -> Result<(Member, std::time::Duration), FleetError> {
        let line = match (&self.config.access, project, &self.operator) {
            (Access::Tokens(lines), _, _) => {
                lines.get(index).cloned().ok_or(FleetError::Config("there are fewer tokens than nodes"))?
            }
            (Access::Admin { .. }, Some(project), Some(operator)) => adopt(operator, project, handle).await?,
            (Access::Admin { .. }, _, _) => return Err(FleetError::Config("there is no project to enrol in")),
        };
        let client = Client::new(&self.dialer, &self.config.url, self.protocol)?;
        let started = Instant::now();
        let registration = Registration::new(line.project, &line.resource, &line.token);
        let registered = register(&client, &registration, self.config.backoff)
            .await
            .map_err(|source| FleetError::SetUp { step: "register", source })?;
        Ok((Member { index, registered }, started.elapsed()))
    }
}

async fn adopt(operator: &OperatorApi, project: ProjectId, handle: String) -> Result<TokenLine, FleetError> {
    let failed = |step| move |source: ApiError| FleetError::SetUp { step, source };
    operator.adopt_resource(project, &handle).await.map_err(failed("resource"))?;
    let token = operator.issue_token(project, TOKEN_SECONDS).await.map_err(failed("bootstrap token"))?;
    Ok(TokenLine { project, resource: handle, token: zeroize::Zeroizing::new(token) })
}

/// Enrols one more Node while a phase runs; it sends nothing, its peers hear of it.
pub(crate) async fn join_one(
    config: &FleetConfig,
    dialer: &Arc<Dialer>,
    ground: &Ground,
    protocol: Protocol,
    index: usize,
) -> Result<(), FleetError> {
    let Some(operator) = &ground.operator else { return Ok(()) };
    let slot = index.checked_rem(ground.projects.len()).unwrap_or(0);
    let Some(project) = ground.projects.get(slot) else { return Ok(()) };
    let line = adopt(operator, *project, format!("{}-{protocol}-join-{index}", ground.run)).await?;
    let client = Client::new(dialer, &config.url, protocol)?;
    let registration = Registration::new(line.project, &line.resource, &line.token);
    register(&client, &registration, config.backoff)
        .await
        .map(drop)
        .map_err(|source| FleetError::SetUp { step: "join", source })
}
