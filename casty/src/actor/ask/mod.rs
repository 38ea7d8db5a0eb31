//! Asks: the call a proxy builds, the place its reply arrives in and the way that it takes there,
//! the deadlines of all asks, and the chains by which a circle of asks is found; messages that wait
//! for a store before they are sent.

pub(crate) mod any_call;
pub(crate) mod call;
pub(crate) mod chain;
pub(crate) mod deadlines;
#[cfg(feature = "metrics")]
pub(crate) mod durations;
pub(crate) mod held;
pub(crate) mod if_active;
pub(crate) mod keyed;
pub(crate) mod one_shot;
pub(crate) mod promise;
pub(crate) mod remote_reply;
pub(crate) mod reply;
pub(crate) mod retry;
pub(crate) mod sent;
pub(crate) mod terms;
