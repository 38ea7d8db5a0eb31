//! The form of gossip's datagrams, and which of their claims are taken.
//!
//! A datagram speaks of any member: any member may have forged it, or a bit of it may have flipped.
//! Claims about processes that the map does not have, or that name another address, are left out.
//! So are claims that a member has renewed itself, unless that member makes them: after a false
//! one, a member would be called by a name that it does not know, and seem dead for good.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member};
use serde::{Deserialize, Serialize};

use crate::{
    cluster::map_watch::MapWatch, id::MemberId, message::codec, protocol::map::ClusterMap,
};

/// A member in gossip. `renewal` counts how often this process had to refute its own death; it is
/// not the process's incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GossipId {
    pub(crate) member: MemberId,
    pub(crate) address: SocketAddr,
    pub(crate) renewal: u32,
}

impl Identity for GossipId {
    type Addr = SocketAddr;

    fn addr(&self) -> SocketAddr {
        self.address
    }

    // Always: otherwise two nodes that took each other for dead exchange millions of messages.
    fn renew(&self) -> Option<Self> {
        Some(Self {
            renewal: self.renewal.wrapping_add(1),
            ..self.clone()
        })
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.member.incarnation, self.renewal) > (other.member.incarnation, other.renewal)
    }
}

impl GossipId {
    /// Whether the map has this member at this address.
    fn is_of(&self, map: &ClusterMap) -> bool {
        let member = map.member(&self.member);
        member.is_some_and(|member| member.address == self.address)
    }
}

/// The codec of one incarnation.
pub(crate) struct MessagePack {
    me: MemberId,
    map: Arc<MapWatch>,
    /// The sender of the datagram that is being read.
    sender: Option<Member<GossipId>>,
    /// How often members have renewed themselves, as they have said.
    renewals: BTreeMap<MemberId, u32>,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct GossipCodecError(String);

impl MessagePack {
    pub(crate) fn new(me: MemberId, map: Arc<MapWatch>) -> Self {
        Self {
            me,
            map,
            sender: None,
            renewals: BTreeMap::new(),
        }
    }

    /// Whether this peer has sent the datagram, under its own name and address.
    pub(crate) fn is_from(datagram: &[u8], from: &MemberId, map: &ClusterMap) -> bool {
        let header = Self::take::<Header<GossipId>>(datagram);
        header.is_ok_and(|header| header.src.member == *from && header.src.is_of(map))
    }

    /// Whether an update is worth to be looked at.
    fn is_believed(&self, id: &GossipId) -> bool {
        // What is said of this process it refutes by itself.
        if id.member == self.me {
            return true;
        }
        let renewal = self.renewals.get(&id.member).copied().unwrap_or(0);
        let is_known = self.map.get().is_some_and(|map| id.is_of(&map));
        is_known && id.renewal <= renewal
    }

    pub(crate) fn put<T: Serialize>(
        value: &T,
        mut to: impl BufMut,
    ) -> Result<(), GossipCodecError> {
        let bytes = codec::to_vec(value).map_err(|error| GossipCodecError(error.to_string()))?;
        if to.remaining_mut() < bytes.len() {
            return Err(GossipCodecError("no room".to_owned()));
        }
        to.put_slice(&bytes);
        Ok(())
    }

    pub(crate) fn take<T: for<'de> Deserialize<'de>>(
        mut from: impl Buf,
    ) -> Result<T, GossipCodecError> {
        let bytes = from.chunk();
        let (value, rest) =
            codec::decode_first(bytes).map_err(|error| GossipCodecError(error.to_string()))?;
        let used = bytes.len() - rest.len();
        from.advance(used);
        Ok(value)
    }
}

impl Codec<GossipId> for MessagePack {
    type Error = GossipCodecError;

    fn encode_header(
        &mut self,
        header: &Header<GossipId>,
        to: impl BufMut,
    ) -> Result<(), Self::Error> {
        Self::put(header, to)
    }

    fn decode_header(&mut self, from: impl Buf) -> Result<Header<GossipId>, Self::Error> {
        let header: Header<GossipId> = Self::take(from)?;
        self.sender = Some(Member::new(
            header.src.clone(),
            header.src_incarnation,
            foca::State::Alive,
        ));
        if let Some(map) = self.map.get() {
            self.renewals
                .retain(|member, _| map.member(member).is_some());
        }
        let renewal = self.renewals.entry(header.src.member.clone()).or_default();
        *renewal = header.src.renewal.max(*renewal);
        Ok(header)
    }

    fn encode_member(
        &mut self,
        member: &Member<GossipId>,
        to: impl BufMut,
    ) -> Result<(), Self::Error> {
        Self::put(member, to)
    }

    /// The number of updates stands in the datagram. So instead of an update that is left out
    /// stands one that changes nothing: the sender is alive.
    fn decode_member(&mut self, from: impl Buf) -> Result<Member<GossipId>, Self::Error> {
        let update: Member<GossipId> = Self::take(from)?;
        if self.is_believed(update.id()) {
            return Ok(update);
        }
        let sender = self.sender.clone();
        sender.ok_or_else(|| GossipCodecError("an update without a header".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use foca::{Message, State};

    use super::*;
    use crate::protocol::map::tests::{founded, join, member};

    fn id(name: &str, map: &ClusterMap) -> GossipId {
        let member = member(name, 1);
        GossipId {
            address: map.member(&member).unwrap().address,
            member,
            renewal: 0,
        }
    }

    fn renewed(id: &GossipId, renewal: u32) -> GossipId {
        let id = id.clone();
        GossipId { renewal, ..id }
    }

    /// What `b` sends `a`: the header, and one update.
    fn datagram(src: &GossipId, to: &GossipId, update: &Member<GossipId>) -> Vec<u8> {
        let header = Header {
            src: src.clone(),
            src_incarnation: 3,
            dst: to.clone(),
            message: Message::Gossip,
        };
        let mut bytes = Vec::new();
        MessagePack::put(&header, &mut bytes).unwrap();
        MessagePack::put(update, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_claim_about_a_stranger_another_address_or_anothers_renewal_changes_nothing() {
        let mut map = founded(4);
        for name in ["b", "c"] {
            join(&mut map, &member(name, 1));
        }
        let (a, b, c) = (id("a", &map), id("b", &map), id("c", &map));
        let stranger = GossipId {
            member: member("x", 1),
            ..c.clone()
        };
        let elsewhere = GossipId {
            address: ([127, 0, 0, 1], 9).into(),
            ..c.clone()
        };
        let other_incarnation = GossipId {
            member: member("c", 2),
            ..c.clone()
        };
        let watch = Arc::new(MapWatch::default());
        assert!(watch.offer(map.clone()));
        let mut codec = MessagePack::new(member("a", 1), watch);
        // What is left of an update that `b` sends.
        let mut hear = |src: &GossipId, update: &Member<GossipId>| {
            let bytes = datagram(src, &a, update);
            assert!(MessagePack::is_from(&bytes, &src.member, &map));
            let mut rest = bytes.as_slice();
            codec.decode_header(&mut rest).unwrap();
            codec.decode_member(&mut rest).unwrap()
        };
        let nothing = Member::new(b.clone(), 3, State::Alive);
        for forged in [stranger, elsewhere, other_incarnation, renewed(&c, 65_000)] {
            for state in [State::Alive, State::Suspect, State::Down] {
                let update = Member::new(forged.clone(), 9, state);
                assert_eq!(hear(&b, &update), nothing, "{update:?}");
            }
        }
        let suspect = Member::new(c.clone(), 9, State::Suspect);
        assert_eq!(hear(&b, &suspect), suspect);
        // What is said of this node, it has to hear.
        let me = Member::down(a.clone());
        assert_eq!(hear(&b, &me), me);
        // The member itself has said that it was renewed.
        let again = renewed(&c, 2);
        hear(&again, &nothing);
        let update = Member::alive(again);
        assert_eq!(hear(&b, &update), update);
        let too_much = Member::alive(renewed(&c, 3));
        assert_eq!(hear(&b, &too_much), nothing);
    }

    #[test]
    fn a_datagram_under_another_name_or_address_is_from_nobody() {
        let mut map = founded(4);
        join(&mut map, &member("b", 1));
        let (a, b) = (id("a", &map), id("b", &map));
        let update = Member::alive(a.clone());
        let is_from = |src: &GossipId, peer: &MemberId| {
            MessagePack::is_from(&datagram(src, &a, &update), peer, &map)
        };
        assert!(is_from(&b, &b.member));
        assert!(!is_from(&b, &member("c", 1)), "the peer is another");
        let elsewhere = GossipId {
            address: ([127, 0, 0, 1], 9).into(),
            ..b.clone()
        };
        assert!(!is_from(&elsewhere, &b.member));
        let stranger = member("x", 1);
        let unknown = GossipId {
            member: stranger.clone(),
            ..b
        };
        assert!(!is_from(&unknown, &stranger));
        assert!(!MessagePack::is_from(b"\xc1", &a.member, &map));
    }
}
