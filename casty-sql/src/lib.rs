//! Stores durable entities of casty in SQLite or PostgreSQL.

mod error;
mod kinds;
mod pool;
mod postgres;
mod schema;
mod sqlite;
mod values;
mod waves;

pub use self::{
    error::OpenError,
    postgres::{Postgres, PostgresOptions},
    sqlite::Sqlite,
};
