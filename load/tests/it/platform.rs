//! A stand-in for the platform's front door: it keeps what the contract says and refuses everything else. It serves
//! HTTP/1.1 and HTTP/2 over TLS with ALPN, or in the clear, and HTTP/3 over QUIC, with certificates of its own.

mod handle;
mod serve;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use ed25519_dalek::SigningKey;
use plexsphere_load::clock;
use plexsphere_wire::envelope::{EventType, Unsigned, sign};
use plexsphere_wire::{DomainId, EnvelopeId, NodeId};
use tokio::sync::watch;
use url::Url;

pub(crate) const ADMIN: &str = "admin-token";

/// A refusal that the next requests of a route get.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
}

pub(crate) struct Accepted {
    pub(crate) node: NodeId,
    pub(crate) signal: String,
    pub(crate) encoding: String,
    pub(crate) http: http::Version,
    pub(crate) body: Vec<u8>,
    pub(crate) records: Vec<serde_json::Value>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) tokens: HashSet<String>,
    pub(crate) issued: u64,
    pub(crate) nodes: HashMap<NodeId, [u8; 32]>,
    pub(crate) accepted: Vec<Accepted>,
    /// Bodies of attempts that were refused on purpose.
    pub(crate) refused: Vec<Vec<u8>>,
    pub(crate) next: BTreeMap<String, Vec<Refusal>>,
    pub(crate) heartbeats: u64,
    pub(crate) pulls: u64,
    /// What heartbeats are told about rotation, and the keys that were taken.
    pub(crate) rotate: bool,
    pub(crate) keys: Vec<String>,
    pub(crate) cursors: Vec<Option<String>>,
    /// Frames: their sequence is their place, counted from one.
    pub(crate) frames: Vec<(EventType, Vec<u8>)>,
    pub(crate) registrations: Vec<serde_json::Value>,
}

#[derive(Clone)]
pub(crate) struct Platform {
    pub(crate) state: Arc<Mutex<State>>,
    /// Moves with every frame.
    pub(crate) published: watch::Sender<u64>,
    /// Moves to cut every open stream.
    pub(crate) cuts: watch::Sender<u64>,
    pub(crate) domain: DomainId,
    pub(crate) key: Arc<SigningKey>,
    pub(crate) address: SocketAddr,
    pub(crate) ca: PathBuf,
    _folder: Arc<tempfile::TempDir>,
}

impl Platform {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn url(&self) -> Url {
        format!("https://localhost:{}", self.address.port()).parse().unwrap()
    }

    pub(crate) fn refuse_next(&self, leaf: &str, status: u16, code: &'static str) {
        self.lock().next.entry(leaf.to_owned()).or_default().push(Refusal { status, code });
    }

    pub(crate) fn issue_token(&self) -> String {
        let mut state = self.lock();
        state.issued += 1;
        let token = format!("psb_load_aaaa_node_{:026}", state.issued);
        state.tokens.insert(token.clone());
        token
    }

    /// Publishes an event signed by `key` under `kid`.
    pub(crate) fn publish_as(&self, key: &SigningKey, kid: &str, event: EventType, payload: &str) {
        let unsigned = Unsigned {
            id: EnvelopeId::mint(clock::now()),
            event,
            domain: self.domain,
            key_id: kid.to_owned(),
            issued_at: clock::now(),
            payload: payload.to_owned(),
        };
        let wire = sign(&unsigned.canonical_bytes().unwrap(), key);
        let sequence = {
            let mut state = self.lock();
            state.frames.push((event, wire));
            state.frames.len() as u64
        };
        self.published.send_replace(sequence);
    }

    pub(crate) fn publish(&self, event: EventType, payload: &str) {
        self.publish_as(&self.key.clone(), "k-1", event, payload);
    }

    pub(crate) fn cut_streams(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}
