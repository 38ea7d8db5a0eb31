//! What is wrong with the key of an ask.

use serde::{Deserialize, Serialize};

/// Why an ask with a key was refused. Its message was not handled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum InvalidKey {
    /// The key has no characters.
    #[error("the key of an ask must not be empty")]
    Empty,
    /// The key is too long.
    #[error("the key of an ask has at most {max} bytes, this one has {bytes}")]
    TooLong {
        /// Length of the refused key in bytes.
        bytes: usize,
        /// The limit, 255.
        max: usize,
    },
    /// The entity remembers the key of another message. A key names one ask: give each its own.
    #[error("the key was given before, to `{message}`")]
    Taken {
        /// The wire name of that message.
        message: String,
    },
}
