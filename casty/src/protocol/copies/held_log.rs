//! What a store holds of one shard: its promise, and which records.

use super::{CopiedRecord, CopyWrite, EpochRuns, LogPoint, WriteMark};
use crate::{id::Epoch, infra::mutants};

/// The shard's log in this store, and what of the writes is synced.
#[derive(Debug)]
pub(crate) struct HeldLog {
    promised: Epoch,
    runs: EpochRuns,
    written: WriteMark,
    synced: WriteMark,
}

impl HeldLog {
    /// What the store has after a start of the process. It must be synced first: what an earlier
    /// process wrote can be read although no sync covers it, and is confirmed as it is (C6).
    pub(crate) fn recovered(promised: Epoch, runs: EpochRuns) -> Self {
        Self {
            promised,
            runs,
            written: WriteMark::default(),
            synced: WriteMark::default(),
        }
    }

    /// Lower epochs are refused.
    pub(crate) fn promised(&self) -> Epoch {
        self.promised
    }

    pub(crate) fn runs(&self) -> &EpochRuns {
        &self.runs
    }

    pub(crate) fn head(&self) -> u64 {
        self.runs.head()
    }

    /// The last write. A sync of it covers all that the log is now.
    pub(crate) fn written(&self) -> WriteMark {
        self.written
    }

    pub(crate) fn synced(&self) -> WriteMark {
        self.synced
    }

    pub(crate) fn handle_synced(&mut self, mark: WriteMark) {
        self.synced = self.synced.max(mark.min(self.written));
    }

    pub(crate) fn trim(&mut self, upto: u64) {
        self.runs.trim(upto);
    }

    /// Promises an epoch, cuts, and appends. `None` if nothing of that changes anything.
    pub(crate) fn write(
        &mut self,
        promise: Epoch,
        cut: Option<u64>,
        records: Vec<CopiedRecord>,
    ) -> Option<CopyWrite> {
        let promise = self.promise(promise);
        let cut = cut.filter(|keep| *keep < self.head());
        if let Some(keep) = cut {
            self.runs.cut(keep);
        }
        let after = self.head();
        for record in &records {
            self.runs.push(record.epoch);
        }
        if promise.is_none() && cut.is_none() && records.is_empty() {
            return None;
        }
        Some(CopyWrite {
            mark: self.mark(),
            clear: false,
            promise,
            install: None,
            cut,
            after,
            records,
        })
    }

    /// All that is held is of an earlier life.
    pub(crate) fn clear(&mut self, promise: Epoch) -> CopyWrite {
        let promise = self.promise(promise);
        self.runs = EpochRuns::default();
        CopyWrite {
            mark: self.mark(),
            clear: true,
            promise,
            install: None,
            cut: None,
            after: 0,
            records: Vec::new(),
        }
    }

    /// A snapshot takes the place of the log.
    pub(crate) fn install(&mut self, promise: Epoch, last: LogPoint) -> CopyWrite {
        let promise = self.promise(promise);
        self.runs = EpochRuns::after(last);
        CopyWrite {
            mark: self.mark(),
            clear: false,
            promise,
            install: Some(last),
            cut: None,
            after: last.position,
            records: Vec::new(),
        }
    }

    fn mark(&mut self) -> WriteMark {
        self.written = WriteMark(self.written.0 + 1);
        self.written
    }

    fn promise(&mut self, epoch: Epoch) -> Option<Epoch> {
        if epoch <= self.promised {
            return None;
        }
        self.promised = epoch;
        let is_kept = !mutants::on("a_promise_is_not_kept");
        is_kept.then_some(epoch)
    }
}
