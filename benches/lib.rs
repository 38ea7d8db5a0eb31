//! Support for the benches of casty.
