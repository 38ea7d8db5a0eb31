use std::{fmt::Debug, marker::PhantomData};

use casty::prelude::*;

pub struct Store<T> {
    value: Option<T>,
}

#[entity(name = "store")]
impl<T: Wire + Clone + Sync> Store<T> {
    #[init]
    fn empty() -> Self {
        Self { value: None }
    }

    #[message]
    fn put(&mut self, value: T) -> Option<T> {
        self.value.replace(value)
    }

    #[message]
    async fn get(&self, myself: StoreRef<T>) -> Result<T, String> {
        let _ = myself;
        self.value.clone().ok_or_else(|| "empty".to_owned())
    }
}

/// A parameter that no message mentions, a `where` clause, a constant.
pub struct Counter<T, const STEP: i64>(i64, PhantomData<fn() -> T>);

impl<T, const STEP: i64> Default for Counter<T, STEP> {
    fn default() -> Self {
        Self(0, PhantomData)
    }
}

#[entity]
impl<T, const STEP: i64> Counter<T, STEP>
where
    T: Debug + Send + 'static,
{
    #[message]
    fn step(&mut self) -> i64 {
        self.0 += STEP;
        self.0
    }

    #[message(internal)]
    fn seen(&mut self, what: T) {
        println!("{what:?}");
    }
}

pub struct One<T>(T);

/// An instance by itself needs no parameter.
#[entity]
impl One<String> {
    #[init]
    fn new() -> Self {
        Self(String::new())
    }

    #[message]
    fn text(&self) -> String {
        self.0.clone()
    }
}

fn travels<T: Wire>() {}

#[test]
fn works() {
    travels::<StoreMsg<u8>>();
    travels::<StoreRef<String>>();
    travels::<CounterMsg<fn(), 3>>();
    travels::<CounterRef<fn(), 3>>();
    travels::<OneMsg>();
    let _: fn(&StoreRef<u8>, u8) -> casty::call::Call<Store<u8>, Option<u8>> = StoreRef::put;
    let _ = StoreMsg::Put { value: 1u8 };
}
