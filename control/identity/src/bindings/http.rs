//! Operations on bindings.

use http::header::LOCATION;
use http::{Method, StatusCode};
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, Reply};
use plexsphere_kernel::{ObjectRef, PrincipalScope};
use plexsphere_wire::{Code, DenialReason, DomainId, IdpBindingId, Problem};
use utoipa::PartialSchema as _;

use super::model::{BindingOwner, BindingRefusal, Draft, IdpBinding, Patch};
use super::service::Bindings;
use crate::journal::Actor;
use crate::{pages, scope};

mod payload;

use payload::{List, PatchRequest, PlatformRequest, Request, Response, StatusRequest};

const TAG: &str = "admin";
const CAP: usize = 16 * KIB;

/// The operations of bindings.
pub(crate) fn operations(bindings: &Bindings) -> Vec<Operation> {
    vec![
        create_of_platform(bindings.clone()),
        list_of_platform(bindings.clone()),
        create(bindings.clone()),
        list(bindings.clone()),
        get(bindings.clone()),
        delete(bindings.clone()),
        patch(bindings.clone()),
        set_status(bindings.clone()),
    ]
}

fn create_of_platform(bindings: Bindings) -> Operation {
    let gate = Gate::platform("manage");
    Operation::new("PostAdminPlatformIdP", Method::POST, "/v1/admin/platform-idp", gate)
        .words(
            TAG,
            "Trust an identity provider for the platform",
            "Makes a binding that belongs to no Domain: platform people sign in through it, and the people of Domains \
             without a usable binding of their own. The provider is not asked now; the health probe says how it is.",
        )
        .json_body::<PlatformRequest>(CAP)
        .creates::<Response>("The new binding.")
        .problems(&[Code::InvalidIdpBinding, Code::InvalidJitPolicy, Code::IssuerConflict, Code::AliasConflict])
        .handler(move |call| {
            let bindings = bindings.clone();
            async move { do_create_of_platform(&bindings, &call).await }
        })
}

async fn do_create_of_platform(bindings: &Bindings, call: &Call) -> Result<Reply, Problem> {
    let request: PlatformRequest = call.json()?;
    let new = bindings.check(Draft {
        owner: BindingOwner::Platform,
        issuer: request.issuer,
        client_id: request.client_id,
        client_secret_ref: request.client_secret_ref,
        discovery_url: request.discovery_url,
        jit_policy: request.jit_policy,
        rest: Patch {
            claim_mappings: request.claim_mappings,
            required_acr: request.required_acr,
            required_amr: request.required_amr,
            alias: request.alias,
            ..Patch::default()
        },
    })?;
    created(bindings.create(&Actor::of(call)?, new).await?)
}

fn created(binding: IdpBinding) -> Result<Reply, Problem> {
    let location = format!("/v1/admin/idp/{}", binding.id);
    Ok(Reply::json(StatusCode::CREATED, &Response::from(binding))?.header(LOCATION, &location))
}

fn list_of_platform(bindings: Bindings) -> Operation {
    let gate = Gate::platform("read");
    Operation::new("GetAdminPlatformIdPList", Method::GET, "/v1/admin/platform-idp", gate)
        .words(TAG, "List the platform's bindings", "Every binding that belongs to no Domain, whatever its status.")
        .answers::<List>(200, "The bindings, in the order of creation.")
        .handler(move |call| {
            let bindings = bindings.clone();
            async move { List::reply(bindings.of_platform(&Actor::of(&call)?).await?) }
        })
}

fn create(bindings: Bindings) -> Operation {
    let gate = Gate::AfterRead { relation: "manage", kind: "domain" };
    Operation::new("PostAdminIdP", Method::POST, "/v1/admin/idp", gate)
        .words(
            TAG,
            "Trust an identity provider for a Domain",
            "Makes a binding of the Domain that the body names. Its secret is one of that Domain's own; issuer, alias and \
             being primary are unique among the Domain's bindings that are not deactivated.",
        )
        .json_body::<Request>(CAP)
        .creates::<Response>("The new binding.")
        .problems(&[
            Code::InvalidIdpBinding,
            Code::InvalidJitPolicy,
            Code::IssuerConflict,
            Code::AliasConflict,
            Code::PrimaryConflict,
        ])
        .handler(move |call| {
            let bindings = bindings.clone();
            async move { do_create(&bindings, &call).await }
        })
}

async fn do_create(bindings: &Bindings, call: &Call) -> Result<Reply, Problem> {
    let request: Request = call.json()?;
    let domain: DomainId = request.domain_id.parse().map_err(|_| BindingRefusal::Invalid("domain_id"))?;
    let new = bindings.check(Draft {
        owner: BindingOwner::Domain(domain),
        issuer: request.issuer,
        client_id: request.client_id,
        client_secret_ref: request.client_secret_ref,
        discovery_url: request.discovery_url,
        jit_policy: request.jit_policy,
        rest: Patch {
            claim_mappings: request.claim_mappings,
            required_acr: request.required_acr,
            required_amr: request.required_amr,
            alias: request.alias,
            primary: request.primary,
            ..Patch::default()
        },
    })?;
    call.authorize("manage", &ObjectRef::domain(domain)).await?;
    created(bindings.create(&Actor::of(call)?, new).await?)
}

fn list(bindings: Bindings) -> Operation {
    let gate = Gate::AfterRead { relation: "read", kind: "domain" };
    Operation::new("GetAdminIdPList", Method::GET, "/v1/admin/idp", gate)
        .words(
            TAG,
            "List bindings",
            "With `domain_id`, that Domain's bindings of every status, and the platform's as well when none of its own is \
             usable. Without it, every binding whose owner the caller may read.",
        )
        .query("domain_id", "Only the bindings by which people of this Domain sign in.", DomainId::schema())
        .answers::<List>(200, "The bindings, by owner in the order of creation.")
        .handler(move |call| {
            let bindings = bindings.clone();
            async move { do_list(&bindings, &call).await }
        })
}

async fn do_list(bindings: &Bindings, call: &Call) -> Result<Reply, Problem> {
    // No 400 is declared here: a text that is no id names no Domain, and nobody reaches one that is not there.
    let actor = Actor::of(call)?;
    let scope = call.principal()?.scope;
    let Ok(named) = call.query.one("domain_id", Code::InvalidDomainFilter) else {
        return Err(nowhere(bindings, &actor, scope).await?);
    };
    let Some(text) = named else {
        let rows = bindings.all(&actor, scope).await?;
        return List::reply(pages::readable(call, "read", rows, |binding| binding.owner.object()).await?);
    };
    let Ok(domain) = text.parse::<DomainId>() else {
        return Err(nowhere(bindings, &actor, scope).await?);
    };
    call.authorize("read", &ObjectRef::domain(domain)).await?;
    List::reply(bindings.of_domain(&actor, domain).await?)
}

/// The refusal of a caller who names no Domain, with its row.
async fn nowhere(bindings: &Bindings, actor: &Actor, scope: PrincipalScope) -> Result<Problem, Problem> {
    bindings.note_refused_list(actor, scope).await?;
    Ok(Problem::denied(Code::PermissionDenied, DenialReason::OutOfScope, Vec::new()))
}

/// Reads the binding that the path names and asks its owner's gate. What is no id, what is missing and what is out of
/// the caller's scope read alike.
async fn found(bindings: &Bindings, call: &Call, relation: &str) -> Result<IdpBinding, Problem> {
    let id: IdpBindingId = call.params.text("id").parse().map_err(|_| BindingRefusal::NotFound)?;
    let binding = bindings.find(id).await?;
    scope::gate(call, relation, &binding.owner.object(), BindingRefusal::NotFound).await?;
    Ok(binding)
}

/// The owner of a binding is a Domain or the platform; the table of gates names the common case.
const fn of_owner(relation: &'static str) -> Gate {
    Gate::AfterRead { relation, kind: "domain" }
}

fn get(bindings: Bindings) -> Operation {
    Operation::new("GetAdminIdPByID", Method::GET, "/v1/admin/idp/{id}", of_owner("read"))
        .words(
            TAG,
            "Read a binding",
            "The binding as stored, to who may read its Domain, or the platform. A missing one and one out of the \
             caller's scope read alike.",
        )
        .answers::<Response>(200, "The binding.")
        .problems(&[Code::BindingNotFound])
        .handler(move |call| {
            let bindings = bindings.clone();
            async move {
                let binding = found(&bindings, &call, "read").await?;
                bindings.note_read(&Actor::of(&call)?, &binding).await?;
                Reply::json(StatusCode::OK, &Response::from(binding))
            }
        })
}

fn delete(bindings: Bindings) -> Operation {
    Operation::new("DeleteAdminIdPByID", Method::DELETE, "/v1/admin/idp/{id}", of_owner("manage"))
        .words(
            TAG,
            "Delete a binding",
            "Deletes the binding with the Groups that it fills and their memberships. Users stay, and a binding of the \
             same issuer finds them again.",
        )
        .answers_empty(204, "Deleted.")
        .problems(&[Code::BindingNotFound])
        .handler(move |call| {
            let bindings = bindings.clone();
            async move {
                let binding = found(&bindings, &call, "manage").await?;
                bindings.delete(&Actor::of(&call)?, binding.id).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT))
            }
        })
}

fn patch(bindings: Bindings) -> Operation {
    Operation::new("PatchAdminIdP", Method::PATCH, "/v1/admin/idp/{id}", of_owner("manage"))
        .words(
            TAG,
            "Change a binding",
            "Changes the members that are given. Owner, issuer, client and secret reference are for life; a secret is \
             rotated behind its reference. Of two changes that race, one is refused with `binding_conflict`.",
        )
        .json_body::<PatchRequest>(CAP)
        .answers::<Response>(200, "The binding as it is now.")
        .problems(&[
            Code::InvalidIdpBinding,
            Code::InvalidJitPolicy,
            Code::EmptyPatch,
            Code::BindingNotFound,
            Code::AliasConflict,
            Code::PrimaryConflict,
            Code::BindingConflict,
        ])
        .handler(move |call| {
            let bindings = bindings.clone();
            async move { do_patch(&bindings, &call).await }
        })
}

async fn do_patch(bindings: &Bindings, call: &Call) -> Result<Reply, Problem> {
    let seen = found(bindings, call, "manage").await?;
    let request: PatchRequest = call.json()?;
    let binding = bindings.patch(&Actor::of(call)?, seen, request.into()).await?;
    Reply::json(StatusCode::OK, &Response::from(binding))
}

fn set_status(bindings: Bindings) -> Operation {
    Operation::new("PatchAdminIdPStatus", Method::PATCH, "/v1/admin/idp/{id}/status", of_owner("manage"))
        .words(
            TAG,
            "Switch a binding off or on",
            "`deactivated` ends signing in through the binding; `active` takes it up again, if its issuer, its alias and \
             its being primary are still free. A binding that is there already stays as it is. `degraded` and `inactive` \
             are the health probe's to set and to end.",
        )
        .json_body::<StatusRequest>(CAP)
        .answers::<Response>(200, "The binding as it is now.")
        .problems(&[
            Code::InvalidStatus,
            Code::BindingNotFound,
            Code::IssuerConflict,
            Code::AliasConflict,
            Code::PrimaryConflict,
        ])
        .handler(move |call| {
            let bindings = bindings.clone();
            async move {
                let binding = found(&bindings, &call, "manage").await?;
                let request: StatusRequest = call.json()?;
                let binding = bindings.set_status(&Actor::of(&call)?, binding.id, &request.status).await?;
                Reply::json(StatusCode::OK, &Response::from(binding))
            }
        })
}
