use std::sync::Arc;

use crate::persistence::{
    Journal, Memory,
    suite::{
        Suite,
        broken::{Broken, Fault},
    },
};

fn suite_of(journal: impl Journal + Clone) -> Suite {
    Suite::new(move || {
        let connection: Arc<dyn Journal> = Arc::new(journal.clone());
        async { connection }
    })
}

#[tokio::test]
async fn memory_passes_the_suite() {
    suite_of(Memory::new()).check().await;
}

#[tokio::test]
async fn what_breaks_stores_is_no_fault_of_its_own() {
    suite_of(Broken::new(Fault::None)).check().await;
}

/// Each fault, and a test that has to find it.
const FAULTS: &[(Fault, &str)] = &[
    (Fault::TakesAnyNumberOfShards, "types"),
    (Fault::SaysOtherOwnerOfTheFence, "claims"),
    (Fault::ClaimsForAnyOwner, "claims"),
    (Fault::ClaimsUnderAnyEpoch, "claims"),
    (Fault::ReturnsNoHead, "claims"),
    (Fault::ComparesEpochsSigned, "epochs"),
    (Fault::ForgetsTheLatestEpoch, "epochs"),
    (Fault::AppendsUnderAnyEpoch, "fencing"),
    (Fault::AppendsUnderAnyEpoch, "takeovers"),
    (Fault::AppendsAtAnyPosition, "dense positions"),
    (Fault::AppendsWithoutClaim, "fencing"),
    (Fault::ChecksTheFirstPositionAlone, "dense positions"),
    (Fault::StopsAtARefusedPart, "batches"),
    (Fault::AnswersInOtherOrder, "batches"),
    (Fault::ChecksBeforeItWrites, "takeovers"),
    (Fault::WritesWhatWasGivenUp, "dropped"),
    (Fault::LosesEmptyBodies, "bodies"),
    (Fault::CutsIds, "ids"),
    (Fault::IgnoresCase, "ids"),
    (Fault::ReadsOneTooEarly, "reads"),
    (Fault::IgnoresRecordsOfAPage, "pages"),
    (Fault::IgnoresBytesOfAPage, "pages"),
    (Fault::SkipsLargeRecords, "pages"),
    (Fault::SnapshotsGoBack, "snapshots"),
    (Fault::SavesUnderAnyEpoch, "snapshots"),
    (Fault::SavesWhatIsForgotten, "forget"),
    (Fault::ForgetsUnderAnyEpoch, "forget"),
    (Fault::ForgetsRecords, "forget"),
    (Fault::ForgetsLaterSnapshots, "forget"),
    (Fault::ForgetsSnapshotsAlways, "forget"),
    (Fault::ListsWhatIsForgotten, "entities"),
    (Fault::ListsBackwards, "entities"),
    (Fault::ListsOneAgain, "entities"),
    (Fault::MixesShards, "claims"),
];

#[tokio::test(start_paused = true)]
async fn each_fault_of_a_store_is_found() {
    let mut missed = Vec::new();
    for (fault, test) in FAULTS {
        let violations = suite_of(Broken::new(*fault)).violations().await;
        if !violations.iter().any(|violation| violation.test == *test) {
            missed.push(format!("{fault:?} by {test}, but: {violations:?}"));
        }
    }
    assert!(missed.is_empty(), "not found: {}", missed.join("\n"));
}
