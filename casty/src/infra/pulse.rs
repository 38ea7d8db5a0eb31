//! How long tasks wait for a worker of tokio, and how late timers are: what a node suffers from
//! whose handlers block their threads, or whose machine has too little to give.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use crate::infra::{histogram::Histogram, timer_thread::TimerThread};

/// How often it is tried.
const PERIOD: Duration = Duration::from_millis(250);

/// The delays of one system.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Of tasks, from when they could run until they did.
    pub(crate) tasks: Histogram,
    /// Of timers of the timer thread.
    pub(crate) timers: Histogram,
}

impl Pulse {
    /// Measures from here on, until the timer thread ends. On a runtime of one thread nothing is
    /// measured: its clock may be paused, and a pending timer would let it go on.
    pub(crate) fn start(upkeep: &TimerThread, main: &Handle) -> Arc<Self> {
        let pulse = Arc::<Self>::default();
        if upkeep.is_own_thread() {
            upkeep.spawn(beat(pulse.clone(), main.clone()));
        }
        pulse
    }
}

async fn beat(pulse: Arc<Pulse>, main: Handle) {
    let mut due = Instant::now();
    loop {
        // From now: after a pause of the whole process, a timer is late once.
        due = (due + PERIOD).max(Instant::now());
        sleep_until(due).await;
        pulse.timers.add(due.elapsed());
        let since = Instant::now();
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends at once, and its end is awaited"
        )]
        let task = main.spawn(async move { since.elapsed() });
        match task.await {
            Ok(waited) => pulse.tasks.add(waited),
            // The runtime of the handlers has ended.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_waits_for_as_long_as_all_workers_are_busy() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let upkeep = {
            let _in = runtime.enter();
            TimerThread::start(runtime.handle())
        };
        let pulse = Pulse::start(&upkeep, runtime.handle());
        let is_late = || {
            let long = Duration::from_millis(250);
            let all = pulse.tasks.read();
            let counts = all
                .ranges()
                .filter(|(end, _)| end.is_none_or(|it| it > long));
            counts.map(|it| it.1).sum::<u64>() > 0
        };
        for _ in 0..60 {
            if is_late() {
                break;
            }
            // A handler that blocks, for longer than from one try to the next and back.
            let (_kept, never) = std::sync::mpsc::channel::<()>();
            let blocks = async move { never.recv_timeout(PERIOD * 4) };
            let blocking = runtime.spawn(blocks);
            runtime.block_on(blocking).unwrap().unwrap_err();
        }
        assert!(is_late(), "{pulse:?}");
        assert!(pulse.timers.read().count() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_of_one_thread_is_left_alone() {
        let main = Handle::current();
        let upkeep = TimerThread::start(&main);
        let pulse = Pulse::start(&upkeep, &main);
        // The clock is paused: it goes on by itself to the end of this, and no timer is before it.
        tokio::time::sleep(PERIOD * 8).await;
        assert_eq!(pulse.timers.read().count() + pulse.tasks.read().count(), 0);
    }
}
