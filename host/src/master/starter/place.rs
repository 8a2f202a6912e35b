//! Where a server is to run, and whether its ports are free there.
//!
//! Ports are looked at before a server is started, because a program that finds them taken fails late and says it badly.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Server;
use crate::failure::{Failure, code};
use crate::monitor::supervised::leftovers;
use crate::state_db::{Damaged, StateDb, StateError};
use crate::supervise::kill_leftovers;

/// How long a host name may take to be looked up.
const LOOKUP: Duration = Duration::from_secs(5);

/// Whether a server runs on another machine, through `ssh`.
///
/// # Errors
/// `not-available` where it belongs on another machine and `ssh` is neither asked for nor configured.
pub(super) async fn is_by_ssh(server: &Server, ssh_is_configured: bool) -> Result<bool, Failure> {
    let Server { id, host, .. } = server;
    match server.ssh {
        Some(by_ssh) => Ok(by_ssh),
        None if is_local(host).await => Ok(false),
        None if ssh_is_configured => Ok(true),
        None => {
            let what = format!(
                "{id} belongs on {host}: run `pomelo monitor --id {id}` there, or give pomelo.toml a section [ssh]"
            );
            Err(Failure::new(code::NOT_AVAILABLE, what))
        }
    }
}

/// Whether a host is this machine. A socket can be bound only to an address of this machine.
pub(in crate::master) async fn is_local(host: &str) -> bool {
    let Ok(Ok(addresses)) = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, 0))).await else {
        return false;
    };
    addresses.into_iter().any(|address| UdpSocket::bind(address).is_ok())
}

/// Checks that the ports of a server of this machine are free, and waits up to `within` until they are. With `restart-force`, kills what an earlier
/// run of the server left on them; `data_dir` is where its monitor keeps its state.
///
/// # Errors
/// `busy` where a port stays taken, or where the server's monitor may be alive.
pub(super) async fn free_ports(
    server: &Server,
    within: Duration,
    data_dir: Option<PathBuf>,
    master: &str,
) -> Result<(), Failure> {
    let mut taken = still_busy(server, within).await;
    if !taken.is_empty() && server.force && kill_earlier_run(server, data_dir, master).await? > 0 {
        taken = busy(server).await;
    }
    if taken.is_empty() { Ok(()) } else { Err(Failure::new(code::BUSY, sentence(server, &taken))) }
}

/// Whether somebody has the state of a server open: its monitor runs. Without a data directory nothing shows that.
pub(super) async fn state_is_in_use(data_dir: Option<PathBuf>) -> bool {
    let Some(data_dir) = data_dir else { return false };
    let opened = tokio::task::spawn_blocking(move || StateDb::open(&data_dir, Damaged::Refuse).map(drop)).await;
    opened.is_ok_and(|opened| opened.is_err_and(|error| error.is_in_use()))
}

/// Kills what an earlier run of a server left behind, and says how many processes that were. Its monitor may be alive, started by somebody else: then
/// its state is in use, and nothing is killed.
async fn kill_earlier_run(server: &Server, data_dir: Option<PathBuf>, master: &str) -> Result<usize, Failure> {
    // Without a data directory nothing proves the monitor dead.
    let Some(data_dir) = data_dir else { return Ok(0) };
    let opened = tokio::task::spawn_blocking(move || StateDb::open(&data_dir, Damaged::Refuse)).await;
    let opened = opened.map_err(|_| Failure::new(code::NOT_AVAILABLE, "this host is ending"))?;
    // Kept open until they are killed, so that no monitor can start in between.
    let _open = match opened {
        Ok(open) => Some(open),
        // Nobody has it open. The monitor that is about to be started sets it aside.
        Err(StateError::Damaged { .. }) => None,
        Err(error) => {
            let what = format!("{}: nothing is killed for it, since its monitor may be alive: {error}", server.id);
            return Err(Failure::new(code::BUSY, what));
        }
    };
    Ok(kill_leftovers(&leftovers(&server.id, master)).await)
}

/// The ports of a server of this machine on which somebody listens already.
async fn busy(server: &Server) -> Vec<u16> {
    let mut busy = Vec::new();
    for port in server.ports() {
        let Ok(Ok(addresses)) =
            tokio::time::timeout(LOOKUP, tokio::net::lookup_host((server.host.as_str(), port))).await
        else {
            continue;
        };
        // Bound and let go at once. Other errors than a taken port are reported by the program itself.
        let taken = |address| TcpListener::bind(address).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
        if addresses.into_iter().any(taken) {
            busy.push(port);
        }
    }
    busy
}

/// As [`busy`], but waits up to `within` until none is busy, because the process of a server that ran a moment ago may need that long to end.
async fn still_busy(server: &Server, within: Duration) -> Vec<u16> {
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
fn sentence(server: &Server, busy: &[u16]) -> String {
    let ports: Vec<_> = busy.iter().map(|port| format!("{}:{port}", server.host)).collect();
    format!("{} is in use by another program: {} needs it", ports.join(" and "), server.id)
}
