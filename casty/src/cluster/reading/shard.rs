//! A page of the entities of one shard: those that are active, and those that are stored.

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

use crate::{
    cluster::peers::reads::{Filter, Newest, Rest, SeenEntity, Which},
    error::StoredError,
    id::EntityId,
    persistence::StoredEntity,
};

/// How many pages of the store one answer reads of a shard: a filter may leave little of each.
const STORE_PAGES_MAX: usize = 16;

/// One shard, for a reader.
pub(super) trait Shard: Sync {
    /// The first entities after `after` that are active here and whose ids begin with `prefix`, in
    /// order.
    fn active(&self, after: Option<&EntityId>, prefix: &str, limit: usize) -> Vec<EntityId>;

    /// The first stored entities after `after`, in order. No entities: there are no more.
    fn stored<'a>(
        &'a self,
        after: Option<&'a EntityId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<StoredEntity>, StoredError>>;
}

/// At most `limit` entities after `after`, which match.
pub(super) async fn page(
    shard: &dyn Shard,
    filter: &Filter,
    after: Option<EntityId>,
    limit: usize,
) -> Result<(Vec<SeenEntity>, Rest), StoredError> {
    let mut after = after.max(just_before(&filter.prefix));
    let mut found = Vec::new();
    for _ in 0..STORE_PAGES_MAX {
        let room = limit - found.len();
        let (entities, rest) = step(shard, filter, after.as_ref(), room).await?;
        found.extend(entities);
        let Rest::After(last) = rest else {
            return Ok((found, Rest::Nothing));
        };
        if found.len() >= limit {
            return Ok((found, Rest::After(last)));
        }
        after = Some(last);
    }
    Ok((found, after.map_or(Rest::Nothing, Rest::After)))
}

/// One read of the store.
async fn step(
    shard: &dyn Shard,
    filter: &Filter,
    after: Option<&EntityId>,
    limit: usize,
) -> Result<(Vec<SeenEntity>, Rest), StoredError> {
    let prefix = &*filter.prefix;
    let active = shard.active(after, prefix, limit);
    let mut stored = match filter.which {
        Which::Active => Vec::new(),
        Which::All | Which::Stored => shard.stored(after, limit).await?,
    };
    let is_past =
        |it: &StoredEntity| it.entity.as_str() > prefix && !it.entity.as_str().starts_with(prefix);
    let mut last_stored = stored.last().map(|last| last.entity.clone());
    if stored.last().is_some_and(is_past) {
        // Nothing more matches.
        last_stored = None;
    }
    let last_active = active.last().filter(|_| active.len() >= limit).cloned();
    // What both have up to there is complete.
    let horizon = [last_stored, last_active].into_iter().flatten().min();
    stored.retain(|it| it.entity.as_str().starts_with(prefix));
    let mut merged = merge(active, stored);
    if let Some(horizon) = &horizon {
        merged.retain(|id, _| id <= horizon);
    }
    if filter.which == Which::Stored {
        merged.retain(|_, it| it.stored.is_some());
    }
    let cut = merged.keys().nth(limit).cloned();
    if let Some(cut) = cut {
        drop(merged.split_off(&cut));
        let last = merged.last_key_value().map(|(id, _)| id.clone());
        let rest = last.or(horizon).map_or(Rest::Nothing, Rest::After);
        return Ok((merged.into_values().collect(), rest));
    }
    let rest = horizon.map_or(Rest::Nothing, Rest::After);
    Ok((merged.into_values().collect(), rest))
}

fn merge(active: Vec<EntityId>, stored: Vec<StoredEntity>) -> BTreeMap<EntityId, SeenEntity> {
    let mut merged = BTreeMap::new();
    for StoredEntity { entity, seq, at } in stored {
        let stored = Some(Newest { seq, at });
        let seen = SeenEntity {
            id: entity.clone(),
            active: false,
            stored,
        };
        merged.insert(entity, seen);
    }
    for id in active {
        let seen = merged.entry(id.clone()).or_insert(SeenEntity {
            id,
            active: false,
            stored: None,
        });
        seen.active = true;
    }
    merged
}

/// A text before all that begin with `prefix`, and after nearly all that come before those.
fn just_before(prefix: &str) -> Option<EntityId> {
    let mut characters = prefix.chars();
    let last = characters.next_back()?;
    let mut before = characters.as_str().to_owned();
    let previous = match last {
        // Between the two there is no character.
        '\u{e000}' => Some('\u{d7ff}'),
        last => u32::from(last).checked_sub(1).and_then(char::from_u32),
    };
    if let Some(previous) = previous {
        before.push(previous);
        before.extend([char::MAX; 4]);
    }
    (!before.is_empty()).then(|| EntityId::new(before))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Made {
        active: Vec<EntityId>,
        stored: Vec<EntityId>,
        /// How many entities the store gives at most, whatever it is asked for.
        page: usize,
        reads: Mutex<usize>,
    }

    impl Made {
        fn new(active: &[&str], stored: &[&str], page: usize) -> Self {
            let sorted = |ids: &[&str]| {
                let mut ids: Vec<_> = ids.iter().map(EntityId::new).collect();
                ids.sort();
                ids.dedup();
                ids
            };
            Self {
                active: sorted(active),
                stored: sorted(stored),
                page,
                reads: Mutex::new(0),
            }
        }
    }

    fn after<'a>(
        ids: &'a [EntityId],
        after: Option<&'a EntityId>,
    ) -> impl Iterator<Item = EntityId> + 'a {
        let is_after = move |id: &&EntityId| after.is_none_or(|after| *id > after);
        ids.iter().filter(is_after).cloned()
    }

    impl Shard for Made {
        fn active(&self, from: Option<&EntityId>, prefix: &str, limit: usize) -> Vec<EntityId> {
            let ids = after(&self.active, from);
            ids.filter(|id| id.as_str().starts_with(prefix))
                .take(limit)
                .collect()
        }

        fn stored<'a>(
            &'a self,
            from: Option<&'a EntityId>,
            limit: usize,
        ) -> BoxFuture<'a, Result<Vec<StoredEntity>, StoredError>> {
            *self.reads.lock().unwrap() += 1;
            let stored = |entity| StoredEntity {
                entity,
                seq: 7,
                at: 9,
            };
            let page = after(&self.stored, from).take(limit.min(self.page));
            let page = page.map(stored).collect();
            Box::pin(async move { Ok(page) })
        }
    }

    /// All pages, each id with `a` if it is active and `s` if it is stored.
    fn listed(shard: &Made, which: Which, prefix: &str, limit: usize) -> Vec<String> {
        let filter = Filter {
            which,
            prefix: prefix.to_owned(),
        };
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let paging = page(shard, &filter, from, limit);
            let (entities, rest) = futures_util::FutureExt::now_or_never(paging)
                .unwrap()
                .unwrap();
            assert!(entities.len() <= limit);
            all.extend(entities.into_iter().map(|it| {
                let active = if it.active { "a" } else { "" };
                let stored = if it.stored.is_some() { "s" } else { "" };
                format!("{}:{active}{stored}", it.id)
            }));
            match rest {
                Rest::After(last) => from = Some(last),
                _ => return all,
            }
        }
    }

    #[test]
    fn active_and_stored_entities_are_listed_once_in_order() {
        let shard = Made::new(&["b", "d", "x"], &["a", "b", "c"], 2);
        for limit in 1..5 {
            assert_eq!(
                listed(&shard, Which::All, "", limit),
                ["a:s", "b:as", "c:s", "d:a", "x:a"]
            );
            assert_eq!(
                listed(&shard, Which::Active, "", limit),
                ["b:a", "d:a", "x:a"]
            );
            assert_eq!(
                listed(&shard, Which::Stored, "", limit),
                ["a:s", "b:as", "c:s"]
            );
        }
    }

    #[test]
    fn a_prefix_skips_what_comes_before_it_without_reading_it() {
        let ids: Vec<String> = (0..100_000).map(|n| format!("user-{n:05}")).collect();
        let stored: Vec<&str> = ids.iter().map(String::as_str).collect();
        let shard = Made::new(&[], &stored, 512);
        let found = listed(&shard, Which::All, "user-4242", 512);
        assert_eq!(found.len(), 10);
        assert_eq!(found[0], "user-42420:s");
        assert!(*shard.reads.lock().unwrap() <= 2);
        assert_eq!(
            listed(&shard, Which::All, "user-42420", 512),
            ["user-42420:s"]
        );
        assert_eq!(listed(&shard, Which::All, "v", 512), [""; 0]);
    }

    #[test]
    fn a_text_just_before_a_prefix_is_before_all_that_begins_with_it() {
        for prefix in ["a", "ab", "b\0", "\0", "\u{e000}", "x\u{10ffff}", "é"] {
            let before = just_before(prefix);
            assert!(
                before.is_none_or(|before| before.as_str() < prefix),
                "{prefix}"
            );
        }
        assert_eq!(just_before(""), None);
        assert_eq!(just_before("\0"), None);
    }

    proptest! {
        #[test]
        fn every_listing_is_what_a_look_at_all_of_it_finds(
            active in proptest::collection::vec("[ab]{1,3}", 0..12),
            stored in proptest::collection::vec("[ab]{1,3}", 0..12),
            prefix in "[ab]{0,2}",
            page in 1_usize..4,
            limit in 1_usize..4,
        ) {
            let texts = |ids: &[String]| ids.to_vec();
            let (active, stored) = (texts(&active), texts(&stored));
            let made = Made::new(
                &active.iter().map(String::as_str).collect::<Vec<_>>(),
                &stored.iter().map(String::as_str).collect::<Vec<_>>(),
                page,
            );
            for which in [Which::All, Which::Active, Which::Stored] {
                let mut all: Vec<&String> = active.iter().chain(&stored).collect();
                all.sort();
                all.dedup();
                let expected: Vec<String> = all
                    .into_iter()
                    .filter(|id| id.starts_with(&prefix))
                    .filter_map(|id| {
                        let (a, s) = (active.contains(id), stored.contains(id));
                        let is_listed = match which {
                            Which::All => true,
                            Which::Active => a,
                            Which::Stored => s,
                        };
                        let s = s && which != Which::Active;
                        let (a, s) = (if a { "a" } else { "" }, if s { "s" } else { "" });
                        is_listed.then(|| format!("{id}:{a}{s}"))
                    })
                    .collect();
                prop_assert_eq!(listed(&made, which, &prefix, limit), expected);
            }
        }
    }
}
