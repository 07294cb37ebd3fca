use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use plexsphere_load::clock;
use plexsphere_wire::nsk::NskBearer;
use plexsphere_wire::telemetry::{Encoding, Inflater, Limits, Signal, validate};
use plexsphere_wire::{NodeId, ProjectId};
use serde_json::{Value, json};

use super::{ADMIN, Accepted, Platform};

pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) version: http::Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) enum Answer {
    Json(StatusCode, Value),
    Problem(u16, &'static str),
    /// An event stream that starts above this sequence.
    Stream(u64),
}

fn ok(value: Value) -> Answer {
    Answer::Json(StatusCode::OK, value)
}

impl Platform {
    pub(crate) fn handle(&self, asked: &Asked) -> Answer {
        let path = asked.path.trim_start_matches("/v1/");
        let parts: Vec<&str> = path.split('/').collect();
        if let Some(refusal) = self.planned(parts.last().copied().unwrap_or_default(), asked) {
            return refusal;
        }
        match (&asked.method, parts.as_slice()) {
            (&Method::POST, ["register"]) => self.register(asked),
            (&Method::POST, ["domains" | "projects"] | ["projects", _, "resources" | "bootstrap-tokens"]) => {
                self.operate(asked, parts.last().copied().unwrap_or_default())
            }
            (&Method::POST, ["keys", "rotate"]) => self.rotate(asked),
            (_, ["nodes", id, leaf]) => self.node(asked, id, leaf),
            _ => Answer::Problem(404, "not_found"),
        }
    }

    fn planned(&self, leaf: &str, asked: &Asked) -> Option<Answer> {
        let mut state = self.lock();
        let planned = state.next.get_mut(leaf)?;
        if planned.is_empty() {
            return None;
        }
        let refusal = planned.remove(0);
        state.refused.push(asked.body.to_vec());
        Some(Answer::Problem(refusal.status, refusal.code))
    }

    fn register(&self, asked: &Asked) -> Answer {
        let Ok(body) = serde_json::from_slice::<Value>(&asked.body) else {
            return Answer::Problem(400, "invalid_body");
        };
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let mut state = self.lock();
        state.registrations.push(body.clone());
        let uuid = uuid::Uuid::try_parse(&text("nonce"));
        if !uuid.is_ok_and(|nonce| nonce.get_version_num() == 4) || text("resource_handle").is_empty() {
            return Answer::Problem(422, "invalid_register_request");
        }
        if STANDARD.decode(text("public_key")).map(|key| key.len()) != Ok(32) {
            return Answer::Problem(400, "public_key_invalid");
        }
        if !state.tokens.remove(&text("bootstrap_token")) {
            return Answer::Problem(403, "token_consumed");
        }
        let node = NodeId::mint(clock::now());
        let nsk = [u8::try_from(state.nodes.len() % 200).unwrap() + 1; 32];
        state.nodes.insert(node, nsk);
        Answer::Json(
            StatusCode::CREATED,
            json!({
                "node_id": node, "mesh_ip": "100.64.0.1", "domain_mesh_cidr": "100.64.0.0/10",
                "signing_public_key": STANDARD.encode(self.key.verifying_key().to_bytes()),
                "signing_key_id": "k-1", "nsk": STANDARD.encode(nsk), "peer_snapshot": [],
            }),
        )
    }

    fn operate(&self, asked: &Asked, leaf: &str) -> Answer {
        let authorized = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
        if authorized != Some(format!("Bearer {ADMIN}").as_str()) {
            return Answer::Problem(401, "unauthorized");
        }
        if leaf == "bootstrap-tokens" {
            return Answer::Json(StatusCode::CREATED, json!({ "token_id": self.domain, "token": self.issue_token() }));
        }
        let id = if leaf == "domains" { self.domain.to_string() } else { ProjectId::mint(clock::now()).to_string() };
        Answer::Json(StatusCode::CREATED, json!({ "id": id }))
    }

    fn node(&self, asked: &Asked, id: &str, leaf: &str) -> Answer {
        let bearer = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
        let Some(bearer) = bearer.and_then(NskBearer::from_authorization) else {
            return Answer::Problem(401, "unauthorized");
        };
        let known = self.lock().nodes.get(&bearer.node).copied();
        let proven = known
            .is_some_and(|key| bearer.digest().matches(&plexsphere_wire::nsk::CredentialDigest::of(bearer.node, &key)));
        if !proven {
            return Answer::Problem(401, "nsk_invalid");
        }
        if bearer.node.to_string() != id {
            return Answer::Problem(403, "node_id_mismatch");
        }
        match (&asked.method, leaf) {
            (&Method::POST, "heartbeat") => {
                let mut state = self.lock();
                state.heartbeats += 1;
                ok(json!({ "accepted_at": clock::now(), "reconcile": false, "rotate_keys": state.rotate }))
            }
            (&Method::GET, "state") => {
                self.lock().pulls += 1;
                ok(json!({ "peers": [], "policy": null, "bridge": null }))
            }
            (&Method::GET, "events") => self.events(asked),
            (&Method::POST, "metrics" | "logs" | "audit") => self.ingest(asked, bearer.node, leaf),
            _ => Answer::Problem(404, "not_found"),
        }
    }

    fn rotate(&self, asked: &Asked) -> Answer {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let key = body["new_public_key"].as_str().unwrap_or_default().to_owned();
        if STANDARD.decode(&key).map(|key| key.len()) != Ok(32) {
            return Answer::Problem(422, "keys_rotate_public_key_invalid");
        }
        self.lock().keys.push(key);
        ok(json!({ "rotation_id": self.domain, "kid": "psk-1", "wrap_key_version": 1 }))
    }

    fn events(&self, asked: &Asked) -> Answer {
        let cursor = asked.headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
        let mut state = self.lock();
        state.cursors.push(cursor.clone());
        let last = state.frames.len() as u64;
        match cursor.map(|cursor| cursor.parse::<u64>()) {
            None => Answer::Stream(last),
            Some(Ok(cursor)) if cursor <= last => Answer::Stream(cursor),
            Some(_) => Answer::Problem(400, "invalid_last_event_id"),
        }
    }

    fn ingest(&self, asked: &Asked, node: NodeId, leaf: &str) -> Answer {
        let signal = Signal::parse(leaf).unwrap();
        let codings = asked.headers.get_all("content-encoding").iter().map(http::HeaderValue::as_bytes);
        let Ok(encoding) = Encoding::parse(codings) else { return Answer::Problem(415, "ingest_encoding_unsupported") };
        let sent_at = asked.headers.get("x-plexsphere-sent-at").and_then(|value| value.to_str().ok());
        if sent_at.is_none_or(|text| plexsphere_wire::Timestamp::parse(text).is_err()) {
            return Answer::Problem(400, "ingest_sent_at_invalid");
        }
        let limits = Limits::default();
        let mut inflater = Inflater::new();
        let Ok(inflated) = inflater.inflate(encoding, &asked.body, limits.inflated_bytes) else {
            return Answer::Problem(400, "ingest_encoding_invalid");
        };
        let shape = signal.received_shape();
        let Ok(summary) = validate(signal, shape, inflated, &limits) else {
            return Answer::Problem(400, "ingest_batch_malformed");
        };
        let records: Vec<Value> = if signal == Signal::Metrics {
            serde_json::from_slice(inflated).unwrap()
        } else {
            inflated.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
        };
        assert_eq!(records.len(), summary.records);
        self.lock().accepted.push(Accepted {
            node,
            signal: leaf.to_owned(),
            encoding: encoding.as_str().to_owned(),
            http: asked.version,
            body: asked.body.to_vec(),
            records,
        });
        Answer::Json(StatusCode::ACCEPTED, json!({ "accepted_at": clock::now(), "records": summary.records }))
    }
}
