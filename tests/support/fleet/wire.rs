//! A wire that can be cut: a relay between a monitor and its master.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Carries connections to a target. Dropped, it ends all of them and takes no more.
pub struct Wire {
    /// Where the monitor connects.
    pub address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq)]
struct State {
    cuts: u64,
    frozen: bool,
}

impl Wire {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = watch::Sender::new(State { cuts: 0, frozen: false });
        tokio::spawn(accept(listener, target, state.subscribe()));
        Wire { address, state }
    }

    /// Ends the connections of now.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Carries nothing any more and tells neither end, as when a machine loses its power.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.frozen = true);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, mut state: watch::Receiver<State>) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => drop(tokio::spawn(carry(near, target, state.clone()))),
                Err(_) => return,
            },
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let before = *state.borrow_and_update();
    // A target that is away refuses the connection.
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    let changed = {
        let copying = copy_bidirectional(&mut near, &mut far);
        tokio::select! {
            _ = copying => return,
            changed = state.wait_for(|state| *state != before) => changed.map(|state| *state),
        }
    };
    if changed.is_ok_and(|now| now.frozen) {
        // The sockets stay open until the wire is dropped.
        let _ = state.wait_for(|now| !now.frozen).await;
    }
}
