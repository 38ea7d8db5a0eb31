//! casty from end to end: over real TCP, in one process and in several.

mod cluster;
mod errors;
mod local;
mod moves;
mod processes;
mod support;
mod wire;
