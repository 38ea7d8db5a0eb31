//! How much each member or store has, of each entity type and of all.

use std::collections::BTreeMap;

/// How many shards or copies of each entity type, and of all, the places of a cluster have: its
/// members, by their slots, or its stores.
#[derive(Debug)]
pub(crate) struct Loads<'a, P> {
    of_kind: BTreeMap<&'a str, BTreeMap<P, usize>>,
    of_all: BTreeMap<P, usize>,
}

impl<P> Default for Loads<'_, P> {
    fn default() -> Self {
        Self {
            of_kind: BTreeMap::new(),
            of_all: BTreeMap::new(),
        }
    }
}

impl<'a, P: Copy + Ord> Loads<'a, P> {
    /// Counts the places of all shards of a type, each as often as it comes. A leader does this for
    /// each shard of a cluster again and again, so that no name is compared for a single one.
    pub(crate) fn add_all(&mut self, kind: &'a str, places: impl IntoIterator<Item = P>) {
        let of_kind = self.of_kind.entry(kind).or_default();
        for place in places {
            *of_kind.entry(place).or_default() += 1;
            *self.of_all.entry(place).or_default() += 1;
        }
    }

    pub(crate) fn add(&mut self, kind: &'a str, place: P) {
        self.add_all(kind, [place]);
    }

    pub(crate) fn take(&mut self, kind: &str, place: P) {
        let of_kind = self.of_kind.get_mut(kind);
        let of_kind = of_kind.and_then(|of_kind| of_kind.get_mut(&place));
        for count in self.of_all.get_mut(&place).into_iter().chain(of_kind) {
            *count = count.saturating_sub(1);
        }
    }

    pub(crate) fn of_kind(&self, kind: &str, place: P) -> usize {
        let of_kind = self.of_kind.get(kind);
        let count = of_kind.and_then(|of_kind| of_kind.get(&place));
        count.copied().unwrap_or(0)
    }

    /// Sort key: the least loaded place first, by shards or copies of the type, then of all.
    pub(crate) fn key(&self, kind: &str, place: P) -> (usize, usize, P) {
        let of_all = self.of_all.get(&place).copied().unwrap_or(0);
        (self.of_kind(kind, place), of_all, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_loaded_of_a_type_comes_first_then_of_all() {
        let mut loads = Loads::default();
        loads.add_all("cart", [1, 1, 2]);
        loads.add("game", 3);
        assert_eq!(loads.key("cart", 1), (2, 2, 1));
        assert_eq!(loads.key("cart", 3), (0, 1, 3));
        assert_eq!(loads.key("none", 4), (0, 0, 4));
        loads.take("cart", 1);
        loads.take("none", 4);
        assert_eq!((loads.of_kind("cart", 1), loads.of_kind("cart", 2)), (1, 1));
        let mut places = [1, 2, 3];
        places.sort_by_key(|place| loads.key("game", *place));
        assert_eq!(places, [1, 2, 3]);
        places.sort_by_key(|place| loads.key("cart", *place));
        assert_eq!(places, [3, 1, 2]);
    }
}
