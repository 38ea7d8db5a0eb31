//! Whether the item is an entity or a local actor.

/// Which attribute stands above the block or module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Addressed by type and id.
    Entity,
    /// Spawned by hand.
    Actor,
}

impl Kind {
    /// As the user writes it.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Entity => "#[entity]",
            Self::Actor => "#[actor]",
        }
    }

    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Entity => "entity",
            Self::Actor => "actor",
        }
    }

    /// The kind with its article.
    pub(crate) fn a_noun(self) -> &'static str {
        match self {
            Self::Entity => "an entity",
            Self::Actor => "an actor",
        }
    }
}
