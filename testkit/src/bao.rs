//! OpenBao for tests: one server per process, two mounts per test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use plexsphere_local::{Artifact, OpenBao, OpenBaoOptions, OpenBaoStorage};
use tokio::sync::OnceCell;

use crate::servers::{installed, new_folder, started};

/// A KV-v2 and a transit engine of one test's own, in a running and unsealed OpenBao.
#[derive(Debug)]
pub struct TestOpenBao {
    server: Server,
    kv: String,
    transit: String,
}

#[derive(Debug)]
enum Server {
    Shared(Arc<OpenBao>),
    Own(Box<OpenBao>),
}

/// Fresh mounts in the server this process shares; it stores in memory.
///
/// # Panics
/// When the server cannot be started; the message says why.
pub async fn openbao() -> TestOpenBao {
    static SHARED: OnceCell<Arc<OpenBao>> = OnceCell::const_new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let server = SHARED.get_or_init(|| async { Arc::new(start(OpenBaoStorage::Memory).await) }).await;
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let (kv, transit) = (format!("secret-{number}"), format!("transit-{number}"));
    started("bao", server.mount_kv2(&kv).await);
    started("bao", server.mount_transit(&transit).await);
    TestOpenBao { server: Server::Shared(Arc::clone(server)), kv, transit }
}

/// A server for one test, which may kill it; it stores on the disk. It ends when the value is dropped.
///
/// # Panics
/// When it cannot be started; the message says why.
pub async fn openbao_own() -> TestOpenBao {
    let server = start(OpenBaoStorage::Raft).await;
    TestOpenBao { server: Server::Own(Box::new(server)), kv: "secret".to_owned(), transit: "transit".to_owned() }
}

async fn start(storage: OpenBaoStorage) -> OpenBao {
    let options = OpenBaoOptions { data: new_folder("openbao"), port: None, storage };
    started("bao", OpenBao::start(installed(Artifact::OpenBao).await, options).await)
}

impl TestOpenBao {
    /// `http://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server().url()
    }

    /// The root token.
    #[must_use]
    pub fn token(&self) -> &str {
        self.server().root_token()
    }

    /// Where this test's KV-v2 engine is mounted, without slashes.
    #[must_use]
    pub fn kv_mount(&self) -> &str {
        &self.kv
    }

    /// Where this test's transit engine is mounted, without slashes.
    #[must_use]
    pub fn transit_mount(&self) -> &str {
        &self.transit
    }

    /// The server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server().handle().pid()
    }

    /// Kills the server, as a crash would.
    ///
    /// # Panics
    /// When the server is the shared one: other tests stand on it.
    pub async fn kill9(&self) {
        match &self.server {
            Server::Own(server) => drop(server.kill9().await),
            Server::Shared(_) => panic!("the shared server is not to be killed: use openbao_own()"),
        }
    }

    /// Starts it again on the same port and data, unsealed.
    ///
    /// # Panics
    /// When it does not start again, or is the shared one.
    pub async fn restart(&mut self) {
        match &mut self.server {
            Server::Own(server) => started("bao", server.restart().await),
            Server::Shared(_) => panic!("the shared server is not to be restarted: use openbao_own()"),
        }
    }

    fn server(&self) -> &OpenBao {
        match &self.server {
            Server::Shared(server) => server,
            Server::Own(server) => server,
        }
    }
}
