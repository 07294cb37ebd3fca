//! OpenBao's transit engine: it decrypts rings of wrap keys, and keeps Ed25519 keys and signs with them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{BaoFault, OpenBao};

/// The most that one call signs.
const BATCH: usize = 100;

/// A version of a key that signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransitKey {
    /// Its number, from 1.
    pub version: i32,
    /// Its public half.
    pub public_key: [u8; 32],
}

/// A transit engine. Clones are one: what they are asked to sign at the same time goes out in the same calls.
#[derive(Clone)]
pub struct Transit(Arc<Engine>);

struct Engine {
    bao: OpenBao,
    mount: String,
    /// Who waits for signatures, by key and version. A lane is there as long as one task works on it.
    lanes: Mutex<HashMap<Lane, Vec<Waiting>>>,
}

type Lane = (String, i32);

struct Waiting {
    input: String,
    answer: oneshot::Sender<Result<[u8; 64], BaoFault>>,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct Batch<T> {
    batch_results: Vec<T>,
}

#[derive(Deserialize)]
struct Decrypted {
    #[serde(default)]
    plaintext: String,
}

#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    signature: String,
}

#[derive(Deserialize)]
struct Key {
    #[serde(rename = "type")]
    kind: String,
    exportable: bool,
    latest_version: i32,
    keys: HashMap<String, Version>,
}

/// Keys that do not sign show the time of each version in place of its public half.
#[derive(Deserialize)]
#[serde(untagged)]
enum Version {
    Signs { public_key: String },
    Other(serde::de::IgnoredAny),
}

impl Transit {
    /// The engine that is mounted at `mount`.
    #[must_use]
    pub fn new(bao: OpenBao, mount: &str) -> Self {
        Self(Arc::new(Engine { bao, mount: mount.trim_matches('/').to_owned(), lanes: Mutex::default() }))
    }

    /// Decrypts texts of the form `vault:v<n>:…` under one key, in one call.
    ///
    /// # Errors
    /// [`BaoFault`]; [`BaoFault::Refused`] when one of them does not open.
    pub async fn decrypt(&self, key: &str, ciphertexts: &[&str]) -> Result<Vec<Zeroizing<Vec<u8>>>, BaoFault> {
        let items: Vec<_> = ciphertexts.iter().map(|text| json!({ "ciphertext": text })).collect();
        let body = self.0.write(&format!("decrypt/{key}"), &json!({ "batch_input": items })).await?;
        let answer: Answer<Batch<Decrypted>> = read(&body)?;
        let opened = answer.data.batch_results;
        if opened.len() != ciphertexts.len() {
            return Err(BaoFault::Unexpected("another number of plaintexts"));
        }
        let decode = |item: Decrypted| {
            let plaintext = Zeroizing::new(item.plaintext);
            STANDARD.decode(plaintext.as_bytes()).map(Zeroizing::new)
        };
        let opened: Result<_, _> = opened.into_iter().map(decode).collect();
        opened.map_err(|_| BaoFault::Unexpected("a plaintext that is no base64"))
    }

    /// Makes a fresh version of an Ed25519 key, and the key where it is missing. Two at the same time for one key are
    /// the caller's to keep apart.
    ///
    /// # Errors
    /// [`BaoFault`]; [`BaoFault::Unexpected`] when the key is of another kind, or may be exported.
    pub async fn next_version(&self, key: &str) -> Result<TransitKey, BaoFault> {
        match self.0.key(key).await {
            Ok(_) => self.0.write(&format!("keys/{key}/rotate"), &json!({})).await?,
            Err(BaoFault::Missing) => {
                self.0.write(&format!("keys/{key}"), &json!({ "type": "ed25519", "exportable": false })).await?
            }
            Err(fault) => return Err(fault),
        };
        let made = self.0.key(key).await?;
        let public_key = match made.keys.get(&made.latest_version.to_string()) {
            Some(Version::Signs { public_key }) => STANDARD.decode(public_key).ok(),
            Some(Version::Other(_)) | None => None,
        };
        let public_key = public_key.and_then(|bytes| bytes.try_into().ok());
        let public_key = public_key.ok_or(BaoFault::Unexpected("a key without its public half"))?;
        Ok(TransitKey { version: made.latest_version, public_key })
    }

    /// Signs bytes with a version of a key. What is asked while a call is under way goes out in the next one, at most
    /// a hundred in each.
    ///
    /// # Errors
    /// [`BaoFault`].
    pub async fn sign(&self, key: &str, version: i32, bytes: &[u8]) -> Result<[u8; 64], BaoFault> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { input: STANDARD.encode(bytes), answer };
        let lane = (key.to_owned(), version);
        let is_idle = match self.0.lanes.lock().entry(lane.clone()) {
            Entry::Occupied(mut others) => {
                others.get_mut().push(waiting);
                false
            }
            Entry::Vacant(place) => {
                place.insert(vec![waiting]);
                true
            }
        };
        if is_idle {
            // A task of its own: whoever came first may go away while others wait.
            tokio::spawn(Arc::clone(&self.0).work(lane));
        }
        answered.await.map_err(|_| BaoFault::Unreachable)?
    }

    /// Removes every version of a key below `floor`, for ever; with no floor, all there are, by putting a fresh one that
    /// signs nothing in their place. A key that is missing has none.
    ///
    /// # Errors
    /// [`BaoFault`].
    pub async fn trim(&self, key: &str, floor: Option<i32>) -> Result<(), BaoFault> {
        let floor = match floor {
            Some(floor) => floor,
            None => match self.next_after(key).await? {
                Some(version) => version,
                None => return Ok(()),
            },
        };
        let limits = json!({ "min_decryption_version": floor, "min_encryption_version": floor });
        self.0.write(&format!("keys/{key}/config"), &limits).await?;
        self.0.write(&format!("keys/{key}/trim"), &json!({ "min_available_version": floor })).await?;
        Ok(())
    }

    async fn next_after(&self, key: &str) -> Result<Option<i32>, BaoFault> {
        match self.0.key(key).await {
            Ok(_) => Ok(Some(self.next_version(key).await?.version)),
            Err(BaoFault::Missing) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

impl Engine {
    async fn key(&self, key: &str) -> Result<Key, BaoFault> {
        let answer: Answer<Key> = self.bao.read(&format!("{}/keys/{key}", self.mount)).await?;
        match &answer.data {
            key if key.kind != "ed25519" => Err(BaoFault::Unexpected("a key of another kind")),
            key if key.exportable => Err(BaoFault::Unexpected("a key that may be exported")),
            _ => Ok(answer.data),
        }
    }

    async fn write(&self, path: &str, body: &serde_json::Value) -> Result<Zeroizing<Vec<u8>>, BaoFault> {
        self.bao.write(&format!("{}/{path}", self.mount), body).await
    }

    /// Signs for everybody in a lane until nobody waits.
    async fn work(self: Arc<Self>, lane: Lane) {
        while let Some(batch) = self.next_batch(&lane) {
            let (inputs, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (json!({ "input": waiting.input }), waiting.answer)).unzip();
            let signed = self.sign(&lane, &inputs).await;
            for (place, answer) in answers.into_iter().enumerate() {
                let result = match &signed {
                    Ok(signed) => signed.get(place).ok_or(BaoFault::Unexpected("too few signatures")),
                    Err(fault) => Err(fault.clone()),
                };
                // Whoever has gone away misses nothing.
                let _ = answer.send(result.and_then(|signed| stripped(&signed.signature, lane.1)));
            }
        }
    }

    /// Up to a hundred of those who wait; the lane is closed when there is nobody.
    fn next_batch(&self, lane: &Lane) -> Option<Vec<Waiting>> {
        let mut lanes = self.lanes.lock();
        let waiting = lanes.get_mut(lane)?;
        let batch: Vec<Waiting> = waiting.drain(..waiting.len().min(BATCH)).collect();
        if batch.is_empty() {
            lanes.remove(lane);
            return None;
        }
        Some(batch)
    }

    async fn sign(&self, (key, version): &Lane, inputs: &[serde_json::Value]) -> Result<Vec<Signed>, BaoFault> {
        let body = json!({ "key_version": version, "batch_input": inputs });
        let answer: Answer<Batch<Signed>> = read(&self.write(&format!("sign/{key}"), &body).await?)?;
        Ok(answer.data.batch_results)
    }
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, BaoFault> {
    serde_json::from_slice(body).map_err(|_| BaoFault::Unexpected("a document of another form"))
}

/// The 64 bytes behind `vault:v<version>:`.
fn stripped(signature: &str, version: i32) -> Result<[u8; 64], BaoFault> {
    let text = signature.strip_prefix(&format!("vault:v{version}:"));
    let bytes = text.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or(BaoFault::Unexpected("no signature of that version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_stripped_to_its_64_bytes_and_no_other_version_or_length_passes() {
        let of = |version: i32, length: usize| format!("vault:v{version}:{}", STANDARD.encode(vec![7u8; length]));
        assert_eq!(stripped(&of(3, 64), 3), Ok([7; 64]));
        for (text, version) in [(of(3, 64), 2), (of(3, 63), 3), (of(3, 65), 3), (String::new(), 3)] {
            assert!(stripped(&text, version).is_err(), "{text}");
        }
    }
}
