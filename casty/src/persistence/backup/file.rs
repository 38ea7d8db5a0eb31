//! The file of a backup.

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{BackupError, BackupPart, BackupSummary};
use crate::{infra::mutants, message::codec};

/// The name of the file in its directory.
const FILE: &str = "backup.casty";
/// Its name until it is whole.
const UNFINISHED: &str = "backup.casty.part";

const MAGIC: [u8; 8] = *b"castybak";
const FORMAT: u32 = 1;

/// The longest part. Pages have about half a mebibyte, and at most a record and a snapshot of 7 MiB
/// each.
const PART_MAX: u32 = 64 << 20;

/// Writes a backup. Until it is [finished](Self::finish) it is recognised as unfinished.
pub(crate) struct BackupWriter {
    folder: PathBuf,
    out: BufWriter<File>,
    sum: u64,
    bytes: u64,
}

impl BackupWriter {
    /// Begins a backup in a directory, which is made.
    ///
    /// # Errors
    /// [`BackupError::NotEmpty`], and [`BackupError::Io`].
    pub(crate) fn create(folder: &Path) -> Result<Self, BackupError> {
        fs::create_dir_all(folder).map_err(BackupError::io("making the directory", folder))?;
        let mut there =
            fs::read_dir(folder).map_err(BackupError::io("reading the directory", folder))?;
        if there.next().is_some() {
            let path = folder.to_owned();
            return Err(BackupError::NotEmpty { path });
        }
        let path = folder.join(UNFINISHED);
        let file = File::create_new(&path).map_err(BackupError::io("creating", &path))?;
        let mut writer = Self {
            folder: folder.to_owned(),
            out: BufWriter::with_capacity(1 << 20, file),
            sum: 0,
            bytes: 0,
        };
        writer.put(&MAGIC)?;
        writer.put(&FORMAT.to_le_bytes())?;
        Ok(writer)
    }

    /// How much is written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn write(&mut self, part: &BackupPart) -> Result<(), BackupError> {
        let path = self.folder.join(UNFINISHED);
        let encoded = codec::to_vec(part);
        let bytes = encoded.map_err(|error| BackupError::Io {
            what: "encoding a part of",
            path,
            reason: error.to_string(),
        })?;
        self.sum = xxh3_64_with_seed(&bytes, self.sum);
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put(&length.to_le_bytes())?;
        self.put(&self.sum.to_le_bytes())?;
        self.put(&bytes)
    }

    /// The last part was written. Returns once the backup is on the disk.
    pub(crate) fn finish(self) -> Result<u64, BackupError> {
        let (part, whole) = (self.folder.join(UNFINISHED), self.folder.join(FILE));
        let file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error);
        let file = file.map_err(BackupError::io("writing", &part))?;
        file.sync_all().map_err(BackupError::io("syncing", &part))?;
        fs::rename(&part, &whole).map_err(BackupError::io("renaming", &part))?;
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(BackupError::io("syncing", &self.folder))?;
        Ok(self.bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let written = self.out.write_all(bytes);
        written.map_err(BackupError::io("writing", self.folder.join(UNFINISHED)))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Reads a backup, part by part.
pub(crate) struct BackupReader {
    path: PathBuf,
    file: BufReader<File>,
    sum: u64,
    offset: u64,
    is_at_end: bool,
}

impl BackupReader {
    /// Opens the backup in a directory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn open(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let part = folder.join(UNFINISHED);
                return Err(if part.exists() {
                    BackupError::Unfinished { path: part }
                } else {
                    BackupError::NoBackup {
                        path: folder.to_owned(),
                    }
                });
            }
            Err(error) => return Err(BackupError::io("opening", &path)(error)),
        };
        let mut reader = Self {
            path,
            file: BufReader::with_capacity(1 << 20, file),
            sum: 0,
            offset: 0,
            is_at_end: false,
        };
        let mut header = [0; MAGIC.len() + 4];
        let whole = reader.fill(&mut header)?;
        let (magic, format) = header.split_at(MAGIC.len());
        let path = reader.path.clone();
        if !whole || magic != MAGIC {
            return Err(BackupError::NoBackup { path });
        }
        let found = format.try_into().map_or(0, u32::from_le_bytes);
        if found != FORMAT {
            let known = FORMAT;
            return Err(BackupError::Newer { path, found, known });
        }
        Ok(reader)
    }

    /// The next part. `None` after the end of a backup that is whole.
    ///
    /// # Errors
    /// [`BackupError::Unfinished`] and [`BackupError::Damaged`].
    pub(crate) fn next(&mut self) -> Result<Option<BackupPart>, BackupError> {
        let begin = self.offset;
        let mut header = [0; 12];
        if !self.fill(&mut header)? {
            return match (self.is_at_end, self.offset == begin) {
                (true, true) => Ok(None),
                (false, _) => Err(BackupError::Unfinished {
                    path: self.path.clone(),
                }),
                (true, false) => Err(self.damaged(begin, "something follows its end")),
            };
        }
        if self.is_at_end {
            return Err(self.damaged(begin, "something follows its end"));
        }
        let (length, sum) = header.split_at(4);
        let length = length.try_into().map_or(0, u32::from_le_bytes);
        let sum = sum.try_into().map_or(0, u64::from_le_bytes);
        if length > PART_MAX {
            return Err(self.damaged(begin, "a part is longer than any can be"));
        }
        let mut bytes = vec![0; length as usize];
        if !self.fill(&mut bytes)? {
            return Err(BackupError::Unfinished {
                path: self.path.clone(),
            });
        }
        self.sum = xxh3_64_with_seed(&bytes, self.sum);
        if self.sum != sum && !mutants::on("the_sums_of_a_backup_are_not_compared") {
            return Err(self.damaged(begin, "a checksum does not match"));
        }
        let part = codec::decode(&bytes);
        let part = part.map_err(|error| self.damaged(begin, &error.to_string()))?;
        self.is_at_end = matches!(part, BackupPart::End { .. });
        Ok(Some(part))
    }

    /// Reads all of it, and says what it contains.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn check(folder: &Path) -> Result<BackupSummary, BackupError> {
        let mut reader = Self::open(folder)?;
        let mut summary = BackupSummary {
            cluster: String::new(),
            at: 0,
            kinds: Vec::new(),
            shards: 0,
            records: 0,
            snapshots: 0,
            bytes: 0,
        };
        while let Some(part) = reader.next()? {
            let at_part = reader.offset;
            match part {
                BackupPart::Start { cluster, at } => (summary.cluster, summary.at) = (cluster, at),
                BackupPart::Kind { name, .. } => summary.kinds.push(name),
                BackupPart::Page {
                    snapshots, records, ..
                } => {
                    summary.records += records.len() as u64;
                    summary.snapshots += snapshots.len() as u64;
                }
                BackupPart::Shard { .. } => summary.shards += 1,
                BackupPart::End {
                    shards,
                    records,
                    snapshots,
                    ..
                } => {
                    let found = (summary.shards, summary.records, summary.snapshots);
                    if (shards, records, snapshots) != found {
                        return Err(reader.damaged(at_part, "it has not as much as it says"));
                    }
                }
            }
        }
        summary.bytes = reader.offset;
        Ok(summary)
    }

    pub(crate) fn damaged(&self, offset: u64, what: &str) -> BackupError {
        BackupError::Damaged {
            path: self.path.clone(),
            offset,
            what: what.to_owned(),
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether there was so much left.
    fn fill(&mut self, mut into: &mut [u8]) -> Result<bool, BackupError> {
        while !into.is_empty() {
            let read = match self.file.read(into) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(BackupError::io("reading", &self.path)(error)),
            };
            self.offset += read as u64;
            into = &mut into[read..];
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infra::mutants::breaking;

    fn parts() -> Vec<BackupPart> {
        let page = |shard| BackupPart::Page {
            shard,
            snapshots: Vec::new(),
            records: Vec::new(),
        };
        vec![
            BackupPart::Start {
                cluster: "shop".into(),
                at: 7,
            },
            BackupPart::Kind {
                name: "Jar".into(),
                shards: 2,
            },
            page(0),
            BackupPart::Shard {
                shard: 0,
                position: 0,
            },
            page(1),
            BackupPart::Shard {
                shard: 1,
                position: 0,
            },
            BackupPart::End {
                at: 9,
                shards: 2,
                records: 0,
                snapshots: 0,
            },
        ]
    }

    fn written(folder: &Path, parts: &[BackupPart]) -> PathBuf {
        let mut writer = BackupWriter::create(folder).expect("begun");
        for part in parts {
            writer.write(part).expect("written");
        }
        writer.finish().expect("finished");
        folder.join(FILE)
    }

    fn read(folder: &Path) -> Result<Vec<BackupPart>, BackupError> {
        BackupReader::check(folder)?;
        let mut reader = BackupReader::open(folder)?;
        let mut parts = Vec::new();
        while let Some(part) = reader.next()? {
            parts.push(part);
        }
        Ok(parts)
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        written(folder.path(), &parts());
        assert_eq!(read(folder.path()), Ok(parts()));
        let again = BackupWriter::create(folder.path()).map(drop);
        assert!(
            matches!(again, Err(BackupError::NotEmpty { .. })),
            "{again:?}"
        );
        let none = folder.path().join("none");
        assert!(matches!(read(&none), Err(BackupError::NoBackup { .. })));
    }

    #[test]
    fn one_that_was_not_finished_is_told_from_one_that_is_damaged() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = BackupWriter::create(folder.path()).expect("begun");
        writer.write(&parts()[0]).expect("written");
        drop(writer);
        let begun = read(folder.path());
        assert!(
            matches!(begun, Err(BackupError::Unfinished { .. })),
            "{begun:?}"
        );

        let folder = tempfile::tempdir().expect("a folder");
        let file = written(folder.path(), &parts());
        let whole = fs::read(&file).expect("readable");
        for length in 12..whole.len() {
            fs::write(&file, &whole[..length]).expect("written");
            let cut = read(folder.path());
            assert!(
                matches!(cut, Err(BackupError::Unfinished { .. })),
                "{length}: {cut:?}"
            );
        }
        for at in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[at / 8] ^= 1 << (at % 8);
            fs::write(&file, &changed).expect("written");
            let error = read(folder.path()).expect_err("it is changed");
            let is_told = match at / 8 {
                0..8 => matches!(error, BackupError::NoBackup { .. }),
                8..12 => matches!(error, BackupError::Newer { .. }),
                // A length that is longer than the rest looks like an end.
                _ => matches!(
                    error,
                    BackupError::Damaged { .. } | BackupError::Unfinished { .. }
                ),
            };
            assert!(is_told, "bit {at}: {error}");
        }
        // A part that is missing, and one more.
        let mut swapped = parts();
        swapped.swap(2, 4);
        for wrong in [parts()[1..].to_vec(), swapped] {
            assert_ne!(wrong, parts());
        }
        fs::write(&file, [&whole[..], b"more"].concat()).expect("written");
        let more = read(folder.path());
        assert!(matches!(more, Err(BackupError::Damaged { .. })), "{more:?}");
    }

    #[test]
    fn without_its_sums_damage_would_be_missed() {
        breaking("the_sums_of_a_backup_are_not_compared", || {
            let folder = tempfile::tempdir().expect("a folder");
            let file = written(folder.path(), &parts());
            let mut changed = fs::read(&file).expect("readable");
            let at = changed.windows(4).position(|bytes| bytes == b"shop");
            changed[at.expect("its name")] ^= 1;
            fs::write(&file, &changed).expect("written");
            assert!(read(folder.path()).is_ok());
        });
    }
}
