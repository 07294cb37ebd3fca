//! One request for an event stream and its answer, as bytes: no sockets, no tasks, and next to no memory.
//!
//! A client library keeps a task, buffers and a state machine for every connection; ten thousand of them would measure
//! the loader. What an event stream needs of HTTP is little enough to be read here.

mod h1;
mod h2;

#[cfg(test)]
mod tests;

/// The most bytes of a response's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Why a connection cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// Not what the protocol says.
    #[error("malformed response")]
    Malformed,
    /// The server ended the stream half-way.
    #[error("reset")]
    Reset,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// `host[:port]`.
    pub(super) authority: &'a str,
    /// Path of the request.
    pub(super) path: &'a str,
    /// The Node's bearer.
    pub(super) bearer: &'a str,
    /// `Last-Event-ID`.
    pub(super) cursor: Option<u64>,
    /// Whether the connection is encrypted.
    pub(super) tls: bool,
}

/// The client's side of one request, over HTTP/1.1 or HTTP/2.
#[derive(Debug)]
pub(super) enum Exchange {
    H1(h1::Response),
    H2(h2::Connection),
}

impl Exchange {
    pub(super) fn h1() -> Self {
        Self::H1(h1::Response::default())
    }

    pub(super) fn h2() -> Self {
        Self::H2(h2::Connection::default())
    }

    /// What is written first.
    pub(super) fn request(&self, asked: &Asked<'_>) -> Vec<u8> {
        match self {
            Self::H1(_) => h1::request(asked),
            Self::H2(_) => h2::request(asked),
        }
    }

    /// Takes bytes off the wire: the response's body is appended to `body`, what has to be said in return to `reply`.
    ///
    /// # Errors
    /// [`Broken`].
    pub(super) fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<(), Broken> {
        match self {
            Self::H1(response) => response.feed(bytes, body),
            Self::H2(connection) => connection.feed(bytes, body, reply),
        }
    }

    /// The response's status, once its head is there.
    pub(super) const fn status(&self) -> Option<u16> {
        match self {
            Self::H1(response) => response.status(),
            Self::H2(connection) => connection.status(),
        }
    }

    /// Whether the response ended as if complete.
    pub(super) const fn ended(&self) -> bool {
        match self {
            Self::H1(response) => response.ended(),
            Self::H2(connection) => connection.ended(),
        }
    }
}
