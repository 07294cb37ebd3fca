//! HTTP/2 (RFC 9113): one request on one connection, its headers spelled out without a table.

use super::{Asked, Broken};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADER_BYTES: usize = 9;
/// The most bytes of one frame that a server may send unasked.
const MAX_FRAME_BYTES: usize = 16_384;
/// What is taken before the server is told that there is room again; windows begin with 65,535 bytes.
const WINDOW_STEP: u32 = 32 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// A connection as far as it was read.
#[derive(Debug, Default)]
pub(in crate::streams) struct Connection {
    pending: Vec<u8>,
    status: Option<u16>,
    ended: bool,
    taken: u32,
}

pub(super) fn request(asked: &Asked<'_>) -> Vec<u8> {
    let mut block = vec![0x82, if asked.tls { 0x87 } else { 0x86 }];
    // Fields of the static table by index, each value as it stands.
    text(&mut block, &[0x04], asked.path);
    text(&mut block, &[0x01], asked.authority);
    text(&mut block, &[0x1f, 0x08], &format!("Bearer {}", asked.bearer));
    text(&mut block, &[0x0f, 0x04], "text/event-stream");
    if let Some(cursor) = asked.cursor {
        let mut name = vec![0x00];
        string(&mut name, "last-event-id");
        text(&mut block, &name, &cursor.to_string());
    }
    let mut out = PREFACE.to_vec();
    frame(&mut out, SETTINGS, 0, 0, &[]);
    frame(&mut out, HEADERS, END_STREAM | END_HEADERS, 1, &block);
    out
}

fn text(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    string(block, value);
}

/// A string without Huffman coding; its length is a 7-bit prefixed integer (RFC 7541, 5.1).
fn string(block: &mut Vec<u8>, value: &str) {
    match u8::try_from(value.len()) {
        Ok(short @ 0..127) => block.push(short),
        _ => {
            block.push(127);
            let mut rest = value.len() - 127;
            while rest >= 128 {
                block.push(u8::try_from(rest % 128).unwrap_or(0) | 128);
                rest /= 128;
            }
            block.push(u8::try_from(rest).unwrap_or(0));
        }
    }
    block.extend_from_slice(value.as_bytes());
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(length.get(1..).unwrap_or_default());
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

impl Connection {
    pub(super) const fn status(&self) -> Option<u16> {
        self.status
    }

    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    pub(super) fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>, reply: &mut Vec<u8>) -> Result<(), Broken> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while let Some((head, behind)) = rest.split_at_checked(HEADER_BYTES) {
            let [high, middle, low, kind, flags, ..] = *head else { break };
            let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if length > MAX_FRAME_BYTES {
                return Err(Broken::Malformed);
            }
            let Some((payload, behind)) = behind.split_at_checked(length) else { break };
            self.frame(kind, flags, payload, (&mut *body, &mut *reply))?;
            rest = behind;
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        payload: &[u8],
        (body, reply): (&mut Vec<u8>, &mut Vec<u8>),
    ) -> Result<(), Broken> {
        match kind {
            DATA => {
                body.extend_from_slice(unpadded(flags, payload)?);
                self.ended |= flags & END_STREAM != 0;
                self.take(payload.len(), reply);
            }
            HEADERS => {
                if self.status.is_none() {
                    self.status = Some(status(unpadded(flags, payload)?)?);
                }
                self.ended |= flags & END_STREAM != 0;
            }
            SETTINGS if flags & ACK == 0 => frame(reply, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(reply, PING, ACK, 0, payload),
            // Without an error it only says that no new request is taken.
            GOAWAY if payload.get(4..8) == Some(&[0; 4]) => {}
            RST_STREAM | GOAWAY => return Err(Broken::Reset),
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize, reply: &mut Vec<u8>) {
        self.taken = self.taken.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.taken >= WINDOW_STEP {
            let room = std::mem::take(&mut self.taken).to_be_bytes();
            frame(reply, WINDOW_UPDATE, 0, 0, &room);
            frame(reply, WINDOW_UPDATE, 0, 1, &room);
        }
    }
}

fn unpadded(flags: u8, payload: &[u8]) -> Result<&[u8], Broken> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (padding, rest) = payload.split_first().ok_or(Broken::Malformed)?;
    rest.len().checked_sub(usize::from(*padding)).and_then(|end| rest.get(..end)).ok_or(Broken::Malformed)
}

/// `:status` is the first field of a response. It is one of the static table, or three digits under one of its names.
fn status(block: &[u8]) -> Result<u16, Broken> {
    match behind_table_sizes(block) {
        [first @ 0x88..=0x8e, ..] => {
            [200, 204, 206, 304, 400, 404, 500].get(usize::from(first - 0x88)).copied().ok_or(Broken::Malformed)
        }
        [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => {
            std::str::from_utf8(&[*a, *b, *c]).ok().and_then(|text| text.parse().ok()).ok_or(Broken::Malformed)
        }
        [0x08 | 0x18 | 0x48, length, rest @ ..] if length & 0x80 != 0 => {
            let coded = rest.get(..usize::from(length & 0x7f)).ok_or(Broken::Malformed)?;
            digits(coded).ok_or(Broken::Malformed)
        }
        _ => Err(Broken::Malformed),
    }
}

/// Changes of the table's size may stand in front; each is a 5-bit prefixed integer.
fn behind_table_sizes(mut block: &[u8]) -> &[u8] {
    while let Some((first, mut rest)) = block.split_first().filter(|(first, _)| **first & 0xe0 == 0x20) {
        let mut more = first & 0x1f == 0x1f;
        while more && let Some((byte, behind)) = rest.split_first() {
            more = byte & 0x80 != 0;
            rest = behind;
        }
        block = rest;
    }
    block
}

/// Three digits in the Huffman code of RFC 7541: 0 to 2 have five bits, 3 to 9 six.
fn digits(coded: &[u8]) -> Option<u16> {
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |shift| u16::from(byte >> shift & 1)));
    let mut number = 0;
    for _ in 0..3 {
        let mut code = 0;
        for _ in 0..5 {
            code = code << 1 | bits.next()?;
        }
        let digit = if code <= 2 { code } else { (code << 1 | bits.next()?).checked_sub(0x19)? + 3 };
        if digit > 9 {
            return None;
        }
        number = number * 10 + digit;
    }
    Some(number)
}
