//! The loops in one process: the same for every side.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::{
    AnyError,
    cases::{Case, IN_FLIGHT, Outcome, SENDERS},
    heap,
};

/// A counter of any side.
pub(crate) trait Ask: Send + Sync + 'static {
    /// Adds, and returns the sum.
    fn ask(&self, amount: i64) -> impl Future<Output = i64> + Send;
}

/// A counter that can be told without waiting for it.
pub(crate) trait Tell: Ask {
    /// Adds. Returns once there was room for the message.
    fn tell(&self, amount: i64) -> impl Future<Output = ()> + Send;
}

/// A side's system of counters within one process.
pub(crate) trait Local: Sized + Send + Sync + 'static {
    type Counter: Ask;

    /// Starts the system.
    fn start() -> impl Future<Output = Result<Self, AnyError>> + Send;

    /// A new counter. Its activation may be left to the first message.
    fn counter(&self, number: usize) -> impl Future<Output = Self::Counter> + Send;

    /// Starts one of the tasks that send.
    fn spawn(&self, _number: usize, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }
}

/// The amount of work: everything, or a tenth of it.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
}

impl Scale {
    pub(crate) fn of(self, count: i64) -> i64 {
        if self.quick { count / 10 } else { count }
    }
}

const TELLS: i64 = 2_000_000;
const ASKS: i64 = 2_000_000;
const MANY: usize = 1_000;
const CROWD: i64 = 100_000;

/// The longest run. A run also ends after its number of messages.
const TIME_MAX: Duration = Duration::from_millis(700);
/// Messages per reading of the clock: a power of two.
const READ_EVERY: i64 = 64;
/// The silence after which the rest of the messages is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// The start of a run.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Whether to send one more message.
    pub(crate) fn goes_on(self, sent: i64, most: i64) -> bool {
        sent < most && (sent % READ_EVERY != 0 || self.0.elapsed() < TIME_MAX)
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    pub(crate) fn rate(self, count: i64) -> Outcome {
        Outcome::Value(count as f64 / self.0.elapsed().as_secs_f64())
    }
}

/// Measures a case that only asks.
pub(crate) async fn asking<L: Local>(case: Case, scale: Scale) -> Result<Outcome, AnyError> {
    let side = Arc::new(L::start().await?);
    match case {
        Case::AskSeq => ask_seq(&*side, scale).await,
        Case::AskConc => ask_conc(&*side, scale).await,
        Case::Spawn => spawn(side, scale).await,
        Case::Bytes => bytes(&*side, scale).await,
        _ => Err(format!("{} is no case of asking", case.name()).into()),
    }
}

/// Measures any local case.
pub(crate) async fn measure<L: Local>(case: Case, scale: Scale) -> Result<Outcome, AnyError>
where
    L::Counter: Tell,
{
    match case {
        Case::TellOne => tell_one(&L::start().await?, scale).await,
        Case::TellMany => tell_many(&L::start().await?, scale).await,
        _ => asking::<L>(case, scale).await,
    }
}

async fn tell_one<L: Local>(side: &L, scale: Scale) -> Result<Outcome, AnyError>
where
    L::Counter: Tell,
{
    let counters = started(side, 1).await;
    let (clock, mut sent) = (Clock::start(), 0);
    while clock.goes_on(sent, scale.of(TELLS)) {
        counters[0].tell(1).await;
        sent += 1;
    }
    arrived(&counters, sent, clock).await
}

async fn tell_many<L: Local>(side: &L, scale: Scale) -> Result<Outcome, AnyError>
where
    L::Counter: Tell,
{
    let counters = started(side, MANY).await;
    let most = scale.of(TELLS) / count(SENDERS)?;
    let clock = Clock::start();
    let sent = together(side, SENDERS, |sender| {
        let counters = counters.clone();
        async move {
            // Each sender begins at another counter, so that the senders do not follow each other
            // from one counter to the next.
            let mut next = (sender * MANY / SENDERS..MANY)
                .chain(0..sender * MANY / SENDERS)
                .cycle();
            let mut sent = 0;
            while clock.goes_on(sent, most) {
                counters[next.next().unwrap_or(0)].tell(1).await;
                sent += 1;
            }
            sent
        }
    })
    .await;
    arrived(&counters, sent.iter().sum(), clock).await
}

async fn ask_seq<L: Local>(side: &L, scale: Scale) -> Result<Outcome, AnyError> {
    let counters = started(side, 1).await;
    let (clock, mut sent) = (Clock::start(), 0);
    while clock.goes_on(sent, scale.of(ASKS)) {
        sent += 1;
        let answer = counters[0].ask(1).await;
        if answer != sent {
            return Err(format!("ask {sent} was answered with {answer}").into());
        }
    }
    arrived(&counters, sent, clock).await
}

async fn ask_conc<L: Local>(side: &L, scale: Scale) -> Result<Outcome, AnyError> {
    let counters = started(side, IN_FLIGHT).await;
    let most = scale.of(ASKS) / count(IN_FLIGHT)?;
    let clock = Clock::start();
    let sent = together(side, IN_FLIGHT, |asker| {
        let counters = counters.clone();
        async move {
            let mut sent = 0;
            let mut at = asker;
            while clock.goes_on(sent, most) {
                counters[at].ask(1).await;
                at = (at + 1) % IN_FLIGHT;
                sent += 1;
            }
            sent
        }
    })
    .await;
    arrived(&counters, sent.iter().sum(), clock).await
}

async fn spawn<L: Local>(side: Arc<L>, scale: Scale) -> Result<Outcome, AnyError> {
    let crowd = usize::try_from(scale.of(CROWD))?;
    let clock = Clock::start();
    let counters = together(&*side, IN_FLIGHT, |starter| {
        let side = side.clone();
        async move {
            let mut counters = Vec::with_capacity(crowd / IN_FLIGHT + 1);
            for number in (starter..crowd).step_by(IN_FLIGHT) {
                let counter = side.counter(number).await;
                let answer = counter.ask(1).await;
                counters.push((counter, answer));
            }
            counters
        }
    })
    .await;
    let answered = counters.iter().flatten().filter(|(_, answer)| *answer == 1);
    let lost = count(crowd)? - count(answered.count())?;
    Ok(if lost == 0 {
        clock.rate(count(crowd)?)
    } else {
        Outcome::Lost(lost)
    })
}

async fn bytes<L: Local>(side: &L, scale: Scale) -> Result<Outcome, AnyError> {
    let crowd = usize::try_from(scale.of(CROWD))?;
    // The additional cost of the first counter is not counted.
    let first = side.counter(crowd).await;
    first.ask(1).await;
    heap::start();
    let mut counters = Vec::with_capacity(crowd);
    for number in 0..crowd {
        let counter = side.counter(number).await;
        let answer = counter.ask(1).await;
        if answer != 1 {
            return Err(format!("counter {number} began with {answer}").into());
        }
        counters.push(counter);
    }
    let live = heap::live_at_rest().await;
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let each = live as f64 / counters.len() as f64;
    Ok(Outcome::Value(each))
}

fn count(length: usize) -> Result<i64, AnyError> {
    Ok(i64::try_from(length)?)
}

/// Starts counters, each of which answers once.
async fn started<L: Local>(side: &L, crowd: usize) -> Arc<Vec<L::Counter>> {
    let mut counters = Vec::with_capacity(crowd);
    for number in 0..crowd {
        let counter = side.counter(number).await;
        counter.ask(0).await;
        counters.push(counter);
    }
    Arc::new(counters)
}

/// Runs this many sending tasks, and waits for all of them.
async fn together<L: Local, T, F>(side: &L, tasks: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let running: Vec<_> = (0..tasks)
        .map(|number| {
            let (end, ended) = oneshot::channel();
            let task = task(number);
            side.spawn(number, async move {
                let _ = end.send(task.await);
            });
            ended
        })
        .collect();
    let mut ended = Vec::with_capacity(tasks);
    for task in running {
        ended.push(task.await.expect("a task that ends"));
    }
    ended
}

/// The rate, once every message has arrived; or the number of messages that never did.
pub(crate) async fn arrived<C: Ask>(
    counters: &[C],
    sent: i64,
    clock: Clock,
) -> Result<Outcome, AnyError> {
    let (mut best, mut progress) = (-1, Instant::now());
    loop {
        let mut sum = 0;
        for counter in counters {
            sum += counter.ask(0).await;
        }
        if sum == sent {
            return Ok(clock.rate(sent));
        }
        if sum > sent {
            return Err(format!("{sent} were sent, {sum} arrived").into());
        }
        if sum > best {
            (best, progress) = (sum, Instant::now());
        } else if progress.elapsed() > PATIENCE {
            return Ok(Outcome::Lost(sent - sum));
        }
        tokio::task::yield_now().await;
    }
}
