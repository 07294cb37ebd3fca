//! External subjects outside their own rows: the pseudonyms that readers see, and the keys that invitations match by.

use plexsphere_wire::DomainId;

use crate::pepper::TokenPepper;

/// Derives, per Domain, from the server's pepper; so the same person has unrelated pseudonyms in two Domains, and nothing
/// has to be stored for a Domain.
#[derive(Clone)]
pub(crate) struct Subjects {
    pepper: TokenPepper,
}

impl Subjects {
    pub(crate) const fn new(pepper: TokenPepper) -> Self {
        Self { pepper }
    }

    /// What stands for an external subject of a Domain.
    pub(crate) fn pseudonym(&self, domain: DomainId, subject: &str) -> [u8; 32] {
        self.of_domain("plexsphere/tenancy/subject/v1", domain).digest(subject.as_bytes())
    }

    /// By which an invitation for this subject is found.
    pub(crate) fn match_key(&self, domain: DomainId, subject: &str) -> [u8; 32] {
        self.of_domain("plexsphere/tenancy/match/v1", domain).digest(normalised(subject).as_bytes())
    }

    fn of_domain(&self, label: &str, domain: DomainId) -> TokenPepper {
        TokenPepper::new(self.pepper.digest(format!("{label}|{domain}").as_bytes()))
    }
}

/// The form in which subjects are compared: trimmed, and case-folded when it looks like an address.
fn normalised(subject: &str) -> String {
    let trimmed = subject.trim();
    if trimmed.contains('@') { trimmed.to_lowercase() } else { trimmed.to_owned() }
}

/// 64 lower-case hex digits.
pub(crate) fn hex(bytes: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_unrelated_pseudonyms_in_two_domains_and_its_match_key_is_another_secret() {
        let subjects = Subjects::new(TokenPepper::new([7; 32]));
        let now = plexsphere_wire::Timestamp::from_unix_seconds(1_790_000_000);
        let (one, two) = (DomainId::mint(now), DomainId::mint(now));
        assert_eq!(subjects.pseudonym(one, "ada"), subjects.pseudonym(one, "ada"));
        assert_ne!(subjects.pseudonym(one, "ada"), subjects.pseudonym(two, "ada"));
        assert_ne!(subjects.pseudonym(one, "ada"), subjects.pseudonym(one, "Ada"));
        assert_ne!(subjects.pseudonym(one, "ada"), subjects.match_key(one, "ada"));
    }

    #[test]
    fn addresses_match_in_any_case_and_opaque_subjects_only_as_they_are() {
        let subjects = Subjects::new(TokenPepper::new([7; 32]));
        let domain = DomainId::mint(plexsphere_wire::Timestamp::from_unix_seconds(1_790_000_000));
        let same = |a: &str, b: &str| subjects.match_key(domain, a) == subjects.match_key(domain, b);
        assert!(same(" Ada@Example.com ", "ada@example.com"));
        assert!(same(" auth0|ada", "auth0|ada "));
        assert!(!same("auth0|Ada", "auth0|ada"));
    }
}
