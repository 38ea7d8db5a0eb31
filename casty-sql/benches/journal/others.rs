//! What this program and other processes use of the machine.

use std::{collections::BTreeMap, fs, time::Duration};

use tokio::time::Instant;

use super::AnyError;

/// Measures how long something takes, and how much of the processors.
pub(crate) struct Clock {
    since: Instant,
    /// The ticks of this program and its descendants.
    own: BTreeMap<u32, f64>,
}

/// How long something took.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    time: Duration,
    /// Of the processors, by this program and its descendants, in ticks.
    ticks: f64,
}

impl Clock {
    pub(crate) fn start() -> Result<Self, AnyError> {
        let own = own()?;
        let since = Instant::now();
        Ok(Self { since, own })
    }

    pub(crate) fn stop(&self) -> Result<Took, AnyError> {
        let time = self.since.elapsed();
        let ticks = ticks(&self.own, &own()?);
        Ok(Took { time, ticks })
    }
}

impl Took {
    /// So many things in this time: a second.
    pub(crate) fn rate(self, count: u64) -> f64 {
        float(count) / self.time.as_secs_f64()
    }

    /// So many things in this time: microseconds of a processor for each.
    pub(crate) fn of_processors(self, count: u64) -> f64 {
        self.ticks * MICROSECONDS / float(count)
    }
}

/// Those of a tick.
const MICROSECONDS: f64 = 10_000.0;

/// How many ticks the processes have used in between.
fn ticks(before: &BTreeMap<u32, f64>, now: &BTreeMap<u32, f64>) -> f64 {
    let of =
        |(process, ticks): (&u32, &f64)| ticks - before.get(process).copied().unwrap_or_default();
    now.iter().map(of).sum()
}

/// Ticks of all processors since the start of the machine, and those of this program and its
/// descendants.
pub(crate) struct Others {
    all: f64,
    busy: f64,
    own: BTreeMap<u32, f64>,
}

impl Others {
    pub(crate) fn now() -> Result<Self, AnyError> {
        let stat = fs::read_to_string("/proc/stat")?;
        let first = stat.lines().next().unwrap_or_default();
        let ticks: Vec<f64> = first
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|word| word.parse().ok())
            .collect();
        let all: f64 = ticks.iter().sum();
        // The fourth and the fifth are idle, and idle while a disk works.
        let idle: f64 = ticks.iter().skip(3).take(2).sum();
        Ok(Self {
            all,
            busy: all - idle,
            own: own()?,
        })
    }

    /// How much of the machine the others have used since then, in percent.
    pub(crate) fn used(&self) -> Result<f64, AnyError> {
        let now = Self::now()?;
        let own = ticks(&self.own, &now.own);
        let others = (now.busy - self.busy - own).max(0.0);
        Ok(100.0 * others / (now.all - self.all).max(1.0))
    }
}

/// The ticks of this process and its descendants, each with those of its children that have ended.
fn own() -> Result<BTreeMap<u32, f64>, AnyError> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // It may have ended.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name of the program, in parentheses, may contain spaces.
        let Some((_, fields)) = stat.rsplit_once(')') else {
            continue;
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<f64>().ok())
        };
        let parent = fields.get(1).and_then(|field| field.parse::<u32>().ok());
        let ticks = (11..15).filter_map(number).sum::<f64>();
        if let Some(parent) = parent {
            parents.insert(process, (parent, ticks));
        }
    }
    let this = std::process::id();
    let is_own = |process: &u32| {
        let mut next = Some(*process);
        while let Some(process) = next {
            if process == this {
                return true;
            }
            next = parents.get(&process).map(|(parent, _)| *parent);
        }
        false
    };
    let own = parents.iter().filter(|(process, _)| is_own(process));
    Ok(own
        .map(|(process, (_, ticks))| (*process, *ticks))
        .collect())
}

pub(crate) fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
