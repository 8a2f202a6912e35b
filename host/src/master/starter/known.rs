//! What the starter knows of its servers: which there are, where they belong, how each is run and how its process was begun.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;

use super::ServerStarter;
use super::monitors::times;
use super::place;
use crate::config::{Running, Server, Spec};
use crate::fleet::Named;
use crate::fleet::job::Times;
use crate::master::describe_command::Described;
use crate::supervise::kept_output::FILE;

/// Where a server's output is to be looked for.
pub(in crate::master) struct OutputPlace {
    /// The server's data directory on this machine.
    pub(in crate::master) directory: Option<PathBuf>,
    /// The host of a server that is configured or was added.
    pub(in crate::master) known: Option<String>,
}

impl ServerStarter {
    /// All servers of the configuration and those that were added, for the fleet. Those that this machine can start are the master's own if it
    /// `starts` servers.
    pub async fn named(&self, starts: bool) -> Vec<Named> {
        let (servers, ssh) = {
            let roster = self.roster.lock();
            (roster.config.servers.clone(), roster.config.settings.ssh.is_some())
        };
        // Those whose host was looked up before are where they were, because a name server may be away at this moment.
        let known = self.roster.lock().places.clone();
        let places = servers.iter().map(async |server| match known.get(&server.id) {
            Some((host, by_ssh, elsewhere)) if (host, by_ssh) == (&server.host, &server.ssh) => *elsewhere,
            _ => {
                let place = place::is_by_ssh(server, ssh).await;
                if let Err(elsewhere) = &place
                    && starts
                {
                    tracing::warn!(server = %server.id, "{}", elsewhere.message);
                }
                place.is_err()
            }
        });
        let places = join_all(places).await;
        let mut roster = self.roster.lock();
        roster.starts = starts;
        let place =
            |(server, elsewhere): (&Server, &bool)| (server.id.clone(), (server.host.clone(), server.ssh, *elsewhere));
        roster.places = servers.iter().zip(&places).map(place).collect();
        let elsewhere = servers.iter().zip(&places).filter(|(_, elsewhere)| **elsewhere || !starts);
        roster.elsewhere = elsewhere.map(|(server, _)| server.id.clone()).collect();
        roster.named()
    }

    /// The type of a server that is configured or was added.
    pub(in crate::master) fn server_type(&self, id: &str) -> Option<String> {
        self.roster.lock().config.server(id).map(|server| server.server_type.clone())
    }

    /// Where the output of a server of this machine is kept, if anything is kept. `known` says whether the server is configured or was added, and
    /// on which host it runs.
    pub(in crate::master) fn output_of(&self, id: &str) -> OutputPlace {
        let roster = self.roster.lock();
        let known = roster.config.server(id).map(|server| server.host.clone());
        OutputPlace { directory: roster.config.data_dir(id), known }
    }

    #[cfg(test)]
    pub(super) fn knows(&self, id: &str) -> bool {
        self.roster.lock().config.server(id).is_some()
    }

    /// Whether a process of a server runs that this starter has begun, or will be begun again.
    pub(in crate::master) fn has_begun(&self, id: &str) -> bool {
        !self.roster.lock().is_down(id)
    }

    /// Whether a server's spec is another than that of the process that runs.
    pub(in crate::master) fn has_changed(&self, id: &str) -> bool {
        self.roster.lock().has_changed(id)
    }

    /// How a server is run, and in what its process was begun otherwise; absent for one that is neither configured nor was added.
    pub(in crate::master) fn described(&self, id: &str) -> Option<Described> {
        let roster = self.roster.lock();
        let spec = roster.config.server(id)?.spec(&roster.config);
        let begun = roster.monitors.get(id).filter(|_| !roster.is_down(id));
        let differs = begun.map(|begun| begun.spec.differing(&spec)).unwrap_or_default();
        let elsewhere = roster.elsewhere.contains(id) || begun.is_some_and(|begun| begun.by_ssh);
        let log = roster.config.data_dir(id).filter(|_| !elsewhere).map(|directory| directory.join(FILE));
        Some(Described { spec: spec.shown(), differs, log, modules: Vec::new() })
    }

    /// The servers whose processes were begun here and run on this machine.
    pub(in crate::master) fn here(&self) -> HashSet<String> {
        let roster = self.roster.lock();
        let here = roster.monitors.iter().filter(|(id, begun)| !begun.by_ssh && !roster.is_down(id));
        here.map(|(id, _)| id.clone()).collect()
    }

    /// The servers that were added and run with another spec than they would be started with now.
    pub(in crate::master) fn added_and_changed(&self) -> Vec<String> {
        let roster = self.roster.lock();
        roster.added.iter().filter(|id| !roster.is_down(id) && roster.has_changed(id)).cloned().collect()
    }

    /// How long each part of a server's way may take.
    pub(in crate::master) fn times(&self, id: &str) -> Times {
        let roster = self.roster.lock();
        let begun = roster.monitors.get(id).filter(|_| !roster.is_down(id)).map(|begun| begun.times);
        match (roster.config.server(id).map(times), begun) {
            // What runs ends as it was begun, whatever the configuration says since then.
            (Some(times), Some(begun)) => Times { stop: times.stop.max(begun.stop), ..times },
            (Some(times), None) | (None, Some(times)) => times,
            (None, None) => {
                let settings = &roster.config.settings.supervise;
                Times { stop: settings.stop_deadline, drain: settings.drain, ready: settings.ready_timeout }
            }
        }
    }
}

impl Running for ServerStarter {
    fn spec(&self, id: &str) -> Option<Spec> {
        let roster = self.roster.lock();
        roster.monitors.get(id).filter(|_| !roster.is_down(id)).map(|begun| begun.spec.clone())
    }

    fn strays(&self) -> Vec<(String, String)> {
        let roster = self.roster.lock();
        let begun = roster.monitors.iter().filter(|(id, _)| roster.config.server(id).is_none() && !roster.is_down(id));
        let mut strays: Vec<_> = begun.map(|(id, begun)| (id.clone(), begun.server_type.clone())).collect();
        strays.sort();
        strays
    }

    fn revision(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}
