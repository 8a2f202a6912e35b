//! What happens to the monitors' connections, as inputs of the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::fleet::{Fleet, Happening, Input, LastExit, Place, State, Wanted};
use crate::master::members::{Departure, Member, Members};
use crate::master::starter::ServerStarter;
use crate::wire::{Phase, PhaseName};

/// How many times as long as a look takes there is no other. A look takes a fraction of a millisecond in a small fleet, and tens of them with ten thousand servers.
const PAUSE: u32 = 4;

/// A look that took long because the process did not run is no reason to be blind for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Follows the members.
pub(super) struct Follower {
    fleet: Arc<Fleet>,
    members: Arc<Members>,
    starter: Arc<ServerStarter>,
    /// The master's own id, which is no server of the fleet.
    own: String,
    /// For each server in the table, the revision since which its entry is as it is.
    present: BTreeMap<String, u64>,
    /// What each server did, as it was told last.
    phases: BTreeMap<String, Arc<Phase>>,
    /// The connection of the monitor that stands for each server.
    connections: BTreeMap<String, u64>,
}

impl Follower {
    pub fn new(fleet: Arc<Fleet>, members: Arc<Members>, starter: Arc<ServerStarter>, own: String) -> Self {
        // From here on they are noted.
        members.take_departures();
        Follower {
            fleet,
            members,
            starter,
            own,
            present: BTreeMap::new(),
            phases: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    /// Follows them as long as they are there.
    pub async fn run(mut self) {
        let (mut revision, mut phases) = (self.members.revision(), self.members.phase_changed());
        loop {
            revision.mark_unchanged();
            phases.mark_unchanged();
            let began = Instant::now();
            self.look();
            // Every look goes over all members, and while a fleet joins there is a change for each of them. What comes meanwhile is seen by the next look.
            tokio::time::sleep((began.elapsed() * PAUSE).min(LONGEST_PAUSE)).await;
            tokio::select! {
                changed = revision.changed() => if changed.is_err() { return },
                changed = phases.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Tells the fleet the difference between what was seen last and what is.
    fn look(&mut self) {
        for (id, (departure, phase)) in self.members.take_departures() {
            if id == self.own {
                continue;
            }
            if let Some(phase) = phase.filter(|phase| self.phases.get(&id).is_none_or(|told| !Arc::ptr_eq(told, phase)))
            {
                self.says(&id, None, &phase);
            }
            self.departed(&id, departure);
        }
        let table = self.members.snapshot();
        let firsts: BTreeMap<String, Member> =
            self.members.firsts().into_iter().map(|member| (member.id.clone(), member)).collect();
        for (id, member) in &firsts {
            if *id == self.own {
                continue;
            }
            self.came(id, member);
            // The table is the newer truth of a server that is in it. What is passed over is looked at again when the server has left the table.
            if let Some(phase) = &member.phase
                && !table.servers.contains_key(id)
                && self.phases.get(id).is_none_or(|told| !Arc::ptr_eq(told, phase))
            {
                self.says(id, Some(&member.server_type), phase);
                self.phases.insert(id.clone(), phase.clone());
            }
        }
        for (id, entry) in table.servers {
            let Some(member) = firsts.get(&id).filter(|_| id != self.own) else { continue };
            if self.present.insert(id.clone(), entry.since) != Some(entry.since) {
                self.fleet.input(&id, Some(&member.server_type), Input::Joined, Happening::default());
            }
        }
        for id in self.members.retained() {
            if self.fleet.state(&id) == Some(State::Running) {
                let why = "its connection was lost together with many others, so that it is still in the views";
                self.fleet.input(&id, None, Input::Lost, Happening::why(why));
            }
        }
        let known: BTreeSet<&String> = firsts.keys().collect();
        self.phases.retain(|id, _| known.contains(id));
        self.connections.retain(|id, _| known.contains(id));
    }

    fn departed(&mut self, id: &str, departure: Departure) {
        self.present.remove(id);
        let (input, why) = match departure {
            Departure::Absent => (Input::Absent, "its program does not run"),
            Departure::Left => (Input::Left, "its connection has ended, because it said so"),
            Departure::Lost => (Input::Lost, "its connection was lost"),
        };
        self.fleet.input(id, None, input, Happening::why(why));
        if departure != Departure::Absent {
            self.may_start(id, why);
        }
    }

    /// A server that this master can start, but whose process somebody else had begun, has no process of ours whose end could be told. It counts as
    /// ended when its monitor has gone, and is started if it is wanted up. If that monitor still runs after all, ours finds its state in use and ends.
    fn may_start(&self, id: &str, why: &str) {
        let Some(record) = self.fleet.get(id).filter(|record| record.place == Place::Ours) else { return };
        if self.fleet.owner(id).is_some() || self.starter.has_begun(id) || record.state.is_down() {
            return;
        }
        self.fleet.input(id, None, Input::Gone, Happening::why(why));
        if record.wanted == Wanted::Up {
            self.fleet.want(&[id.to_owned()], Wanted::Up, &record.wanted_by);
        }
    }

    /// A monitor that has registered for the first time was started. If this master had not begun it, somebody else wants its server up. A monitor that
    /// comes back after its connection was lost says nothing of that kind.
    fn came(&mut self, id: &str, member: &Member) {
        let connection = member.connection();
        if self.connections.insert(id.to_owned(), connection) == Some(connection) || member.returned {
            return;
        }
        let wanted_down = self.fleet.get(id).is_some_and(|record| record.wanted == Wanted::Down);
        if wanted_down && self.fleet.owner(id).is_none() && !self.starter.has_begun(id) {
            self.fleet.want(&[id.to_owned()], Wanted::Up, "whoever started it");
        }
    }

    fn says(&self, id: &str, server_type: Option<&str>, phase: &Phase) {
        let input = match phase.phase {
            PhaseName::Starting => Some(Input::SaysStarting),
            PhaseName::Unready => Some(Input::SaysUnready),
            PhaseName::Draining => Some(Input::SaysDraining),
            PhaseName::BackingOff => Some(Input::SaysBackingOff),
            PhaseName::Failed => Some(Input::SaysFailed),
            // A job says that it ends a server, and the table that a server runs.
            PhaseName::Running | PhaseName::Stopping | PhaseName::Stopped => None,
        };
        let exit = phase.exit.as_ref().map(|exit| LastExit {
            how: exit.how.clone(),
            time: exit.at.duration_since(UNIX_EPOCH).map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
            lines: exit.lines.clone(),
            id: exit.id,
        });
        let happening = Happening {
            why: phase.why.clone().unwrap_or_default(),
            exit,
            connections: phase.connections,
            restarts: Some(phase.restarts),
        };
        if let Some(input) = input {
            self.fleet.input(id, server_type, input, happening);
        }
    }
}
