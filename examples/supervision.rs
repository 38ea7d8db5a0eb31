//! What happens to actors that fail: `cargo run --example supervision`

use casty::prelude::*;

/// Does jobs. Some of them fail.
#[derive(Default)]
struct Worker {
    done: u32,
}

/// A panic is a failure. After the first two failures within a minute the worker is restarted; the
/// third one stops it.
#[actor(max_restarts = 2, within = "60s", backoff = "20ms")]
impl Worker {
    /// Divides; division by zero panics.
    #[message]
    fn divide(&mut self, a: i64, b: i64) -> i64 {
        let result = a / b;
        self.done += 1;
        result
    }

    /// How many jobs this worker has done since it last started.
    #[message]
    fn done(&self) -> u32 {
        self.done
    }

    #[on_restart]
    fn again(&mut self) {
        println!("  (the worker starts afresh)");
    }
}

/// Hires a worker, and hires another when the first has ended.
#[derive(Default)]
struct Foreman {
    worker: Option<WorkerRef>,
}

#[actor]
impl Foreman {
    /// The present worker.
    #[message]
    fn worker(&mut self, ctx: &mut Context<Self>) -> WorkerRef {
        let worker = self.worker.get_or_insert_with(|| {
            println!("  (the foreman hires a worker)");
            // The worker is a child: it stops when the foreman stops.
            let worker = ctx.spawn_with(Worker::default);
            ctx.watch(&worker);
            worker
        });
        worker.clone()
    }

    #[on_terminated]
    fn worker_ended(&mut self, who: Terminated, ctx: &mut Context<Self>) {
        println!("  (the foreman hears: {})", who.reason);
        self.worker = None;
        ctx.emit(WorkerGone);
    }
}

/// The event that the foreman publishes.
struct WorkerGone;

/// An entity that fails whenever it is touched.
#[derive(Default)]
struct Cursed;

#[entity(
    shards = 4,
    max_restarts = 1,
    within = "60s",
    backoff = "20ms",
    backoff_max = "5s"
)]
impl Cursed {
    #[message]
    fn touch(&mut self) {
        panic!("the curse");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The panics below are intended: the askers get them as errors, so they need no backtrace on
    // the terminal.
    std::panic::set_hook(Box::new(|_| ()));
    let system = ActorSystem::local("app");

    println!("── A worker that fails now and then ──");
    let foreman = system.spawn(Foreman::default());
    let worker = foreman.worker().await?;
    println!("6 / 3 = {}", worker.divide(6, 3).await?);
    println!("1 / 0: {}", told(worker.divide(1, 0).await));
    println!("8 / 2 = {}", worker.divide(8, 2).await?);
    println!("jobs done since: {}", worker.done().await?);

    println!("── Too often: it ends, and the foreman hires another ──");
    let mut events = system.events();
    println!("1 / 0: {}", told(worker.divide(1, 0).await));
    println!("1 / 0: {}", told(worker.divide(1, 0).await));
    while let Some(event) = events.next().await {
        if matches!(&event, Event::Emitted(emitted) if emitted.get::<WorkerGone>().is_some()) {
            break;
        }
    }
    println!("1 / 0: {}", told(worker.divide(1, 0).await));
    let worker = foreman.worker().await?;
    println!("9 / 3 = {}", worker.divide(9, 3).await?);

    println!("── An entity that fails in a loop is left alone ──");
    let cursed = system.entity::<Cursed>("ring");
    for _ in 0..3 {
        match cursed.touch().await {
            Err(AskError::Quarantined { reason, .. }) => println!("quarantined: {reason}"),
            other => println!("touched: {}", told(other)),
        }
    }

    system.shutdown().await?;
    Ok(())
}

fn told<T: std::fmt::Debug>(answer: Result<T, AskError>) -> String {
    match answer {
        Ok(value) => format!("{value:?}"),
        Err(error) => error.to_string(),
    }
}
