//! What a region has to know of its type.

use std::{num::NonZeroU32, sync::Arc};

use super::{
    ShardRegion,
    host::ShardHost,
    inward::{Incoming, Inward},
    local::EntityCell,
    parked::{Decoded, ParkedFrame},
};
use crate::{
    actor::{
        Entity,
        cell::{Cell, policy::Policy},
        handle::CellName,
    },
    config::entity::EntitySettings,
    error::Failure,
    id::CopyOptions,
};

/// The entity type of a region. All code that depends on the type is reached through this, so that
/// the region itself is compiled once.
pub(crate) struct EntityType {
    pub(super) shards: NonZeroU32,
    pub(super) role: Option<&'static str>,
    pub(super) policy: Policy,
    pub(super) migrates: bool,
    pub(super) is_stored: bool,
    pub(super) copies: CopyOptions,
    pub(super) schema: &'static str,
    pub(super) new_cell: fn(CellName, Arc<ShardHost>) -> Arc<dyn EntityCell>,
    #[cfg(feature = "metrics")]
    pub(super) messages: &'static [&'static str],
    pub(super) decode: fn(&ShardRegion, ParkedFrame) -> Option<Decoded>,
    pub(super) fail_frame: fn(&ShardRegion, ParkedFrame, Failure),
    pub(super) incoming: fn(Arc<ShardRegion>) -> Box<dyn Inward>,
}

impl EntityType {
    pub(crate) fn of<E: Entity>() -> Self {
        Self {
            shards: E::SHARDS,
            role: E::ROLE,
            policy: E::POLICY,
            migrates: E::MIGRATES,
            is_stored: E::STORAGE.is_stored(),
            copies: CopyOptions {
                copies: E::COPIES,
                copies_min: E::COPIES_MIN,
            },
            schema: E::SCHEMA,
            new_cell: |name, host| {
                let mailbox = host.mailbox();
                Cell::<E>::new(name, host, mailbox, None)
            },
            #[cfg(feature = "metrics")]
            messages: <E::Message as crate::actor::Message>::NAMES,
            decode: ShardRegion::decode::<E>,
            fail_frame: ShardRegion::fail_frame::<E>,
            incoming: |region| Box::new(Incoming::<E>::new(region)),
        }
    }
}

impl EntityType {
    /// The same, with what a configuration says where the type says nothing.
    pub(crate) fn configured(mut self, configured: EntitySettings) -> Self {
        let policy = &mut self.policy;
        policy.passivate_after = policy.passivate_after.or(configured.passivate_after);
        policy.max_active = policy.max_active.or(configured.max_active);
        if let Some(mailbox) = configured.mailbox
            && policy.mailbox == Policy::DEFAULT.mailbox
        {
            policy.mailbox = mailbox;
        }
        self.copies = self.copies.or(configured.copies);
        self
    }
}
