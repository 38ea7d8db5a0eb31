//! What an entity takes along when its shard moves, besides its state.

use casty::{prelude::*, schedule::Every, testkit::Sim};

/// A ride that expires 30 seconds after it was assigned.
#[entity(shards = 8, migrate)]
pub(crate) mod ride {
    use super::*;

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Free;

    #[state]
    #[message]
    pub(crate) struct Assigned {
        beats: u64,
        notes: Vec<u64>,
        /// How often an activation has begun in this state, and what the last move has ended.
        starts: u64,
        ended: Option<u64>,
    }

    #[state]
    #[message]
    pub(crate) struct Expired {
        last: Look,
    }

    #[behavior(otherwise = ignore)]
    impl Free {
        #[message]
        fn assign(self, ctx: &mut Context<Ride>) -> Assigned {
            let second = Duration::from_secs(1);
            ctx.schedule_once(second * 30, RideMsg::Expire {}).detach();
            ctx.schedule_every(Every::fixed_rate(second), || RideMsg::Beat {})
                .detach();
            // A message with arguments has a form on the wire, unless it is internal.
            ctx.schedule_once(second * 20, RideMsg::Note { number: 7 })
                .detach();
            ctx.schedule_once(second * 20, RideMsg::Hear { number: 9 })
                .detach();
            ctx.schedule_once(second * 20, RideMsg::Expire {}).cancel();
            ctx.pipe(std::future::pending::<()>(), |()| RideMsg::Beat {});
            Assigned {
                beats: 0,
                notes: Vec::new(),
                starts: 0,
                ended: None,
            }
        }

        #[message]
        fn look(&self, ctx: &mut Context<Ride>) -> Look {
            Look {
                node: ctx.node_id().to_string(),
                ..Look::default()
            }
        }
    }

    #[behavior(otherwise = ignore)]
    impl Assigned {
        #[on_start]
        fn moved(&mut self, ctx: &mut Context<Ride>) {
            self.starts += 1;
            self.ended = ctx.ended_by_move().map(|ended| ended as u64);
        }

        #[message(internal)]
        fn beat(&mut self, ctx: &mut Context<Ride>) {
            assert_eq!(ctx.ended_by_move(), None);
            self.beats += 1;
        }

        #[message]
        fn note(&mut self, number: u64) {
            self.notes.push(number);
        }

        #[message(internal)]
        fn hear(&mut self, number: u64) {
            self.notes.push(number);
        }

        #[message(internal)]
        fn expire(self) -> Expired {
            let last = Look {
                beats: self.beats,
                notes: self.notes,
                starts: self.starts,
                ended: self.ended,
                ..Look::default()
            };
            Expired { last }
        }

        #[message]
        fn look(&self, ctx: &mut Context<Ride>) -> Look {
            Look {
                node: ctx.node_id().to_string(),
                ..Look::default()
            }
        }
    }

    #[behavior(otherwise = ignore)]
    impl Expired {
        #[message]
        fn look(&self, ctx: &mut Context<Ride>) -> Look {
            Look {
                expired: true,
                node: ctx.node_id().to_string(),
                ..self.last.clone()
            }
        }
    }
}

/// What is seen of a ride.
#[message]
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    node: String,
    expired: bool,
    beats: u64,
    notes: Vec<u64>,
    starts: u64,
    ended: Option<u64>,
}

/// Ticks by a timer that its start hook begins.
#[message]
#[derive(Default)]
pub(crate) struct Ticker {
    ticks: u64,
    starts: u64,
}

#[entity(shards = 8, migrate)]
impl Ticker {
    #[on_start]
    fn started(&mut self, ctx: &mut Context<Self>) {
        self.starts += 1;
        ctx.schedule_every(Duration::from_secs(1), || TickerMsg::Tick {})
            .detach();
    }

    #[message(internal)]
    fn tick(&mut self) {
        self.ticks += 1;
    }

    /// Ticks and starts.
    #[message]
    fn ticks(&self) -> (u64, u64) {
        (self.ticks, self.starts)
    }
}

const COUNT: u64 = 24;

fn looks(sim: &mut Sim, node: &str) -> Vec<Look> {
    sim.on(node, |system| async move {
        let mut looks = Vec::new();
        for n in 0..COUNT {
            let look = system.entity::<Ride>(format!("r{n}")).look().await;
            looks.push(look.unwrap());
        }
        looks
    })
}

/// Each ride expires when it would have without the move, later only by the time that it was under
/// way.
#[test]
fn timers_go_along_with_the_time_that_is_left_and_an_entity_learns_what_has_ended() {
    casty_tests::log();
    let mut sim = Sim::new(51);
    sim.start("a");
    sim.on("a", |system| async move {
        for n in 0..COUNT {
            system
                .entity::<Ride>(format!("r{n}"))
                .assign()
                .await
                .unwrap();
            system
                .entity::<Ticker>(format!("t{n}"))
                .ticks()
                .await
                .unwrap();
        }
    });
    let begun = sim.elapsed();
    sim.run_for(Duration::from_secs(5));
    sim.start("b");
    sim.run_for(Duration::from_secs(10));
    let moved: Vec<bool> = looks(&mut sim, "a")
        .iter()
        .map(|look| look.node == "b")
        .collect();
    assert!(moved.contains(&true) && moved.contains(&false), "{moved:?}");
    sim.run_for(Duration::from_millis(29_900).saturating_sub(sim.elapsed().saturating_sub(begun)));
    assert!(looks(&mut sim, "b").iter().all(|look| !look.expired));
    sim.run_for(Duration::from_secs(3));
    for (n, (look, moved)) in looks(&mut sim, "a").into_iter().zip(moved).enumerate() {
        assert!(look.expired, "r{n} {look:?}");
        assert!((27..=31).contains(&look.beats), "r{n} {look:?}");
        if moved {
            // The internal message with an argument, and the work.
            assert_eq!((look.starts, look.ended), (1, Some(2)), "r{n}");
            assert_eq!(look.notes, [7], "r{n}");
        } else {
            assert_eq!((look.starts, look.ended), (0, None), "r{n}");
            assert_eq!(look.notes, [7, 9], "r{n}");
        }
    }
    let seconds = sim.elapsed().saturating_sub(begun).as_secs();
    let tickers = sim.on("b", |system| async move {
        let mut ticks = Vec::new();
        for n in 0..COUNT {
            ticks.push(
                system
                    .entity::<Ticker>(format!("t{n}"))
                    .ticks()
                    .await
                    .unwrap(),
            );
        }
        ticks
    });
    assert!(
        tickers.iter().any(|(_, starts)| *starts == 2),
        "{tickers:?}"
    );
    for (n, (ticks, _)) in tickers.into_iter().enumerate() {
        let expected = seconds - 4..=seconds + 1;
        assert!(expected.contains(&ticks), "t{n}: {ticks} in {seconds} s");
    }
}

/// A lease of what a state timer ends: its time is the state's.
#[entity(shards = 8, migrate)]
pub(crate) mod rental {
    use super::*;

    /// What is known in every state.
    #[state(common)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Counts {
        beats: u64,
        rented: u64,
        entered: u64,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub(crate) struct Free;

    #[state]
    #[message]
    pub(crate) struct Rented {
        seconds: u64,
    }

    #[behavior]
    impl Free {
        #[message]
        fn rent(self, seconds: u64, counts: &mut Counts) -> Rented {
            counts.rented += 1;
            Rented { seconds }
        }
    }

    #[behavior(otherwise = ignore)]
    impl Rented {
        #[on_enter]
        fn entered(&mut self, counts: &mut Counts) {
            counts.entered += 1;
        }

        fn time(&self) -> Duration {
            Duration::from_secs(self.seconds)
        }

        #[message(internal, after = Self::time)]
        fn end(self) -> Free {
            Free
        }

        #[message(internal, every = "1s")]
        fn beat(&mut self, counts: &mut Counts) {
            counts.beats += 1;
        }
    }

    #[behavior(of(all))]
    impl _ {
        /// The node, and what is known.
        #[message]
        fn counts(&self, counts: &Counts, ctx: &mut Context<Rental>) -> (String, u64, u64, u64) {
            let node = ctx.node_id().to_string();
            (node, counts.beats, counts.rented, counts.entered)
        }
    }
}

#[test]
fn timers_of_a_state_and_common_data_go_along_in_a_move() {
    casty_tests::log();
    let mut sim = Sim::new(52);
    sim.start("a");
    sim.on("a", |system| async move {
        for n in 0..COUNT {
            let rental = system.entity::<Rental>(format!("r{n}"));
            rental.rent(20).await.unwrap();
        }
    });
    sim.run_for(Duration::from_secs(5));
    sim.start("b");
    sim.run_for(Duration::from_secs(10));
    let all = |sim: &mut Sim| {
        sim.on("b", |system| async move {
            let mut all = Vec::new();
            for n in 0..COUNT {
                let rental = system.entity::<Rental>(format!("r{n}"));
                let name = rental.state_name().await.unwrap();
                all.push((name, rental.counts().await.unwrap()));
            }
            all
        })
    };
    let before = all(&mut sim);
    let moved = before.iter().filter(|(_, (node, ..))| node == "b").count();
    assert!(moved > 0 && moved < before.len(), "{before:?}");
    assert!(
        before.iter().all(|(name, _)| name == "Rented"),
        "{before:?}"
    );
    sim.run_for(Duration::from_secs(10));
    for (name, (_, beats, rented, entered)) in all(&mut sim) {
        assert_eq!((name.as_str(), rented, entered), ("Free", 1, 1));
        // A beat for each second of the twenty, less what the move took.
        assert!((16..=20).contains(&beats), "{beats}");
    }
}

/// Keeps commands until it is online.
#[entity(shards = 8)]
pub(crate) mod device {
    use super::*;

    #[state(initial)]
    #[derive(Default)]
    pub(crate) struct Offline;

    #[state]
    #[derive(Default)]
    pub(crate) struct Online {
        done: Vec<String>,
    }

    #[behavior(otherwise = stash)]
    impl Offline {
        #[message]
        fn connect(self) -> Online {
            Online::default()
        }

        #[message]
        fn place(&self, ctx: &mut Context<Device>) -> String {
            ctx.node_id().to_string()
        }
    }

    #[behavior(otherwise = reject)]
    impl Online {
        #[message]
        fn command(&mut self, what: String) {
            self.done.push(what);
        }

        #[message]
        fn done(&self) -> Vec<String> {
            self.done.clone()
        }
    }
}

/// In a cluster, so that half of the askers are on another node than the device.
#[test]
fn what_was_asked_stashed_and_given_up_is_not_handled() {
    casty_tests::log();
    let mut sim = Sim::new(53);
    sim.start("a");
    sim.start("b");
    sim.run_for(Duration::from_secs(10));
    let second = Duration::from_secs(1);
    let done = sim.on("a", move |system| async move {
        let mut done = Vec::new();
        for n in 0..8 {
            let device = system.entity::<Device>(format!("d{n}"));
            let place = device.place().await.unwrap();
            let command = |what: &str| device.command(what.to_owned());
            let given_up = command("given up").timeout(second).await;
            assert!(
                matches!(given_up, Err(AskError::Timeout { .. })),
                "{given_up:?}"
            );
            command("told").tell().await.unwrap();
            let waits = tokio::spawn(command("waits").timeout(second * 3600).into_future());
            // Simulated. The asker's node says with its keepalive that it waits no more.
            tokio::time::sleep(second * 10).await;
            device.connect().await.unwrap();
            waits.await.unwrap().unwrap();
            done.push((place, device.done().await.unwrap()));
        }
        done
    });
    assert!(done.iter().any(|(place, _)| place == "a"), "{done:?}");
    assert!(done.iter().any(|(place, _)| place == "b"), "{done:?}");
    for (place, done) in done {
        assert_eq!(done, ["told", "waits"], "on {place}");
    }
}
