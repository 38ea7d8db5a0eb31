//! The entities of a type that have handled most lately.
//!
//! One handler of so many is timed, and its entity counted, in a bounded number of places: an
//! entity that finds none takes that of the entity with the fewest handlers, and goes on from
//! there. So an entity that has more than its share of all handlers has a place, and its count is
//! too high by a number that is known (Metwally, Agrawal and El Abbadi, "Efficient Computation of
//! Frequent and Top-k Elements in Data Streams", 2005).

use std::time::Duration;

use crate::{id::EntityId, infra::coarse::millis_since};

/// How many entities are counted at a time.
const PLACES: usize = 32;

/// For how long handlers are counted, in milliseconds, before the counts begin anew.
const WINDOW: u32 = 10_000;

/// The entities that have handled most, in the present time and in the one before.
#[derive(Debug, Default)]
pub(crate) struct HotEntities {
    present: Window,
    /// Complete.
    before: Window,
}

#[derive(Debug, Default)]
struct Window {
    begun: u32,
    places: Vec<HotPlace>,
}

#[derive(Debug)]
struct HotPlace {
    id: EntityId,
    handlers: u64,
    /// Those of `handlers` that may be another entity's.
    doubtful: u64,
    micros: u64,
}

/// An entity that has handled much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HotEntity {
    pub(crate) id: EntityId,
    /// How many of its handlers were timed, at least.
    pub(crate) handlers: u64,
    /// How long those took together, at least.
    pub(crate) took: Duration,
}

impl HotPlace {
    fn new(id: &EntityId, doubtful: u64, micros: u64) -> Self {
        Self {
            id: id.clone(),
            handlers: doubtful + 1,
            doubtful,
            micros,
        }
    }
}

impl HotEntities {
    /// A handler of this entity was timed. `now`: in milliseconds, on a clock that may wrap.
    pub(crate) fn took(&mut self, id: &EntityId, took: Duration, now: u32) {
        self.turn(now);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let places = &mut self.present.places;
        if let Some(place) = places.iter_mut().find(|place| place.id == *id) {
            place.handlers += 1;
            place.micros = place.micros.saturating_add(micros);
        } else if places.len() < PLACES {
            places.push(HotPlace::new(id, 0, micros));
        } else if let Some(fewest) = places.iter_mut().min_by_key(|place| place.handlers) {
            *fewest = HotPlace::new(id, fewest.handlers, micros);
        }
    }

    fn turn(&mut self, now: u32) {
        if millis_since(now, self.present.begun) < WINDOW {
            return;
        }
        let next = Window {
            begun: now,
            places: Vec::new(),
        };
        self.before = std::mem::replace(&mut self.present, next);
    }

    /// The entities that have handled most, and for how long they were counted: in the last
    /// complete time, or in the present one if there was none.
    pub(crate) fn hottest(&self, now: u32) -> (Duration, Vec<HotEntity>) {
        let since = |window: &Window| millis_since(now, window.begun);
        let (window, millis) = if since(&self.present) >= WINDOW {
            // Nothing was timed for a while.
            (&self.present, since(&self.present))
        } else if self.before.places.is_empty() {
            (&self.present, since(&self.present))
        } else {
            let millis = self.present.begun.wrapping_sub(self.before.begun);
            (&self.before, millis)
        };
        let sure = |place: &HotPlace| HotEntity {
            id: place.id.clone(),
            handlers: place.handlers - place.doubtful,
            took: Duration::from_micros(place.micros),
        };
        let hottest = window.places.iter().map(sure).collect();
        (Duration::from_millis(millis.into()), hottest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_micros(30);

    fn of(hot: &HotEntities, id: &str, now: u32) -> Option<u64> {
        let (_, hottest) = hot.hottest(now);
        let mut found = hottest.iter().filter(|it| it.id.as_str() == id);
        found.next().map(|it| it.handlers)
    }

    #[test]
    fn an_entity_with_more_than_its_share_is_found_among_many() {
        let mut hot = HotEntities::default();
        for n in 0..10_000_u32 {
            let id = EntityId::new(format!("cold-{n}"));
            hot.took(&id, TOOK, 1);
            if n % 10 == 0 {
                hot.took(&EntityId::new("hot"), TOOK * 2, 1);
            }
        }
        let (time, hottest) = hot.hottest(5001);
        assert_eq!(time, Duration::from_millis(5001));
        assert_eq!(hottest.len(), PLACES);
        let hottest = hottest.iter().max_by_key(|it| it.handlers).unwrap();
        assert_eq!(hottest.id, EntityId::new("hot"));
        assert!((900..=1000).contains(&hottest.handlers), "{hottest:?}");
        let each = u32::try_from(hottest.handlers).unwrap();
        assert!((TOOK * 2 * each..=TOOK * 2000).contains(&hottest.took));
    }

    #[test]
    fn a_time_that_is_over_is_told_until_the_next_one_is() {
        let (mut hot, early, late) = (
            HotEntities::default(),
            EntityId::new("e"),
            EntityId::new("l"),
        );
        let begin = u32::MAX - 3;
        // The first look at the clock may lie half its range after the beginning.
        hot.present.begun = begin;
        hot.took(&early, TOOK, begin);
        assert_eq!(of(&hot, "e", begin.wrapping_add(10)), Some(1));
        hot.took(&late, TOOK, begin.wrapping_add(WINDOW));
        let now = begin.wrapping_add(WINDOW + 100);
        assert_eq!((of(&hot, "e", now), of(&hot, "l", now)), (Some(1), None));
        assert_eq!(hot.hottest(now).0, Duration::from_millis(WINDOW.into()));
        hot.took(&late, TOOK, begin.wrapping_add(2 * WINDOW));
        let now = begin.wrapping_add(2 * WINDOW + 100);
        assert_eq!((of(&hot, "e", now), of(&hot, "l", now)), (None, Some(1)));
        // Nothing for an hour.
        let now = now.wrapping_add(3_600_000);
        assert!(hot.hottest(now).0 > Duration::from_mins(59));
    }
}
