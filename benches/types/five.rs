//! Five entity types: see `types.rs`.
#![expect(clippy::duplicate_mod, reason = "the types are to cost the same")]

#[path = "entity.rs"]
pub mod fifth;
#[path = "entity.rs"]
pub mod first;
#[path = "entity.rs"]
pub mod fourth;
#[path = "entity.rs"]
pub mod second;
#[path = "entity.rs"]
pub mod third;
