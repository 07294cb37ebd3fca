//! The catalogue of problem codes: one row per (code, status).

use http::StatusCode;

/// Declares [`Code`] and its table from rows of `Variant = "wire_word", status;`.
macro_rules! codes {
    ($($variant:ident = $word:literal, $status:literal;)*) => {
        /// A stable word that clients branch on, together with the status it travels with.
        ///
        /// A word that travels with two statuses has one variant per status. The catalogue is closed: a code that is
        /// not here cannot be sent.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = concat!("`", $word, "`, ", stringify!($status))] $variant,)* }

        impl Code {
            /// Every row of the catalogue, in alphabetical order of the word.
            pub const ALL: &'static [Code] = &[$(Code::$variant,)*];

            /// The `code` member: snake_case, at most 128 printable ASCII bytes.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $word,)* }
            }

            /// The HTTP status, 400–599.
            #[must_use]
            pub const fn status_u16(self) -> u16 {
                match self { $(Code::$variant => $status,)* }
            }
        }
    };
}

codes! {
    AccessDenied = "access_denied", 400;
    AcmeDirectoryUnreachable = "acme_directory_unreachable", 422;
    ActionNotDeclared = "action_not_declared", 400;
    AlertRuleInvalid = "alert_rule_invalid", 400;
    AlertRuleNameConflict = "alert_rule_name_conflict", 409;
    AlertRuleNotFound = "alert_rule_not_found", 404;
    AliasConflict = "alias_conflict", 409;
    AllocatorContention = "allocator_contention", 503;
    AllowedSubnetEmpty = "allowed_subnet_empty", 400;
    AmbiguousCredentialTarget = "ambiguous_credential_target", 400;
    ApiTokenNotAllowed = "api_token_not_allowed", 403;
    ApiTokenNotFound = "api_token_not_found", 404;
    ApprovalNotFound = "approval_not_found", 404;
    AssignmentsExist = "assignments_exist", 409;
    AssuranceNotMet = "assurance_not_met", 400;
    AuditEntryNotFound = "audit_entry_not_found", 404;
    AuthorizationPending = "authorization_pending", 400;
    AuthzUnavailable = "authz_unavailable", 503;
    BinaryChecksumEmpty = "binary_checksum_empty", 400;
    BinaryChecksumInvalid = "binary_checksum_invalid", 400;
    BinaryVersionEmpty = "binary_version_empty", 400;
    BindingConflict = "binding_conflict", 409;
    BindingInactive = "binding_inactive", 400;
    BindingNotFound = "binding_not_found", 404;
    BlueprintNotFound = "blueprint_not_found", 404;
    BlueprintNotFoundUnprocessable = "blueprint_not_found", 422;
    BlueprintSlugConflict = "blueprint_slug_conflict", 409;
    BlueprintVersionExists = "blueprint_version_exists", 409;
    BootstrapTokenAlreadyTerminal = "bootstrap_token_already_terminal", 409;
    BootstrapTokenNotFound = "bootstrap_token_not_found", 404;
    BridgePortConflict = "bridge_port_conflict", 409;
    CannotDetachHomeCloud = "cannot_detach_home_cloud", 409;
    CapabilitiesBodyTooLarge = "capabilities_body_too_large", 413;
    CapabilitiesNodeNotFound = "capabilities_node_not_found", 404;
    CapacityExceeded = "capacity_exceeded", 429;
    CapacitySnapshotUnavailable = "capacity_snapshot_unavailable", 503;
    CatalogArtifactNotFound = "catalog_artifact_not_found", 404;
    CatalogSourceNotFound = "catalog_source_not_found", 404;
    CatalogUpstreamError = "catalog_upstream_error", 502;
    CidrFamilyMismatch = "cidr_family_mismatch", 422;
    ClockSkew = "clock_skew", 400;
    CloudAssignmentNotFound = "cloud_assignment_not_found", 404;
    CloudCredentialNotFound = "cloud_credential_not_found", 404;
    CloudCredentialNotFoundUnprocessable = "cloud_credential_not_found", 422;
    CloudCredentialRevoked = "cloud_credential_revoked", 409;
    CloudExternalIdConflict = "cloud_external_id_conflict", 409;
    CloudNotEmpty = "cloud_not_empty", 409;
    CloudNotFound = "cloud_not_found", 404;
    CloudNotUsableInProject = "cloud_not_usable_in_project", 422;
    CloudSlugConflict = "cloud_slug_conflict", 409;
    ClusterUnreachable = "cluster_unreachable", 502;
    CredentialAssignmentNotFound = "credential_assignment_not_found", 404;
    CredentialCasConflict = "credential_cas_conflict", 409;
    CredentialNotAssignable = "credential_not_assignable", 422;
    CredentialNotFound = "credential_not_found", 404;
    CredentialRevoked = "credential_revoked", 409;
    CsrfOriginMismatch = "csrf_origin_mismatch", 403;
    CsrfOriginNotConfigured = "csrf_origin_not_configured", 403;
    CsrfTokenMismatch = "csrf_token_mismatch", 403;
    CursorBindingMismatch = "cursor_binding_mismatch", 403;
    DatastoreUnavailable = "datastore_unavailable", 503;
    DeclaredHookDuplicate = "declared_hook_duplicate", 400;
    DeclaredHookInvalid = "declared_hook_invalid", 400;
    DeclaredHooksTooMany = "declared_hooks_too_many", 400;
    DeviceCodeAlreadyApproved = "device_code_already_approved", 409;
    DeviceCodeExpired = "device_code_expired", 409;
    DeviceCodeNotFound = "device_code_not_found", 404;
    DomainNotEmpty = "domain_not_empty", 409;
    DomainNotFound = "domain_not_found", 404;
    DomainSlugConflict = "domain_slug_conflict", 409;
    DuplicateLiveAssignment = "duplicate_live_assignment", 409;
    DuplicateLiveCloudAssignment = "duplicate_live_cloud_assignment", 409;
    EmptyPatch = "empty_patch", 400;
    EndpointBodyTooLarge = "endpoint_body_too_large", 413;
    EndpointClockSkew = "endpoint_clock_skew", 400;
    EndpointPeerGone = "endpoint_peer_gone", 410;
    EndpointPeerNotFound = "endpoint_peer_not_found", 404;
    EndpointUnparseable = "endpoint_unparseable", 400;
    EventStreamUnavailable = "event_stream_unavailable", 503;
    ExecutionAlreadyTerminal = "execution_already_terminal", 409;
    ExecutionNotFound = "execution_not_found", 404;
    ExpiredToken = "expired_token", 400;
    ExternalRefConflict = "external_ref_conflict", 422;
    FederationKindMismatch = "federation_kind_mismatch", 403;
    GroupNotFound = "group_not_found", 404;
    GroupSlugConflict = "group_slug_conflict", 409;
    HeaderTooLarge = "header_too_large", 431;
    HookIntegrityViolation = "hook_integrity_violation", 409;
    IdTokenInvalid = "id_token_invalid", 502;
    IdempotentReplay = "idempotent_replay", 409;
    IdentityNotFound = "identity_not_found", 404;
    IdentityRefNotSelf = "identity_ref_not_self", 400;
    IdpDenied = "idp_denied", 400;
    IdpUnreachable = "idp_unreachable", 502;
    IllegalTransition = "illegal_transition", 409;
    ImmutableViolation = "immutable_violation", 409;
    IncidentAlreadyResolved = "incident_already_resolved", 409;
    IncidentInvalid = "incident_invalid", 400;
    IncidentNotFound = "incident_not_found", 404;
    IncidentResolved = "incident_resolved", 409;
    IncidentStatusInvalid = "incident_status_invalid", 400;
    IngestBatchMalformed = "ingest_batch_malformed", 400;
    IngestBatchTooManyRecords = "ingest_batch_too_many_records", 413;
    IngestBodyTooLarge = "ingest_body_too_large", 413;
    IngestBufferUnavailable = "ingest_buffer_unavailable", 503;
    IngestEncodingInvalid = "ingest_encoding_invalid", 400;
    IngestEncodingUnsupported = "ingest_encoding_unsupported", 415;
    IngestSentAtInvalid = "ingest_sent_at_invalid", 400;
    InlineOutputTooLarge = "inline_output_too_large", 413;
    InsufficientRelation = "insufficient_relation", 403;
    IntegrityViolationArtifactIdEmpty = "integrity_violation_artifact_id_empty", 400;
    IntegrityViolationChecksumInvalid = "integrity_violation_checksum_invalid", 400;
    IntegrityViolationDetectedByInvalid = "integrity_violation_detected_by_invalid", 400;
    IntegrityViolationHostKeyFingerprintInvalid = "integrity_violation_host_key_fingerprint_invalid", 400;
    IntegrityViolationKindInvalid = "integrity_violation_kind_invalid", 400;
    IntegrityViolationKindMismatch = "integrity_violation_kind_mismatch", 400;
    IntegrityViolationNotFound = "integrity_violation_not_found", 404;
    IntegrityViolationsBodyTooLarge = "integrity_violations_body_too_large", 413;
    IntegrityViolationsEmpty = "integrity_violations_empty", 400;
    IntegrityViolationsNodeNotFound = "integrity_violations_node_not_found", 404;
    IntegrityViolationsTooMany = "integrity_violations_too_many", 413;
    Internal = "internal", 500;
    InvalidAcknowledgeReason = "invalid_acknowledge_reason", 400;
    InvalidAlertRuleId = "invalid_alert_rule_id", 400;
    InvalidApiToken = "invalid_api_token", 400;
    InvalidApprovalId = "invalid_approval_id", 400;
    InvalidAuditFilter = "invalid_audit_filter", 400;
    InvalidBlueprint = "invalid_blueprint", 400;
    InvalidBlueprintId = "invalid_blueprint_id", 400;
    InvalidBody = "invalid_body", 400;
    InvalidBootstrapTokenRequest = "invalid_bootstrap_token_request", 400;
    InvalidBreakGlassReason = "invalid_break_glass_reason", 400;
    InvalidCatalogSource = "invalid_catalog_source", 400;
    InvalidCatalogSourceId = "invalid_catalog_source_id", 400;
    InvalidCaveatContext = "invalid_caveat_context", 422;
    InvalidCheckRequest = "invalid_check_request", 400;
    InvalidClient = "invalid_client", 401;
    InvalidClientBadGateway = "invalid_client", 502;
    InvalidCloud = "invalid_cloud", 400;
    InvalidCloudAssignmentId = "invalid_cloud_assignment_id", 400;
    InvalidCloudCredentialId = "invalid_cloud_credential_id", 400;
    InvalidCloudEndpoint = "invalid_cloud_endpoint", 400;
    InvalidCloudId = "invalid_cloud_id", 400;
    InvalidCloudRegionDefaults = "invalid_cloud_region_defaults", 400;
    InvalidCredentialAssignmentId = "invalid_credential_assignment_id", 400;
    InvalidCredentialId = "invalid_credential_id", 400;
    InvalidCredentialRef = "invalid_credential_ref", 400;
    InvalidCursor = "invalid_cursor", 400;
    InvalidDecisionReason = "invalid_decision_reason", 400;
    InvalidDeviceCodeRequest = "invalid_device_code_request", 400;
    InvalidDiffRequest = "invalid_diff_request", 400;
    InvalidDispatchTarget = "invalid_dispatch_target", 400;
    InvalidDisplayName = "invalid_display_name", 400;
    InvalidDomain = "invalid_domain", 400;
    InvalidDomainFilter = "invalid_domain_filter", 400;
    InvalidDomainId = "invalid_domain_id", 400;
    InvalidEnvPrefix = "invalid_env_prefix", 400;
    InvalidEraseRequest = "invalid_erase_request", 400;
    InvalidExecutionId = "invalid_execution_id", 400;
    InvalidFilter = "invalid_filter", 400;
    InvalidGrant = "invalid_grant", 400;
    InvalidGroup = "invalid_group", 400;
    InvalidIdentityRef = "invalid_identity_ref", 400;
    InvalidIdpBinding = "invalid_idp_binding", 400;
    InvalidImportRequest = "invalid_import_request", 400;
    InvalidIncidentId = "invalid_incident_id", 400;
    InvalidInjectionStrategy = "invalid_injection_strategy", 400;
    InvalidIntegrityViolationId = "invalid_integrity_violation_id", 400;
    InvalidInvitationId = "invalid_invitation_id", 400;
    InvalidJitPolicy = "invalid_jit_policy", 400;
    InvalidKind = "invalid_kind", 400;
    InvalidLabelRequest = "invalid_label_request", 400;
    InvalidLastEventId = "invalid_last_event_id", 400;
    InvalidLimit = "invalid_limit", 400;
    InvalidLookupRequest = "invalid_lookup_request", 400;
    InvalidManagementCluster = "invalid_management_cluster", 400;
    InvalidManagementClusterId = "invalid_management_cluster_id", 400;
    InvalidManifest = "invalid_manifest", 400;
    InvalidMembership = "invalid_membership", 400;
    InvalidOciReference = "invalid_oci_reference", 400;
    InvalidParameterSchema = "invalid_parameter_schema", 400;
    InvalidPayload = "invalid_payload", 400;
    InvalidPrincipalId = "invalid_principal_id", 400;
    InvalidProject = "invalid_project", 400;
    InvalidProjectId = "invalid_project_id", 400;
    InvalidProviderKind = "invalid_provider_kind", 400;
    InvalidPushId = "invalid_push_id", 400;
    InvalidReachabilityPolicy = "invalid_reachability_policy", 400;
    InvalidRegisterRequest = "invalid_register_request", 422;
    InvalidRelationTuple = "invalid_relation_tuple", 400;
    InvalidRelationTupleId = "invalid_relation_tuple_id", 400;
    InvalidReport = "invalid_report", 400;
    InvalidRequest = "invalid_request", 400;
    InvalidResourceId = "invalid_resource_id", 400;
    InvalidResourceOrigin = "invalid_resource_origin", 400;
    InvalidReturnTo = "invalid_return_to", 400;
    InvalidRevokeReason = "invalid_revoke_reason", 400;
    InvalidRotateMaterial = "invalid_rotate_material", 400;
    InvalidSeq = "invalid_seq", 400;
    InvalidServiceIdentity = "invalid_service_identity", 400;
    InvalidSessionId = "invalid_session_id", 400;
    InvalidSignInRequest = "invalid_sign_in_request", 400;
    InvalidStateTransition = "invalid_state_transition", 409;
    InvalidStatus = "invalid_status", 400;
    InvalidTarget = "invalid_target", 400;
    InvalidTrackingPolicy = "invalid_tracking_policy", 400;
    InvalidTtl = "invalid_ttl", 400;
    InvalidUserCode = "invalid_user_code", 400;
    InvalidVerificationPolicy = "invalid_verification_policy", 400;
    InvalidVerifyRange = "invalid_verify_range", 400;
    InvitationAlreadyAccepted = "invitation_already_accepted", 409;
    InvitationAlreadyExpired = "invitation_already_expired", 409;
    InvitationAlreadyPending = "invitation_already_pending", 409;
    InvitationNotFound = "invitation_not_found", 404;
    InvitationObjectOutOfScope = "invitation_object_out_of_scope", 422;
    IssuerConflict = "issuer_conflict", 409;
    KeysRotateBodyTooLarge = "keys_rotate_body_too_large", 413;
    KeysRotateNoPendingRotation = "keys_rotate_no_pending_rotation", 409;
    KeysRotatePeerNotFound = "keys_rotate_peer_not_found", 404;
    KeysRotatePublicKeyInvalid = "keys_rotate_public_key_invalid", 422;
    KeysRotatePublicKeyUnchanged = "keys_rotate_public_key_unchanged", 422;
    KindMismatch = "kind_mismatch", 403;
    KubeconfigInvalid = "kubeconfig_invalid", 422;
    KubeconfigTooLarge = "kubeconfig_too_large", 413;
    LabelCardinalityExceeded = "label_cardinality_exceeded", 409;
    LabelDefinitionConflict = "label_definition_conflict", 409;
    LabelDefinitionInvalid = "label_definition_invalid", 422;
    LabelDefinitionNotFound = "label_definition_not_found", 404;
    LabelValueInvalid = "label_value_invalid", 422;
    MalformedCapabilitiesRequest = "malformed_capabilities_request", 400;
    MalformedEndpointRequest = "malformed_endpoint_request", 400;
    MalformedExecutionCallback = "malformed_execution_callback", 400;
    MalformedHeartbeatRequest = "malformed_heartbeat_request", 400;
    MalformedIntegrityViolationsRequest = "malformed_integrity_violations_request", 400;
    MalformedKeysRotateRequest = "malformed_keys_rotate_request", 400;
    MalformedRegisterRequest = "malformed_register_request", 400;
    MalformedSelector = "malformed_selector", 400;
    MalformedSessionActivity = "malformed_session_activity", 400;
    ManagedPushConflict = "managed_push_conflict", 409;
    ManagedPushDisabled = "managed_push_disabled", 409;
    ManagedPushNotConfigured = "managed_push_not_configured", 404;
    ManagementAssignmentNotFound = "management_assignment_not_found", 404;
    ManagementClusterConflict = "management_cluster_conflict", 409;
    ManagementClusterNotFound = "management_cluster_not_found", 404;
    MembershipConflict = "membership_conflict", 409;
    MembershipNotFound = "membership_not_found", 404;
    MeshCidrInvalidatesSubrange = "mesh_cidr_invalidates_subrange", 422;
    MeshCidrOverlap = "mesh_cidr_overlap", 409;
    MethodNotAllowed = "method_not_allowed", 405;
    NoEligibleCredentialForCloud = "no_eligible_credential_for_cloud", 422;
    NodeIdMismatch = "node_id_mismatch", 403;
    NodeNotFound = "node_not_found", 404;
    NonceCollision = "nonce_collision", 403;
    NonceMismatch = "nonce_mismatch", 400;
    NotFound = "not_found", 404;
    NotProvisioned = "not_provisioned", 501;
    NskInvalid = "nsk_invalid", 401;
    NskNodeMismatch = "nsk_node_mismatch", 403;
    NskRevoked = "nsk_revoked", 401;
    ObservabilityIngestNotProvisioned = "observability_ingest_not_provisioned", 501;
    ObservabilityQueryNotProvisioned = "observability_query_not_provisioned", 501;
    OpenbaoUnavailable = "openbao_unavailable", 503;
    ParentDomainMissing = "parent_domain_missing", 409;
    PayloadTooLarge = "payload_too_large", 413;
    PerDomainRateLimited = "per_domain_rate_limited", 429;
    PerNodeRateLimited = "per_node_rate_limited", 429;
    PermissionDenied = "permission_denied", 403;
    PlexdHookDuplicate = "plexd_hook_duplicate", 422;
    PlexdHookInvalid = "plexd_hook_invalid", 422;
    PlexdHooksTooMany = "plexd_hooks_too_many", 422;
    PolicyNotFound = "policy_not_found", 404;
    PolicyRuleInvalid = "policy_rule_invalid", 422;
    PolicySlugTaken = "policy_slug_taken", 409;
    PoolExhausted = "pool_exhausted", 503;
    PortOutOfRange = "port_out_of_range", 400;
    PortRangeInverted = "port_range_inverted", 422;
    PrimaryConflict = "primary_conflict", 409;
    ProjectMismatch = "project_mismatch", 403;
    ProjectNotEmpty = "project_not_empty", 409;
    ProjectNotFound = "project_not_found", 404;
    ProjectSlugConflict = "project_slug_conflict", 409;
    ProviderImmutable = "provider_immutable", 400;
    PublicKeyInUse = "public_key_in_use", 422;
    PublicKeyInvalid = "public_key_invalid", 400;
    PushAlreadyRolledBack = "push_already_rolled_back", 409;
    PushNotFound = "push_not_found", 404;
    QueryInvalid = "query_invalid", 400;
    QueryRangeInvalid = "query_range_invalid", 400;
    QueryUpstreamTimeout = "query_upstream_timeout", 504;
    QueryUpstreamUnavailable = "query_upstream_unavailable", 502;
    RateLimited = "rate_limited", 429;
    RelationTupleNotFound = "relation_tuple_not_found", 404;
    ReleaseNotFound = "release_not_found", 404;
    ReportNotFound = "report_not_found", 404;
    ReportQuotaExceeded = "report_quota_exceeded", 409;
    RequestBodyTooLarge = "request_body_too_large", 413;
    RequestTimeout = "request_timeout", 408;
    ReservedKey = "reserved_key", 422;
    ResourceNotBridge = "resource_not_bridge", 409;
    ResourceNotFound = "resource_not_found", 404;
    RevisionConflict = "revision_conflict", 409;
    RevisionNotVisible = "revision_not_visible", 404;
    RuleCountOutOfRange = "rule_count_out_of_range", 422;
    ScopeMismatch = "scope_mismatch", 400;
    ScopeMismatchUnprocessable = "scope_mismatch", 422;
    SecretNotFound = "secret_not_found", 404;
    SecretRefMalformed = "secret_ref_malformed", 400;
    SecretVersionNotFound = "secret_version_not_found", 404;
    SecretsInventoryNotProvisioned = "secrets_inventory_not_provisioned", 501;
    SecretsNotProvisioned = "secrets_not_provisioned", 501;
    SelectorEmptyCohort = "selector_empty_cohort", 422;
    SelectorSyntax = "selector_syntax", 400;
    SelectorSyntaxError = "selector_syntax_error", 422;
    SelfApprovalDenied = "self_approval_denied", 403;
    ServiceIdentityAlreadyExists = "service_identity_already_exists", 409;
    SessionAlreadyRevoked = "session_already_revoked", 409;
    SessionExpired = "session_expired", 409;
    SessionLimitExceeded = "session_limit_exceeded", 429;
    SessionNotActive = "session_not_active", 409;
    SessionNotFound = "session_not_found", 404;
    SessionNotSsh = "session_not_ssh", 409;
    SignedEventBusNotProvisioned = "signed_event_bus_not_provisioned", 501;
    SigningUnavailable = "signing_unavailable", 503;
    SlowDown = "slow_down", 400;
    SlugConflict = "slug_conflict", 409;
    SlugImmutable = "slug_immutable", 400;
    SourceConflict = "source_conflict", 409;
    SpiffeBundleUnconfigured = "spiffe_bundle_unconfigured", 502;
    SpiffeBundleUnreachable = "spiffe_bundle_unreachable", 502;
    SpiffeVerificationFailed = "spiffe_verification_failed", 401;
    SshHostKeyFingerprintInvalid = "ssh_host_key_fingerprint_invalid", 400;
    StateMismatch = "state_mismatch", 400;
    StepUpRequired = "step_up_required", 401;
    SubRangeInvalidatesAllocation = "sub_range_invalidates_allocation", 422;
    SubRangeOverlap = "sub_range_overlap", 409;
    SubnetOverlapWithMesh = "subnet_overlap_with_mesh", 409;
    SubnetOverlapWithTunnel = "subnet_overlap_with_tunnel", 409;
    SubrangeExhausted = "subrange_exhausted", 503;
    TargetNodeNotInDomain = "target_node_not_in_domain", 400;
    TimelineEventInvalid = "timeline_event_invalid", 400;
    TokenConsumed = "token_consumed", 403;
    TokenConsumedConflict = "token_consumed", 409;
    TokenExchangeRejected = "token_exchange_rejected", 400;
    TokenExpired = "token_expired", 403;
    TokenInvalid = "token_invalid", 403;
    TokenMalformed = "token_malformed", 403;
    TokenRevoked = "token_revoked", 403;
    TokenRevokedConflict = "token_revoked", 409;
    TooManyInitialTuples = "too_many_initial_tuples", 422;
    TtlOutOfRange = "ttl_out_of_range", 400;
    Unauthenticated = "unauthenticated", 401;
    Unauthorized = "unauthorized", 401;
    UnknownAction = "unknown_action", 422;
    UnknownProtocol = "unknown_protocol", 422;
    UnknownProvider = "unknown_provider", 400;
    UnsupportedGrantType = "unsupported_grant_type", 400;
    UnsupportedMediaType = "unsupported_media_type", 415;
    UpgradeRequired = "upgrade_required", 426;
    UriTooLong = "uri_too_long", 414;
    UserNotProvisioned = "user_not_provisioned", 400;
    VerifierExpired = "verifier_expired", 400;
}

impl Code {
    /// The HTTP status as a typed value.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.status_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The `type` URI: the word with `_` turned into `-` below a fixed prefix.
    #[must_use]
    pub fn type_uri(self) -> String {
        format!("https://plexsphere.com/errors/{}", self.as_str().replace('_', "-"))
    }

    /// The `title`: the word in title case, such as `Domain Not Found`.
    #[must_use]
    pub fn title(self) -> String {
        let mut title = String::with_capacity(self.as_str().len());
        for word in self.as_str().split('_') {
            if !title.is_empty() {
                title.push(' ');
            }
            let mut letters = word.chars();
            if let Some(first) = letters.next() {
                title.extend(first.to_uppercase());
                title.push_str(letters.as_str());
            }
        }
        title
    }

    /// The row with this word and status, if the catalogue has it.
    #[must_use]
    pub fn find(word: &str, status: u16) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str() == word && code.status_u16() == status)
    }
}
