use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use ed25519_dalek::SigningKey;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use plexsphere_load::clock;
use plexsphere_wire::{CorrelationId, DomainId, sse};
use quinn::crypto::rustls::QuicServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::Platform;
use super::handle::{Answer, Asked};

type Body = BoxBody<Bytes, Infallible>;

/// Bytes of an event stream on their way to a connection.
struct Channel(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Channel {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

struct Certificates {
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: Vec<u8>,
    pem: String,
}

fn certificates() -> Certificates {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = authority.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&authority, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    Certificates { chain: vec![leaf.der().clone()], key: key.serialize_der(), pem: ca.pem() }
}

fn server_config(certificates: &Certificates, alpn: &[&[u8]]) -> rustls::ServerConfig {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificates.key.clone()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates.chain.clone(), key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|word| word.to_vec()).collect();
    config
}

impl Platform {
    pub(crate) async fn start() -> Self {
        Self::start_with(true).await
    }

    /// Without TLS there is no HTTP/3.
    pub(crate) async fn start_with(tls: bool) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let certificates = certificates();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, &certificates.pem).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let platform = Self {
            state: Arc::default(),
            published: watch::channel(0).0,
            cuts: watch::channel(0).0,
            domain: DomainId::mint(clock::now()),
            key: Arc::new(SigningKey::from_bytes(&[7; 32])),
            address: listener.local_addr().unwrap(),
            ca,
            _folder: folder,
        };
        let acceptor = tls.then(|| TlsAcceptor::from(Arc::new(server_config(&certificates, &[b"h2", b"http/1.1"]))));
        tokio::spawn(platform.clone().accept(listener, acceptor));
        if tls {
            let config = QuicServerConfig::try_from(server_config(&certificates, &[b"h3"])).unwrap();
            let config = quinn::ServerConfig::with_crypto(Arc::new(config));
            let endpoint = quinn::Endpoint::server(config, platform.address).unwrap();
            tokio::spawn(platform.clone().accept_quic(endpoint));
        }
        platform
    }

    async fn accept(self, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
        while let Ok((tcp, _)) = listener.accept().await {
            let (platform, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let platform = platform.clone();
                    async move { platform.respond(request).await }
                });
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = match acceptor {
                    Some(acceptor) => match acceptor.accept(tcp).await {
                        Ok(tls) => builder.serve_connection(TokioIo::new(tls), service).await,
                        Err(_) => return,
                    },
                    None => builder.serve_connection(TokioIo::new(tcp), service).await,
                };
            });
        }
    }

    async fn respond(self, request: http::Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return Ok(Response::default()) };
        assert!(parts.version != http::Version::HTTP_11 || parts.headers.contains_key("host"), "no host header");
        let asked = Asked {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            version: parts.version,
            headers: parts.headers,
            body: body.to_bytes(),
        };
        let (head, body) = self.render(&asked);
        let body = match body {
            Rendered::Whole(bytes) => Full::new(bytes).boxed(),
            Rendered::Stream(receiver) => Channel(receiver).boxed(),
        };
        Ok(head.map(|()| body))
    }

    fn render(&self, asked: &Asked) -> (Response<()>, Rendered) {
        let build = |status: u16, kind: &'static str| {
            let mut head = Response::builder().status(status).body(()).unwrap();
            head.headers_mut().insert("content-type", HeaderValue::from_static(kind));
            head
        };
        match self.handle(asked) {
            Answer::Json(status, value) => {
                (build(status.as_u16(), "application/json"), Rendered::Whole(value.to_string().into()))
            }
            Answer::Problem(status, code) => {
                let correlation = CorrelationId::mint(clock::now());
                let body = serde_json::json!({
                    "type": "about:blank", "title": code, "status": status, "detail": "refused on purpose",
                    "instance": asked.path, "code": code, "correlation_id": correlation.as_str(),
                });
                (build(status, "application/problem+json"), Rendered::Whole(body.to_string().into()))
            }
            Answer::Stream(above) => {
                let (sender, receiver) = mpsc::channel(64);
                tokio::spawn(self.clone().stream(above, sender));
                (build(200, "text/event-stream"), Rendered::Stream(receiver))
            }
        }
    }

    async fn stream(self, mut above: u64, out: mpsc::Sender<Bytes>) {
        let (mut published, mut cuts) = (self.published.subscribe(), self.cuts.subscribe());
        if out.send(Bytes::from_static(sse::OPENING)).await.is_err() {
            return;
        }
        loop {
            let frames: Vec<_> = {
                let state = self.lock();
                state.frames.iter().skip(usize::try_from(above).unwrap()).cloned().collect()
            };
            for (event, wire) in frames {
                above += 1;
                if out.send(sse::frame(above, event.as_str(), &wire).into()).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                _ = published.changed() => {}
                _ = cuts.changed() => return,
                () = out.closed() => return,
            }
        }
    }

    async fn accept_quic(self, endpoint: quinn::Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let platform = self.clone();
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                let Ok(mut connection) =
                    h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(connection)).await
                else {
                    return;
                };
                while let Ok(Some(resolver)) = connection.accept().await {
                    let platform = platform.clone();
                    tokio::spawn(async move {
                        if let Ok((request, stream)) = resolver.resolve_request().await {
                            platform.respond_quic(request, stream).await;
                        }
                    });
                }
            });
        }
    }

    async fn respond_quic(
        self,
        request: http::Request<()>,
        mut stream: h3::server::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>,
    ) {
        let mut body = Vec::new();
        while let Ok(Some(mut data)) = stream.recv_data().await {
            body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        let (parts, ()) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let version = http::Version::HTTP_3;
        let asked = Asked { method: parts.method, path, version, headers: parts.headers, body: body.into() };
        let (head, body) = self.render(&asked);
        if stream.send_response(head).await.is_err() {
            return;
        }
        match body {
            Rendered::Whole(bytes) => {
                let _ = stream.send_data(bytes).await;
            }
            Rendered::Stream(mut receiver) => {
                while let Some(bytes) = receiver.recv().await {
                    if stream.send_data(bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
        let _ = stream.finish().await;
    }
}

enum Rendered {
    Whole(Bytes),
    Stream(mpsc::Receiver<Bytes>),
}
