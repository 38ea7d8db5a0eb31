//! The region of one entity type on one node: from a proxy to the entity, wherever it lives.
//!
//! A message of this node goes [outward]: into the mailbox of an entity here, onto a link, or into
//! the [`Region`](crate::protocol::region::Region) machine until a home is known. A message that
//! came over a connection goes [inward]: into a mailbox, back to its sender, or into the machine.
//!
//! [`ShardRegion`] is not generic, so that it is compiled once and not for each entity type. It
//! knows its type by an [`EntityType`]. Only the hot paths are generic: the routes of
//! [outward], and [`Incoming`].

mod busiest;
mod entity_type;
mod erasure;
mod explain;
mod homes;
mod host;
mod idle;
mod inward;
mod local;
mod moves;
mod moving;
mod outward;
mod parcel;
pub(crate) mod parked;
mod recovery;
mod stopping;

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

#[cfg(feature = "metrics")]
use crate::actor::meter::TypeMeter;
pub(crate) use crate::cluster::region::{
    busiest::Busiest,
    entity_type::EntityType,
    homes::FENCE,
    inward::Inward,
    moves::Moved,
    parcel::{Parcel, Piece, parts},
    parked::received,
};
use crate::cluster::region::{
    homes::FastHome,
    local::{EntityCell, LocalShards, Logs, Looked},
    moves::LastMoves,
    moving::Arrived,
    parked::{Parked, ParkedFrame},
};
use crate::{
    actor::{Entity, cell::Cell, runtime::Runtime},
    config::Settings,
    error::{Delay, Failure, StoredError},
    event::ActorPath,
    id::{CatalogEntry, CopyOptions, EntityId, Epoch, ShardId},
    infra::{apart::Apart, published::Published, sync::lock, wall_clock},
    message::{answer::Pending, codec},
    persistence::{opened::is_same_host, shard_log::ShardLog},
    protocol::{
        map::{ClusterMap, Slot, Status},
        region::{Effect, Home, Region},
    },
    transport::{frame::EntityFrame, link::Link},
};

/// The number of times that a message may be sent back and sent anew before it is given up.
const HOPS_MAX: u8 = 32;

/// Resolves, with a shard and its epoch, when everything in it has stopped.
pub(crate) type Draining = BoxFuture<'static, (ShardId, Epoch)>;

/// Shards that have begun to drain.
pub(crate) struct Drain {
    pub(crate) draining: Vec<Draining>,
    /// How many entities are active in them.
    pub(crate) entities: usize,
}

/// The node's services that a region needs.
pub(crate) trait Mesh: Send + Sync {
    /// The link on which messages go to a member.
    fn messages_to(&self, member: Slot) -> Option<Arc<Link>>;

    /// Asks a member what holds up an ask to an entity of its. `None`: too many are asked already.
    fn delay(
        &self,
        member: Slot,
        kind: &str,
        id: &EntityId,
        within: Duration,
    ) -> Option<BoxFuture<'static, Option<Delay>>>;

    /// Asks for the home of a shard, because messages wait for it. Returns at once.
    fn resolve(&self, kind: u16, shard: ShardId);
}

/// A region of any entity type, as the node sees it.
pub(crate) trait AnyRegion: Send + Sync {
    fn catalog_entry(&self) -> CatalogEntry;
    fn name(&self) -> &str;

    /// The role of the nodes that host this type, if it names one.
    fn role(&self) -> Option<&'static str>;

    /// Takes the homes of the shards from the map. `me` is this node's slot, if it hosts.
    fn handle_map(&self, map: &ClusterMap, me: Option<Slot>);

    /// A reader for the messages of one connection from another node.
    fn inward(self: Arc<Self>) -> Box<dyn Inward>;

    /// Handles a message that another node sent back.
    fn bounced(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    );

    /// Fails the messages that have waited too long for a home.
    fn handle_deadline(&self, now: Instant);

    /// Fails the messages to these shards: none of them will get a home.
    fn handle_no_home(&self, shards: &[ShardId], failure: &Failure);

    /// Whether its entities are stored.
    fn is_stored(&self) -> bool;

    /// What the type says of its copies.
    fn copies(&self) -> CopyOptions;

    /// The shard of an entity.
    fn shard(&self, id: &EntityId) -> ShardId;

    /// The logs of the shards here that are in use: they know what was sent, and the reminders.
    fn logs_in_use(&self) -> Vec<(ShardId, Arc<ShardLog>)>;

    /// What is counted of its entities here.
    #[cfg(feature = "metrics")]
    fn meter(&self) -> &TypeMeter;

    /// What this node knows of an entity. `None`: its shard is not here.
    fn look(&self, id: &EntityId) -> Option<Looked>;

    /// The last moves of a shard that this node has learned of, the latest first, and how long ago
    /// each was.
    fn moves_of(&self, shard: ShardId) -> Vec<(Duration, Moved)>;

    /// Whether this node owns a shard.
    fn owns(&self, shard: ShardId) -> bool;

    /// The epoch at which this node owns a shard.
    fn owned_at(&self, shard: ShardId) -> Option<Epoch>;

    /// How many shards the type has.
    fn shards(&self) -> NonZeroU32;

    /// Notified when this node gets or loses a shard.
    fn ownership(&self) -> &Notify;

    /// The log of a shard of a stored type that this node owns. An error says why there is none.
    fn log(&self, shard: ShardId) -> Result<Arc<ShardLog>, String>;

    /// Has an owner found for a shard that has none.
    fn find_owner(&self, shard: ShardId);

    /// Looks for the busiest entities of a shard.
    fn look_for(&self, shard: ShardId, busiest: &mut Busiest);

    /// The first active entities of a shard after `after` whose ids begin with `prefix`, in the
    /// order of their ids.
    fn active_in(
        &self,
        shard: ShardId,
        after: Option<&EntityId>,
        prefix: &str,
        limit: usize,
    ) -> Vec<EntityId>;

    /// Ends an entity, and erases what is stored of it. Resolves to whether there was anything, or
    /// to `None` if the shard takes no messages here.
    fn erase<'a>(
        &'a self,
        shard: ShardId,
        id: &'a EntityId,
    ) -> BoxFuture<'a, Option<Result<bool, StoredError>>>;

    /// The shards for whose homes messages wait.
    fn waiting(&self) -> Vec<ShardId>;

    /// The number of active entities.
    fn active(&self) -> u64;

    /// Closes those of the shards that are open here, and lets their entities finish what they
    /// have, for at most `Settings::stop_timeout`. A shard that drains already is left out.
    fn drain(&self, shards: &[(ShardId, Epoch)]) -> Drain;

    /// The shards that are open here.
    #[cfg(feature = "sim")]
    fn open_shards(&self) -> Vec<(ShardId, Epoch)>;

    /// The number of messages that wait for a home, and its bound.
    #[cfg(feature = "sim")]
    fn kept(&self) -> (usize, usize);

    /// Whether the states of its entities move with their shards.
    fn migrates(&self) -> bool;

    /// Takes the states of the entities of a shard that has been drained.
    fn take_parcel(&self, shard: ShardId) -> Parcel;

    /// The shard goes on here, with the states of its entities.
    fn keep_parcel(&self, shard: ShardId, parcel: Parcel);

    /// How many entities of a shard that has been drained have states that cannot be encoded, one
    /// of them, and why; `None` if there are none.
    fn cannot_move(&self, shard: ShardId) -> Option<(usize, EntityId, String)>;

    /// Gives up those states, with an error and an event for each.
    fn give_up_stayed(&self, shard: ShardId);

    /// Receives a part of the states of a shard that is about to come here and leaves its owner at
    /// `epoch`. `first`: it is the first of several parts. `false` if an earlier one is missing.
    fn receive(&self, shard: ShardId, epoch: Epoch, first: bool, part: Vec<Piece>) -> bool;

    /// Has handlers that await something look whether this node still holds the lease under which
    /// they began.
    fn handle_lapse(&self);

    /// Ends every entity here at once, since it may live somewhere else by now, and forgets all
    /// homes.
    fn sever(&self);

    /// Begins with another cluster, in which epochs may be smaller.
    fn forget_epochs(&self);

    /// Drains all shards that are open here, without a bound. Resolves to them.
    fn leave(&self) -> BoxFuture<'static, Vec<(ShardId, Epoch)>>;

    /// Ends the entities, and fails all messages, at once.
    fn abandon(&self, why: &Failure);
}

pub(crate) struct ShardRegion {
    me: Weak<Self>,
    runtime: Arc<Runtime>,
    name: String,
    entity_type: EntityType,
    /// This type's number in the catalog that this node shows its peers.
    kind: u16,
    shards: NonZeroU32,
    /// The homes, as senders read them. Rebuilt when a home changes.
    homes: Published<Vec<FastHome>>,
    machine: Apart<Mutex<Region<Parked>>>,
    local: LocalShards,
    #[cfg(feature = "metrics")]
    meter: TypeMeter,
    arrived: Apart<Mutex<Arrived>>,
    moves: Apart<Mutex<LastMoves>>,
    mesh: Option<Weak<dyn Mesh>>,
    /// How long the entities of a shard that moves may take to stop.
    stop_timeout: Duration,
    /// Notified when there may be room again for messages without a home.
    room: Notify,
    /// What messages fail with, once no entity will have a home.
    abandoned: ArcSwapOption<Failure>,
}

impl ShardRegion {
    pub(crate) fn new(
        entity_type: EntityType,
        runtime: Arc<Runtime>,
        name: String,
        kind: u16,
        settings: &Settings,
        mesh: Option<Weak<dyn Mesh>>,
    ) -> Arc<Self> {
        let (shards, policy) = (entity_type.shards, entity_type.policy);
        #[cfg(feature = "metrics")]
        let messages = entity_type.messages;
        // Without a network every shard is here, from the start and for good.
        let alone = mesh.is_none().then(|| epoch_alone(entity_type.is_stored));
        let store = runtime.store().filter(|_| entity_type.is_stored);
        let logs = store.map(|store| Logs::new(store, &name));
        let mut machine = Region::new(
            shards.get(),
            settings.resolve_messages_max,
            settings.resolve_timeout,
        );
        let mut homes = Vec::new();
        for shard in (0..shards.get()).map(ShardId) {
            homes.push(match alone {
                Some(epoch) => {
                    machine.handle_home(shard, Home::Here(epoch));
                    FastHome::Here
                }
                None => FastHome::Unknown,
            });
        }
        let region = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            runtime,
            name,
            entity_type,
            kind,
            shards,
            homes: Published::new(homes),
            machine: Apart::new(Mutex::new(machine)),
            local: LocalShards::new(shards.get(), alone, policy, logs),
            arrived: Apart::new(Mutex::default()),
            moves: Apart::new(Mutex::default()),
            #[cfg(feature = "metrics")]
            meter: TypeMeter::new(messages),
            mesh,
            stop_timeout: settings.stop_timeout,
            room: Notify::new(),
            abandoned: ArcSwapOption::empty(),
        });
        if policy.passivate_after.is_some() || policy.max_active.is_some() {
            let me = Arc::downgrade(&region);
            let passivate: BoxFuture<'static, ()> =
                Box::pin(idle::passivate(me, policy.passivate_after));
            region.runtime.upkeep().spawn(passivate);
        }
        region
    }

    /// What messages fail with, if no entity will ever have a home.
    fn abandoned(&self) -> Option<Arc<Failure>> {
        self.abandoned.load_full()
    }

    fn path(&self, id: impl ToString) -> ActorPath {
        ActorPath {
            kind: self.name.clone(),
            id: id.to_string(),
        }
    }

    /// The cell of an entity of this node. See [`LocalShards::cell`].
    fn cell<E: Entity>(
        &self,
        shard: ShardId,
        epoch: Option<Epoch>,
        id: &str,
        owned: &dyn Fn() -> EntityId,
        closed: Option<&Arc<Cell<E>>>,
    ) -> Option<Arc<Cell<E>>> {
        let closed = closed.map(|cell| local::address(&**cell));
        let cell = self.local.cell(self, shard, epoch, (id, owned), closed)?;
        // All cells of a region are of its type.
        cell.into_any().downcast().ok()
    }

    /// Closes the shards, and their cells in turn.
    fn close(&self, shards: &[(ShardId, Epoch)], bound: Option<Duration>) -> Drain {
        let (mut draining, mut entities) = (Vec::new(), 0);
        let mut machine = lock(&self.machine);
        for &(shard, expected) in shards {
            if self.local.epoch(shard) != Some(expected) {
                continue;
            }
            let Some((epoch, cells)) = self.local.close(shard) else {
                continue;
            };
            // Messages sent from here on wait for the next owner.
            machine.handle_newer(shard, Epoch(epoch.0 + 1));
            entities += cells.len();
            draining.push(self.drained(shard, epoch, cells, bound));
        }
        if !draining.is_empty() {
            self.publish_homes(&machine);
        }
        Drain { draining, entities }
    }

    /// Closes the cells of a shard in a task of its own. The task goes on even if its result is not
    /// awaited, since other moves wait for its turns.
    fn drained(
        &self,
        shard: ShardId,
        epoch: Epoch,
        cells: Vec<Arc<dyn EntityCell>>,
        bound: Option<Duration>,
    ) -> Draining {
        let (ends, ended) = oneshot::channel();
        let (runtime, kind) = (self.runtime.clone(), self.name.clone());
        self.runtime.spawn(Box::pin(async move {
            stopping::close_all(&runtime, (&kind, shard), cells, bound).await;
            let _ = ends.send(());
        }));
        Box::pin(async move {
            if ended.await.is_err() {
                // The runtime dropped the task: the cells may not have closed.
                std::future::pending::<()>().await;
            }
            (shard, epoch)
        })
    }

    fn link(&self, to: Slot) -> Option<Arc<Link>> {
        self.mesh.as_ref()?.upgrade()?.messages_to(to)
    }

    fn resolve(&self, shard: ShardId) {
        if let Some(mesh) = self.mesh.as_ref().and_then(Weak::upgrade) {
            mesh.resolve(self.kind, shard);
        }
    }

    fn fail(&self, item: Parked, failure: Failure) {
        match item {
            Parked::Own { id, envelope } => {
                envelope.undelivered(&self.runtime, &|| self.path(&id), failure);
            }
            Parked::Raw(frame) => (self.entity_type.fail_frame)(self, frame, failure),
        }
        self.room.notify_waiters();
    }

    /// Says of a message that came encoded that it was not handled.
    fn fail_frame<E: Entity>(&self, frame: ParkedFrame, failure: Failure) {
        let ParkedFrame {
            id,
            payload,
            origin,
            ..
        } = frame;
        let (reply, _credit) = origin.into_reply::<E::Reply>(&self.runtime, &[]);
        let message = codec::variant_name(&payload).unwrap_or("?");
        reply.undelivered(&self.runtime, &|| self.path(&id), message, failure);
    }

    fn carry_out(
        &self,
        machine: &mut Region<Parked>,
        effects: impl IntoIterator<Item = Effect<Parked>>,
    ) {
        for effect in effects {
            match effect {
                Effect::Deliver { shard, epoch, item } => self.deliver(machine, shard, epoch, item),
                Effect::Send {
                    to,
                    epoch,
                    item,
                    shard,
                } => self.send_item(shard, to, epoch, item),
                Effect::Resolve { shard } => {
                    self.resolve(shard);
                }
                // `change_homes` carries these out.
                Effect::Fence { shard, number } => {
                    tracing::error!(%shard, number, "a fence without a change of home");
                }
                Effect::Fail { item } => self.fail(item, Failure::NoQuorum),
            }
        }
    }
}

/// The address of a member that hosts the type on another host than this node.
fn other_host(map: &ClusterMap, kind: &str, me: Option<Slot>) -> Option<SocketAddr> {
    let hosts = map.members.values().filter(|member| {
        let hosts = member.kinds.iter().any(|hosted| hosted == kind);
        hosts && !member.is_gone()
    });
    let here = hosts
        .clone()
        .find(|member| Some(member.slot) == me)?
        .address;
    let mut addresses = hosts.map(|member| member.address);
    addresses.find(|there| !is_same_host(here, *there))
}

/// The epoch of all shards of a system without a network. In a store it has to be later than that
/// of each earlier system on the same store.
fn epoch_alone(is_stored: bool) -> Epoch {
    if !is_stored {
        return Epoch::new(1, 1);
    }
    let now = wall_clock::since_epoch();
    let seconds = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
    Epoch::new(seconds, now.subsec_nanos())
}

fn gone(shard: ShardId) -> Failure {
    Failure::Unreachable {
        node: format!("the owner of shard {shard}"),
        reason: "it is no member any more, or the nodes do not agree on the owner".to_owned(),
        maybe_handled: false,
    }
}

impl AnyRegion for ShardRegion {
    fn catalog_entry(&self) -> CatalogEntry {
        CatalogEntry {
            name: self.name.clone(),
            shards: self.shards.get(),
            fingerprint: xxhash_rust::xxh3::xxh3_64(self.entity_type.schema.as_bytes()),
            copies: None,
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn role(&self) -> Option<&'static str> {
        self.entity_type.role
    }

    fn handle_map(&self, map: &ClusterMap, me: Option<Slot>) {
        let Some(table) = map.kinds.get(&self.name) else {
            return;
        };
        self.sort_parcels(table, me);
        self.local
            .set_other_host(|| other_host(map, &self.name, me));
        let down = map.members.values().filter(|m| m.status == Status::Down);
        let down: Vec<Slot> = down.map(|member| member.slot).collect();
        let mut machine = lock(&self.machine);
        let (mut changed, mut effects, mut taken) = (false, Vec::new(), Vec::new());
        let owners = |slot| {
            let (id, member) = map.by_slot(slot)?;
            Some((&id.node, member.status != Status::Down))
        };
        for (shard, home) in (0..self.shards.get()).map(ShardId).zip(table.iter()) {
            let owner = home.owner;
            let home = match home.owner {
                None => Home::Unknown,
                Some(owner) if Some(owner) == me => {
                    if self.local.is_draining(shard, home.epoch) {
                        continue;
                    }
                    Home::Here(home.epoch)
                }
                // A message to a node that is down waits for the next owner.
                Some(owner) if down.contains(&owner) => Home::Unknown,
                Some(owner) => Home::There(owner, home.epoch),
            };
            if machine.home(shard) == home {
                continue;
            }
            changed = true;
            lock(&self.moves).learn(shard, owner, owners, Instant::now());
            effects.extend(machine.handle_home(shard, home));
            match home {
                Home::Here(epoch) if machine.home(shard) == home => {
                    self.local.open(shard, epoch);
                    self.unpack(shard, epoch);
                    taken.push((shard, epoch));
                }
                // An owner releases a shard only after its entities have stopped. So there are none
                // here, unless this member was declared Down.
                _ => self.local.drop_shard(shard),
            }
        }
        if changed {
            self.change_homes(&mut machine, effects, &taken);
            drop(machine);
            self.wake_moved(&taken);
            self.room.notify_waiters();
        }
    }

    fn inward(self: Arc<Self>) -> Box<dyn Inward> {
        (self.entity_type.incoming)(self)
    }

    fn bounced(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    ) {
        self.handle_bounce(epoch, frame, buffer, pending);
    }

    fn handle_deadline(&self, now: Instant) {
        let mut machine = lock(&self.machine);
        if machine.deadline().is_some_and(|deadline| deadline <= now) {
            let effects = machine.handle_deadline(now);
            self.carry_out(&mut machine, effects);
        }
    }

    fn handle_no_home(&self, shards: &[ShardId], failure: &Failure) {
        let mut machine = lock(&self.machine);
        for &shard in shards {
            for effect in machine.handle_no_home(shard) {
                if let Effect::Fail { item } = effect {
                    self.fail(item, failure.clone());
                }
            }
        }
    }

    fn is_stored(&self) -> bool {
        self.entity_type.is_stored
    }

    fn copies(&self) -> CopyOptions {
        self.entity_type.copies
    }

    fn shard(&self, id: &EntityId) -> ShardId {
        id.shard(self.shards)
    }

    fn logs_in_use(&self) -> Vec<(ShardId, Arc<ShardLog>)> {
        let shards = self.local.ever_here();
        shards
            .filter_map(|shard| Some((shard, self.local.log_in_use(shard)?)))
            .collect()
    }

    #[cfg(feature = "metrics")]
    fn meter(&self) -> &TypeMeter {
        &self.meter
    }

    fn look(&self, id: &EntityId) -> Option<Looked> {
        self.local.look(id.shard(self.shards), id.as_str())
    }

    fn moves_of(&self, shard: ShardId) -> Vec<(Duration, Moved)> {
        lock(&self.moves).of(shard, Instant::now())
    }

    fn look_for(&self, shard: ShardId, busiest: &mut Busiest) {
        self.local.look_for(shard, busiest);
    }

    fn owns(&self, shard: ShardId) -> bool {
        self.local.epoch_of_owner(shard).is_some()
    }

    fn owned_at(&self, shard: ShardId) -> Option<Epoch> {
        self.local.epoch_of_owner(shard)
    }

    fn shards(&self) -> NonZeroU32 {
        self.shards
    }

    fn ownership(&self) -> &Notify {
        self.local.owned()
    }

    fn log(&self, shard: ShardId) -> Result<Arc<ShardLog>, String> {
        self.local.log(shard)
    }

    fn find_owner(&self, shard: ShardId) {
        self.resolve(shard);
    }

    fn active_in(
        &self,
        shard: ShardId,
        after: Option<&EntityId>,
        prefix: &str,
        limit: usize,
    ) -> Vec<EntityId> {
        self.local.active_in(shard, after, prefix, limit)
    }

    fn erase<'a>(
        &'a self,
        shard: ShardId,
        id: &'a EntityId,
    ) -> BoxFuture<'a, Option<Result<bool, StoredError>>> {
        Box::pin(self.erase_entity(shard, id))
    }

    fn waiting(&self) -> Vec<ShardId> {
        lock(&self.machine).waiting()
    }

    fn active(&self) -> u64 {
        self.local.active()
    }

    fn drain(&self, shards: &[(ShardId, Epoch)]) -> Drain {
        self.close(shards, Some(self.stop_timeout))
    }

    #[cfg(feature = "sim")]
    fn open_shards(&self) -> Vec<(ShardId, Epoch)> {
        let open = |shard| Some((shard, self.local.serves(shard)?));
        self.local.ever_here().filter_map(open).collect()
    }

    #[cfg(feature = "sim")]
    fn kept(&self) -> (usize, usize) {
        lock(&self.machine).kept()
    }

    fn migrates(&self) -> bool {
        self.entity_type.migrates
    }

    fn take_parcel(&self, shard: ShardId) -> Parcel {
        self.local.take_frozen(shard)
    }

    fn keep_parcel(&self, shard: ShardId, parcel: Parcel) {
        self.local.set_frozen(shard, parcel);
    }

    fn cannot_move(&self, shard: ShardId) -> Option<(usize, EntityId, String)> {
        self.local.cannot_move(shard)
    }

    fn give_up_stayed(&self, shard: ShardId) {
        Self::give_up_stayed(self, shard);
    }

    fn receive(&self, shard: ShardId, epoch: Epoch, first: bool, part: Vec<Piece>) -> bool {
        self.receive_part(shard, epoch, first, part)
    }

    fn handle_lapse(&self) {
        self.local.wake_handlers();
    }

    fn sever(&self) {
        lock(&self.arrived).clear();
        let mut machine = lock(&self.machine);
        let mut effects = Vec::new();
        for shard in (0..self.shards.get()).map(ShardId) {
            self.local.drop_shard(shard);
            effects.extend(machine.handle_home(shard, Home::Unknown));
        }
        self.change_homes(&mut machine, effects, &[]);
    }

    fn forget_epochs(&self) {
        lock(&self.machine).forget_epochs();
    }

    fn leave(&self) -> BoxFuture<'static, Vec<(ShardId, Epoch)>> {
        let here = |shard| Some((shard, self.local.epoch(shard)?));
        let here: Vec<_> = (0..self.shards.get())
            .map(ShardId)
            .filter_map(here)
            .collect();
        Box::pin(join_all(self.close(&here, None).draining))
    }

    fn abandon(&self, why: &Failure) {
        for shard in (0..self.shards.get()).map(ShardId) {
            self.local.drop_shard(shard);
        }
        {
            let _machine = lock(&self.machine);
            // That the system stops is no news after what keeps it out of its cluster.
            let is_told = matches!(
                self.abandoned.load().as_deref(),
                Some(Failure::NotMember { .. })
            );
            if !is_told {
                self.abandoned.store(Some(Arc::new(why.clone())));
            }
        }
        let all: Vec<_> = (0..self.shards.get()).map(ShardId).collect();
        self.handle_no_home(&all, why);
        let homes = (0..self.shards.get()).map(|_| FastHome::Unknown);
        self.homes.swap(homes.collect());
        self.room.notify_waiters();
    }
}

impl std::fmt::Debug for ShardRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardRegion")
            .field("name", &self.name)
            .field("role", &self.entity_type.role)
            .finish_non_exhaustive()
    }
}
