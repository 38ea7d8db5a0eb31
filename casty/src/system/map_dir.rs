//! The directory in which a node keeps what it knows of the map.

use std::path::{Path, PathBuf};

use crate::error::StartError;

/// Where in its directory a node keeps what it knows of the map.
const MAP_FOLDER: &str = "map";

/// The directory, if there is one.
pub(super) fn map_dir(
    (state_dir, data_dir): (Option<&Path>, Option<&Path>),
    has_tie_breaker: bool,
) -> Result<Option<PathBuf>, StartError> {
    if state_dir.is_some() && data_dir.is_some() {
        let reason = "is a part of `data_dir`; set only that one";
        return Err(StartError::Setting {
            setting: "state_dir",
            reason: reason.to_owned(),
        });
    }
    let map_dir = data_dir.map(|path| path.join(MAP_FOLDER));
    let map_dir = map_dir.or_else(|| state_dir.map(Path::to_owned));
    if map_dir.is_some() && has_tie_breaker {
        // The decision of a tie-breaker holds for ever, and the stored state would not know of
        // it.
        let reason = "cannot be combined with a tie-breaker; choose one of them";
        return Err(StartError::Setting {
            setting: match data_dir {
                Some(_) => "data_dir",
                None => "state_dir",
            },
            reason: reason.to_owned(),
        });
    }
    Ok(map_dir)
}
