//! Where the copies are.

use std::collections::HashMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use parking_lot::Mutex;
use url::Url;
use uuid::Uuid;

const CHAIN: &str = "{chain}";

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
        let place = Self { template: template.to_owned(), clients: Mutex::default() };
        match place.url(Uuid::nil()).map(|url| url.scheme().to_owned()) {
            Some(scheme) if scheme == "file" || scheme == "s3" => Ok(place),
            _ => Err(MirrorPlaceError::Scheme),
        }
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
            Arc::new(AmazonS3Builder::from_env().with_bucket_name(&bucket).build()?)
        };
        self.clients.lock().insert(bucket, Arc::clone(&client));
        Ok((client, folder))
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
