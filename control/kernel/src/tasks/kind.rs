//! Every long-lived task of the control tier, with what cancels it and what its failure means.

/// What happens to a run in progress when the program drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCancel {
    /// It is dropped where it stands; a later run repeats what was not done.
    Drop,
    /// It is given the time of the drain to end by itself.
    Finish,
}

/// What a failed run means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// It is tried again after a pause that doubles up to a limit.
    Retry,
    /// It is tried again, and the probe fails, as soon as its schedule's patience is over, until a run succeeds.
    RetryUnready,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $cancel:ident, $error:ident, $probe:expr;)*) => {
        /// A long-lived task.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum TaskKind { $($(#[$doc])* $kind,)* }

        impl TaskKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The name in logs, metrics and the advisory lock.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            /// What happens to a run in progress when the program drains.
            #[must_use]
            pub const fn on_cancel(self) -> OnCancel {
                match self { $(Self::$kind => OnCancel::$cancel,)* }
            }

            /// What a failed run means.
            #[must_use]
            pub const fn on_error(self) -> OnError {
                match self { $(Self::$kind => OnError::$error,)* }
            }

            /// The readiness probe it gates.
            #[must_use]
            pub const fn probe(self) -> Option<&'static str> {
                match self { $(Self::$kind => $probe,)* }
            }
        }
    };
}

kinds! {
    /// Seals, signs and publishes outbox rows.
    OutboxRelay = "outbox-relay", Finish, RetryUnready, Some("outbox-relay");
    /// Deletes published outbox rows.
    OutboxSweeper = "outbox-sweeper", Drop, Retry, None;
    /// Writes the edge directory.
    DirectoryProjector = "directory-projector", Finish, RetryUnready, Some("directory-projector");
    /// Hears what changed, so that memory forgets it.
    ChangeListener = "change-listener", Drop, Retry, None;
    /// Answers an edge that misses a Node in its directory.
    DirectoryLookup = "directory-lookup", Drop, Retry, None;
    /// Unwraps a sample of the signing keys and signs with it.
    SigningSelfcheck = "signing-selfcheck", Drop, RetryUnready, Some("signing-custody");
    /// Compares the wrap keys of what is stored with those that are loaded.
    WrapKeyRing = "wrap-key-ring", Drop, RetryUnready, Some("wrap-key-ring");
    /// Rotates signing keys that have reached their greatest age.
    SigningRotation = "signing-rotation", Drop, Retry, None;
    /// Retires signing keys whose transition is over, and destroys those that no Node pins.
    SigningRetireSweeper = "signing-retire-sweeper", Drop, Retry, None;
    /// Seals signing keys under the newest wrap key.
    SigningRewrap = "signing-rewrap", Drop, Retry, None;
    /// Answers an edge that wants a key announced to a Node.
    SigningAnnouncer = "signing-announcer", Drop, Retry, None;
    /// Writes the audit rows that arose at edges.
    AuditIntake = "audit-intake", Finish, Retry, None;
    /// Forgets which edge audit rows were written.
    AuditIntakeSweeper = "audit-intake-sweeper", Drop, Retry, None;
    /// Moves pending audit rows into their chains.
    AuditSequencer = "audit-sequencer", Finish, RetryUnready, Some("audit-sequencer");
    /// Copies audit chains to the object store.
    AuditMirror = "audit-mirror", Finish, RetryUnready, Some("audit-mirror");
    /// Verifies audit chains: each as a whole in the night, its newest part by the hour.
    AuditVerify = "audit-verify", Drop, Retry, None;
    /// Answers heartbeat batches.
    HeartbeatResponder = "heartbeat-responder", Finish, Retry, None;
    /// Follows the relation tuples into memory.
    RelationSync = "authz-sync", Drop, RetryUnready, Some("authz-sync");
    /// Deletes relation changes that every replica has long followed.
    RelationChangeSweeper = "authz-change-sweeper", Drop, Retry, None;
    /// Removes relation tuples that name something that is gone.
    RelationOrphanSweeper = "authz-orphan-sweeper", Drop, Retry, None;
    /// Finds Nodes that have gone silent.
    ReachabilitySweeper = "reachability-sweeper", Drop, RetryUnready, Some("mesh-reachability-sweeper");
    /// Finds endpoints that were not reported again in time.
    PeerEndpointSweeper = "peer-endpoint-sweeper", Drop, RetryUnready, Some("mesh-endpoint-sweeper");
    /// Frees mesh addresses whose cooling is over.
    AllocationSweeper = "allocation-sweeper", Drop, Retry, None;
    /// Retires rotated secrets, and removes API tokens long past their end.
    ApiTokenSweeper = "api-token-sweeper", Drop, Retry, None;
    /// Removes sessions and access tokens that ended.
    SessionSweeper = "session-sweeper", Drop, Retry, None;
    /// Removes sign-ins and device flows that ended.
    AuthFlowSweeper = "auth-flow-sweeper", Drop, Retry, None;
    /// Asks every identity provider for its documents.
    IdpHealthProbe = "idp-health-probe", Drop, Retry, None;
    /// Removes bootstrap tokens long past their end.
    BootstrapTokenSweeper = "bootstrap-token-sweeper", Drop, Retry, None;
    /// Ends invitations whose time is over.
    InvitationExpirySweeper = "invitation-expiry-sweeper", Drop, RetryUnready, Some("invitation-expiry-sweeper");
    /// Writes edges of the tree that are missing among the relation tuples.
    TenancyTupleRepair = "tenancy-tuple-repair", Drop, Retry, None;
    /// Removes Node Secret Keys that were revoked long ago.
    NskRevokedSweeper = "nsk-revoked-sweeper", Drop, Retry, None;
    /// Seals Node Secret Keys under the newest wrap key.
    NskRewrap = "nsk-rewrap", Drop, Retry, None;
    /// Seals the seeds of pre-shared keys under the newest wrap key.
    PskRewrap = "psk-rewrap", Drop, Retry, None;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_a_kind_that_gates_readiness_has_a_probe() {
        let mut names: Vec<_> = TaskKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TaskKind::ALL.len());
        for kind in TaskKind::ALL {
            assert_eq!(kind.on_error() == OnError::RetryUnready, kind.probe().is_some(), "{}", kind.name());
        }
    }
}
