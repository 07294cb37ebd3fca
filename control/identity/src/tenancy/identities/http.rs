//! Operations on a Domain's principals.

use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::paging::CursorCodec;
use plexsphere_wire::{Code, DomainId, PrincipalId, Problem, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{PartialSchema as _, ToSchema};
use uuid::Uuid;

use super::model::{IdentityKind, NewServiceIdentity, Principal};
use super::service::Identities;
use crate::journal::Actor;
use crate::pages;

const TAG: &str = "tenancy";

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = IdentityKind)]
enum KindWord {
    User,
    ServiceIdentity,
}

impl From<IdentityKind> for KindWord {
    fn from(kind: IdentityKind) -> Self {
        match kind {
            IdentityKind::User => Self::User,
            IdentityKind::ServiceIdentity => Self::ServiceIdentity,
        }
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "names the words in the document; a body's word is read by the aggregate")]
#[schema(as = ServiceFederationKind, rename_all = "snake_case")]
enum FederationWord {
    OidcCc,
    SpiffeSvid,
    ApiToken,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ServiceIdentityCreateRequest)]
struct CreateRequest {
    #[schema(min_length = 1, max_length = 256)]
    display_name: String,
    /// Who it is to whoever vouches for it; unique in the Domain, and a SPIFFE ID for `spiffe_svid`.
    #[schema(min_length = 1, max_length = 2048)]
    subject: String,
    /// For whom its credentials must be meant.
    #[schema(min_length = 1, max_length = 256)]
    audience: String,
    #[schema(value_type = FederationWord)]
    federation_kind: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = IdentitySummary)]
struct Summary {
    id: PrincipalId,
    #[schema(value_type = KindWord)]
    kind: KindWord,
    domain_id: DomainId,
    display_name: String,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    external_subject_pseudonym: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign_in_at: Option<Timestamp>,
    created_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = IdentityDetail)]
struct Detail {
    id: PrincipalId,
    #[schema(value_type = KindWord)]
    kind: KindWord,
    domain_id: DomainId,
    display_name: String,
    #[schema(pattern = "^[0-9a-f]{64}$")]
    external_subject_pseudonym: String,
    /// For auditors of the Domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_subject: Option<String>,
    /// For auditors of the Domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_sign_in_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize, ToSchema)]
#[schema(as = IdentityList)]
struct List {
    items: Vec<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// The operations on a Domain's principals.
pub(crate) fn operations(identities: &Identities, cursors: &CursorCodec) -> Vec<Operation> {
    vec![list(identities.clone(), cursors.clone()), get(identities.clone()), create(identities.clone())]
}

fn list(identities: Identities, cursors: CursorCodec) -> Operation {
    let gate = Gate::on("read", "domain", "id", Code::InvalidDomainId);
    Operation::new("ListIdentities", Method::GET, "/v1/domains/{id}/identities", gate)
        .words(
            TAG,
            "List the identities of a Domain",
            "Pages of its people and ServiceIdentities, newest first, each filtered by `read` on it. External subjects \
             are pseudonyms here. Only a missing cursor ends the list.",
        )
        .paged()
        .problems(&[Code::CursorBindingMismatch])
        .query("kind", "Only identities of this kind.", KindWord::schema())
        .answers::<List>(200, "A page.")
        .problems(&[Code::InvalidDomainId, Code::InvalidKind, Code::DomainNotFound])
        .handler(move |call| {
            let (identities, cursors) = (identities.clone(), cursors.clone());
            async move { do_list(&identities, &cursors, &call).await }
        })
}

async fn do_list(identities: &Identities, cursors: &CursorCodec, call: &Call) -> Result<Reply, Problem> {
    let domain: DomainId = call.params.id("id", Code::InvalidDomainId)?;
    let invalid = || Problem::new(Code::InvalidKind, "`kind` must be `user` or `service-identity`.");
    let named = call.query.one("kind", Code::InvalidKind)?;
    let kind = named.map(|word| IdentityKind::parse(word).ok_or_else(invalid)).transpose()?;
    let filters = format!("domain={domain} kind={}", kind.map_or("", IdentityKind::as_str));
    let page = cursors.page::<(Timestamp, Uuid)>(call, &filters)?;
    let mut rows = identities.page((domain, kind), page.after, page.limit + 1).await?;
    let key = |principal: &Principal| (principal.created_at, principal.id.uuid());
    let next_cursor = pages::cut(&mut rows, page.limit, (cursors, call, &filters), key)?;
    let rows = pages::readable(call, "read", rows, Principal::object).await?;
    identities.note_listed(&Actor::of(call)?, domain).await?;
    let summary = |principal: Principal| Summary {
        id: principal.id,
        kind: principal.kind.into(),
        domain_id: domain,
        external_subject_pseudonym: identities.pseudonym(domain, &principal.external_subject),
        display_name: principal.display_name,
        last_sign_in_at: principal.last_sign_in_at,
        created_at: principal.created_at,
    };
    let items = rows.into_iter().map(summary).collect();
    Reply::json(StatusCode::OK, &List { items, next_cursor })
}

fn get(identities: Identities) -> Operation {
    let gate = Gate::on("read", "domain", "id", Code::InvalidDomainId);
    Operation::new("GetIdentity", Method::GET, "/v1/domains/{id}/identities/{principal_id}", gate)
        .words(
            TAG,
            "Read an identity",
            "One principal of the Domain. Its external subject and its address are shown to auditors of the Domain only, \
             and an administrator is none by that alone. A principal of another Domain reads as missing.",
        )
        .answers::<Detail>(200, "The identity.")
        .path_id("principal_id", Code::InvalidPrincipalId)
        .problems(&[Code::InvalidDomainId, Code::InvalidPrincipalId, Code::IdentityNotFound])
        .handler(move |call| {
            let identities = identities.clone();
            async move { do_get(&identities, &call).await }
        })
}

async fn do_get(identities: &Identities, call: &Call) -> Result<Reply, Problem> {
    let domain: DomainId = call.params.id("id", Code::InvalidDomainId)?;
    let id = call.params.id("principal_id", Code::InvalidPrincipalId)?;
    // Asked before the read, so that a decision that cannot be made leaves no row about a body that was never served.
    let plain = call.may("auditor", &ObjectRef::domain(domain)).await?;
    let principal = identities.get(&Actor::of(call)?, domain, id).await?;
    let detail = Detail {
        id: principal.id,
        kind: principal.kind.into(),
        domain_id: domain,
        external_subject_pseudonym: identities.pseudonym(domain, &principal.external_subject),
        external_subject: plain.then_some(principal.external_subject),
        email: principal.email.filter(|_| plain),
        display_name: principal.display_name,
        last_sign_in_at: principal.last_sign_in_at,
        created_at: principal.created_at,
        updated_at: principal.updated_at,
    };
    Reply::json(StatusCode::OK, &detail)
}

fn create(identities: Identities) -> Operation {
    let gate = Gate::on("manage", "domain", "id", Code::InvalidDomainId);
    Operation::new("CreateServiceIdentity", Method::POST, "/v1/domains/{id}/service-identities", gate)
        .words(
            TAG,
            "Create a ServiceIdentity",
            "Makes a machine principal of the Domain with one way to prove itself, for life. People are never made here: \
             they come by signing in.",
        )
        .json_body::<CreateRequest>(8 * KIB)
        .creates::<Summary>("The new ServiceIdentity.")
        .problems(&[
            Code::InvalidDomainId,
            Code::InvalidServiceIdentity,
            Code::ServiceIdentityAlreadyExists,
            Code::DomainNotFound,
            Code::AuthzUnavailable,
        ])
        .handler(move |call| {
            let identities = identities.clone();
            async move { do_create(&identities, &call).await }
        })
}

async fn do_create(identities: &Identities, call: &Call) -> Result<Reply, Problem> {
    let domain: DomainId = call.params.id("id", Code::InvalidDomainId)?;
    let request: CreateRequest = call.json()?;
    let CreateRequest { display_name, subject, audience, federation_kind } = &request;
    let new = NewServiceIdentity::check(display_name, subject, audience, federation_kind)?;
    let service = identities.create_service(&Actor::of(call)?, domain, new).await?;
    let location = format!("/v1/domains/{domain}/identities/{}", service.id);
    let summary = Summary {
        id: service.id,
        kind: KindWord::ServiceIdentity,
        domain_id: domain,
        external_subject_pseudonym: identities.pseudonym(domain, &service.subject),
        display_name: service.display_name,
        last_sign_in_at: None,
        created_at: service.created_at,
    };
    Ok(Reply::json(StatusCode::CREATED, &summary)?.header(LOCATION, &location))
}
