//! The engine's network: calls on the control lane.

use std::{
    future::Future,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use openraft::{
    OptionalSend, RaftNetworkFactory,
    alias::{SnapshotOf, VoteOf},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError},
    network::{RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde_bytes::ByteBuf;
use tokio::time::Instant;

use super::silence::Silences;
use super::types::{RaftAnswer, RaftAsk, RaftCall, Types, seat};
use crate::{
    cluster::{
        authority::voters::Voters,
        peers::{
            Peers,
            wire::{Answer, Call},
        },
    },
    id::Voter,
    infra::sync::lock,
    protocol::map::Seat,
    transport::link::Peer,
};

/// The clients of the other members of the engine.
#[derive(Clone)]
pub(super) struct RaftClients {
    pub(super) peers: Arc<Peers>,
    pub(super) voters: Arc<Voters>,
    /// The shortest wait for an answer: until an election is due.
    pub(super) patience: Duration,
    pub(super) silences: Arc<Mutex<Silences>>,
}

impl RaftNetworkFactory<Types> for RaftClients {
    type Network = RaftClient;

    async fn new_client(&mut self, target: u64, voter: &Voter) -> RaftClient {
        RaftClient {
            clients: self.clone(),
            seat: seat(target),
            voter: voter.clone(),
        }
    }
}

/// The client of one other member.
pub(super) struct RaftClient {
    clients: RaftClients,
    seat: Seat,
    /// The process that was given the seat.
    voter: Voter,
}

impl RaftClient {
    /// `ttl` is the engine's limit, a part of its heartbeat. It is too short for a distant peer, or
    /// for a connection that has to be made first. Until an election is due, waiting costs nothing.
    async fn ask(&self, ask: RaftAsk, ttl: Duration) -> Result<RaftAnswer, NetworkError<Types>> {
        let RaftClients {
            peers,
            voters,
            patience,
            silences,
        } = &self.clients;
        let call = Call::Raft(Box::new(RaftCall {
            to: self.seat,
            given_to: self.voter.member.clone(),
            ask,
        }));
        let peer = Peer::from(&voters.voter_in(self.seat, &self.voter));
        let answer = match peers.call(&peer, call, ttl.max(*patience)).await {
            Ok(Answer::Raft(answer)) => answer.map(|answer| *answer),
            Ok(_) => Err("an answer to another question".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let now = Instant::now();
        if answer.is_ok() {
            let silent = lock(silences).handle_answer(self.seat, now);
            if let Some(silent) = silent {
                tracing::info!(voter = %peer, ?silent, "a voter answers again");
            }
        }
        answer.map_err(|reason| {
            let silent = lock(silences).handle_failure(self.seat, now);
            if let Some(silent) = silent {
                tracing::warn!(voter = %peer, ?silent, reason, "a voter does not answer");
            } else {
                tracing::trace!(voter = %peer, reason, "a voter does not answer");
            }
            NetworkError::new(&io::Error::other(reason))
        })
    }
}

fn confused<T>() -> Result<T, NetworkError<Types>> {
    Err(NetworkError::new(&io::Error::other(
        "an answer to another question",
    )))
}

impl RaftNetworkV2<Types> for RaftClient {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        match self
            .ask(RaftAsk::Append(request), option.soft_ttl())
            .await?
        {
            RaftAnswer::Append(answer) => Ok(answer),
            _ => Ok(confused()?),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self.ask(RaftAsk::Vote(request), option.soft_ttl()).await? {
            RaftAnswer::Vote(answer) => Ok(answer),
            _ => Ok(confused()?),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        match self
            .ask(RaftAsk::PreVote(request), option.soft_ttl())
            .await?
        {
            RaftAnswer::Vote(answer) => Ok(answer),
            _ => Ok(confused()?),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, Vec<u8>>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let ask = RaftAsk::Snapshot {
            vote,
            meta: snapshot.meta,
            map: ByteBuf::from(snapshot.snapshot),
        };
        match self.ask(ask, option.soft_ttl()).await {
            Ok(RaftAnswer::Snapshot(answer)) => Ok(answer),
            Ok(_) => Ok(confused().map_err(StreamingError::Network)?),
            Err(error) => Err(StreamingError::Network(error)),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let ask = RaftAsk::Transfer(request);
        match self.ask(ask, option.soft_ttl()).await? {
            RaftAnswer::Transfer(answer) => Ok(answer),
            _ => Ok(confused()?),
        }
    }
}
