//! What failed, why, and what to do about it.

use std::{fmt, io};

use casty::{
    admin::{AdminError, BackupError},
    configuration::ConfigError,
    error::StoredError,
    persistence::JournalError,
    recorder::RecordingError,
};

use crate::{
    arguments::{Certificates, Configuration, Operation},
    cert::CertFailure,
};

/// Reads as `what; why; what to do`.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    why: String,
    remedy: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(operation: &Operation, error: AdminError) -> Self {
        Self {
            what: what(operation),
            why: error.to_string(),
            remedy: remedy(&error),
            code: match error {
                AdminError::NoNodes
                | AdminError::OtherCluster { .. }
                | AdminError::UnknownShard { .. }
                | AdminError::Stored(StoredError::InvalidId(_)) => 2,
                AdminError::Unreachable { .. } => 3,
                _ => 1,
            },
        }
    }

    pub(crate) fn output(error: &io::Error) -> Self {
        Self {
            what: "the result cannot be written".to_owned(),
            why: error.to_string(),
            remedy: "the operation itself is done; check where the output goes".to_owned(),
            code: 1,
        }
    }

    /// A configuration cannot be used.
    pub(crate) fn configuration(operation: &Operation, error: &ConfigError) -> Self {
        Self {
            what: what(operation),
            why: error.problems.join(", "),
            remedy: "see `casty config defaults` for what there is".to_owned(),
            code: 1,
        }
    }

    /// Something that cannot be undone was not confirmed.
    pub(crate) fn unconfirmed(operation: &Operation) -> Self {
        Self {
            what: what(operation),
            why: "this is not confirmed".to_owned(),
            remedy: "answer with `yes`, or give --yes".to_owned(),
            code: 2,
        }
    }

    /// A directory that cannot be used.
    pub(crate) fn directory(operation: &Operation, error: &JournalError) -> Self {
        Self {
            what: what(operation),
            why: error.to_string(),
            remedy: "stop its node, and give the directory that the node is given".to_owned(),
            code: 1,
        }
    }

    /// A certificate that was not made, or is of no use.
    pub(crate) fn certificate(operation: &Operation, failure: CertFailure) -> Self {
        Self {
            what: what(operation),
            why: failure.why,
            remedy: failure.remedy.to_owned(),
            code: failure.code,
        }
    }

    /// There is nothing to write.
    pub(crate) fn nothing_recorded(operation: &Operation, failed: bool) -> Self {
        let (why, remedy) = if failed {
            (
                "its node remembers no failure of it, or it was not recorded then",
                "leave --failed out for what is recorded now; the folder of `recordings`, if its node has one, \
                 keeps more",
            )
        } else {
            (
                "nothing of it is recorded",
                "`casty record TYPE/ID` records it from its next message on",
            )
        };
        Self {
            what: what(operation),
            why: why.to_owned(),
            remedy: remedy.to_owned(),
            code: 1,
        }
    }

    /// A recording cannot be read, or not be written.
    pub(crate) fn recording(operation: &Operation, error: &RecordingError) -> Self {
        let remedy = match error {
            RecordingError::Io { .. } => "give another file",
            RecordingError::NotARecording => "give a file that `casty record --write` has written",
            RecordingError::Damaged => "use another copy of it",
            _ => "use the version of casty that has written it",
        };
        Self {
            what: what(operation),
            why: error.to_string(),
            remedy: remedy.to_owned(),
            code: 1,
        }
    }

    /// A text that names no entity.
    pub(crate) fn no_entity(operation: &Operation, text: &str) -> Self {
        Self {
            what: what(operation),
            why: format!("`{text}` names no entity"),
            remedy: "give its type and its id, as in Account/alice".to_owned(),
            code: 2,
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
        Operation::Top { .. } => "cannot show what the nodes do".to_owned(),
        Operation::Promote { node } => format!("cannot promote `{node}`"),
        Operation::Recover {
            keep: Some(keep), ..
        } => format!("cannot recover with `{keep}`"),
        Operation::Recover {
            kind: Some(kind), ..
        } => format!("cannot recover the lost shards of `{kind}`"),
        Operation::Recover { .. } => "cannot recover lost shards".to_owned(),
        Operation::Drain { node, .. } => format!("cannot drain `{node}`"),
        Operation::Entities { kind, .. } => format!("cannot list the entities of `{kind}`"),
        Operation::History { entity, .. } => format!("cannot read `{entity}`"),
        Operation::Outbox => "cannot read the outboxes".to_owned(),
        Operation::Why { entity } => format!("cannot look at {entity}"),
        Operation::Record { entity, .. } => format!("cannot record `{entity}`"),
        Operation::Recording { file } => format!("cannot show `{}`", file.display()),
        Operation::Reminders { .. } => "cannot read the reminders".to_owned(),
        Operation::GiveUp { entity, .. } => {
            format!("cannot give up what `{entity}` does not handle")
        }
        Operation::Erase { entity, .. } => format!("cannot erase `{entity}`"),
        Operation::Adopt { directory } => format!("cannot adopt `{}`", directory.display()),
        Operation::Backup { to, .. } => format!("cannot make a backup in `{}`", to.display()),
        Operation::Restore { from, .. } => {
            format!("cannot restore the backup in `{}`", from.display())
        }
        Operation::Config {
            command: Configuration::Check { file },
        } => format!("`{}` cannot be used", file.display()),
        Operation::Config {
            command: Configuration::Defaults,
        } => "cannot show the defaults".to_owned(),
        Operation::Cert { command } => match command {
            Certificates::CreateCa { .. } => "cannot make an authority".to_owned(),
            Certificates::CreateNode { name, .. }
            | Certificates::CreateClient { name, .. }
            | Certificates::CreateOperator { name, .. } => {
                format!("cannot make the certificate of `{name}`")
            }
            Certificates::Info { certificate } | Certificates::Check { certificate, .. } => {
                format!("`{}` is of no use", certificate.display())
            }
        },
    }
}

fn remedy(error: &AdminError) -> String {
    let remedy = match error {
        AdminError::Stored(error) => return stored_remedy(error),
        AdminError::Backup(error) => backup_remedy(error),
        AdminError::NoNodes => "give --node HOST:PORT",
        AdminError::Tls { .. } => {
            "give the files of an operator with --tls-cert, --tls-key and --tls-ca; `casty cert create-operator` makes them"
        }
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
        AdminError::NothingStored { .. } => {
            "`casty entities TYPE --stored` lists those of which there is something"
        }
        AdminError::NotInCopies { kind, kinds } => match alike(kind, kinds) {
            Some(known) => return format!("did you mean `{known}`?"),
            None => "`casty recover --lost` shows the lost shards of all types",
        },
        AdminError::UnknownShard { .. } => "`casty shards` shows the shards",
        AdminError::NothingLost => "nothing needs to be done",
        AdminError::NoOldCopy { .. } => {
            "`casty recover --lost` shows which copies there are; --empty begins with nothing"
        }
        _ => "`casty members` shows the state of the cluster",
    };
    remedy.to_owned()
}

fn stored_remedy(error: &StoredError) -> String {
    let remedy = match error {
        StoredError::InvalidId(_) => "give the id of an entity",
        StoredError::UnknownEntity { name, known } => match alike(name, known) {
            Some(known) => return format!("did you mean `{known}`?"),
            None => "`casty shards` shows the types of the cluster",
        },
        StoredError::NotInCopies { .. } => {
            "use the tools of its store, or leave the type out; `casty shards` shows the types"
        }
        StoredError::NotStored { .. } => "`casty entities TYPE --active` lists those in memory",
        StoredError::Unavailable { .. } => {
            "check that the store runs and that the nodes reach it; then repeat the command"
        }
        StoredError::Unusable { .. } => "the nodes' logs and the store's own tools tell more",
        _ => "`casty members` shows the state of the cluster; the command may be repeated",
    };
    remedy.to_owned()
}

fn backup_remedy(error: &BackupError) -> &'static str {
    match error {
        BackupError::NotEmpty { .. } => "give another directory",
        BackupError::NoBackup { .. } => "give the directory that `casty backup` has made",
        BackupError::Newer { .. } => "use that version of casty",
        BackupError::Unfinished { .. } => "use an earlier backup, or make another one",
        BackupError::Damaged { .. } => "use another copy of it, or an earlier backup",
        _ => "check the disk, and that this process may write there",
    }
}

/// The name that a user may have meant.
fn alike<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let name = name.to_lowercase();
    let distance = |known: &&String| strsim::osa_distance(&name, &known.to_lowercase());
    let nearest = known.iter().min_by_key(distance)?;
    (distance(&nearest) <= name.chars().count() / 3 + 1).then_some(nearest)
}
