//! What was measured in each phase, and whether it is within bounds.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use casty::{id::MemberId, member::MemberStatus};
use tokio::time::{Instant, sleep};

use crate::{
    cases::{Case, DESCRIPTORS},
    cluster::{Cluster, NAMES, Usage},
    load::{Load, Seen},
};

/// Memory that a node may take beyond the quiet cluster's.
const GROWTH_MAX: u64 = 64 * MIB;
const MIB: u64 = 1024 * 1024;
/// Bytes that a node may log in a minute.
const LOG_MAX: u64 = MIB;
/// How much longer the asks of the load may take than in quiet.
const SLOWER_MAX: u32 = 3;
/// Processor time that a node without descriptors may take beyond the quiet cluster's, in percent
/// of the time that passes: a node that spins takes a hundred.
const SPIN_MAX: u64 = 50;
/// How often the processes are looked at.
const LOOK: Duration = Duration::from_millis(100);

type Members = BTreeMap<MemberId, MemberStatus>;

/// One phase, while it runs.
pub(crate) struct Phase {
    begun: Instant,
    usage: Vec<Usage>,
    peaks: Vec<u64>,
    /// Each view of the members that was not that of before.
    views: Vec<Members>,
    did: String,
}

/// What a phase has shown.
pub(crate) struct Measured {
    lasted: Duration,
    seen: Seen,
    peaks: Vec<u64>,
    logged: Vec<u64>,
    ticks: Vec<u64>,
    views: Vec<Members>,
    leader: Option<MemberId>,
    did: String,
}

impl Phase {
    pub(crate) fn begin(cluster: &Cluster, load: &Load) -> Self {
        drop(load.take());
        Self {
            begun: Instant::now(),
            usage: cluster.usage(),
            peaks: vec![0; NAMES.len()],
            views: vec![cluster.members()],
            did: String::new(),
        }
    }

    /// Looks at the cluster for so long, and until `work` is done.
    pub(crate) async fn watch(
        &mut self,
        cluster: &Cluster,
        limit: Duration,
        work: impl Future<Output = String>,
    ) {
        let looking = async {
            loop {
                for (peak, usage) in self.peaks.iter_mut().zip(cluster.usage()) {
                    *peak = usage.resident.max(*peak);
                }
                let view = cluster.members();
                if self.views.last() != Some(&view) {
                    self.views.push(view);
                }
                sleep(LOOK).await;
            }
        };
        let working = async { tokio::join!(work, sleep(limit)).0 };
        self.did = tokio::select! {
            did = working => did,
            () = looking => String::new(),
        };
    }

    pub(crate) async fn end(self, cluster: &Cluster, load: &Load) -> Measured {
        let usage = cluster.usage();
        let lasted = self.begun.elapsed();
        let seen = load.take();
        let grown = |of: fn(&Usage) -> u64| -> Vec<u64> {
            let both = self.usage.iter().zip(&usage);
            both.map(|(before, after)| of(after).saturating_sub(of(before)))
                .collect()
        };
        Measured {
            lasted,
            seen,
            logged: grown(|usage| usage.log),
            ticks: grown(|usage| usage.ticks),
            peaks: self.peaks,
            views: self.views,
            leader: leader(cluster).await,
            did: self.did,
        }
    }
}

/// The leader, once the nodes say who it is.
async fn leader(cluster: &Cluster) -> Option<MemberId> {
    for _ in 0..20 {
        let leader = cluster.leader().await;
        if leader.is_some() {
            return leader;
        }
        sleep(LOOK).await;
    }
    None
}

impl Measured {
    /// Processor time of a node, in percent of the time that passed.
    fn processor(&self, n: usize) -> u64 {
        let hundredths = u64::try_from(self.lasted.as_millis() / 10)
            .unwrap_or(1)
            .max(1);
        self.ticks[n] * 100 / hundredths
    }

    fn logged_a_minute(&self, n: usize) -> u64 {
        let millis = u64::try_from(self.lasted.as_millis()).unwrap_or(1).max(1);
        self.logged[n] * 60_000 / millis
    }

    fn errors(&self) -> u64 {
        self.seen.errors.values().sum()
    }
}

/// Compares cases with the quiet phase.
pub(crate) struct Judge {
    way: &'static str,
    quiet: Measured,
    quiet_99: Duration,
    /// How long answers take is not judged.
    lenient: bool,
    crashed: bool,
    pub(crate) wrong: Vec<String>,
}

impl Judge {
    pub(crate) fn new(way: &'static str, mut quiet: Measured, lenient: bool) -> Self {
        let quiet_99 = quiet.seen.percentile(99);
        let mut wrong = Vec::new();
        if quiet.errors() > 0 {
            wrong.push(format!("{way}: errors in quiet: {:?}", quiet.seen.errors));
        }
        Self {
            way,
            quiet,
            quiet_99,
            lenient,
            crashed: false,
            wrong,
        }
    }

    /// Nothing is learned from a cluster that lost a process.
    pub(crate) fn is_over(&self) -> bool {
        self.crashed
    }

    pub(crate) fn add(&mut self, case: &Case, what: String) {
        let line = format!("{}, {}: {what} ({})", self.way, case.name, case.because);
        println!("    {what}");
        self.wrong.push(line);
    }

    pub(crate) fn quiet_line(&mut self) -> String {
        let memory: Vec<_> = self.quiet.peaks.iter().map(|peak| peak / MIB).collect();
        format!(
            "{:16} {:6} asks, median {:.2?}, 99 of 100 within {:.2?}; {memory:?} MiB; processor {:?} %",
            "quiet",
            self.quiet.seen.asks(),
            self.quiet.seen.percentile(50),
            self.quiet_99,
            [0, 1, 2].map(|n| self.quiet.processor(n)),
        )
    }

    pub(crate) fn hear(&mut self, case: &Case, mut measured: Measured, crashes: Vec<String>) {
        let (median, most) = (measured.seen.percentile(50), measured.seen.percentile(99));
        let all = [0, 1, 2];
        let growths = all.map(|n| measured.peaks[n].saturating_sub(self.quiet.peaks[n]));
        let mut line = format!(
            "{:16} {:6} asks, median {median:.2?}, 99 of 100 within {most:.2?}; {} errors; ",
            case.name,
            measured.seen.asks(),
            measured.errors(),
        );
        let _ = write!(
            line,
            "+{:?} MiB; log {:?} KiB a minute; processor {:?} %; {}",
            growths.map(|bytes| bytes / MIB),
            all.map(|n| measured.logged_a_minute(n) / 1024),
            all.map(|n| measured.processor(n)),
            measured.did,
        );
        println!("{line}");
        let mut wrong = crashes;
        self.crashed = !wrong.is_empty();
        wrong.extend(self.membership(&measured));
        if measured.errors() > 0 {
            wrong.push(format!("errors of the load: {:?}", measured.seen.errors));
        }
        if measured.seen.asks() == 0 {
            wrong.push("nothing was answered".to_owned());
        }
        for (n, name) in NAMES.iter().enumerate() {
            let (grown, logged) = (growths[n], measured.logged_a_minute(n));
            if grown > GROWTH_MAX {
                wrong.push(format!("{name} grew by {} MiB", grown / MIB));
                // Told once: the cases that follow begin from here.
                self.quiet.peaks[n] = measured.peaks[n];
            }
            if logged > LOG_MAX {
                wrong.push(format!("{name} logs {} KiB a minute", logged / 1024));
            }
        }
        if most > self.quiet_99 * SLOWER_MAX && !self.lenient {
            let quiet = self.quiet_99;
            wrong.push(format!(
                "99 of 100 asks took up to {most:.2?}, {quiet:.2?} in quiet"
            ));
        }
        let (spent, before) = (measured.processor(0), self.quiet.processor(0));
        if case.name == DESCRIPTORS && spent > before + SPIN_MAX {
            wrong.push(format!(
                "{} spins: {spent} %, {before} % in quiet",
                NAMES[0]
            ));
        }
        if !measured.did.contains("dialed") {
            wrong.push(format!("no attack: {}", measured.did));
        }
        for what in wrong {
            self.add(case, what);
        }
    }

    fn membership(&mut self, measured: &Measured) -> Vec<String> {
        let mut wrong = Vec::new();
        for view in &measured.views {
            if Some(view) != self.quiet.views.last() {
                let names: Vec<_> = view.iter().map(|(id, is)| format!("{id} {is:?}")).collect();
                wrong.push(format!("the members became {}", names.join(", ")));
                // Told once, as well.
                self.quiet.views.push(view.clone());
            }
        }
        if measured.leader != self.quiet.leader {
            let name = |id: &Option<MemberId>| id.as_ref().map(|id| id.node.to_string());
            wrong.push(format!(
                "{:?} leads, {:?} in quiet",
                name(&measured.leader),
                name(&self.quiet.leader)
            ));
            self.quiet.leader.clone_from(&measured.leader);
        }
        wrong
    }
}
