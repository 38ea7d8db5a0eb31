//! A store on disks that crash, fail and rot, compared with a model.

mod crashes;
mod damage;
mod faults;
mod kills;
mod model;
mod room;
mod workload;
