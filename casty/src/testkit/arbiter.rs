//! A tie-breaker in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use crate::{
    infra::sync::lock,
    tie::{Claim, TieBreaker, TieError, Verdict},
};

/// A tie-breaker in memory that a test can make unreachable. Clones share their claims: give each
/// node of a cluster a clone.
///
/// ```
/// use casty::{prelude::*, testkit::Arbiter};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let arbiter = Arbiter::default();
/// let node = ActorSystem::builder("shop").tie_breaker(arbiter.clone()).start().await?;
/// node.wait_for(1).await?;
/// // Nodes ask it only after they have lost each other.
/// arbiter.cut_off(node.node_id().as_str());
/// assert_eq!(arbiter.winners(), Vec::<String>::new());
/// node.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Arbiter(Arc<Mutex<Claims>>);

#[derive(Debug, Default)]
struct Claims {
    winners: BTreeMap<String, String>,
    cut_off: BTreeSet<String>,
    deaf: BTreeSet<String>,
}

impl Arbiter {
    /// From now on claims of this node fail, and do not count.
    pub fn cut_off(&self, node: impl AsRef<str>) {
        lock(&self.0).cut_off.insert(node.as_ref().to_owned());
    }

    /// From now on claims of this node count, but their answers are lost.
    pub fn cut_answers_off(&self, node: impl AsRef<str>) {
        lock(&self.0).deaf.insert(node.as_ref().to_owned());
    }

    /// All nodes reach it again.
    pub fn heal(&self) {
        let mut state = lock(&self.0);
        state.cut_off.clear();
        state.deaf.clear();
    }

    /// The winners of all claims so far, as text, in no particular order.
    pub fn winners(&self) -> Vec<String> {
        lock(&self.0).winners.values().cloned().collect()
    }
}

impl TieBreaker for Arbiter {
    async fn claim(&self, claim: Claim) -> Result<Verdict, TieError> {
        let mut state = lock(&self.0);
        let who = claim.claimant();
        let unreachable = |reason: &str| TieError::Unreachable {
            reason: reason.to_owned(),
        };
        if state.cut_off.contains(who.node.as_str()) {
            return Err(unreachable("cut off by the test"));
        }
        let winner = state.winners.entry(claim.key());
        let verdict = claim.verdict(winner.or_insert_with(|| who.to_string()));
        if state.deaf.contains(who.node.as_str()) {
            return Err(unreachable("its answers are cut off by the test"));
        }
        Ok(verdict)
    }
}
