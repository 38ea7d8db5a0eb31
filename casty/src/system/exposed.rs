//! What a builder says of the processes that may reach a node.

use super::SystemBuilder;
use crate::cluster::peers::access::Access;
#[cfg(feature = "tls")]
use crate::transport::tls::Tls;

impl SystemBuilder {
    /// The certificate of this node, its key, and the authorities that it trusts. From then on all
    /// its connections are encrypted and authenticated on both sides: see [`tls`](crate::tls). All
    /// nodes of a cluster need a certificate, or none. The name of the node is the one in its
    /// certificate, unless [`node_id`](Self::node_id) says the same.
    ///
    /// The files are read at the start, and again every 30 seconds. Default: none; then a node
    /// listens on loopback addresses alone, unless it is [`insecure`](Self::insecure).
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// What clients and operators may send, and read. Give it to all nodes. Default: with TLS,
    /// clients may send nothing, and operators may run the commands of `casty`. Without TLS nothing
    /// is verified, and everything is allowed.
    ///
    /// The first node that gets a message decides. Members may send everything.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Lets the node listen without TLS where others can reach it. Then any process that reaches
    /// the address may join the cluster, read all messages and do everything, so all of that
    /// network has to be trusted. A warning at the start says so.
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }
}
