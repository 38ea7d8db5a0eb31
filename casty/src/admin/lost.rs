//! Shards all of whose copies are lost: what is given up with them, and how they go on.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::{Admin, AdminError, MapVersion, PAUSE, ROUND, view::View};
use crate::{
    cluster::peers::wire::{Answer, Call},
    id::{Epoch, NodeId, ShardId},
    infra::boxed::{Boxed, boxed},
    persistence::replicated::HeldCopy,
    protocol::{
        copies::{StoreId, StoreNo},
        map::{Beginning, COPY_CHANGES_MAX, Command, NewLife},
        placement,
    },
    transport::link::Peer,
};

/// The shards of which every store in sync is gone, by the most advanced map that a node showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostShards {
    /// The map that the report was read from.
    pub map: MapVersion,
    /// The entity types that are kept in copies and were asked for, in the order of their names.
    pub kinds: Vec<LostKind>,
    /// Nodes that did not answer in time. They may have copies that are not listed.
    pub silent: Vec<String>,
}

/// The lost shards of one entity type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostKind {
    /// The wire name of the type.
    pub name: String,
    /// How many shards it has.
    pub shards: usize,
    /// Those that are lost, in their order.
    pub lost: Vec<LostShard>,
}

/// A shard that waits for stores of which none is there. The first that is back is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostShard {
    /// Which shard of its type.
    pub shard: ShardId,
    /// The epoch of its last owner. Serialized as text: it has more digits than JSON readers keep.
    #[serde(serialize_with = "as_text")]
    pub epoch: Epoch,
    /// The nodes that had all that was acknowledged.
    pub waits_for: Vec<GoneNode>,
    /// What present nodes have of it, the latest first. All of it is out of date: such a copy lacks
    /// the last records, or all but a few.
    pub copies: Vec<OldCopy>,
    #[serde(skip)]
    set_version: u64,
}

/// A node whose store is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct GoneNode {
    /// Its name. The node may be back with another store.
    pub node: NodeId,
    /// For how many milliseconds, at least: as long as one of the nodes that answered has known it.
    /// `None` if none of them says so.
    pub gone_for: Option<u64>,
}

/// A copy that is not in sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OldCopy {
    /// The node that has it.
    pub node: NodeId,
    /// How many records it has, those included that were forgotten.
    pub records: u64,
    /// The epoch of the last one.
    #[serde(serialize_with = "as_text")]
    pub epoch: Epoch,
    /// When that was written: milliseconds since the Unix epoch. `None` if it cannot be read.
    pub at: Option<u64>,
    #[serde(skip)]
    store: StoreId,
}

/// What lost shards begin anew with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BeginFrom {
    /// The latest of the copies that are listed: by epoch, then by the number of records. Shards
    /// without one stay as they are.
    Best,
    /// The copy of this node. Shards of which it has none stay as they are.
    Node(NodeId),
    /// Nothing, even where there is a copy.
    Empty,
}

/// Shards that go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BegunAnew {
    /// The map in which they do, or a later one.
    pub map: MapVersion,
    /// By entity type.
    pub begun: BTreeMap<String, Vec<BegunShard>>,
    /// The shards that are as they were: there is no copy to begin with, or one of their stores has
    /// come back meanwhile.
    pub left: BTreeMap<String, Vec<ShardId>>,
}

/// A shard whose log has begun anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BegunShard {
    /// Which shard of its type.
    pub shard: ShardId,
    /// The node whose copy it goes on with. `None`: it is empty.
    pub from: Option<NodeId>,
    /// How many records that had when it was looked at.
    pub records: u64,
}

// serde calls it with a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn as_text<S: Serializer>(epoch: &Epoch, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(epoch)
}

impl LostShards {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kinds.iter().all(|kind| kind.lost.is_empty())
    }
}

impl Admin {
    /// The shards that are lost: each waits for stores that are all gone, and says for which. With
    /// them the copies that present nodes have, which are out of date. `kind`: the wire name of an
    /// entity type, or all types; `shards`: the numbers of some shards, or all if empty.
    ///
    /// # Errors
    /// [`AdminError::NotInCopies`], [`AdminError::UnknownShard`], and those of
    /// [`members`](Self::members).
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn lost(&self, kind: Option<&str>, shards: &[u32]) -> Result<LostShards, AdminError> {
        let view = self.look(self.timeout).await?;
        let mut lost = view.lost(kind, shards)?;
        self.ask_for_copies(&view, &mut lost).await;
        Ok(lost)
    }

    /// The last resort: gives up what is lost with these shards, and lets them go on, from the next
    /// epoch on, with what `from` says. What their stores alone had is gone for good, whatever
    /// comes back of them later; and the number of copies that must have what is acknowledged falls
    /// as if those nodes had left. A shard of which a store has come back since `lost` was read
    /// stays as it is.
    ///
    /// ```no_run
    /// # async fn go_on(admin: casty::admin::Admin) -> Result<(), casty::admin::AdminError> {
    /// use casty::admin::BeginFrom;
    ///
    /// let lost = admin.lost(Some("Account"), &[]).await?;
    /// for shard in lost.kinds.iter().flat_map(|kind| &kind.lost) {
    ///     println!("shard {}: {:?}", shard.shard, shard.copies);
    /// }
    /// admin.begin_anew(&lost, BeginFrom::Best).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AdminError::NothingLost`], [`AdminError::NoOldCopy`], [`AdminError::Refused`] if none of
    /// the shards is as it was any more, [`AdminError::NoLeader`], and those of
    /// [`members`](Self::members).
    ///
    /// # Cancel safety
    /// If the future is dropped, the shards may begin anew all the same.
    pub async fn begin_anew(
        &self,
        lost: &LostShards,
        from: BeginFrom,
    ) -> Result<BegunAnew, AdminError> {
        self.beginning(lost, from).await
    }

    fn beginning<'a>(
        &'a self,
        lost: &'a LostShards,
        from: BeginFrom,
    ) -> Boxed<'a, Result<BegunAnew, AdminError>> {
        boxed(self.have_begun(lost, from))
    }

    async fn have_begun(
        &self,
        lost: &LostShards,
        from: BeginFrom,
    ) -> Result<BegunAnew, AdminError> {
        if lost.is_empty() {
            return Err(AdminError::NothingLost);
        }
        let view = self.look(self.timeout).await?;
        let commands = commands(&view, lost, &from);
        if commands.is_empty() {
            let from = match from {
                BeginFrom::Node(node) => Some(node),
                _ => None,
            };
            return Err(AdminError::NoOldCopy { from });
        }
        let (mut decided, mut refused) = (0, None);
        for command in commands.clone() {
            match self.propose(&view, command, self.timeout).await {
                Ok(version) => decided = decided.max(version),
                Err(error) => {
                    let error = AdminError::from(error);
                    if !matches!(error, AdminError::Refused { .. }) {
                        return Err(error);
                    }
                    refused.get_or_insert(error);
                }
            }
        }
        if decided == 0
            && let Some(refused) = refused
        {
            return Err(refused);
        }
        let until = Instant::now() + self.timeout;
        let generation = view.version().generation;
        loop {
            // A node that has not heard of it yet may be the only one that answers this time.
            match self.look(ROUND.min(self.timeout)).await {
                Ok(now) if now.version().version >= decided => {
                    return Ok(now.begun(lost, &commands));
                }
                Ok(now) if now.version().generation > generation => {
                    return Ok(now.begun(lost, &commands));
                }
                Ok(_) | Err(_) if Instant::now() < until => {}
                Ok(_) => {
                    let reason = "the change is decided, and no node shows it yet".to_owned();
                    return Err(AdminError::NoLeader { reason });
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep_until(until.min(Instant::now() + PAUSE)).await;
        }
    }

    /// Asks the present nodes what they have of the lost shards.
    async fn ask_for_copies(&self, view: &View, lost: &mut LostShards) {
        let mut asking = Vec::new();
        for (at, kind) in lost.kinds.iter().enumerate() {
            let shards: Vec<ShardId> = kind.lost.iter().map(|lost| lost.shard).collect();
            for shards in shards.chunks(COPY_CHANGES_MAX) {
                for (node, store, peer) in view.stores_of(&kind.name) {
                    let call = Call::Held {
                        kind: kind.name.clone(),
                        shards: shards.to_vec(),
                    };
                    asking.push(async move {
                        let answer = self.peers.call(&peer, call, self.timeout).await;
                        (at, node, store, answer)
                    });
                }
            }
        }
        for (at, node, store, answer) in join_all(asking).await {
            let Ok(Answer::Held(Ok(held))) = answer else {
                let name = node.to_string();
                if !lost.silent.contains(&name) {
                    lost.silent.push(name);
                }
                continue;
            };
            let Some(kind) = lost.kinds.get_mut(at) else {
                continue;
            };
            for HeldCopy { shard, last, at } in held {
                if let Some(lost) = kind.lost.iter_mut().find(|lost| lost.shard == shard) {
                    lost.copies.push(OldCopy {
                        node: node.clone(),
                        records: last.position,
                        epoch: last.epoch,
                        at,
                        store,
                    });
                }
            }
        }
        for lost in lost.kinds.iter_mut().flat_map(|kind| &mut kind.lost) {
            lost.copies.sort_by(|a, b| {
                let latest = (b.epoch, b.records).cmp(&(a.epoch, a.records));
                latest.then_with(|| a.node.cmp(&b.node))
            });
        }
    }
}

impl LostShard {
    fn copy(&self, from: &BeginFrom) -> Option<&OldCopy> {
        match from {
            BeginFrom::Best => self.copies.first(),
            BeginFrom::Node(node) => self.copies.iter().find(|copy| copy.node == *node),
            BeginFrom::Empty => None,
        }
    }
}

/// What is to be proposed.
fn commands(view: &View, lost: &LostShards, from: &BeginFrom) -> Vec<Command> {
    let mut commands = Vec::new();
    for kind in &lost.kinds {
        let lives: Vec<NewLife> = if *from == BeginFrom::Empty {
            placement::empty_lives(view.map(), &kind.name, |shard, places| {
                let version = places.in_sync.version();
                let mut listed = kind.lost.iter();
                listed.any(|lost| lost.shard == shard && lost.set_version == version)
            })
        } else {
            let of_copy = |lost: &LostShard| {
                Some(NewLife {
                    shard: lost.shard,
                    epoch: lost.epoch,
                    set_version: lost.set_version,
                    begins: Beginning::Kept(lost.copy(from)?.store),
                })
            };
            kind.lost.iter().filter_map(of_copy).collect()
        };
        let lives = lives.chunks(COPY_CHANGES_MAX);
        commands.extend(lives.map(|lives| Command::BeginAnew {
            kind: kind.name.clone(),
            lives: lives.to_vec(),
        }));
    }
    commands
}

impl View {
    /// The lost shards, without the copies that present nodes have.
    fn lost(&self, kind: Option<&str>, shards: &[u32]) -> Result<LostShards, AdminError> {
        let map = self.map();
        if let Some(kind) = kind {
            let Some(copies) = map.copies.get(kind) else {
                return Err(AdminError::NotInCopies {
                    kind: kind.to_owned(),
                    kinds: map.copies.keys().cloned().collect(),
                });
            };
            let known = copies.shards.len();
            let unknown = |shard: &&u32| ShardId(**shard).index() >= known;
            if let Some(shard) = shards.iter().find(unknown) {
                return Err(AdminError::UnknownShard {
                    kind: kind.to_owned(),
                    shard: *shard,
                    shards: known,
                });
            }
        }
        let is_asked = |name: &&String| kind.is_none_or(|kind| kind == name.as_str());
        let kinds = map.copies.keys().filter(is_asked).map(|name| {
            let asked = |shard: ShardId| shards.is_empty() || shards.contains(&shard.0);
            let lost = map.lost(name).filter(|(shard, ..)| asked(*shard));
            let lost = lost.map(|(shard, home, places)| LostShard {
                shard,
                epoch: home.epoch,
                waits_for: places
                    .in_sync
                    .stores()
                    .filter_map(|it| self.gone(it))
                    .collect(),
                copies: Vec::new(),
                set_version: places.in_sync.version(),
            });
            LostKind {
                name: name.clone(),
                shards: map.copies[name].shards.len(),
                lost: lost.collect(),
            }
        });
        Ok(LostShards {
            map: self.version(),
            kinds: kinds.collect(),
            silent: self.silent(),
        })
    }

    fn gone(&self, store: StoreNo) -> Option<GoneNode> {
        let holder = &self.map().stores.get(&store)?.holder;
        Some(GoneNode {
            node: holder.node.clone(),
            gone_for: self.gone_for(holder),
        })
    }

    /// The stores that could have a copy of shards of a type, and the processes that have them.
    fn stores_of(&self, kind: &str) -> Vec<(NodeId, StoreId, Peer)> {
        let map = self.map();
        let places = map.stores.values();
        let there = places.filter_map(|place| {
            let member = map.member(&place.holder)?;
            let peer = Peer {
                address: member.address,
                member: Some(place.holder.clone()),
            };
            let hosts = map.hosts(&place.holder, kind);
            hosts.then(|| (place.holder.node.clone(), place.id, peer))
        });
        there.collect()
    }

    /// What became of the lost shards.
    fn begun(&self, lost: &LostShards, commands: &[Command]) -> BegunAnew {
        let (mut begun, mut left) = (BTreeMap::new(), BTreeMap::new());
        for kind in &lost.kinds {
            let lives = commands.iter().flat_map(|command| match command {
                Command::BeginAnew { kind: of, lives } if *of == kind.name => &lives[..],
                _ => &[],
            });
            let lives: BTreeMap<ShardId, &NewLife> = lives.map(|life| (life.shard, life)).collect();
            let places = self.map().copies.get(&kind.name);
            for lost in &kind.lost {
                let places = places.and_then(|copies| copies.shards.get(lost.shard.index()));
                let has_begun = places.is_some_and(|places| places.life.after >= lost.epoch);
                let Some(life) = lives.get(&lost.shard).filter(|_| has_begun) else {
                    let left: &mut Vec<_> = left.entry(kind.name.clone()).or_default();
                    left.push(lost.shard);
                    continue;
                };
                let copy = lost.copies.iter().find(
                    |copy| matches!(life.begins, Beginning::Kept(store) if store == copy.store),
                );
                let begun: &mut Vec<_> = begun.entry(kind.name.clone()).or_default();
                begun.push(BegunShard {
                    shard: lost.shard,
                    from: copy.map(|copy| copy.node.clone()),
                    records: copy.map_or(0, |copy| copy.records),
                });
            }
        }
        BegunAnew {
            map: self.version(),
            begun,
            left,
        }
    }
}

impl GoneNode {
    /// For how long at least, if that is known.
    pub fn gone_for(&self) -> Option<Duration> {
        self.gone_for.map(Duration::from_millis)
    }
}
