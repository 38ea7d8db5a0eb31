//! How the engine's members talk: by calls on the control lane.

use std::{future::Future, io, sync::Weak, time::Duration};

use openraft::{
    OptionalSend, RaftNetworkFactory,
    alias::{SnapshotMetaOf, SnapshotOf, VoteOf},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError},
    network::{RPCOption, v2::RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{Types, seat};
use crate::{
    cluster::{
        authority::Voter,
        node::Node,
        wire::{Answer, Call},
    },
    id::MemberId,
    protocol::map::Seat,
};

/// What one member of the engine asks of another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RaftCall {
    pub(crate) to: Seat,
    /// Who was given that seat. Another process of its node may sit there since.
    pub(crate) given_to: MemberId,
    pub(crate) ask: RaftAsk,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum RaftAsk {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Snapshot {
        vote: VoteOf<Types>,
        meta: SnapshotMetaOf<Types>,
        map: ByteBuf,
    },
    Transfer(TransferLeaderRequest<Types>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum RaftAnswer {
    Append(AppendEntriesResponse<Types>),
    Vote(VoteResponse<Types>),
    Snapshot(SnapshotResponse<Types>),
    Transfer(TransferLeaderResponse<Types>),
}

/// Makes the ways to other members.
pub(super) struct RaftClients(pub(super) Weak<Node>);

impl RaftNetworkFactory<Types> for RaftClients {
    type Network = RaftClient;

    async fn new_client(&mut self, target: u64, voter: &Voter) -> RaftClient {
        RaftClient {
            node: self.0.clone(),
            seat: seat(target),
            voter: voter.clone(),
        }
    }
}

/// The way to one member.
pub(super) struct RaftClient {
    node: Weak<Node>,
    seat: Seat,
    /// Who was given the seat.
    voter: Voter,
}

impl RaftClient {
    /// `ttl` is the engine's wish, a part of its heartbeat: too short for a far peer, or a
    /// connection that is yet to be made. Until an election is due, nothing is lost by waiting.
    async fn ask(&self, ask: RaftAsk, ttl: Duration) -> Result<RaftAnswer, NetworkError<Types>> {
        let failed = |reason: String| NetworkError::new(&io::Error::other(reason));
        let Some(node) = self.node.upgrade() else {
            return Err(failed("this node is shutting down".to_owned()));
        };
        let limit = ttl.max(node.settings().election_timeout);
        let call = Call::Raft(Box::new(RaftCall {
            to: self.seat,
            given_to: self.voter.member.clone(),
            ask,
        }));
        let peer = node.voter_in(self.seat, &self.voter).peer();
        let answer = match node.call(&peer, call, limit).await {
            Ok(Answer::Raft(answer)) => answer.map(|answer| *answer),
            Ok(_) => Err("an answer to another question".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        answer.map_err(|reason| {
            tracing::debug!(to = %peer, reason, "a member of the engine does not answer");
            failed(reason)
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
