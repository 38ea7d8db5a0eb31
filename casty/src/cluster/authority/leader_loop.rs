//! The leader's loop: carries out the effects of `protocol/leader`.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    cluster::{
        authority::raft::{RaftEngine, types::Decision},
        map_watch::MapWatch,
        rumors::Rumors,
        tenure::Tenure,
    },
    id::Voter,
    infra::{cancel::unless, observe::sighted},
    protocol::{
        leader::{Leader, LeaderEffect, LeaderTimes},
        map::{ClusterMap, Command},
        membership::MembershipInput,
    },
};

/// How often the leader checks for work if nothing changes.
const TICK: Duration = Duration::from_millis(50);

/// Leads while this node's engine does, until the membership ends.
pub(super) async fn lead(
    engine: Arc<RaftEngine>,
    map: Arc<MapWatch>,
    tenure: Arc<Tenure>,
    rumors: Arc<Rumors>,
) {
    let settings = engine.settings();
    let times = LeaderTimes {
        silent_max: settings.suspect_after * 3,
        remember_down: Duration::from_hours(1),
        moves_max: settings.moves_max,
    };
    let session = &tenure.session;
    let mut leader = Leader::new(engine.member(), times);
    let (mut version, mut reign) = (0, None);
    loop {
        let changed = map.wait(|map| map.filter(|map| map.version > version).map(|_| ()));
        if unless(session, tokio::time::timeout(TICK, changed))
            .await
            .is_none()
        {
            break;
        }
        // The engine may not have applied the map yet; the next tick comes back to it.
        version = map.get().map_or(version, |map| map.version);
        if let Some(error) = engine.failure() {
            // A failed engine can neither decide nor learn what is decided.
            tenure.end();
            tenure.inputs.tell(MembershipInput::EngineFailed(error));
            break;
        }
        let now = Instant::now();
        let (map, effects) = {
            let mut grants = engine.grants();
            let Some(term) = engine.leads_in() else {
                grants.handle_following();
                if let Some(mut ties) = engine.ties() {
                    ties.handle_following();
                }
                if reign.take().is_some() {
                    tracing::info!("this node does not lead any more");
                }
                continue;
            };
            if reign != Some(term) {
                reign = Some(term);
                tracing::info!(term, "this node leads the cluster");
                sighted!(Leads {
                    member: engine.member(),
                    term,
                });
            }
            grants.handle_leading(term, now, engine.times());
            // The map is read under the lock. With an older map, a lease that was just granted to a
            // new member would be forgotten, and its shards could be taken over before the lease
            // ends.
            let Some(map) = engine.map() else { continue };
            grants.retain(|member| map.member(member).is_some());
            let (dead, electorate) = (rumors.dead(), engine.electorate());
            let mut rivals = engine.ties();
            if let Some(rivals) = &mut rivals {
                rivals.handle_leading(term, now);
                rivals.handle_map(&map, now);
            }
            let rivals = rivals.as_deref_mut();
            let effects = leader.handle_tick(&map, &dead, &electorate, &grants, rivals, now);
            (map, effects)
        };
        for effect in effects {
            tokio::select! {
                biased;
                () = session.cancelled() => break,
                result = carry_out(&engine, &map, effect.clone()) => if let Err(reason) = result {
                    tracing::debug!(?effect, reason, "not done");
                }
            }
        }
    }
    engine.shutdown().await;
}

async fn carry_out(
    engine: &RaftEngine,
    map: &ClusterMap,
    effect: LeaderEffect,
) -> Result<(), String> {
    match effect {
        LeaderEffect::Propose(command) => {
            tracing::debug!(?command, "the leader proposes");
            let lost = match &command {
                Command::BeginAnew { kind, lives } => Some((kind.clone(), lives.len())),
                _ => None,
            };
            let decided = engine.decide(Decision::Change(command)).await;
            if let (Some((kind, shards)), Ok(_)) = (lost, &decided) {
                tracing::warn!(
                    kind,
                    shards,
                    "all copies of these shards were in the memory of processes that are gone: \
                     they begin with nothing"
                );
            }
            decided.map(drop).map_err(|denied| denied.to_string())
        }
        LeaderEffect::Claim(other) => engine.claim_and_go_on(other).await,
        LeaderEffect::Teach(id) => {
            let member = map.member(&id).ok_or("it is gone")?;
            let voter = Voter {
                member: id,
                address: member.address,
            };
            engine.teach(member.seat, voter).await
        }
        LeaderEffect::Elect(seats) => {
            engine.elect(&seats).await?;
            tracing::info!(?seats, "the voters have changed");
            Ok(())
        }
        LeaderEffect::Abdicate(heir) => {
            engine.abdicate(heir).await?;
            tracing::info!(?heir, "this node hands the leadership over");
            // There is nothing to do here until the engine is elected.
            tokio::time::sleep(TICK).await;
            Ok(())
        }
        LeaderEffect::Dismiss(seats) => engine.dismiss(&seats).await,
    }
}
