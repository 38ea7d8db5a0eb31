//! The states of a shard's entities on their way to another node: whole, and in pieces.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{EntityId, Epoch};

/// The size of one part of a parcel, about.
const PART_BYTES_MAX: usize = 64 * 1024;

/// The state of an entity without an activation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frozen {
    /// The name of the present state, if the type is a state machine.
    pub(crate) name: String,
    /// Reference counted, so a clone is cheap.
    pub(crate) state: Bytes,
    /// What the activation had begun and takes along, encoded; empty if there is nothing.
    pub(crate) luggage: Bytes,
}

/// The states of a shard's entities.
pub(crate) type Parcel = BTreeMap<EntityId, Frozen>;

/// A piece of one [`Frozen`]: a frame of the transport is limited, a state is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    id: EntityId,
    name: String,
    /// How many bytes the state has. Those of the luggage follow.
    state_bytes: u64,
    /// Where the bytes of this piece begin.
    at: u64,
    bytes: Bytes,
}

impl Piece {
    /// How many bytes of the state, and of its luggage, it has.
    #[cfg(feature = "metrics")]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Frozen {
    fn bytes(&self) -> usize {
        self.state.len() + self.luggage.len()
    }

    /// The piece that begins at `at`, of at most so many bytes.
    fn piece(&self, id: &EntityId, at: usize, bytes_max: usize) -> Piece {
        let (whole, from) = match at.checked_sub(self.state.len()) {
            Some(from) => (&self.luggage, from),
            None => (&self.state, at),
        };
        let to = from.saturating_add(bytes_max).min(whole.len());
        Piece {
            id: id.clone(),
            name: self.name.clone(),
            state_bytes: self.state.len() as u64,
            at: at as u64,
            bytes: whole.slice(from.min(to)..to),
        }
    }
}

/// A parcel in parts of bounded size. A part is made when its turn comes: a shard may be large.
pub(crate) fn parts(parcel: &Parcel) -> impl Iterator<Item = Vec<Piece>> {
    let mut whole = parcel.iter().map(|(id, frozen)| (id, frozen, 0));
    let mut rest = None;
    std::iter::from_fn(move || {
        let (mut part, mut room) = (Vec::new(), PART_BYTES_MAX);
        while room > 0
            && let Some((id, frozen, at)) = rest.take().or_else(|| whole.next())
        {
            let names = id.as_str().len() + frozen.name.len();
            if !part.is_empty() && names >= room {
                rest = Some((id, frozen, at));
                break;
            }
            // Names alone never fill a part.
            let piece = frozen.piece(id, at, room.saturating_sub(names).max(1));
            let end = at + piece.bytes.len();
            room = room.saturating_sub(names + piece.bytes.len());
            part.push(piece);
            if end < frozen.bytes() {
                rest = Some((id, frozen, end));
            }
        }
        (!part.is_empty()).then_some(part)
    })
}

/// A parcel that arrives in parts, before its shard does.
#[derive(Default)]
pub(super) struct Arriving {
    /// The epoch at which the shard leaves its owner.
    pub(super) from: Epoch,
    states: BTreeMap<EntityId, ArrivingState>,
}

struct ArrivingState {
    name: String,
    state_bytes: usize,
    bytes: Vec<u8>,
}

impl Arriving {
    /// Adds the next part. It may come twice, if the answer to the first was lost. `false` if an
    /// earlier part is missing.
    pub(super) fn add(&mut self, from: Epoch, first: bool, part: Vec<Piece>) -> bool {
        if first || self.from != from {
            self.states.clear();
        }
        self.from = from;
        part.into_iter().all(|piece| self.add_piece(piece))
    }

    fn add_piece(&mut self, piece: Piece) -> bool {
        let sizes = (
            usize::try_from(piece.at),
            usize::try_from(piece.state_bytes),
        );
        let (Ok(at), Ok(state_bytes)) = sizes else {
            return false;
        };
        let state = self
            .states
            .entry(piece.id)
            .or_insert_with(|| ArrivingState {
                name: piece.name,
                state_bytes,
                bytes: Vec::new(),
            });
        if at > state.bytes.len() {
            return false;
        }
        state.bytes.truncate(at);
        state.bytes.extend_from_slice(&piece.bytes);
        true
    }

    pub(super) fn into_parcel(self) -> Parcel {
        let whole = |(id, arrived): (EntityId, ArrivingState)| {
            let mut state = Bytes::from(arrived.bytes);
            let luggage = state.split_off(arrived.state_bytes.min(state.len()));
            let name = arrived.name;
            let frozen = Frozen {
                name,
                state,
                luggage,
            };
            (id, frozen)
        };
        self.states.into_iter().map(whole).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(sizes: &[(usize, usize)]) -> Parcel {
        let frozen = |&(state, luggage): &(usize, usize)| Frozen {
            name: "On".to_owned(),
            state: (0..=250).cycle().take(state).collect::<Vec<u8>>().into(),
            luggage: (0..=240).cycle().take(luggage).collect::<Vec<u8>>().into(),
        };
        let names = (0..).map(|n| EntityId::new(format!("{n:04}")));
        names.zip(sizes.iter().map(frozen)).collect()
    }

    fn size(part: &[Piece]) -> usize {
        let size = |piece: &Piece| piece.id.as_str().len() + piece.name.len() + piece.bytes.len();
        part.iter().map(size).sum()
    }

    #[test]
    fn a_parcel_of_any_size_goes_in_parts_of_bounded_size_and_arrives_whole() {
        let quarter = PART_BYTES_MAX / 4;
        let parcel = parcel(&[
            (quarter, 0),
            (0, 0),
            (quarter, quarter),
            (5 * PART_BYTES_MAX, PART_BYTES_MAX + 1),
            (0, 3),
            (1, 1),
        ]);
        let mut arriving = Arriving::default();
        let mut count = 0;
        for (n, part) in parts(&parcel).enumerate() {
            assert!(size(&part) <= PART_BYTES_MAX);
            // The answer to every other part is lost, so that it comes twice.
            for _ in 0..=n % 2 {
                assert!(arriving.add(Epoch(7), n == 0, part.clone()));
            }
            count += 1;
        }
        assert!((7..=9).contains(&count), "{count} parts");
        assert_eq!(arriving.into_parcel(), parcel);
    }

    #[test]
    fn a_part_without_the_ones_before_it_is_refused_and_a_new_beginning_forgets_them() {
        let parcel = parcel(&[(3 * PART_BYTES_MAX, 0)]);
        let all: Vec<_> = parts(&parcel).collect();
        let mut arriving = Arriving::default();
        assert!(!arriving.add(Epoch(7), true, all[1].clone()));
        assert!(arriving.add(Epoch(7), true, all[0].clone()));
        assert!(!arriving.add(Epoch(7), false, all[2].clone()));
        // The shard went somewhere else, and comes from there.
        assert!(!arriving.add(Epoch(8), false, all[1].clone()));
        for (n, part) in all.into_iter().enumerate() {
            assert!(arriving.add(Epoch(9), n == 0, part));
        }
        assert_eq!(arriving.into_parcel(), parcel);
    }
}
