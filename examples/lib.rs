//! The examples of casty: one idea a file. Run one with `cargo run --example NAME`.
