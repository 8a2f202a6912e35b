//! How a command reaches a master over TLS: its arguments, and the scheme of an address.

use std::path::PathBuf;

use clap::Args;

use super::Exit;
use crate::tls::{ClientFiles, ClientTls, Holder};
use crate::util::Secret;

/// What all commands share that connect to a master.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct TlsArgs {
    /// Speak TLS, and trust the authorities of this system; the same as https:// before the host
    #[arg(long, global = true)]
    pub tls: bool,
    /// Speak TLS, and trust the authorities in this PEM file, such as tls/ca.pem of `pomelo init --tls`
    #[arg(long, value_name = "FILE", env = "POMELO_CA", global = true)]
    pub ca: Option<PathBuf>,
    /// Show the certificate in this PEM file, made by `pomelo cert`
    #[arg(long, value_name = "FILE", env = "POMELO_CERT", global = true)]
    pub cert: Option<PathBuf>,
    /// Private key of --cert [default: it is in the same file]
    #[arg(long, value_name = "FILE", env = "POMELO_KEY", global = true)]
    pub key: Option<PathBuf>,
}

/// What an address says of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Nothing.
    Unsaid,
    /// `http://`, `ws://`: none.
    Clear,
    /// `https://`, `wss://`.
    Tls,
}

impl Scheme {
    /// The scheme of an address.
    pub fn of(address: &str) -> Scheme {
        Self::split(address).0
    }

    /// The scheme of an address, and the rest.
    fn split(address: &str) -> (Scheme, &str) {
        const SCHEMES: [(&str, Scheme); 4] =
            [("http://", Scheme::Clear), ("ws://", Scheme::Clear), ("https://", Scheme::Tls), ("wss://", Scheme::Tls)];
        let found = SCHEMES.iter().find_map(|(scheme, means)| Some((*means, address.strip_prefix(scheme)?)));
        found.unwrap_or((Scheme::Unsaid, address))
    }

    /// Reads a host with or without scheme and port: `master`, `https://master:3005`. An IPv6 address has brackets where a port follows.
    pub fn host(text: &str) -> Result<(Scheme, String, Option<u16>), String> {
        let (scheme, rest) = Self::split(text);
        if scheme == Scheme::Unsaid {
            return Ok((scheme, rest.to_owned(), None));
        }
        let authority = rest.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let wrong = || format!("`{port}` is no port in `{text}`: give https://HOST:PORT");
                (host, Some(port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(wrong)?))
            }
            _ => (authority, None),
        };
        if host.is_empty() || host.contains('/') {
            return Err(format!("`{text}` is no address: give https://HOST:PORT"));
        }
        Ok((scheme, host.to_owned(), port))
    }
}

impl TlsArgs {
    /// How to connect to an address with that scheme; absent if in clear text.
    pub fn client(&self, scheme: Scheme) -> anyhow::Result<Option<ClientTls>> {
        let asked = self.tls || self.ca.is_some() || self.cert.is_some();
        if self.key.is_some() && self.cert.is_none() {
            return Err(Exit::usage("--key (POMELO_KEY) is given without --cert (POMELO_CERT)"));
        }
        match scheme {
            // Variables are for all commands, so that a scheme that says otherwise is meant.
            Scheme::Clear if self.tls => {
                return Err(Exit::usage("--tls is given, and the address says clear text: give https://HOST:PORT"));
            }
            Scheme::Clear => return Ok(None),
            Scheme::Unsaid if !asked => return Ok(None),
            Scheme::Unsaid | Scheme::Tls => {}
        }
        let files = ClientFiles { ca: self.ca.clone(), certificate: self.cert.clone(), key: self.key.clone() };
        ClientTls::load(files).map(Some).map_err(|bad| Exit::usage(bad.to_string()))
    }
}

/// The user and the password with which a command logs in: those that were given, and where none were, those of the certificate or pomelo's defaults. A
/// certificate of a user needs no password.
pub(super) fn login(username: Option<&str>, password: Option<&Secret>, tls: Option<&ClientTls>) -> (String, Secret) {
    let holders = tls.map(ClientTls::holders).unwrap_or_default();
    let of_certificate = holders.iter().find_map(|holder| match holder {
        Holder::User(name) => Some(name.as_str()),
        Holder::Server { .. } => None,
    });
    let username = username.or(of_certificate).unwrap_or("admin");
    let default = if of_certificate.is_some() { "" } else { "admin" };
    (username.to_owned(), password.cloned().unwrap_or_else(|| default.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_may_have_a_scheme_and_a_port() {
        let read = Scheme::host;
        assert_eq!(read("master"), Ok((Scheme::Unsaid, "master".into(), None)));
        assert_eq!(read("::1"), Ok((Scheme::Unsaid, "::1".into(), None)));
        assert_eq!(read("https://master"), Ok((Scheme::Tls, "master".into(), None)));
        assert_eq!(read("wss://master:3006/"), Ok((Scheme::Tls, "master".into(), Some(3006))));
        assert_eq!(read("http://[::1]:3006"), Ok((Scheme::Clear, "[::1]".into(), Some(3006))));
        assert_eq!(read("https://[::1]"), Ok((Scheme::Tls, "[::1]".into(), None)));
        for wrong in ["https://", "https://:3005", "https://master:0", "https://master:x", "https://master/x:1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Scheme::of("https://a:1"), Scheme::Tls);
        assert_eq!(Scheme::of("a:1"), Scheme::Unsaid);
    }

    #[test]
    fn without_a_certificate_the_defaults_are_pomelos() {
        assert_eq!(login(None, None, None), ("admin".into(), "admin".into()));
        assert_eq!(login(Some("bob"), Some(&"x".into()), None), ("bob".into(), "x".into()));
    }
}
