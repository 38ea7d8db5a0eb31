//! The diagram of a state machine: `cargo run --example behavior -- mermaid`, or `-- dot`

mod shop;

use std::process::ExitCode;

use crate::shop::Cart;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let diagram = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["mermaid"] => Cart::behavior().mermaid(),
        ["dot"] => Cart::behavior().dot(),
        _ => {
            eprintln!("usage: cargo run --example behavior -- mermaid|dot");
            return ExitCode::from(2);
        }
    };
    print!("{diagram}");
    ExitCode::SUCCESS
}
