//! What held an ask up.

use std::{fmt, time::Duration};

use crate::id::NodeId;

/// What held an ask up, as the node of its target knew it when its time was up: part of
/// [`AskError::Timeout`](crate::AskError::Timeout).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delay {
    /// The node that has the target.
    pub node: NodeId,
    /// How many messages wait in its mailbox, that of the ask among them unless its handler runs.
    pub waiting: u64,
    /// The message whose handler runs. `None`: none does.
    pub handler: Option<String>,
    /// For how long the handler has run; of one that has awaited nothing, since it was first looked
    /// at.
    pub running_for: Duration,
    /// What the handler has asked, and has no answer to, as `Account/alice`.
    pub waits_for: Option<String>,
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            waiting,
            handler,
            running_for,
            waits_for,
        } = self;
        write!(f, "on node `{node}` {waiting} messages wait for it")?;
        match handler {
            Some(handler) => write!(
                f,
                ", and its handler `{handler}` runs for {running_for:.1?}"
            )?,
            None => f.write_str(", and no handler of it runs")?,
        }
        if let Some(waits_for) = waits_for {
            write!(f, " and waits for `{waits_for}`")?;
        }
        Ok(())
    }
}
