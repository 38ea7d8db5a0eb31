//! What the nodes of a cluster count and see.

use super::{Admin, AdminError, Overview};
use crate::cluster::reading::overview;

impl Admin {
    /// What the members that serve count and see now. Each looks at all its entities for a moment:
    /// a million of them take some tens of milliseconds. To learn what happens in a time, compare
    /// two ([`Overview::findings`], [`Overview::counts`]).
    ///
    /// # Errors
    /// Those of [`members`](Self::members). A member that does not answer is no error.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn overview(&self) -> Result<Overview, AdminError> {
        let nodes = self.nodes().await?;
        Ok(overview::overview(&nodes).await?)
    }
}
