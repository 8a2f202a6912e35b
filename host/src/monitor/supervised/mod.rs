//! What a monitor stands beside: a program that it runs, or nothing but itself.
//!
//! [`Supervised`] and [`OwnProcess`] are what the modules' interfaces `application` and `process` act on. They hold the application's view
//! of the cluster and the process; they know neither the master nor any module. Registering a server when its program runs, and
//! deregistering it when it has ended, is for the monitor's link, which follows [`Supervised::status`].

mod own;
mod program;
mod view;

#[cfg(test)]
mod tests;

pub use own::OwnProcess;
pub use program::{Program, StartError, Supervised};
