//! One actor as a plain value.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime,
    task::yield_now,
    time::{self, Instant},
};

use crate::{
    Actor, ActorSystem, AskError, Entity, Init, SystemBuilder,
    actor::{
        Address, Envelope, FirstState, Only,
        ask::{call::Call, reply::ReplyTo, terms::Terms},
        cell::{Cell, CellHost, Host, look::Look},
        context::Context,
        handle::{AnyCell, CellName},
        message::of_stored,
        runtime::Runtime,
    },
    event::ActorPath,
    id::EntityId,
    infra::{
        sync::lock,
        wall_clock::{self, whole_millis},
    },
    message::caller::{Caller, CameFrom},
    persistence::{
        reminders::{OwnReminders, ReminderChange, ReminderJudged, ReminderTerms, WrittenReminder},
        sends::{OnceTerms, WrittenSend},
    },
    testkit::alone,
};

/// How often the thread is given to others before an actor counts as one that never rests.
const ROUNDS_MAX: u32 = 10_000;

/// An actor as a plain value: a test sends it messages and looks at its state, without `async`,
/// without a system of its own, and with a clock that only the test moves.
///
/// ```standalone_crate
/// use casty::{prelude::*, testkit::Machine};
///
/// #[entity(name = "testkit/door")]
/// mod door {
///     use casty::prelude::*;
///
///     #[state(initial)]
///     #[derive(Default)]
///     pub struct Closed;
///
///     #[state]
///     pub struct Open { pub visitors: u32 }
///
///     #[behavior(otherwise = reject)]
///     impl Closed {
///         #[message]
///         fn push(self) -> Open {
///             Open { visitors: 0 }
///         }
///     }
///
///     #[behavior(otherwise = reject)]
///     impl Open {
///         #[message]
///         fn enter(&mut self) -> u32 {
///             self.visitors += 1;
///             self.visitors
///         }
///
///         #[message(internal, after = "10s")]
///         fn fall_shut(self) -> Closed {
///             Closed
///         }
///     }
/// }
///
/// let mut door = Machine::of(Door::from(door::Closed));
/// assert_eq!(door.send(|door| door.push()), Ok(()));
/// assert_eq!(door.send(|door| door.enter()), Ok(1));
/// assert_eq!(door.state(), "Open");
/// assert_eq!(door.timers(), [("fall_shut", Duration::from_secs(10))]);
///
/// door.advance(Duration::from_secs(10));
/// assert_eq!(door.state(), "Closed");
/// assert_eq!(door.timers(), []);
/// ```
///
/// A stored type runs in it too: what its handlers change, or the events that its commands persist,
/// is applied at once, and stored nowhere. What it sends to other stored entities goes nowhere but
/// to [`take_sends`](Self::take_sends): the test tells it of the outcomes. It is reminded of what
/// it has set while time passes in [`advance`](Self::advance).
///
/// ```standalone_crate
/// use casty::{prelude::*, remind::Remind, testkit::Machine};
///
/// #[message]
/// #[derive(Default)]
/// struct Shelf {
///     books: u32,
/// }
///
/// #[entity(durable)]
/// impl Shelf {
///     #[message]
///     fn put(&mut self, books: u32) -> u32 {
///         self.books += books;
///         self.books
///     }
/// }
///
/// #[message]
/// #[derive(Default)]
/// struct Order {
///     shelved: Option<u32>,
///     is_late: bool,
/// }
///
/// #[entity(durable)]
/// impl Order {
///     #[message]
///     fn place(&mut self, shelf: ShelfRef, ctx: &mut Context<Self>) {
///         ctx.send_for(shelf.put(2), |outcome| OrderMsg::Shelved { outcome });
///         ctx.remind("late", Remind::after(Duration::from_hours(1)), OrderMsg::IsLate {});
///     }
///
///     #[message]
///     fn shelved(&mut self, outcome: Outcome<u32>, ctx: &mut Context<Self>) {
///         self.shelved = outcome.result().ok();
///         ctx.forget("late");
///     }
///
///     #[message(internal)]
///     fn is_late(&mut self) {
///         self.is_late = true;
///     }
///
///     #[message]
///     fn report(&self) -> (Option<u32>, bool) {
///         (self.shelved, self.is_late)
///     }
/// }
///
/// # fn main() {
/// let mut order = Machine::of(Order::default());
/// let shelf = order.system().entity::<Shelf>("history");
/// order.send(|order| order.place(shelf)).unwrap();
///
/// let sends = order.take_sends();
/// assert_eq!(sends[0].to.to_string(), "Shelf/history");
/// assert!(matches!(sends[0].message::<Shelf>(), Some(ShelfMsg::Put { books: 2 })));
///
/// assert_eq!(order.reminders(), [("late".to_owned(), Duration::from_hours(1))]);
/// order.advance(Duration::from_hours(2));
/// assert_eq!(order.send(|order| order.report()), Ok((None, true)));
///
/// order.tell(OrderMsg::Shelved { outcome: Outcome::answered(2) });
/// assert_eq!(order.send(|order| order.report()), Ok((Some(2), true)));
/// # }
/// ```
///
/// It runs on the thread of the test, in a system of its own with a paused clock. Time passes in
/// [`advance`](Self::advance), and while a handler awaits it. What the actor sends to others goes
/// to the entities and actors of that [`system`](Self::system).
pub struct Machine<A: Actor> {
    runtime: runtime::Runtime,
    system: ActorSystem,
    cell: Arc<Cell<A>>,
    proxy: A::Ref,
    unstored: Arc<Unstored>,
    sender: Arc<Mutex<CameFrom>>,
}

impl<A: Actor> Machine<A> {
    /// An actor in this state. The activation begins with it: `#[on_start]` and `#[on_enter]` run.
    /// A failure ends it.
    pub fn of(actor: A) -> Self {
        Self::start(Some(actor), None, |builder| builder)
    }

    /// The same in a system that `configure` has configured, for example with
    /// [resources](SystemBuilder::resource).
    ///
    /// # Panics
    /// If the configuration is refused.
    pub fn of_with(actor: A, configure: impl FnOnce(SystemBuilder) -> SystemBuilder) -> Self {
        Self::start(Some(actor), None, configure)
    }

    /// An actor that makes its first state as it always does, also after a failure.
    #[expect(clippy::new_without_default, reason = "it starts a runtime")]
    pub fn new() -> Self
    where
        A: Init,
    {
        Self::start(None, Some(A::init), |builder| builder)
    }

    /// The same in a system that `configure` has configured.
    ///
    /// # Panics
    /// If the configuration is refused.
    pub fn new_with(configure: impl FnOnce(SystemBuilder) -> SystemBuilder) -> Self
    where
        A: Init,
    {
        Self::start(None, Some(A::init), configure)
    }

    fn start(
        actor: Option<A>,
        make: Option<Make<A>>,
        configure: impl FnOnce(SystemBuilder) -> SystemBuilder,
    ) -> Self {
        let runtime = alone::runtime();
        let entered = runtime.enter();
        let system = alone::system("machine", configure);
        let unstored = Arc::new(Unstored::default());
        let sender = Arc::default();
        let host = Arc::new(MachineHost {
            runtime: system.runtime().clone(),
            make,
            unstored: unstored.clone(),
            sender: Arc::clone(&sender),
        });
        let name = CellName::Entity(EntityId::new("machine"));
        let cell = Cell::new(name, host, A::POLICY.mailbox, actor);
        let proxy = A::proxy(cell.address());
        drop(entered);
        let machine = Self {
            runtime,
            system,
            cell,
            proxy,
            unstored,
            sender,
        };
        machine.cell.wake();
        machine.settle();
        machine
    }

    /// Asks, and returns the answer. Time passes if the handler awaits it.
    ///
    /// # Errors
    /// As for any other ask.
    pub fn send<T, E>(
        &mut self,
        call: impl FnOnce(&A::Ref) -> Call<A, T, E>,
    ) -> Result<T, AskError<E>>
    where
        Call<A, T, E>: IntoFuture<Output = Result<T, AskError<E>>>,
    {
        let answer = {
            let _entered = self.runtime.enter();
            call(&self.proxy).into_future()
        };
        let answer = self.runtime.block_on(answer);
        self.settle();
        answer
    }

    /// What is sent to it from now on comes from this process: see
    /// [`Context::caller`](crate::Context::caller). Its own timers do not.
    ///
    /// ```standalone_crate
    /// use casty::{access::Caller, prelude::*, testkit::Machine};
    ///
    /// #[derive(Default)]
    /// struct Door;
    ///
    /// #[entity]
    /// impl Door {
    ///     #[message]
    ///     fn open(&self, ctx: &mut Context<Self>) -> bool {
    ///         *ctx.caller() == Caller::Client("porter".to_owned())
    ///     }
    /// }
    ///
    /// let mut door = Machine::<Door>::new();
    /// assert_eq!(door.send(|door| door.open()), Ok(false));
    /// door.set_caller(Caller::Client("porter".to_owned()));
    /// assert_eq!(door.send(|door| door.open()), Ok(true));
    /// ```
    pub fn set_caller(&mut self, caller: Caller) {
        *lock(&self.sender) = CameFrom::Peer(Some(Arc::new(caller)));
    }

    /// Tells it a message, which may be an internal one: what a timer, or work, would send.
    ///
    /// # Panics
    /// If the mailbox is full, or the actor has ended.
    pub fn tell(&mut self, message: A::Message) {
        self.push(message, ReplyTo::Nobody);
    }

    fn push(&self, message: A::Message, reply: ReplyTo<A::Reply>) {
        let told = {
            let _entered = self.runtime.enter();
            self.cell.push(Envelope { message, reply })
        };
        assert!(
            told.is_ok(),
            "the actor takes no message: it has ended, or its mailbox is full"
        );
        self.settle();
    }

    /// Lets time pass. Timers that are due meanwhile send their messages, and so do reminders.
    ///
    /// # Panics
    /// If a reminder is due, and the actor takes no message: it has ended, or its mailbox is full.
    pub fn advance(&mut self, time: Duration) {
        let end = self.now() + time;
        loop {
            let left = end.saturating_duration_since(self.now());
            let now = self.millis();
            let Some((due, reminder)) = self.unstored.first_due(now + whole_millis(left)) else {
                return self.sleep(left);
            };
            self.sleep(left.min(Duration::from_millis(due.saturating_sub(now))));
            self.remind(&reminder);
        }
    }

    /// What the clock shows that only the test moves.
    fn now(&self) -> Instant {
        let _entered = self.runtime.enter();
        Instant::now()
    }

    fn sleep(&self, time: Duration) {
        // A timer that is due at the very end comes first.
        self.runtime.block_on(async { time::sleep(time).await });
        self.settle();
    }

    /// What the clock of reminders shows.
    fn millis(&self) -> u64 {
        let _entered = self.runtime.enter();
        let store = self.system.runtime().store();
        store.map_or_else(wall_clock::millis, |store| store.clock().millis())
    }

    fn remind(&self, reminder: &WrittenReminder) {
        let terms = ReminderTerms {
            name: reminder.name.clone(),
            seq: 0,
            is_given_up: false,
        };
        if !self.unstored.take_due(&terms, self.millis()) {
            return;
        }
        let message = of_stored::<A::Message>(&reminder.message, &reminder.bytes);
        let message = message.expect("this process has encoded it");
        let terms = Terms::once(OnceTerms::Reminder(terms));
        self.push(message, ReplyTo::Nobody.on_terms(Some(terms)));
    }

    /// What a stored entity has sent to others since this was asked last, in order.
    pub fn take_sends(&mut self) -> Vec<MachineSend> {
        let sends = std::mem::take(&mut lock(&self.unstored.0).sends);
        let sends = sends.into_iter().map(|send| MachineSend {
            to: ActorPath {
                kind: send.kind.to_string(),
                id: send.entity.to_string(),
            },
            runtime: self.system.runtime().clone(),
            send,
        });
        sends.collect()
    }

    /// The reminders of a stored entity: the name of each, and the time that is left, in the order
    /// in which they are due.
    pub fn reminders(&self) -> Vec<(String, Duration)> {
        let now = self.millis();
        let all = lock(&self.unstored.0).reminders.all();
        let mut all: Vec<_> = all.into_iter().map(|kept| kept.reminder).collect();
        all.sort_by(|a, b| (a.due, &a.name).cmp(&(b.due, &b.name)));
        let left = |due: u64| Duration::from_millis(due.saturating_sub(now));
        let all = all
            .into_iter()
            .map(|it| (it.name.to_string(), left(it.due)));
        all.collect()
    }

    /// The name of the state that the machine is in; that of its type, if it is no state machine.
    ///
    /// # Panics
    /// If a handler is at work, or the actor has ended.
    pub fn state(&self) -> &'static str {
        self.look().0
    }

    /// The timers of the present state: the message of each, and the time that is left, in the
    /// order in which they were started.
    ///
    /// # Panics
    /// If a handler is at work, or the actor has ended.
    pub fn timers(&self) -> Vec<(&'static str, Duration)> {
        self.look().1
    }

    /// Whether the actor has ended: by `Stop`, by `ctx.stop()`, or by a failure.
    pub fn has_ended(&self) -> bool {
        matches!(self.cell.look(), Look::Ended)
    }

    /// The system that the machine is in.
    pub fn system(&self) -> &ActorSystem {
        &self.system
    }

    /// Lets the actor come to rest, unless a handler awaits a time.
    fn settle(&self) {
        self.runtime.block_on(async {
            for _ in 0..ROUNDS_MAX {
                yield_now().await;
                if !matches!(self.cell.look(), Look::AtWork) {
                    return;
                }
            }
        });
    }

    fn look(&self) -> (&'static str, Vec<(&'static str, Duration)>) {
        let _entered = self.runtime.enter();
        match self.cell.look() {
            Look::AtRest { state, timers } => (state, timers),
            Look::AtWork => panic!("a handler is at work: it awaits something"),
            Look::Ended => panic!("the actor has ended, and has no state"),
        }
    }
}

impl<A: Actor> fmt::Debug for Machine<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("actor", &A::NAME)
            .finish_non_exhaustive()
    }
}

/// A message that a stored entity in a [`Machine`] has sent to another one.
#[derive(Clone)]
pub struct MachineSend {
    /// The receiver.
    pub to: ActorPath,
    send: WrittenSend,
    runtime: Arc<Runtime>,
}

impl MachineSend {
    /// The name of the message.
    pub fn name(&self) -> &str {
        &self.send.message
    }

    /// Whether the sender is told of the outcome.
    pub const fn wants_outcome(&self) -> bool {
        self.send.answer.is_some()
    }

    /// The message. `None` if it is not one to an `E`.
    pub fn message<E: Entity>(&self) -> Option<E::Message> {
        if self.to.kind.as_str() != E::NAME {
            return None;
        }
        let WrittenSend { message, bytes, .. } = &self.send;
        self.runtime.enter(|| of_stored(message, bytes)).ok()
    }
}

impl fmt::Debug for MachineSend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineSend")
            .field("to", &self.to)
            .field("name", &self.name())
            .finish_non_exhaustive()
    }
}

/// What a stored entity would have in its store.
#[derive(Default)]
struct Unstored(Mutex<UnstoredParts>);

#[derive(Default)]
struct UnstoredParts {
    sends: Vec<WrittenSend>,
    reminders: OwnReminders,
    /// For which time the reminder came that is handled now.
    due: Option<(Arc<str>, u64)>,
}

impl Unstored {
    /// The reminder that is due first, up to this time.
    fn first_due(&self, end: u64) -> Option<(u64, WrittenReminder)> {
        let all = lock(&self.0).reminders.all().into_iter();
        let due = all.map(|kept| kept.reminder).filter(|it| it.due <= end);
        due.min_by(|a, b| (a.due, &a.name).cmp(&(b.due, &b.name)))
            .map(|it| (it.due, it))
    }

    /// Moves a reminder on. Returns whether it is handled: not if it is too late for that.
    fn take_due(&self, terms: &ReminderTerms, now: u64) -> bool {
        let parts = &mut *lock(&self.0);
        let (at, change) = match parts.reminders.judge(terms, now) {
            Ok(ReminderJudged::Due { at, change }) => (Some(at), change),
            Ok(ReminderJudged::Late(change)) => (None, change),
            Ok(ReminderJudged::Void) => return false,
            Err(error) => panic!("{error}"),
        };
        parts.due = at.map(|at| (terms.name.clone(), at));
        parts.reminders.apply(0, change);
        at.is_some()
    }
}

type Make<A> = fn(&mut Context<A>) -> FirstState<'_, A>;

/// The place of the only actor.
pub(super) struct MachineHost<A: Actor> {
    runtime: Arc<Runtime>,
    make: Option<Make<A>>,
    unstored: Arc<Unstored>,
    sender: Arc<Mutex<CameFrom>>,
}

impl<A: Actor> MachineHost<A> {
    /// The place of an actor that is given its state.
    pub(super) fn new(runtime: Arc<Runtime>) -> Self {
        Self {
            runtime,
            make: None,
            unstored: Arc::default(),
            sender: Arc::default(),
        }
    }
}

impl<A: Actor> Host for MachineHost<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn kind(&self) -> &str {
        A::NAME
    }

    fn sender(&self) -> CameFrom {
        lock(&self.sender).clone()
    }

    fn can_init(&self) -> bool {
        self.make.is_some()
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        None
    }

    fn unstored(
        &self,
        sends: Vec<WrittenSend>,
        wishes: Vec<ReminderChange>,
        erases: bool,
    ) -> Result<(), String> {
        let parts = &mut *lock(&self.unstored.0);
        let changes = parts.reminders.changed(None, wishes)?;
        parts.sends.extend(sends);
        if erases {
            parts.reminders.clear();
            return Ok(());
        }
        for change in changes {
            parts.reminders.apply(0, change);
        }
        Ok(())
    }

    fn unstored_due(&self, name: &str) -> Option<u64> {
        let due = &lock(&self.unstored.0).due;
        due.as_ref()
            .filter(|(of, _)| &**of == name)
            .map(|(_, at)| *at)
    }
}

impl<A: Actor> CellHost<A> for MachineHost<A> {
    fn address(&self, cell: &Arc<Cell<A>>) -> A::Address {
        A::Address::of_machine(Only(cell.clone()))
    }

    fn init<'a>(&'a self, ctx: &'a mut Context<A>) -> Option<FirstState<'a, A>> {
        self.make.map(|make| make(ctx))
    }

    fn closed(&self, _: &Cell<A>) {}
}
