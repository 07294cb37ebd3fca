//! Where the copies are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use parking_lot::Mutex;
use url::Url;
use uuid::Uuid;

const CHAIN: &str = "{chain}";
/// For a connection that the server has just closed. A server that is away is the mirror's to wait for: the client, left
/// to itself, would hold a chain's turn for up to three minutes.
const RETRIES: usize = 2;
const RETRIED_FOR: Duration = Duration::from_secs(10);

/// The text names no place for copies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorPlaceError {
    /// Chains would share a place.
    #[error("it does not contain `{CHAIN}`, which stands for the chain")]
    NoChain,
    /// Not a URL that is known here.
    #[error("it is no `file:///…` or `s3://…` URL")]
    Scheme,
}

/// A URL with `{chain}` in it: a bucket or a folder for each chain, such as `s3://audit-{chain}` or `file:///srv/audit/{chain}`.
/// Buckets are made by whoever runs the store, where the Domain's data may be; credentials and region come from the usual
/// `AWS_…` variables.
pub struct MirrorPlace {
    template: String,
    /// Instead of the process's own.
    variables: Option<Vec<(AmazonS3ConfigKey, String)>>,
    /// One client per bucket.
    clients: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl MirrorPlace {
    /// Reads a template.
    ///
    /// # Errors
    /// [`MirrorPlaceError`].
    pub fn parse(template: &str) -> Result<Self, MirrorPlaceError> {
        if !template.contains(CHAIN) {
            return Err(MirrorPlaceError::NoChain);
        }
        let place = Self { template: template.to_owned(), variables: None, clients: Mutex::default() };
        match place.url(Uuid::nil()).map(|url| url.scheme().to_owned()) {
            Some(scheme) if scheme == "file" || scheme == "s3" => Ok(place),
            _ => Err(MirrorPlaceError::Scheme),
        }
    }

    /// Takes these `AWS_…` variables instead of the process's own. Unknown names are passed over, as there.
    #[must_use]
    pub fn with_variables<'a>(mut self, variables: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let known = |(name, value): (&str, String)| Some((name.to_ascii_lowercase().parse().ok()?, value));
        self.variables = Some(variables.into_iter().filter_map(known).collect());
        self
    }

    /// The client and the folder for a chain.
    pub(super) fn of(&self, chain: Uuid) -> Result<(Arc<dyn ObjectStore>, Path), object_store::Error> {
        let malformed =
            || object_store::Error::Generic { store: "audit mirror", source: MirrorPlaceError::Scheme.into() };
        let url = self.url(chain).ok_or_else(malformed)?;
        let folder = Path::from_url_path(url.path())?;
        let bucket = url.host_str().unwrap_or("").to_owned();
        if let Some(client) = self.clients.lock().get(&bucket) {
            return Ok((Arc::clone(client), folder));
        }
        let client: Arc<dyn ObjectStore> = if url.scheme() == "file" {
            Arc::new(LocalFileSystem::new().with_fsync(true))
        } else {
            Arc::new(self.builder().with_bucket_name(&bucket).build()?)
        };
        self.clients.lock().insert(bucket, Arc::clone(&client));
        Ok((client, folder))
    }

    fn builder(&self) -> AmazonS3Builder {
        let builder = self.variables.as_ref().map_or_else(AmazonS3Builder::from_env, |variables| {
            variables.iter().fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(*key, value))
        });
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRIED_FOR, ..RetryConfig::default() };
        builder.with_retry(retry)
    }

    fn url(&self, chain: Uuid) -> Option<Url> {
        Url::parse(&self.template.replace(CHAIN, &chain.hyphenated().to_string())).ok()
    }
}

impl std::fmt::Debug for MirrorPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MirrorPlace").field("template", &self.template).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chain_has_a_place_of_its_own_and_other_texts_are_refused() {
        let place = MirrorPlace::parse("file:///srv/audit-{chain}").unwrap();
        let (_, folder) = place.of(Uuid::from_u128(1)).unwrap();
        assert_eq!(folder.as_ref(), "srv/audit-00000000-0000-0000-0000-000000000001");
        assert_eq!(MirrorPlace::parse("s3://audit").err(), Some(MirrorPlaceError::NoChain));
        assert_eq!(MirrorPlace::parse("gs://audit-{chain}").err(), Some(MirrorPlaceError::Scheme));
        assert_eq!(MirrorPlace::parse("{chain}").err(), Some(MirrorPlaceError::Scheme));
        assert!(MirrorPlace::parse("s3://audit-{chain}").is_ok());
    }
}
