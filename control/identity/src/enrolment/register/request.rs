//! What a machine asks for, checked in the order of the steps.

use plexsphere_wire::ProjectId;
use plexsphere_wire::mesh_key::parse_mesh_key;
use zeroize::Zeroizing;

use super::RegisterRefusal;
use crate::enrolment::token::BootstrapTokenText;

/// The longest string of a request, in bytes.
const MAX_TEXT: usize = 4_096;

/// The members of a request, unchecked.
pub(crate) struct Draft<'a> {
    pub(crate) project_id: &'a str,
    pub(crate) resource_handle: &'a str,
    pub(crate) bootstrap_token: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) public_key: &'a str,
    pub(crate) requested_resource_id: &'a str,
}

/// A request that is well-formed.
pub(crate) struct Demand {
    pub(crate) project: ProjectId,
    /// Names the Resource inside the Project, verbatim.
    pub(crate) handle: String,
    pub(crate) token: Zeroizing<String>,
    pub(crate) nonce: String,
    pub(crate) public_key: [u8; 32],
    pub(crate) public_key_text: String,
}

impl Demand {
    /// Steps 3 and 4.
    pub(crate) fn check(draft: &Draft<'_>) -> Result<Self, RegisterRefusal> {
        for (name, text, required) in [
            ("bootstrap_token", draft.bootstrap_token, true),
            ("nonce", draft.nonce, true),
            ("resource_handle", draft.resource_handle, true),
            ("public_key", draft.public_key, false),
            ("requested_resource_id", draft.requested_resource_id, false),
        ] {
            if text.len() > MAX_TEXT || (required && text.is_empty()) {
                return Err(RegisterRefusal::Invalid(name));
            }
        }
        let project = draft.project_id.parse().map_err(|_| RegisterRefusal::Invalid("project_id"))?;
        let public_key = parse_mesh_key(draft.public_key).ok_or(RegisterRefusal::PublicKeyInvalid)?;
        let handle =
            if draft.requested_resource_id.is_empty() { draft.resource_handle } else { draft.requested_resource_id };
        Ok(Self {
            project,
            handle: handle.to_owned(),
            token: Zeroizing::new(draft.bootstrap_token.to_owned()),
            nonce: draft.nonce.to_owned(),
            public_key,
            public_key_text: draft.public_key.to_owned(),
        })
    }

    /// The parts of the token's text, if it follows the grammar.
    pub(crate) fn token_text(&self) -> Option<BootstrapTokenText> {
        BootstrapTokenText::parse(&self.token)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn members_are_judged_before_the_key_and_the_key_before_the_token() {
        let key = STANDARD.encode([7; 32]);
        let id = "0190a8b8-a0c0-7a0a-8a0a-a0a0a0a0a0a3";
        let long = "x".repeat(MAX_TEXT + 1);
        let draft = |project_id, resource_handle, bootstrap_token, nonce, public_key| Draft {
            project_id,
            resource_handle,
            bootstrap_token,
            nonce,
            public_key,
            requested_resource_id: "",
        };
        let refused = |draft: Draft<'_>| Demand::check(&draft).err().map(|refusal| refusal.code().as_str());
        assert_eq!(refused(draft(id, "h", "t", "n", &key)), None);
        for bad in [
            draft("x", "h", "t", "n", "bad"),
            draft("00000000-0000-0000-0000-000000000000", "h", "t", "n", &key),
            draft(id, "", "t", "n", &key),
            draft(id, "h", "", "n", &key),
            draft(id, "h", "t", "", &key),
            draft(id, &long, "t", "n", &key),
            draft(id, "h", "t", &long, &key),
            draft(id, "h", "t", "n", &long),
        ] {
            assert_eq!(refused(bad), Some("invalid_register_request"));
        }
        assert_eq!(refused(draft(id, "h", "t", "n", "bad")), Some("public_key_invalid"));
    }
}
