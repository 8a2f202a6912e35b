//! The server beside a monitor: a program that the monitor runs, or this very process.
//!
//! [`Supervised`] and [`OwnProcess`] are what the modules' interface `process` acts on, and know the application beside it. They know neither the
//! master nor any module. The monitor's link follows what `phases` makes of [`Supervised::status`], of the drain and of the health: it registers
//! the server when its program runs, and deregisters it when the program drains, is not well or has ended.

mod beside;
mod contact;
mod drain;
mod health;
mod logs;
mod own;
mod phases;
mod program;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::failure::{Failure, code};

pub use beside::{Beside, NoPort, Wanted};
pub use health::{Problem, Verdict};
pub use own::OwnProcess;
pub use program::{Program, StartError, Supervised, leftovers};

/// The application's log directory if the configuration names none, relative to the directory in which the program runs.
const LOGS: &str = "logs";

/// What the machine is and does.
async fn machine() -> Result<Value, Failure> {
    let read = tokio::task::spawn_blocking(crate::supervise::system).await;
    read.map_err(|_| Failure::new(code::FAILED, "what the machine does could not be read"))
}
