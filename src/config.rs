//! Configuration: one typed tree, from defaults < file < environment < flags.
//!
//! A key `edge.http_listen` is the variable `PLEXSPHERE_EDGE_HTTP_LISTEN` and the flag `--set edge.http_listen=…`. Keys
//! that nobody knows refuse to start. The shipped file `config/plexsphere.toml` is the defaults, spelled out.

mod layers;
mod tree;

pub use layers::{ConfigError, Loaded, Origin, load};
pub use tree::{
    AdminConfig, AuthConfig, Config, ControlConfig, CustodyConfig, DatabaseConfig, LogConfig, LogFormat, MeshConfig,
    NatsConfig, OpenBaoConfig, TlsConfig, is_secret,
};
