//! JSON as the agent's encoder writes it: compact, with HTML-sensitive characters escaped, order and numbers kept.

use std::fmt::Write as _;

/// Why a text has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not json")]
pub struct NotJson;

/// Rewrites JSON text into canonical form: no white space between tokens; in strings `<`, `>`, `&`, U+2028 and U+2029
/// as lower-case `\u` escapes and the usual minimal escapes otherwise; member order and number text as they are.
///
/// Idempotent. Linear in the length of the text.
///
/// # Errors
/// [`NotJson`] when the text is not one JSON value.
pub fn canonical_json(text: &str) -> Result<String, NotJson> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| NotJson)?;
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '"' {
            let end = string_end(rest).ok_or(NotJson)?;
            let (token, tail) = rest.split_at_checked(end).ok_or(NotJson)?;
            let value: String = serde_json::from_str(token).map_err(|_| NotJson)?;
            push_string(&mut out, &value);
            rest = tail;
        } else {
            if !matches!(c, ' ' | '\t' | '\n' | '\r') {
                out.push(c);
            }
            rest = rest.get(c.len_utf8()..).ok_or(NotJson)?;
        }
    }
    Ok(out)
}

/// The length in bytes of the longest string token of canonical JSON, without its quotes.
pub(super) fn longest_string(canonical: &str) -> usize {
    let mut longest = 0;
    let mut rest = canonical;
    while let Some(start) = rest.find('"') {
        let Some(token) = rest.get(start..) else { break };
        let Some(end) = string_end(token) else { break };
        longest = longest.max(end.saturating_sub(2));
        rest = token.get(end..).unwrap_or("");
    }
    longest
}

/// Where the string token at the start of `text` ends, its closing quote included.
fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

fn push_string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
