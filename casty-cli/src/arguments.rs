//! Reads the command line and the environment variables.

use std::{path::PathBuf, time::Duration};

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};

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

    #[command(subcommand)]
    operation: Operation,
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

    /// Begin a new generation of the cluster from one node's copy of the map, after a majority of
    /// the voters was lost.
    Recover {
        /// The node that goes on.
        #[arg(long, value_name = "NODE")]
        keep: String,

        /// Go on even if another node knows a later map or seems alive: its later decisions are
        /// lost, and its entities start afresh.
        #[arg(long)]
        force: bool,
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

    /// Erase what is stored of an entity. It begins anew with its next message.
    Erase {
        /// The entity: TYPE/ID.
        #[arg(value_name = "TYPE/ID")]
        entity: String,

        /// Do not ask whether that is meant.
        #[arg(long)]
        yes: bool,
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
}

/// The arguments, complete.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) cluster: String,
    pub(crate) nodes: Vec<String>,
    pub(crate) json: bool,
    pub(crate) timeout: Duration,
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
        if let Operation::Restore { .. } = line.operation {
            return Ok(Self {
                cluster: String::new(),
                nodes,
                json: line.json,
                timeout: line.timeout,
                operation: line.operation,
            });
        }
        let cluster = line.cluster.filter(|cluster| !cluster.is_empty());
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
