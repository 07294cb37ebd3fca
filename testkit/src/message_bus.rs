//! NATS for tests: one server per process, one account per test.

use std::sync::Arc;

use async_nats::jetstream;
use parking_lot::Mutex;
use plexsphere_local::{Artifact, Nats, NatsAccount, NatsOptions};
use tokio::sync::OnceCell;

use crate::servers::{installed, new_folder, started};

/// Tests of one process that may use the shared server. An idle account costs the server next to nothing.
const ACCOUNTS: usize = 512;

#[derive(Debug)]
struct Shared {
    server: Arc<Nats>,
    /// Accounts not handed out yet.
    free: Mutex<Vec<NatsAccount>>,
}

/// An account with JetStream in a NATS server: no other test sees its subjects, streams and buckets.
#[derive(Debug)]
pub struct TestNats {
    server: Server,
    account: NatsAccount,
}

#[derive(Debug)]
enum Server {
    Shared(Arc<Nats>),
    Own(Box<Nats>),
}

/// A fresh account in the server this process shares.
///
/// # Panics
/// When the server cannot be started, or more than 512 accounts were asked for.
pub async fn nats() -> TestNats {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    let start = || async {
        let free = NatsAccount::numbered("T", ACCOUNTS);
        Shared { server: Arc::new(start(free.clone()).await), free: Mutex::new(free) }
    };
    let shared = SHARED.get_or_init(start).await;
    let account = shared.free.lock().pop().expect("an account that no other test has had");
    TestNats { server: Server::Shared(Arc::clone(&shared.server)), account }
}

/// A server for one test, which may kill it. It ends when the value is dropped.
///
/// # Panics
/// When it cannot be started; the message says why.
pub async fn nats_own() -> TestNats {
    let accounts = NatsAccount::numbered("T", 1);
    let account = accounts.first().cloned().expect("one account");
    TestNats { server: Server::Own(Box::new(start(accounts).await)), account }
}

async fn start(accounts: Vec<NatsAccount>) -> Nats {
    let options = NatsOptions { data: new_folder("nats"), accounts, ..NatsOptions::default() };
    started("nats-server", Nats::start(installed(Artifact::Nats).await, options).await)
}

impl TestNats {
    /// `nats://user:password@127.0.0.1:port` of this account. `async-nats` does not read a user and password out of a
    /// URL by itself: see [`TestNats::options`].
    #[must_use]
    pub fn url(&self) -> String {
        self.server().url_for(&self.account)
    }

    /// `nats://127.0.0.1:port`, without the user and password.
    #[must_use]
    pub fn address(&self) -> String {
        format!("nats://127.0.0.1:{}", self.server().port())
    }

    /// This account's user.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.account.user
    }

    /// This account's password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.account.password
    }

    /// Options that carry this account's user and password, to be refined by a test.
    #[must_use]
    pub fn options(&self) -> async_nats::ConnectOptions {
        async_nats::ConnectOptions::with_user_and_password(self.account.user.clone(), self.account.password.clone())
    }

    /// The server's monitoring endpoints (`/varz`, `/jsz`). They show every account.
    #[must_use]
    pub fn monitor_url(&self) -> String {
        self.server().monitor_url()
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server().handle().pid()
    }

    /// A new connection, in this account.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn client(&self) -> async_nats::Client {
        let connected = self.options().connect(self.address()).await;
        connected.unwrap_or_else(|error| panic!("connecting to nats-server: {error}"))
    }

    /// A new connection, as a JetStream context.
    ///
    /// # Panics
    /// When the server does not take it.
    pub async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client().await)
    }

    /// Kills the server, as a crash would.
    ///
    /// # Panics
    /// When the server is the shared one: other tests stand on it.
    pub async fn kill9(&self) {
        match &self.server {
            Server::Own(server) => drop(server.kill9().await),
            Server::Shared(_) => panic!("the shared server is not to be killed: use nats_own()"),
        }
    }

    /// Starts it again on the same port and data; returns when it takes connections.
    ///
    /// # Panics
    /// When it does not start again, or is the shared one.
    pub async fn restart(&mut self) {
        match &mut self.server {
            Server::Own(server) => started("nats-server", server.restart().await),
            Server::Shared(_) => panic!("the shared server is not to be restarted: use nats_own()"),
        }
    }

    fn server(&self) -> &Nats {
        match &self.server {
            Server::Shared(server) => server,
            Server::Own(server) => server,
        }
    }
}
