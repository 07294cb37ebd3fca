//! Mimir, Loki and a SIEM that count what reaches them, and refuse a push now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use plexsphere_load::ledger::Identity;
use plexsphere_load::verify::{Arrivals, SignalCounts};
use plexsphere_testkit::receiver::{Answer, Push, Receiver, Seen};
use plexsphere_wire::telemetry::Signal;
use plexsphere_wire::{NodeId, Timestamp};
use serde_json::Value;

/// One push in so many is refused for the time being.
const REFUSED_ONE_IN: usize = 7;

/// The three backends, at one address with a path each.
pub(crate) struct Backends(Receiver);

/// What of one signal reached one backend.
pub(crate) struct Route {
    name: &'static str,
    signal: Signal,
    pub(crate) counts: SignalCounts,
}

impl Backends {
    pub(crate) async fn start() -> Self {
        let receiver = Receiver::start().await;
        let pushes = Arc::new(AtomicUsize::new(0));
        receiver.script(move |_| {
            let number = pushes.fetch_add(1, Ordering::Relaxed);
            Answer::status(if number % REFUSED_ONE_IN == REFUSED_ONE_IN - 1 { 503 } else { 204 })
        });
        Self(receiver)
    }

    /// What an installation must be told to push here.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("PLEXSPHERE_PIPELINES_MIMIR_URL", self.0.url.clone()),
            ("PLEXSPHERE_PIPELINES_LOKI_URL", self.0.url.clone()),
            ("PLEXSPHERE_PIPELINES_SIEM_URL", format!("{}/siem", self.0.url)),
            ("PLEXSPHERE_PIPELINES_SIEM_LOGS", "true".to_owned()),
        ]
    }

    pub(crate) fn refused(&self) -> usize {
        self.0.seen().iter().filter(|seen| seen.status >= 300).count()
    }

    pub(crate) fn assert_no_violation(&self) {
        self.0.assert_no_violation();
    }

    /// Counts what was accepted, per backend and signal.
    pub(crate) fn routes(&self, expected: &Arrivals) -> Vec<Route> {
        let (mut mimir, mut loki, mut siem) = (expected.clone(), expected.clone(), expected.clone());
        for seen in self.0.accepted() {
            match &seen.push {
                Push::Mimir(_) => samples(&seen, &mut mimir),
                Push::Loki(_) => entries(&seen, &mut loki),
                Push::Siem(records) => records.iter().for_each(|record| siem_record(record, &mut siem)),
            }
        }
        let routes = [
            ("mimir", Signal::Metrics, &mimir),
            ("loki", Signal::Logs, &loki),
            ("loki", Signal::Audit, &loki),
            ("siem", Signal::Audit, &siem),
            ("siem", Signal::Logs, &siem),
        ];
        let counts = |arrivals: &Arrivals, signal: Signal| arrivals.signals()[signal.as_str()];
        routes.map(|(name, signal, arrivals)| Route { name, signal, counts: counts(arrivals, signal) }).into()
    }
}

fn node(text: Option<&str>) -> NodeId {
    text.unwrap().parse().unwrap()
}

fn samples(seen: &Seen, arrivals: &mut Arrivals) {
    let Push::Mimir(request) = &seen.push else { return };
    for series in &request.timeseries {
        let name = series.label("__name__").unwrap();
        for sample in &series.samples {
            let at = Timestamp::from_unix_nanos(i128::from(sample.timestamp) * 1_000_000);
            let identity = Identity {
                name: Some(name.trim_start_matches("node_").into()),
                message: None,
                timestamp: Some(at.to_string().into()),
            };
            arrivals.row(Signal::Metrics, node(series.label("node_id")), &identity);
        }
    }
}

fn entries(seen: &Seen, arrivals: &mut Arrivals) {
    let Push::Loki(request) = &seen.push else { return };
    for stream in &request.streams {
        let signal = Signal::parse(stream.label("signal").unwrap()).unwrap();
        for entry in &stream.entries {
            let identity = match signal {
                Signal::Logs => Identity { name: None, message: Some(entry.line.as_str().into()), timestamp: None },
                _ => serde_json::from_str(&entry.line).unwrap(),
            };
            arrivals.row(signal, node(stream.label("node_id")), &identity);
        }
    }
}

fn siem_record(record: &Value, arrivals: &mut Arrivals) {
    let text = |member: &str| record[member].as_str();
    let identity = Identity {
        name: None,
        message: text("message").map(Into::into),
        timestamp: text("occurred_at").map(Into::into),
    };
    arrivals.row(Signal::parse(text("signal").unwrap()).unwrap(), node(text("node_id")), &identity);
}

/// The counts for people.
pub(crate) fn table(routes: &[Route]) -> String {
    let mut out = format!(
        "{:<6} {:<8} {:>8} {:>13} {:>8} {:>8} {:>11} {:>8}\n",
        "sink", "signal", "sent", "acknowledged", "arrived", "missing", "duplicated", "unknown"
    );
    for Route { name, signal, counts } in routes {
        out.push_str(&format!(
            "{name:<6} {:<8} {:>8} {:>13} {:>8} {:>8} {:>11} {:>8}\n",
            signal.as_str(),
            counts.sent,
            counts.acknowledged,
            counts.arrived,
            counts.missing,
            counts.duplicated,
            counts.unknown
        ));
    }
    out
}
