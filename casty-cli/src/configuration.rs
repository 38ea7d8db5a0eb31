//! Configurations of nodes. No node is asked.

use casty::configuration;
use serde_json::json;

use crate::{
    arguments::{Configuration, Operation},
    failure::Failure,
    text,
};

/// Runs the operation. Returns the text to print.
pub(crate) fn run(
    operation: &Operation,
    command: &Configuration,
    json: bool,
) -> Result<String, Failure> {
    match command {
        Configuration::Defaults => {
            let defaults = configuration::defaults();
            text::either(json, &json!({ "file": defaults }), |_| defaults.clone())
        }
        Configuration::Check { file } => {
            configuration::check(file)
                .map_err(|error| Failure::configuration(operation, &error))?;
            text::either(json, &json!({ "file": file }), |_| {
                format!("`{}` can be used\n", file.display())
            })
        }
    }
}
