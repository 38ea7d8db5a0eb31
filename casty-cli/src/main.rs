//! `casty`: looks at a cluster, and operates it, from a shell.
//!
//! What it does is [`casty::admin`]; here are only the arguments, the text, and the exit codes: 0
//! done, 1 failed or refused, 2 used wrongly, 3 nobody could be reached.

mod arguments;
mod failure;
mod text;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use casty::admin::Admin;

use self::{
    arguments::{Arguments, Operation},
    failure::Failure,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::read();
    let done = run(&arguments).await;
    match done.and_then(|output| print(&output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// Does what was asked; returns what is to be printed.
async fn run(arguments: &Arguments) -> Result<String, Failure> {
    let Arguments {
        cluster,
        nodes,
        timeout,
        operation,
        json,
    } = arguments;
    let failed = |error| Failure::new(operation, error);
    let admin = Admin::connect_within(*timeout, cluster, nodes)
        .await
        .map_err(failed)?;
    match operation {
        Operation::Members => {
            let members = admin.members().await.map_err(failed)?;
            text::either(*json, &members, |members| text::members(cluster, members))
        }
        Operation::Shards => {
            let shards = admin.shards().await.map_err(failed)?;
            text::either(*json, &shards, |shards| text::shards(cluster, shards))
        }
        Operation::Promote { node } => {
            let recovered = admin.promote(node).await.map_err(failed)?;
            text::either(*json, &recovered, text::recovered)
        }
        Operation::Recover { keep, force } => {
            let recovered = admin.recover(keep, *force).await.map_err(failed)?;
            text::either(*json, &recovered, text::recovered)
        }
        Operation::Drain { node, wait } => {
            let progress = |progress| {
                if !json {
                    // Who watches wants to see it now; the result alone goes to the standard
                    // output.
                    eprintln!("{node}: {}", text::progress(progress));
                }
            };
            let drained = admin.drain(node, *wait, progress).await.map_err(failed)?;
            text::either(*json, &drained, text::drained)
        }
    }
}

fn print(output: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(output.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        // Whoever read it has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::output(&error)),
        _ => Ok(()),
    }
}
