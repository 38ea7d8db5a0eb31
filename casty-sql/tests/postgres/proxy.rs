//! A connection to the server that can be cut.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncWriteExt as _, copy},
    net::{UnixListener, UnixStream},
    sync::{Notify, watch},
};

use crate::support::postgres::url_by;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Good,
    /// What the server says does not arrive.
    Deaf,
    Cut,
}

/// Stands between the clients and the socket of a server.
pub(crate) struct Proxy {
    folder: tempfile::TempDir,
    line: watch::Sender<Line>,
    /// Notified when the server says something that does not arrive.
    unheard: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn start(server: PathBuf) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).expect("bound");
        let line = watch::Sender::new(Line::Good);
        let (lines, unheard) = (line.clone(), Arc::new(Notify::new()));
        let notifies = unheard.clone();
        let server: Arc<Path> = server.into();
        let accept = async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("a client");
                let unheard = notifies.clone();
                connections.spawn(serve(client, server.clone(), lines.subscribe(), unheard));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "a proxy is no part of a node")]
        let task = tokio::spawn(accept);
        Self {
            folder,
            line,
            unheard,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        url_by(self.folder.path())
    }

    /// Cuts all connections. Further ones are good.
    pub(crate) fn cut(&self) {
        self.line.send_replace(Line::Cut);
        self.line.send_replace(Line::Good);
    }

    /// From now on no answer of the server arrives on the present connections. Resolves once there
    /// is one that does not.
    pub(crate) async fn deafen(&self) {
        let unheard = self.unheard.notified();
        tokio::pin!(unheard);
        unheard.as_mut().enable();
        self.line.send_replace(Line::Deaf);
        unheard.await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    client: UnixStream,
    server: Arc<Path>,
    mut line: watch::Receiver<Line>,
    unheard: Arc<Notify>,
) {
    let Ok(server) = UnixStream::connect(&*server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // Each change ends what was good; `Good` after `Cut` may be all that is seen of the two.
    let mut first = line.clone();
    first.mark_unchanged();
    let up = async {
        let _ = copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let down = async {
        tokio::select! {
            biased;
            _ = first.changed() => {}
            _ = copy(&mut from_server, &mut to_client) => return,
        }
        if *first.borrow() == Line::Deaf && from_server.readable().await.is_ok() {
            unheard.notify_waiters();
        }
        while *first.borrow_and_update() == Line::Deaf && first.changed().await.is_ok() {}
    };
    tokio::select! {
        () = up => {}
        () = down => {}
        () = is_cut(&mut line) => {}
    }
}

/// Resolves when the line is anything but good or deaf, or is good again.
async fn is_cut(line: &mut watch::Receiver<Line>) {
    line.mark_unchanged();
    while line.changed().await.is_ok() {
        if *line.borrow_and_update() != Line::Deaf {
            return;
        }
    }
}
