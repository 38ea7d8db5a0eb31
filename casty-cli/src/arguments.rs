//! Reads the command line and the environment variables.

use std::{path::PathBuf, time::Duration};

use casty::tls::Tls;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

use crate::cert::NewFiles;

/// Inspects and operates a casty cluster.
#[derive(Debug, Parser)]
#[command(
    name = "casty",
    version,
    after_help = "Exit codes: 0 success, 1 failed or refused, 2 wrong usage, 3 no node can be reached."
)]
struct Line {
    /// The cluster's name.
    #[arg(long, global = true, env = "CASTY_CLUSTER", value_name = "NAME")]
    cluster: Option<String>,

    /// Nodes to ask. One node that answers is enough: it knows the others.
    #[arg(
        long = "node",
        global = true,
        env = "CASTY_NODES",
        value_delimiter = ',',
        value_name = "HOST:PORT"
    )]
    nodes: Vec<String>,

    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    json: bool,

    /// The timeout of one round of questions to all nodes: 500ms, 5s, 1m.
    #[arg(long, global = true, default_value = "5s", value_parser = duration)]
    timeout: Duration,

    /// The certificate of this operator, `casty://CLUSTER/operator/NAME`, in a cluster with TLS.
    #[arg(
        long = "tls-cert",
        global = true,
        env = "CASTY_TLS_CERT",
        value_name = "FILE"
    )]
    tls_cert: Option<PathBuf>,

    /// Its key.
    #[arg(
        long = "tls-key",
        global = true,
        env = "CASTY_TLS_KEY",
        value_name = "FILE"
    )]
    tls_key: Option<PathBuf>,

    /// The certificates of the authorities that sign those of the nodes.
    #[arg(
        long = "tls-ca",
        global = true,
        env = "CASTY_TLS_CA",
        value_name = "FILE"
    )]
    tls_ca: Option<PathBuf>,

    #[command(subcommand)]
    operation: Operation,
}

/// What can be done about certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Certificates {
    /// Make an authority that signs the certificates of a cluster: `ca.pem` and `ca.key`.
    ///
    /// Each process needs `ca.pem`. Keep `ca.key` where no process of the cluster can read it.
    CreateCa {
        #[command(flatten)]
        files: NewFiles,
    },

    /// Make the certificate of a node: `NODE.pem` and `NODE.key`.
    CreateNode {
        /// The name of the node.
        #[arg(value_name = "NODE")]
        name: String,

        /// The directory of `ca.pem` and `ca.key`. Default: that of --to.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,

        #[command(flatten)]
        files: NewFiles,
    },

    /// Make the certificate of a client, which may send messages: `NAME.pem` and `NAME.key`.
    CreateClient {
        /// The name of the client.
        name: String,

        /// The directory of `ca.pem` and `ca.key`. Default: that of --to.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,

        #[command(flatten)]
        files: NewFiles,
    },

    /// Make the certificate of an operator, for this program: `NAME.pem` and `NAME.key`.
    CreateOperator {
        /// The name of the operator.
        name: String,

        /// The directory of `ca.pem` and `ca.key`. Default: that of --to.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,

        #[command(flatten)]
        files: NewFiles,
    },

    /// Show what a certificate says.
    Info {
        /// The file of the certificate.
        certificate: PathBuf,
    },

    /// Say what a peer would say to the certificate of a process.
    Check {
        /// The file of the certificate.
        certificate: PathBuf,

        /// The file of its key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,

        /// The certificates of the authorities that the peer trusts.
        #[arg(long, value_name = "FILE")]
        ca: PathBuf,

        /// Lists of revoked certificates that the peer has.
        #[arg(long, value_name = "FILE")]
        revoked: Option<PathBuf>,

        /// The process: its part in the cluster and its name, as in `--as member node-1`.
        #[arg(long = "as", num_args = 2, value_names = ["ROLE", "NAME"], required = true)]
        process: Vec<String>,
    },
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    /// Show the members: status, vote, leadership, lease, answer, and what each member owns.
    Members,

    /// Show the home of each shard.
    Shards,

    /// Let the survivor of two members go on alone, after the sole voter has died.
    Promote {
        /// The node that goes on.
        node: String,
    },

    /// Go on after something was lost for good: a majority of the voters (--keep), or all copies of
    /// shards (--lost).
    ///
    /// With --keep NODE a new generation of the cluster begins from that node's copy of the map.
    ///
    /// With --lost, shards are shown whose every copy in sync is on a node that is gone, and what
    /// older copies there are. Each of them goes on by itself when one of its nodes is back, and
    /// nothing is lost then. If none of them will ever be back, --from or --empty gives up what
    /// they alone had, for good.
    Recover {
        /// The node that goes on.
        #[arg(
            long,
            value_name = "NODE",
            required_unless_present = "lost",
            conflicts_with = "lost"
        )]
        keep: Option<String>,

        /// Go on even if another node knows a later map or seems alive: its later decisions are
        /// lost, and its entities start afresh.
        #[arg(long, conflicts_with = "lost")]
        force: bool,

        /// Show the shards that have lost all their copies; with --from or --empty, give them up.
        #[arg(long)]
        lost: bool,

        /// Only the shards of this type.
        #[arg(value_name = "TYPE", requires = "lost", conflicts_with = "keep")]
        kind: Option<String>,

        /// Only these shards of it.
        #[arg(value_name = "SHARD", requires = "kind")]
        shards: Vec<u32>,

        /// Go on with the out-of-date copy of this node, or with the best of each shard. Shards
        /// without one stay as they are.
        #[arg(
            long,
            value_name = "NODE|best",
            requires = "lost",
            conflicts_with_all = ["empty", "keep"]
        )]
        from: Option<String>,

        /// Go on with nothing, even where there is an out-of-date copy.
        #[arg(long, requires = "lost", conflicts_with = "keep")]
        empty: bool,

        /// Do not ask whether that is meant.
        #[arg(long, requires = "lost", conflicts_with = "keep")]
        yes: bool,
    },

    /// Move a node's shards and its vote to other members, so that its process can be stopped.
    Drain {
        /// The node to drain.
        node: String,

        /// How long to wait for the drain.
        #[arg(long, default_value = "60s", value_parser = duration)]
        wait: Duration,
    },

    /// List the entities of a type: those that are active on some node, and those that are stored.
    Entities {
        /// The wire name of the type.
        #[arg(value_name = "TYPE")]
        kind: String,

        /// Only those that are active. The store is not read.
        #[arg(long, conflicts_with = "stored")]
        active: bool,

        /// Only those that are stored.
        #[arg(long)]
        stored: bool,

        /// Only those whose ids begin with this text.
        #[arg(long, value_name = "TEXT", default_value = "")]
        prefix: String,

        /// How many entities to show.
        #[arg(long, default_value = "100", value_parser = at_least_one)]
        limit: usize,
    },

    /// Show what is stored of an entity, record by record.
    History {
        /// The entity: TYPE/ID.
        #[arg(value_name = "TYPE/ID")]
        entity: String,

        /// The number of the first record to show.
        #[arg(long, value_name = "NUMBER", default_value = "1")]
        from: u64,

        /// How many records to show.
        #[arg(long, default_value = "1000", value_parser = at_least_one)]
        limit: usize,
    },

    /// Say why an entity does not answer: where it lives, which handler runs and since when, how
    /// many messages wait, and what the handler waits for, to the end of the chain.
    Why {
        /// The entity: TYPE/ID.
        #[arg(value_name = "TYPE/ID")]
        entity: String,
    },

    /// Have the flight recorder record an entity from now on, on the node where it lives, or write
    /// what it has recorded to a file.
    ///
    /// An entity whose type says `record` is recorded anyway.
    Record {
        /// The entity: TYPE/ID.
        #[arg(value_name = "TYPE/ID")]
        entity: String,

        /// How many messages are kept at least. Default: 256.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=65_536))]
        messages: Option<u32>,

        /// Record it no more, and forget what was recorded.
        #[arg(long, conflicts_with_all = ["messages", "write"])]
        stop: bool,

        /// Write what is recorded to this new file. Messages are in it.
        #[arg(long, value_name = "FILE", conflicts_with = "messages")]
        write: Option<PathBuf>,

        /// With --write: what was recorded when the entity failed last.
        #[arg(long, requires = "write")]
        failed: bool,

        /// With --write: what is stored of the entity as well, to be read in a test by other code.
        #[arg(long, requires = "write", conflicts_with = "failed")]
        journal: bool,
    },

    /// Show a recording: a file that `casty record --write`, or a node whose entity failed, has
    /// written. No node is asked.
    Recording {
        /// The file.
        file: PathBuf,
    },

    /// Show what the nodes, the entity types and the busiest entities do, and what is not as it
    /// should be.
    ///
    /// On a terminal it goes on until `q` is pressed; `s` sorts the entities by something else.
    /// Rates and durations need nodes that count: casty's feature `metrics`.
    Top {
        /// Print it once, as if there were no terminal: two looks, a second apart.
        #[arg(long)]
        once: bool,

        /// The time between two looks: 500ms, 2s. Each node looks at all its entities for that.
        #[arg(long, default_value = "2s", value_parser = duration)]
        every: Duration,
    },

    /// Show what stored entities have sent to others, and is not known to be taken: for which
    /// receivers, and why not.
    Outbox,

    /// Show the reminders of stored entities that are pending: those of which a try has failed,
    /// then those that are due first.
    Reminders {
        /// The wire name of a type. Default: all types.
        #[arg(value_name = "TYPE")]
        kind: Option<String>,

        /// How many to show.
        #[arg(long, default_value = "100", value_parser = at_least_one)]
        limit: usize,
    },

    /// Give up a message whose handler fails each time: what stored entities have sent to this one,
    /// or what one of its reminders is due for. It is taken without being handled, and becomes a
    /// dead letter. What was sent after it goes on.
    GiveUp {
        /// The entity that cannot handle it: TYPE/ID.
        #[arg(value_name = "TYPE/ID")]
        entity: String,

        /// The reminder. Default: the first message of each shard that was sent to the entity.
        #[arg(long, value_name = "NAME")]
        reminder: Option<String>,

        /// Do not ask whether that is meant.
        #[arg(long)]
        yes: bool,
    },

    /// Erase what is stored of an entity. It begins anew with its next message.
    Erase {
        /// The entity: TYPE/ID.
        #[arg(value_name = "TYPE/ID")]
        entity: String,

        /// Do not ask whether that is meant.
        #[arg(long)]
        yes: bool,
    },

    /// Say that the directory of a node which is stopped was moved, and that nothing in it is
    /// missing. No node is asked.
    Adopt {
        /// The directory.
        directory: PathBuf,
    },

    /// Write what the nodes have stored of entities into a new directory, while they serve.
    Backup {
        /// The directory. It must not be there, or be empty.
        #[arg(long, value_name = "DIR")]
        to: PathBuf,

        /// Only entities of these types. Default: all types that the cluster keeps in copies.
        #[arg(value_name = "TYPE")]
        kinds: Vec<String>,
    },

    /// Make the directory of a node from a backup. No node is asked.
    ///
    /// Start one node alone with the directory as its `data_dir`. Let other nodes join once its log
    /// says that all that is stored has owners.
    Restore {
        /// The directory of the backup.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,

        /// The directory that is made. It must not be there, or be empty.
        #[arg(long, value_name = "DATA_DIR")]
        to: PathBuf,
    },

    /// Make and check the certificates of a cluster with TLS. No node is asked.
    Cert {
        #[command(subcommand)]
        command: Certificates,
    },

    /// Show what a configuration may say, or check one. No node is asked.
    Config {
        #[command(subcommand)]
        command: Configuration,
    },
}

/// What is done about a configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum Configuration {
    /// Print a file with all keys, their meanings, variables and defaults.
    Defaults,

    /// Say what is wrong with a file, and with the variables of the environment.
    Check {
        /// The file, as `casty.toml`.
        file: PathBuf,
    },
}

impl Operation {
    /// Whether nodes are asked, so that they and their cluster have to be named.
    fn asks_nodes(&self) -> bool {
        !matches!(
            self,
            Self::Adopt { .. }
                | Self::Restore { .. }
                | Self::Cert { .. }
                | Self::Config { .. }
                | Self::Recording { .. }
        )
    }
}

/// The arguments, complete.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) cluster: String,
    pub(crate) nodes: Vec<String>,
    pub(crate) json: bool,
    pub(crate) timeout: Duration,
    /// The certificate of this operator.
    pub(crate) tls: Option<Tls>,
    pub(crate) operation: Operation,
}

impl Arguments {
    /// Reads the arguments. Ends the program if they are wrong or ask for help.
    pub(crate) fn read() -> Self {
        match Line::try_parse().and_then(Self::complete) {
            Ok(arguments) => arguments,
            Err(error) => error.exit(),
        }
    }

    // The parser cannot require an argument that may stand before or after the operation.
    fn complete(line: Line) -> Result<Self, clap::Error> {
        let missing = |what: &str| Line::command().error(ErrorKind::MissingRequiredArgument, what);
        let nodes = line.nodes.into_iter().map(|node| node.trim().to_owned());
        let nodes: Vec<String> = nodes.filter(|node| !node.is_empty()).collect();
        let cluster = line.cluster.filter(|cluster| !cluster.is_empty());
        let tls = match (line.tls_cert, line.tls_key, line.tls_ca) {
            (None, None, None) => None,
            (Some(cert), Some(key), Some(ca)) => Some(Tls::from_files(cert, key, ca)),
            _ => {
                return Err(missing(
                    "--tls-cert, --tls-key and --tls-ca belong together; give all three of them, or none",
                ));
            }
        };
        if !line.operation.asks_nodes() {
            return Ok(Self {
                tls,
                cluster: cluster.unwrap_or_default(),
                nodes,
                json: line.json,
                timeout: line.timeout,
                operation: line.operation,
            });
        }
        let cluster = cluster.ok_or_else(|| {
            missing("no cluster is named; a network may have several; give --cluster NAME or set CASTY_CLUSTER")
        })?;
        if nodes.is_empty() {
            return Err(missing(
                "no node is named; the cluster is found through its nodes; give --node HOST:PORT or set CASTY_NODES",
            ));
        }
        if let Some(wrong) = nodes.iter().find(|node| !is_place(node)) {
            let wrong = format!("`{wrong}` is not HOST:PORT, with a port from 1 to 65535");
            return Err(Line::command().error(ErrorKind::ValueValidation, wrong));
        }
        Ok(Self {
            tls,
            cluster,
            nodes,
            json: line.json,
            timeout: line.timeout,
            operation: line.operation,
        })
    }
}

/// Whether a node is named by a host and a port.
fn is_place(node: &str) -> bool {
    let Some((host, port)) = node.rsplit_once(':') else {
        return false;
    };
    !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("must be a number, and at least 1".to_owned()),
    }
}

/// The longest duration that may be given.
const LONGEST: Duration = Duration::from_hours(24);

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let wrong = || "write a number and a unit, as in 500ms, 5s or 2m".to_owned();
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let duration = number.checked_mul(millis).map(Duration::from_millis);
    match duration {
        Some(duration) if !duration.is_zero() && duration <= LONGEST => Ok(duration),
        _ => Err("must be more than zero, and at most a day".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        let line = ["casty"].iter().chain(arguments);
        Line::try_parse_from(line).and_then(Arguments::complete)
    }

    #[test]
    fn the_parser_is_well_formed() {
        Line::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_operation() {
        let before = [
            "--cluster",
            "shop",
            "--node",
            "a:1,b:2",
            "--json",
            "members",
        ];
        let after = [
            "members",
            "--node",
            "a:1",
            "--json",
            "--node",
            "b:2",
            "--cluster",
            "shop",
        ];
        for line in [&before[..], &after] {
            let arguments = read(line).unwrap();
            assert_eq!(arguments.cluster, "shop");
            assert_eq!(arguments.nodes, ["a:1", "b:2"]);
            assert!(arguments.json);
            assert_eq!(arguments.timeout, Duration::from_secs(5));
        }
    }

    #[test]
    fn a_recovery_is_of_voters_or_of_copies() {
        let read = |more: &[&str]| {
            let first = ["--cluster", "shop", "--node", "a:1", "recover"];
            read(&[&first, more].concat())
        };
        for right in [
            &["--keep", "node-1", "--force"][..],
            &["--lost"],
            &["--lost", "Account", "3", "7", "--from", "best", "--yes"],
            &["--lost", "--empty"],
        ] {
            assert!(read(right).is_ok(), "{right:?}");
        }
        for wrong in [
            &[][..],
            &["--keep", "node-1", "--lost"],
            &["--lost", "--force"],
            &["--keep", "node-1", "Account"],
            &["--keep", "node-1", "--empty"],
            &["--lost", "--from", "best", "--empty"],
            &["--lost", "Account", "x"],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_files_of_an_operator_belong_together() {
        let line = ["--cluster", "shop", "--node", "a:1", "members"];
        let all = ["--tls-cert", "c", "--tls-key", "k", "--tls-ca", "a"];
        let read = |more: &[&str]| read(&[&line, more].concat());
        assert_eq!(
            read(&all).unwrap().tls,
            Some(Tls::from_files("c", "k", "a"))
        );
        assert_eq!(read(&[]).unwrap().tls, None);
        for some in [&all[..2], &all[..4], &all[2..]] {
            assert!(read(some).is_err(), "{some:?}");
        }
    }

    #[test]
    fn a_restore_needs_no_cluster() {
        let restore = read(&["restore", "--from", "a", "--to", "b"]).unwrap();
        assert!(matches!(restore.operation, Operation::Restore { .. }));
        assert!(read(&["backup", "--to", "b"]).is_err());
    }

    #[test]
    fn durations_have_a_unit_and_bounds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in [
            "",
            "5",
            "s",
            "-1s",
            "1.5s",
            "5 s",
            "0s",
            "25000000h",
            "99999999999999999m",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
