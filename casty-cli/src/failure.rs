//! What failed, why, and what to do about it.

use std::{fmt, io};

use casty::admin::AdminError;

use crate::arguments::Operation;

/// Reads as `what; why; what to do`.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: String,
    remedy: &'static str,
    code: u8,
}

impl Failure {
    pub(crate) fn new(operation: &Operation, error: AdminError) -> Self {
        Self {
            what: what(operation),
            why: error.to_string(),
            remedy: remedy(&error),
            code: match error {
                AdminError::NoNodes | AdminError::OtherCluster { .. } => 2,
                AdminError::Unreachable { .. } => 3,
                _ => 1,
            },
        }
    }

    pub(crate) fn output(error: &io::Error) -> Self {
        Self {
            what: "the result cannot be written".to_owned(),
            why: error.to_string(),
            remedy: "the operation itself is done; check where the output goes",
            code: 1,
        }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}; {}", self.what, self.why, self.remedy)
    }
}

fn what(operation: &Operation) -> String {
    match operation {
        Operation::Members => "cannot show the members".to_owned(),
        Operation::Shards => "cannot show the shards".to_owned(),
        Operation::Promote { node } => format!("cannot promote `{node}`"),
        Operation::Recover { keep, .. } => format!("cannot recover with `{keep}`"),
        Operation::Drain { node, .. } => format!("cannot drain `{node}`"),
    }
}

fn remedy(error: &AdminError) -> &'static str {
    match error {
        AdminError::NoNodes => "give --node HOST:PORT",
        AdminError::Unreachable { .. } => {
            "check that the nodes run and can be reached from here, or give others with --node"
        }
        AdminError::OtherCluster { .. } => {
            "give that cluster's name with --cluster, or other nodes with --node"
        }
        AdminError::TwoClusters { .. } => "give only nodes of the cluster that you mean",
        AdminError::NoMap => "wait until the nodes have joined, or give other nodes with --node",
        AdminError::UnknownMember { .. } => "give the name of a member",
        AdminError::NoAnswer { .. } => {
            "check that it runs and can be reached from here, or choose another node"
        }
        AdminError::NoLeader { .. } => {
            "start the voters again, or see `casty promote` and `casty recover`; then repeat the command"
        }
        AdminError::HasLeader { .. } => {
            "nothing needs to be done; if that leader has just died, repeat the command in a moment"
        }
        AdminError::NotMostAdvanced { .. } => {
            "choose that node; `casty recover --force` gives up its later decisions"
        }
        AdminError::TooManyMembers { .. } => {
            "use `casty recover --keep NODE` if a majority of the voters is lost for good"
        }
        AdminError::LastMember { .. } => "start another node first, or stop this node",
        AdminError::Refused { .. } => {
            "`casty members` shows the state of the cluster; repeat the command when it has changed"
        }
        AdminError::WentDown { .. } => "stop its process, or let it join again",
        AdminError::DrainUnfinished { .. } => "drain it again to wait on",
        AdminError::RecoverUnfinished { .. } => "`casty members` shows whether it serves now",
        _ => "`casty members` shows the state of the cluster",
    }
}
