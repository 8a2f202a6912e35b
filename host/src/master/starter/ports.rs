//! Whether a server could listen: its ports are looked at before it is started, since a program that finds them taken fails late and says it badly.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use crate::config::Server;

/// How long a host name may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(5);

/// Whether a host is this machine: one of its addresses can be bound here, and no others can.
pub(super) async fn is_local(host: &str) -> bool {
    let Ok(Ok(addresses)) = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await else {
        return false;
    };
    addresses.into_iter().any(|address| UdpSocket::bind(address).is_ok())
}

/// The ports of a server of this machine on which somebody listens already.
pub(super) async fn busy(server: &Server) -> Vec<u16> {
    let mut busy = Vec::new();
    for port in server.ports() {
        let Ok(Ok(addresses)) =
            tokio::time::timeout(LOOKUP, tokio::net::lookup_host((server.host.as_str(), port))).await
        else {
            continue;
        };
        // Bound and let go at once. Whatever else may be wrong with an address, the program will say.
        let taken = |address| TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
        if addresses.into_iter().any(taken) {
            busy.push(port);
        }
    }
    busy
}

/// As [`busy`], of a server that was running a moment ago: its process may need that long to end.
pub(super) async fn still_busy(server: &Server, within: Duration) -> Vec<u16> {
    let until = tokio::time::Instant::now() + within;
    loop {
        let busy = busy(server).await;
        if busy.is_empty() || tokio::time::Instant::now() >= until {
            return busy;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Says which ports of a server are taken.
pub(super) fn sentence(server: &Server, busy: &[u16]) -> String {
    let ports: Vec<_> = busy.iter().map(|port| format!("{}:{port}", server.host)).collect();
    format!("{} is in use by another program: {} needs it", ports.join(" and "), server.id)
}
