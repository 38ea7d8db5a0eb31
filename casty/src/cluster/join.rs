//! The way into a cluster, and out of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    authority::{Authority, AuthorityError, RemoteVoter, SingleVoter},
    gossip::Gossip,
    node::{Engine, Node},
    wire::{Denied, Proposal},
};
use crate::{
    error::{JoinError, ShutdownError},
    id::{ClusterIdentity, MemberId},
    protocol::{
        bootstrap::{Answer, Bootstrap, Decision},
        map::{ClusterMap, Command, Refused, Status},
    },
    transport::{
        handshake::{self, HandshakeError, Lane, Welcome},
        link::{LinkOwner, Peer},
    },
};

/// Becomes a member, or a client: asks the seeds until one knows a cluster, or founds one where that is allowed.
pub(crate) async fn enter(node: Arc<Node>, seeds: Vec<String>) {
    let cancel = node.cancel().clone();
    tokio::select! {
        biased;
        () = cancel.cancelled() => {}
        () = try_enter(&node, &seeds) => {}
    }
}

async fn try_enter(node: &Arc<Node>, seeds: &[String]) {
    let settings = node.settings();
    let pauses = (settings.backoff, settings.backoff_max);
    let mut bootstrap = Bootstrap::new(seeds.len(), pauses);
    let mut rng = StdRng::seed_from_u64(node.random());
    loop {
        let round = join_all(seeds.iter().map(|seed| ask(node, seed))).await;
        let (answers, welcomes): (Vec<_>, Vec<_>) = round.into_iter().unzip();
        let pause = match bootstrap.handle_round(&answers, rng.random_range(0.0..1.0)) {
            Decision::Found => return found(node),
            Decision::Join { seed } => {
                let welcome = welcomes.into_iter().nth(seed).flatten();
                match join(node, welcome).await {
                    Ok(()) => return,
                    Err(JoinFailure::Final(reason)) => {
                        let seed = seeds.get(seed).cloned().unwrap_or_default();
                        return node.fail(JoinError::Refused { seed, reason });
                    }
                    Err(JoinFailure::Passing(reason)) => {
                        tracing::info!(reason, "not joined yet");
                        settings.backoff
                    }
                }
            }
            Decision::Give { seed, reason } => {
                let seed = seeds.get(seed).cloned().unwrap_or_default();
                return node.fail(JoinError::Refused { seed, reason });
            }
            Decision::Retry { after } => {
                tracing::debug!(?answers, "no cluster found yet");
                after
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Asks one seed, under every address its name has now.
async fn ask(node: &Node, seed: &str) -> (Answer, Option<Welcome>) {
    let addresses = match node.net().resolve(seed).await {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::debug!(seed, %error, "a seed's name has no address");
            return (Answer::Unreachable, None);
        }
    };
    if addresses
        .iter()
        .any(|address| Some(*address) == node.address())
    {
        return (Answer::Myself, None);
    }
    let mut last = Answer::Unreachable;
    for address in addresses {
        match greet(node, address).await {
            Ok(welcome) if welcome.member == *node.member() => return (Answer::Myself, None),
            Ok(welcome) if welcome.identity.is_some() && welcome.authority.is_some() => {
                return (Answer::Cluster, Some(welcome));
            }
            Ok(_) => last = Answer::NoCluster,
            Err(error) if error.is_final() => last = Answer::Refused(error.to_string()),
            Err(error) => tracing::debug!(seed, %address, %error, "a seed cannot be asked"),
        }
    }
    (last, None)
}

async fn greet(node: &Node, address: SocketAddr) -> Result<Welcome, HandshakeError> {
    let greeting = async {
        let mut stream = node.net().connect(address).await?;
        handshake::dial(&mut stream, &node.hello(Lane::Control, None)).await
    };
    let limit = node.settings().connect_timeout;
    tokio::time::timeout(limit, greeting)
        .await
        .map_err(|_| HandshakeError::Timeout)?
}

/// Founds a cluster of one.
fn found(node: &Arc<Node>) {
    let Some(address) = node.address() else {
        return;
    };
    // Time-ordered, so that of two clusters one can say which was first; the rest is the node's own randomness.
    let mut random = [0; 10];
    random[..8].copy_from_slice(&node.random().to_le_bytes());
    random[8..].copy_from_slice(&node.random().to_le_bytes()[..2]);
    let millis = node.member().incarnation.0;
    let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    // Greater than that of any cluster this node founded before, as long as its clock goes forward.
    let generation = u32::try_from(millis / 1000).unwrap_or(u32::MAX).max(1);
    let identity = ClusterIdentity { uuid, generation };
    tracing::info!(cluster = node.cluster(), %uuid, generation, "founded a cluster");
    node.set_identity(identity);
    let map = ClusterMap::found(identity, node.member().clone(), address, node.hosted());
    node.set_engine(Engine::Voter(SingleVoter::new(map, node.watch().clone())));
}

enum JoinFailure {
    /// Asking again is useless.
    Final(String),
    Passing(String),
}

async fn join(node: &Arc<Node>, welcome: Option<Welcome>) -> Result<(), JoinFailure> {
    let Some((identity, (voter, voter_at))) =
        welcome.and_then(|welcome| welcome.identity.zip(welcome.authority))
    else {
        return Err(JoinFailure::Passing(
            "the seed did not name who decides".to_owned(),
        ));
    };
    node.set_identity(identity);
    let link = node.link(
        Peer {
            address: voter_at,
            member: Some(voter),
        },
        Lane::Control,
    );
    let watch = node.watch().clone();
    let remote = RemoteVoter::new(link, watch, node.settings().connect_timeout);
    node.set_engine(Engine::Remote(remote.clone()));
    let Some(address) = node.address() else {
        // A client only looks on.
        return await_map(node, |_| true).await;
    };
    let member = node.member().clone();
    let command = Command::Join {
        member: member.clone(),
        address,
        catalog: node.hosted().to_vec(),
    };
    decided(remote.propose(Proposal::Apply(command)).await)?;
    let me = member.clone();
    await_map(node, move |map| map.member(&me).is_some()).await?;
    decided(
        remote
            .propose(Proposal::Apply(Command::Up {
                member: member.clone(),
            }))
            .await,
    )?;
    await_map(node, move |map| map.status(&member) == Some(Status::Up)).await
}

fn decided(result: Result<(), AuthorityError>) -> Result<(), JoinFailure> {
    match result {
        // In the wrong status: the first answer was lost, and this is the second try.
        Ok(()) | Err(AuthorityError::Denied(Denied::Refused(Refused::WrongStatus(_)))) => Ok(()),
        Err(AuthorityError::Denied(Denied::NotTheVoter)) => Err(JoinFailure::Passing(
            "the node named by the seed does not decide".to_owned(),
        )),
        Err(AuthorityError::Denied(Denied::Refused(refused))) => {
            Err(JoinFailure::Final(refused.to_string()))
        }
        Err(AuthorityError::Unreachable(reason)) => Err(JoinFailure::Passing(reason)),
    }
}

async fn await_map(
    node: &Node,
    mut look: impl FnMut(&ClusterMap) -> bool,
) -> Result<(), JoinFailure> {
    let seen = node
        .watch()
        .wait(|map| map.is_some_and(|map| look(map)).then_some(()));
    tokio::time::timeout(node.settings().connect_timeout, seen)
        .await
        .map_err(|_| JoinFailure::Passing("the cluster map did not come".to_owned()))
}

/// Starts what runs for as long as the node does.
pub(crate) fn start(node: &Arc<Node>, seeds: Vec<String>, inputs: super::gossip::Inputs) {
    let tasks = node.tasks();
    tasks.spawn(node.clone().follow_map());
    tasks.spawn(node.clone().resolve_shards());
    tasks.spawn(node.clone().tick());
    tasks.spawn(enter(node.clone(), seeds));
    if let Some(address) = node.address() {
        tasks.spawn(Gossip::new(node.clone(), address, node.random()).run(inputs));
    }
    let reaper = node.clone();
    tasks.spawn(async move {
        reaper.cancel().cancelled().await;
        // Whoever still waits is told.
        for region in reaper.regions() {
            region.abandon();
        }
        reaper.runtime().stop();
    });
}

/// Leaves the cluster: shards are given up in order, then the membership, then the connections.
pub(crate) async fn leave(node: &Arc<Node>) -> Result<(), ShutdownError> {
    let limit = node.settings().shutdown_timeout;
    let deadline = Instant::now() + limit;
    let late = |waiting_for| ShutdownError::Timeout {
        after: limit,
        waiting_for,
    };
    node.set_leaving();
    let member = node.member().clone();
    let joined = node.address().is_some() && node.is_member(&member);
    if joined {
        give_notice(
            node,
            Command::Leave {
                member: member.clone(),
            },
            deadline,
        )
        .await;
    }
    let mut result = Ok(());
    for region in node.regions() {
        match tokio::time::timeout_at(deadline, region.leave()).await {
            Ok(shards) if !shards.is_empty() => {
                let kind = region.name().to_owned();
                let release = Command::Release {
                    member: member.clone(),
                    kind,
                    shards,
                };
                give_notice(node, release, deadline).await;
            }
            Ok(_) => {}
            Err(_) => result = Err(late("handlers of entities")),
        }
    }
    if tokio::time::timeout_at(deadline, node.runtime().close_all())
        .await
        .is_err()
    {
        result = Err(late("handlers of actors"));
    }
    if joined {
        give_notice(node, Command::Remove { member }, deadline).await;
        node.gossip_leave().await;
    }
    node.tasks().close();
    node.cancel().cancel();
    let ended = tokio::time::timeout_at(deadline + Duration::from_secs(1), node.tasks().wait());
    if ended.await.is_err() {
        result = result.and(Err(late("connections")));
    }
    result
}

/// Tells the one who decides. When nobody does, there is nobody to tell: the others will notice.
async fn give_notice(node: &Node, command: Command, deadline: Instant) {
    let told = node.propose(Proposal::Apply(command));
    match tokio::time::timeout_at(deadline, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "the leave was not recorded"),
        Err(_) => tracing::info!("the leave was not recorded in time"),
    }
}

/// The members as this node sees them.
pub(crate) fn members(node: &Node) -> Vec<(MemberId, SocketAddr, Status, Option<u64>)> {
    let Some(map) = node.map() else {
        return Vec::new();
    };
    map.members
        .iter()
        .map(|(id, m)| (id.clone(), m.address, m.status, node.load_of(id)))
        .collect()
}
