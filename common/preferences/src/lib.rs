#![doc = include_str!("../README.md")]

mod decision;
mod settings;

pub use decision::{Action, Decision, Reason, Verdict, decide};
pub use settings::{
    Channel, Digest, Every, Kind, Mode, Modes, Override, Pause, QuietHours, Settings, Weekday, hour_minute,
};
