//! Argon2id, off the threads that serve requests and never more runs at once than the machine bears.

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use plexsphere_kernel::Fault;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;

/// Hashes and verifies bootstrap tokens.
#[derive(Clone)]
pub(crate) struct Hasher {
    runs: Arc<Semaphore>,
}

impl Hasher {
    /// A hasher with at most `at_once` runs.
    pub(crate) fn new(at_once: usize) -> Self {
        Self { runs: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// The PHC string of a plaintext.
    pub(crate) async fn hash(&self, plaintext: Zeroizing<String>) -> Result<String, Fault> {
        self.run(move || {
            let mut salt = [0u8; SALT_BYTES];
            OsRng.try_fill_bytes(&mut salt).ok()?;
            let salt = SaltString::encode_b64(&salt).ok()?;
            argon2()?.hash_password(plaintext.as_bytes(), &salt).ok().map(|hash| hash.to_string())
        })
        .await?
        .ok_or(Fault::Invariant("a token can be hashed"))
    }

    /// Whether a plaintext is the one that was hashed.
    pub(crate) async fn verify(&self, plaintext: Zeroizing<String>, hash: String) -> Result<bool, Fault> {
        self.run(move || {
            let parsed = PasswordHash::new(&hash).ok()?;
            Some(Argon2::default().verify_password(plaintext.as_bytes(), &parsed).is_ok())
        })
        .await?
        .ok_or(Fault::Invariant("a stored hash is a phc string"))
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
        let closed = |_| Fault::Invariant("the hasher is open");
        let permit = Arc::clone(&self.runs).acquire_owned().await.map_err(closed)?;
        tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
        .map_err(|_| Fault::Invariant("hashing does not panic"))
    }
}

fn argon2() -> Option<Argon2<'static>> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).ok()?;
    Some(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}
