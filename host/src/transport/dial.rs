//! How our clients reach an address: in clear text or over TLS.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::socket::{Carrier, Socket, prepare};
use crate::tls::{BadFile, ClientFiles, ClientTls, TlsFault};

/// Bytes that a handshake of the other side may have.
const MAX_HANDSHAKE: usize = 64 << 10;

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// The address is none.
    Address,
    /// The address says clear text, and TLS was asked for.
    Clear,
    /// Nobody listens there, or the name or network cannot be reached.
    Unreachable(io::Error),
    /// There is no TLS connection.
    Tls(TlsFault),
    /// TLS is asked for, and the authorities of this system cannot be read.
    Authorities(BadFile),
}

/// An address, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// `host:port`.
    pub authority: &'a str,
    /// The host, an IPv6 address in its brackets.
    pub host: &'a str,
    /// Whether a scheme says that it speaks TLS; absent where there is no scheme.
    pub tls: Option<bool>,
}

impl<'a> Address<'a> {
    /// Reads `host:port`, or a URL of which only scheme, host and port count.
    pub fn parse(address: &'a str) -> Option<Address<'a>> {
        const SCHEMES: [(&str, bool); 4] = [("http://", false), ("ws://", false), ("https://", true), ("wss://", true)];
        let scheme = SCHEMES.iter().find_map(|(scheme, tls)| Some((address.strip_prefix(scheme)?, *tls)));
        let (rest, tls) = scheme.map_or((address, None), |(rest, tls)| (rest, Some(tls)));
        let authority = rest.split('/').next()?;
        let (host, port) = authority.rsplit_once(':')?;
        (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(Address { authority, host, tls })
    }
}

/// Connects. It speaks TLS where the address's scheme or `tls` says so. Sets no time limit.
pub(super) async fn dial(
    address: &Address<'_>,
    tls: Option<&ClientTls>,
) -> Result<(Socket, Option<SocketAddr>), DialError> {
    let system;
    let tls = match (address.tls, tls) {
        (Some(false), Some(_)) => return Err(DialError::Clear),
        (Some(true), None) => {
            system = ClientTls::load(ClientFiles::default()).map_err(DialError::Authorities)?;
            Some(&system)
        }
        (_, tls) => tls,
    };
    let stream = TcpStream::connect(address.authority).await.map_err(DialError::Unreachable)?;
    let remote = stream.peer_addr().ok();
    prepare(&stream);
    let socket = match tls {
        None => Socket::Clear(stream),
        Some(tls) => {
            let carrier = Carrier::new(stream, MAX_HANDSHAKE);
            let stream = tls.connect(address.host, carrier).await.map_err(DialError::Tls)?;
            Socket::tls(tokio_rustls::TlsStream::Client(stream))
        }
    };
    Ok((socket, remote))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port_with_or_without_a_scheme() {
        let read = |address| Address::parse(address).map(|address| (address.authority, address.host, address.tls));
        assert_eq!(read("localhost:3005"), Some(("localhost:3005", "localhost", None)));
        for clear in ["http://localhost:3005/x", "ws://localhost:3005"] {
            assert_eq!(read(clear), Some(("localhost:3005", "localhost", Some(false))), "{clear}");
        }
        for tls in ["https://localhost:3005", "wss://localhost:3005/"] {
            assert_eq!(read(tls), Some(("localhost:3005", "localhost", Some(true))), "{tls}");
        }
        assert_eq!(read("[::1]:3005"), Some(("[::1]:3005", "[::1]", None)));
        for wrong in
            ["localhost", "", ":3005", "localhost:", "localhost:http", "https://localhost", "ftp://localhost:1"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
