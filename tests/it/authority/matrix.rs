//! Which granted relations suffice for a permission: the matrix of relations, written down a second time and by hand.

/// Relations that can be granted on a Domain, a Project, a Resource and a Node, and on the platform.
pub(super) const DOMAIN: [&str; 7] =
    ["admin", "maintainer", "operator", "member", "auditor", "approver", "emergency_approver"];
pub(super) const PROJECT: [&str; 5] = ["admin", "maintainer", "operator", "member", "viewer"];
pub(super) const RESOURCE: [&str; 3] = ["owner", "operator", "viewer"];
pub(super) const NODE: [&str; 1] = ["operator"];
pub(super) const PLATFORM: [&str; 4] = ["admin", "operator", "auditor", "reader"];

const DOMAIN_VIEW: [&str; 4] = ["domain#member", "domain#operator", "domain#maintainer", "domain#admin"];
const DOMAIN_OPERATORS: [&str; 3] = ["domain#operator", "domain#maintainer", "domain#admin"];
const PROJECT_OPERATORS: [&str; 3] = ["project#operator", "project#maintainer", "project#admin"];
const APPROVERS: [&str; 3] = ["domain#approver", "domain#emergency_approver", "domain#auditor"];

/// The granted relations that suffice for `permission` on an object of `kind`.
pub(super) fn sufficient(permission: &str, kind: &str) -> Vec<&'static str> {
    let domain_read = [&DOMAIN_VIEW[..], &APPROVERS].concat();
    let observe = [&DOMAIN_VIEW[..], &PROJECT_OPERATORS, &["project#viewer", "project#member"]].concat();
    match (kind, permission) {
        ("platform", "manage") => vec!["platform#admin"],
        ("platform", "read") => vec!["platform#admin", "platform#operator", "platform#auditor", "platform#reader"],
        ("platform", "auditor") => vec!["platform#auditor"],
        ("domain" | "group", "manage") => vec!["domain#admin"],
        ("domain" | "group", "read") => domain_read,
        ("domain", "domain-view") => DOMAIN_VIEW.to_vec(),
        ("domain", "auditor") => vec!["domain#auditor"],
        ("project", "manage") => vec!["domain#admin", "project#admin"],
        ("project", "deploy") => vec!["domain#admin", "domain#maintainer", "project#admin", "project#maintainer"],
        ("project", "observe") => observe,
        ("project", "read") => [&observe[..], &APPROVERS].concat(),
        ("node", "node-agent" | "node-operate") => {
            let on_it = ["resource#owner", "resource#operator", "node#operator"];
            [&DOMAIN_OPERATORS[..], &PROJECT_OPERATORS, &on_it].concat()
        }
        (kind, permission) => panic!("say here which relations give `{permission}` on a {kind}"),
    }
}
