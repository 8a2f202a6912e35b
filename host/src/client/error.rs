//! What can go wrong for a client, in words that say what to do.

use std::io;
use std::time::Duration;

use crate::failure::Failure;
use crate::transport::socket_io::client::ConnectError;

/// Why a client's call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection to a master.
    #[error("{}", connect_text(.addr, .why))]
    Connect {
        /// `host:port`.
        addr: String,
        /// What happened.
        why: ConnectError,
    },
    /// The master did not register this client.
    #[error("the master at {addr} refuses this client: {why}")]
    Refused {
        /// `host:port`.
        addr: String,
        /// What the master says.
        why: String,
    },
    /// There was no answer in time.
    #[error("{what} did not come from {addr} within {after:?}")]
    Timeout {
        /// `host:port`.
        addr: String,
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// The master or a module says that it failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The connection is over.
    #[error("the connection to the master at {addr} is over: {why}")]
    Disconnected {
        /// `host:port`.
        addr: String,
        /// What ended it.
        why: String,
    },
    /// The body has no JSON form.
    #[error("the body cannot be written as JSON: {0}")]
    Body(serde_json::Error),
}

fn connect_text(addr: &str, why: &ConnectError) -> String {
    match why {
        ConnectError::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            format!("no master listens at {addr}: is it running, and is this its port?")
        }
        ConnectError::Unreachable(error) => format!("{addr} cannot be reached: {error}"),
        ConnectError::TimedOut(after) => {
            format!(
                "{addr} gave no answer within {after:?}: is it a master's port, and does a firewall let it through?"
            )
        }
        ConnectError::Tls(fault) => format!("there is no TLS connection to the master at {addr}: {fault}"),
        ConnectError::Clear(_) | ConnectError::Authorities(_) => format!("{addr}: {why}"),
        ConnectError::Status(403 | 426) => format!("{addr}: {why}"),
        ConnectError::NotSocketIo(_) | ConnectError::Status(_) => {
            format!("{addr} does not seem to be a master ({why}): check host and port")
        }
        ConnectError::Closed(_) => {
            format!("{addr} closes connections ({why}): is it a master's port, and has it room for one more?")
        }
        ConnectError::Address(_) => format!("{addr} is no address of a master: {why}"),
        ConnectError::Refused(why) => format!("the master at {addr} refuses the connection: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_does_not_know_its_name_is_no_stranger() {
        let said = connect_text("master.example:3005", &ConnectError::Status(403));
        assert!(said.contains("`allowed_hosts`") && !said.contains("seem to be"), "{said}");
        let said = connect_text("web.example:80", &ConnectError::Status(404));
        assert!(said.contains("does not seem to be a master"), "{said}");
    }

    #[test]
    fn whatever_the_master_refuses_its_address_is_named() {
        let (addr, why) = ("master.example:3005".to_owned(), "because".to_owned());
        let refused = |why| ClientError::Connect { addr: addr.clone(), why };
        let errors = [
            refused(ConnectError::Unreachable(io::ErrorKind::ConnectionRefused.into())),
            refused(ConnectError::Unreachable(io::ErrorKind::HostUnreachable.into())),
            refused(ConnectError::TimedOut(Duration::from_secs(1))),
            refused(ConnectError::Status(403)),
            refused(ConnectError::Status(500)),
            refused(ConnectError::Closed(why.clone())),
            ClientError::Refused { addr: addr.clone(), why: why.clone() },
            ClientError::Timeout { addr: addr.clone(), what: "the answer".into(), after: Duration::from_secs(1) },
            ClientError::Disconnected { addr: addr.clone(), why },
        ];
        for error in errors {
            assert_eq!(error.to_string().matches(&addr).count(), 1, "{error}");
        }
    }
}
