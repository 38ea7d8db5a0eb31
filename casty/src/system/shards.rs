//! All entities of a type, named in each envelope.

use std::{fmt, sync::Arc};

use crate::{
    actor::{
        Entity, Envelope, Rejected, Route,
        ask::{held, reply::ReplyTo},
        hold,
        reference::{EntityRef, Found},
    },
    error::{Failure, TellError},
    id::EntityId,
};

/// The shards of one entity type.
pub struct Shards<E: Entity> {
    pub(super) route: Arc<dyn Route<E>>,
}

impl<E: Entity> Shards<E> {
    /// Sends a message to the entity that the envelope names. Waits for room in the mailbox, not
    /// for the handler.
    ///
    /// # Errors
    /// [`TellError`] gives the message back; it was not sent.
    ///
    /// # Cancel safety
    /// If the future is dropped before it resolves, the message is not sent.
    pub async fn tell(&self, to: ShardEnvelope<E>) -> Result<(), TellError<E::Message>> {
        if hold::is_on() {
            let (to, envelope) = self.refer(to);
            return held::send(&to, envelope).await.map_err(told);
        }
        match self.queue(to) {
            Err((
                id,
                Rejected {
                    envelope,
                    failure: Failure::Full,
                },
            )) => {
                let shard = id.shard(self.route.shards());
                self.route
                    .clone()
                    .send(id, shard, envelope)
                    .await
                    .map_err(told)
            }
            Err((_, rejected)) => Err(told(rejected)),
            Ok(()) => Ok(()),
        }
    }

    /// Sends a message if there is room for it now. This never waits.
    ///
    /// # Errors
    /// [`TellError`] gives the message back, [`TellError::Full`] among others.
    pub fn try_tell(&self, to: ShardEnvelope<E>) -> Result<(), TellError<E::Message>> {
        if hold::is_on() {
            let (to, envelope) = self.refer(to);
            return held::offer_now(&to, envelope).map_err(told);
        }
        self.queue(to).map_err(|(_, rejected)| told(rejected))
    }

    /// For a message that may have to wait for a store.
    #[cold]
    fn refer(&self, to: ShardEnvelope<E>) -> (EntityRef<E>, Envelope<E>) {
        let ShardEnvelope { entity_id, message } = to;
        let envelope = Envelope {
            message,
            reply: ReplyTo::Nobody,
        };
        (EntityRef::new(self.route.clone(), entity_id), envelope)
    }

    fn queue(&self, to: ShardEnvelope<E>) -> Result<(), (EntityId, Rejected<E>)> {
        let ShardEnvelope { entity_id, message } = to;
        let envelope = Envelope {
            message,
            reply: ReplyTo::Nobody,
        };
        if let Err(invalid) = entity_id.check() {
            return Err((
                entity_id,
                Rejected::new(envelope, Failure::InvalidId(invalid)),
            ));
        }
        let shard = entity_id.shard(self.route.shards());
        let sent = self
            .route
            .try_send(&entity_id, shard, envelope, &Found::new());
        sent.map_err(|rejected| (entity_id, rejected))
    }
}

fn told<E: Entity>(rejected: Rejected<E>) -> TellError<E::Message> {
    TellError::new(rejected.envelope.message, rejected.failure)
}

impl<E: Entity> fmt::Debug for Shards<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shards({})", self.route.name())
    }
}

/// A message and the id of the entity it is for.
pub struct ShardEnvelope<E: Entity> {
    /// The id of the entity.
    pub entity_id: EntityId,
    /// The message.
    pub message: E::Message,
}

impl<E: Entity> ShardEnvelope<E> {
    /// Addresses a message.
    pub fn new(entity_id: impl AsRef<str>, message: E::Message) -> Self {
        Self {
            entity_id: EntityId::new(entity_id),
            message,
        }
    }
}

impl<E: Entity> fmt::Debug for ShardEnvelope<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::actor::Message as _;
        write!(
            f,
            "ShardEnvelope({}, {})",
            self.entity_id,
            self.message.name()
        )
    }
}
