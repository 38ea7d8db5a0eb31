//! The numbers under which entity types are stored.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use casty::persistence::JournalError;

use crate::sync::lock;

/// The numbers that this process has read. They never change.
#[derive(Default)]
pub(crate) struct Kinds<N>(Mutex<HashMap<Arc<str>, N>>);

impl<N: Copy> Kinds<N> {
    pub(crate) fn get(&self, name: &str) -> Option<N> {
        lock(&self.0).get(name).copied()
    }

    pub(crate) fn insert(&self, name: Arc<str>, number: N) {
        lock(&self.0).insert(name, number);
    }
}

/// The type was stored with another number of shards.
pub(crate) fn other_shards(kind: &str, stored: i64, now: NonZeroU32) -> JournalError {
    let reason = format!(
        "`{kind}` is stored in {stored} shards and has {now} now; give it its former number of \
         shards back, since ids are spread over them"
    );
    JournalError::Unusable { reason }
}

/// Nothing is stored of the type, and nothing can be before it is opened.
pub(crate) fn not_opened(kind: &str) -> JournalError {
    let reason = format!("nothing is stored of `{kind}`; open the store for it first");
    JournalError::Unusable { reason }
}
