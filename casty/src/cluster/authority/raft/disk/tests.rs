//! After a restart, everything acknowledged is there again, and nothing else.

use openraft::{entry::RaftEntry, vote::RaftLeaderId};
use tempfile::TempDir;

use super::*;
use crate::protocol::map::{
    Command,
    tests::{founded, member},
};

const SITS: Seat = Seat(4);

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(path: &Path) -> Result<(Arc<Disk>, Option<StoredState>), StateDirError> {
    Disk::open_here(path, "shop", &NodeId::new("a"))
}

fn error(path: &Path, cluster: &str, node: &str) -> StateDirError {
    let opened = Disk::open_here(path, cluster, &NodeId::new(node));
    opened.map(drop).unwrap_err()
}

fn id(term: u64, index: u64) -> LogIdOf<Types> {
    let leader = openraft::impls::leader_id_std::LeaderId::new(term, 1);
    LogIdOf::<Types>::new(leader.to_committed(), index)
}

fn entry(term: u64, index: u64, decision: Decision) -> EntryOf<Types> {
    EntryOf::<Types>::new_normal(id(term, index), decision)
}

fn change(n: u64) -> Decision {
    let member = member("b", n);
    Decision::Change(Command::Up { member })
}

fn entries(range: std::ops::Range<u64>) -> Vec<EntryOf<Types>> {
    let entry = |index| match index {
        0 => entry(1, 0, Decision::Found(Box::new(founded(4)))),
        _ => entry(1, index, change(index)),
    };
    range.map(entry).collect()
}

fn vote(term: u64) -> VoteOf<Types> {
    VoteOf::<Types>::new(term, 2)
}

fn snapshot(index: u64) -> Snapshot {
    let meta = SnapshotMetaOf::<Types> {
        last_log_id: Some(id(1, index)),
        ..Default::default()
    };
    (meta, codec::to_vec(&Some(founded(4))).unwrap())
}

/// An engine that was taught, and has kept nothing yet.
async fn taught(directory: &TempDir) -> (Arc<Disk>, StateWriter) {
    let (disk, kept) = open(directory.path()).unwrap();
    assert!(kept.is_none());
    let identity = founded(4).identity;
    let keeper = disk.begin(identity, SITS, false, false).await.unwrap();
    (disk, keeper)
}

/// The state that the next process finds.
fn found_in(directory: &TempDir) -> Option<StoredState> {
    open(directory.path()).unwrap().1
}

fn indices(kept: &StoredState) -> Vec<u64> {
    kept.entries.keys().copied().collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_again() {
    let directory = directory();
    let (disk, keeper) = taught(&directory).await;
    keeper.change(Change::Append(entries(0..6))).await.unwrap();
    keeper.change(Change::Truncate(4)).await.unwrap();
    let again = vec![entry(2, 4, change(40))];
    keeper.change(Change::Append(again)).await.unwrap();
    keeper.committed(Some(id(1, 3)));
    keeper.change(Change::Vote(vote(7))).await.unwrap();
    drop((keeper, disk));
    let kept = found_in(&directory).unwrap();
    assert_eq!((kept.seat, kept.identity), (SITS, founded(4).identity));
    assert_eq!((kept.vote, kept.committed), (Some(vote(7)), Some(id(1, 3))));
    assert_eq!(indices(&kept), [0, 1, 2, 3, 4]);
    assert_eq!(kept.entries[&3], entry(1, 3, change(3)));
    assert_eq!(kept.entries[&4], entry(2, 4, change(40)));
}

#[tokio::test]
async fn a_snapshot_stands_for_what_was_purged_and_no_older_one_takes_its_place() {
    let directory = directory();
    let (disk, keeper) = taught(&directory).await;
    keeper.change(Change::Append(entries(0..9))).await.unwrap();
    keeper.change(Change::Snapshot(snapshot(6))).await.unwrap();
    keeper.change(Change::Snapshot(snapshot(3))).await.unwrap();
    keeper.change(Change::Purge(id(1, 5))).await.unwrap();
    drop((keeper, disk));
    let kept = found_in(&directory).unwrap();
    assert_eq!(kept.purged, Some(id(1, 5)));
    assert_eq!(kept.snapshot, Some(snapshot(6)));
    assert_eq!(indices(&kept), [6, 7, 8]);
}

#[tokio::test]
async fn nothing_is_committed_that_is_not_there() {
    let directory = directory();
    let (disk, keeper) = taught(&directory).await;
    keeper.change(Change::Append(entries(0..3))).await.unwrap();
    keeper.committed(Some(id(1, 90)));
    drop((keeper, disk));
    assert_eq!(found_in(&directory).unwrap().committed, Some(id(1, 2)));
}

#[tokio::test]
async fn a_founder_replaces_what_was_kept_when_it_has_founded_and_not_before() {
    let directory = directory();
    let (disk, keeper) = taught(&directory).await;
    keeper.change(Change::Append(entries(0..3))).await.unwrap();
    let old = founded(4).identity;
    let new = ClusterIdentity {
        generation: crate::id::Generation::new(8, 0),
        ..old
    };
    let founder = disk.begin(new, Seat(1), true, false).await.unwrap();
    founder.change(Change::Vote(vote(1))).await.unwrap();
    drop((keeper, founder, disk));
    let (disk, kept) = open(directory.path()).unwrap();
    let kept = kept.unwrap();
    assert_eq!((kept.identity, kept.seat, kept.vote), (old, SITS, None));
    let founder = disk.begin(new, Seat(1), true, false).await.unwrap();
    founder.change(Change::Vote(vote(1))).await.unwrap();
    founder.change(Change::Append(entries(0..1))).await.unwrap();
    drop((founder, disk));
    let kept = found_in(&directory).unwrap();
    assert_eq!((kept.identity, kept.seat), (new, Seat(1)));
    assert_eq!(kept.vote, Some(vote(1)));
    assert_eq!(indices(&kept), [0]);
}

#[tokio::test]
async fn an_engine_that_has_ended_changes_nothing_and_what_it_kept_is_forgotten() {
    let directory = directory();
    let (disk, keeper) = taught(&directory).await;
    keeper.change(Change::Append(entries(0..3))).await.unwrap();
    // This forgets nothing while an engine writes to the directory.
    disk.forget(false).await.unwrap();
    disk.end_tenancy();
    assert!(keeper.change(Change::Vote(vote(9))).await.is_err());
    drop((keeper, disk));
    let (disk, kept) = open(directory.path()).unwrap();
    let kept = kept.unwrap();
    assert_eq!((kept.vote, indices(&kept).len()), (None, 3));
    disk.forget(false).await.unwrap();
    drop(disk);
    assert!(found_in(&directory).is_none());
}

#[tokio::test]
async fn an_engine_that_knew_of_no_cluster_has_kept_nothing() {
    let directory = directory();
    let (disk, keeper) = taught(&directory).await;
    keeper.change(Change::Vote(vote(3))).await.unwrap();
    keeper.change(Change::Append(entries(1..2))).await.unwrap();
    drop((keeper, disk));
    let opened = open(directory.path());
    // Its log does not begin at the beginning, which no engine leaves.
    assert!(matches!(opened, Err(StateDirError::Corrupted { .. })));
    let other = tempfile::tempdir().unwrap();
    let (disk, keeper) = taught(&other).await;
    keeper.change(Change::Vote(vote(3))).await.unwrap();
    drop((keeper, disk));
    assert!(found_in(&other).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_are_other_threads_they_wait_for_the_disk() {
    let directory = directory();
    let (disk, _) = open(directory.path()).unwrap();
    let identity = founded(4).identity;
    let keeper = disk.begin(identity, SITS, false, true).await.unwrap();
    keeper.change(Change::Append(entries(0..1))).await.unwrap();
    drop((keeper, disk));
    assert_eq!(indices(&found_in(&directory).unwrap()), [0]);
}

#[test]
fn a_directory_is_used_by_one_system_at_a_time() {
    let directory = directory();
    let first = open(directory.path()).unwrap();
    let second = error(directory.path(), "shop", "a");
    assert!(matches!(second, StateDirError::InUse { .. }), "{second}");
    drop(first);
    open(directory.path()).unwrap();
}

#[test]
fn a_directory_is_one_nodes_in_one_cluster() {
    let directory = directory();
    drop(open(directory.path()).unwrap());
    let of_node = error(directory.path(), "shop", "b");
    assert!(
        of_node.to_string().contains("node `a`, not to `b`"),
        "{of_node}"
    );
    let of_cluster = error(directory.path(), "bank", "a");
    assert!(
        of_cluster.to_string().contains("cluster `shop`"),
        "{of_cluster}"
    );
}

#[test]
fn another_format_is_refused() {
    let directory = directory();
    let (disk, _) = open(directory.path()).unwrap();
    disk.write(|facts, _| facts.put(FORMAT_OF, &99_u32))
        .unwrap();
    drop(disk);
    let error = error(directory.path(), "shop", "a");
    assert!(matches!(error, StateDirError::Format { format: 99, .. }));
}

#[tokio::test]
async fn what_is_damaged_is_refused() {
    let whole = directory();
    let (disk, keeper) = taught(&whole).await;
    keeper.change(Change::Append(entries(0..9))).await.unwrap();
    drop((keeper, disk));
    let bytes = std::fs::read(whole.path().join(FILE)).unwrap();
    let refused = |bytes: &[u8]| {
        let directory = directory();
        std::fs::write(directory.path().join(FILE), bytes).unwrap();
        let error = error(directory.path(), "shop", "a");
        let corrupted = matches!(error, StateDirError::Corrupted { .. });
        assert!(corrupted, "{error:?}");
    };
    refused(b"this is no database at all, whatever it may be");
    refused(&bytes[..bytes.len() / 2]);
    let mut zeroed = bytes.clone();
    zeroed[..512].fill(0);
    refused(&zeroed);
    // Wherever a page is wrong: it is noticed, or it was of no use.
    let mut noticed = 0;
    for page in (0..bytes.len()).step_by(4096) {
        let mut wrong = bytes.clone();
        wrong[page + 100..page + 140].fill(0xa5);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), &wrong).unwrap();
        match open(directory.path()) {
            Ok((_, kept)) => assert_eq!(indices(&kept.unwrap()).len(), 9),
            Err(StateDirError::Corrupted { .. }) => noticed += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(noticed > 0);
}

#[test]
fn a_directory_that_cannot_be_is_an_error() {
    let directory = directory();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = error(&file.join("below"), "shop", "a");
    assert!(matches!(error, StateDirError::Unusable { .. }), "{error:?}");
}
