//! HTTP/1.1: a head, then chunks.

use super::{Asked, Broken, MAX_HEAD_BYTES};

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Where in the response the next byte stands.
#[derive(Debug)]
enum Place {
    Head(Vec<u8>),
    /// In a chunk's size line, with the size so far; the rest of the line is an extension.
    Size {
        size: usize,
        extension: bool,
    },
    Chunk {
        left: usize,
    },
    /// Behind a chunk, in front of the next size line.
    ChunkEnd,
    Ended,
}

/// A response as far as it was read.
#[derive(Debug)]
pub(in crate::streams) struct Response {
    place: Place,
    status: Option<u16>,
}

impl Default for Response {
    fn default() -> Self {
        Self { place: Place::Head(Vec::new()), status: None }
    }
}

pub(super) fn request(asked: &Asked<'_>) -> Vec<u8> {
    let mut text = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\naccept: text/event-stream\r\n",
        asked.path, asked.authority, asked.bearer
    );
    if let Some(cursor) = asked.cursor {
        text.push_str(&format!("last-event-id: {cursor}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

impl Response {
    pub(super) const fn status(&self) -> Option<u16> {
        self.status
    }

    pub(super) const fn ended(&self) -> bool {
        matches!(self.place, Place::Ended)
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8], body: &mut Vec<u8>) -> Result<(), Broken> {
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.place {
                Place::Head(head) => {
                    head.push(*first);
                    bytes = rest;
                    if head.ends_with(END_OF_HEAD) {
                        let head = std::mem::take(head);
                        self.begin(&head)?;
                    } else if head.len() > MAX_HEAD_BYTES {
                        return Err(Broken::Malformed);
                    }
                }
                Place::Size { size, extension } => {
                    match first {
                        b'\n' if *size == 0 => self.place = Place::Ended,
                        b'\n' => self.place = Place::Chunk { left: *size },
                        b';' => *extension = true,
                        _ if *extension || *first == b'\r' => {}
                        digit => *size = with_digit(*size, *digit)?,
                    }
                    bytes = rest;
                }
                Place::Chunk { left } => {
                    let (taken, behind) = bytes.split_at(bytes.len().min(*left));
                    body.extend_from_slice(taken);
                    *left -= taken.len();
                    if *left == 0 {
                        self.place = Place::ChunkEnd;
                    }
                    bytes = behind;
                }
                Place::ChunkEnd => {
                    if *first == b'\n' {
                        self.place = Place::Size { size: 0, extension: false };
                    }
                    bytes = rest;
                }
                Place::Ended => return Ok(()),
            }
        }
        Ok(())
    }

    /// Only a 200 is read on; it comes in chunks, since nobody knows how long it is.
    fn begin(&mut self, head: &[u8]) -> Result<(), Broken> {
        let text = std::str::from_utf8(head).map_err(|_| Broken::Malformed)?.to_ascii_lowercase();
        let status = text.strip_prefix("http/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        self.status = Some(status.ok_or(Broken::Malformed)?);
        let chunked = text.lines().any(|line| line.trim_end() == "transfer-encoding: chunked");
        self.place = match self.status {
            Some(200) if !chunked => return Err(Broken::Malformed),
            Some(200) => Place::Size { size: 0, extension: false },
            _ => Place::Ended,
        };
        Ok(())
    }
}

fn with_digit(size: usize, digit: u8) -> Result<usize, Broken> {
    let value = char::from(digit).to_digit(16).and_then(|value| usize::try_from(value).ok());
    let value = value.ok_or(Broken::Malformed)?;
    size.checked_mul(16).and_then(|size| size.checked_add(value)).ok_or(Broken::Malformed)
}
