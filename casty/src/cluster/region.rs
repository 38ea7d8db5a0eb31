//! The region of one entity type on one node: from a proxy to the entity, wherever it lives.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use tokio::{sync::Notify, time::Instant};

use crate::{
    actor::{
        Entity, InitError, Rejected, Route,
        cell::{Cell, CellHost, CellName, Refusal, undecodable, undeliverable},
        context::Context,
        envelope::{Envelope, RemoteReply, ReplyTo},
        reference::EntityRef,
        runtime::Runtime,
    },
    config::Settings,
    error::Failure,
    event::ActorPath,
    id::{CatalogEntry, EntityId, Epoch, ShardId, shard_of},
    message::{
        answer::{Pending, ReplyPath},
        codec,
    },
    protocol::{
        map::{ClusterMap, Slot},
        region::{Effect, Home, Region},
    },
    sync::lock,
    transport::{
        connection::{Credit, Inlet},
        frame::{EntityFrame, Frame},
        link::Link,
    },
};

/// How often a message may be sent back and sent anew before it is given up.
const HOPS_MAX: u8 = 32;

/// What a region needs from the node around it.
pub(crate) trait Mesh: Send + Sync {
    /// The link on which messages go to a member.
    fn messages_to(&self, member: Slot) -> Option<Arc<Link>>;

    /// Somebody waits for a shard's home. Returns at once.
    fn resolve(&self, kind: u16, shard: ShardId);
}

/// A region of any entity type, as the node sees it.
pub(crate) trait AnyRegion: Send + Sync {
    fn catalog_entry(&self) -> CatalogEntry;
    fn name(&self) -> &str;

    /// Takes over where the shards live. `me` is this node's slot, if it hosts.
    fn handle_map(&self, map: &ClusterMap, me: Option<Slot>);

    /// A message from another node.
    fn receive(&self, inlet: &Arc<Inlet>, frame: EntityFrame<'_>, buffer: &Bytes, credit: Credit);

    /// A message that another node did not take.
    fn bounced(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    );

    /// Fails what has waited too long for a home.
    fn handle_deadline(&self, now: Instant);

    /// Nobody will ever give these shards a home.
    fn handle_no_home(&self, shards: &[ShardId], failure: &Failure);

    /// Shards whose home somebody waits for.
    fn waiting(&self) -> Vec<ShardId>;

    /// Entities alive here.
    fn active(&self) -> u64;

    /// Takes no more messages for the shards here, finishes what they have, and names them.
    fn leave(&self) -> BoxFuture<'static, Vec<(ShardId, Epoch)>>;

    /// Forgets everything at once.
    fn abandon(&self);
}

pub(crate) struct ShardRegion<E: Entity> {
    me: Weak<Self>,
    runtime: Arc<Runtime>,
    name: String,
    /// This type's number in the catalog that this node shows its peers.
    kind: u16,
    shards: NonZeroU32,
    /// What senders look at. Rebuilt when a home changes.
    homes: ArcSwap<Vec<FastHome>>,
    machine: Mutex<Region<Item<E>>>,
    local: Box<[Mutex<LocalShard<E>>]>,
    mesh: Option<Weak<dyn Mesh>>,
    /// There may be room again for messages without a home.
    room: Notify,
    active: AtomicU64,
    abandoned: AtomicBool,
}

enum FastHome {
    Unknown,
    Here,
    There(Arc<Link>, Epoch),
}

struct LocalShard<E: Entity> {
    /// While this node owns the shard and lets it take messages.
    epoch: Option<Epoch>,
    cells: HashMap<EntityId, Arc<Cell<E>>>,
}

/// What is routed: a message of this node's, or one that came encoded.
enum Item<E: Entity> {
    Own {
        id: EntityId,
        envelope: Envelope<E>,
    },
    Raw {
        id: EntityId,
        payload: Bytes,
        hops: u8,
        origin: Origin,
    },
}

enum Origin {
    /// Sent by this node before, and sent back.
    Own(Option<Box<dyn Pending>>),
    /// From another node, which believes that the entity is here.
    Peer {
        epoch: Epoch,
        correlation: u64,
        kind: u16,
        inlet: Arc<Inlet>,
        credit: Option<Credit>,
    },
}

/// What a shard here says to an envelope.
enum Local<E: Entity> {
    NotHere(Envelope<E>),
    Full(Envelope<E>, Arc<Cell<E>>),
    Failed(Envelope<E>, Failure),
}

impl<E: Entity> ShardRegion<E> {
    pub(crate) fn new(
        runtime: Arc<Runtime>,
        name: String,
        kind: u16,
        settings: &Settings,
        mesh: Option<Weak<dyn Mesh>>,
    ) -> Arc<Self> {
        let shards = E::SHARDS;
        // Without a network every shard is here, from the start and for good.
        let alone = mesh.is_none().then_some(Epoch::new(1, 1));
        let local = (0..shards.get())
            .map(|_| {
                Mutex::new(LocalShard {
                    epoch: alone,
                    cells: HashMap::new(),
                })
            })
            .collect();
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
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            runtime,
            name,
            kind,
            shards,
            homes: ArcSwap::from_pointee(homes),
            machine: Mutex::new(machine),
            local,
            mesh,
            room: Notify::new(),
            active: AtomicU64::new(0),
            abandoned: AtomicBool::new(false),
        })
    }

    fn path(&self, id: impl ToString) -> ActorPath {
        ActorPath {
            kind: self.name.clone(),
            id: id.to_string(),
        }
    }

    /// Puts an envelope into the mailbox of an entity of this node.
    fn push(
        &self,
        id: impl AsRef<str>,
        shard: ShardId,
        mut envelope: Envelope<E>,
        push: impl Fn(&Arc<Cell<E>>, Envelope<E>) -> Result<(), Refusal<E>>,
    ) -> Result<(), Local<E>> {
        let Some(local) = self.local.get(shard.index()) else {
            return Err(Local::NotHere(envelope));
        };
        let mut local = lock(local);
        if local.epoch.is_none() {
            return Err(Local::NotHere(envelope));
        }
        let id = id.as_ref();
        if let Some(cell) = local.cells.get(id) {
            match push(cell, envelope) {
                Ok(()) => return Ok(()),
                Err(Refusal::Full(envelope)) => return Err(Local::Full(envelope, cell.clone())),
                Err(Refusal::Failing(envelope, failure)) => {
                    return Err(Local::Failed(envelope, failure));
                }
                // It has just ended; a fresh one takes its place.
                Err(Refusal::Closed(back)) => envelope = back,
            }
        }
        let Some(host) = self.me.upgrade() else {
            return Err(Local::NotHere(envelope));
        };
        let id = EntityId::new(id);
        let cell = Cell::new(CellName::Entity(id.clone()), host, E::MAILBOX, None);
        let pushed = push(&cell, envelope);
        if local.cells.insert(id, cell.clone()).is_none() {
            self.active.fetch_add(1, Ordering::Relaxed);
        }
        match pushed {
            Ok(()) => Ok(()),
            Err(Refusal::Full(envelope) | Refusal::Closed(envelope)) => {
                Err(Local::Full(envelope, cell))
            }
            Err(Refusal::Failing(envelope, failure)) => Err(Local::Failed(envelope, failure)),
        }
    }

    /// Sends an envelope of this node's to the owner.
    fn send_remote(
        &self,
        link: &Link,
        epoch: Epoch,
        id: &EntityId,
        envelope: Envelope<E>,
        forced: bool,
    ) -> Result<(), Rejected<E>> {
        let Envelope { message, reply } = envelope;
        let is_ask = !reply.is_nobody();
        let mut reply = Some(reply);
        let sent = codec::with_encoded(&message, |payload| {
            let frame = EntityFrame {
                kind: self.kind,
                hops: 0,
                epoch: epoch.0,
                correlation: 0,
                id: id.as_str(),
                payload,
            };
            let pending = || reply.take().and_then(ReplyTo::into_pending);
            link.send_entity(frame, is_ask, pending, forced)
        });
        let failure = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(codec::EncodeError(reason)) => Failure::Unencodable { reason },
        };
        let reply = reply.unwrap_or(ReplyTo::Nobody);
        Err(Rejected::new(Envelope { message, reply }, failure))
    }

    /// The way for a message whose home is unknown, or was a moment ago.
    fn route(
        &self,
        id: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> Result<(), Rejected<E>> {
        // Effects are carried out under the lock: the order of items is the order of effects.
        let mut machine = lock(&self.machine);
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(Rejected::new(envelope, Failure::Stopped));
        }
        let item = Item::Own {
            id: id.clone(),
            envelope,
        };
        match machine.handle_item(shard, item, Instant::now()) {
            Ok(effect) => {
                self.carry_out(&mut machine, effect);
                Ok(())
            }
            Err(Item::Own { envelope, .. }) => Err(Rejected::new(envelope, Failure::Full)),
            Err(raw @ Item::Raw { .. }) => {
                // Cannot be: what was put in comes out.
                self.fail(raw, Failure::Full);
                Ok(())
            }
        }
    }

    fn carry_out(
        &self,
        machine: &mut Region<Item<E>>,
        effects: impl IntoIterator<Item = Effect<Item<E>>>,
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
                Effect::Fail { item } => self.fail(item, Failure::NoQuorum),
            }
        }
    }

    /// Hands an item to an entity here. It has been accepted before, so it is taken even where a mailbox is full.
    fn deliver(&self, machine: &mut Region<Item<E>>, shard: ShardId, epoch: Epoch, item: Item<E>) {
        let (id, envelope, credit) = match item {
            Item::Own { id, envelope } => (id, envelope, None),
            Item::Raw {
                id,
                payload,
                origin,
                hops,
            } => {
                let (reply, credit) = match origin {
                    Origin::Own(pending) => (pending.map_or(ReplyTo::Nobody, ReplyTo::Relay), None),
                    Origin::Peer {
                        correlation,
                        inlet,
                        credit,
                        kind,
                        epoch: theirs,
                    } => {
                        if theirs < epoch {
                            // It waited here for a home that meanwhile moved on.
                            let frame = EntityFrame {
                                kind,
                                hops,
                                epoch: theirs.0,
                                correlation,
                                id: id.as_str(),
                                payload: &payload,
                            };
                            inlet.send(Frame::Bounce {
                                epoch: epoch.0,
                                frame,
                            });
                            return;
                        }
                        (reply_to(&inlet, correlation), credit)
                    }
                };
                match self.decode(&id, &payload, reply) {
                    Some(envelope) => (id, envelope, credit),
                    None => return,
                }
            }
        };
        let credit = std::cell::Cell::new(credit);
        let pushed = self.push(&id, shard, envelope, |cell, envelope| {
            cell.push_credited(envelope, || Box::new(credit.take()))
        });
        match pushed {
            Ok(()) => {}
            Err(Local::NotHere(envelope)) => {
                // Given up in this moment: it waits for the next owner.
                machine.handle_newer(shard, Epoch(epoch.0 + 1));
                let item = Item::Own { id, envelope };
                match machine.handle_item(shard, item, Instant::now()) {
                    Ok(Some(Effect::Resolve { shard })) => self.resolve(shard),
                    Ok(Some(other)) => {
                        tracing::error!("an item without a home was routed");
                        if let Effect::Fail { item }
                        | Effect::Send { item, .. }
                        | Effect::Deliver { item, .. } = other
                        {
                            self.fail(item, Failure::Stopped);
                        }
                    }
                    Ok(None) => {}
                    Err(item) => self.fail(item, Failure::Full),
                }
            }
            Err(Local::Full(envelope, cell)) => cell.undeliverable(envelope, Failure::Full),
            Err(Local::Failed(envelope, failure)) => {
                undeliverable(&self.runtime, || self.path(&id), envelope, failure);
            }
        }
    }

    fn decode(
        &self,
        id: impl ToString,
        payload: &[u8],
        reply: ReplyTo<E::Reply>,
    ) -> Option<Envelope<E>> {
        match self.runtime.enter(|| codec::decode::<E::Message>(payload)) {
            Ok(message) => Some(Envelope { message, reply }),
            Err(codec::DecodeError(reason)) => {
                let name = codec::variant_name(payload).unwrap_or("?");
                undecodable(
                    &self.runtime,
                    || self.path(id.to_string()),
                    name,
                    reply,
                    reason,
                );
                None
            }
        }
    }

    fn send_item(&self, shard: ShardId, to: Slot, epoch: Epoch, item: Item<E>) {
        match item {
            Item::Raw {
                id,
                payload,
                hops,
                origin:
                    Origin::Peer {
                        correlation,
                        inlet,
                        kind,
                        epoch: theirs,
                        ..
                    },
            } => {
                let frame = EntityFrame {
                    kind,
                    hops,
                    epoch: theirs.0,
                    correlation,
                    id: id.as_str(),
                    payload: &payload,
                };
                inlet.send(Frame::Bounce {
                    epoch: epoch.0,
                    frame,
                });
            }
            Item::Own { id, envelope } => {
                let Some(link) = self.link(to) else {
                    return self.fail(Item::Own { id, envelope }, gone(shard));
                };
                if let Err(Rejected { envelope, failure }) =
                    self.send_remote(&link, epoch, &id, envelope, true)
                {
                    undeliverable(&self.runtime, || self.path(&id), envelope, failure);
                }
            }
            Item::Raw {
                id,
                payload,
                hops,
                origin: Origin::Own(pending),
            } => {
                let Some(link) = self.link(to).filter(|_| hops < HOPS_MAX) else {
                    let origin = Origin::Own(pending);
                    return self.fail(
                        Item::Raw {
                            id,
                            payload,
                            hops,
                            origin,
                        },
                        gone(shard),
                    );
                };
                let frame = EntityFrame {
                    kind: self.kind,
                    hops,
                    epoch: epoch.0,
                    correlation: 0,
                    id: id.as_str(),
                    payload: &payload,
                };
                let is_ask = pending.is_some();
                let mut pending = pending;
                if let Err(failure) = link.send_entity(frame, is_ask, || pending.take(), true) {
                    let origin = Origin::Own(pending);
                    self.fail(
                        Item::Raw {
                            id,
                            payload,
                            hops,
                            origin,
                        },
                        failure,
                    );
                }
            }
        }
    }

    fn link(&self, to: Slot) -> Option<Arc<Link>> {
        self.mesh.as_ref()?.upgrade()?.messages_to(to)
    }

    fn resolve(&self, shard: ShardId) {
        if let Some(mesh) = self.mesh.as_ref().and_then(Weak::upgrade) {
            mesh.resolve(self.kind, shard);
        }
    }

    fn fail(&self, item: Item<E>, failure: Failure) {
        match item {
            Item::Own { id, envelope } => {
                undeliverable(&self.runtime, || self.path(&id), envelope, failure);
            }
            Item::Raw {
                id,
                payload,
                origin,
                ..
            } => {
                let reply: ReplyTo<E::Reply> = match origin {
                    Origin::Own(pending) => pending.map_or(ReplyTo::Nobody, ReplyTo::Relay),
                    Origin::Peer {
                        correlation, inlet, ..
                    } => reply_to(&inlet, correlation),
                };
                if reply.is_nobody() {
                    let message = codec::variant_name(&payload).unwrap_or("?");
                    self.runtime
                        .dead_letter(self.path(&id), message, failure.into());
                } else {
                    reply.fail(failure);
                }
            }
        }
        self.room.notify_waiters();
    }

    fn publish_homes(&self, machine: &Region<Item<E>>) {
        let homes = (0..self.shards.get())
            .map(ShardId)
            .map(|shard| match machine.home(shard) {
                Home::Unknown => FastHome::Unknown,
                Home::Here(_) => FastHome::Here,
                Home::There(to, epoch) => self
                    .link(to)
                    .map_or(FastHome::Unknown, |link| FastHome::There(link, epoch)),
            })
            .collect();
        self.homes.store(Arc::new(homes));
    }
}

fn reply_to<R: crate::actor::Reply>(inlet: &Arc<Inlet>, correlation: u64) -> ReplyTo<R> {
    match correlation {
        0 => ReplyTo::Nobody,
        _ => ReplyTo::Remote(RemoteReply::new(
            inlet.clone() as Arc<dyn ReplyPath>,
            correlation,
        )),
    }
}

fn gone(shard: ShardId) -> Failure {
    Failure::Unreachable {
        node: format!("the owner of shard {shard}"),
        reason: "it is no member any more, or nobody settles on an owner".to_owned(),
        maybe_handled: false,
    }
}

impl<E: Entity> Route<E> for ShardRegion<E> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn shards(&self) -> NonZeroU32 {
        self.shards
    }

    fn try_send(
        &self,
        id: &EntityId,
        shard: ShardId,
        envelope: Envelope<E>,
    ) -> Result<(), Rejected<E>> {
        let homes = self.homes.load();
        match homes.get(shard.index()) {
            Some(FastHome::Here) => match self.push(id, shard, envelope, Cell::push) {
                Ok(()) => Ok(()),
                Err(Local::Full(envelope, _)) => Err(Rejected::new(envelope, Failure::Full)),
                Err(Local::Failed(envelope, failure)) => Err(Rejected::new(envelope, failure)),
                Err(Local::NotHere(envelope)) => self.route(id, shard, envelope),
            },
            Some(FastHome::There(link, epoch)) => {
                self.send_remote(link, *epoch, id, envelope, false)
            }
            Some(FastHome::Unknown) | None => self.route(id, shard, envelope),
        }
    }

    fn send(
        self: Arc<Self>,
        id: EntityId,
        shard: ShardId,
        mut envelope: Envelope<E>,
    ) -> BoxFuture<'static, Result<(), Rejected<E>>> {
        enum Wait<E: Entity> {
            Cell(Arc<Cell<E>>),
            Link(Arc<Link>),
            Region,
        }
        Box::pin(async move {
            loop {
                let room = self.room.notified();
                let wait = match self.homes.load().get(shard.index()) {
                    Some(FastHome::There(link, _)) => Wait::Link(link.clone()),
                    Some(FastHome::Here) => lock(&self.local[shard.index()])
                        .cells
                        .get(&id)
                        .map_or(Wait::Region, |cell| Wait::Cell(cell.clone())),
                    Some(FastHome::Unknown) | None => Wait::Region,
                };
                if let Wait::Cell(cell) = &wait {
                    match cell.push_wait(envelope).await {
                        Ok(()) => return Ok(()),
                        Err(Refusal::Failing(back, failure)) => {
                            return Err(Rejected::new(back, failure));
                        }
                        // Ended while this waited; the next round finds its successor.
                        Err(Refusal::Closed(back) | Refusal::Full(back)) => envelope = back,
                    }
                }
                match self.try_send(&id, shard, envelope) {
                    Err(Rejected {
                        envelope: back,
                        failure: Failure::Full,
                    }) => envelope = back,
                    result => return result,
                }
                match wait {
                    Wait::Cell(_) => {}
                    Wait::Link(link) => link.room().await,
                    Wait::Region => room.await,
                }
            }
        })
    }
}

impl<E: Entity> CellHost<E> for ShardRegion<E> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn kind(&self) -> &str {
        &self.name
    }

    fn address(&self, cell: &Arc<Cell<E>>) -> EntityRef<E> {
        let id = match cell.name() {
            CellName::Entity(id) => id.clone(),
            CellName::Actor(number) => EntityId::new(number.to_string()),
        };
        let route: Arc<dyn Route<E>> = match self.me.upgrade() {
            Some(region) => region,
            None => self.runtime.route::<E>(),
        };
        EntityRef::new(route, id)
    }

    fn init<'a>(&'a self, ctx: &'a mut Context<E>) -> Option<BoxFuture<'a, Result<E, InitError>>> {
        Some(Box::pin(E::init(ctx)))
    }

    fn closed(&self, cell: &Cell<E>) {
        let CellName::Entity(id) = cell.name() else {
            return;
        };
        let Some(local) = self.local.get(id.shard(self.shards).index()) else {
            return;
        };
        let mut local = lock(local);
        if local
            .cells
            .get(id)
            .is_some_and(|present| std::ptr::eq(&raw const **present, cell))
        {
            local.cells.remove(id);
            self.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<E: Entity> AnyRegion for ShardRegion<E> {
    fn catalog_entry(&self) -> CatalogEntry {
        CatalogEntry {
            name: self.name.clone(),
            shards: self.shards.get(),
            fingerprint: xxhash_rust::xxh3::xxh3_64(E::SCHEMA.as_bytes()),
        }
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn handle_map(&self, map: &ClusterMap, me: Option<Slot>) {
        let Some(table) = map.kinds.get(&self.name) else {
            return;
        };
        let mut machine = lock(&self.machine);
        let mut changed = false;
        for (shard, home) in (0..self.shards.get()).map(ShardId).zip(table.iter()) {
            let home = match home.owner {
                None => Home::Unknown,
                Some(owner) if Some(owner) == me => Home::Here(home.epoch),
                Some(owner) => Home::There(owner, home.epoch),
            };
            if machine.home(shard) == home {
                continue;
            }
            changed = true;
            let local = &self.local[shard.index()];
            let effects = machine.handle_home(shard, home);
            let believed = machine.home(shard) == home;
            let orphans = {
                let mut local = lock(local);
                match home {
                    Home::Here(epoch) if believed => {
                        local.epoch = Some(epoch);
                        HashMap::new()
                    }
                    _ => {
                        local.epoch = None;
                        std::mem::take(&mut local.cells)
                    }
                }
            };
            self.active
                .fetch_sub(orphans.len() as u64, Ordering::Relaxed);
            // A shard is released by its owner after its entities have stopped, so there are none here, unless
            // this member was declared down.
            for cell in orphans.into_values() {
                drop(cell.close());
            }
            self.carry_out(&mut machine, effects);
        }
        if changed {
            self.publish_homes(&machine);
            drop(machine);
            self.room.notify_waiters();
        }
    }

    fn receive(&self, inlet: &Arc<Inlet>, frame: EntityFrame<'_>, buffer: &Bytes, credit: Credit) {
        let shard = shard_of(frame.id, self.shards);
        let theirs = Epoch(frame.epoch);
        let credit = std::cell::Cell::new(Some(credit));
        let ours = lock(&self.local[shard.index()]).epoch;
        if ours == Some(theirs) {
            let reply = reply_to(inlet, frame.correlation);
            let Some(envelope) = self.decode(frame.id, frame.payload, reply) else {
                return;
            };
            let pushed = self.push(frame.id, shard, envelope, |cell, envelope| {
                cell.push_credited(envelope, || Box::new(credit.take()))
            });
            match pushed {
                Ok(()) => return,
                Err(Local::Full(envelope, cell)) => {
                    return cell.undeliverable(envelope, Failure::Full);
                }
                Err(Local::Failed(envelope, failure)) => {
                    return undeliverable(&self.runtime, || self.path(frame.id), envelope, failure);
                }
                // Given up in this moment. Its asker is told that it was not handled, by the bounce.
                Err(Local::NotHere(Envelope { reply, .. })) => {
                    if let ReplyTo::Remote(reply) = reply {
                        reply.forget();
                    }
                }
            }
        }
        let id = EntityId::new(frame.id);
        let mut machine = lock(&self.machine);
        let known = match machine.home(shard) {
            Home::Here(epoch) | Home::There(_, epoch) => epoch,
            Home::Unknown => Epoch::ZERO,
        };
        let ahead = theirs > known && !machine.is_past(shard, theirs);
        // The map may have made it ours between the look at the shard and the lock of the machine.
        let here = machine.home(shard) == Home::Here(theirs);
        if !ahead && !here {
            drop(machine);
            inlet.send(Frame::Bounce {
                epoch: known.0,
                frame,
            });
            return;
        }
        // The sender knows more than this node has heard: the message waits for the news.
        let item = Item::Raw {
            id,
            payload: buffer.slice_ref(frame.payload),
            hops: frame.hops,
            origin: Origin::Peer {
                epoch: theirs,
                correlation: frame.correlation,
                kind: frame.kind,
                inlet: inlet.clone(),
                credit: credit.take(),
            },
        };
        match machine.handle_ahead(shard, theirs, item, Instant::now()) {
            Ok(effect) => self.carry_out(&mut machine, effect),
            Err(item) => self.fail(item, Failure::Full),
        }
    }

    fn bounced(
        &self,
        epoch: Epoch,
        frame: EntityFrame<'_>,
        buffer: &Bytes,
        pending: Option<Box<dyn Pending>>,
    ) {
        let id = EntityId::new(frame.id);
        let shard = id.shard(self.shards);
        let item = Item::Raw {
            id,
            payload: buffer.slice_ref(frame.payload),
            hops: frame.hops.saturating_add(1),
            origin: Origin::Own(pending),
        };
        if frame.hops >= HOPS_MAX {
            return self.fail(item, gone(shard));
        }
        let mut machine = lock(&self.machine);
        // Not there at the epoch it was sent with: whatever comes next has a later one. What the peer says it knows
        // is not believed beyond that.
        let known = match machine.home(shard) {
            Home::Here(epoch) | Home::There(_, epoch) => epoch,
            Home::Unknown => Epoch::ZERO,
        };
        tracing::debug!(kind = self.name, %shard, sent = frame.epoch, theirs = %epoch, ours = %known, "sent back");
        let unknown =
            frame.epoch >= known.0 && machine.handle_newer(shard, Epoch(known.0.saturating_add(1)));
        match machine.handle_item(shard, item, Instant::now()) {
            Ok(effect) => self.carry_out(&mut machine, effect),
            Err(item) => self.fail(item, Failure::Full),
        }
        if unknown {
            self.publish_homes(&machine);
        }
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

    fn waiting(&self) -> Vec<ShardId> {
        lock(&self.machine).waiting()
    }

    fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    fn leave(&self) -> BoxFuture<'static, Vec<(ShardId, Epoch)>> {
        let (mut shards, mut closing) = (Vec::new(), Vec::new());
        {
            let mut machine = lock(&self.machine);
            for (shard, local) in (0..).map(ShardId).zip(&self.local) {
                let mut local = lock(local);
                let Some(epoch) = local.epoch.take() else {
                    continue;
                };
                shards.push((shard, epoch));
                // What is sent from here on waits for the next owner.
                machine.handle_newer(shard, Epoch(epoch.0 + 1));
                closing.extend(local.cells.values().map(Cell::close));
            }
            self.publish_homes(&machine);
        }
        Box::pin(async move {
            join_all(closing).await;
            shards
        })
    }

    fn abandon(&self) {
        for shard in (0..self.shards.get()).map(ShardId) {
            let cells = {
                let mut local = lock(&self.local[shard.index()]);
                local.epoch = None;
                std::mem::take(&mut local.cells)
            };
            for cell in cells.into_values() {
                drop(cell.close());
            }
        }
        {
            let _machine = lock(&self.machine);
            self.abandoned.store(true, Ordering::Relaxed);
        }
        let waiting = self.waiting();
        self.handle_no_home(&waiting, &Failure::Stopped);
        self.homes.store(Arc::new(
            (0..self.shards.get()).map(|_| FastHome::Unknown).collect(),
        ));
        self.room.notify_waiters();
    }
}

impl<E: Entity> std::fmt::Debug for ShardRegion<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardRegion")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
