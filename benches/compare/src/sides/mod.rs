//! The sides, a file each, written as their users would.

mod actix;
mod casty;
mod coerce;
mod floor;
mod kameo;
mod ractor;
mod rio;
mod xtra;

use crate::{
    AnyError,
    cases::{Case, Outcome, Side},
    local::{self, Scale},
    remote,
};

/// The capacity of each mailbox, on the sides that let it be chosen: casty's default.
const CAPACITY: usize = 1024;

/// The threads of every side.
const THREADS: usize = 2;

/// Measures one case of one side, once.
pub(crate) fn run(side: Side, case: Case, quick: bool) -> Result<Outcome, AnyError> {
    let scale = Scale { quick };
    if let Some(reason) = side.cannot(case) {
        return Err(format!("{} cannot: {reason}", side.name()).into());
    }
    match side {
        Side::Actix => actix::run(case, scale),
        _ => on_a_worker(async move {
            if case.is_remote() {
                between(side, case, scale).await
            } else {
                within(side, case, scale).await
            }
        }),
    }
}

async fn within(side: Side, case: Case, scale: Scale) -> Result<Outcome, AnyError> {
    match side {
        Side::Floor => local::measure::<floor::Process>(case, scale).await,
        Side::Casty => local::measure::<casty::Entities>(case, scale).await,
        Side::CastyActor => local::measure::<casty::Actors>(case, scale).await,
        Side::CastyTls => Err("is about connections".into()),
        Side::Kameo => local::measure::<kameo::Process>(case, scale).await,
        Side::Ractor => local::measure::<ractor::Process>(case, scale).await,
        Side::Xtra => local::measure::<xtra::Process>(case, scale).await,
        Side::Coerce => local::measure::<coerce::Process>(case, scale).await,
        Side::RioRs => local::asking::<rio::Process>(case, scale).await,
        Side::Actix => Err("has its own threads".into()),
    }
}

async fn between(side: Side, case: Case, scale: Scale) -> Result<Outcome, AnyError> {
    match side {
        Side::Floor => remote::measure::<floor::Network>(case, side, scale).await,
        Side::Casty => remote::measure::<casty::Network>(case, side, scale).await,
        Side::CastyTls => remote::measure::<casty::Tls>(case, side, scale).await,
        Side::Kameo => remote::measure::<kameo::Network>(case, side, scale).await,
        Side::Ractor => remote::measure::<ractor::Network>(case, side, scale).await,
        Side::Coerce => remote::measure::<coerce::Network>(case, side, scale).await,
        Side::RioRs => remote::asking::<rio::Network>(case, side, scale).await,
        Side::CastyActor | Side::Actix | Side::Xtra => Err("knows one process only".into()),
    }
}

/// Runs the other process of a remote case.
pub(crate) fn serve(side: Side) -> Result<(), AnyError> {
    let runtime = runtime()?;
    match side {
        Side::Floor => runtime.block_on(remote::serve::<floor::Network>()),
        Side::Casty => runtime.block_on(remote::serve::<casty::Network>()),
        Side::CastyTls => runtime.block_on(remote::serve::<casty::Tls>()),
        Side::Kameo => runtime.block_on(remote::serve::<kameo::Network>()),
        Side::Ractor => runtime.block_on(remote::serve::<ractor::Network>()),
        Side::Coerce => runtime.block_on(remote::serve::<coerce::Network>()),
        Side::RioRs => runtime.block_on(remote::serve::<rio::Network>()),
        Side::CastyActor | Side::Actix | Side::Xtra => Err("knows one process only".into()),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
}

/// The loops run on a worker thread, as an application's do.
fn on_a_worker<T: Send + 'static>(
    task: impl Future<Output = Result<T, AnyError>> + Send + 'static,
) -> Result<T, AnyError> {
    let runtime = runtime()?;
    let done = runtime.block_on(async { tokio::spawn(task).await })?;
    // The result of tasks that still run does not matter.
    runtime.shutdown_background();
    done
}
