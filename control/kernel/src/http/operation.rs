//! What an operation says of itself, beside its route.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use http::Method;
use plexsphere_wire::{Code, Problem};
use utoipa::ToSchema;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::Schema;

use super::pipeline::Throttle;
use super::{Call, Reply};

/// By which credential an operation may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// By none: the operation has no caller.
    Anonymous,
    /// By an operator: session cookie or bearer.
    Operator,
    /// By a Node with its key.
    Node,
    /// By either.
    OperatorOrNode,
    /// As an operator where there is a credential, which the handler looks at; none is needed, and a bad one is as none.
    OperatorIfAny,
}

/// Where the object of a gate is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectFrom {
    /// The platform singleton.
    Platform,
    /// `<kind>:<path parameter>`; a malformed or nil id is refused with `code` before the check.
    Path {
        /// The object's kind.
        kind: &'static str,
        /// The path parameter's name.
        param: &'static str,
        /// The code of a bad id.
        code: Code,
    },
}

/// Who may call. There is no default: an operation without a gate cannot be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Anyone; the reason is part of the declaration.
    Open(&'static str),
    /// Any authenticated caller; what it sees is filtered, or is its own.
    AnyCaller(&'static str),
    /// A caller with this relation on this object, checked before anything is read.
    Relation {
        /// The relation or permission.
        relation: &'static str,
        /// On what.
        object: ObjectFrom,
    },
    /// A caller with this relation on an object that is known only after a read, or stands in the body: the handler
    /// calls [`Call::authorize`]. An answer of one that asked nobody is a 500.
    AfterRead {
        /// The relation or permission.
        relation: &'static str,
        /// The object's kind.
        kind: &'static str,
    },
    /// The Node that the path names, by its own key; another Node is refused with `mismatch`. An operator (where the
    /// scheme admits one) needs `relation` on it.
    OwnNode {
        /// The path parameter with the Node's id.
        param: &'static str,
        /// What an operator needs on `node:<id>`.
        relation: &'static str,
        /// The code for another Node's key.
        mismatch: Code,
        /// The code for an operator without the relation.
        denied: Code,
    },
}

impl Gate {
    /// `relation` on the platform.
    #[must_use]
    pub const fn platform(relation: &'static str) -> Self {
        Self::Relation { relation, object: ObjectFrom::Platform }
    }

    /// `relation` on `<kind>:<param>`.
    #[must_use]
    pub const fn on(relation: &'static str, kind: &'static str, param: &'static str, code: Code) -> Self {
        Self::Relation { relation, object: ObjectFrom::Path { kind, param, code } }
    }
}

/// How a body is read and decoded.
#[derive(Clone, Debug)]
pub struct BodyRules {
    /// The most bytes, raw and inflated.
    pub cap: usize,
    /// The code over the cap.
    pub too_large: Code,
    /// The code of a body that does not decode.
    pub malformed: Code,
    /// Whether `Content-Encoding: gzip` is taken.
    pub gzip: bool,
    /// Whether an absent body is taken as `{}`.
    pub optional: bool,
    /// Top-level members that may be `null`.
    pub nullable: &'static [&'static str],
    /// Top-level members that may be lists: those that the schema makes lists.
    pub lists: Vec<String>,
    /// Top-level members whose inside is free-form.
    pub free_form: &'static [&'static str],
    /// The body's schema name.
    pub schema: String,
}

/// What an operation answers when it succeeds.
#[derive(Clone, Debug)]
pub struct SuccessBody {
    /// The status.
    pub status: u16,
    /// One sentence.
    pub description: &'static str,
    /// Media type and schema name, if there is a body.
    pub content: Option<(&'static str, String)>,
    /// Whether the answer says by `Location` where the new object is read.
    pub located: bool,
}

pub(super) type Handler =
    Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>> + Send + Sync>;

/// One route with everything that is known of it.
#[derive(Clone)]
pub struct Operation {
    /// The operation id, such as `CreateDomain`.
    pub id: &'static str,
    /// The method.
    pub method: Method,
    /// The path with `{parameters}`.
    pub path: &'static str,
    /// The tag of the document.
    pub tag: &'static str,
    /// One line for the document.
    pub summary: &'static str,
    /// Paragraphs for the document.
    pub description: &'static str,
    /// By which credential.
    pub scheme: Scheme,
    /// Who may call.
    pub gate: Gate,
    /// Whether the per-address throttle of anonymous operations applies.
    pub throttled: bool,
    /// A per-address throttle of its own, in place of the shared one.
    pub own_throttle: Option<Arc<Throttle>>,
    /// The body, if one is taken.
    pub body: Option<BodyRules>,
    /// Query parameters: name, what it is, schema.
    pub query: Vec<(&'static str, &'static str, RefOr<Schema>)>,
    /// Names of query parameters that must be there; the handler refuses their absence.
    pub required_queries: Vec<&'static str>,
    /// Request headers that mean something here: name, what it is, schema.
    pub headers: Vec<(&'static str, &'static str, RefOr<Schema>)>,
    /// A body for the document only, where another tier reads it: media type and schema.
    pub documented_body: Option<(&'static str, RefOr<Schema>)>,
    /// Successful answers.
    pub successes: Vec<SuccessBody>,
    /// The operation's own codes beside the global ones.
    pub problems: Vec<Code>,
    /// Path parameters that are ids beside the gate's object, each with the code of a malformed one.
    pub path_ids: Vec<(&'static str, Code)>,
    /// Path parameters whose grammar the document says, and the pattern. The handler judges by it.
    pub path_patterns: Vec<(&'static str, &'static str)>,
    /// Whether the operation lists in pages.
    pub paged: bool,
    /// Headers that every answer has, refusals included.
    pub fixed_headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Schemas that the document needs for this operation.
    pub schemas: Vec<(String, RefOr<Schema>)>,
    pub(super) handler: Handler,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.id, self.method, self.path)
    }
}

/// Builds an [`Operation`]; only [`OperationBuilder::handler`] ends it, and the gate is asked for at the start.
pub struct OperationBuilder {
    operation: Operation,
}

impl Operation {
    /// Begins an operation. The default scheme is `Operator`.
    #[must_use]
    #[expect(
        clippy::new_ret_no_self,
        reason = "an operation without a handler cannot exist, so its builder comes first"
    )]
    pub fn new(id: &'static str, method: Method, path: &'static str, gate: Gate) -> OperationBuilder {
        let scheme = match gate {
            Gate::Open(_) => Scheme::Anonymous,
            Gate::AnyCaller(_) | Gate::Relation { .. } | Gate::AfterRead { .. } => Scheme::Operator,
            Gate::OwnNode { .. } => Scheme::OperatorOrNode,
        };
        OperationBuilder {
            operation: Operation {
                id,
                method,
                path,
                tag: "",
                summary: "",
                description: "",
                scheme,
                gate,
                throttled: false,
                own_throttle: None,
                body: None,
                query: Vec::new(),
                required_queries: Vec::new(),
                headers: Vec::new(),
                documented_body: None,
                successes: Vec::new(),
                problems: Vec::new(),
                path_ids: Vec::new(),
                path_patterns: Vec::new(),
                paged: false,
                fixed_headers: Vec::new(),
                schemas: Vec::new(),
                handler: Arc::new(|_| Box::pin(async { Err(Problem::internal()) })),
            },
        }
    }
}

impl OperationBuilder {
    /// The document's tag, one line, and paragraphs.
    #[must_use]
    pub fn words(mut self, tag: &'static str, summary: &'static str, description: &'static str) -> Self {
        self.operation.tag = tag;
        self.operation.summary = summary;
        self.operation.description = description;
        self
    }

    /// Another scheme than the gate suggests, as for operations of Nodes only.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.operation.scheme = scheme;
        self
    }

    /// A header of every answer, refusals included; one name may stand more than once.
    #[must_use]
    pub fn always_sets(mut self, name: http::HeaderName, value: http::HeaderValue) -> Self {
        self.operation.fixed_headers.push((name, value));
        self
    }

    /// A path parameter that is an id, beside the gate's object: a malformed or nil one is refused with `code` before
    /// anybody is asked whether the caller may.
    #[must_use]
    pub fn path_id(mut self, param: &'static str, code: Code) -> Self {
        self.operation.path_ids.push((param, code));
        self
    }

    /// A path parameter whose grammar the document says; the handler judges by it.
    #[must_use]
    pub fn path_pattern(mut self, param: &'static str, pattern: &'static str) -> Self {
        self.operation.path_patterns.push((param, pattern));
        self
    }

    /// Puts the operation under the per-address throttle.
    #[must_use]
    pub fn throttled(mut self) -> Self {
        self.operation.throttled = true;
        self
    }

    /// Puts the operation under a per-address throttle of its own.
    #[must_use]
    pub fn throttled_by(mut self, throttle: Arc<Throttle>) -> Self {
        self.operation.own_throttle = Some(throttle);
        self
    }

    /// Takes a JSON body of at most `cap` bytes; over it `request_body_too_large`, malformed `invalid_body`.
    #[must_use]
    pub fn json_body<T: ToSchema>(mut self, cap: usize) -> Self {
        self.take_schema::<T>();
        self.operation.body = Some(BodyRules {
            cap,
            too_large: Code::RequestBodyTooLarge,
            malformed: Code::InvalidBody,
            gzip: false,
            optional: false,
            nullable: &[],
            lists: lists(&T::schema()),
            free_form: &[],
            schema: T::name().into_owned(),
        });
        self
    }

    /// Changes the rules of the body just declared.
    #[must_use]
    pub fn body_rules(mut self, change: impl FnOnce(&mut BodyRules)) -> Self {
        if let Some(rules) = &mut self.operation.body {
            change(rules);
        }
        self
    }

    /// A query parameter with a string schema.
    #[must_use]
    pub fn query(mut self, name: &'static str, description: &'static str, schema: RefOr<Schema>) -> Self {
        self.operation.query.push((name, description, schema));
        self
    }

    /// A query parameter that must be there; the handler refuses its absence.
    #[must_use]
    pub fn required_query(mut self, name: &'static str, description: &'static str, schema: RefOr<Schema>) -> Self {
        self.operation.required_queries.push(name);
        self.query(name, description, schema)
    }

    /// A request header that means something here.
    #[must_use]
    pub fn header_parameter(mut self, name: &'static str, description: &'static str, schema: RefOr<Schema>) -> Self {
        self.operation.headers.push((name, description, schema));
        self
    }

    /// A body for the document only, where another tier reads it.
    #[must_use]
    pub fn documented_body(mut self, media_type: &'static str, schema: RefOr<Schema>) -> Self {
        self.operation.documented_body = Some((media_type, schema));
        self
    }

    /// A schema that the document needs beside those of the bodies.
    #[must_use]
    pub fn schema<T: ToSchema>(mut self) -> Self {
        self.take_schema::<T>();
        self
    }

    /// Ends the declaration of an operation that another tier serves and this one only describes.
    #[must_use]
    pub fn described(self) -> Operation {
        self.operation
    }

    /// The `cursor` and `limit` parameters of a list. Another caller's cursor is `cursor_binding_mismatch` where the list
    /// declares that code, and `invalid_cursor` where it does not.
    #[must_use]
    pub fn paged(self) -> Self {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        let cursor = ObjectBuilder::new().schema_type(Type::String).build();
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(200))
            .default(Some(serde_json::json!(50)))
            .build();
        let mut builder = self
            .query("cursor", "Where the previous page ended; opaque.", RefOr::T(cursor.into()))
            .query("limit", "The most items of a page.", RefOr::T(limit.into()));
        builder.operation.paged = true;
        builder.operation.problems.extend([Code::InvalidLimit, Code::InvalidCursor]);
        builder
    }

    /// A successful answer with a JSON body.
    #[must_use]
    pub fn answers<T: ToSchema>(mut self, status: u16, description: &'static str) -> Self {
        self.take_schema::<T>();
        let content = Some(("application/json", T::name().into_owned()));
        self.operation.successes.push(SuccessBody { status, description, content, located: false });
        self
    }

    /// The answer to a creation: 201, the new object, and by `Location` where it is read.
    #[must_use]
    pub fn creates<T: ToSchema>(self, description: &'static str) -> Self {
        let mut builder = self.answers::<T>(201, description);
        if let Some(success) = builder.operation.successes.last_mut() {
            success.located = true;
        }
        builder
    }

    /// A successful answer without a body.
    #[must_use]
    pub fn answers_empty(mut self, status: u16, description: &'static str) -> Self {
        self.operation.successes.push(SuccessBody { status, description, content: None, located: false });
        self
    }

    /// A successful answer of another media type, whose schema is a plain string.
    #[must_use]
    pub fn answers_media(mut self, status: u16, media_type: &'static str, description: &'static str) -> Self {
        let content = Some((media_type, String::new()));
        self.operation.successes.push(SuccessBody { status, description, content, located: false });
        self
    }

    /// The operation's own codes beside the global ones.
    #[must_use]
    pub fn problems(mut self, codes: &[Code]) -> Self {
        self.operation.problems.extend_from_slice(codes);
        self
    }

    /// Ends the declaration with the code that runs behind the gates.
    #[must_use]
    pub fn handler<F, R>(mut self, handler: F) -> Operation
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        self.operation.handler = Arc::new(move |call| Box::pin(handler(call)));
        self.operation
    }

    fn take_schema<T: ToSchema>(&mut self) {
        let mut schemas = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut schemas);
        self.operation.schemas.extend(schemas);
    }
}

/// The members of an object that are lists.
fn lists(schema: &RefOr<Schema>) -> Vec<String> {
    let RefOr::T(Schema::Object(object)) = schema else { return Vec::new() };
    let is_list = |schema: &RefOr<Schema>| matches!(schema, RefOr::T(Schema::Array(_)));
    object.properties.iter().filter(|(_, schema)| is_list(schema)).map(|(name, _)| name.clone()).collect()
}
