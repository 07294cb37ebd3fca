//! A JSON string that stays where it is until somebody wants its characters.

use std::borrow::Cow;

/// A checked JSON string, borrowed from the batch. Most hold no escape and are used as they lie there.
///
/// Equality, and everything else that looks at the characters, sees them unescaped.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    /// A string as the scanner found it: `raw` is what stands between the quotes, checked.
    pub(super) const fn new(raw: &'a str, escaped: bool) -> Self {
        Self { raw, escaped }
    }

    /// The characters when the string holds no escape, so that they can be borrowed for as long as the batch lives.
    pub const fn as_plain(self) -> Option<&'a str> {
        if self.escaped { None } else { Some(self.raw) }
    }

    /// The characters, borrowed unless the string holds an escape.
    pub fn to_cow(self) -> Cow<'a, str> {
        if self.escaped {
            let mut characters = String::with_capacity(self.raw.len());
            self.push_to(&mut characters);
            Cow::Owned(characters)
        } else {
            Cow::Borrowed(self.raw)
        }
    }

    /// Appends the characters to a buffer that the caller reuses.
    pub fn push_to(self, out: &mut String) {
        self.for_each_run(|run| out.push_str(run));
    }

    /// Hands the characters over in pieces, unescaped and in order; one piece when there is no escape.
    pub fn for_each_run(self, mut run: impl FnMut(&str)) {
        let mut rest = self.raw;
        if self.escaped {
            while let Some((plain, after)) = rest.split_once('\\') {
                run(plain);
                let (character, after) = unescape(after);
                run(character.encode_utf8(&mut [0; 4]));
                rest = after;
            }
        }
        run(rest);
    }

    /// Length of the characters in bytes of UTF-8.
    pub fn len(self) -> usize {
        if !self.escaped {
            return self.raw.len();
        }
        let mut bytes = 0;
        self.for_each_run(|run| bytes += run.len());
        bytes
    }

    /// Whether there is no character.
    pub const fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// Whether there is no character but Unicode white space.
    pub fn is_blank(self) -> bool {
        match self.raw.as_bytes() {
            [] => true,
            [first, ..] if first.is_ascii_graphic() && *first != b'\\' => false,
            _ => self.to_cow().trim().is_empty(),
        }
    }

    /// Whether the characters take more than `cap` bytes. Unescaping never makes a string longer, so that most strings
    /// are judged by their raw length.
    pub(super) fn is_longer_than(self, cap: usize) -> bool {
        self.raw.len() > cap && self.len() > cap
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self.as_plain(), other.as_plain()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => self.to_cow() == other.to_cow(),
        }
    }
}

impl Eq for Text<'_> {}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_plain().map_or_else(|| self.to_cow() == other, |plain| plain == other)
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// The character that an escape stands for, and what follows it. `escape` starts after the backslash and was checked by
/// the scanner; what cannot occur in a checked string yields U+FFFD rather than a panic.
fn unescape(escape: &str) -> (char, &str) {
    let mut characters = escape.chars();
    let character = match characters.next() {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => return unescape_unit(characters.as_str()),
        Some(itself @ ('"' | '\\' | '/')) => itself,
        _ => char::REPLACEMENT_CHARACTER,
    };
    (character, characters.as_str())
}

fn unescape_unit(hex: &str) -> (char, &str) {
    let Some((unit, rest)) = take_unit(hex) else { return (char::REPLACEMENT_CHARACTER, "") };
    if let Some(character) = char::from_u32(unit) {
        return (character, rest);
    }
    let Some((low, rest)) = rest.strip_prefix("\\u").and_then(take_unit) else {
        return (char::REPLACEMENT_CHARACTER, rest);
    };
    let code = 0x1_0000 + ((unit & 0x3ff) << 10) + (low & 0x3ff);
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}

fn take_unit(hex: &str) -> Option<(u32, &str)> {
    let (digits, rest) = hex.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}
