//! The private halves at work: in memory, or in OpenBao.

use std::sync::Arc;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use plexsphere_kernel::custody::openbao::{BaoFault, Transit};
use plexsphere_kernel::{Fault, SignerFault};
use plexsphere_wire::DomainId;
use rand::RngCore as _;
use zeroize::Zeroizing;

use super::{Signing, custody, unavailable};
use crate::model::{Custody, PrivateHalf, transit_name};
use crate::store;

/// The Ed25519 seed's length.
const SEED_BYTES: usize = 32;

/// What signs with one key.
pub(crate) enum Hand {
    /// A seed in memory, wiped when dropped.
    Memory(SigningKey),
    /// A version of a key in OpenBao.
    OpenBao { transit: Transit, name: String, version: i32, public_key: VerifyingKey },
}

impl Hand {
    /// Signs bytes. A signature of OpenBao's is compared with the public half that Nodes hold: a server that was restored
    /// or mounted anew may have another key of the same name.
    pub(crate) async fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], SignerFault> {
        let signature = self.sign_unseen(bytes).await?;
        if let Self::OpenBao { public_key, .. } = self {
            let verified = public_key.verify_strict(bytes, &Signature::from_bytes(&signature));
            verified.map_err(|_| SignerFault::Unavailable("openbao signs with another key".to_owned()))?;
        }
        Ok(signature)
    }

    /// Signs bytes and looks at nothing: for whoever verifies.
    pub(crate) async fn sign_unseen(&self, bytes: &[u8]) -> Result<[u8; 64], SignerFault> {
        match self {
            Self::Memory(key) => Ok(key.sign(bytes).to_bytes()),
            Self::OpenBao { transit, name, version, .. } => transit.sign(name, *version, bytes).await.map_err(openbao),
        }
    }

    /// The public half.
    pub(crate) fn public_key(&self) -> [u8; 32] {
        match self {
            Self::Memory(key) => key.verifying_key().to_bytes(),
            Self::OpenBao { public_key, .. } => public_key.to_bytes(),
        }
    }

    pub(crate) const fn custody(&self) -> Custody {
        match self {
            Self::Memory(_) => Custody::Wrapped,
            Self::OpenBao { .. } => Custody::Transit,
        }
    }
}

fn openbao(fault: BaoFault) -> SignerFault {
    SignerFault::Unavailable(fault.to_string())
}

impl Signing {
    pub(super) fn transit(&self) -> Result<&Transit, SignerFault> {
        let missing = || SignerFault::Unavailable("openbao is not configured".to_owned());
        self.parts.transit.as_ref().ok_or_else(missing)
    }

    /// A fresh pair in the custody of new keys. In OpenBao's, a transaction that is rolled back leaves a version that
    /// signs nothing; it goes with the next that is trimmed. The caller holds the Domain's row.
    pub(super) async fn pair(&self, domain: DomainId, kid: &str) -> Result<([u8; 32], PrivateHalf), Fault> {
        match self.config.custody {
            Custody::Wrapped => {
                let mut seed = Zeroizing::new([0u8; SEED_BYTES]);
                rand::rng().fill_bytes(seed.as_mut_slice());
                let public_key = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
                let (wrap_key, seed) = self.parts.ring.seal(seed.as_slice(), &self.aad(domain, kid))?;
                Ok((public_key, PrivateHalf::Wrapped { seed, wrap_key }))
            }
            Custody::Transit => {
                // A copy of the database elsewhere leaves the keys of this installation alone.
                self.at_home().map_err(Fault::Signer)?;
                let transit = self.transit().map_err(Fault::Signer)?;
                let made = transit.next_version(&transit_name(domain)).await;
                let made = made.map_err(|fault| Fault::Signer(openbao(fault)))?;
                Ok((made.public_key, PrivateHalf::Transit { version: made.version }))
            }
        }
    }

    /// What signs with `kid`, from memory or made anew.
    pub(super) async fn hand(&self, domain: DomainId, kid: &str) -> Result<Arc<Hand>, SignerFault> {
        if let Some(hand) = self.hands.get(kid) {
            return Ok(hand);
        }
        let hand = Arc::new(self.fresh_hand(domain, kid).await?);
        self.hands.insert(kid.to_owned(), Arc::clone(&hand));
        Ok(hand)
    }

    /// What signs with `kid`, past the memory.
    pub(crate) async fn fresh_hand(&self, domain: DomainId, kid: &str) -> Result<Hand, SignerFault> {
        let private = store::private_half(&self.parts.db, domain, kid).await.map_err(unavailable)?;
        match private.ok_or(SignerFault::Destroyed)? {
            PrivateHalf::Wrapped { seed, wrap_key } => {
                let seed = self.parts.ring.open(wrap_key, &seed, &self.aad(domain, kid)).map_err(custody)?;
                let seed: &[u8; SEED_BYTES] =
                    seed.as_slice().try_into().map_err(|_| SignerFault::Refused("seed length"))?;
                Ok(Hand::Memory(SigningKey::from_bytes(seed)))
            }
            PrivateHalf::Transit { version } => {
                let line = self.line(domain).await?;
                let key = line.key(kid).ok_or(SignerFault::Destroyed)?;
                let public_key = VerifyingKey::from_bytes(&key.public_key)
                    .map_err(|_| SignerFault::Refused("a public half that is no key"))?;
                let (transit, name) = (self.transit()?.clone(), transit_name(domain));
                Ok(Hand::OpenBao { transit, name, version, public_key })
            }
        }
    }
}
