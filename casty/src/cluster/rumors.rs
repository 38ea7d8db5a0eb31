//! The rumors of gossip, as far as decisions use them: hints, never authority.

use std::collections::{BTreeMap, BTreeSet};

use crate::{cluster::locks::Rank, id::MemberId, infra::sync::Ranked};

/// The facts that a member reports about itself.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Entities alive on it.
    pub(crate) load: u64,
    pub(crate) roles: BTreeSet<String>,
}

#[derive(Default)]
struct Heard {
    dead: BTreeSet<MemberId>,
    said: BTreeMap<MemberId, Said>,
}

/// The rumors that one incarnation has heard.
pub(crate) struct Rumors(Ranked<Heard>);

impl Default for Rumors {
    fn default() -> Self {
        Self(Rank::Rumors.mutex(Heard::default()))
    }
}

impl Rumors {
    /// Members that seem dead.
    pub(crate) fn dead(&self) -> BTreeSet<MemberId> {
        self.0.lock().dead.clone()
    }

    pub(crate) fn set_dead(&self, dead: BTreeSet<MemberId>) {
        self.0.lock().dead = dead;
    }

    /// The facts that the other members report about themselves.
    pub(crate) fn said(&self) -> BTreeMap<MemberId, Said> {
        self.0.lock().said.clone()
    }

    pub(crate) fn set_said(&self, said: BTreeMap<MemberId, Said>) {
        self.0.lock().said = said;
    }
}
