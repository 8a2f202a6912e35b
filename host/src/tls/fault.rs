//! Why there is no TLS connection, in words that say what to do.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

use super::when;
use crate::wire::shown;

/// Which side of a connection an error was seen at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that connects.
    Connecting,
    /// The one that others connect to.
    Accepting,
}

/// Why there is no TLS connection. Each sentence goes on after the name of the other side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// No authority that is trusted has signed its certificate.
    #[error(
        "its certificate is of no authority that is trusted here: give the file of the cluster's CA with --ca FILE or POMELO_CA \
         (`ca` in [tls] of pomelo.toml for monitors)"
    )]
    UnknownAuthority,
    /// Its certificate is over.
    #[error("its certificate has expired{}: `pomelo cert renew` makes a new one", on(*.0))]
    Expired(Option<i64>),
    /// Its certificate has not begun.
    #[error("its certificate is not valid yet{}: is this machine's clock right?", on(*.0))]
    NotYetValid(Option<i64>),
    /// Its certificate is for other hosts.
    #[error(
        "its certificate is not for `{expected}`, but for {presented}: connect by one of these names, or put the name into master.json \
         or `allowed_hosts` and run `pomelo cert renew`"
    )]
    WrongName {
        /// The name that was connected to.
        expected: String,
        /// The names in the certificate.
        presented: String,
    },
    /// Its certificate is none for this purpose.
    #[error("its certificate cannot be used for this: {0}")]
    Unfit(String),
    /// The other side does not speak TLS, or closed the connection instead.
    #[error(
        "it does not speak TLS, or takes no more connections: give its address without https:// and leave out --tls, --ca and POMELO_CA \
         if it speaks clear text"
    )]
    NotTls,
    /// The name that was connected to can stand in no certificate.
    #[error("`{0}` can stand in no certificate: give a host name or an address")]
    NoName(String),
    /// It does not take the certificate of this side.
    #[error("it does not accept the certificate of this side: {0}")]
    OwnRefused(&'static str),
    /// Something else.
    #[error("TLS failed: {0}")]
    Other(String),
}

fn on(time: Option<i64>) -> String {
    time.map_or_else(String::new, |time| format!(" (on {})", when(time)))
}

impl TlsFault {
    /// What an error of a handshake means.
    pub fn of(error: &io::Error, side: Side) -> TlsFault {
        match of_rustls(error) {
            Some(error) => TlsFault::of_tls(error, side),
            // An end in place of an answer, as from a port that has closed the connection because it does not know TLS.
            None if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
            {
                TlsFault::NotTls
            }
            None => TlsFault::Other(error.to_string()),
        }
    }

    /// What an error means that comes after the handshake of this side. The other side looks at this side's certificate only then. Absent if it is none of
    /// TLS.
    pub fn of_later(error: &io::Error) -> Option<TlsFault> {
        of_rustls(error).map(|error| TlsFault::of_tls(error, Side::Connecting))
    }

    fn of_tls(error: &Error, side: Side) -> TlsFault {
        match error {
            Error::InvalidCertificate(error) => TlsFault::of_certificate(error),
            Error::InvalidMessage(_) => TlsFault::NotTls,
            Error::AlertReceived(alert) => match (side, alert) {
                (_, AlertDescription::CertificateExpired) => TlsFault::OwnRefused(
                    "it has expired; `pomelo cert renew` makes a new one where the cluster's CA is",
                ),
                (_, AlertDescription::UnknownCA) => TlsFault::OwnRefused(
                    "it is of an authority that is not trusted there (at a master: `client_ca` in [tls] of pomelo.toml; \
                     at a client: --ca FILE or POMELO_CA)",
                ),
                (_, AlertDescription::BadCertificate) => {
                    TlsFault::OwnRefused("it is not for the name that was connected to, or cannot be used for this")
                }
                (
                    _,
                    AlertDescription::UnsupportedCertificate
                    | AlertDescription::CertificateUnknown
                    | AlertDescription::CertificateRevoked
                    | AlertDescription::AccessDenied
                    | AlertDescription::DecryptError,
                ) => TlsFault::OwnRefused("it cannot be used for this"),
                (_, AlertDescription::CertificateRequired) => TlsFault::OwnRefused("there is none, and one is needed"),
                (_, alert) => TlsFault::Other(format!("the other side ended it with the alert {alert:?}")),
            },
            error => TlsFault::Other(error.to_string()),
        }
    }

    fn of_certificate(error: &CertificateError) -> TlsFault {
        let seconds = |time: &rustls::pki_types::UnixTime| i64::try_from(time.as_secs()).ok();
        match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFault::UnknownAuthority,
            CertificateError::Expired => TlsFault::Expired(None),
            CertificateError::ExpiredContext { not_after, .. } => TlsFault::Expired(seconds(not_after)),
            CertificateError::NotValidYet => TlsFault::NotYetValid(None),
            CertificateError::NotValidYetContext { not_before, .. } => TlsFault::NotYetValid(seconds(not_before)),
            CertificateError::NotValidForNameContext { expected, presented } => {
                let presented: Vec<String> = presented.iter().take(8).map(|name| shown(&bare(name))).collect();
                let presented = if presented.is_empty() { "no host".to_owned() } else { presented.join(", ") };
                TlsFault::WrongName { expected: shown(&expected.to_str()), presented }
            }
            error => TlsFault::Unfit(error.to_string()),
        }
    }

    /// A word for counters.
    pub fn reason(&self) -> &'static str {
        match self {
            TlsFault::UnknownAuthority => "unknown-authority",
            TlsFault::Expired(_) | TlsFault::NotYetValid(_) => "expired",
            TlsFault::WrongName { .. } | TlsFault::NoName(_) => "name",
            TlsFault::Unfit(_) => "unfit",
            TlsFault::NotTls => "not-tls",
            TlsFault::OwnRefused(_) => "own-refused",
            TlsFault::Other(_) => "other",
        }
    }
}

/// The name within what rustls shows of a subject's name: `DnsName("localhost")`, `IpAddress(127.0.0.1)`.
fn bare(name: &str) -> String {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"').to_owned()
}

/// Why a peer's handshake failed, as the side that others connect to says it in its log: a word for counters, and a sentence about the peer.
pub fn refused_handshake(error: &io::Error) -> (&'static str, String) {
    let fault = TlsFault::of(error, Side::Accepting);
    let why = match &fault {
        TlsFault::UnknownAuthority => {
            "its certificate is of an authority that is not trusted here (`client_ca` in [tls] of pomelo.toml)"
                .to_owned()
        }
        TlsFault::NotTls => "it ended the handshake, or spoke something else than TLS".to_owned(),
        TlsFault::OwnRefused(why) => format!("it does not accept this host's certificate: {why}"),
        fault => fault.to_string(),
    };
    (fault.reason(), why)
}

fn of_rustls(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}
