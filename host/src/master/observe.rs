//! A master's health, and its metrics that are states.

use metrics::gauge;

use super::MasterCore;
use crate::observe::{Health, Observed};

/// How far a master is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Modules are being started.
    Starting,
    /// It serves.
    Serving,
    /// It only answers the calls under way.
    Ending,
}

impl Observed for MasterCore {
    fn health(&self) -> Health {
        match *self.stage.lock() {
            Stage::Starting => Health::not("starting", "the modules are being started"),
            Stage::Ending => Health::not("shutting-down", "the master is shutting down"),
            Stage::Serving => match self.members.retained() {
                retained if retained.is_empty() => Health::ok(),
                // The status stays `ok`, because the master itself works.
                retained => Health {
                    problems: vec![format!("servers that vanished are kept: {}", retained.join(", "))],
                    ..Health::ok()
                },
            },
        }
    }

    fn refresh(&self) {
        self.console.observe();
        let (servers, clients) = self.members.count();
        let monitors = self.members.all();
        let outboxes = monitors.iter().map(|member| member.exchange.peer().waiting());
        let (sum, max) = outboxes.fold((0, 0), |(sum, max), waiting| (sum + waiting, max.max(waiting)));
        let under_way: usize = monitors.iter().map(|member| member.exchange.under_way()).sum();
        for (name, value) in [
            ("pomelo_servers", servers),
            ("pomelo_clients", clients),
            ("pomelo_monitors", monitors.len()),
            ("pomelo_servers_held", self.members.retained().len()),
            ("pomelo_outbox_frames", sum),
            ("pomelo_outbox_frames_max", max),
            ("pomelo_requests_under_way", under_way),
        ] {
            gauge!(name).set(value as f64);
        }
    }
}
