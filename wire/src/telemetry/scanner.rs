//! A cursor over the text of a batch that knows JSON's tokens, and that never looks at a token twice.

use super::refusal::{Field, Rule};
use super::text::Text;

/// A cursor over a batch. Every method leaves it behind what it read, or at the end of the text when the text ended too
/// early.
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Whether a line feed is white space here: it is in a JSON array, and it ends the record in NDJSON.
    line_feed_is_space: bool,
}

impl<'a> Scanner<'a> {
    pub(super) const fn new(text: &'a str, line_feed_is_space: bool) -> Self {
        Self { text, at: 0, line_feed_is_space }
    }

    pub(super) const fn position(&self) -> usize {
        self.at
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    pub(super) fn is_at_byte_order_mark(&self) -> bool {
        self.text.get(self.at..).is_some_and(|rest| rest.starts_with('\u{feff}'))
    }

    /// The text from `start` up to the cursor.
    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or("")
    }

    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Steps over the byte that was just peeked at.
    #[inline]
    pub(super) const fn step(&mut self) {
        self.at += 1;
    }

    #[inline]
    pub(super) fn skip_space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.step(),
                b'\n' if self.line_feed_is_space => self.step(),
                _ => return,
            }
        }
    }

    /// Skips white space and line feeds alike: what may stand between two NDJSON records.
    pub(super) fn skip_blank_lines(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.step();
        }
    }

    /// Reads an object whose `{` is under the cursor. `member` is called with each name, the cursor on the value, and
    /// must read exactly that value.
    #[inline]
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Text<'a>) -> Result<(), Rule>,
    ) -> Result<(), Rule> {
        self.step();
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.step();
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(Rule::Syntax);
            }
            let name = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(Rule::Syntax);
            }
            self.step();
            self.skip_space();
            member(self, name)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.step(),
                Some(b'}') => {
                    self.step();
                    return Ok(());
                }
                _ => return Err(Rule::Syntax),
            }
            self.skip_space();
        }
    }

    /// Reads the string that `field` must be.
    #[inline]
    pub(super) fn text(&mut self, field: Field) -> Result<Text<'a>, Rule> {
        if self.peek() == Some(b'"') { self.string() } else { Err(self.other_than(Rule::WrongType(field))) }
    }

    /// Reads a string whose opening quote is under the cursor.
    #[inline]
    pub(super) fn string(&mut self) -> Result<Text<'a>, Rule> {
        self.step();
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at = next_special(self.text.as_bytes(), self.at);
            match self.peek() {
                Some(b'"') => {
                    let raw = self.since(start);
                    self.step();
                    return Ok(Text::new(raw, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(Rule::Syntax),
            }
        }
    }

    /// Reads a JSON number; the caller judges its size.
    pub(super) fn number(&mut self) -> Result<&'a str, Rule> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.step();
        }
        match self.peek() {
            Some(b'0') => self.step(),
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(Rule::Syntax),
        }
        if self.peek() == Some(b'.') {
            self.step();
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.step();
            if let Some(b'+' | b'-') = self.peek() {
                self.step();
            }
            self.digits()?;
        }
        Ok(self.since(start))
    }

    /// What to say about the byte under the cursor, where another kind of value was due: `wrong` when it starts some
    /// JSON value, else that this is not JSON.
    pub(super) fn other_than(&self, wrong: Rule) -> Rule {
        match self.peek() {
            Some(b'"' | b'{' | b'[' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9') => wrong,
            _ => Rule::Syntax,
        }
    }

    fn digits(&mut self) -> Result<(), Rule> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.step();
        }
        if self.at == start { Err(Rule::Syntax) } else { Ok(()) }
    }

    /// Checks the escape whose backslash is under the cursor. Surrogates must come in pairs: half of one is no character.
    fn escape(&mut self) -> Result<(), Rule> {
        self.step();
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.step();
                Ok(())
            }
            Some(b'u') => match self.unit()? {
                0xdc00..=0xdfff => Err(Rule::Syntax),
                0xd800..=0xdbff => {
                    if self.peek() != Some(b'\\') {
                        return Err(Rule::Syntax);
                    }
                    self.step();
                    if self.peek() != Some(b'u') {
                        return Err(Rule::Syntax);
                    }
                    if (0xdc00..=0xdfff).contains(&self.unit()?) { Ok(()) } else { Err(Rule::Syntax) }
                }
                _ => Ok(()),
            },
            _ => Err(Rule::Syntax),
        }
    }

    /// Reads the four hex digits after the `u` under the cursor.
    fn unit(&mut self) -> Result<u32, Rule> {
        self.step();
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16)).ok_or(Rule::Syntax)?;
            unit = unit << 4 | digit;
            self.step();
        }
        Ok(unit)
    }
}

/// Index of the first quote, backslash or control byte from `at` on, or the length.
#[inline]
fn next_special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let hits = special_bytes(u64::from_le_bytes(*word));
        if hits != 0 {
            return at + (hits.trailing_zeros() >> 3) as usize;
        }
        at += 8;
    }
    while let Some(byte) = bytes.get(at) {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            break;
        }
        at += 1;
    }
    at
}

/// The high bit of each byte that is a quote, a backslash or below 0x20. A borrow can set a bit above a true hit, never
/// below one, and only the lowest is used.
#[inline]
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    const fn zero_bytes(word: u64) -> u64 {
        word.wrapping_sub(ONES) & !word
    }
    let quotes = zero_bytes(word ^ (ONES * 0x22));
    let backslashes = zero_bytes(word ^ (ONES * 0x5c));
    let controls = word.wrapping_sub(ONES * 0x20) & !word;
    (quotes | backslashes | controls) & HIGHS
}
