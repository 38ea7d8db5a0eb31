//! Protocols: messages that entities of several types understand.

use casty::{prelude::*, protocol, testkit};

/// Something that can be paused.
#[protocol]
pub(crate) trait Pausable {
    /// Pauses it. Whether it ran.
    #[message]
    fn pause(&self) -> bool;

    #[message]
    async fn go_on(&self, after: Duration, why: String) -> Result<u32, String>;
}

#[derive(Default)]
pub(crate) struct Game {
    paused: bool,
    score: u32,
}

#[entity(name = "protocols/game", protocols(Pausable))]
impl Game {
    #[message]
    fn pause(&mut self) -> bool {
        !std::mem::replace(&mut self.paused, true)
    }

    #[message]
    async fn go_on(&mut self, after: Duration, why: String) -> Result<u32, String> {
        tokio::time::sleep(after).await;
        if !std::mem::replace(&mut self.paused, false) {
            return Err(why);
        }
        self.score += 1;
        Ok(self.score)
    }
}

/// A door that is paused while it is open.
#[entity(name = "protocols/door", protocols(Pausable))]
pub(crate) mod door {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Shut;

    #[state]
    pub(crate) struct Open;

    #[behavior(otherwise = reject)]
    impl Shut {
        #[message]
        fn pause(self) -> (Open, bool) {
            (Open, true)
        }
    }

    #[behavior(otherwise = reject)]
    impl Open {
        #[message]
        fn go_on(self, after: Duration, why: String) -> (Shut, Result<u32, String>) {
            (Shut, Err(format!("{why} {after:?}")))
        }
    }
}

/// Pauses whatever it is told to.
#[derive(Default)]
pub(crate) struct Pauser {
    paused: Vec<PausableRef>,
}

#[entity(name = "protocols/pauser")]
impl Pauser {
    #[message]
    async fn add(&mut self, one: PausableRef) -> bool {
        let ran = one.pause().await.unwrap_or(false);
        self.paused.push(one);
        ran
    }

    #[message]
    fn paused(&self) -> Vec<PausableRef> {
        self.paused.clone()
    }
}

/// A generic entity: of each kind of beat, one type.
pub(crate) struct Band<B> {
    plays: bool,
    beat: std::marker::PhantomData<fn() -> B>,
}

impl<B> Default for Band<B> {
    fn default() -> Self {
        let beat = std::marker::PhantomData;
        Self { plays: true, beat }
    }
}

#[entity(protocols(Pausable))]
impl<B: 'static> Band<B> {
    #[message]
    fn pause(&mut self) -> bool {
        std::mem::take(&mut self.plays)
    }

    #[message]
    fn go_on(&mut self, after: Duration, why: String) -> Result<u32, String> {
        Err(format!(
            "{why} {after:?} {}",
            std::any::type_name::<B>().len()
        ))
    }
}

pub(crate) struct Waltz;
pub(crate) struct March;
casty::host!(Band<Waltz> as "protocols/band/waltz");
casty::host!(Band<March> as "protocols/band/march");

#[test]
fn a_reference_to_an_instance_of_a_generic_entity_travels_as_one_of_a_protocol() {
    testkit::paused(|system| async move {
        let waltz = PausableRef::from(system.entity::<Band<Waltz>>("b"));
        let march = PausableRef::from(system.entity::<Band<March>>("b"));
        let pauser = system.entity::<Pauser>("p");
        assert_eq!(pauser.add(waltz.clone()).await, Ok(true));
        assert_eq!(pauser.add(march.clone()).await, Ok(true));
        assert_eq!(pauser.add(waltz.clone()).await, Ok(false));
        let known = pauser.paused().await.unwrap();
        assert_eq!(known, [waltz, march.clone(), known[0].clone()]);
        assert_ne!(known[0], march);
    });
}

#[test]
fn a_reference_of_a_protocol_reaches_entities_of_several_types_and_travels() {
    // Messages go through the codec here.
    testkit::paused(|system| async move {
        let game: PausableRef = system.entity::<Game>("g").into();
        let door = PausableRef::from(system.entity::<Door>("d"));
        let pauser = system.entity::<Pauser>("p");
        assert_eq!(pauser.add(game.clone()).await, Ok(true));
        assert_eq!(pauser.add(door.clone()).await, Ok(true));
        assert_eq!(pauser.add(game.clone()).await, Ok(false));
        let known = pauser.paused().await.unwrap();
        assert_eq!(known, [game.clone(), door.clone(), game.clone()]);
        assert_eq!(format!("{door:?}"), "protocols/door/d");

        let second = Duration::from_secs(1);
        assert_eq!(known[0].go_on(second, "late".into()).await, Ok(1));
        let late = game.go_on(second * 5, "late".into()).timeout(second).await;
        assert!(matches!(late, Err(AskError::Timeout { .. })), "{late:?}");
        let refused = known[1].go_on(second, "late".into()).await;
        assert_eq!(refused, Err(AskError::Entity("late 1s".to_owned())));
        assert_eq!(door.pause().tell().await, Ok(()));
        assert_eq!(
            system.entity::<Door>("d").state_name().await.as_deref(),
            Ok("Open")
        );
    });
}
