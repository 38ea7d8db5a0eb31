//! Support for the ui-tests of casty.
