//! Support for the tests of casty.
