//! A store on disks that crash, fail and rot, compared with a model.

#![expect(clippy::disallowed_methods, reason = "tests: tasks of their own")]

mod copies;
mod crashes;
mod damage;
mod faults;
mod homes;
mod kills;
mod model;
mod reads;
mod room;
mod watched;
mod workload;
