//! A monitor's health and metrics over HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use metrics::gauge;
use serde_json::value::RawValue;
use tokio::sync::watch;

use super::link::MasterLink;
use super::supervised::Verdict;
use super::{MasterLinkState, Monitor};
use crate::console::Console;
use crate::journal::{Event, kind};
use crate::observe::{Health, Observed, Options, host, pages};
use crate::transport::listener::{self, Listener};
use crate::transport::{Accept, Ack, Closed, Peer, Session};

/// Those who look at a monitor are few.
const MAX_CONNECTIONS: usize = 64;

/// What is looked at.
pub(super) struct MonitorHealth {
    pub link: Arc<MasterLink>,
    pub console: Console,
    /// What the checks of the server's health have found; absent where it is not checked.
    pub checked: Option<watch::Receiver<Verdict>>,
}

impl Monitor {
    /// Serves `/metrics` and `/healthz` until the monitor is shut down. Returns the address.
    ///
    /// # Errors
    /// If the monitor cannot listen on the address.
    pub async fn serve_http(&self, address: SocketAddr, options: Options) -> io::Result<SocketAddr> {
        let journal = self.link.journal().clone();
        let limits = listener::Options { max_connections: MAX_CONNECTIONS, journal, ..listener::Options::default() };
        let listener = Listener::bind(address, limits, Arc::new(Nobody), pages(host(&self.observed), options)).await?;
        let address = listener.local_addr();
        self.tasks.spawn(listener.serve(self.stop.clone()));
        tracing::info!(%address, "serving metrics and health");
        let event = Event::new(kind::HTTP, format!("metrics and health are at http://{address}/"));
        self.link.journal().record(event.server(&self.console.identity().server_id));
        Ok(address)
    }
}

/// Nobody joins a monitor.
struct Nobody;

impl Accept for Nobody {
    fn accept(&self, peer: Peer) -> Arc<dyn Session> {
        peer.cut("this is a monitor, not a master");
        Arc::new(Nobody)
    }
}

impl Session for Nobody {
    fn frame(&self, _: &str, _: &RawValue, _: Option<Ack>) {}
    fn closed(&self, _: Closed) {}
}

impl Observed for MonitorHealth {
    fn health(&self) -> Health {
        if self.console.is_shutting_down() {
            return Health::not("shutting-down", "the monitor is shutting down");
        }
        let checked = self.checked.as_ref().map(|checked| checked.borrow().clone()).unwrap_or_default();
        let unwell = |status| Health { status, problems: checked.whys(), ..Health::ok() };
        let mut health = match &*self.link.state().borrow() {
            MasterLinkState::Registered if checked.problems.is_empty() => Health::ok(),
            MasterLinkState::Registered => unwell("degraded"),
            MasterLinkState::Idle if checked.hides(checked.pid).is_some() => unwell("failing"),
            MasterLinkState::Idle => Health::not("failing", "the server does not run"),
            MasterLinkState::Connecting(None) => Health::not("starting", "the master is being reached"),
            MasterLinkState::Connecting(Some(why)) => Health::not("failing", why.clone()),
        };
        health.faults(self.link.journal());
        health
    }

    fn refresh(&self) {
        self.console.observe();
        let connection = self.link.connection();
        let waiting = connection.as_ref().map_or(0, |exchange| exchange.peer().waiting());
        let under_way = connection.as_ref().map_or(0, |exchange| exchange.under_way());
        gauge!("pomelo_outbox_frames").set(waiting as f64);
        gauge!("pomelo_requests_under_way").set(under_way as f64);
        let registered = *self.link.state().borrow() == MasterLinkState::Registered;
        gauge!("pomelo_registered").set(f64::from(u8::from(registered)));
        if let Some(checked) = &self.checked {
            gauge!("pomelo_healthy").set(f64::from(u8::from(checked.borrow().is_healthy())));
        }
    }
}
