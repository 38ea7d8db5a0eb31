//! A tie-breaker: something outside of the cluster that says which of two nodes goes on without the
//! other.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::{
    error::TieError,
    id::{ClusterIdentity, MemberId},
};

/// Something outside of the cluster that decides which of two nodes goes on without the other: a
/// row in a database, a `Lease` of Kubernetes.
///
/// Of two nodes one decides about the cluster map. Without a tie-breaker the other cannot go on
/// when that one is lost: nobody can tell a dead node from one that is out of reach. With one,
/// given to both by [`SystemBuilder::tie_breaker`](crate::SystemBuilder::tie_breaker), *whoever
/// claims first* goes on, and the other stops, and joins it when it can be reached again. Never do
/// both go on.
///
/// Nothing is asked of it as long as the two reach each other. While it cannot be reached, and a
/// node is lost, the other waits and says `NoQuorum`. With three nodes that vote it is not asked at
/// all.
///
/// # What it has to do
///
/// For each [`Claim::key`], remember the first [`Claim::claimant`] for ever, and say so to each who
/// asks. It has to be *one* register: neither a replica that may be behind, nor a cache. In
/// PostgreSQL that is a table
///
/// ```sql
/// create table casty_tie (claim text primary key, winner text not null)
/// ```
///
/// and one statement. That it updates what it finds, with what was there before, makes it give the
/// winner in either case, also if both claim at the same time:
///
/// ```sql
/// insert into casty_tie (claim, winner) values ($1, $2)
///     on conflict (claim) do update set winner = casty_tie.winner
///     returning winner
/// ```
///
/// where `$1` is `claim.key()` and `$2` is `claim.claimant().to_string()`; the answer is
/// [`claim.verdict(&winner)`](Claim::verdict). In Kubernetes, create a `Lease` that is named after
/// a hash of the key, with the claimant as its `holderIdentity`; if there is one already, read its
/// holder. There is one claim for each node that is lost. A claim that is a day old decides nothing
/// any more, unless a node was cut off for that long; so old ones may be deleted after weeks.
///
/// # How long it takes
///
/// If the node that decides wins, the entities of the other are somewhere else as soon as in a
/// larger cluster. If the other does, it begins a new generation of the cluster, and all entities
/// begin with fresh state. It first makes sure that every lease is over. So it goes on after the
/// longer of `lease` and the time in which gossip notices (at most `2 * gossip_interval +
/// suspect_after`), half a `lease`, and twice a `lease` that `clock_drift` has made longer. In
/// simulations that was 4.5 to 4.7 seconds with default settings, and 1.4 to 1.5 with
/// [`Settings::fast_failover`](crate::Settings::fast_failover); a claim adds what it takes.
///
/// # What it costs
///
/// A node of the two that is silent for about a `lease` and a half is taken for lost, also if
/// gossip still reaches it. Whoever goes on alone has the only map until the other has joined it.
/// If it is lost as well before that, an operator has the other go on from what it knows (`casty
/// recover --force`), or the cluster begins afresh.
///
/// # Example
///
/// ```
/// use std::{collections::BTreeMap, sync::Mutex};
///
/// use casty::{Claim, TieBreaker, TieError, Verdict, prelude::*};
///
/// /// A table, as a database would have it.
/// #[derive(Default)]
/// struct Table(Mutex<BTreeMap<String, String>>);
///
/// impl TieBreaker for Table {
///     async fn claim(&self, claim: Claim) -> Result<Verdict, TieError> {
///         let unreachable = |reason: &str| TieError::Unreachable { reason: reason.into() };
///         let mut rows = self.0.lock().map_err(|_| unreachable("the table is broken"))?;
///         let winner = rows.entry(claim.key()).or_insert_with(|| claim.claimant().to_string());
///         Ok(claim.verdict(winner))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let node = ActorSystem::builder("shop").tie_breaker(Table::default()).start().await?;
/// node.wait_for(1).await?;
/// node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
pub trait TieBreaker: Send + Sync + 'static {
    /// Claims a pair of members, for one of them. To claim again what one has won is to win again.
    ///
    /// An answer that takes longer than
    /// [`Settings::decide_timeout`](crate::Settings::decide_timeout) is not waited for.
    ///
    /// # Errors
    /// [`TieError`] if it is not known who has won. The claim may have counted; casty makes it
    /// again.
    ///
    /// # Cancel safety
    /// The future may be dropped at any time. Then, too, the claim may have counted.
    fn claim(&self, claim: Claim) -> impl Future<Output = Result<Verdict, TieError>> + Send;
}

/// What one of two members asks a [`TieBreaker`]: may it go on without the other?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    cluster: ClusterIdentity,
    claimant: MemberId,
    other: MemberId,
}

impl Claim {
    pub(crate) fn new(cluster: ClusterIdentity, claimant: MemberId, other: MemberId) -> Self {
        Self {
            cluster,
            claimant,
            other,
        }
    }

    /// What is claimed: the pair, in this generation of the cluster. The same whichever of the two
    /// claims it, and different for every other pair and every other run of either node.
    pub fn key(&self) -> String {
        let ClusterIdentity { uuid, generation } = self.cluster;
        let mut pair = [&self.claimant, &self.other];
        pair.sort();
        // Names may hold any character: their lengths keep two pairs from looking alike.
        let [(one, first), (two, second)] = pair.map(|id| {
            let name = id.node.as_str();
            (format!("{}:{name}", name.len()), id.incarnation.0)
        });
        format!("{uuid}/{generation}/{one}@{first}/{two}@{second}")
    }

    /// Who claims it.
    pub fn claimant(&self) -> &MemberId {
        &self.claimant
    }

    /// Whom it would go on without.
    pub fn other(&self) -> &MemberId {
        &self.other
    }

    /// What this claim comes to, if the first who claimed the pair was `winner`: a claimant, as
    /// text.
    pub fn verdict(&self, winner: &str) -> Verdict {
        if self.claimant.to_string() == winner {
            Verdict::Won
        } else {
            Verdict::Lost
        }
    }
}

/// What a [`TieBreaker`] says to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The claimant was the first, now or earlier. It may go on without the other.
    Won,
    /// The other was the first.
    Lost,
}

/// A tie-breaker of any type.
trait AnyBreaker: Send + Sync {
    fn claim_boxed(&self, claim: Claim) -> BoxFuture<'_, Result<Verdict, TieError>>;
}

impl<T: TieBreaker> AnyBreaker for T {
    fn claim_boxed(&self, claim: Claim) -> BoxFuture<'_, Result<Verdict, TieError>> {
        Box::pin(self.claim(claim))
    }
}

/// The tie-breaker of a system.
#[derive(Clone)]
pub(crate) struct Breaker(Arc<dyn AnyBreaker>);

impl Breaker {
    pub(crate) fn new(breaker: impl TieBreaker) -> Self {
        Self(Arc::new(breaker))
    }

    /// Claims, and waits no longer than `limit`.
    pub(crate) async fn claim(&self, claim: Claim, limit: Duration) -> Result<Verdict, TieError> {
        tokio::time::timeout(limit, self.0.claim_boxed(claim))
            .await
            .unwrap_or(Err(TieError::Timeout { after: limit }))
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Breaker")
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::protocol::map::tests::member;

    fn claim(generation: u32, claimant: MemberId, other: MemberId) -> Claim {
        let uuid = Uuid::from_u128(1);
        Claim::new(ClusterIdentity { uuid, generation }, claimant, other)
    }

    #[test]
    fn both_of_a_pair_claim_the_same_and_nobody_else_does() {
        let key = |generation, a, b| claim(generation, a, b).key();
        let (a, b) = (member("a", 1), member("b", 2));
        let same = key(3, a.clone(), b.clone());
        assert_eq!(same, key(3, b.clone(), a.clone()));
        assert_ne!(same, key(4, a.clone(), b.clone()));
        assert_ne!(same, key(3, a.clone(), member("b", 3)));
        assert_ne!(same, key(3, member("a", 2), b));
        let tricky = key(3, member("a@1/1:b", 1), member("c", 1));
        assert_ne!(tricky, key(3, member("a", 1), member("b@1/1:c", 1)));
    }

    #[test]
    fn the_first_claimant_wins_by_its_name_and_incarnation() {
        let claim = claim(3, member("a", 1), member("b", 2));
        assert_eq!(claim.verdict(&member("a", 1).to_string()), Verdict::Won);
        assert_eq!(claim.verdict(&member("a", 2).to_string()), Verdict::Lost);
        assert_eq!(claim.verdict(&member("b", 2).to_string()), Verdict::Lost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_without_an_answer_is_given_up() {
        struct Silent;
        impl TieBreaker for Silent {
            async fn claim(&self, _: Claim) -> Result<Verdict, TieError> {
                std::future::pending().await
            }
        }
        let after = Duration::from_secs(2);
        let claim = claim(3, member("a", 1), member("b", 2));
        let answer = Breaker::new(Silent).claim(claim, after).await;
        assert_eq!(answer, Err(TieError::Timeout { after }));
    }
}
