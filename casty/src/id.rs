//! Names of things: nodes, members, entities, shards, epochs.
//!
//! Everything here is a plain value. What the names refer to is decided elsewhere.

use std::{collections::BTreeSet, fmt, net::SocketAddr, num::NonZeroU32, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::infra::{printable::Printable, wall_clock};

/// The longest accepted entity id, in bytes.
pub const ENTITY_ID_BYTES_MAX: usize = 1024;

/// The longest accepted node name, in bytes.
pub const NODE_ID_BYTES_MAX: usize = 255;

/// The name of a node, such as `node-1`. It survives restarts; a running process is a [`MemberId`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(Box<str>);

impl NodeId {
    /// Wraps a name. An empty or overlong name is refused when the system starts, not here.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into().into_boxed_str())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable(&self.0), f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Printable(&self.0), f)
    }
}

/// A run of a node: the start time of its process in milliseconds since the Unix epoch.
///
/// A restarted process has a greater incarnation, and is a new member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The incarnation of a process that starts now, by the system's clock.
    pub fn now() -> Self {
        let millis = wall_clock::since_epoch().as_millis();
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One process in a cluster: a node's name and its incarnation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId {
    /// The node's name.
    pub node: NodeId,
    /// The run of that node.
    pub incarnation: Incarnation,
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.node, self.incarnation)
    }
}

/// Why a text cannot be an entity id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InvalidId {
    /// The id has no characters.
    #[error("an entity id must not be empty")]
    Empty,
    /// The id is longer than [`ENTITY_ID_BYTES_MAX`].
    #[error("an entity id has at most {max} bytes, this one has {bytes}")]
    TooLong {
        /// Length of the refused id in bytes.
        bytes: usize,
        /// The limit, [`ENTITY_ID_BYTES_MAX`].
        max: usize,
    },
}

/// An entity's id within its type: any text of 1 to 1,024 bytes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityId(Arc<str>);

impl EntityId {
    /// Wraps an id. The id is checked when a message is sent, so that making a reference needs no
    /// `Result`.
    pub fn new(id: impl AsRef<str>) -> Self {
        Self(Arc::from(id.as_ref()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a text that is shared.
    pub(crate) fn from_text(text: Arc<str>) -> Self {
        Self(text)
    }

    /// Its text, which is shared.
    pub(crate) fn into_text(self) -> Arc<str> {
        self.0
    }

    /// What a shard writes for itself, among the records of its entities.
    pub(crate) fn of_shard() -> Self {
        Self(Arc::from(""))
    }

    /// Whether it is no entity's: see [`of_shard`](Self::of_shard).
    pub(crate) fn is_of_shard(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks whether the id is valid.
    ///
    /// # Errors
    /// [`InvalidId`] for an empty or overlong id.
    pub fn check(&self) -> Result<(), InvalidId> {
        match self.0.len() {
            0 => Err(InvalidId::Empty),
            bytes if bytes > ENTITY_ID_BYTES_MAX => Err(InvalidId::TooLong {
                bytes,
                max: ENTITY_ID_BYTES_MAX,
            }),
            _ => Ok(()),
        }
    }

    /// The shard of this id, out of `shards`.
    ///
    /// `xxh3_64(id) % shards`. The formula is frozen, so that clients in every language compute the
    /// same shard.
    pub fn shard(&self, shards: NonZeroU32) -> ShardId {
        shard_of(&self.0, shards)
    }
}

/// The type of the ids of an entity: `#[entity(id = AccountId)]`. Without that option it is
/// [`EntityId`], any text.
///
/// Any type that is written as text and read back is such an id: it implements `Display` and
/// `FromStr`, and what the one writes the other reads. A number is one. The text is what travels,
/// decides the shard, and is shown in logs.
///
/// ```standalone_crate
/// use casty::{id::EntityId, prelude::*};
///
/// #[derive(Default)]
/// struct Account {
///     cents: i64,
/// }
///
/// #[entity(id = u64, name = "docs/numbered-account")]
/// impl Account {
///     #[message]
///     fn number(&self, ctx: &mut Context<Self>) -> u64 {
///         ctx.entity_id()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let system = ActorSystem::local("app");
/// let account = system.entity::<Account>(42);
/// assert_eq!(account.number().await, Ok(42));
/// assert_eq!(account.entity_id(), 42);
/// # }
/// ```
pub trait Id: Sized {
    /// The id as text.
    fn to_entity_id(&self) -> EntityId;

    /// Reads the text.
    ///
    /// # Errors
    /// The reason why the text is no such id.
    fn from_entity_id(id: &EntityId) -> Result<Self, String>;
}

impl Id for EntityId {
    fn to_entity_id(&self) -> EntityId {
        self.clone()
    }

    fn from_entity_id(id: &EntityId) -> Result<Self, String> {
        Ok(id.clone())
    }
}

impl<T> Id for T
where
    T: fmt::Display + FromStr,
    T::Err: fmt::Display,
{
    fn to_entity_id(&self) -> EntityId {
        EntityId::new(self.to_string())
    }

    fn from_entity_id(id: &EntityId) -> Result<Self, String> {
        id.as_str()
            .parse()
            .map_err(|error: T::Err| error.to_string())
    }
}

/// A value that names an entity whose ids are of type `I`: any text where that is [`EntityId`], and
/// else an `I` itself, or a reference to one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no id of this entity: its ids are of type `{I}`",
    label = "not an `{I}`",
    note = "the type of the ids stands above the entity, `#[entity(id = ..)]`; without it, any text is an id"
)]
pub trait IntoId<I> {
    /// The id as text.
    fn into_entity_id(self) -> EntityId;
}

impl<T: AsRef<str>> IntoId<EntityId> for T {
    fn into_entity_id(self) -> EntityId {
        EntityId::new(self)
    }
}

impl<T> IntoId<T> for T
where
    T: Id + FromStr,
{
    fn into_entity_id(self) -> EntityId {
        self.to_entity_id()
    }
}

impl<T> IntoId<T> for &T
where
    T: Id + FromStr,
{
    fn into_entity_id(self) -> EntityId {
        self.to_entity_id()
    }
}

/// See [`EntityId::shard`].
pub(crate) fn shard_of(id: &str, shards: NonZeroU32) -> ShardId {
    let hash = xxhash_rust::xxh3::xxh3_64(id.as_bytes());
    #[expect(clippy::cast_possible_truncation, reason = "the remainder of a u32")]
    let shard = (hash % u64::from(shards.get())) as u32;
    ShardId(shard)
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for EntityId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for EntityId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for EntityId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl From<&EntityId> for EntityId {
    fn from(id: &EntityId) -> Self {
        id.clone()
    }
}

impl Serialize for EntityId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EntityId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = Self(Arc::from(String::deserialize(deserializer)?));
        id.check().map_err(D::Error::custom)?;
        Ok(id)
    }
}

/// One of the parts that the entities of a type are divided into; a shard has one owner at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u32);

impl ShardId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a shard's ownership: the number of the cluster's generation in the upper 32 bits,
/// the founder of that generation in the next 16, and a sequence number in the rest. Epochs only
/// grow, and none is used twice. A message or a write with an older epoch is refused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Before any ownership.
    pub const ZERO: Self = Self(0);

    /// Composes an epoch.
    pub fn new(generation: u32, sequence: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(sequence))
    }

    /// The number of the generation of its assignment, or a later one: see
    /// [`in_generation`](Self::in_generation).
    pub(crate) fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The epoch of an assignment in this generation, by its number in order. After 65,536
    /// assignments the upper half grows by one, so the founder's bits stay as they are. A
    /// generation's number is a time in seconds, and there are fewer assignments than that in a
    /// second, so no later generation has fallen behind.
    pub(crate) fn in_generation(generation: Generation, sequence: u32) -> Self {
        let upper = generation.number().saturating_add(sequence >> 16);
        let founder = u32::from(generation.founder());
        Self::new(upper, founder << 16 | sequence & 0xffff)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// A process in no cluster, by its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seeker {
    /// The address for peers.
    pub(crate) address: SocketAddr,
    /// The seekers that it knows, itself included. Empty before all its seeds have answered, and if
    /// it votes for a founder.
    pub(crate) known: BTreeSet<SocketAddr>,
    /// Its vote for a founder, once it has voted.
    #[serde(default)]
    pub(crate) vote: Option<FounderVote>,
}

/// A seeker's vote for the process that is to found the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FounderVote {
    pub(crate) founder: SocketAddr,
    /// How many votes the founder needs, by the voter's settings.
    pub(crate) expect: u32,
}

/// What a seeker tells of itself to each process that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeekerState {
    pub(crate) known: BTreeSet<SocketAddr>,
    pub(crate) vote: Option<FounderVote>,
}

/// A member that votes on the cluster map, and where it listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Voter {
    pub(crate) member: MemberId,
    pub(crate) address: SocketAddr,
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.member.fmt(f)
    }
}

/// The life of a cluster between two recoveries: a number that grows, and who began it.
///
/// Two members may each begin a generation at once, under the same number. The founder tells them
/// apart, and orders them: the lesser one ends. For a founder of a generation that was itself begun
/// by a recovery, the bits of the founder are its slot mixed with that generation: two generations
/// may have given one slot to two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Generation(u64);

impl Generation {
    /// `founder`: the slot that the founder had in the generation before; 0 in the first one.
    pub(crate) fn new(number: u32, founder: u16) -> Self {
        Self(u64::from(number) << 16 | u64::from(founder))
    }

    /// The generation that the member of this slot begins after this one. Members of one generation
    /// begin different ones.
    pub(crate) fn begun_by(self, slot: u16, number: u32) -> Self {
        let before = match self.founder() {
            0 => 0,
            _ => (xxhash_rust::xxh3::xxh3_64(&self.0.to_le_bytes()) & 0xffff) as u16,
        };
        Self::new(number, slot ^ before)
    }

    pub(crate) fn number(self) -> u32 {
        u32::try_from(self.0 >> 16).unwrap_or(u32::MAX)
    }

    pub(crate) fn founder(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())?;
        match self.founder() {
            0 => Ok(()),
            founder => write!(f, ".{founder}"),
        }
    }
}

/// Identifies a cluster beyond its name: two clusters that share a name by chance never merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterIdentity {
    pub(crate) uuid: uuid::Uuid,
    /// Grows when the cluster is recovered.
    pub(crate) generation: Generation,
}

/// One entity type that a node hosts, as it reports it to other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogEntry {
    pub(crate) name: String,
    pub(crate) shards: u32,
    /// Hash of the messages, arguments and replies. It detects nodes with different versions of the
    /// type.
    pub(crate) fingerprint: u64,
    /// How it is kept in copies, if it is.
    #[serde(default)]
    pub(crate) copies: Option<CopySettings>,
}

/// How many copies the shards of an entity type have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CopySettings {
    /// So many, or as many as there are stores. At least 1, and at most [`COPIES_MAX`].
    pub(crate) copies: u8,
    /// So many of them must have what is let out, in a cluster of more than two nodes.
    pub(crate) copies_min: u8,
}

/// What a role that names the zone of its node begins with.
const ZONE: &str = "zone:";

/// The zones that these roles name: at most one, in a node that has started.
pub(crate) fn zones(roles: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    roles.iter().filter_map(|role| role.strip_prefix(ZONE))
}

/// What an entity type says itself of its copies. The rest is for each node to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CopyOptions {
    pub(crate) copies: Option<u8>,
    pub(crate) copies_min: Option<u8>,
}

impl CopyOptions {
    /// These, and where they say nothing, the others.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            copies: self.copies.or(others.copies),
            copies_min: self.copies_min.or(others.copies_min),
        }
    }
}

/// The most copies of a shard.
pub(crate) const COPIES_MAX: u8 = 7;

impl CopySettings {
    /// These, but for what a type says itself.
    pub(crate) fn with(self, options: CopyOptions) -> Self {
        Self {
            copies: options.copies.unwrap_or(self.copies),
            copies_min: options.copies_min.unwrap_or(self.copies_min),
        }
    }

    /// The number of copies, within the bounds.
    pub(crate) fn most(self) -> usize {
        usize::from(self.copies.clamp(1, COPIES_MAX))
    }

    /// How many of them must have what is let out: no more than there are to be.
    pub(crate) fn min(self) -> u8 {
        self.copies_min.clamp(1, self.copies.clamp(1, COPIES_MAX))
    }
}

impl fmt::Display for CopySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copies, copies_min } = self;
        write!(f, "{copies} copies, at least {copies_min}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shard_of_an_id_is_frozen() {
        let shards = NonZeroU32::new(1000).unwrap();
        // Computed once with the reference implementation of XXH3; a change breaks every client.
        assert_eq!(xxhash_rust::xxh3::xxh3_64(b""), 0x2d06_8005_38d3_94c2);
        let of = |id: &str| EntityId::new(id).shard(shards).0;
        assert_eq!(
            u64::from(of("alice")),
            xxhash_rust::xxh3::xxh3_64(b"alice") % 1000
        );
    }

    #[test]
    fn ids_are_checked() {
        assert_eq!(EntityId::new("").check(), Err(InvalidId::Empty));
        assert_eq!(EntityId::new("a".repeat(1024)).check(), Ok(()));
        assert!(matches!(
            EntityId::new("a".repeat(1025)).check(),
            Err(InvalidId::TooLong { bytes: 1025, .. })
        ));
    }

    #[test]
    fn epochs_order_by_generation_first() {
        assert!(Epoch::new(2, 0) > Epoch::new(1, u32::MAX));
        assert_eq!(Epoch::new(7, 9).to_string(), "7.9");
    }

    #[test]
    fn generations_begun_at_one_time_differ_by_founder_and_by_the_generation_before() {
        let first = Generation::new(7, 0);
        assert_eq!(first.begun_by(2, 9), Generation::new(9, 2));
        let [one, other] = [1, 2].map(|slot| first.begun_by(slot, 8));
        for slot in 1..100 {
            let next = one.begun_by(slot, 9);
            assert_eq!(next.number(), 9);
            assert_ne!(next, other.begun_by(slot, 9), "slot {slot}");
            for further in slot + 1..100 {
                assert_ne!(next, one.begun_by(further, 9), "{slot}, {further}");
            }
        }
    }

    #[test]
    fn generations_of_one_number_are_ordered_by_founder_and_share_no_epoch() {
        let (one, other) = (Generation::new(7, 1), Generation::new(7, 2));
        assert!(one < other && other < Generation::new(8, 0));
        assert_eq!((other.number(), other.founder()), (7, 2));
        assert_eq!(
            [one, Generation::new(7, 0)].map(|g| g.to_string()),
            ["7.1", "7"]
        );
        let mut last = Epoch::ZERO;
        for sequence in [0, 1, 9, 0xffff, 0x1_0000, 0x2_0001] {
            let epoch = Epoch::in_generation(one, sequence);
            assert!(epoch > last, "epochs only grow");
            // The founder's bits differ whatever the sequences are.
            assert_eq!(epoch.0 >> 16 & 0xffff, 1);
            assert_eq!(Epoch::in_generation(other, sequence).0 >> 16 & 0xffff, 2);
            last = epoch;
        }
    }
}
