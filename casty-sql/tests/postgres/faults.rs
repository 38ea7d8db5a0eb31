//! A server, a connection or a statement is killed while entities are stored.

use casty::testkit::{eventually, soon};
use casty_sql::Postgres;
use sqlx::{Connection as _, PgConnection, Row as _};

use crate::{
    proxy::Proxy,
    support::{
        Random, kills,
        ledger::Load,
        postgres::{Server, signal},
    },
};

/// Says something to the server.
pub(crate) async fn tell(server: &Server, sql: &'static str) -> Vec<i64> {
    let mut connection = PgConnection::connect(&server.url())
        .await
        .expect("connected");
    let rows = sqlx::query(sql)
        .fetch_all(&mut connection)
        .await
        .expect("done");
    rows.iter().filter_map(|row| row.try_get(0).ok()).collect()
}

const APPENDING: &str = "SELECT pid::int8 FROM pg_stat_activity \
     WHERE application_name = 'casty' AND query LIKE 'WITH parts%' AND pid <> pg_backend_pid()";

const COMMITTING: &str = "SELECT pid::int8 FROM pg_stat_activity \
     WHERE application_name = 'casty' AND wait_event = 'SyncRep' AND query LIKE 'WITH parts%'";

/// Ends the server's processes that append, as an administrator does.
async fn terminate_backends(server: &Server) {
    for pid in tell(server, APPENDING).await {
        signal_if_there("TERM", pid);
    }
}

fn signal_if_there(name: &str, pid: i64) {
    // It may have ended.
    if std::path::Path::new(&format!("/proc/{pid}")).exists() {
        signal(name, &pid.to_string());
    }
}

/// Holds a COMMIT, which waits for a standby that does not exist: the record is written, and not
/// answered yet. Then ends the process that commits.
async fn kill_in_commit(server: &Server, kill: &str) {
    let settings = [
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'",
        "SELECT pg_reload_conf()",
    ];
    for sql in settings {
        tell(server, sql).await;
    }
    let committing = || tell(server, COMMITTING);
    let waiting = eventually("a commit waits", committing, |pids| !pids.is_empty());
    for pid in waiting.await {
        signal_if_there(kill, pid);
    }
    let file = "synchronous_standby_names = ''\n";
    server.configure(file);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_is_stored_once_whatever_is_killed() {
    let Some(server) = Server::start().await else {
        return;
    };
    let proxy = Proxy::start(server.socket());
    let store = Postgres::connect(proxy.url()).await.expect("connected");
    let load = Load::start(store);
    let mut random = Random::new(16);
    for round in 0..kills(12) {
        load.goes_on(20 + random.below(60)).await;
        match round % 6 {
            0 | 3 => proxy.cut(),
            1 => terminate_backends(&server).await,
            2 => {
                // Statements are written whose answers do not arrive.
                soon("an answer is not heard", proxy.deafen()).await;
                proxy.cut();
            }
            4 => kill_in_commit(&server, "TERM").await,
            _ if round % 12 == 5 => {
                server.kill();
                server.launch().await;
            }
            // The server ends all its processes, and recovers.
            _ => kill_in_commit(&server, "KILL").await,
        }
    }
    load.goes_on(50).await;
    let direct = Postgres::connect(server.url()).await.expect("connected");
    load.check(direct).await;
}
