//! Backups of a cluster under load, and what is restored from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use casty::{
    admin::{self, Admin, AdminError, BackupError},
    prelude::*,
    testkit::{self, eventually, shutdown, soon},
};
use tokio::sync::watch;

use crate::types::{Page, Vault};

const VAULTS: usize = 30;

fn node(folder: &Path, number: usize) -> casty::SystemBuilder {
    casty_tests::log();
    let name = format!("node-{number}");
    ActorSystem::builder("backed-up")
        .data_dir(folder.join(&name))
        .node_id(name)
}

/// Deposits 1 again and again, and says what was acknowledged last: of a vault, the balance.
async fn load(
    system: ActorSystem,
    acknowledged: Arc<std::sync::Mutex<BTreeMap<usize, i64>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut n = 0;
    while !*stop.borrow_and_update() {
        let vault = system.entity::<Vault>(format!("v{n}"));
        let deposited = vault.deposit(1).await;
        let page = system.entity::<Page>(format!("p{n}"));
        let written = page.write(format!("round {n}")).await;
        if let (Ok(balance), Ok(())) = (deposited, written) {
            acknowledged.lock().unwrap().insert(n, balance);
        }
        n = (n + 1) % VAULTS;
    }
}

async fn restored(from: &Path, to: &Path) -> ActorSystem {
    admin::restore(from, to).unwrap();
    let system = ActorSystem::builder("restored").data_dir(to).node_id("new");
    let system = system.start().await.unwrap();
    soon("it founds", system.wait_for(1)).await.unwrap();
    system
}

async fn balances(system: &ActorSystem) -> BTreeMap<usize, i64> {
    let mut balances = BTreeMap::new();
    for n in 0..VAULTS {
        let vault = system.entity::<Vault>(format!("v{n}"));
        let balance = vault.balance().retry_for(testkit::STEP_LIMIT).await;
        balances.insert(n, balance.unwrap());
    }
    balances
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_entity_is_restored_as_it_was_at_or_after_the_beginning_of_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = testkit::cluster_of(3, |i| node(folder.path(), i)).await;
    let acknowledged = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = nodes
        .iter()
        .map(|node| tokio::spawn(load(node.clone(), acknowledged.clone(), stopped.clone())))
        .collect();
    let all = || async { acknowledged.lock().unwrap().len() };
    eventually("each has something", all, |all| *all == VAULTS).await;
    let gone = nodes[0].entity::<Vault>("gone");
    soon("a deposit", gone.deposit(7).retry_for(testkit::STEP_LIMIT))
        .await
        .unwrap();
    soon("an erasure", nodes[0].erase::<Vault>("gone"))
        .await
        .unwrap();

    let before = acknowledged.lock().unwrap().clone();
    let admin = Admin::connect("backed-up", [nodes[1].address()]);
    let admin = soon("it answers", admin).await.unwrap();
    let to = folder.path().join("backup");
    let kinds = ["Page".to_owned(), "Vault".to_owned()];
    let mut last = None;
    let made = admin.backup(&to, &kinds, |at| last = Some(at.clone()));
    let made = made.await.unwrap();
    assert_eq!(made.kinds, kinds);
    let last = last.unwrap();
    assert_eq!((last.shards_done, last.shards), (40, 40));
    assert!(made.records > 0 && made.snapshots > 0, "{made:?}");
    stop.send_replace(true);
    for client in clients {
        client.await.unwrap();
    }
    let after = balances(&nodes[0]).await;
    let mut used = BTreeSet::new();
    let mut stored = admin.entities("Vault").await.unwrap().stored();
    while let Some(page) = stored.next_page().await.unwrap() {
        used.extend(page.into_iter().map(|vault| vault.shard));
    }
    drop(stored);
    shutdown(nodes).await;

    let data = folder.path().join("restored");
    let system = restored(&to, &data).await;
    // Each shard with records gets an owner although nobody asks for it.
    let admin = Admin::connect("restored", [system.address()]);
    let admin = soon("it answers", admin).await.unwrap();
    let owned = || async {
        let shards = admin.shards().await.unwrap().kinds;
        let vaults = shards.into_iter().find(|kind| kind.name == "Vault");
        let homes = vaults.into_iter().flat_map(|kind| kind.homes);
        let owned = homes.filter(|home| home.owner.is_some());
        owned.map(|home| home.shard).collect::<BTreeSet<_>>()
    };
    eventually("all have owners", owned, |owned| owned.is_superset(&used)).await;
    let found = balances(&system).await;
    for n in 0..VAULTS {
        assert!(
            before[&n] <= found[&n] && found[&n] <= after[&n],
            "vault {n}: {} ≤ {} ≤ {}",
            before[&n],
            found[&n],
            after[&n]
        );
        let page = system.entity::<Page>(format!("p{n}"));
        let text = page.text().retry_for(testkit::STEP_LIMIT).await.unwrap();
        assert_eq!(text, format!("round {n}"));
    }
    let gone = system.entity::<Vault>("gone");
    let balance = gone.balance().retry_for(testkit::STEP_LIMIT).await;
    assert_eq!(balance, Ok(0), "it was erased before the backup");
    let vault = system.entity::<Vault>("v0");
    assert_eq!(vault.deposit(1).await, Ok(found[&0] + 1));
    shutdown(vec![system]).await;

    let again = admin::restore(&to, &data);
    assert!(
        matches!(again, Err(BackupError::NotEmpty { .. })),
        "{again:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_damaged_or_unfinished_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let nodes = testkit::cluster_of(1, |i| node(folder.path(), i)).await;
    let vault = nodes[0].entity::<Vault>("v0");
    soon("a deposit", vault.deposit(3)).await.unwrap();
    let admin = Admin::connect("backed-up", [nodes[0].address()]);
    let admin = soon("it answers", admin).await.unwrap();
    let to = folder.path().join("backup");
    let kinds = ["Vault".to_owned()];
    admin.backup(&to, &kinds, |_| {}).await.unwrap();
    let again = admin.backup(&to, &kinds, |_| {}).await;
    let is_there = matches!(again, Err(AdminError::Backup(BackupError::NotEmpty { .. })));
    assert!(is_there, "{again:?}");
    let wrong = ["Valt".to_owned()];
    let unknown = admin.backup(folder.path().join("x"), &wrong, |_| {}).await;
    assert!(matches!(unknown, Err(AdminError::Stored(_))), "{unknown:?}");
    shutdown(nodes).await;

    let file = to.join("backup.casty");
    let whole = fs::read(&file).unwrap();
    let data = folder.path().join("data");
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    fs::write(&file, &changed).unwrap();
    let damaged = admin::restore(&to, &data);
    assert!(
        matches!(damaged, Err(BackupError::Damaged { .. })),
        "{damaged:?}"
    );
    fs::write(&file, &whole[..middle]).unwrap();
    let cut = admin::restore(&to, &data);
    assert!(
        matches!(cut, Err(BackupError::Unfinished { .. })),
        "{cut:?}"
    );
    assert!(!data.exists());
    fs::write(&file, &whole).unwrap();
    let system = restored(&to, &data).await;
    let vault = system.entity::<Vault>("v0");
    assert_eq!(vault.balance().retry_for(testkit::STEP_LIMIT).await, Ok(3));
    shutdown(vec![system]).await;
}
