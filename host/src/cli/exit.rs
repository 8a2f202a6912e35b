//! The code with which the program ends, and the words for the error. `pomelo --help` lists the codes.

use super::print::{self, Unprinted};
use crate::client::ClientError;
use crate::config::{ConfigErrors, EditError};
use crate::monitor::{GIVEN_UP, RUNS_ALREADY};

/// The code for standard output that cannot be written to. What was asked for may have been done.
pub(super) const UNPRINTED: u8 = 7;
/// Ctrl-C has ended the command; or a second signal a host, at once.
pub(super) const INTERRUPTED: u8 = 130;

/// An error that decides the code with which the program ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Exit {
    pub code: u8,
    pub message: String,
}

impl Exit {
    /// The command failed, or the cluster refused it: code 1.
    pub fn failed(message: impl Into<String>) -> anyhow::Error {
        Exit { code: 1, message: message.into() }.into()
    }

    /// A monitor's program stays down because its restart policy says so. Whoever started the monitor is not to start it again: code [`GIVEN_UP`].
    pub fn given_up(message: impl Into<String>) -> anyhow::Error {
        Exit { code: GIVEN_UP, message: message.into() }.into()
    }

    /// Another monitor of the server runs, so that nothing was started: code [`RUNS_ALREADY`].
    pub fn runs_already(message: impl Into<String>) -> anyhow::Error {
        Exit { code: RUNS_ALREADY, message: message.into() }.into()
    }

    /// The arguments or the configuration are wrong: code 2.
    pub fn usage(message: impl Into<String>) -> anyhow::Error {
        Exit { code: 2, message: message.into() }.into()
    }
}

/// Says to standard error why a command failed. `before` stands before it.
pub(super) fn tell(before: &str, error: &anyhow::Error) {
    // The words of a client's error contain its cause already; those of others are followed by their causes.
    let said = match error.downcast_ref::<ClientError>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    };
    // The faults of the operator's own files and arguments have lines of their own. Others may repeat what a peer has said.
    if code(error) == 2 { print::notes(format!("{before}{said}")) } else { print::note(format!("{before}{said}")) }
}

/// The code that the program ends with.
pub(super) fn code(error: &anyhow::Error) -> u8 {
    if let Some(exit) = error.downcast_ref::<Exit>() {
        return exit.code;
    }
    if error.is::<Unprinted>() {
        return UNPRINTED;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Connect { .. } | ClientError::Disconnected { .. }) => 3,
        Some(ClientError::Refused { .. }) => 4,
        Some(ClientError::Timeout { .. }) => 5,
        Some(ClientError::Failed(_) | ClientError::Body(_)) => 1,
        None if error.is::<ConfigErrors>() || error.is::<EditError>() => 2,
        None => 1,
    }
}
