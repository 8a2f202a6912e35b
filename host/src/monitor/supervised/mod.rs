//! The server beside a monitor: a program that the monitor runs, or this very process.
//!
//! [`Supervised`] and [`OwnProcess`] are what the modules' interface `process` acts on, and know the application beside it. They know neither the
//! master nor any module. Registering a server when its program runs, and deregistering it when it has ended, is for the monitor's link,
//! which follows [`Supervised::status`].

mod beside;
mod contact;
mod logs;
mod own;
mod program;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::failure::{Failure, code};

pub use beside::{Beside, NoPort, Wanted};
pub use own::OwnProcess;
pub use program::{Program, StartError, Supervised, leftovers};

/// The application's log directory where the configuration names none; it begins where the program runs.
const LOGS: &str = "logs";

/// What the machine is and does.
async fn machine() -> Result<Value, Failure> {
    let read = tokio::task::spawn_blocking(crate::supervise::system).await;
    read.map_err(|_| Failure::new(code::FAILED, "what the machine does could not be read"))
}
