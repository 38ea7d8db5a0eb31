//! Runs the program `casty`, and looks at what it says.

use std::process::Stdio;

use casty::{ActorSystem, testkit::soon};
use serde_json::Value;
use tokio::process::Command;

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.succeeded()).unwrap()
    }

    /// The error line of a failed run. It has three parts: what failed, why, and what to do.
    pub(crate) fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let error = self.stderr.lines().last().unwrap_or_default().to_owned();
        assert!(error.starts_with("error: "), "{self:?}");
        assert!(error.split("; ").count() >= 3, "{self:?}");
        error
    }
}

pub(crate) async fn casty(arguments: &[&str]) -> Ran {
    let running = Command::new(env!("CARGO_BIN_EXE_casty"))
        .args(arguments)
        .env_remove("CASTY_CLUSTER")
        .env_remove("CASTY_NODES")
        .env_remove("CASTY_TLS_CERT")
        .env_remove("CASTY_TLS_KEY")
        .env_remove("CASTY_TLS_CA")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = soon("it ends", running).await.unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs an operation, given as one line, through `node`.
pub(crate) async fn ask(cluster: &str, node: &ActorSystem, operation: &str) -> Ran {
    let address = node.address().to_string();
    let mut arguments = vec!["--cluster", cluster, "--node", &address];
    arguments.extend(operation.split_whitespace());
    casty(&arguments).await
}
