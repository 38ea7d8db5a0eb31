//! The program `casty` inspects and operates a cluster from a shell.
//!
//! The operations are in [`casty::admin`]. This crate adds the arguments, the text, and the exit
//! codes: 0 success, 1 failed or refused, 2 wrong usage, 3 no node can be reached.

mod arguments;
mod backup;
mod cert;
mod configuration;
mod directories;
mod failure;
mod lost;
mod outbox;
mod record;
mod reminders;
mod stored;
mod text;
mod top;
mod why;

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

/// Runs the operation. Returns the text to print.
async fn run(arguments: &Arguments) -> Result<String, Failure> {
    let Arguments {
        cluster,
        nodes,
        timeout,
        operation,
        json,
        tls,
    } = arguments;
    if let Operation::Cert { command } = operation {
        let done = cert::run(command, cluster, *json);
        return done.map_err(|failure| Failure::certificate(operation, failure));
    }
    if let Operation::Adopt { directory } = operation {
        return directories::adopt(operation, directory, *json);
    }
    if let Operation::Restore { from, to } = operation {
        return backup::restore(operation, from, to, *json);
    }
    if let Operation::Recording { file } = operation {
        return record::show(operation, file, *json);
    }
    if let Operation::Config { command } = operation {
        return configuration::run(operation, command, *json);
    }
    let failed = |error| Failure::new(operation, error);
    let admin = match tls.clone() {
        Some(tls) => Admin::connect_tls_within(*timeout, cluster, nodes, tls).await,
        None => Admin::connect_within(*timeout, cluster, nodes).await,
    };
    let admin = admin.map_err(failed)?;
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
        Operation::Recover { lost: true, .. } => lost::run(&admin, operation, *json).await,
        Operation::Recover { keep, force, .. } => {
            // The parser has seen to it that it is there.
            let keep = keep.as_deref().unwrap_or_default();
            let recovered = admin.recover(keep, *force).await.map_err(failed)?;
            text::either(*json, &recovered, text::recovered)
        }
        Operation::Drain { node, wait } => {
            let progress = |progress| {
                if !json {
                    // Progress goes to standard error: standard output carries only the result.
                    eprintln!("{node}: {}", text::progress(progress));
                }
            };
            let drained = admin.drain(node, *wait, progress).await.map_err(failed)?;
            text::either(*json, &drained, text::drained)
        }
        Operation::Entities { .. } | Operation::History { .. } | Operation::Erase { .. } => {
            stored::run(&admin, operation, *json).await
        }
        Operation::Top { once, every } => top::run(&admin, operation, (*every, *once), *json).await,
        Operation::Outbox => outbox::run(&admin, operation, *json).await,
        Operation::Why { entity } => why::run(&admin, operation, entity, *json).await,
        Operation::Record {
            entity,
            messages,
            stop,
            write,
            failed,
            journal,
        } => {
            let order = record::Order {
                journal: *journal,
                entity,
                messages: *messages,
                stop: *stop,
                write: write.as_ref(),
                failed: *failed,
            };
            record::run(&admin, operation, order, *json).await
        }
        Operation::GiveUp {
            entity,
            reminder,
            yes,
        } => {
            let what = (entity.as_str(), reminder.as_deref());
            outbox::give_up(&admin, operation, what, *yes, *json).await
        }
        Operation::Reminders { kind, limit } => {
            reminders::run(&admin, operation, (kind.as_deref(), *limit), *json).await
        }
        Operation::Backup { to, kinds } => {
            backup::back_up(&admin, operation, (to, kinds), *json).await
        }
        Operation::Restore { .. }
        | Operation::Adopt { .. }
        | Operation::Recording { .. }
        | Operation::Cert { .. }
        | Operation::Config { .. } => Ok(String::new()),
    }
}

fn print(output: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(output.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        // The reader closed the pipe, because it has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::output(&error)),
        _ => Ok(()),
    }
}
