//! The share of the machine that other programs took during a run: the run says little then, above
//! all about sides that spin.

use std::fs;

/// Ticks of all CPUs since the machine was started, as Linux counts them. Elsewhere nothing is
/// known.
pub(crate) struct Ticks {
    all: u64,
    busy: u64,
    /// Ticks of this process, and of its children that have ended.
    own: u64,
}

impl Ticks {
    pub(crate) fn now() -> Option<Self> {
        let machine = fs::read_to_string("/proc/stat").ok()?;
        let process = fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&machine, &process)
    }

    fn parse(machine: &str, process: &str) -> Option<Self> {
        let ticks = |text: &str| -> Option<Vec<u64>> {
            text.split_whitespace().map(|n| n.parse().ok()).collect()
        };
        let machine = ticks(machine.lines().next()?.strip_prefix("cpu ")?)?;
        let [
            user,
            nice,
            system,
            idle,
            waiting,
            _irq,
            _softirq,
            stolen,
            ..,
        ] = machine[..]
        else {
            return None;
        };
        // Linux assigns the cost of interrupts to no process, so both sides leave it out.
        let busy = user + nice + system + stolen;
        // The second field is a name in brackets, and may hold anything.
        let fields = process.rsplit_once(')')?.1.split_whitespace().skip(11);
        let own: Vec<&str> = fields.take(4).collect();
        Some(Self {
            all: busy + idle + waiting,
            busy,
            own: ticks(&own.join(" "))?.iter().sum(),
        })
    }

    /// The share of all CPU time since then that went to others: 0.5 is one CPU of two.
    pub(crate) fn others_since(&self, before: &Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        let own = self.own.saturating_sub(before.own);
        let others = self.busy.saturating_sub(before.busy).saturating_sub(own);
        #[expect(clippy::cast_precision_loss, reason = "ticks of a run")]
        let share = others as f64 / all as f64;
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_children_used_is_not_others() {
        let process = |children| format!("7 (a (b) c) S 1 2 3 4 5 6 7 8 9 10 1 2 {children} 0 20");
        let before = Ticks::parse("cpu  10 0 0 90 0 5 5 0 0 0\ncpu0 1", &process(100)).unwrap();
        let after = Ticks::parse("cpu  70 0 0 130 0 9 9 0 0 0\ncpu0 1", &process(110)).unwrap();
        assert!((after.others_since(&before) - 0.5).abs() < 1e-9);
    }
}
