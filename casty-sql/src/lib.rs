//! Stores durable entities of casty in SQLite or PostgreSQL.

mod error;
mod kinds;
mod pool;
mod schema;
mod sqlite;
mod values;

pub use self::{error::OpenError, sqlite::Sqlite};
