//! One actor as a plain value.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{runtime, task::yield_now, time};

use crate::{
    Actor, ActorSystem, AskError, Init, SystemBuilder,
    actor::{
        Address, Envelope, FirstState, Only,
        ask::{call::Call, reply::ReplyTo},
        cell::{Cell, CellHost, Host, look::Look},
        context::Context,
        handle::{AnyCell, CellName},
        runtime::Runtime,
    },
    id::EntityId,
    persistence::Memory,
};

/// How often the thread is given to others before an actor counts as one that never rests.
const ROUNDS_MAX: u32 = 10_000;

/// An actor as a plain value: a test sends it messages and looks at its state, without `async`,
/// without a system of its own, and with a clock that only the test moves.
///
/// ```
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
/// is applied at once, and stored nowhere.
///
/// It runs on the thread of the test, in a system of its own with a paused clock. Time passes in
/// [`advance`](Self::advance), and while a handler awaits it. What the actor sends to others goes
/// to the entities and actors of that [`system`](Self::system).
pub struct Machine<A: Actor> {
    runtime: runtime::Runtime,
    system: ActorSystem,
    cell: Arc<Cell<A>>,
    proxy: A::Ref,
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
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime of one thread needs nothing that could lack");
        let entered = runtime.enter();
        let system = configure(ActorSystem::builder("machine"))
            .for_tests(Memory::new())
            .start_local()
            .unwrap_or_else(|error| panic!("{error}"));
        let host = Arc::new(MachineHost {
            runtime: system.runtime().clone(),
            make,
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

    /// Tells it a message, which may be an internal one: what a timer, or work, would send.
    ///
    /// # Panics
    /// If the mailbox is full, or the actor has ended.
    pub fn tell(&mut self, message: A::Message) {
        let told = {
            let _entered = self.runtime.enter();
            self.cell.push(Envelope {
                message,
                reply: ReplyTo::Nobody,
            })
        };
        assert!(
            told.is_ok(),
            "the actor takes no message: it has ended, or its mailbox is full"
        );
        self.settle();
    }

    /// Lets time pass. Timers that are due meanwhile send their messages.
    pub fn advance(&mut self, time: Duration) {
        // A timer that is due at the very end comes first.
        self.runtime.block_on(async { time::sleep(time).await });
        self.settle();
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

type Make<A> = fn(&mut Context<A>) -> FirstState<'_, A>;

/// The place of the only actor.
struct MachineHost<A: Actor> {
    runtime: Arc<Runtime>,
    make: Option<Make<A>>,
}

impl<A: Actor> Host for MachineHost<A> {
    fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    fn kind(&self) -> &str {
        A::NAME
    }

    fn can_init(&self) -> bool {
        self.make.is_some()
    }

    fn parent(&self) -> Option<Arc<dyn AnyCell>> {
        None
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
