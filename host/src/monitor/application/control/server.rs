//! The host's side: listens, and passes calls to the program.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde_json::value::RawValue;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{Answer, Reach, View, not_offered};
use super::program::ProgramState;
use super::socket::Socket;
use super::{MAX_CONNECTIONS, connection};
use crate::failure::{Failure, code};
use crate::journal::{Journal, at};
use crate::util::lasting;
use crate::wire::Info;

/// How long the host waits after it could not accept a connection, usually because there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(250);

/// The control socket of one program. Dropping it closes it.
pub(in crate::monitor) struct Control {
    program: Arc<ProgramState>,
    socket: Socket,
    _stop: DropGuard,
}

impl Control {
    /// Listens on a socket in `dir`, an absolute path. `journal` is told when no connections can be accepted.
    pub(in crate::monitor) fn listen(
        id: &str,
        server_type: &str,
        view: View,
        dir: &Path,
        journal: Journal,
    ) -> io::Result<Self> {
        let (socket, listener) = Socket::listen(dir)?;
        let program = Arc::new(ProgramState::new(id, server_type, view));
        let stop = CancellationToken::new();
        let (accepting, ended) = (program.clone(), stop.clone());
        let listener = Arc::new(listener);
        tokio::spawn(lasting::lasting("the control socket", move || {
            accept(listener.clone(), accepting.clone(), ended.clone(), journal.clone())
        }));
        Ok(Control { program, socket, _stop: stop.drop_guard() })
    }

    /// Where the program finds the socket.
    pub(in crate::monitor) fn path(&self) -> &Path {
        self.socket.path()
    }

    /// What the program adds to its server's `info`.
    pub(in crate::monitor) fn info(&self) -> watch::Receiver<Info> {
        self.program.info()
    }

    /// Forgets all that the earlier process has said, because another one is about to be started.
    pub(in crate::monitor) fn restarted(&self) {
        self.program.restarted();
    }

    /// Waits until the program says that it is ready.
    pub(in crate::monitor) fn ready(&self) -> BoxFuture<'static, ()> {
        let mut ready = self.program.ready();
        async move {
            if ready.wait_for(|ready| *ready).await.is_err() {
                // The socket is closed, so the program can no longer say that it is ready.
                std::future::pending::<()>().await;
            }
        }
        .boxed()
    }
}

impl Reach for Control {
    fn offers(&self) -> Vec<String> {
        let current = self.program.session();
        current.map(|session| session.offers()).unwrap_or_default()
    }

    fn has(&self, name: &str) -> bool {
        self.program.session().is_some_and(|session| session.has(name))
    }

    fn call(&self, name: &str, args: &RawValue, deadline: Duration) -> BoxFuture<'static, Answer> {
        let current = self.program.session();
        match current {
            Some(session) if session.has(name) => session.call(name, args, deadline),
            _ => ready(Err(self.lacks(name))).boxed(),
        }
    }

    fn lacks(&self, name: &str) -> Failure {
        let (id, current) = (&self.program.id, self.program.session());
        match current {
            Some(session) => not_offered(id, name, &session.offers()),
            None => {
                let name = crate::wire::shown(name);
                let what = format!(
                    "the program of {id} is not connected to its control socket, so it does not offer `{name}`"
                );
                Failure::new(code::NOT_AVAILABLE, what)
            }
        }
    }
}

async fn accept(listener: Arc<UnixListener>, program: Arc<ProgramState>, stop: CancellationToken, journal: Journal) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        if accepted.is_ok() {
            let over = format!("the control socket of {} accepts connections again", program.id);
            journal.fault_over(at::CONTROL, Some(&program.id), &over);
        }
        match (accepted, places.clone().try_acquire_owned()) {
            (Ok((stream, _)), Ok(place)) => {
                let (program, cut) = (program.clone(), stop.child_token());
                tokio::spawn(async move {
                    let _place = place;
                    connection::serve(stream, &program, cut).await;
                });
            }
            (Ok(_), Err(_)) => {
                tracing::warn!(
                    server = program.id,
                    "more than {MAX_CONNECTIONS} connections to the control socket; one was closed"
                );
            }
            (Err(error), _) => {
                let message = format!("the control socket of {} cannot accept a connection: {error}", program.id);
                journal.fault(at::CONTROL, Some(&program.id), message);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
