//! The connection to NATS, made the same way by every role.

use std::time::Duration;

use url::Url;

/// Connects to the servers of a comma-separated list; user and password are taken out of the first URL that has them.
///
/// The client connects again by itself for ever, and the first connection may be late: a role starts without its bus and
/// says so in its probes.
///
/// # Errors
/// One sentence when a URL is malformed.
pub(crate) async fn connect(urls: &str, name: &str) -> Result<async_nats::Client, String> {
    let mut servers = Vec::new();
    let mut credentials = None;
    for text in urls.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let mut url = Url::parse(text).map_err(|error| format!("`nats.url` is no URL: {error}"))?;
        if let (user, Some(password)) = (url.username().to_owned(), url.password().map(str::to_owned)) {
            credentials.get_or_insert((user, password));
        }
        let _ = url.set_password(None);
        let _ = url.set_username("");
        servers.push(url.to_string());
    }
    let mut options = async_nats::ConnectOptions::new()
        .name(format!("plexsphere-{name}"))
        .retry_on_initial_connect()
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(10))
        .reconnect_delay_callback(|attempt| Duration::from_millis(u64::try_from(attempt.min(20)).unwrap_or(20) * 100))
        .event_callback(|event| async move { tracing::info!(%event, "message bus") });
    if let Some((user, password)) = credentials {
        options = options.user_and_password(user, password);
    }
    options.connect(servers).await.map_err(|error| format!("the message bus cannot be reached: {error}"))
}
