//! A response body, piece by piece.

use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::{TransportError, quic, tcp};

/// The body of a response; dropping it before its end closes the stream.
pub struct ResponseBody(Kind);

enum Kind {
    Tcp { body: Incoming, lease: Option<tcp::Lease> },
    Quic { stream: Box<quic::Stream>, _keep: quic::Sender },
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResponseBody(…)")
    }
}

impl ResponseBody {
    pub(super) const fn tcp(body: Incoming, lease: Option<tcp::Lease>) -> Self {
        Self(Kind::Tcp { body, lease })
    }

    pub(super) fn quic(stream: quic::Stream, keep: quic::Sender) -> Self {
        Self(Kind::Quic { stream: Box::new(stream), _keep: keep })
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// [`TransportError::Exchange`] when the body breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, TransportError> {
        match &mut self.0 {
            Kind::Tcp { body, lease } => loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data() {
                            return Ok(Some(data));
                        }
                    }
                    Some(Err(error)) => return Err(TransportError::Exchange(error.to_string())),
                    None => {
                        if let Some(lease) = lease.take() {
                            lease.give_back();
                        }
                        return Ok(None);
                    }
                }
            },
            Kind::Quic { stream, .. } => match stream.recv_data().await {
                Ok(Some(mut data)) => Ok(Some(data.copy_to_bytes(data.remaining()))),
                Ok(None) => Ok(None),
                Err(error) => Err(TransportError::Exchange(error.to_string())),
            },
        }
    }
}
