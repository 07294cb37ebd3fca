//! `plexsphere dev`: everything on this machine.
//!
//! PostgreSQL, NATS and OpenBao run as children; the three tiers run in this process, or the edges as processes of their
//! own with `--edges`. What the tiers say to each other goes through NATS and HTTP as anywhere.

mod edges;
mod ready;
mod servers;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plexsphere_kernel::{Clock as _, Probes, SystemClock};
use plexsphere_local::Paths;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::cli::DevArgs;
use crate::config::{Config, OpenBaoConfig};
use crate::output::{say, tell};
use crate::roles::{self, Started};
use crate::{custody, shutdown};
use edges::Edges;
use ready::Ready;
use servers::Servers;
use tls::TlsFiles;

/// How long everything may take until it is ready, once the servers run.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often readiness is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long the first administrator's token of a `dev` run is good.
const ADMIN_TOKEN_SECONDS: u32 = 30 * 24 * 3_600;

/// Runs until Ctrl-C, or until something ends that should not.
pub(crate) fn run(args: &DevArgs, config: Config) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    let outcome = runtime.block_on(supervise(args, config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn supervise(args: &DevArgs, config: Config) -> Result<(), String> {
    let stop = CancellationToken::new();
    shutdown::on_signal(stop.clone()).map_err(|error| format!("signals cannot be listened to: {error}"))?;
    let begun = Instant::now();
    let mut paths = Paths::discover().map_err(|error| error.to_string())?;
    if let Some(folder) = &args.data_dir {
        paths.data.clone_from(folder);
    }
    let data = Folder::open(&paths.data)?;
    let servers = tokio::select! {
        servers = Servers::start(&paths, &data.root) => servers.map_err(|error| error.to_string())?,
        () = stop.cancelled() => return Ok(()),
    };
    let outcome = run_tiers(args, config, &data, &servers, &stop, begun).await;
    servers.stop().await;
    outcome
}

async fn run_tiers(
    args: &DevArgs,
    config: Config,
    data: &Folder,
    servers: &Servers,
    stop: &CancellationToken,
    begun: Instant,
) -> Result<(), String> {
    let tls = tls::prepare(&data.tls, SystemClock.now().inner())?;
    let mut config = settle(args, config, data, servers)?;
    config.tls.cert_file = Some(tls.cert.clone());
    config.tls.key_file = Some(tls.key.clone());
    let mut tiers = tokio::select! {
        tiers = Tiers::start(args, &mut config, data) => tiers?,
        error = servers.died() => return Err(error.to_string()),
        () = stop.cancelled() => return Ok(()),
    };
    let ready = tokio::select! {
        ready = tiers.ready_or_dead() => ready,
        error = servers.died() => Err(error.to_string()),
        () = stop.cancelled() => Ok(()),
    };
    let outcome = match ready {
        Ok(()) if stop.is_cancelled() => Ok(()),
        Ok(()) => {
            announce(args, &config, data, servers, (&tiers, &tls), begun)?;
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                error = servers.died() => Err(error.to_string()),
                sentence = tiers.died() => Err(sentence),
            }
        }
        Err(sentence) => Err(sentence),
    };
    tiers.stop().await;
    outcome
}

/// The folders of a run.
struct Folder {
    root: PathBuf,
    keys: PathBuf,
    tls: PathBuf,
    logs: PathBuf,
    telemetry: PathBuf,
}

impl Folder {
    fn open(root: &Path) -> Result<Self, String> {
        let root = std::path::absolute(root).map_err(|error| format!("{}: {error}", root.display()))?;
        let inside = |name: &str| root.join(name);
        let folder = Self {
            keys: inside("keys"),
            tls: inside("tls"),
            logs: inside("logs"),
            telemetry: inside("telemetry"),
            root: root.clone(),
        };
        for path in [&folder.root, &folder.keys, &folder.tls, &folder.logs, &folder.telemetry] {
            std::fs::create_dir_all(path)
                .map_err(|error| format!("the folder {} cannot be made: {error}", path.display()))?;
        }
        Ok(folder)
    }

    fn admin_token(&self) -> PathBuf {
        self.keys.join("admin.token")
    }
}

/// Fills in what a `dev` run decides by itself.
fn settle(args: &DevArgs, mut config: Config, data: &Folder, servers: &Servers) -> Result<Config, String> {
    let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.database.url = servers.postgres.url();
    config.nats.url = servers.nats_url();
    config.custody = custody::create_missing(&data.keys).map_err(|error| format!("keys cannot be made: {error}"))?;
    let token_file = data.keys.join("openbao.token");
    custody::create(Some(&token_file), servers.openbao.root_token())
        .map_err(|error| format!("the token of OpenBao cannot be kept: {error}"))?;
    config.openbao = OpenBaoConfig {
        url: servers.openbao.url().parse().ok(),
        token_file: Some(token_file),
        mount: "secret".to_owned(),
        ..OpenBaoConfig::default()
    };
    config.control.listen = loopback(0);
    config.admin.listen = loopback(0);
    config.control.environment = "dev".to_owned();
    config.auth.csrf_allowed_origins =
        vec![format!("https://localhost:{}", args.https_port), format!("http://localhost:{}", args.http_port)];
    config.auth.allow_loopback_idp = true;
    config.control.bootstrap_token_file = Some(data.admin_token());
    config.control.bootstrap_token_ttl_seconds = ADMIN_TOKEN_SECONDS;
    config.control.public_base_url = format!("https://localhost:{}", args.https_port);
    config.edge.listen.http = Some(loopback(args.http_port));
    config.edge.listen.https = Some(loopback(args.https_port));
    config.pipelines.file.folder.clone_from(&data.telemetry);
    let url = |name: &str, text: &Option<String>, place: &mut Option<url::Url>| -> Result<(), String> {
        if let Some(text) = text {
            *place = Some(text.parse().map_err(|error| format!("`--{name}` is no URL: {error}"))?);
        }
        Ok(())
    };
    url("mimir-url", &args.mimir_url, &mut config.pipelines.mimir.url)?;
    url("loki-url", &args.loki_url, &mut config.pipelines.loki.url)?;
    url("siem-url", &args.siem_url, &mut config.pipelines.siem.url)?;
    Ok(config)
}

/// The tiers of a run.
struct Tiers {
    control: Started,
    pipelines: Started,
    edges: Edges,
    admin_address: SocketAddr,
    draining: CancellationToken,
}

impl Tiers {
    async fn start(args: &DevArgs, config: &mut Config, data: &Folder) -> Result<Self, String> {
        let admin = Admin::bind(config.admin.listen)
            .map_err(|error| format!("the operations listener cannot be bound: {error}"))?;
        let admin_address = admin.address();
        let mut registry = Registry::default();
        let probes = Probes::default();
        let control = roles::control::start(config, &probes, &mut registry, true).await?;
        config.edge.proxy.control_url = format!("http://{}", control.address);
        let pipelines = roles::pipelines::start(config, &probes, &mut registry).await?;
        let edges = Edges::start(args.edges, config, &data.logs, &probes, &mut registry).await?;
        let draining = CancellationToken::new();
        admin
            .serve(probes, Arc::new(registry), draining.clone())
            .map_err(|error| format!("the operations listener cannot be served: {error}"))?;
        Ok(Self { control: control.started, pipelines, edges, admin_address, draining })
    }

    /// Resolves when every probe passes; fails when they do not in time, or when a tier has ended.
    async fn ready_or_dead(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let failing: Vec<String> = [&self.control.probes, &self.pipelines.probes]
                .into_iter()
                .flat_map(Probes::readings)
                .filter(|reading| !reading.ready)
                .map(|reading| format!("{} ({})", reading.name, reading.detail))
                .collect();
            if failing.is_empty() && self.edges.ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("not ready within {} s: {}", READY_WITHIN.as_secs(), failing.join(", ")));
            }
            if let Ok(sentence) = tokio::time::timeout(LOOK, self.died()).await {
                return Err(sentence);
            }
        }
    }

    /// Resolves when a tier has ended by itself, with a sentence.
    async fn died(&mut self) -> String {
        tokio::select! {
            ended = &mut self.control.ended => unasked("control", ended),
            ended = &mut self.pipelines.ended => unasked("pipelines", ended),
            sentence = self.edges.died() => sentence,
        }
    }

    /// Stops what Nodes reach first, then what it leads to.
    async fn stop(self) {
        self.draining.cancel();
        self.edges.stop().await;
        for started in [self.pipelines, self.control] {
            started.cancel.cancel();
            if !started.ended.is_finished() {
                let _ = tokio::time::timeout(Duration::from_secs(25), started.ended).await;
            }
        }
    }
}

/// A sentence about a part that ended by itself.
fn unasked(name: &str, ended: Result<Result<(), String>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => format!("{name} ended by itself"),
        Ok(Err(sentence)) => format!("{name} ended: {sentence}"),
        Err(error) => format!("{name} panicked: {error}"),
    }
}

fn announce(
    args: &DevArgs,
    config: &Config,
    data: &Folder,
    servers: &Servers,
    (tiers, tls): (&Tiers, &TlsFiles),
    begun: Instant,
) -> Result<(), String> {
    let admin_token = std::fs::read_to_string(data.admin_token()).ok().map(|text| text.trim().to_owned());
    let urls = tiers.edges.urls();
    let first = urls.first().cloned().ok_or("no edge runs")?;
    let mut pids = BTreeMap::from([("plexsphere".to_owned(), std::process::id())]);
    pids.extend(servers.children().iter().map(|child| (child.name().to_owned(), child.pid())));
    pids.extend(tiers.edges.pids());
    let ready = Ready {
        http_url: first.http_url.clone(),
        https_url: first.https_url,
        edges: urls,
        ca_cert: tls.ca_cert.display().to_string(),
        admin_token: admin_token.clone(),
        admin_url: format!("http://{}", tiers.admin_address),
        nats_url: config.nats.url.clone(),
        postgres_url: config.database.url.clone(),
        openbao_url: servers.openbao.url(),
        telemetry_folder: data.telemetry.display().to_string(),
        pids,
    };
    tell(format_args!("Ready after {:.1} s.", begun.elapsed().as_secs_f64()));
    say(format_args!("API         {}  (and {} with {})", ready.http_url, ready.https_url, ready.ca_cert));
    say(format_args!("Operations  {}/readyz", ready.admin_url));
    say(format_args!("Data        {}", data.root.display()));
    match &admin_token {
        Some(token) => {
            say(format_args!("Token       {token}"));
            let command = format!("curl -H 'Authorization: Bearer {token}' {}/v1/auth/whoami", ready.http_url);
            say(format_args!("Try         {command}"));
        }
        None => say("Token       (another administrator has taken over)"),
    }
    match &args.ready_file {
        Some(path) => ready.write(path),
        None => Ok(()),
    }
}
