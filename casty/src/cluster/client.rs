//! A client of a cluster: it routes messages and watches the map, hosts nothing, and is no member.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    cluster::{
        authority::{
            leader_client::{LeaderClient, SearchTimes},
            voters::{Successors, Trust, Voters},
        },
        contact::Contact,
        failure::Failed,
        homes::{self, Homes},
        map_watch::MapWatch,
        membership::{
            driver::{Driver, Subject},
            leave::last_words,
            operations::{greet_all, look_around},
        },
        membership_inputs::MembershipInputs,
        parts::Parts,
        peers::{LocalMember, Peers},
        process::{Job, Process},
        region::AnyRegion,
        start::abandon,
        tenure::Tenure,
    },
    config::{Availability, OnDown, Settings},
    error::ShutdownError,
    id::MemberId,
    infra::cancel::unless,
    protocol::{
        leader_client::LeaderError,
        lease::LeaseTimes,
        map::ClusterMap,
        membership::{MembershipConfig, Operation, Outcome},
    },
    tie::TieError,
};

/// The period in which deadlines are checked.
const TICK: Duration = Duration::from_millis(50);

/// A client of a cluster.
pub(crate) struct Client {
    pub(crate) settings: Settings,
    pub(crate) seeds: Vec<String>,
    pub(crate) process: Arc<Process>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) map: Arc<MapWatch>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) regions: Arc<[Arc<dyn AnyRegion>]>,
    pub(crate) failed: Failed,
    /// One for each generation of the cluster that the client has known.
    contact: ArcSwap<Contact>,
}

impl Client {
    pub(crate) fn new(
        settings: Settings,
        seeds: Vec<String>,
        parts: Parts,
        local: Arc<LocalMember>,
    ) -> Arc<Self> {
        let Parts {
            process,
            peers,
            map,
            homes,
            regions,
        } = parts;
        let contact = contact(
            &process,
            &peers,
            &map,
            &settings,
            local,
            Arc::default(),
            Arc::default(),
        );
        let client = Arc::new(Self {
            failed: Failed::new(map.clone(), process.ending.clone()),
            settings,
            seeds,
            process,
            peers,
            map,
            homes,
            regions,
            contact: ArcSwap::from_pointee(contact),
        });
        let catalog = client.regions.iter().map(|region| region.catalog_entry());
        let me: Weak<Self> = Arc::downgrade(&client);
        client.peers.serve(catalog.collect(), me);
        client
    }

    pub(crate) fn start(self: &Arc<Self>) {
        let process = &self.process;
        process.spawn(Job::Upkeep, follow_map(self.clone()));
        let me = self.clone();
        let resolving = homes::resolve(
            process.clone(),
            self.homes.clone(),
            self.regions.clone(),
            move || me.contact.load_full(),
        );
        process.spawn(Job::Homes, resolving);
        process.spawn(Job::Upkeep, tick(self.clone()));
        if let Some(driver) = Driver::new(self.clone(), self.config()) {
            process.spawn(Job::Membership, driver.run());
        }
        process.spawn(Job::Upkeep, abandon(process.clone(), self.regions.clone()));
    }

    fn config(&self) -> MembershipConfig {
        let settings = &self.settings;
        MembershipConfig {
            seeds: self.seeds.clone(),
            expect: None,
            address: None,
            on_down: OnDown::Rejoin,
            availability: Availability::default(),
            has_tie_breaker: false,
            counts_incarnations: false,
            lease: LeaseTimes::new(settings.lease, settings.clock_drift),
            map_within: settings.connect_timeout,
            backoff: settings.backoff,
            backoff_max: settings.backoff_max,
        }
    }

    /// Closes the connections.
    pub(crate) async fn leave(&self) -> Result<(), ShutdownError> {
        let after = self.settings.shutdown_timeout;
        let deadline = Instant::now() + after;
        let late = |waiting_for| ShutdownError::Timeout { after, waiting_for };
        self.process.set_leaving();
        self.contact.load_full().tenure.inputs.tell_of_leave().await;
        let mut result = Ok(());
        for region in self.regions.iter() {
            let leaving = tokio::time::timeout_at(deadline, region.leave());
            if leaving.await.is_err() {
                result = Err(late("handlers of entities"));
            }
        }
        let closing = self.process.runtime.close_all();
        if tokio::time::timeout_at(deadline, closing).await.is_err() {
            self.process.runtime.sever_all();
            result = Err(late("handlers of actors"));
        }
        let until = deadline + last_words(&self.peers);
        if let Err(job) = self.process.end_tasks(until).await {
            result = result.and(Err(late(job)));
        }
        result
    }
}

fn contact(
    process: &Arc<Process>,
    peers: &Arc<Peers>,
    map: &Arc<MapWatch>,
    settings: &Settings,
    local: Arc<LocalMember>,
    inputs: Arc<MembershipInputs>,
    successors: Arc<Successors>,
) -> Contact {
    let voters = Voters::new(local.clone(), map.clone(), Trust::Always, successors);
    let leader = LeaderClient {
        peers: peers.clone(),
        voters: Arc::new(voters),
        times: SearchTimes::from(settings),
        hosting: None,
    };
    let tenure = Arc::new(Tenure::new(process, inputs));
    Contact::new(process.clone(), map.clone(), local, tenure, leader)
}

impl Subject for Client {
    fn regions(&self) -> &[Arc<dyn AnyRegion>] {
        &self.regions
    }

    fn failed(&self) -> &Failed {
        &self.failed
    }

    fn contact(&self) -> Arc<Contact> {
        self.contact.load_full()
    }

    fn dead(&self) -> BTreeSet<MemberId> {
        BTreeSet::new()
    }

    fn begin_as(&self, member: MemberId) {
        for region in self.regions.iter() {
            region.sever();
        }
        let before = self.contact.load_full();
        tracing::info!(%member, "this client begins anew, under another name");
        let local = Arc::new(LocalMember::new(member, None));
        let next = contact(
            &self.process,
            &self.peers,
            &self.map,
            &self.settings,
            local.clone(),
            before.tenure.inputs.clone(),
            before.voters.successors().clone(),
        );
        self.peers.begin_as(local);
        self.contact.store(Arc::new(next));
        self.map.clear();
    }

    /// A client does not gossip.
    fn say_goodbye(&self) {}

    fn operate(self: Arc<Self>, operation: Operation) -> BoxFuture<'static, Outcome> {
        Box::pin(async move { self.do_one(operation).await })
    }
}

impl Client {
    /// Does one operation. A client decides nothing, so most have nothing to do.
    async fn do_one(&self, operation: Operation) -> Outcome {
        let nothing = || "a client founds nothing".to_owned();
        match operation {
            Operation::SitAgain => Outcome::Sat(Ok(Vec::new())),
            Operation::ForgetSeat => Outcome::Forgotten,
            Operation::Greet(places) => {
                let contact = self.contact.load_full();
                Outcome::Greeted(
                    greet_all(&contact, self.settings.connect_timeout, None, &places).await,
                )
            }
            Operation::Found | Operation::FoundGeneration(..) => Outcome::Founded(Err(nothing())),
            Operation::Join | Operation::Up => Outcome::Decided(Ok(0)),
            Operation::Renew => Outcome::Renewed {
                sent: Instant::now(),
                result: Err(LeaderError::Unreachable(nothing())),
            },
            Operation::LookAround(places) => {
                let contact = self.contact.load_full();
                let limit = self.settings.connect_timeout;
                Outcome::Seen(look_around(&contact, limit, &places).await)
            }
            Operation::AskOthers(why, _) => Outcome::OthersAsked(why, Vec::new()),
            Operation::AskLeader => Outcome::HasLeader(true),
            Operation::Claim(..) => {
                let reason = nothing();
                Outcome::Claimed(Err(TieError::Unreachable { reason }))
            }
        }
    }
}

async fn tick(client: Arc<Client>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while unless(&client.process.cancel, ticks.tick()).await.is_some() {
        let now = Instant::now();
        for region in client.regions.iter() {
            region.handle_deadline(now);
        }
        client.contact.load().source.handle_tick(false, now);
    }
}

async fn follow_map(client: Arc<Client>) {
    let mut seen: Option<Arc<ClusterMap>> = None;
    loop {
        let next = client.map.newer_than(seen.as_deref());
        let Some(map) = unless(&client.process.cancel, next).await else {
            return;
        };
        let contact = client.contact.load();
        let (homes, regions) = (&client.homes, &client.regions);
        homes::handle_map(homes, regions, &contact, seen.as_deref(), &map, None);
        contact.tenure.set_followed(map.age());
        contact.tenure.inputs.tell_of_map();
        drop(contact);
        seen = Some(map);
    }
}
