//! Holds other processes to the limits of this node, and counts what it refuses.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::{
    config::Limits,
    infra::{counter::Counter, sync::lock},
    transport::client_rate::ClientRate,
};

/// What a node has refused since its start, of other processes: see
/// [`ActorSystem::refusals`](crate::ActorSystem::refusals).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// Connections above [`connections_max`](Limits::connections_max).
    pub connections: u64,
    /// Connections above [`connections_per_address_max`](Limits::connections_per_address_max).
    pub connections_of_address: u64,
    /// Connections above [`handshakes_max`](Limits::handshakes_max).
    pub handshakes: u64,
    /// Handshakes that failed: of strangers, of processes without the right certificate, of slow
    /// ones.
    pub failed_handshakes: u64,
    /// How often accepting waited because of
    /// [`accepts_per_second_max`](Limits::accepts_per_second_max).
    pub delayed_accepts: u64,
    /// Connections that were cut because what came over them was no frame, or not allowed.
    pub cut_connections: u64,
    /// Asks above [`asks_per_peer_max`](Limits::asks_per_peer_max).
    pub asks: u64,
    /// Messages that would have started an entity above
    /// [`activations_per_client_max`](Limits::activations_per_client_max).
    pub activations: u64,
    /// Messages longer than [`client_message_bytes_max`](Limits::client_message_bytes_max).
    pub long_messages: u64,
    /// Messages with an id that is empty, or longer than
    /// [`entity_id_bytes_max`](Limits::entity_id_bytes_max).
    pub ids: u64,
    /// Messages and reads for which the process has no right.
    pub forbidden: u64,
}

macro_rules! counters {
    ($($name:ident),* $(,)?) => {
        /// [`Refusals`], as they are counted.
        #[derive(Debug, Default)]
        pub(crate) struct RefusalCounters {
            $(pub(crate) $name: Counter,)*
        }

        impl Refusals {
            /// Each count with its name.
            #[cfg(feature = "metrics")]
            pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        impl RefusalCounters {
            pub(crate) fn read(&self) -> Refusals {
                Refusals { $($name: self.$name.read(),)* }
            }
        }
    };
}

counters!(
    connections,
    connections_of_address,
    handshakes,
    failed_handshakes,
    delayed_accepts,
    cut_connections,
    asks,
    activations,
    long_messages,
    ids,
    forbidden,
);

/// The accepted connections.
#[derive(Debug, Default)]
struct Accepted {
    count: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// Holds other processes to the limits of this node.
#[derive(Debug)]
pub(crate) struct Limiter {
    pub(crate) limits: Limits,
    pub(crate) refused: RefusalCounters,
    accepted: Mutex<Accepted>,
    /// How fast each client may start entities. A client that has ended is forgotten once it is
    /// rested: to come anew gives it nothing.
    clients: Mutex<BTreeMap<String, Arc<ClientRate>>>,
}

impl Limiter {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            refused: RefusalCounters::default(),
            accepted: Mutex::default(),
            clients: Mutex::default(),
        })
    }

    /// How many connections there are from other processes.
    pub(crate) fn accepted(&self) -> usize {
        lock(&self.accepted).count
    }

    /// A place for a connection from this address, until it is dropped. `None`: there is none.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<ConnectionPlace> {
        // The same process, by either protocol.
        let address = address.to_canonical();
        let mut accepted = lock(&self.accepted);
        if accepted.count >= self.limits.connections_max {
            self.refused.connections.add();
            return None;
        }
        let of_address = accepted.by_address.get(&address).copied();
        if of_address.unwrap_or_default() >= self.limits.connections_per_address_max {
            self.refused.connections_of_address.add();
            return None;
        }
        accepted.count += 1;
        *accepted.by_address.entry(address).or_default() += 1;
        Some(ConnectionPlace {
            limiter: self.clone(),
            address,
        })
    }

    /// The rate of a client, which all of its connections share.
    pub(crate) fn client(&self, name: String) -> Arc<ClientRate> {
        let mut clients = lock(&self.clients);
        if let Some(rate) = clients.get(&name) {
            return rate.clone();
        }
        // Only this map gives clones away, and it is locked.
        clients.retain(|_, rate| Arc::strong_count(rate) > 1 || !rate.is_rested());
        let max = self.limits.activations_per_client_max;
        let rate = Arc::new(ClientRate::new(max, self.refused.activations.clone()));
        clients.insert(name, rate.clone());
        rate
    }
}

/// The place of one connection among those that are accepted.
#[derive(Debug)]
#[must_use = "a dropped place counts no more"]
pub(crate) struct ConnectionPlace {
    limiter: Arc<Limiter>,
    address: IpAddr,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut accepted = lock(&self.limiter.accepted);
        accepted.count = accepted.count.saturating_sub(1);
        if let Some(count) = accepted.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                accepted.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Failure;

    fn limiter(all: usize, of_address: usize) -> Arc<Limiter> {
        Limiter::new(Limits {
            connections_max: all,
            connections_per_address_max: of_address,
            activations_per_client_max: 2,
            ..Limits::default()
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn connections_are_counted_in_all_and_by_address_until_they_end() {
        let limiter = limiter(3, 2);
        let first = limiter.admit(address(1)).unwrap();
        let _second = limiter.admit(address(1)).unwrap();
        assert!(limiter.admit(address(1)).is_none());
        let mapped = IpAddr::from(std::net::Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert!(limiter.admit(mapped).is_none(), "it is the same address");
        let _third = limiter.admit(address(2)).unwrap();
        assert!(limiter.admit(address(3)).is_none());
        drop(first);
        assert!(limiter.admit(address(3)).is_some());
        let refused = limiter.refused.read();
        assert_eq!(
            (refused.connections, refused.connections_of_address),
            (1, 2)
        );
        assert_eq!(lock(&limiter.accepted).by_address.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_connections_of_a_client_share_its_rate() {
        let limiter = limiter(1, 1);
        let (one, other) = (limiter.client("a".into()), limiter.client("a".into()));
        assert_eq!((one.take(), other.take()), (Ok(()), Ok(())));
        let refused = Failure::limited("activations_per_client_max", 2);
        assert_eq!(one.take(), Err(refused));
        assert_eq!(limiter.refused.read().activations, 1);
        assert_eq!(limiter.client("b".into()).take(), Ok(()));
        drop((one, other));
        assert!(limiter.client("a".into()).take().is_err(), "it came anew");
        tokio::time::advance(Duration::from_secs(1)).await;
        let _third = limiter.client("c".into());
        assert_eq!(
            lock(&limiter.clients).len(),
            1,
            "clients that are gone, and rested, are forgotten"
        );
    }
}
