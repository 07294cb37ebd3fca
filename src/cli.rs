//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Loaded};
use crate::output::tell;
use crate::{commands, dev, logging, roles};

/// Exit code of a mistake that was made here: a bad flag, a bad configuration, a port that is taken.
const LOCAL_MISTAKE: u8 = 1;

/// Control plane of a fleet of machines.
///
/// `plexsphere dev` runs everything on this machine. `edge`, `control` and `pipelines` are the roles of a production
/// installation; each scales by itself.
#[derive(Parser)]
#[command(name = "plexsphere", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all three tiers on this machine, with a PostgreSQL, a NATS and an OpenBao of their own.
    ///
    /// The servers are fetched once, checked by hash and kept in a cache folder; their data stays in the data folder, so
    /// that the next start finds it again. Ctrl-C stops everything in order.
    Dev(DevArgs),
    /// Run an edge: listeners, Node directory, ingest, event streams, and the way to control.
    Edge(ConfigArgs),
    /// Run control: the transactional tier.
    Control(ConfigArgs),
    /// Run the pipelines: from the buffer streams to the sinks.
    Pipelines(ConfigArgs),
    /// Apply the database migrations that are missing.
    Migrate(ConfigArgs),
    /// Look at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at this machine: what `dev` needs and does not find.
    Doctor(OutputArgs),
    /// Look after the keys that events are signed with; needs the database and the keys of control.
    #[command(subcommand)]
    Signing(SigningCommand),
    /// Give and take rights that no operation grants; needs the database and the keys of control.
    #[command(subcommand)]
    Platform(PlatformCommand),
    /// Look after a Domain from outside it; needs the database and the keys of control.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Suspend and remove people and service identities; needs the database and the keys of control.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Look after telemetry.
    #[command(subcommand)]
    Obs(ObsCommand),
    /// Look at audit chains.
    #[command(subcommand)]
    Audit(AuditCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print the effective values and where each comes from; secrets are masked.
    Show {
        #[command(flatten)]
        config: ConfigArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
}

#[derive(Subcommand)]
pub(crate) enum SigningCommand {
    /// Print a Domain's keys, the oldest first.
    List {
        #[command(flatten)]
        config: ConfigArgs,
        /// The Domain.
        #[arg(long)]
        domain: String,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give a Domain a new key; the old one is believed for `control.signing_transition_hours` more.
    Rotate {
        #[command(flatten)]
        config: ConfigArgs,
        /// The Domain.
        #[arg(long)]
        domain: String,
        /// Rotate although the last rotation's transition goes on; the key before the present one ends at once.
        #[arg(long)]
        force: bool,
    },
    /// Destroy a compromised key at once. Nodes that received it at enrolment hear no more events until they enrol again.
    Destroy {
        #[command(flatten)]
        config: ConfigArgs,
        /// The Domain.
        #[arg(long)]
        domain: String,
        /// The key's id, as `signing list` prints it.
        #[arg(long)]
        key: String,
    },
}

impl SigningCommand {
    fn config(&self) -> ConfigArgs {
        let (Self::List { config, .. } | Self::Rotate { config, .. } | Self::Destroy { config, .. }) = self;
        config.clone()
    }
}

#[derive(Subcommand)]
pub(crate) enum PlatformCommand {
    /// Give a right on the platform. The first administrator beside the bootstrap one ends the bootstrap token for ever.
    Grant {
        #[command(flatten)]
        config: ConfigArgs,
        /// `admin`, `operator`, `auditor` or `reader`.
        right: String,
        /// `user:<id>`, `service:<id>`, or for `reader` also `group:<id>`.
        principal: String,
    },
    /// Take a right on the platform away; the last administrator stays.
    Revoke {
        #[command(flatten)]
        config: ConfigArgs,
        /// `admin`, `operator`, `auditor` or `reader`.
        right: String,
        /// `user:<id>`, `service:<id>`, or for `reader` also `group:<id>`.
        principal: String,
    },
    /// Make an administrator of a Domain that has lost all of its own.
    GrantDomainAdmin {
        #[command(flatten)]
        config: ConfigArgs,
        /// The Domain.
        #[arg(long)]
        domain: String,
        /// `user:<id>` or `service:<id>`.
        principal: String,
    },
}

impl PlatformCommand {
    fn config(&self) -> ConfigArgs {
        let (Self::Grant { config, .. } | Self::Revoke { config, .. } | Self::GrantDomainAdmin { config, .. }) = self;
        config.clone()
    }
}

#[derive(Subcommand)]
enum DomainCommand {
    /// The same as `platform grant-domain-admin`.
    GrantAdmin {
        #[command(flatten)]
        config: ConfigArgs,
        /// The Domain.
        #[arg(long)]
        domain: String,
        /// `user:<id>` or `service:<id>`.
        principal: String,
    },
}

impl From<DomainCommand> for PlatformCommand {
    fn from(DomainCommand::GrantAdmin { config, domain, principal }: DomainCommand) -> Self {
        Self::GrantDomainAdmin { config, domain, principal }
    }
}

#[derive(Subcommand)]
pub(crate) enum IdentityCommand {
    /// Keep a principal from authenticating by any credential, and end those it has.
    Suspend {
        #[command(flatten)]
        config: ConfigArgs,
        /// `user:<id>` or `service:<id>`.
        principal: String,
    },
    /// Let a suspended principal authenticate again, by new credentials.
    Resume {
        #[command(flatten)]
        config: ConfigArgs,
        /// `user:<id>` or `service:<id>`.
        principal: String,
    },
    /// Remove a principal for good, its rows, rights and invitations, and erase it from the audit log.
    Purge {
        #[command(flatten)]
        config: ConfigArgs,
        /// Also every other User whom the same issuer knows by the same subject, whatever their Domain.
        #[arg(long)]
        everywhere: bool,
        /// `user:<id>` or `service:<id>`.
        principal: String,
    },
}

impl IdentityCommand {
    fn config(&self) -> ConfigArgs {
        let (Self::Suspend { config, .. } | Self::Resume { config, .. } | Self::Purge { config, .. }) = self;
        config.clone()
    }
}

#[derive(Subcommand)]
enum ObsCommand {
    /// Send dead letters back to the stream they came from.
    ReplayDead {
        #[command(flatten)]
        config: ConfigArgs,
        /// The consumer whose dead letters are meant, such as `loki-logs`.
        #[arg(long)]
        consumer: String,
        /// The Domain whose dead letters are meant.
        #[arg(long)]
        domain: String,
    },
    /// Print the records in a file sink's folder, one JSON object a line.
    Records {
        /// The folder: `pipelines.file.folder`, or `<data>/telemetry` of `dev`.
        folder: PathBuf,
        /// Only this signal: `metrics`, `logs` or `audit`.
        #[arg(long)]
        signal: Option<String>,
        /// Only of this Node.
        #[arg(long)]
        node: Option<String>,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Check exported segments by themselves: no database, no key, no network. Ends with 3 when a chain does not hold.
    Verify {
        /// A segment, or a folder: the segments of one folder are one chain.
        #[arg(long)]
        export: PathBuf,
        /// Demand that each chain begins at place 1.
        #[arg(long)]
        from_start: bool,
        /// Demand that a chain ends with this hash, as noted elsewhere: 64 hex digits.
        #[arg(long, value_name = "HASH")]
        expect: Option<String>,
        #[command(flatten)]
        output: OutputArgs,
    },
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ConfigArgs {
    /// A TOML file; see `config/plexsphere.toml` for every key.
    #[arg(long, env = "PLEXSPHERE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Set one key, such as `--set edge.listen.http=127.0.0.1:8080`; may stand more than once.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

impl ConfigArgs {
    fn load(&self) -> Result<Loaded, String> {
        config::load(self.config.as_deref(), std::env::vars(), &self.set).map_err(|error| error.to_string())
    }
}

/// How to print.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct OutputArgs {
    /// For people or for scripts.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// The form of a command's output.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Columns.
    Table,
    /// JSON.
    Json,
}

/// What `dev` can be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct DevArgs {
    /// Where data, keys and logs are kept.
    #[arg(long, env = "PLEXSPHERE_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Write one JSON object here once everything is ready, for scripts.
    #[arg(long)]
    pub(crate) ready_file: Option<PathBuf>,
    /// Run so many edges, each a process of its own; without it one edge runs inside this process.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub(crate) edges: Option<u16>,
    /// The port for plain HTTP on loopback; 0 takes a free one. Further edges take the following ports.
    #[arg(long, default_value_t = 8080)]
    pub(crate) http_port: u16,
    /// The port for HTTPS and HTTP/3 on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 8443)]
    pub(crate) https_port: u16,
    /// A Prometheus remote-write receiver: the base URL of a Mimir, or a full URL that ends in `/write`.
    #[arg(long)]
    pub(crate) mimir_url: Option<String>,
    /// A Loki: its base URL.
    #[arg(long)]
    pub(crate) loki_url: Option<String>,
    /// A SIEM: the full URL.
    #[arg(long)]
    pub(crate) siem_url: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(sentence) => {
            tell(format_args!("plexsphere: {sentence}"));
            ExitCode::from(LOCAL_MISTAKE)
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Dev(args) => {
            let loaded = args.config.load()?;
            logging::start(&loaded.config.log)?;
            dev::run(&args, loaded.config)
        }
        Command::Edge(args) => role(&args, roles::edge::run),
        Command::Control(args) => role(&args, roles::control::run),
        Command::Pipelines(args) => role(&args, roles::pipelines::run),
        Command::Migrate(args) => role(&args, commands::migrate),
        Command::Config(ConfigCommand::Show { config, output }) => {
            commands::show(&config.load()?, output.output);
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor(output) => Ok(commands::doctor(output.output)),
        Command::Signing(command) => role(&command.config(), move |config| commands::signing(config, command)),
        Command::Platform(command) => platform(command),
        Command::Domain(command) => platform(command.into()),
        Command::Identity(command) => role(&command.config(), move |config| commands::identity(config, command)),
        Command::Audit(AuditCommand::Verify { export, from_start, expect, output }) => {
            commands::audit::verify(&export, &commands::audit::Demand { from_start, expect }, output.output)
        }
        Command::Obs(ObsCommand::ReplayDead { config, consumer, domain }) => {
            role(&config, move |config| commands::replay_dead(config, consumer, domain))
        }
        Command::Obs(ObsCommand::Records { folder, signal, node }) => {
            commands::records(&folder, signal.as_deref(), node.as_deref())
        }
    }
}

fn platform(command: PlatformCommand) -> Result<ExitCode, String> {
    role(&command.config(), move |config| commands::platform(config, command))
}

fn role<F, R>(args: &ConfigArgs, run: F) -> Result<ExitCode, String>
where
    F: FnOnce(config::Config) -> R,
    R: Future<Output = Result<(), String>>,
{
    let loaded = args.load()?;
    logging::start(&loaded.config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime cannot be started: {error}"))?;
    runtime.block_on(run(loaded.config))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
