//! The life of a binding.

/// Where a binding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingStatus {
    /// Usable.
    Active,
    /// Usable; the provider did not answer lately.
    Degraded,
    /// Not usable: the provider is not what the binding says, or its secret cannot be had.
    Inactive,
    /// Not usable: an operator said so.
    Deactivated,
}

/// What happens to a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BindingEvent {
    /// An operator switches it off.
    Deactivate,
    /// An operator switches it on again.
    Activate,
    /// The probe failed three times in a row in a way that may pass.
    ProbeFailed,
    /// The probe found a fault of configuration: another issuer, or a secret reference that names nothing.
    ProbeFoundFault,
    /// The probe succeeded.
    ProbeSucceeded,
}

impl BindingStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Active, Self::Degraded, Self::Inactive, Self::Deactivated];

    /// The word at rest and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Degraded => "degraded",
            Self::Inactive => "inactive",
            Self::Deactivated => "deactivated",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether people can sign in through the binding.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Active | Self::Degraded)
    }

    /// Where `event` leads, or `None` where it leads nowhere: the status stays, and an operator is refused.
    #[must_use]
    pub const fn transition(self, event: BindingEvent) -> Option<Self> {
        match (self, event) {
            (Self::Active | Self::Degraded | Self::Inactive, BindingEvent::Deactivate) => Some(Self::Deactivated),
            (Self::Deactivated, BindingEvent::Activate) => Some(Self::Active),
            (Self::Active, BindingEvent::ProbeFailed) => Some(Self::Degraded),
            (Self::Active | Self::Degraded, BindingEvent::ProbeFoundFault) => Some(Self::Inactive),
            (Self::Degraded | Self::Inactive, BindingEvent::ProbeSucceeded) => Some(Self::Active),
            (Self::Active, BindingEvent::Activate | BindingEvent::ProbeSucceeded)
            | (Self::Degraded, BindingEvent::Activate | BindingEvent::ProbeFailed)
            | (Self::Inactive, BindingEvent::Activate | BindingEvent::ProbeFailed | BindingEvent::ProbeFoundFault)
            | (
                Self::Deactivated,
                BindingEvent::Deactivate
                | BindingEvent::ProbeFailed
                | BindingEvent::ProbeFoundFault
                | BindingEvent::ProbeSucceeded,
            ) => None,
        }
    }
}
