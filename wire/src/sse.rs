//! Server-sent event frames: how an envelope travels to a Node.

/// The longest `data:` line, its field name included. The agent reads lines through a 64 KiB buffer.
pub const MAX_LINE_BYTES: usize = 32 * 1024;
/// The comment that is sent at once with the headers.
pub const OPENING: &[u8] = b":ok\n\n";
/// The comment that keeps an idle stream alive.
pub const KEEP_ALIVE: &[u8] = b":keep-alive\n\n";

const DATA: &[u8] = b"data: ";

/// Encodes a frame: `id`, `event` and one or more `data` lines.
///
/// A wire body longer than one line is split between JSON tokens only: the agent joins the lines with a line feed and
/// its compaction removes it, so the signature holds. `wire` is an envelope in canonical form.
#[must_use]
pub fn frame(sequence: u64, event: &str, wire: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(wire.len() + event.len() + 64);
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(sequence.to_string().as_bytes());
    out.extend_from_slice(b"\nevent: ");
    out.extend_from_slice(event.as_bytes());
    out.push(b'\n');
    for line in split_lines(wire, MAX_LINE_BYTES - DATA.len()) {
        out.extend_from_slice(DATA);
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

/// Splits canonical JSON into pieces of at most `limit` bytes, each ending behind a comma between tokens.
fn split_lines(wire: &[u8], limit: usize) -> Vec<&[u8]> {
    if wire.len() <= limit {
        return vec![wire];
    }
    let mut lines = Vec::new();
    let (mut start, mut last_cut) = (0, 0);
    let (mut in_string, mut escaped) = (false, false);
    for (index, byte) in wire.iter().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
        } else if *byte == b'"' {
            in_string = true;
        }
        if index + 1 - start > limit && last_cut > start {
            lines.extend(wire.get(start..last_cut));
            start = last_cut;
        }
        if !in_string && matches!(byte, b',' | b'{' | b'[' | b':') {
            last_cut = index + 1;
        }
    }
    lines.extend(wire.get(start..));
    lines
}

/// One thing that a stream said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A comment, such as a keep-alive.
    Comment(String),
    /// A frame.
    Frame {
        /// The `id` field, empty when absent.
        id: String,
        /// The `event` field, empty when absent.
        event: String,
        /// The `data` lines, joined with line feeds.
        data: Vec<u8>,
    },
}

/// Reads a stream as an agent does, piece by piece.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    id: String,
    event: String,
    data: Option<Vec<u8>>,
}

impl Parser {
    /// Feeds bytes and returns what became complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Item> {
        let mut items = Vec::new();
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                items.extend(self.line(line.strip_suffix(b"\r").unwrap_or(&line)));
            } else {
                self.line.push(*byte);
            }
        }
        items
    }

    fn line(&mut self, line: &[u8]) -> Option<Item> {
        if line.is_empty() {
            let data = self.data.take()?;
            let (id, event) = (std::mem::take(&mut self.id), std::mem::take(&mut self.event));
            return Some(Item::Frame { id, event, data });
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at_checked(colon)?;
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"" => return Some(Item::Comment(String::from_utf8_lossy(value).into_owned())),
            b"id" => self.id = String::from_utf8_lossy(value).into_owned(),
            b"event" => self.event = String::from_utf8_lossy(value).into_owned(),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_body_is_one_line_and_reads_back() {
        let bytes = frame(42, "peer_registered", br#"{"a":1}"#);
        assert_eq!(bytes, b"id: 42\nevent: peer_registered\ndata: {\"a\":1}\n\n");
        let mut parser = Parser::default();
        assert_eq!(parser.feed(KEEP_ALIVE), vec![Item::Comment("keep-alive".into())]);
        let (head, tail) = bytes.split_at(9);
        assert!(parser.feed(head).is_empty());
        let expected = Item::Frame { id: "42".into(), event: "peer_registered".into(), data: br#"{"a":1}"#.to_vec() };
        assert_eq!(parser.feed(tail), vec![expected]);
    }

    #[test]
    fn a_long_body_is_split_between_tokens_and_joins_to_the_same_json() {
        let strings = vec!["a,b:c{d[e\\\"".repeat(100); 200];
        let body = serde_json::to_vec(&serde_json::json!({ "payload": strings })).unwrap();
        assert!(body.len() > 4 * MAX_LINE_BYTES);
        let bytes = frame(1, "policy_updated", &body);
        assert!(bytes.split(|b| *b == b'\n').all(|line| line.len() <= MAX_LINE_BYTES));
        let items = Parser::default().feed(&bytes);
        let [Item::Frame { data, .. }] = items.as_slice() else { panic!("one frame") };
        let joined: serde_json::Value = serde_json::from_slice(data).unwrap();
        assert_eq!(joined, serde_json::from_slice::<serde_json::Value>(&body).unwrap());
        let compact: Vec<u8> = data.iter().copied().filter(|b| *b != b'\n').collect();
        assert_eq!(compact, body);
    }
}
