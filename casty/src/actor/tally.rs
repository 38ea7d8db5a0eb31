//! What happens to entities, as it is counted.

/// Something that happens to an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    Activated,
    Passivated,
    Failed,
    Restarted,
    /// It takes no messages for a while, since it failed too often, or could not start.
    Refusing,
    /// A message that the present state has no handler for.
    Unhandled,
    /// A message that found the mailbox full.
    Full,
}

impl Tally {
    /// Each with its name.
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [(Self, &'static str); 7] = [
        (Self::Activated, "activated"),
        (Self::Passivated, "passivated"),
        (Self::Failed, "failed"),
        (Self::Restarted, "restarted"),
        (Self::Refusing, "refusing"),
        (Self::Unhandled, "unhandled"),
        (Self::Full, "full"),
    ];
}
