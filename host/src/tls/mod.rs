//! TLS: the certificates of this host and of its peers, and for whom a certificate is.
//!
//! | file | what is there |
//! |---|---|
//! | `holder` | for whom a client certificate is: a server, or a user |
//! | `files` | certificates and keys in PEM files, and what is wrong with one |
//! | `server` | the master's side: its certificate, and the authority of its peers |
//! | `client` | the side that connects: which authority it trusts, and which certificate it shows |
//! | `clear` | from where clear text is let in |
//! | `fault` | why there is no TLS connection, in words |
//! | `issue` | an authority of the cluster's own, and the certificates that it makes |
//!
//! Files are read again when they have changed. A connection keeps what it began with. This part knows no connection's meaning: what a peer may do, who
//! shows a certificate, the master decides. It knows neither the configuration nor when somebody looks at the files.

mod clear;
mod client;
mod fault;
mod files;
mod holder;
mod issue;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use clear::{ClearText, Network, TLS_REQUIRED};
pub use client::{ClientFiles, ClientTls, VARIABLES};
pub use fault::{Side, TlsFault, refused_handshake};
pub use files::{BadFile, Described, Look, describe_file, is_for_host};
pub use holder::{Certificate, Holder};
pub use issue::{Authority, IssueError, Issued, Lifetime, SERVER_DAYS};
pub use server::{ServerFiles, ServerTls};

/// The cryptography that all connections use.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A day, seconds.
pub const DAY: i64 = 86_400;

/// From this many days before a certificate's end on, somebody is told that it ends.
pub const WARN_DAYS: i64 = 30;

/// Seconds since 1970.
pub fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// A time of a certificate in words: `2026-01-31 12:00 UTC`.
pub fn when(time: i64) -> String {
    chrono::DateTime::from_timestamp(time, 0)
        .map_or_else(|| "a time without a name".to_owned(), |time| time.format("%Y-%m-%d %H:%M UTC").to_string())
}
