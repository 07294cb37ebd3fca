//! What a binding demands of how a person signed in.

use plexsphere_wire::Code;

/// The most classes, and the most methods, of one binding.
pub const MAX_REQUIRED: usize = 16;

/// The demand. Empty lists demand nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequiredAssurance {
    /// The token's class must be one of these.
    pub acr: Vec<String>,
    /// Each of these must be among the token's methods.
    pub amr: Vec<String>,
}

/// Which demand was not met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssuranceUnmet {
    /// The class is missing or another.
    #[error("the authentication context class is not one of those required")]
    Acr,
    /// A method is missing.
    #[error("a required authentication method is missing")]
    Amr,
}

impl AssuranceUnmet {
    /// The problem code for a caller.
    #[must_use]
    pub fn code(self) -> Code {
        Code::AssuranceNotMet
    }
}

impl RequiredAssurance {
    /// Compares exactly: classes have no order that we know of.
    ///
    /// # Errors
    /// The first demand that is not met.
    pub fn check(&self, acr: Option<&str>, amr: &[String]) -> Result<(), AssuranceUnmet> {
        if !self.acr.is_empty() && !acr.is_some_and(|acr| self.acr.iter().any(|required| required == acr)) {
            return Err(AssuranceUnmet::Acr);
        }
        if self.amr.iter().all(|required| amr.contains(required)) { Ok(()) } else { Err(AssuranceUnmet::Amr) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn one_class_suffices_and_every_method_is_needed() {
        let none = RequiredAssurance::default();
        assert_eq!(none.check(None, &[]), Ok(()));
        let both = RequiredAssurance { acr: list(&["silver", "gold"]), amr: list(&["pwd", "otp"]) };
        let check = |acr, amr: &[&str]| both.check(acr, &list(amr));
        assert_eq!(check(Some("gold"), &["otp", "hwk", "pwd"]), Ok(()));
        assert_eq!(check(Some("Gold"), &["otp", "pwd"]), Err(AssuranceUnmet::Acr));
        assert_eq!(check(None, &["otp", "pwd"]), Err(AssuranceUnmet::Acr));
        assert_eq!(check(Some("silver"), &["pwd"]), Err(AssuranceUnmet::Amr));
        assert_eq!(check(Some("silver"), &[]), Err(AssuranceUnmet::Amr));
    }
}
