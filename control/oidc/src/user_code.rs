//! The code a person types to let a device in (RFC 8628, section 6.1). Pure.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use plexsphere_wire::Code;

/// Letters and digits that are not mistaken for each other: base32 (RFC 4648).
pub const USER_CODE_ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Symbols of a code, without the dash.
pub const USER_CODE_SYMBOLS: usize = 8;

/// Eight symbols, 40 bits; kept without the dash, shown with it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserCode(String);

/// A text that is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a user code")]
pub struct UserCodeError;

impl UserCodeError {
    /// The problem code for a caller.
    #[must_use]
    pub fn code(self) -> Code {
        Code::InvalidUserCode
    }
}

impl UserCode {
    /// A code of 40 random bits.
    #[must_use]
    pub fn random() -> Self {
        Self::from_bytes(rand::random())
    }

    /// The code of these bits.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 5]) -> Self {
        Self(BASE32_NOPAD.encode(&bytes))
    }

    /// Reads `^[A-Z2-7]{4}-?[A-Z2-7]{4}$`.
    ///
    /// # Errors
    /// [`UserCodeError`].
    pub fn parse(text: &str) -> Result<Self, UserCodeError> {
        let symbols = match text.split_once('-') {
            Some((first, second)) if first.len() == 4 && second.len() == 4 => format!("{first}{second}"),
            Some(_) => return Err(UserCodeError),
            None => text.to_owned(),
        };
        let fits =
            symbols.len() == USER_CODE_SYMBOLS && symbols.chars().all(|symbol| USER_CODE_ALPHABET.contains(symbol));
        if fits { Ok(Self(symbols)) } else { Err(UserCodeError) }
    }

    /// Reads what a person typed into a page: any case, with spaces and dashes anywhere.
    ///
    /// # Errors
    /// [`UserCodeError`].
    pub fn from_typed(text: &str) -> Result<Self, UserCodeError> {
        let symbols: String =
            text.chars().filter(|symbol| !matches!(symbol, ' ' | '-')).take(USER_CODE_SYMBOLS + 1).collect();
        Self::parse(&symbols.to_ascii_uppercase())
    }

    /// The eight symbols, as they are kept.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `ABCD-EFGH`, as it is shown.
    #[must_use]
    pub fn shown(&self) -> String {
        let (first, second) = self.0.split_at_checked(4).unwrap_or((&self.0, ""));
        format!("{first}-{second}")
    }
}

/// It opens a session while it lives, so it is not printed.
impl fmt::Debug for UserCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserCode(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_has_one_kept_form_and_one_shown_form() {
        let code = UserCode::from_bytes([0xff, 0, 0xff, 0, 0xff]);
        assert_eq!((code.as_str(), code.shown().as_str()), ("74AP6AH7", "74AP-6AH7"));
        assert_eq!(UserCode::parse("74AP-6AH7").unwrap(), code);
        assert_eq!(UserCode::parse("74AP6AH7").unwrap(), code);
        assert_eq!(UserCode::from_typed(" 74ap 6a-h7 ").unwrap(), code);
    }

    #[test]
    fn anything_else_is_no_code() {
        for text in [
            "",
            "74AP6AH",
            "74AP6AH77",
            "74AP--6AH7",
            "74A-P6AH7",
            "74AP6AH0",
            "74AP6AH1",
            "74ap6ah7",
            "74AP_6AH7",
            "7-4AP6AH",
            "ÀAAAAAA",
        ] {
            assert_eq!(UserCode::parse(text), Err(UserCodeError), "{text}");
        }
        assert_eq!(UserCode::from_typed(&"-".repeat(9)), Err(UserCodeError));
        assert_eq!(UserCode::from_typed("74AP6AH77"), Err(UserCodeError));
    }

    proptest! {
        #[test]
        fn every_code_survives_being_shown_and_typed(bytes: [u8; 5]) {
            let code = UserCode::from_bytes(bytes);
            prop_assert!(code.as_str().chars().all(|symbol| USER_CODE_ALPHABET.contains(symbol)));
            prop_assert_eq!(&UserCode::parse(&code.shown()).unwrap(), &code);
            prop_assert_eq!(&UserCode::from_typed(&code.shown().to_lowercase()).unwrap(), &code);
        }

        #[test]
        fn what_parses_is_what_the_rule_says(text in "[A-Za-z0-9-]{6,11}") {
            let bare = text.len() == 9 && text.as_bytes()[4] == b'-';
            let symbols: String = if bare { text.chars().filter(|symbol| *symbol != '-').collect() } else { text.clone() };
            let rule = symbols.len() == 8 && symbols.chars().all(|symbol| USER_CODE_ALPHABET.contains(symbol));
            prop_assert_eq!(UserCode::parse(&text).is_ok(), rule);
        }
    }
}
