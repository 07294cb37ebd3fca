//! The three servers of a `dev` run.

use std::path::Path;
use std::time::Duration;

use plexsphere_local::{
    Artifact, Artifacts, Child, LocalError, Nats, NatsOptions, OpenBao, OpenBaoOptions, Paths, Postgres,
    PostgresOptions, Progress,
};

use crate::output::tell;

/// How long a server may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// PostgreSQL, NATS and OpenBao, running.
pub(crate) struct Servers {
    pub(crate) postgres: Postgres,
    pub(crate) nats: Nats,
    pub(crate) openbao: OpenBao,
}

impl Servers {
    /// Fetches what is missing and starts the three, side by side.
    pub(crate) async fn start(paths: &Paths, data: &Path) -> Result<Self, LocalError> {
        let artifacts = Artifacts::new(paths);
        let wanted = [Artifact::Postgres, Artifact::Nats, Artifact::OpenBao];
        let installed = artifacts.ensure(&wanted, &Progress::stderr()).await?;
        tell("Starting PostgreSQL, NATS and OpenBao …");
        let postgres = PostgresOptions { data: data.join("postgres"), ..Default::default() };
        let nats = NatsOptions { data: data.join("nats"), ..Default::default() };
        let openbao = OpenBaoOptions { data: data.join("openbao"), ..Default::default() };
        let (postgres, nats, openbao) = tokio::try_join!(
            Postgres::start(&installed, postgres),
            Nats::start(&installed, nats),
            OpenBao::start(&installed, openbao),
        )?;
        Ok(Self { postgres, nats, openbao })
    }

    /// The address of NATS with its user and password.
    pub(crate) fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// The processes, in the order in which they are stopped.
    pub(crate) fn children(&self) -> [Child; 3] {
        [self.openbao.handle().clone(), self.nats.handle().clone(), self.postgres.handle().clone()]
    }

    /// Resolves when one of them has died, with a sentence.
    pub(crate) async fn died(&self) -> LocalError {
        let [openbao, nats, postgres] = self.children();
        tokio::select! {
            error = openbao.died() => error,
            error = nats.died() => error,
            error = postgres.died() => error,
        }
    }

    /// Stops them: OpenBao, NATS, PostgreSQL.
    pub(crate) async fn stop(self) {
        plexsphere_local::stop_in_order(&self.children(), GRACE).await;
    }
}
