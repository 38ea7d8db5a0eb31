//! Timers: `cargo run --example timers`

use casty::{
    prelude::*,
    schedule::{Cancellable, Every},
};

/// A device that shows its pulse, and counts as lost when the pulse stops.
#[derive(Default)]
struct Device {
    pulses: u32,
    /// Fires unless a pulse comes before it.
    alarm: Option<Cancellable>,
}

const PERIOD: Duration = Duration::from_millis(50);

/// The events that a device publishes.
#[derive(Debug)]
enum DeviceEvent {
    Pulse(u32),
    Lost,
}

#[entity(shards = 16)]
impl Device {
    /// Starts the pulse, which beats five times.
    #[message]
    fn switch_on(&mut self, ctx: &mut Context<Self>) {
        // At a fixed rate, the beat does not shift by the time that handling a pulse takes.
        let pulse = ctx.schedule_every(Every::fixed_rate(PERIOD), || DeviceMsg::Pulse {});
        ctx.schedule_once(PERIOD * 5 + PERIOD / 2, DeviceMsg::SwitchOff { pulse })
            .detach();
        self.watch_out(ctx);
    }

    #[message(internal)]
    fn pulse(&mut self, ctx: &mut Context<Self>) {
        self.pulses += 1;
        ctx.emit(DeviceEvent::Pulse(self.pulses));
        self.watch_out(ctx);
    }

    #[message(internal)]
    fn switch_off(&mut self, pulse: Cancellable) {
        println!("  (switched off)");
        pulse.cancel();
    }

    #[message(internal)]
    fn lost(&mut self, ctx: &mut Context<Self>) {
        ctx.emit(DeviceEvent::Lost);
        // The timers end with this activation. The next message starts the entity afresh.
        ctx.passivate();
    }

    /// Sets the alarm again.
    fn watch_out(&mut self, ctx: &mut Context<Self>) {
        let alarm = ctx.schedule_once(PERIOD * 3, DeviceMsg::Lost {});
        if let Some(before) = self.alarm.replace(alarm) {
            before.cancel();
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = ActorSystem::local("app");
    let mut events = system.events();
    system.entity::<Device>("thermometer").switch_on().await?;

    while let Some(event) = events.next().await {
        let Event::Emitted(emitted) = event else {
            continue;
        };
        match emitted.get() {
            Some(DeviceEvent::Pulse(number)) => println!("{}: pulse {number}", emitted.by),
            Some(DeviceEvent::Lost) => {
                println!("{}: no pulse any more", emitted.by);
                break;
            }
            None => {}
        }
    }

    system.shutdown().await?;
    Ok(())
}
