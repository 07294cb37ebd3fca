//! A real OpenID provider for tests: the certified `oidc-provider` on Node.js, on loopback, one process per test.

mod browser;

use std::time::Duration;

use plexsphere_local::{Artifact, Artifacts, Child, ChildSpec, LocalError, NodePackages, Progress, Signal};
use serde_json::json;

pub use browser::Browser;

use crate::eventually::Pauses;
use crate::servers::{paths, started};

const PACKAGES: NodePackages = NodePackages {
    name: "openid-provider",
    files: &[
        ("package.json", include_str!("../openid/package.json")),
        ("package-lock.json", include_str!("../openid/package-lock.json")),
        ("provider.mjs", include_str!("../openid/provider.mjs")),
    ],
};

/// How the provider is set up. It knows one person per login name, with any password.
#[derive(Debug, Clone)]
pub struct OpenIdSettings {
    /// What id tokens and machines' tokens are signed with: `RS256`, `PS256`, `ES256` or `EdDSA`.
    pub alg: &'static str,
    /// How clients prove themselves: `client_secret_basic` or `client_secret_post`.
    pub client_auth: &'static str,
    /// Where it sends browsers back to.
    pub redirect_uri: String,
}

impl Default for OpenIdSettings {
    fn default() -> Self {
        Self {
            alg: "RS256",
            client_auth: "client_secret_basic",
            redirect_uri: "https://plexsphere.test/v1/auth/callback".to_owned(),
        }
    }
}

/// A running provider. It ends when the value is dropped.
///
/// A person who signs in as `ada` has the subject `ada`, the verified email `ada@example.test`, the name `Name of ada`
/// and the groups `staff` and `team-ada`; [`TestOpenId::person`] changes that. A browser sign-in needs no password twice.
#[derive(Debug)]
pub struct TestOpenId {
    child: Child,
    port: u16,
    settings: OpenIdSettings,
    generation: u32,
}

/// A provider with the usual settings; see [`openid_with`].
pub async fn openid() -> Option<TestOpenId> {
    openid_with(OpenIdSettings::default()).await
}

/// Starts a provider. `None`, and a loud line, when this machine has neither Node.js nor a Python with pip to fetch it:
/// the test is then to return.
///
/// # Panics
/// When it cannot be fetched or started for another reason; the message says why.
pub async fn openid_with(settings: OpenIdSettings) -> Option<TestOpenId> {
    let artifacts = Artifacts::new(&paths());
    let progress = Progress::stderr();
    let installed = match artifacts.ensure(&[Artifact::Node], &progress).await {
        Err(error @ (LocalError::NoPython { .. } | LocalError::NoPip { .. })) => {
            skip_loudly(&error);
            return None;
        }
        other => started("node", other),
    };
    let node = started("node", installed.get(Artifact::Node));
    let folder = started("the openid provider", artifacts.node_packages(node, PACKAGES, &progress).await);
    let told = json!({
        "port": 0,
        "alg": settings.alg,
        "client_auth": settings.client_auth,
        "redirect_uri": settings.redirect_uri,
        "client_id": TestOpenId::CLIENT_ID,
        "client_secret": TestOpenId::CLIENT_SECRET,
        "machine_id": TestOpenId::MACHINE_ID,
        "machine_secret": TestOpenId::MACHINE_SECRET,
        "audience": TestOpenId::AUDIENCE,
    });
    let spec = ChildSpec::new("openid provider", &node.path)
        .args([folder.join("provider.mjs").into_os_string(), told.to_string().into()]);
    let child = started("the openid provider", Child::spawn(spec));
    let port = listening(&child).await;
    Some(TestOpenId { child, port, settings, generation: 1 })
}

#[allow(clippy::print_stderr, reason = "a skipped test says so where a person looks")]
fn skip_loudly(error: &LocalError) {
    eprintln!("\n*** SKIPPED: the openid provider of the tests cannot run here: {error} ***\n");
}

/// Waits for the line with which the provider says where it listens.
async fn listening(child: &Child) -> u16 {
    let mut pauses = Pauses::new();
    loop {
        let port = child.tail().iter().find_map(|line| line.strip_prefix("listening on port ")?.trim().parse().ok());
        if let Some(port) = port {
            return port;
        }
        let waits = child.exit().is_none() && pauses.pause().await;
        assert!(waits, "the openid provider did not start: {}", child.tail().join(" | "));
    }
}

impl TestOpenId {
    /// The client of the code flow.
    pub const CLIENT_ID: &str = "plexsphere";
    /// Its secret; some of it must be encoded in a header.
    pub const CLIENT_SECRET: &str = "correct horse: 50% + battery/&staple";
    /// The client of machines.
    pub const MACHINE_ID: &str = "machine:7";
    /// Its secret.
    pub const MACHINE_SECRET: &str = "a-machines-secret-of-forty-characters-0007";
    /// Whom machines' tokens are for.
    pub const AUDIENCE: &str = "https://plexsphere.test/machines";

    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its discovery document lies.
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer())
    }

    /// As in its settings.
    #[must_use]
    pub fn redirect_uri(&self) -> &str {
        &self.settings.redirect_uri
    }

    /// A browser that has signed in nowhere yet.
    #[must_use]
    pub fn browser(&self) -> Browser {
        Browser::new(&self.settings.redirect_uri)
    }

    /// Changes what the provider knows of a person: the members of this object replace the usual claims. `acr` (`silver`
    /// or `gold`) and `amr` say how that person signs in from now on.
    ///
    /// # Panics
    /// When the provider does not answer.
    pub async fn person(&self, login: &str, claims: &serde_json::Value) {
        self.browser().put(&format!("{}/people/{login}", self.issuer()), claims.to_string()).await;
    }

    /// Replaces all signing keys at once and returns when the new ones are served.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn rotate_keys(&mut self) {
        self.generation += 1;
        self.child.signal(Signal::Reload);
        let wanted = format!("\"{}-{}\"", self.settings.alg, self.generation);
        let browser = self.browser();
        let mut pauses = Pauses::new();
        while !browser.text(&format!("{}/jwks", self.issuer())).await.contains(&wanted) {
            assert!(pauses.pause().await, "the openid provider has no new keys");
        }
    }

    /// Ends it, so that nobody answers at its address.
    pub async fn stop(&self) {
        self.child.stop(Duration::from_secs(10)).await;
    }
}
