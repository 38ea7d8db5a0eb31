//! Asks: the call a proxy builds, the place its reply arrives in, the deadlines of all asks, and
//! the chains by which a circle of asks is found.

pub(crate) mod call;
pub(crate) mod chain;
pub(crate) mod deadlines;
pub(crate) mod one_shot;
