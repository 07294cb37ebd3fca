//! Where a route's batches end.

mod authorization;
mod http;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use plexsphere_wire::DomainId;

pub use authorization::AuthorizationError;
pub use http::SinkSetupError;
pub(crate) use http::{HttpSink, Reply, printable};

use crate::config::{HttpSinkConfig, LokiEncoding, PipelinesConfig, SinkChoice};
use crate::file_sink::{FileSink, FileSinkError};
use crate::route::{Route, SinkKind};

/// The sink of one route.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// An HTTP endpoint.
    Http(Arc<HttpSink>, LokiEncoding),
    /// The local folder.
    File(Arc<FileSink>),
    /// Nothing: messages are acknowledged and counted.
    Off,
}

/// The sinks of all routes.
#[derive(Clone, Debug)]
pub(crate) struct Sinks {
    by_route: [Sink; 5],
    siem_log_domains: BTreeSet<DomainId>,
}

/// Why the sinks cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SinksError {
    /// A signal is told to go to a backend that has no URL.
    #[error("route {0} is told to use its backend, which has no url")]
    BackendWithoutUrl(Route),
    /// An endpoint cannot be spoken to.
    #[error("sink of route {route}")]
    Endpoint {
        /// The route.
        route: Route,
        /// Why.
        #[source]
        source: SinkSetupError,
    },
    /// The folder cannot be used.
    #[error("file sink")]
    File(#[source] FileSinkError),
}

/// Longest time for one request.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const MIMIR_PATH: &str = "/api/v1/push";
const LOKI_PATH: &str = "/loki/api/v1/push";

// === impl Sinks ===

impl Sinks {
    /// Sets every sink up; opens the folder only when a route needs it.
    pub(crate) async fn open(config: &PipelinesConfig) -> Result<Self, SinksError> {
        let mut file: Option<Arc<FileSink>> = None;
        let mut by_route = [const { Sink::Off }; 5];
        for (slot, route) in by_route.iter_mut().zip(Route::ALL) {
            *slot = match Plan::of(config, route)? {
                Plan::Off => Sink::Off,
                Plan::Http => http_sink(config, route).map_err(|source| SinksError::Endpoint { route, source })?,
                Plan::File => {
                    let sink = match file.take() {
                        Some(sink) => sink,
                        None => Arc::new(FileSink::open(&config.file).await.map_err(SinksError::File)?),
                    };
                    file = Some(Arc::clone(&sink));
                    Sink::File(sink)
                }
            };
        }
        Ok(Self { by_route, siem_log_domains: config.siem.log_domains.iter().copied().collect() })
    }

    /// No sink at all.
    pub(crate) fn off() -> Self {
        Self { by_route: [const { Sink::Off }; 5], siem_log_domains: BTreeSet::new() }
    }

    /// The sink of a route.
    pub(crate) fn of(&self, route: Route) -> Sink {
        self.by_route.get(route.index()).cloned().unwrap_or(Sink::Off)
    }

    /// Whether a route leaves a Domain's messages out.
    pub(crate) fn skips(&self, route: Route, domain: DomainId) -> bool {
        route == Route::SiemLogs && !self.siem_log_domains.is_empty() && !self.siem_log_domains.contains(&domain)
    }
}

/// What kind of sink a route gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Http,
    File,
    Off,
}

impl Plan {
    fn of(config: &PipelinesConfig, route: Route) -> Result<Self, SinksError> {
        let (choice, has_url) = match route {
            Route::MimirMetrics => (config.metrics, config.mimir.url.is_some()),
            Route::LokiLogs => (config.logs, config.loki.url.is_some()),
            Route::LokiAudit => (config.audit, config.loki.url.is_some()),
            Route::SiemAudit => return Ok(if config.siem.url.is_some() { Self::Http } else { Self::Off }),
            Route::SiemLogs => {
                let on = config.siem.url.is_some() && config.siem.logs;
                return Ok(if on { Self::Http } else { Self::Off });
            }
        };
        match (choice, has_url) {
            (SinkChoice::Off, _) => Ok(Self::Off),
            (SinkChoice::File, _) | (SinkChoice::Auto, false) => Ok(Self::File),
            (SinkChoice::Backend | SinkChoice::Auto, true) => Ok(Self::Http),
            (SinkChoice::Backend, false) => Err(SinksError::BackendWithoutUrl(route)),
        }
    }
}

fn http_sink(config: &PipelinesConfig, route: Route) -> Result<Sink, SinkSetupError> {
    let (endpoint, path) = match route.kind() {
        SinkKind::Mimir => (config.mimir.clone(), push_path(&config.mimir, MIMIR_PATH)),
        SinkKind::Loki => (config.loki.http(), Some(LOKI_PATH)),
        SinkKind::Siem => (config.siem.http(), None),
    };
    Ok(Sink::Http(Arc::new(HttpSink::new(route.kind(), &endpoint, path)?), config.loki.encoding))
}

/// The path to add to a base URL. A URL that names a remote-write endpoint itself is taken as it is: Prometheus and
/// VictoriaMetrics write at `/api/v1/write`.
fn push_path(endpoint: &HttpSinkConfig, path: &'static str) -> Option<&'static str> {
    let named = endpoint.url.as_ref().is_some_and(|url| url.path().ends_with("/write") || url.path().ends_with(path));
    (!named).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_names_its_endpoint_is_taken_as_it_is() {
        let of = |url: &str| HttpSinkConfig { url: Some(url.parse().unwrap()), ..HttpSinkConfig::default() };
        assert_eq!(push_path(&of("http://mimir:9009"), MIMIR_PATH), Some(MIMIR_PATH));
        assert_eq!(push_path(&of("http://mimir:9009/prefix"), MIMIR_PATH), Some(MIMIR_PATH));
        assert_eq!(push_path(&of("http://prometheus:9090/api/v1/write"), MIMIR_PATH), None);
        assert_eq!(push_path(&of("http://mimir:9009/api/v1/push"), MIMIR_PATH), None);
    }

    #[test]
    fn without_urls_telemetry_goes_to_the_folder_and_the_siem_is_off() {
        let config = PipelinesConfig::default();
        let plans = Route::ALL.map(|route| Plan::of(&config, route).unwrap());
        assert_eq!(plans, [Plan::File, Plan::File, Plan::File, Plan::Off, Plan::Off]);
    }

    #[test]
    fn a_url_turns_the_backend_on_and_the_folder_can_still_be_chosen() {
        let mut config = PipelinesConfig::default();
        config.mimir.url = Some("http://mimir:9009".parse().unwrap());
        config.siem.url = Some("https://siem/in".parse().unwrap());
        assert_eq!(Plan::of(&config, Route::MimirMetrics).unwrap(), Plan::Http);
        assert_eq!(Plan::of(&config, Route::SiemAudit).unwrap(), Plan::Http);
        assert_eq!(Plan::of(&config, Route::SiemLogs).unwrap(), Plan::Off);
        config.siem.logs = true;
        config.metrics = SinkChoice::File;
        assert_eq!(Plan::of(&config, Route::SiemLogs).unwrap(), Plan::Http);
        assert_eq!(Plan::of(&config, Route::MimirMetrics).unwrap(), Plan::File);
        config.logs = SinkChoice::Backend;
        assert!(matches!(Plan::of(&config, Route::LokiLogs), Err(SinksError::BackendWithoutUrl(Route::LokiLogs))));
    }
}
