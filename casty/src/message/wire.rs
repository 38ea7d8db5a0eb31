//! The values that may travel in a message.

use serde::{Serialize, de::DeserializeOwned};

/// A value that can travel in a message or a reply: anything serde can write and read, that may
/// move between threads. Implemented for all such types; nothing implements it by hand.
///
/// A type of your own gets it from `#[message]`:
///
/// ```
/// use casty::prelude::*;
///
/// #[message]
/// struct Item { name: String, price: f64 }
///
/// fn travels<T: Wire>() {}
/// travels::<Item>();
/// ```
///
/// # What comes back
/// A value arrives as its `Serialize` and `Deserialize` have it. `Some(..)` stays `Some(..)`,
/// whatever is in it. At most 64 sequences, maps and structs may stand in each other, the message
/// included, and at most 250 `Some`s and enum variants: deeper values are
/// [`AskError::Unencodable`](crate::AskError::Unencodable) where they are sent. Some types do not
/// keep all that they hold, with any format that is not text: a `SocketAddrV6` loses its scope; or
/// they cannot be read back where serde has to look ahead: a `u128` under `#[serde(untagged)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel in a message",
    label = "not serializable, or not `Send + 'static`",
    note = "write `#[message]` above the definition of your type, or derive serde's `Serialize` and `Deserialize` for it"
)]
pub trait Wire: Serialize + DeserializeOwned + Send + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + Send + 'static> Wire for T {}
