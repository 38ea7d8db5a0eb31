//! A tie-breaker: a service outside of the cluster that decides which of two nodes goes on without
//! the other.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use crate::id::{ClusterIdentity, MemberId};

/// A service outside of the cluster that decides which of two nodes goes on without the other: a
/// row in a database, a `Lease` in Kubernetes.
///
/// Of two nodes one is the sole voter of the cluster map. Without a tie-breaker the other node
/// cannot go on when the sole voter is lost: it cannot tell a dead node from a node that is out of
/// reach. With a tie-breaker, given to both nodes by
/// [`SystemBuilder::tie_breaker`](crate::SystemBuilder::tie_breaker), *the first node that claims*
/// goes on. The other stops, and joins it when it can be reached again. The two never both go on.
///
/// casty asks the tie-breaker nothing as long as the two nodes reach each other. If a node is lost
/// while the tie-breaker cannot be reached, the other node waits and answers `NoQuorum`. With three
/// voters the tie-breaker is never asked.
///
/// # What it has to do
///
/// For each [`Claim::key`], store the first [`Claim::claimant`] for ever, and return it to every
/// caller. The store has to be *one* register: neither a replica that may lag behind, nor a cache.
/// In PostgreSQL it is a table
///
/// ```sql
/// create table casty_tie (claim text primary key, winner text not null)
/// ```
///
/// and one statement. On a conflict it updates the row with its own value, so that it returns the
/// winner in either case, even if both nodes claim at the same time:
///
/// ```sql
/// insert into casty_tie (claim, winner) values ($1, $2)
///     on conflict (claim) do update set winner = casty_tie.winner
///     returning winner
/// ```
///
/// Here `$1` is `claim.key()` and `$2` is `claim.claimant().to_string()`; the answer is
/// [`claim.verdict(&winner)`](Claim::verdict). In Kubernetes, create a `Lease` that is named after
/// a hash of the key, with the claimant as its `holderIdentity`; if the `Lease` exists already,
/// read its holder. There is one claim for each lost node. A claim that is a day old decides
/// nothing any more, unless a node was cut off for that long, so old claims may be deleted after
/// weeks.
///
/// # How long it takes
///
/// If the sole voter wins, the entities of the other node start elsewhere as soon as in a larger
/// cluster. If the other node wins, it begins a new generation of the cluster, in which all
/// entities begin with fresh state. It first makes sure that every lease is over. So it goes on
/// after the longer of `lease` and the time in which gossip notices (at most `2 * gossip_interval +
/// suspect_after`), half a `lease`, and twice a `lease` that `clock_drift` has made longer. In
/// simulations that was 4.5 to 4.7 seconds with default settings, and 1.4 to 1.5 with
/// [`Settings::fast_failover`](crate::Settings::fast_failover), and the time of the claim in
/// addition.
///
/// # What it costs
///
/// A node of the two that is silent for about one and a half `lease` counts as lost, even if gossip
/// still reaches it. The node that goes on alone has the only copy of the map until the other has
/// joined it. If it is lost before that, an operator can let the other go on from its own copy
/// (`casty recover --force`), or the cluster begins afresh.
///
/// # Example
///
/// ```
/// use std::{collections::BTreeMap, sync::Mutex};
///
/// use casty::{
///     prelude::*,
///     tie::{Claim, TieBreaker, TieError, Verdict},
/// };
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
    /// Claims a pair of members, for one of them. A member that has won a claim wins it again.
    ///
    /// casty does not wait longer than
    /// [`Settings::decide_timeout`](crate::Settings::decide_timeout) for the answer.
    ///
    /// # Errors
    /// [`TieError`] if the winner is unknown. The claim may have counted; casty repeats it.
    ///
    /// # Cancel safety
    /// The future may be dropped at any time. Even then the claim may have counted.
    fn claim(&self, claim: Claim) -> impl Future<Output = Result<Verdict, TieError>> + Send;
}

/// One member's claim to go on without another.
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

    /// The claimed pair in this generation of the cluster, as text. Both members get the same key.
    /// It differs for every other pair and every other run of either node.
    pub fn key(&self) -> String {
        let ClusterIdentity { uuid, generation } = self.cluster;
        let mut pair = [&self.claimant, &self.other];
        pair.sort();
        // Names may hold any character. Their lengths keep the keys of two pairs apart.
        let [(one, first), (two, second)] = pair.map(|id| {
            let name = id.node.as_str();
            (format!("{}:{name}", name.len()), id.incarnation.0)
        });
        format!("{uuid}/{generation}/{one}@{first}/{two}@{second}")
    }

    /// The member that claims.
    pub fn claimant(&self) -> &MemberId {
        &self.claimant
    }

    /// The member that the claimant would go on without.
    pub fn other(&self) -> &MemberId {
        &self.other
    }

    /// The verdict on this claim, if `winner` is the first claimant of the pair, as text.
    pub fn verdict(&self, winner: &str) -> Verdict {
        if self.claimant.to_string() == winner {
            Verdict::Won
        } else {
            Verdict::Lost
        }
    }
}

/// A [`TieBreaker`]'s answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The claimant was the first, now or earlier. It may go on without the other member.
    Won,
    /// The other member was the first.
    Lost,
}

/// Why a [`TieBreaker`] gave no verdict. The claim may have counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TieError {
    /// The tie-breaker could not be asked, or did not understand. casty repeats the claim.
    #[error("the tie-breaker cannot be reached: {reason}")]
    Unreachable {
        /// The reason.
        reason: String,
    },
    /// The tie-breaker did not answer within
    /// [`Settings::decide_timeout`](crate::Settings::decide_timeout). casty repeats the claim.
    #[error("the tie-breaker has not answered in {after:?}")]
    Timeout {
        /// How long the node waited.
        after: Duration,
    },
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

    /// Claims, and waits at most `limit`.
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
    use crate::{id::Generation, protocol::map::tests::member};

    fn claim(generation: u32, claimant: MemberId, other: MemberId) -> Claim {
        let uuid = Uuid::from_u128(1);
        let generation = Generation::new(generation, 0);
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
