//! Replays of recordings: the flight recorder's messages, handled again by the code of today.

mod journal;
mod replayed;
mod stage;

use std::path::Path;

pub use self::replayed::{Difference, Replayed};
use self::stage::Stage;
use crate::{
    Entity, SystemBuilder,
    recorder::{Recording, RecordingError},
};

/// Replays a recording of the [flight recorder](crate::recorder): hands its messages, one by one,
/// to the handlers of today, and compares what becomes of each, and the state after it, with what
/// is recorded, up to the first difference.
///
/// ```standalone_crate
/// use casty::{prelude::*, testkit};
/// # use casty::admin::Admin;
///
/// #[message]
/// #[derive(Default)]
/// struct Account {
///     balance: i64,
/// }
///
/// #[entity(record = 256)]
/// impl Account {
///     #[message]
///     fn deposit(&mut self, amount: i64) -> i64 {
///         self.balance += amount;
///         self.balance
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("alice.casty");
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// #     let node = ActorSystem::builder("bank").start().await?;
/// #     node.wait_for(1).await?;
/// #     node.entity::<Account>("alice").deposit(5).await?;
/// #     let admin = Admin::connect("bank", [node.address()]).await?;
/// #     admin.recording("Account", "alice").await?.unwrap().write(&file)?;
/// #     node.shutdown().await?;
/// #     Ok::<_, Box<dyn std::error::Error>>(())
/// # })?;
/// // Written by `casty record Account/alice --write alice.casty`, or when it failed.
/// let replayed = testkit::replay::<Account>(&file)?;
/// assert_eq!(replayed.messages(), 1);
/// replayed.expect_same();
/// # Ok(())
/// # }
/// ```
///
/// Each part of the recording begins with a state, from which the replay goes on. Handlers run on
/// the thread of the test, with a paused clock that shows the times of the recording. What they ask
/// of other actors is answered from the recording, and nothing else that they send, spawn, begin or
/// pipe leaves them; timers and the results of work come as messages of the recording. So a handler
/// that does nothing else than casty knows of does what it did. What it reads elsewhere, such as
/// the time of the system, randomness, a database or a resource, is not recorded, and shows as a
/// difference, if it makes one; [`replay_with`] gives resources that answer as they did.
///
/// If the recording has the [journal](crate::admin::Admin::stored_recording) of a stored entity,
/// that is replayed as well: each record is read, events are applied, and the state that they make
/// is compared with the snapshot, which earlier code has written.
///
/// The order of a `HashMap` or a `HashSet` in a state counts for nothing, since it is another one
/// in each process. A recorded state is read by the code of today before it is compared, so that a
/// field with a default that it lacks is no difference. Asks are compared with their arguments;
/// tells, sends and spawned actors are not.
///
/// # Errors
/// The file cannot be read.
///
/// # Panics
/// Within a tokio runtime, such as a `#[tokio::test]`: it has a runtime of its own.
pub fn replay<E: Entity>(file: impl AsRef<Path>) -> Result<Replayed, RecordingError> {
    let recording = Recording::read(file)?;
    Ok(replay_with::<E>(&recording, |builder| builder))
}

/// As [`replay`], in a system that `configure` has configured, for example with
/// [resources](SystemBuilder::resource).
///
/// # Panics
/// As [`replay`], and if the configuration is refused.
pub fn replay_with<E: Entity>(
    recording: &Recording,
    configure: impl FnOnce(SystemBuilder) -> SystemBuilder,
) -> Replayed {
    let mut replayed = Replayed::new(format!("{}/{}", recording.kind, recording.id));
    let stage = Stage::new(recording, configure);
    let mut before = 0;
    for section in &recording.sections {
        replayed.difference = stage.play::<E>(section, before, &mut replayed);
        if replayed.difference.is_some() {
            return replayed;
        }
        before += section.turns.len();
    }
    if let Some(journal) = &recording.journal {
        replayed.difference = stage.play_journal::<E>(journal, &mut replayed);
    }
    replayed
}
