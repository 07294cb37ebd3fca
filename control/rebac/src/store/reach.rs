//! Whether the database is there at all.

use std::time::Duration;

use plexsphere_kernel::Database;
use tokio::net::{TcpStream, UnixStream};

/// How long a connection may take to come about. The kernel of the other side makes it, however busy its server is.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whether the database's server takes connections. It says nothing of how fast it answers on them.
pub(crate) async fn listens(db: &Database) -> bool {
    let options = db.pool().connect_options();
    let connected = async {
        match options.get_socket() {
            Some(directory) => {
                let socket = directory.join(format!(".s.PGSQL.{}", options.get_port()));
                UnixStream::connect(socket).await.map(drop)
            }
            None => TcpStream::connect((options.get_host(), options.get_port())).await.map(drop),
        }
    };
    matches!(tokio::time::timeout(PATIENCE, connected).await, Ok(Ok(())))
}
