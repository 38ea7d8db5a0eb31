//! Which directory a store lives in, so that a copy of it is noticed.
//!
//! The store notes the path of its directory, and a mark of it that no copy has. A directory that
//! was renamed, or mounted elsewhere, keeps its mark. A copy of a whole disk keeps it as well, and
//! cannot be noticed here.

use std::io;

use uuid::Uuid;

use crate::{
    OpenError,
    disk::{Disk, Place, read_all, replace},
    format::identity::{self, Identity},
};

/// Looks whether the directory is the one in which the store was. Whether it is a copy.
///
/// # Errors
/// [`OpenError::Copied`] if the original is there as well.
pub(crate) fn check(disk: &dyn Disk, names: &[String], store: Uuid) -> Result<bool, OpenError> {
    let Ok(Some(place)) = disk.place() else {
        return Ok(false);
    };
    let noted = names.iter().any(|name| name == identity::HOME);
    let noted = noted
        .then(|| disk.open(identity::HOME).and_then(|file| read_all(&*file)))
        .and_then(|read| identity::read_home(&read.ok()?, store));
    let Some(noted) = noted else {
        // It is new, or of a former version.
        note(disk, store, &place);
        return Ok(false);
    };
    if noted.mark == place.mark {
        if noted.path != place.path {
            note(disk, store, &place);
        }
        return Ok(false);
    }
    let original = disk.read_elsewhere(&noted.path, identity::STORE);
    let original = original.map(|bytes| identity::read_store(&bytes));
    if noted.path != place.path && original == Some(Identity::Known(store)) {
        return Err(OpenError::Copied {
            directory: disk.describe(),
            original: noted.path,
        });
    }
    Ok(true)
}

/// The store lives in this directory from now on.
pub(crate) fn adopt(disk: &dyn Disk, store: Uuid) -> io::Result<()> {
    match disk.place()? {
        Some(place) => replace(disk, identity::HOME, &identity::home_file(store, &place)),
        None => Ok(()),
    }
}

fn note(disk: &dyn Disk, store: Uuid, place: &Place) {
    if let Err(error) = replace(disk, identity::HOME, &identity::home_file(store, place)) {
        // A disk that is full must not keep the store from being opened.
        tracing::warn!(
            directory = disk.describe(),
            %error,
            "where the store is cannot be noted, so a copy of it would not be noticed"
        );
    }
}
