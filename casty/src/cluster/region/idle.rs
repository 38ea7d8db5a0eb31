//! Passivation: ends entities that have been idle for long, and the least recently used ones where
//! too many are active.

use std::{sync::Weak, time::Duration};

use super::ShardRegion;

/// The shortest and the longest pause between two searches for idle entities.
const LOOK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(30));

/// The pause between two searches: a quarter of the allowed idleness, so that no entity stays much
/// longer than its type says.
fn look(after: Option<Duration>) -> Option<Duration> {
    after.map(|after| (after / 4).clamp(LOOK.0, LOOK.1))
}

/// Passivates the entities of a region until the region is gone.
pub(super) async fn passivate(region: Weak<ShardRegion>, after: Option<Duration>) {
    let period = look(after);
    loop {
        let over_limit = {
            let Some(region) = region.upgrade() else {
                return;
            };
            if region.abandoned().is_some() {
                return;
            }
            region.local.over_limit()
        };
        match period {
            Some(period) => {
                let _ = tokio::time::timeout(period, over_limit.notified()).await;
            }
            None => {
                // The timeout is for a type without a period: nothing else would notice that the
                // region is gone.
                let _ = tokio::time::timeout(LOOK.1, over_limit.notified()).await;
            }
        }
        let Some(region) = region.upgrade() else {
            return;
        };
        let now = region.runtime.coarse_millis();
        region.local.passivate(now);
    }
}

/// Chooses the idle cells that end, by how long each has been idle.
///
/// All cells that have been idle for `after` end. Where more than `max` are active, the least
/// recently used end too, down to a sixteenth below the limit: otherwise each new entity would have
/// the whole region searched.
///
/// The result is in order, by `name` where two cells were idle for equally long, so that a
/// simulation can be repeated.
pub(super) fn chosen<T, N: Ord + ?Sized>(
    mut idle: Vec<(u32, T)>,
    name: impl Fn(&T) -> &N,
    active: usize,
    after: Option<Duration>,
    max: Option<usize>,
) -> Vec<T> {
    let after = after.map_or(u32::MAX, |after| {
        u32::try_from(after.as_millis()).unwrap_or(u32::MAX)
    });
    let expired = idle.iter().filter(|(millis, _)| *millis >= after).count();
    let surplus = match max {
        Some(max) if active > max => active - (max - max / 16),
        _ => 0,
    };
    let count = expired.max(surplus).min(idle.len());
    let longest_first =
        |(a, x): &(u32, T), (b, y): &(u32, T)| b.cmp(a).then_with(|| name(x).cmp(name(y)));
    if count > 0 && count < idle.len() {
        idle.select_nth_unstable_by(count - 1, longest_first);
    }
    idle.truncate(count);
    idle.sort_unstable_by(longest_first);
    idle.into_iter().map(|(_, cell)| cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(idle: &[(u32, char)], active: usize, after: u64, max: Option<usize>) -> String {
        let after = (after > 0).then(|| Duration::from_millis(after));
        let mut chosen = chosen(idle.to_vec(), |name| name, active, after, max);
        chosen.sort_unstable();
        chosen.into_iter().collect()
    }

    const IDLE: [(u32, char); 4] = [(10, 'a'), (40, 'b'), (20, 'c'), (30, 'd')];

    #[test]
    fn whoever_was_idle_for_long_enough_ends() {
        assert_eq!(names(&IDLE, 9, 30, None), "bd");
        assert_eq!(names(&IDLE, 9, 41, None), "");
        assert_eq!(names(&IDLE, 9, 0, None), "");
    }

    #[test]
    fn of_too_many_the_least_recently_used_end() {
        assert_eq!(names(&IDLE, 9, 0, Some(9)), "");
        assert_eq!(names(&IDLE, 9, 0, Some(7)), "bd");
        // More cells are busy than may be active, so all idle ones end.
        assert_eq!(names(&IDLE, 9, 0, Some(1)), "abcd");
        // A sixteenth more than necessary.
        assert_eq!(names(&IDLE, 33, 0, Some(32)), "bcd");
    }

    #[test]
    fn it_does_not_matter_in_which_order_they_are_found() {
        let same = [(10, 'a'), (10, 'b'), (10, 'c'), (20, 'd')];
        let mut reversed = same;
        reversed.reverse();
        for idle in [same, reversed] {
            let chosen = chosen(idle.to_vec(), |name| name, 9, None, Some(7));
            assert_eq!(chosen, ['d', 'a']);
        }
    }

    #[test]
    fn both_rules_choose_the_same_ones_first() {
        assert_eq!(names(&IDLE, 9, 40, Some(7)), "bd");
        assert_eq!(names(&IDLE, 9, 20, Some(8)), "bcd");
    }
}
