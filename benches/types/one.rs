//! One entity type: see `types.rs`.

#[path = "entity.rs"]
pub mod first;
