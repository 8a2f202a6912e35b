//! Who connects, where to, and how long each step may take.

use std::fmt;
use std::time::Duration;

use md5::{Digest, Md5};
use tokio::sync::mpsc;

use super::Push;
use crate::transport::socket_io::client;
use crate::util::Secret;

/// How to reach a master and as whom. [`Options::default`] is what pomelo's tools have: `admin`/`admin` at `127.0.0.1:3005`.
#[derive(Clone)]
pub struct Options {
    /// Name or address of the master's host. `127.0.0.1`.
    pub host: String,
    /// The master's port. 3005.
    pub port: u16,
    /// User name. Empty: the one that the client certificate in [`Options::connection`] is for. `admin`.
    pub username: String,
    /// Password in clear; what is sent is its MD5, as pomelo's tools do. Empty: none is sent, because a client certificate needs
    /// none. `admin`.
    pub password: Secret,
    /// The client's name, unique in the cluster. `pomelo-` with the process id and random digits.
    pub id: String,
    /// How long registration may take. 10 s: the master may slow down attempts.
    pub register_time: Duration,
    /// How long an answer may take. 15 s.
    pub request_time: Duration,
    /// Requests that may be under way at a time. 1024.
    pub requests: usize,
    /// Where to put what the master sends unasked; what does not fit is dropped and counted. None: it is dropped.
    pub pushes: Option<mpsc::Sender<Push>>,
    /// Limits of the connection itself.
    pub connection: client::Options,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            host: "127.0.0.1".into(),
            port: 3005,
            username: "admin".into(),
            password: "admin".into(),
            id: format!("pomelo-{}-{:08x}", std::process::id(), rand::random::<u32>()),
            register_time: Duration::from_secs(10),
            request_time: Duration::from_secs(15),
            requests: 1024,
            pushes: None,
            connection: client::Options::default(),
        }
    }
}

impl Options {
    /// `host:port`; an IPv6 address gets its brackets.
    pub(super) fn address(&self) -> String {
        let host = &self.host;
        if host.contains(':') && !host.starts_with('[') {
            format!("[{host}]:{}", self.port)
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// The password in the form in which it is sent.
    pub fn password_md5(&self) -> Secret {
        hex::encode(Md5::digest(self.password.expose().as_bytes())).into()
    }
}

/// Never shows the password.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("address", &self.address())
            .field("username", &self.username)
            .field("id", &self.id)
            .field("register_time", &self.register_time)
            .field("request_time", &self.request_time)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_sent_as_md5_and_never_shown() {
        let options = Options { password: "hunter2".into(), ..Options::default() };
        assert_eq!(options.password_md5().expose(), "2ab96390c7dbe3439de74d0c9b0b1767");
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn ids_are_unique_and_addresses_complete() {
        assert_ne!(Options::default().id, Options::default().id);
        assert_eq!(Options { host: "::1".into(), ..Options::default() }.address(), "[::1]:3005");
    }
}
