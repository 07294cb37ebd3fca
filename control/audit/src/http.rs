//! The operations: each once for Domains and once for the platform.

mod cursor;
mod filters;
mod schemas;

use std::sync::Arc;

use http::{Method, StatusCode};
use plexsphere_kernel::ObjectRef;
use plexsphere_kernel::http::{Call, Gate, KIB, Operation, OperationBuilder, Reply};
use plexsphere_kernel::seams::DomainEntries;
use plexsphere_wire::{Code, DomainId, PrincipalId, Problem};
use uuid::Uuid;

use self::cursor::{ChainCursors, Place};
use self::schemas::{
    AuditChainVerifyRequest, AuditChainVerifyResult, AuditEntry, AuditEntryList, AuditEntryProof,
    AuditEraseIdentityRequest, AuditEraseIdentityResponse, AuditReason,
};
use crate::erasing::{Eraser, Erasure};
use crate::log::{PgAuditLog, VISIBILITY};
use crate::metrics::Metrics;
use crate::model::anchor;
use crate::store::reading::{self, Entry};
use crate::verifying::{ChainVerifier, Range, VerifyRefusal};

pub use self::cursor::CursorKey;

const TAG: &str = "audit";
const DOMAIN: &str = "domain_id";
const BODY: usize = 8 * KIB;

/// What the handlers stand on.
pub(crate) struct Surface {
    pub(crate) log: Arc<PgAuditLog>,
    pub(crate) verifier: Arc<ChainVerifier>,
    pub(crate) eraser: Eraser,
    pub(crate) domains: Arc<dyn DomainEntries>,
    pub(crate) cursors: ChainCursors,
    pub(crate) metrics: Metrics,
}

/// The two faces of each operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Domain,
    Platform,
}

impl Over {
    const BOTH: [Self; 2] = [Self::Domain, Self::Platform];

    const fn pick<T: Copy>(self, domain: T, platform: T) -> T {
        match self {
            Self::Domain => domain,
            Self::Platform => platform,
        }
    }

    const fn gate(self, relation: &'static str) -> Gate {
        match self {
            Self::Domain => Gate::on(relation, "domain", DOMAIN, Code::InvalidDomainId),
            Self::Platform => Gate::platform(relation),
        }
    }

    fn scope(self, call: &Call) -> Result<Scope, Problem> {
        let domain = match self {
            Self::Domain => Some(call.params.id(DOMAIN, Code::InvalidDomainId)?),
            Self::Platform => None,
        };
        Ok(Scope { domain, chain: anchor(domain) })
    }

    /// The codes that only the Domain's face has.
    fn own(self, builder: OperationBuilder) -> OperationBuilder {
        match self {
            Self::Domain => builder.problems(&[Code::InvalidDomainId, Code::DomainNotFound]),
            Self::Platform => builder,
        }
    }
}

/// Whose chain.
#[derive(Clone, Copy)]
struct Scope {
    domain: Option<DomainId>,
    chain: Uuid,
}

impl Scope {
    fn object(self) -> ObjectRef {
        self.domain.map_or_else(ObjectRef::platform, ObjectRef::domain)
    }
}

/// Cursors under a key.
pub(crate) const fn cursors(key: CursorKey) -> ChainCursors {
    ChainCursors::new(key)
}

/// All operations.
pub(crate) fn operations(surface: &Arc<Surface>) -> Vec<Operation> {
    Over::BOTH
        .into_iter()
        .flat_map(|over| [list(surface, over), get(surface, over), verify(surface, over), erase(surface, over)])
        .collect()
}

fn list(surface: &Arc<Surface>, over: Over) -> Operation {
    let id = over.pick("ListAuditEntries", "ListPlatformAuditEntries");
    let path = over.pick("/v1/domains/{domain_id}/audit/entries", "/v1/platform/audit/entries");
    let surface = Arc::clone(surface);
    let builder = Operation::new(id, Method::GET, path, over.gate("auditor"))
        .words(
            TAG,
            over.pick("List a Domain's audit entries", "List the platform's audit entries"),
            "Pages of the chain by place. Filters must all hold and are exact; `subject` is a pseudonym. Unlike that of other \
             lists, a cursor is good for every auditor of the chain, with the same filters. A page that is shorter than \
             `limit` is the last one.",
        )
        .paged();
    over.own(filters::declare(builder))
        .problems(&[Code::InvalidAuditFilter])
        .answers::<AuditEntryList>(200, "A page.")
        .handler(move |call| {
            let surface = Arc::clone(&surface);
            async move { do_list(&surface, over.scope(&call)?, &call).await }
        })
}

async fn do_list(surface: &Surface, scope: Scope, call: &Call) -> Result<Reply, Problem> {
    let (filters, digest) = filters::read(&call.query)?;
    let place = Place { operation: call.operation(), chain: scope.chain, filters: &digest, now: call.now };
    let page = surface.cursors.page(&call.query, &place)?;
    surface.known(scope).await?;
    surface.log.visible(scope.chain, VISIBILITY).await?;
    let pool = surface.log.db().pool();
    let entries = reading::page(pool, scope.chain, (page.after, page.limit), &filters).await?;
    let full = i64::try_from(entries.len()).is_ok_and(|count| count >= page.limit);
    let next_cursor = match entries.last() {
        Some(last) if full => Some(surface.cursors.next(last.seq, &place)?),
        _ => None,
    };
    let items =
        entries.into_iter().map(|entry| AuditEntry::of(scope.chain, surface.judged(scope.chain, entry))).collect();
    Reply::json(StatusCode::OK, &AuditEntryList { items, next_cursor })
}

fn get(surface: &Arc<Surface>, over: Over) -> Operation {
    let id = over.pick("GetAuditEntry", "GetPlatformAuditEntry");
    let path = over.pick("/v1/domains/{domain_id}/audit/entries/{seq}", "/v1/platform/audit/entries/{seq}");
    // A refusal must not tell whether the place is taken, so the gate cannot answer it.
    let gate = Gate::AnyCaller("without `auditor` the answer is that of an entry that does not exist");
    let surface = Arc::clone(surface);
    let builder = Operation::new(id, Method::GET, path, gate)
        .words(
            TAG,
            over.pick("Read an audit entry of a Domain", "Read an audit entry of the platform"),
            "The entry with its proof. To check it without us: decode `canonical_bytes`, take its SHA-256, put the 32 bytes \
             of `prev_hash` before that, take the SHA-256 again, and compare with `entry_hash`.",
        )
        .problems(&[Code::InvalidSeq, Code::AuditEntryNotFound]);
    over.own(builder).answers::<AuditEntryProof>(200, "The entry.").handler(move |call| {
        let surface = Arc::clone(&surface);
        async move { do_get(&surface, over.scope(&call)?, &call).await }
    })
}

async fn do_get(surface: &Surface, scope: Scope, call: &Call) -> Result<Reply, Problem> {
    let seq = call.params.text("seq");
    let seq = seq.parse::<i64>().ok().filter(|place| *place >= 1 && seq.bytes().all(|b| b.is_ascii_digit()));
    let seq = seq.ok_or_else(|| Problem::new(Code::InvalidSeq, "`seq` must be an integer from 1."))?;
    let unknown = || Problem::new(Code::AuditEntryNotFound, "There is no such audit entry.");
    let refused = match call.authorize("auditor", &scope.object()).await {
        Ok(()) => false,
        Err(problem) if problem.code() == Code::PermissionDenied => true,
        Err(problem) => return Err(problem),
    };
    if !refused {
        surface.log.visible(scope.chain, VISIBILITY).await?;
    }
    // Looked up in any case, so that the work of the three answers is the same.
    let entry = reading::get(surface.log.db().pool(), scope.chain, seq).await?;
    match entry {
        Some(entry) if !refused => {
            let entry = surface.judged(scope.chain, entry);
            Reply::json(StatusCode::OK, &AuditEntryProof::of(scope.chain, entry))
        }
        Some(_) => Err(unknown()),
        None => {
            if !refused {
                surface.known(scope).await?;
            }
            Err(unknown())
        }
    }
}

fn verify(surface: &Arc<Surface>, over: Over) -> Operation {
    let id = over.pick("VerifyAuditChain", "VerifyPlatformAuditChain");
    let path = over.pick("/v1/domains/{domain_id}/audit/verify", "/v1/platform/audit/verify");
    let surface = Arc::clone(surface);
    let builder = Operation::new(id, Method::POST, path, over.gate("auditor"))
        .words(
            TAG,
            over.pick("Verify a Domain's audit chain", "Verify the platform's audit chain"),
            "Walks the chain, or a part of it, and recomputes every hash. A chain that does not hold is an answer: `ok` is \
             false and `divergent_seq` names the first row. Very long chains are verified in parts: a request has 30 s.",
        )
        .json_body::<AuditChainVerifyRequest>(BODY)
        .body_rules(|rules| rules.optional = true)
        .problems(&[Code::InvalidVerifyRange]);
    over.own(builder).answers::<AuditChainVerifyResult>(200, "What was found.").handler(move |call| {
        let surface = Arc::clone(&surface);
        async move { do_verify(&surface, over.scope(&call)?, &call).await }
    })
}

async fn do_verify(surface: &Surface, scope: Scope, call: &Call) -> Result<Reply, Problem> {
    let request: AuditChainVerifyRequest = call.json()?;
    surface.known(scope).await?;
    surface.log.visible(scope.chain, VISIBILITY).await?;
    let range = Range { from: request.from_seq, to: request.to_seq };
    let verdict = surface.verifier.verify(scope.chain, range).await.map_err(|refusal| match refusal {
        VerifyRefusal::Fault(fault) => fault.into(),
        other => Problem::new(other.code(), sentence(&other)),
    })?;
    let record = call.audit(scope.domain, "audit.verify", scope.object())?;
    plexsphere_kernel::AuditLog::record_alone(surface.log.as_ref(), record).await?;
    Reply::json(StatusCode::OK, &AuditChainVerifyResult::from(verdict))
}

fn erase(surface: &Arc<Surface>, over: Over) -> Operation {
    let id = over.pick("EraseIdentityFromAudit", "EraseIdentityFromPlatformAudit");
    let path = over.pick("/v1/domains/{domain_id}/audit/erase-identity", "/v1/platform/audit/erase-identity");
    let surface = Arc::clone(surface);
    let builder = Operation::new(id, Method::POST, path, over.gate("manage"))
        .words(
            TAG,
            over.pick("Erase an identity from a Domain's chain", "Erase an identity from the platform's chain"),
            "Forgets who a pseudonym is, and from where it called, on this chain; the entries and their hashes stay. The \
             answer is the same for an identity that never appeared. A person may appear on several chains: each is erased \
             by itself.",
        )
        .json_body::<AuditEraseIdentityRequest>(BODY)
        .body_rules(|rules| rules.malformed = Code::InvalidEraseRequest);
    over.own(builder).answers::<AuditEraseIdentityResponse>(200, "It is erased.").handler(move |call| {
        let surface = Arc::clone(&surface);
        async move { do_erase(&surface, over.scope(&call)?, &call).await }
    })
}

async fn do_erase(surface: &Surface, scope: Scope, call: &Call) -> Result<Reply, Problem> {
    let request: AuditEraseIdentityRequest = call.json()?;
    surface.known(scope).await?;
    let erasure = Erasure {
        chain: scope.chain,
        identity: PrincipalId::uuid(&request.identity_id),
        operator: call.principal()?.subject,
        correlation_id: call.correlation_id.clone(),
        context: call.request_context(),
        now: call.now,
    };
    let erased = surface.eraser.erase(erasure).await?;
    Reply::json(StatusCode::OK, &AuditEraseIdentityResponse::from(erased))
}

impl Surface {
    /// An entry as it may be shown: an id that its pseudonym does not stand for is left out, for the mapping is not hashed.
    fn judged(&self, chain: Uuid, mut entry: Entry) -> Entry {
        let maps = |id| self.log.pepper(chain).pseudonym(id) == entry.subject;
        if entry.subject_id.is_some_and(|id| !maps(id)) {
            tracing::error!(%chain, seq = entry.seq, "the subject of an audit entry does not fit its pseudonym");
            entry.subject_id = None;
        }
        if AuditReason::of(&entry.reason) == AuditReason::Unknown {
            tracing::error!(%chain, seq = entry.seq, "an audit entry has a reason outside the closed set");
            self.metrics.unknown_reason();
        }
        entry
    }

    /// A Domain that is unknown is refused. Its chain outlives it, and so does reading it.
    async fn known(&self, scope: Scope) -> Result<(), Problem> {
        let Some(domain) = scope.domain else { return Ok(()) };
        if crate::store::chains::head(self.log.db().pool(), scope.chain).await?.is_some()
            || self.domains.domain_entry(domain).await?.is_some()
        {
            return Ok(());
        }
        Err(Problem::new(Code::DomainNotFound, "There is no such domain."))
    }
}

fn sentence(error: &dyn std::fmt::Display) -> String {
    format!("{error}.")
}

/// Bytes as lower-case hex.
fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
