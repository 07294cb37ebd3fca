//! Which requests an edge serves itself. Everything else goes to control, but for what is control's own business.

use http::Method;
use plexsphere_wire::telemetry::Signal;

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'p> {
    /// PostNodeMetrics, PostNodeLogs or PostNodeAudit with the path id as given.
    Ingest(Signal, &'p str),
    /// PostNodeHeartbeat.
    Heartbeat(&'p str),
    /// GetNodeEvents.
    Events(&'p str),
    /// A path of ours with a method that it does not know; the methods that it knows.
    WrongMethod(&'static str),
    /// For control.
    Control,
    /// Nothing that may be reached from outside.
    Hidden,
}

impl Route<'_> {
    /// The route's word in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Ingest(Signal::Metrics, _) => "metrics",
            Self::Ingest(Signal::Logs, _) => "logs",
            Self::Ingest(Signal::Audit, _) => "audit",
            Self::Heartbeat(_) => "heartbeat",
            Self::Events(_) => "events",
            Self::WrongMethod(_) => "wrong_method",
            Self::Control => "control",
            Self::Hidden => "hidden",
        }
    }
}

/// Finds the route of a request. `path` is raw: percent escapes stand as they were sent.
#[must_use]
pub fn route<'p>(method: &Method, path: &'p str) -> Route<'p> {
    if let Some((id, operation)) = path.strip_prefix("/v1/nodes/").and_then(|rest| rest.split_once('/')) {
        let (ours, allowed, allow) = match operation {
            "metrics" => (Route::Ingest(Signal::Metrics, id), Method::POST, "POST"),
            "logs" => (Route::Ingest(Signal::Logs, id), Method::POST, "POST"),
            "audit" => (Route::Ingest(Signal::Audit, id), Method::POST, "POST"),
            "heartbeat" => (Route::Heartbeat(id), Method::POST, "POST"),
            "events" => (Route::Events(id), Method::GET, "GET"),
            _ => return visible(path),
        };
        return if *method == allowed { ours } else { Route::WrongMethod(allow) };
    }
    visible(path)
}

/// Control's internal paths, and anything that a careless decoder could take for them, are not for callers.
fn visible(path: &str) -> Route<'static> {
    let Some(rest) = path.strip_prefix('/') else { return Route::Hidden };
    let mut segments = rest.split('/').map(decoded);
    let first = segments.next().unwrap_or_default();
    let dots = |segment: &str| matches!(segment, "." | "..") || segment.contains(['/', '\\']);
    let hidden = first.eq_ignore_ascii_case("internal") || (first.is_empty() && !rest.is_empty());
    if hidden || dots(&first) || segments.any(|segment| dots(&segment)) { Route::Hidden } else { Route::Control }
}

/// A path segment without its percent escapes; only used to judge it.
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = after.first_chunk::<2>().filter(|_| *first == b'%');
        match escape.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_paths_are_ours_and_know_one_method() {
        assert_eq!(route(&Method::POST, "/v1/nodes/x/metrics"), Route::Ingest(Signal::Metrics, "x"));
        assert_eq!(route(&Method::POST, "/v1/nodes/x/logs"), Route::Ingest(Signal::Logs, "x"));
        assert_eq!(route(&Method::POST, "/v1/nodes/x/audit"), Route::Ingest(Signal::Audit, "x"));
        assert_eq!(route(&Method::POST, "/v1/nodes/x/heartbeat"), Route::Heartbeat("x"));
        assert_eq!(route(&Method::GET, "/v1/nodes/x/events"), Route::Events("x"));
        assert_eq!(route(&Method::GET, "/v1/nodes/x/metrics"), Route::WrongMethod("POST"));
        assert_eq!(route(&Method::HEAD, "/v1/nodes/x/events"), Route::WrongMethod("GET"));
    }

    #[test]
    fn the_rest_goes_to_control_but_never_to_its_internal_paths() {
        for path in ["/v1/nodes/x/state", "/v1/nodes/x/metrics/", "/v1/health", "/", "/v1/nodes/x/secrets/a%20b"] {
            assert_eq!(route(&Method::GET, path), Route::Control, "{path}");
        }
        for path in [
            "/internal/v1/authorize/node-events/x",
            "/Internal/v1",
            "/%69nternal/v1",
            "//internal/v1",
            "/v1/../internal",
            "/v1/%2e%2E/internal",
            "/v1/x%2f..%2finternal",
            "*",
        ] {
            assert_eq!(route(&Method::GET, path), Route::Hidden, "{path}");
        }
    }
}
