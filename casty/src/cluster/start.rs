//! The tasks of a node, from its start to its end; one of them follows the map.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    actor::runtime::{Myself, Runtime},
    cluster::{
        contact::Contact,
        copies::{NodeCopies, WayOut},
        failure::Failed,
        gossip::{Gossip, GossipParts, Input, Inputs},
        handoff, homes, inbound,
        membership::{
            Membership,
            driver::{Driver, Subject},
            operations,
        },
        node::Node,
        peers::LocalMember,
        process::{Job, Process},
        region::AnyRegion,
    },
    error::Failure,
    id::{MemberId, ShardId},
    infra::cancel::unless,
    persistence::{JournalError, Log},
    protocol::{
        lease::LeaseTimes,
        map::ClusterMap,
        membership::{MembershipConfig, MembershipInput, Operation, Outcome, is_over},
    },
    transport::net::Listener,
};

/// The period in which deadlines are checked.
const TICK: Duration = Duration::from_millis(50);

/// Starts a node: it takes connections, and joins or founds its cluster.
pub(crate) fn start(node: &Arc<Node>, inputs: Inputs, listener: Arc<dyn Listener>) {
    let process = &node.process;
    if let Some(copies) = &node.setup.copies {
        copies.belongs_to(way_out(node));
    }
    process.spawn_connection(inbound::accept(node.clone(), listener));
    process.spawn(Job::Upkeep, follow_map(node.clone()));
    let me = node.clone();
    let resolving = homes::resolve(
        process.clone(),
        node.homes.clone(),
        node.regions.clone(),
        move || me.current_membership().contact.clone(),
    );
    process.spawn(Job::Homes, resolving);
    let stored = own_what_is_stored(node.clone(), node.setup.copies.clone());
    process.spawn(Job::Homes, stored);
    process.spawn(Job::Upkeep, tick(node.clone()));
    process.spawn(Job::Upkeep, watch_gate(node.clone()));
    if let Some(driver) = Driver::new(node.clone(), config(node)) {
        process.spawn(Job::Membership, driver.run());
    }
    let parts = GossipParts {
        process: process.clone(),
        peers: node.peers.clone(),
        map: node.map.clone(),
        regions: node.regions.clone(),
        settings: node.setup.settings.clone(),
        address: node.setup.address,
        roles: node.setup.roles.clone(),
    };
    let membership = node.current_membership();
    let (member, rumors) = (&membership.contact.local.member, &membership.rumors);
    let gossip = Gossip::new(parts, member.clone(), rumors.clone(), process.random());
    process.spawn(Job::Gossip, gossip.run(inputs));
    process.spawn(Job::Upkeep, abandon(process.clone(), node.regions.clone()));
}

/// Asks for owners of shards that the map has given to none yet.
///
/// With copies: of those of which this node has records. It is new, and the directory was restored
/// from a backup or outlived its map. A shard that gets its first owner when others have joined
/// might get one without its records. With another store: of those that may have sends, or
/// reminders, to carry on.
///
/// Polled on a timer, since a request for an owner may be lost, and no news of the map comes then.
async fn own_what_is_stored(node: Arc<Node>, copies: Option<Arc<NodeCopies>>) {
    const PAUSE: Duration = Duration::from_millis(500);
    let mut sending = Vec::new();
    if copies.is_none() {
        // A store that does not answer must not hold up a shutdown.
        let looking = logs_with_ledgers(&node.process.runtime, &node.regions);
        let found = unless(&node.process.cancel, looking).await;
        sending = found.unwrap_or_default();
        tracing::debug!(logs = sending.len(), "logs with sends or reminders");
        if sending.is_empty() {
            return;
        }
    }
    let mut has_asked = false;
    loop {
        let me = node.current_membership().contact.local.member.clone();
        // The types of a member are known to the map once it is Up.
        let is_up = |map: &Arc<ClusterMap>| map.up().any(|up| *up == me);
        if let Some(map) = node.map.get().filter(is_up) {
            let with_records = copies.as_ref().map(|it| it.journal().with_records());
            let stored = with_records.unwrap_or_else(|| sending.clone());
            let mut asks = false;
            for log in stored {
                let shard = ShardId(log.shard);
                // The map has no places of shards that another store has.
                let has_none = match &copies {
                    Some(_) => map.was_never_owned(&log.kind, shard),
                    None => map.owner(&log.kind, shard).is_none(),
                };
                if has_none
                    && let Some(region) = node.regions.iter().find(|it| it.name() == &*log.kind)
                {
                    region.find_owner(shard);
                    asks = true;
                }
            }
            if !asks {
                if has_asked && copies.is_some() {
                    tracing::info!("all that is stored here has owners: other nodes may join");
                }
                return;
            }
            has_asked = true;
        }
        let pause = tokio::time::sleep(PAUSE);
        if unless(&node.process.cancel, pause).await.is_none() {
            return;
        }
    }
}

/// The logs of a node's store that have ever had records with sends or reminders. While the store
/// is away it is asked again and again, so the caller has to bound the wait.
pub(crate) async fn logs_with_ledgers(
    runtime: &Runtime,
    regions: &[Arc<dyn AnyRegion>],
) -> Vec<Log> {
    /// A store does not tell when it is back.
    const PAUSE: Duration = Duration::from_millis(500);

    let Some(store) = runtime.store() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for region in regions.iter().filter(|region| region.is_stored()) {
        let kind: Arc<str> = region.name().into();
        for shard in 0..region.shards().get() {
            let kind = kind.clone();
            let log = Log { kind, shard };
            let has_ledger = loop {
                match store.has_ledger(&log).await {
                    Ok(has_ledger) => break has_ledger,
                    // It is looked up again when the shard has an owner.
                    Err(JournalError::Unusable { .. }) => break false,
                    Err(JournalError::Unavailable { .. }) => tokio::time::sleep(PAUSE).await,
                }
            };
            if has_ledger {
                found.push(log);
            }
        }
    }
    found
}

fn way_out(node: &Arc<Node>) -> WayOut {
    let (me, it) = (Arc::downgrade(node), Arc::downgrade(node));
    WayOut {
        process: Arc::downgrade(&node.process),
        peers: Arc::downgrade(&node.peers),
        map: node.map.clone(),
        contact: Box::new(move || Some(me.upgrade()?.current_membership().contact.clone())),
        give_up: Box::new(move |kind, shard, epoch| {
            if let Some(node) = it.upgrade() {
                handoff::give_up_one(&node, kind, shard, epoch);
            }
        }),
    }
}

fn config(node: &Node) -> MembershipConfig {
    let (setup, settings) = (&node.setup, &node.setup.settings);
    MembershipConfig {
        seeds: setup.seeds.clone(),
        expect: setup.bootstrap_expect,
        address: Some(setup.address),
        on_down: setup.on_down,
        availability: setup.availability,
        has_tie_breaker: setup.tie_breaker.is_some(),
        counts_incarnations: setup.given_incarnation,
        lease: LeaseTimes::new(settings.lease, settings.clock_drift),
        map_within: settings.connect_timeout,
        backoff: settings.backoff,
        backoff_max: settings.backoff_max,
    }
}

impl Subject for Node {
    fn regions(&self) -> &[Arc<dyn AnyRegion>] {
        &self.regions
    }

    fn failed(&self) -> &Failed {
        &self.failed
    }

    fn contact(&self) -> Arc<Contact> {
        self.current_membership().contact.clone()
    }

    fn dead(&self) -> BTreeSet<MemberId> {
        self.current_membership().rumors.dead()
    }

    fn begin_as(&self, member: MemberId) {
        for region in self.regions.iter() {
            region.sever();
        }
        let before = self.current_membership();
        before.voter.stop();
        tracing::info!(%member, "this process begins anew, as another member");
        let address = self.setup.address;
        let local = Arc::new(LocalMember::new(member.clone(), Some(address)));
        let next = Membership::new(
            &self.engine_parts,
            local,
            before.contact.tenure.inputs.clone(),
            before.contact.voters.successors().clone(),
            None,
        );
        let renew = Input::Renew(member.clone(), next.rumors.clone());
        self.begin(next);
        let runtime = &self.process.runtime;
        runtime.set_myself(Myself { member, address });
        // The map is cleared only after the change of member: a watcher of the map would otherwise
        // take it for the new member's.
        self.map.clear();
        self.gossip.tell(&self.process, renew);
    }

    fn say_goodbye(&self) {
        self.gossip.tell(&self.process, Input::Leave);
    }

    fn operate(self: Arc<Self>, operation: Operation) -> BoxFuture<'static, Outcome> {
        Box::pin(async move { operations::run(&self, operation).await })
    }
}

/// Fails all messages that still wait, once the process ends.
pub(crate) async fn abandon(process: Arc<Process>, regions: Arc<[Arc<dyn AnyRegion>]>) {
    process.cancel.cancelled().await;
    for region in regions.iter() {
        region.abandon(&Failure::Stopped);
    }
    process.runtime.stop();
}

/// Checks deadlines, and keeps a source of the map.
async fn tick(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while unless(&node.process.cancel, ticks.tick()).await.is_some() {
        let now = Instant::now();
        for region in node.regions.iter() {
            region.handle_deadline(now);
        }
        let membership = node.current_membership();
        let decides = membership.voter.engine().is_some();
        membership.contact.source.handle_tick(decides, now);
    }
}

/// Tells the regions of each lapse of the lease. A handler that runs asks the gate itself; one that
/// awaits something would not.
async fn watch_gate(node: Arc<Node>) {
    let Some(gate) = node.process.runtime.gate() else {
        return;
    };
    let mut seen = gate.lapses();
    loop {
        let lapse = async {
            gate.opened().await;
            gate.lapsed(seen).await;
        };
        if unless(&node.process.cancel, lapse).await.is_none() {
            return;
        }
        // Before the regions are told: a lapse meanwhile is another one.
        seen = gate.lapses();
        node.regions.iter().for_each(|region| region.handle_lapse());
    }
}

/// Follows the map: homes, links, events, handoffs, and the end of this incarnation.
async fn follow_map(node: Arc<Node>) {
    let mut seen: Option<Arc<ClusterMap>> = None;
    loop {
        let next = node.map.newer_than(seen.as_deref());
        let Some(map) = unless(&node.process.cancel, next).await else {
            return;
        };
        let membership = node.current_membership();
        let contact = &membership.contact;
        contact.source.confirm(&map);
        handle_map(&node, contact, seen.as_deref(), &map);
        contact.tenure.set_followed(map.age());
        contact.tenure.inputs.tell_of_map();
        seen = Some(map);
    }
}

fn handle_map(node: &Arc<Node>, contact: &Contact, before: Option<&ClusterMap>, map: &ClusterMap) {
    let me = &contact.local.member;
    let mine = map.member(me).filter(|member| !member.is_gone());
    let was_member = before.is_some_and(|before| before.member(me).is_some());
    let is_over = is_over(map, me, was_member);
    if is_over {
        // The gate closes before anything else: entities here may live somewhere else already.
        node.process.runtime.close_gate();
        if !node.process.is_leaving() {
            contact.tenure.end();
        }
    }
    let slot = mine.map(|member| member.slot);
    if let Some(copies) = &node.setup.copies {
        copies.handle_map(before, map, me);
    }
    homes::handle_map(&node.homes, &node.regions, contact, before, map, slot);
    if is_over {
        contact
            .tenure
            .inputs
            .tell(MembershipInput::Down(me.clone()));
    }
    if let Some(slot) = slot {
        handoff::hand_over(node, map, slot);
    }
}
