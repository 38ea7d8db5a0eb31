//! Batches in which a log occurs more than once.

use std::collections::HashMap;

/// Divides a batch so that no log occurs twice in a part of it; each item with its index. A batch
/// of casty's committer has one part.
pub(crate) fn waves<T, K: Eq + std::hash::Hash>(
    batch: Vec<T>,
    log: impl Fn(&T) -> K,
) -> Vec<Vec<(usize, T)>> {
    let mut waves: Vec<Vec<(usize, T)>> = Vec::new();
    let mut seen = HashMap::<K, usize>::with_capacity(batch.len());
    for (index, item) in batch.into_iter().enumerate() {
        let wave = seen.entry(log(&item)).or_default();
        if waves.len() == *wave {
            waves.push(Vec::new());
        }
        if let Some(items) = waves.get_mut(*wave) {
            items.push((index, item));
        }
        *wave += 1;
    }
    waves
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_log_occurs_once_in_a_wave_and_its_parts_stay_in_order() {
        let waves = super::waves(vec!["a1", "b1", "a2", "c1", "a3", "b2"], |item| {
            item.as_bytes()[0]
        });
        let first = vec![(0, "a1"), (1, "b1"), (3, "c1")];
        assert_eq!(waves, [first, vec![(2, "a2"), (5, "b2")], vec![(4, "a3")]]);
        assert!(super::waves(Vec::<u8>::new(), |item| *item).is_empty());
    }
}
