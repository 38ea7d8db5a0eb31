//! The parts that every process in a cluster has, a node or a client. They live as long as it.

use std::sync::Arc;

use super::{homes::Homes, map_watch::MapWatch, peers::Peers, process::Process, region::AnyRegion};

/// The parts that a node and a client have in common.
pub(crate) struct Parts {
    pub(crate) process: Arc<Process>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) map: Arc<MapWatch>,
    pub(crate) homes: Arc<Homes>,
    /// All entity types that this program knows.
    pub(crate) regions: Arc<[Arc<dyn AnyRegion>]>,
}
