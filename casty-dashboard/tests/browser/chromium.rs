//! Chromium without a window, driven over two pipes by the protocol of its
//! developer tools.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use casty::testkit::soon;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::unix::pipe,
    process::{Child, Command},
};

/// What it is called.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// A browser. It ends with its value.
pub(crate) struct Browser {
    child: Child,
    /// What it stores.
    #[expect(dead_code, reason = "held to be removed at the end")]
    folder: TempDir,
    to: pipe::Sender,
    from: BufReader<pipe::Receiver>,
    calls: u64,
    /// Errors of scripts, and what the policy has refused, since the last page was opened.
    trouble: Vec<String>,
}

/// A page in a browser.
pub(crate) struct Tab<'a> {
    browser: &'a mut Browser,
    session: String,
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<_> = std::env::split_paths(&path).collect();
    let mut candidates = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|candidate| candidate.is_file())
}

fn fifo(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

impl Browser {
    /// `None`: it is not installed.
    pub(crate) async fn start() -> Option<Self> {
        let program = find()?;
        let folder = tempfile::tempdir().unwrap();
        let (to, from) = (fifo(folder.path(), "to"), fifo(folder.path(), "from"));
        let receiver = pipe::OpenOptions::new().open_receiver(&from).unwrap();
        // It reads descriptor 3, and writes to 4.
        let script = "exec \"$0\" \"$@\" 3<\"$TO\" 4>\"$FROM\"";
        let child = Command::new("sh")
            .args(["-c", script])
            .arg(program)
            .args([
                "--headless=new",
                "--remote-debugging-pipe",
                // Tests of a container run as root, and the only page is ours.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .arg(format!(
                "--user-data-dir={}",
                folder.path().join("profile").display()
            ))
            .env("TO", &to)
            .env("FROM", &from)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let opening = async {
            loop {
                // It can be opened once the browser has opened the other end.
                match pipe::OpenOptions::new().open_sender(&to) {
                    Ok(sender) => return sender,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let to = soon("the browser reads", opening).await;
        Some(Self {
            child,
            folder,
            to,
            from: BufReader::new(receiver),
            calls: 0,
            trouble: Vec::new(),
        })
    }

    async fn call(&mut self, session: Option<&str>, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let id = self.calls;
        let mut call = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = session {
            call["sessionId"] = json!(session);
        }
        let mut bytes = call.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).await.unwrap();
        let answered = async {
            loop {
                let said = self.hear().await;
                if said["id"] == id {
                    assert!(said["error"].is_null(), "{method}: {said}");
                    return said["result"].clone();
                }
            }
        };
        soon(method, answered).await
    }

    async fn hear(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).await.unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser has ended");
        let said: Value = serde_json::from_slice(&bytes).unwrap();
        let is_trouble = match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => said["params"]["entry"]["level"] == "error",
            _ => false,
        };
        if is_trouble {
            self.trouble.push(said["params"].to_string());
        }
        said
    }

    /// Opens a page.
    pub(crate) async fn open(&mut self, address: &str) -> Tab<'_> {
        let blank = json!({ "url": "about:blank" });
        let target = self.call(None, "Target.createTarget", blank).await;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call(None, "Target.attachToTarget", attach).await;
        let session = attached["sessionId"].as_str().unwrap().to_owned();
        self.trouble.clear();
        let mut tab = Tab {
            browser: self,
            session,
        };
        tab.call("Runtime.enable", json!({})).await;
        tab.call("Log.enable", json!({})).await;
        tab.resize(1280, 900).await;
        tab.call("Page.navigate", json!({ "url": address })).await;
        tab
    }

    /// Ends it, and waits for that.
    pub(crate) async fn end(mut self) {
        self.call(None, "Browser.close", json!({})).await;
        soon("the browser ends", self.child.wait()).await.unwrap();
    }
}

impl Tab<'_> {
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        let session = self.session.clone();
        self.browser.call(Some(&session), method, parameters).await
    }

    /// The value of an expression, or of what it promises.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let evaluate = json!({
            "expression": expression,
            "returnByValue": true,
            "awaitPromise": true,
        });
        let evaluated = self.call("Runtime.evaluate", evaluate).await;
        let exception = &evaluated["exceptionDetails"];
        assert!(exception.is_null(), "{expression}: {exception}");
        evaluated["result"]["value"].clone()
    }

    /// Waits until the expression is true. It may fail before.
    pub(crate) async fn until(&mut self, expression: &str) {
        let safe =
            format!("(() => {{ try {{ return {expression}; }} catch {{ return false; }} }})()");
        let what = format!("until {expression}");
        let until = async {
            while self.value(&safe).await != json!(true) {
                tokio::task::yield_now().await;
            }
        };
        soon(&what, until).await;
    }

    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        let metrics = json!({
            "width": width,
            "height": height,
            "deviceScaleFactor": 1,
            "mobile": width < 600,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    /// The user prefers this color scheme.
    pub(crate) async fn prefer(&mut self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let media = json!({ "features": features });
        self.call("Emulation.setEmulatedMedia", media).await;
    }

    /// What has gone wrong on the page.
    pub(crate) fn trouble(&self) -> Vec<String> {
        self.browser.trouble.clone()
    }
}
