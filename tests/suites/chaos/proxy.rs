//! A proxy between one monitor and the master, in which a connection can be cut, slowed and silenced.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::plan::Link;

/// How late a slow connection is.
const LATE: Duration = Duration::from_millis(300);

/// How the connections are.
#[derive(Clone, Copy, Default)]
struct State {
    wrong: Option<Link>,
    /// How often they were cut: a cut is over at once for those that come later.
    cuts: u64,
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<State>,
    serving: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub async fn to(master: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sender = watch::Sender::new(State::default());
        let state = sender.subscribe();
        let serving = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else { continue };
                        // Where it is cut, a connection is closed at once.
                        if state.borrow().wrong != Some(Link::Cut) {
                            connections.spawn(carry(stream, master, state.clone()));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Proxy { address, state: sender, serving }
    }

    /// Says what is wrong with the connection from now on.
    pub fn is(&self, wrong: Option<Link>) {
        self.state.send_modify(|state| {
            state.wrong = wrong;
            state.cuts += u64::from(wrong == Some(Link::Cut));
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Carries one connection, until both sides have ended or it is cut.
async fn carry(near: TcpStream, master: SocketAddr, state: watch::Receiver<State>) {
    let Ok(far) = TcpStream::connect(master).await else { return };
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let (mut cut, before) = (state.clone(), state.borrow().cuts);
    tokio::select! {
        _ = cut.wait_for(|state| state.cuts != before) => {}
        _ = async {
            tokio::join!(
                pump(near_read, far_write, state.clone(), true),
                pump(far_read, near_write, state.clone(), false),
            )
        } => {}
    }
}

/// Carries one direction. The one to the master can be closed by itself.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>, to_master: bool) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let half_closed = async {
            match to_master {
                true => state.wait_for(|state| state.wrong == Some(Link::HalfClosed)).await.map(drop),
                false => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = half_closed => 0,
        };
        if read == 0 {
            break;
        }
        if write(&mut to, &bytes[..read], &mut state).await.is_none() {
            break;
        }
    }
    // The other side may have gone.
    let _ = to.shutdown().await;
}

/// Writes as the connection is; none where it cannot be written to.
async fn write(to: &mut OwnedWriteHalf, mut bytes: &[u8], state: &mut watch::Receiver<State>) -> Option<()> {
    while !bytes.is_empty() {
        let wrong = state.borrow_and_update().wrong;
        let piece = match wrong {
            Some(Link::Silent) => {
                state.changed().await.ok()?;
                continue;
            }
            Some(Link::Slow) => {
                tokio::time::sleep(LATE).await;
                bytes.len()
            }
            Some(Link::Narrow(rate)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                (rate / 20).clamp(1, bytes.len())
            }
            _ => bytes.len(),
        };
        to.write_all(&bytes[..piece]).await.ok()?;
        bytes = &bytes[piece..];
    }
    Some(())
}
