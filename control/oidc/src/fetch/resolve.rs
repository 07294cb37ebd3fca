//! Resolving a name and judging what it leads to, in one step.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::{Reach, judge};

use super::FetchError;

/// How many addresses of one name are looked at; a name with more is refused rather than judged in part.
const MAX_ADDRESSES: usize = 64;

/// A way to resolve names.
#[async_trait]
pub trait Resolver: Send + Sync {
    /// All addresses of a name.
    ///
    /// # Errors
    /// When there is none.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Resolves as the system does: hosts file, DNS, whatever it is set to.
#[derive(Debug, Clone, Copy)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// What the HTTP client resolves with: it connects to what this gives and to nothing else.
pub(super) struct Guarded {
    resolver: Arc<dyn Resolver>,
    reach: Reach,
}

impl Guarded {
    pub(super) fn new(resolver: Arc<dyn Resolver>, reach: Reach) -> Self {
        Self { resolver, reach }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, reach) = (Arc::clone(&self.resolver), self.reach);
        Box::pin(async move {
            let host = name.as_str();
            let unreachable = |reason: String| FetchError::Unreachable { reason };
            let addresses = resolver.resolve(host).await.map_err(|error| unreachable(error.to_string()))?;
            if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
                return Err(unreachable(format!("{} addresses", addresses.len())).into());
            }
            // One address that leads inside spoils the name: the client is free to try any of them.
            for &address in &addresses {
                judge(address, reach).map_err(|kind| {
                    tracing::warn!(host, %kind, "a fetch was kept from leading inside");
                    FetchError::Inside { host: host.to_owned(), kind }
                })?;
            }
            // Port 0 stands for the one of the URL.
            let addresses: Addrs = Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)));
            Ok(addresses)
        })
    }
}
