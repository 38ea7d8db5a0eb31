//! Identities as URIs, which certificates carry as subject alternative names.

use std::{fmt, str::FromStr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::{infra::printable::Printable, transport::identity::PeerRole};

/// The bytes of a name that are escaped. Names of nodes may be addresses.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// Who a certificate is for: `casty://CLUSTER/member/NODE`, `casty://CLUSTER/client/NAME` or
/// `casty://CLUSTER/operator/NAME`.
///
/// ```
/// use casty::tls::{Identity, PeerRole};
///
/// let node: Identity = "casty://shop/member/node-1".parse()?;
/// assert_eq!((node.cluster(), node.role(), node.name()), ("shop", PeerRole::Member, "node-1"));
/// assert_eq!(node.to_string(), "casty://shop/member/node-1");
///
/// // As SPIFFE has it: the trust domain is the cluster, or the cluster follows it.
/// let node: Identity = "spiffe://example.org/shop/client/web".parse()?;
/// assert_eq!((node.cluster(), node.role(), node.name()), ("shop", PeerRole::Client, "web"));
/// # Ok::<(), casty::tls::NoIdentity>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    cluster: String,
    role: PeerRole,
    name: String,
}

/// A URI that is no [`Identity`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is no identity: it has to be `casty://CLUSTER/member/NODE`, or `client/NAME` or `operator/NAME` in place of \
     `member/NODE`",
    Printable(.0)
)]
pub struct NoIdentity(String);

impl NoIdentity {
    /// A certificate without an identity, in whose place stands this.
    pub(super) fn instead(uri: &str) -> Self {
        Self(uri.to_owned())
    }
}

impl Identity {
    /// The identity of a process.
    pub fn new(cluster: impl Into<String>, role: PeerRole, name: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            role,
            name: name.into(),
        }
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The part of the process in it.
    pub fn role(&self) -> PeerRole {
        self.role
    }

    /// The name of the node, the client or the operator.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, name) = (
            utf8_percent_encode(&self.cluster, ESCAPED),
            utf8_percent_encode(&self.name, ESCAPED),
        );
        write!(f, "casty://{cluster}/{}/{name}", self.role)
    }
}

impl FromStr for Identity {
    type Err = NoIdentity;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (scheme, rest) = uri.split_once("://")?;
            let parts: Vec<&str> = rest.split('/').collect();
            let (("casty", [cluster, role, name]) | ("spiffe", [.., cluster, role, name])) =
                (scheme, &parts[..])
            else {
                return None;
            };
            let decoded = |part: &str| {
                let decoded = percent_decode_str(part).decode_utf8().ok()?.into_owned();
                (!decoded.is_empty()).then_some(decoded)
            };
            Some(Self {
                cluster: decoded(cluster)?,
                role: role.parse().ok()?,
                name: decoded(name)?,
            })
        };
        parse().ok_or_else(|| NoIdentity(uri.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_complete_is_no_identity() {
        for uri in [
            "",
            "casty://",
            "casty://shop",
            "casty://shop/member",
            "casty://shop/member/",
            "casty:///member/node-1",
            "casty://shop/leader/node-1",
            "casty://shop/member/node-1/more",
            "casty://a/shop/member/node-1",
            "https://shop/member/node-1",
            "spiffe://shop",
            "spiffe://member/node-1",
            "casty://shop/member/%ff",
        ] {
            assert_eq!(uri.parse::<Identity>(), Err(NoIdentity(uri.to_owned())));
        }
    }

    #[test]
    fn an_error_does_not_repeat_a_long_uri() {
        let error = format!("casty://{}\n", "x".repeat(10_000)).parse::<Identity>();
        let error = error.unwrap_err().to_string();
        assert!(error.len() < 1024 && !error.contains('\n'), "{error}");
    }

    #[test]
    fn the_trust_domain_of_spiffe_may_be_the_cluster() {
        let read: Identity = "spiffe://shop/member/node-1".parse().unwrap();
        assert_eq!(read, Identity::new("shop", PeerRole::Member, "node-1"));
    }

    proptest! {
        #[test]
        fn every_name_survives(cluster in "\\PC{1,20}", name in "\\PC{1,20}") {
            for role in [PeerRole::Member, PeerRole::Client, PeerRole::Operator] {
                let identity = Identity::new(&*cluster, role, &*name);
                let uri = identity.to_string();
                prop_assert!(uri.is_ascii());
                prop_assert_eq!(uri.parse(), Ok(identity));
            }
        }
    }
}
