//! Asks that wait for each other.
//!
//! A handler that awaits the answer to an ask keeps its actor from handling anything else. If the
//! asked actor asks on, and an actor further down asks an actor of the same chain, all of them wait
//! for each other. So an ask made while an actor handles a message carries the chain of the waiting
//! actors, and an actor in the chain refuses the message.
//!
//! To another node a chain travels as the names of its actors. Each name comes with the node that
//! the actor waits on and a number by which that node finds it: only an actor's own node knows
//! whether it still waits.
//!
//! An ask made in a task of its own (`ctx.pipe`) carries no chain: its actor does not wait for it.
//! An ask that was given up at its timeout breaks its chain.

use std::{
    cell::RefCell,
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tracing::Span;

use crate::{
    error::Failure,
    event::ActorPath,
    id::MemberId,
    infra::{concurrent::thread_local, sync::lock},
    message::codec,
    recorder::answers::Answers,
    trace::Asking,
};

/// An actor as the messages see it that it sends, and the answers that it owes.
pub(crate) trait Acts: Send + Sync {
    fn path(&self) -> ActorPath;

    /// Whether it may act now: answer, and send something away from this node.
    fn may_act(&self) -> bool;

    /// The error that an asker gets if the answer may not leave.
    fn lost_lease(&self) -> Failure;

    /// It asks, and waits for the answer.
    fn asks(&self, ask: &Arc<Chain>) {
        let _ = ask;
    }

    /// Whether this is the actor with this key, or belongs to it as a child, or a child's child.
    fn is_within(&self, key: *const ()) -> bool {
        let _ = key;
        false
    }
}

/// Actors of a chain that are told to another node. Longer circles end by their timeouts.
const LINKS_MAX: usize = 32;

/// Actors that wait, the last one first.
pub(crate) struct Chain {
    waiting: Waiting,
    /// It waits no more.
    over: AtomicBool,
    rest: Option<Arc<Chain>>,
    /// By what another node's answer finds it.
    abroad: OnceLock<Abroad>,
    /// What the first of them waits for, if it is here.
    awaited: Option<Awaited>,
    /// Where the flight recorder keeps what the first of them asks.
    answers: Option<Arc<Answers>>,
}

/// The target of an ask.
pub(crate) struct Awaited {
    pub(crate) to: Box<dyn Fn() -> ActorPath + Send + Sync>,
    pub(crate) message: &'static str,
    pub(crate) since: Instant,
}

/// An ask without an answer.
#[derive(Clone, Debug)]
pub(crate) struct PendingAsk {
    pub(crate) to: ActorPath,
    pub(crate) message: &'static str,
    pub(crate) since: Duration,
}

struct Abroad {
    number: u64,
    chains: Weak<Chains>,
}

enum Waiting {
    Here(Arc<dyn Acts>),
    Elsewhere(WireLink),
}

/// An actor that waits: its name, its node, its number there.
type WireLink = (String, MemberId, u64);

/// The chains of this node's actors that were told to other nodes.
#[derive(Default)]
pub(crate) struct Chains(Mutex<Known>);

#[derive(Default)]
struct Known {
    last: u64,
    by_number: HashMap<u64, Weak<Chain>>,
}

impl Chains {
    fn add(&self, chain: &Arc<Chain>) -> u64 {
        let mut known = lock(&self.0);
        known.last += 1;
        let number = known.last;
        known.by_number.insert(number, Arc::downgrade(chain));
        number
    }

    fn get(&self, number: u64) -> Option<Arc<Chain>> {
        lock(&self.0).by_number.get(&number)?.upgrade()
    }

    fn remove(&self, number: u64) {
        lock(&self.0).by_number.remove(&number);
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        if let Some(abroad) = self.abroad.get()
            && let Some(chains) = abroad.chains.upgrade()
        {
            chains.remove(abroad.number);
        }
    }
}

/// A chain as it travels from the node of `myself`, whose chains are `chains`.
pub(crate) fn encoded(chain: &Arc<Chain>, chains: &Arc<Chains>, myself: &MemberId) -> Vec<u8> {
    let mut out = Vec::new();
    let links: Vec<WireLink> = std::iter::successors(Some(chain), |chain| chain.rest.as_ref())
        .take_while(|chain| !chain.over.load(Ordering::Relaxed))
        .take(LINKS_MAX)
        .map(|chain| match &chain.waiting {
            Waiting::Elsewhere(link) => link.clone(),
            Waiting::Here(cell) => {
                let abroad = chain.abroad.get_or_init(|| Abroad {
                    number: chains.add(chain),
                    chains: Arc::downgrade(chains),
                });
                (cell.path().to_string(), myself.clone(), abroad.number)
            }
        })
        .collect();
    if codec::encode(&links, &mut out).is_err() || out.len() > usize::from(u16::MAX) {
        // Without a chain a circle ends by its timeouts.
        out.clear();
    }
    out
}

/// A chain that came from another node to the node of `myself`. Bytes that cannot be decoded count
/// as no chain.
pub(crate) fn decoded(
    bytes: &[u8],
    chains: &Chains,
    myself: Option<&MemberId>,
) -> Option<Arc<Chain>> {
    let mut links: Vec<WireLink> = codec::decode(bytes).ok()?;
    links.truncate(LINKS_MAX);
    // From here on the chain is this node's own, and better known.
    let own = links
        .iter()
        .position(|(_, member, _)| Some(member) == myself);
    let rest = own.and_then(|at| chains.get(links[at].2));
    let abroad = &links[..own.unwrap_or(links.len())];
    abroad.iter().rev().fold(rest, |rest, link| {
        Some(Arc::new(Chain {
            waiting: Waiting::Elsewhere(link.clone()),
            over: AtomicBool::new(false),
            rest,
            abroad: OnceLock::new(),
            awaited: None,
            answers: None,
        }))
    })
}

impl Chain {
    /// Whether the first actor of it waits no more.
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Where the answer to the ask of the first actor is recorded, or comes from in a replay.
    pub(crate) fn answers(&self) -> Option<&Arc<Answers>> {
        self.answers.as_ref()
    }

    /// What the first actor of it waits for.
    pub(crate) fn pending(&self) -> Option<PendingAsk> {
        let awaited = self.awaited.as_ref()?;
        Some(PendingAsk {
            to: (awaited.to)(),
            message: awaited.message,
            since: awaited.since.elapsed(),
        })
    }

    /// If the actor with this key is in the chain: the names from the first of the circle to the
    /// last.
    pub(crate) fn closed_by(
        &self,
        key: *const (),
        path: impl FnOnce() -> ActorPath,
    ) -> Option<Vec<String>> {
        let mut link = Some(self);
        while let Some(chain) = link.filter(|chain| !chain.over.load(Ordering::Relaxed)) {
            if let Waiting::Here(cell) = &chain.waiting
                && std::ptr::eq(Arc::as_ptr(cell).cast::<()>(), key)
            {
                return Some(Self::names(self, chain, path().to_string()));
            }
            link = chain.rest.as_deref();
        }
        None
    }

    /// Whether the actor with this key cannot end before an actor of the chain has returned.
    pub(crate) fn holds_up(&self, key: *const ()) -> bool {
        std::iter::successors(Some(self), |chain| chain.rest.as_deref())
            .take_while(|chain| !chain.over.load(Ordering::Relaxed))
            .any(|chain| matches!(&chain.waiting, Waiting::Here(cell) if cell.is_within(key)))
    }

    fn names(from: &Self, to: &Self, closing: String) -> Vec<String> {
        let mut names = vec![closing];
        let mut link = Some(from);
        while let Some(chain) = link {
            names.push(chain.name());
            if std::ptr::eq(chain, to) {
                break;
            }
            link = chain.rest.as_deref();
        }
        names.reverse();
        names
    }

    /// The first actor of it.
    pub(crate) fn name(&self) -> String {
        match &self.waiting {
            Waiting::Here(cell) => cell.path().to_string(),
            Waiting::Elsewhere((name, member, _)) => format!("{name}@{}", member.node),
        }
    }
}

/// Held by an ask for as long as it waits.
pub(crate) struct Waits {
    chain: Option<Arc<Chain>>,
    span: Option<Box<Asking>>,
    /// The number of the ask, if it is recorded.
    recorded: Option<usize>,
    /// When it was sent, if it is timed.
    #[cfg(feature = "metrics")]
    pub(crate) timed: Option<Instant>,
}

impl Waits {
    pub(crate) fn new(chain: Option<Arc<Chain>>) -> Self {
        Self {
            chain,
            span: None,
            recorded: None,
            #[cfg(feature = "metrics")]
            timed: None,
        }
    }

    /// The answer is to be recorded under this number.
    pub(crate) fn record(&mut self, number: Option<usize>) {
        self.recorded = number;
    }

    /// Where the answer is to be recorded.
    #[inline]
    pub(crate) fn recorded(&self) -> Option<(&Answers, usize)> {
        let number = self.recorded?;
        let answers = self.chain.as_ref()?.answers()?;
        Some((answers, number))
    }

    /// The ask has this place in a trace.
    pub(crate) fn begin_span(&mut self, span: Asking) {
        self.span = Some(Box::new(span));
    }

    /// The ask's place in a trace.
    #[inline]
    pub(crate) fn span(&self) -> Option<&Asking> {
        self.span.as_deref()
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        if let Some(chain) = &self.chain {
            chain.over.store(true, Ordering::Relaxed);
        }
    }
}

/// The actor that handles a message on this task, and the chain it handles it for.
struct Handling {
    cell: Arc<dyn Acts>,
    cause: RefCell<Option<Arc<Chain>>>,
    /// The message's place in a trace. Entered while the task is polled.
    span: RefCell<Option<Box<Span>>>,
    /// Where the flight recorder keeps what its handler asks.
    answers: RefCell<Option<Arc<Answers>>>,
}

impl Handling {
    fn new(cell: Arc<dyn Acts>) -> Self {
        Self {
            cell,
            cause: RefCell::new(None),
            span: RefCell::new(None),
            answers: RefCell::new(None),
        }
    }

    fn enter_span(&mut self) {
        if let Some(span) = self.span.get_mut() {
            enter(span);
        }
    }

    fn exit_span(&mut self) {
        if let Some(span) = self.span.get_mut() {
            exit(span);
        }
    }

    fn chain(&self, awaited: Option<Awaited>) -> Chain {
        Chain {
            waiting: Waiting::Here(self.cell.clone()),
            over: AtomicBool::new(false),
            abroad: OnceLock::new(),
            rest: self.cause.borrow().clone(),
            awaited,
            answers: self.answers.borrow().clone(),
        }
    }
}

thread_local! {
    /// The actor that handles a message on this thread right now.
    static ASKER: RefCell<Option<Handling>> = const { RefCell::new(None) };
}

pin_project! {
    /// The run of an actor, which is the asker of whatever is asked in it.
    pub(crate) struct AsAsker<F> {
        asker: Option<Handling>,
        #[pin]
        run: F,
    }
}

impl<F> AsAsker<F> {
    pub(crate) fn new(cell: Arc<dyn Acts>, run: F) -> Self {
        Self {
            asker: Some(Handling::new(cell)),
            run,
        }
    }
}

impl<F: Future> Future for AsAsker<F> {
    type Output = F::Output;

    // As a task-local's scope would, which costs each poll more.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        struct Restore<'a> {
            mine: &'a mut Option<Handling>,
            before: Option<Handling>,
        }
        impl Drop for Restore<'_> {
            fn drop(&mut self) {
                *self.mine = ASKER.with(|asker| asker.replace(self.before.take()));
                if let Some(mine) = self.mine {
                    mine.exit_span();
                }
            }
        }
        let this = self.project();
        if let Some(mine) = this.asker {
            mine.enter_span();
        }
        let before = ASKER.with(|asker| asker.replace(this.asker.take()));
        let _restore = Restore {
            mine: this.asker,
            before,
        };
        this.run.poll(cx)
    }
}

/// Reads the actor that handles a message here.
fn with_asker<R>(look: impl FnOnce(&Handling) -> R) -> Option<R> {
    let looked = ASKER.try_with(|asker| asker.borrow().as_ref().map(look));
    looked.ok().flatten()
}

tokio::task_local! {
    /// The actor that work is done for, in a task of its own.
    pub(crate) static WORKER: Arc<dyn Acts>;
}

/// The actor that handles a message here, or that work is done for.
pub(crate) fn acting() -> Option<Arc<dyn Acts>> {
    let of_handler = with_asker(|asker| asker.cell.clone());
    of_handler.or_else(|| WORKER.try_with(Arc::clone).ok())
}

/// Whether what runs here may send something away from this node: an actor without a lease may not.
pub(crate) fn may_act() -> bool {
    let of_handler = with_asker(|asker| asker.cell.may_act());
    let may = of_handler.or_else(|| WORKER.try_with(|cell| cell.may_act()).ok());
    may.unwrap_or(true)
}

/// The message handled from here on was asked by the last of `chain`.
pub(crate) fn caused_by(chain: Option<Arc<Chain>>) {
    drop(with_asker(|asker| asker.cause.replace(chain)));
}

/// What is asked from here on, on this task, is recorded, or answered, there.
#[cold]
pub(crate) fn records(answers: Option<Arc<Answers>>) {
    drop(with_asker(|asker| asker.answers.replace(answers)));
}

/// The message handled from here on, on this task, has this place in a trace.
#[cold]
pub(crate) fn enter_span(span: Span) {
    let span = Box::new(span);
    enter(&span);
    if let Some(Some(before)) = with_asker(|asker| asker.span.replace(Some(span))) {
        exit(&before);
    }
}

/// The message with the span is dealt with.
#[cold]
pub(crate) fn exit_span() -> Option<Box<Span>> {
    let span = with_asker(|asker| asker.span.take()).flatten()?;
    exit(&span);
    Some(span)
}

/// As [`Span::enter`], whose guard would have to be kept beside the span.
#[cold]
fn enter(span: &Span) {
    span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
}

#[cold]
fn exit(span: &Span) {
    span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
}

/// The chain of an ask that is made now: `None` outside of actors.
pub(crate) fn here() -> Option<Arc<Chain>> {
    with_asker(|asker| Arc::new(asker.chain(None)))
}

/// The same, of an ask that waits for this. The actor remembers it.
pub(crate) fn asking(awaited: impl FnOnce() -> Awaited) -> Option<Arc<Chain>> {
    with_asker(|asker| {
        let chain = Arc::new(asker.chain(Some(awaited())));
        asker.cell.asks(&chain);
        chain
    })
}
