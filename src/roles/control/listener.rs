//! The internal listener: HTTP/1.1 and HTTP/2 with prior knowledge, reached by edges only.

use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until cancelled, then lets requests under way finish within `drain`.
///
/// An edge sends everything over one HTTP/2 connection, so `max_streams` is what one edge may have under way here; what
/// is more waits at the edge. As many requests may be given up before they are looked at: clients that all lose patience
/// at once must not cost the edge its connection.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    max_streams: u32,
    cancel: CancellationToken,
    drain: Duration,
) {
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(max_streams)
        .max_pending_accept_reset_streams(usize::try_from(max_streams).ok());
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        let Ok((socket, _)) = socket else {
            // Descriptors are short; a pause keeps the loop from spinning.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = socket.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = builder.serve_connection(TokioIo::new(socket), service).into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an internal connection ended");
            }
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(drain, graceful.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::routing::get;
    use tokio::sync::Barrier;

    use super::*;
    use crate::config::Config;

    #[tokio::test]
    async fn one_connection_of_an_edge_carries_a_thousand_requests_at_a_time() {
        const AT_ONCE: usize = 1_000;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        // Nobody is answered before all have come.
        let all = Arc::new(Barrier::new(AT_ONCE));
        let router = Router::new().route(
            "/",
            get(move || {
                let all = Arc::clone(&all);
                async move { all.wait().await.is_leader().to_string() }
            }),
        );
        let (cancel, streams) = (CancellationToken::new(), Config::default().control.max_streams_per_connection);
        let server = tokio::spawn(serve(listener, router, streams, cancel.clone(), Duration::from_secs(5)));
        let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
        let requests = (0..AT_ONCE).map(|_| client.get(&url).send());
        let answers = futures_util::future::try_join_all(requests);
        let answers = tokio::time::timeout(Duration::from_secs(10), answers).await.expect("none waits for another");
        assert!(answers.unwrap().iter().all(|answer| answer.status() == 200));
        drop(client);
        cancel.cancel();
        server.await.unwrap();
    }
}
