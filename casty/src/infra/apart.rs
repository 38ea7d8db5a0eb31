//! Values that are dropped by casty's own code.

use std::{any::Any, marker::PhantomData, ops::Deref};

/// A value whose drop is compiled once, with casty, and not again in each crate that has entities:
/// a type that generic code holds brings the drops of all its fields, and those of maps are long.
pub(crate) struct Apart<T> {
    value: Box<dyn Any + Send + Sync>,
    of: PhantomData<fn() -> T>,
}

impl<T: Any + Send + Sync> Apart<T> {
    /// Called by code that is not generic: there the drop is compiled.
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Box::new(value),
            of: PhantomData,
        }
    }
}

impl<T: Any + Send + Sync> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self.value.downcast_ref() {
            Some(value) => value,
            None => unreachable!("the value that was put in is there"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_value_is_there_and_is_dropped_with_it() {
        let held = Arc::new(());
        let apart = Apart::new(Mutex::new(vec![held.clone()]));
        assert_eq!(apart.lock().unwrap().len(), 1);
        drop(apart);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
