//! What a system gives its projections and its streams of events.

use std::sync::Arc;

use crate::{
    actor::{Actor, effect::EventSourced, reference::Hosted, storage::Retain},
    cluster::{node::Node, reading::nodes::Nodes, region::AnyRegion},
    error::StoredError,
    id::ShardId,
    infra::boxed::boxed,
    projection::{
        EventStream, Opening, Place, ProjectError, Projection, RunningProjection, Since, start,
    },
    system::ActorSystem,
};

impl ActorSystem {
    /// Runs a projection: it handles the events of the shards that this node owns, as long as it
    /// owns them. Give it to each node that hosts the type. See
    /// [`projection`](crate::projection).
    ///
    /// It ends with the system. Dropping the handle does not end it.
    ///
    /// # Errors
    /// [`ProjectError`], also if the store of the view is down.
    ///
    /// # Cancel safety
    /// Safe: nothing runs before it returns.
    pub async fn project<P: Projection>(
        &self,
        projection: P,
    ) -> Result<RunningProjection, ProjectError> {
        let route = self.0.runtime.route::<P::Of>();
        let place = self.place(route.name(), route.shards().get());
        boxed_start(projection, place).await
    }

    /// The events of all entities of a type, as a stream: those that are stored, and those that
    /// come. It reads from whichever nodes own the shards. See
    /// [`EventStream`].
    ///
    /// For a program that keeps no view. [`project`](Self::project) also stores how far it is.
    ///
    /// ```standalone_crate
    /// use casty::{persistence::Memory, prelude::*, projection::Since};
    ///
    /// #[message]
    /// #[derive(Default)]
    /// struct Door {
    ///     opened: u64,
    /// }
    ///
    /// #[entity(event_sourced, name = "docs/streamed-door")]
    /// impl Door {
    ///     #[message]
    ///     fn open(&self, by: String) -> Effect<Self> {
    ///         Effect::persist(DoorEvent::Opened { by })
    ///     }
    ///
    ///     #[event]
    ///     fn opened(&mut self, _by: String) {
    ///         self.opened += 1;
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let house = ActorSystem::builder("house").journal(Memory::new()).start_local()?;
    /// house.entity::<Door>("front").open("ann".to_owned()).await?;
    ///
    /// let mut events = house.events_of::<Door>(Since::Start).await?;
    /// if let Some(first) = events.next().await {
    ///     let first = first?;
    ///     assert_eq!(first.of.as_str(), "front");
    ///     assert!(matches!(first.event, DoorEvent::Opened { by } if by == "ann"));
    /// }
    /// let later = house.events_of::<Door>(Since::Cursor(events.cursor())).await?;
    /// assert_eq!(later.cursor(), events.cursor());
    /// # house.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`StoredError`]: the type does not keep all its records, so that events would be missing;
    /// the cursor is one of another type; or, with [`Since::Now`], shards do not answer.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn events_of<E: EventSourced + Hosted>(
        &self,
        since: Since,
    ) -> Result<EventStream<E>, StoredError> {
        let route = self.0.runtime.route::<E>();
        let kind = route.name().to_owned();
        if <E as Actor>::RETAIN != Retain::All {
            let reason = format!(
                "`{kind}` does not keep all its records, so events would be missing: write \
                 `retain = \"all\"` in its `#[entity(..)]`"
            );
            return Err(StoredError::Unusable { reason });
        }
        let opening = Opening {
            nodes: Arc::from(self.nodes()),
            runtime: self.0.runtime.clone(),
            kind,
            shards: route.shards().get(),
        };
        EventStream::open(opening, since).await
    }

    fn place(&self, kind: &str, shards: u32) -> Place {
        let inner = &self.0;
        let node = inner.node.clone();
        let hosts = |kind: &str| {
            let hosted = node.as_ref().map(|node| &node.hosted);
            hosted.is_none_or(|hosted| hosted.iter().any(|entry| entry.name == kind))
        };
        let mut regions = inner.regions.iter();
        let region = regions.find(|region| region.name() == kind && hosts(kind));
        let nodes: Box<dyn Nodes> = self.nodes();
        let (weak, name) = (node.as_ref().map(Arc::downgrade), kind.to_owned());
        Place {
            runtime: inner.runtime.clone(),
            region: region.cloned() as Option<Arc<dyn AnyRegion>>,
            kind: kind.to_owned(),
            shards,
            nodes: Arc::from(nodes),
            homeless: Box::new(move || {
                let node = weak.as_ref().and_then(std::sync::Weak::upgrade);
                node.map_or_else(Vec::new, |node| homeless(&node, &name, shards))
            }),
            projections: inner.projections.clone(),
        }
    }
}

/// The shards of a type that have no owner, once this node is Up.
fn homeless(node: &Node, kind: &str, shards: u32) -> Vec<ShardId> {
    let me = &node.current_membership().contact.local.member;
    let Some(map) = node.map.get().filter(|map| map.up().any(|up| up == me)) else {
        return Vec::new();
    };
    let ids = (0..shards).map(ShardId);
    ids.filter(|shard| map.owner(kind, *shard).is_none())
        .collect()
}

async fn boxed_start<P: Projection>(
    projection: P,
    place: Place,
) -> Result<RunningProjection, ProjectError> {
    boxed(start(projection, place)).await
}
