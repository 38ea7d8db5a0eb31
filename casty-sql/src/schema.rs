//! The tables, by version. A store is only ever moved to a later version, in one transaction with
//! the note that it has been.

/// The statements of each version, the first version first. A version that was released is never
/// changed: a later one changes what it made.
///
/// `{}` stands for the prefix of the tables' names.
pub(crate) struct Migrations(pub(crate) &'static [&'static [&'static str]]);

/// The tables have a later version than this build knows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Newer {
    pub(crate) found: i64,
    pub(crate) known: i64,
}

impl Migrations {
    /// The latest version.
    pub(crate) fn latest(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }

    /// The versions that are missing after `found`, with their statements.
    pub(crate) fn after(
        &self,
        found: i64,
        prefix: &str,
    ) -> Result<impl Iterator<Item = (i64, Vec<String>)>, Newer> {
        let known = self.latest();
        if found > known {
            return Err(Newer { found, known });
        }
        let versions = (1..)
            .zip(self.0)
            .filter(move |(version, _)| *version > found);
        Ok(versions.map(move |(version, statements)| {
            let statements = statements.iter().map(|text| text.replace("{}", prefix));
            (version, statements.collect())
        }))
    }
}

/// Makes the table of versions.
pub(crate) const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS {}schema \
     (version bigint PRIMARY KEY, applied_at bigint NOT NULL)";

pub(crate) const SQLITE: Migrations = Migrations(&[&[
    "CREATE TABLE {}kind (kind INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, \
     shards INTEGER NOT NULL) STRICT",
    "CREATE TABLE {}shard (kind INTEGER NOT NULL, shard INTEGER NOT NULL, epoch INTEGER NOT NULL, \
     owner TEXT NOT NULL, head INTEGER NOT NULL, PRIMARY KEY (kind, shard)) \
     STRICT, WITHOUT ROWID",
    // Without a rowid, since a scan of a shard is nine times as fast: its records lie side by side.
    "CREATE TABLE {}record (kind INTEGER NOT NULL, shard INTEGER NOT NULL, \
     position INTEGER NOT NULL, epoch INTEGER NOT NULL, entity TEXT NOT NULL, \
     seq INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL, \
     PRIMARY KEY (kind, shard, position)) STRICT, WITHOUT ROWID",
    "CREATE UNIQUE INDEX {}record_entity ON {}record (kind, shard, entity, seq)",
    "CREATE TABLE {}state (kind INTEGER NOT NULL, shard INTEGER NOT NULL, entity TEXT NOT NULL, \
     seq INTEGER NOT NULL, at INTEGER NOT NULL, body BLOB NOT NULL, \
     PRIMARY KEY (kind, shard, entity)) STRICT, WITHOUT ROWID",
]]);

pub(crate) const POSTGRES: Migrations = Migrations(&[&[
    "CREATE TABLE {}kind (kind integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
     name text COLLATE \"C\" NOT NULL UNIQUE, shards bigint NOT NULL)",
    "CREATE TABLE {}shard (kind integer NOT NULL, shard integer NOT NULL, epoch bigint NOT NULL, \
     owner text COLLATE \"C\" NOT NULL, head bigint NOT NULL, claim bigint NOT NULL, \
     PRIMARY KEY (kind, shard))",
    // In the order of bytes, as ids are compared.
    "CREATE TABLE {}record (kind integer NOT NULL, shard integer NOT NULL, \
     position bigint NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL, at bigint NOT NULL, \
     entity text COLLATE \"C\" NOT NULL, body bytea NOT NULL, \
     PRIMARY KEY (kind, shard, position))",
    "CREATE UNIQUE INDEX {}record_entity ON {}record (kind, shard, entity, seq)",
    "CREATE TABLE {}state (kind integer NOT NULL, shard integer NOT NULL, \
     entity text COLLATE \"C\" NOT NULL, seq bigint NOT NULL, at bigint NOT NULL, \
     body bytea NOT NULL, PRIMARY KEY (kind, shard, entity))",
]]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_applied_and_a_later_version_is_refused() {
        let migrations = Migrations(&[&["one {}a {}b"], &["two {}c"]]);
        let after = |found| {
            migrations
                .after(found, "x_")
                .map(Iterator::collect::<Vec<_>>)
        };
        let second = (2, vec!["two x_c".to_owned()]);
        let first = (1, vec!["one x_a x_b".to_owned()]);
        assert_eq!(after(0), Ok(vec![first, second.clone()]));
        assert_eq!(after(1), Ok(vec![second]));
        assert_eq!(after(2), Ok(vec![]));
        assert_eq!(after(3), Err(Newer { found: 3, known: 2 }));
    }
}
