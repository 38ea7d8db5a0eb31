//! Directories of nodes that do not run.

use std::path::Path;

use casty::admin;
use serde_json::json;

use crate::{arguments::Operation, failure::Failure, text};

/// Says that a directory was moved. Returns the text to print.
pub(crate) fn adopt(
    operation: &Operation,
    directory: &Path,
    json: bool,
) -> Result<String, Failure> {
    let store =
        admin::adopt_directory(directory).map_err(|error| Failure::directory(operation, &error))?;
    let report = json!({ "directory": directory, "store": store.to_string() });
    text::either(json, &report, |_| {
        format!(
            "store {store} lives in `{}` from now on; start its node\n",
            directory.display()
        )
    })
}
