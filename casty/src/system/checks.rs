//! What a start refuses of what a builder was given.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use crate::{
    cluster::{peers::Peers, region::AnyRegion},
    config::Availability,
    error::StartError,
    id::{NODE_ID_BYTES_MAX, zones},
    protocol::map::SHARDS_MAX,
    transport::{
        handshake::{self, CATALOG_MAX, Lane, UNVERIFIED_BYTES_MAX},
        link::LinkOwner as _,
    },
};

/// The most roles of one node. They are part of its facts, which gossip carries.
const ROLES_MAX: usize = 16;

/// Checks a name of at least one byte and not too many.
pub(super) fn name(setting: &'static str, name: &str) -> Result<(), StartError> {
    let reason = match name.len() {
        0 => "must not be empty".to_owned(),
        bytes if bytes > NODE_ID_BYTES_MAX => {
            format!("has {bytes} bytes, at most {NODE_ID_BYTES_MAX} are possible")
        }
        _ => return Ok(()),
    };
    Err(StartError::Setting { setting, reason })
}

/// Whether the entity types of this program fit into what it says when it dials.
pub(super) fn catalog(peers: &Peers, regions: &[Arc<dyn AnyRegion>]) -> Result<(), StartError> {
    let refuse = |reason| {
        Err(StartError::Setting {
            setting: "entity types",
            reason,
        })
    };
    if regions.len() > CATALOG_MAX {
        let count = regions.len();
        return refuse(format!(
            "there are {count}, at most {CATALOG_MAX} are possible"
        ));
    }
    let entries = regions.iter().map(|region| region.catalog_entry());
    let shards: u64 = entries.clone().map(|entry| u64::from(entry.shards)).sum();
    if shards > SHARDS_MAX {
        return refuse(format!(
            "they have {shards} shards in all, at most {SHARDS_MAX} are possible"
        ));
    }
    let mut hello = peers.hello(Lane::Control, None);
    hello.catalog = entries.collect();
    // What is not known yet, with room to spare.
    let bytes = handshake::hello_bytes(&hello) + 1024;
    let is_plain = peers.certificate_until().is_none();
    if is_plain && bytes > UNVERIFIED_BYTES_MAX {
        return refuse(format!(
            "their names have {bytes} bytes in all, and without TLS at most {UNVERIFIED_BYTES_MAX} are \
             possible: use shorter names, fewer types, or `SystemBuilder::tls`"
        ));
    }
    Ok(())
}

/// Refuses an address that others can reach, without TLS. A warning tells of one that is wanted all
/// the same.
pub(super) fn exposure(address: SocketAddr, is_wanted: bool) -> Result<(), StartError> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    if !is_wanted {
        return Err(StartError::Insecure { address });
    }
    tracing::warn!(
        %address,
        "this node is insecure: without TLS, any process that reaches its address may do everything"
    );
    Ok(())
}

/// Whether each seed has the form `host:port`.
pub(super) fn seeds(seeds: &[String], bootstrap_expect: Option<u32>) -> Result<(), StartError> {
    if bootstrap_expect == Some(0) {
        return Err(StartError::Setting {
            setting: "bootstrap_expect",
            reason: "a cluster is founded by at least one node".to_owned(),
        });
    }
    for seed in seeds {
        let (host, port) = seed.rsplit_once(':').unwrap_or((seed, ""));
        let is_name = !host.is_empty() && !host.contains([':', '[', ']', '/', ' ']);
        let is_host = is_name || seed.parse::<SocketAddr>().is_ok();
        if !is_host || port.parse::<u16>().ok().is_none_or(|port| port == 0) {
            let reason = format!("`{seed}` is not `host:port`, with a port from 1 to 65535");
            return Err(StartError::Setting {
                setting: "seeds",
                reason,
            });
        }
    }
    Ok(())
}

/// Whether the roles are names, not too many, and name at most one zone.
pub(super) fn roles(roles: &BTreeSet<String>) -> Result<(), StartError> {
    for role in roles {
        name("role", role)?;
    }
    let count = roles.len();
    let zones: Vec<&str> = zones(roles).collect();
    let reason = match zones[..] {
        _ if count > ROLES_MAX => {
            format!("there are {count} of them, at most {ROLES_MAX} are possible")
        }
        [] => return Ok(()),
        [zone] if !zone.is_empty() => return Ok(()),
        [_] => "`zone:` names no zone: write for example `zone:eu-1`".to_owned(),
        [first, second, ..] => format!(
            "`zone:{first}` and `zone:{second}` name two zones, and a node is in one: keep one of them"
        ),
    };
    Err(StartError::Setting {
        setting: "role",
        reason,
    })
}

/// Refuses a cluster whose two nodes both go on, each without the other's copies: what entities do
/// on one side would be lost when they meet again.
pub(super) fn availability(availability: Availability) -> Result<(), StartError> {
    if availability != Availability::Prefer {
        return Ok(());
    }
    let reason = "with `Availability::Prefer` both of two nodes go on by themselves, and stored \
                  entities would lose what they did on one of them; leave `availability` out, or \
                  store them by `journal`";
    Err(StartError::Setting {
        setting: "availability",
        reason: reason.to_owned(),
    })
}

/// Refuses two places for what is stored.
pub(super) fn memory(
    in_memory: bool,
    has_data_dir: bool,
    has_journal: bool,
) -> Result<(), StartError> {
    let other = match (in_memory, has_data_dir, has_journal) {
        (true, true, _) => "data_dir",
        (true, _, true) => "journal",
        _ => return Ok(()),
    };
    Err(StartError::Setting {
        setting: "data_in_memory",
        reason: format!("cannot be combined with `{other}`; choose one of them"),
    })
}
